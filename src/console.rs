//! Standard output and standard error, neither of which may end a training: a reader that goes away or a full
//! disk behind a log is no reason to panic.

use std::fmt::Display;
use std::io::{ErrorKind, Write, stderr, stdout};
use std::sync::atomic::{AtomicU8, Ordering};

use crate::error::{Error, Result};

/// Prints a line of results on standard output. A reader that has seen enough (`| head -1`) is no error.
///
/// # Errors
/// If it cannot be written: results must not be lost silently.
pub fn print(text: impl Display) -> Result<()> {
    let mut out = stdout();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => {
            written.map_err(|error| Error::file("standard output", format!("cannot be written: {error}")))
        }
    }
}

/// How much is said on standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// Warnings and errors.
    Quiet,
    /// What a user wants to know.
    Normal,
    /// What helps to find out why something is as it is.
    Verbose,
}

static LEVEL: AtomicU8 = AtomicU8::new(Level::Normal as u8);

/// Sets how much is said from now on.
pub fn set_level(level: Level) {
    LEVEL.store(level as u8, Ordering::Relaxed);
}

/// Whether lines of this level are printed.
pub fn says(level: Level) -> bool {
    LEVEL.load(Ordering::Relaxed) >= level as u8
}

/// Prints a warning or an error on standard error, if it can be printed.
pub fn note(text: impl Display) {
    let _ = writeln!(stderr(), "{text}");
}

/// Prints a line on standard error, unless it is to be quiet.
pub fn info(text: impl Display) {
    if says(Level::Normal) {
        note(text);
    }
}

/// Prints a line on standard error where details are wanted.
pub fn detail(text: impl Display) {
    if says(Level::Verbose) {
        note(text);
    }
}
