//! The one error type: every message is one line that says what is wrong, where, and what to do.

use std::path::{Path, PathBuf};

pub type Result<T> = std::result::Result<T, Error>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An operation was given inputs it cannot take: names the op, the layer and the shapes.
    #[error("{op}: {problem}")]
    Op { op: String, problem: String },

    /// A file or folder is missing, malformed or cannot be written.
    #[error("{}: {problem}", path.display())]
    File { path: PathBuf, problem: String },

    /// The command line asks for something that makes no sense (exit code 2).
    #[error("{0}")]
    Usage(String),

    /// Ctrl-C; what was finished has been saved (exit code 130).
    #[error("interrupted")]
    Interrupted,

    /// Anything else that ended the work.
    #[error("{0}")]
    Failed(String),
}

impl Error {
    pub fn op(op: impl Into<String>, problem: impl Into<String>) -> Self {
        Error::Op { op: op.into(), problem: problem.into() }
    }

    pub fn file(path: impl AsRef<Path>, problem: impl ToString) -> Self {
        Error::File { path: path.as_ref().to_path_buf(), problem: problem.to_string() }
    }

    /// The process exit code: 1 failure, 2 usage, 130 interrupted.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Usage(_) => 2,
            Error::Interrupted => 130,
            _ => 1,
        }
    }
}
