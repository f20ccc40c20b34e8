//! The browser under test.

use std::process::{Command, Stdio};

/// Its name; says so if there is none.
pub fn chromium() -> Option<String> {
    let name = std::env::var("CIFAR_ENGINE_TEST_CHROMIUM").unwrap_or("chromium".into());
    let version = Command::new(&name).arg("--version").stderr(Stdio::null()).output();
    if !version.is_ok_and(|output| output.status.success()) {
        println!("nothing is tested in a browser: there is no {name}");
        return None;
    }
    Some(name)
}
