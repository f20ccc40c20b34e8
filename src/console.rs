//! Standard output and standard error, neither of which may end a training: a reader that goes away or a full
//! disk behind a log is no reason to panic.

use std::fmt::Display;
use std::io::{ErrorKind, Write, stderr, stdout};

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

/// Prints a line for the user on standard error, if it can be printed.
pub fn note(text: impl Display) {
    let _ = writeln!(stderr(), "{text}");
}
