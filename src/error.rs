//! The one error type: every message is one line that says what is wrong, where, and what to do.

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::kernels::parallel::PoolError;

/// Result of every function of this crate that can fail.
pub type Result<T> = std::result::Result<T, Error>;

/// Why the work ended. What it displays is [`printable`], wherever its parts came from.
#[derive(thiserror::Error)]
pub enum Error {
    /// An operation was given inputs it cannot take: names the op, the layer and the shapes.
    #[error("{}: {}", printable(op), printable(problem))]
    Op {
        /// The op and its layer, or the name of the value.
        op: String,
        /// The problem with it.
        problem: String,
    },

    /// A file or folder is missing, malformed or cannot be written.
    #[error("{}: {}", printable(&path_text(path)), printable(problem))]
    File {
        /// The file or folder, as it was given or found.
        path: PathBuf,
        /// The problem with it, and what to do.
        problem: String,
    },

    /// The command line asks for something that makes no sense (exit code 2).
    #[error("{}", printable(_0))]
    Usage(String),

    /// Ctrl-C; what was finished has been saved (exit code 130).
    #[error("interrupted")]
    Interrupted,

    /// Nobody reads the results any more (`| head -1`): the work ends in silence (exit code 0).
    #[error("nobody reads the results any more")]
    ReaderLeft,

    /// A GPU whose driver does not compile the shaders; by another interface it may.
    #[error("{}", printable(_0))]
    Uncompiled(String),

    /// Anything else that ended the work.
    #[error("{}", printable(_0))]
    Failed(String),
}

/// The message, which is what `fn main() -> Result<()>` shows.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Error {
    /// An [`Error::Op`].
    pub fn op(op: impl Into<String>, problem: impl Into<String>) -> Self {
        Error::Op { op: op.into(), problem: problem.into() }
    }

    /// An [`Error::File`].
    pub fn file(path: impl AsRef<Path>, problem: impl ToString) -> Self {
        Error::File { path: path.as_ref().to_path_buf(), problem: problem.to_string() }
    }

    /// The error of threads that cannot be started.
    pub fn threads(error: PoolError) -> Self {
        let advice = "the limits of this user or container allow no more; try a lower `threads`";
        Error::Failed(format!("{error}; {advice}"))
    }

    /// The same with what else can be done, where it is about a file.
    pub fn with_advice(self, advice: &str) -> Self {
        match self {
            Error::File { path, problem } => Error::File { path, problem: format!("{problem}; {advice}") },
            other => other,
        }
    }

    /// The process exit code: 1 failure, 2 usage, 130 interrupted, 0 where no reader is left.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::ReaderLeft => 0,
            Error::Usage(_) => 2,
            Error::Interrupted => 130,
            _ => 1,
        }
    }
}

/// Whether a character acts on the text around it: moves the cursor, breaks the line or turns the
/// direction of writing.
pub fn acts(c: char) -> bool {
    let turns = '\u{2028}'..='\u{202e}';
    c.is_control()
        || turns.contains(&c)
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2066}'..='\u{2069}')
}

/// `text` made safe to print, in one line: characters that [`acts`] tells of are shown as escapes.
/// Escaping twice changes nothing more.
pub fn escaped(text: &str) -> Cow<'_, str> {
    escaped_where(text, acts)
}

/// `text` with the characters that `is` tells of shown as escapes: `\u{202e}`.
pub fn escaped_where(text: &str, is: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&is) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\t' | '\n' | '\r' if is(c) => shown.extend(c.escape_default()),
            c if is(c) => shown.extend(c.escape_unicode()),
            c => shown.push(c),
        }
    }
    Cow::Owned(shown)
}

/// [`escaped`], and cut where it is very long: file names, downloaded files and servers can put
/// anything into a message.
pub fn printable(text: &str) -> Cow<'_, str> {
    const MOST: usize = 4000;
    match text.char_indices().nth(MOST) {
        None => escaped(text),
        Some((end, _)) => Cow::Owned(format!("{}...", escaped(&text[..end]))),
    }
}

/// A path as text. Bytes that are no UTF-8 are shown as escapes, so that names which differ stay
/// apart.
pub fn path_text(path: &Path) -> Cow<'_, str> {
    if let Some(text) = path.to_str() {
        return Cow::Borrowed(text);
    }
    let mut text = String::new();
    for chunk in path.as_os_str().as_encoded_bytes().utf8_chunks() {
        text.push_str(chunk.valid());
        chunk.invalid().iter().for_each(|byte| text.push_str(&format!("\\x{byte:02x}")));
    }
    Cow::Owned(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn names_that_are_no_text_stay_apart() {
        use std::os::unix::ffi::OsStrExt;
        let text = |bytes| path_text(Path::new(std::ffi::OsStr::from_bytes(bytes))).into_owned();
        assert_eq!(text("ä/猫".as_bytes()), "ä/猫");
        assert_eq!((text(b"n\xfe.png"), text(b"n\xff.png")), (r"n\xfe.png".into(), r"n\xff.png".into()));
        assert_eq!(Error::file(Path::new(std::ffi::OsStr::from_bytes(b"\xff")), "x").to_string(), r"\xff: x");
    }

    #[test]
    fn every_message_is_one_printable_line_of_bounded_length() {
        let evil = format!("a\n\r\u{1b}[2Jb\u{202e}c{}", "x".repeat(100_000));
        let errors = [
            Error::op(evil.clone(), evil.clone()),
            Error::file(&evil, &evil),
            Error::Usage(evil.clone()),
            Error::Failed(evil),
        ];
        for error in errors {
            let text = error.to_string();
            assert!(!text.contains(char::is_control) && !text.contains('\u{202e}'), "{text}");
            assert!(text.contains(r"a\n\r\u{1b}[2Jb\u{202e}cxxx") && text.len() < 9000, "{text}");
        }
    }

    #[test]
    fn plain_text_is_left_alone_and_printing_twice_changes_nothing() {
        for text in ["", r"C:\data\it's", "Käse, 猫, e\u{301}"] {
            assert_eq!(printable(text), text);
        }
        let once = printable("a\tb\u{7f}").into_owned();
        assert_eq!(once, r"a\tb\u{7f}");
        assert_eq!(printable(&once), once);
    }
}
