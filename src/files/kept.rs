//! Small files of what the program has found out and can find out again: one that is damaged, or
//! that another user has put there, costs only that.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use super::{is_foreign, read_text, write_atomic};
use crate::text::hex;

/// The version of the program, whose shaders and rules are its own.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The file in a folder, named by all that its content depends on besides the [`VERSION`].
pub(crate) fn kept_path(folder: &Path, depends: &[&str]) -> PathBuf {
    let key = hex(Sha256::new_with_prefix([&[VERSION], depends].concat().join("\n")));
    folder.join(format!("{key}.json"))
}

/// What was kept, if that is a `T` of at most `limit` bytes.
pub(crate) fn read_kept<T: DeserializeOwned>(path: &Path, limit: u64) -> Option<T> {
    match is_foreign(path) {
        true => None,
        false => serde_json::from_str(&read_text(path, limit).ok()?).ok(),
    }
}

/// Keeps a value. Where that cannot be, it is found again.
pub(crate) fn keep(path: &Path, value: &impl Serialize) {
    let folder = path.parent().map(std::fs::create_dir_all);
    if let (Some(Ok(())), Ok(text)) = (folder, serde_json::to_string_pretty(value)) {
        let _ = write_atomic(path, |file| file.write_all(text.as_bytes()));
    }
}
