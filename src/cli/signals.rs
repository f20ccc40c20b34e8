//! Signals that end the work.
//!
//! What is under way stops at the next safe point, where a training saves; the exit code is 130.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
#[cfg(unix)]
use std::{
    thread,
    time::{Duration, Instant},
};

use crate::error::{Error, Result};

/// Signals within this time are one: `timeout` sends its own to the program, and then to the group
/// that this is in.
#[cfg(unix)]
const AT_ONCE: Duration = Duration::from_millis(200);

/// Set by the first signal.
pub static STOP: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// Whether the work in progress is to stop.
pub fn stopped() -> bool {
    STOP.load(Ordering::Relaxed)
}

/// Nothing, where the work is to go on.
///
/// # Errors
/// [`Error::Interrupted`] where it is to stop.
pub fn goes_on() -> Result<()> {
    if stopped() { Err(Error::Interrupted) } else { Ok(()) }
}

/// Heeds signals from now on: Ctrl-C and, on Unix, those by which a container, a batch system, or a
/// terminal that closes ends a program.
///
/// # Errors
/// If the system refuses.
#[cfg(unix)]
pub fn listen() -> io::Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXCPU, SIGXFSZ};
    use signal_hook::flag;
    // Where this cannot be had, a signal ends the program, as it would without.
    let ends = [SIGINT, SIGTERM];
    let mut signals = signal_hook::iterator::Signals::new(ends)?;
    thread::Builder::new().name("signals".into()).spawn(move || {
        let mut first: Option<Instant> = None;
        for _ in signals.forever() {
            STOP.store(true, Ordering::Relaxed);
            // The second one does not wait.
            if first.get_or_insert_with(Instant::now).elapsed() > AT_ONCE {
                signal_hook::low_level::exit(130);
            }
        }
    })?;
    // These come several times by themselves, and each time mean the same.
    let hangup = (!is_ignored(SIGHUP)).then_some(SIGHUP);
    for signal in hangup.into_iter().chain([SIGXCPU]) {
        flag::register(signal, STOP.clone())?;
    }
    // A file beyond the limit is then the error of a write, which names it.
    flag::register(SIGXFSZ, Arc::default())?;
    Ok(())
}

#[cfg(not(unix))]
pub fn listen() -> io::Result<()> {
    let handler = || {
        // The second one does not wait.
        if STOP.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
    };
    ctrlc::set_handler(handler).map_err(io::Error::other)
}

/// Whether this process was started with the signal ignored, as nohup does. Where the system does
/// not tell, it is left as it is.
#[cfg(unix)]
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_none_or(|mask| mask >> (signal - 1) & 1 == 1)
}
