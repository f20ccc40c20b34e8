//! Standard output and standard error, neither of which may end a training: a reader that goes away
//! or a full disk behind a log is no reason to panic.
//!
//! What is printed may hold names and paths from elsewhere, so every line is [`escaped`] here, once
//! for all.

use std::fmt::Display;
use std::io::{ErrorKind, IsTerminal, Write, stderr, stdout};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};

use serde_json::Value;

use crate::error::{Error, Result, acts, escaped};

/// Prints a line of results on standard output.
///
/// # Errors
/// If it cannot be written: results must not be lost silently. [`Error::ReaderLeft`] where a reader
/// has seen enough (`| head -1`): what only makes more results can end.
pub fn print(text: impl Display) -> Result<()> {
    print_own(escaped(&text.to_string()))
}

/// Prints a result as JSON, in one line. What would act on a terminal is escaped as JSON does it,
/// so that a program reads the same text.
///
/// # Errors
/// As for [`print()`].
pub fn print_json(value: &Value) -> Result<()> {
    print_own(escaped_json(&value.to_string()))
}

/// Prints text as it is: lines that the program alone has made, with colours and completions for a
/// shell.
///
/// # Errors
/// As for [`print()`].
pub fn print_own(text: impl Display) -> Result<()> {
    if !says(Level::Quiet) {
        return Ok(());
    }
    let mut out = stdout();
    arrived(writeln!(out, "{text}").and_then(|()| out.flush()))
}

/// Outcome of writing results on standard output, by whatever means.
///
/// # Errors
/// As for [`print()`].
pub fn arrived(written: std::io::Result<()>) -> Result<()> {
    match written {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(Error::ReaderLeft),
        written => {
            written.map_err(|error| Error::file("standard output", format!("cannot be written: {error}")))
        }
    }
}

/// How many columns the terminal has that standard output is; none elsewhere.
#[cfg(feature = "cli")]
pub fn width() -> Option<usize> {
    columns(terminal_size::terminal_size_of(stdout()))
}

/// How many columns the terminal has that standard error is; none elsewhere.
#[cfg(feature = "cli")]
pub fn error_width() -> Option<usize> {
    columns(terminal_size::terminal_size_of(stderr()))
}

#[cfg(feature = "cli")]
fn columns(size: Option<(terminal_size::Width, terminal_size::Height)>) -> Option<usize> {
    size.map(|(width, _)| usize::from(width.0))
}

/// JSON text whose strings hold nothing that acts on a terminal.
fn escaped_json(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            c if acts(c) => {
                let mut units = [0; 2];
                c.encode_utf16(&mut units).iter().for_each(|unit| shown += &format!("\\u{unit:04x}"));
            }
            c => shown.push(c),
        }
    }
    shown
}

/// `text` in a colour of the terminal, where standard output is one and `NO_COLOR` does not forbid
/// it. For
/// [`print_own`].
pub fn coloured(text: &str, colour: u8) -> String {
    let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    match wanted && stdout().is_terminal() {
        true => format!("\u{1b}[{colour}m{text}\u{1b}[0m"),
        false => text.to_string(),
    }
}

/// How much is said on standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Level {
    /// Nothing at all: another process speaks for this one.
    Silent,
    /// Warnings and errors.
    Quiet,
    /// Messages that a user wants.
    Normal,
    /// Details that help to find out why something is as it is.
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

/// Prints a warning or an error, one line, on standard error, if it can be printed.
pub fn note(text: impl Display) {
    if !says(Level::Quiet) {
        return;
    }
    let _ = writeln!(stderr(), "{}", escaped(&with_options(&text.to_string())));
}

/// What the library calls a thing that a user can choose, and the program's option for it.
static OPTIONS: OnceLock<Vec<(String, String)>> = OnceLock::new();

/// Tells which options the program has, for [`with_options`].
pub fn know_options(named: Vec<(String, String)>) {
    let _ = OPTIONS.set(named); // said again, it is the same
}

/// A message of the library's, which says `` `batch_size` `` of a setting, as the program says it:
/// `--batch-size`.
pub fn with_options(text: &str) -> String {
    let known = OPTIONS.get().map_or(&[][..], Vec::as_slice);
    let mut parts = text.split('`').peekable();
    let mut said = parts.next().unwrap_or_default().to_string();
    while let Some(part) = parts.next() {
        match known.iter().find(|(name, _)| name == part).filter(|_| parts.peek().is_some()) {
            Some((_, option)) => said += &format!("--{option}{}", parts.next().unwrap_or_default()),
            None => said += &format!("`{part}"),
        }
    }
    said
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

/// Does something during which libraries of others print on standard error, as graphics drivers do
/// while they are looked for: that is kept from the terminal, or where details are wanted shown
/// afterwards, each line once, as they say the same for every card. What was printed before a panic
/// is shown all the same.
///
/// Only on Linux, whose drivers do so.
pub fn hushed<T>(work: impl FnOnce() -> T) -> T {
    #[cfg(target_os = "linux")]
    let _hush = Hush::begin().ok();
    work()
}

/// Standard error goes to memory until this is dropped.
#[cfg(target_os = "linux")]
struct Hush {
    terminal: std::os::fd::OwnedFd,
    heard: std::fs::File,
}

#[cfg(target_os = "linux")]
impl Hush {
    fn begin() -> std::io::Result<Hush> {
        use rustix::fs::{MemfdFlags, memfd_create};
        let heard = std::fs::File::from(memfd_create("stderr", MemfdFlags::CLOEXEC)?);
        let terminal = rustix::io::dup(stderr())?;
        rustix::stdio::dup2_stderr(&heard)?;
        Ok(Hush { terminal, heard })
    }
}

#[cfg(target_os = "linux")]
impl Drop for Hush {
    fn drop(&mut self) {
        use std::io::{Read, Seek};
        // Nothing can be said about a failure here: this is where it would be said.
        let _ = rustix::stdio::dup2_stderr(&self.terminal);
        if std::thread::panicking() || says(Level::Verbose) {
            let mut heard = Vec::new();
            let _ = self.heard.rewind().and_then(|()| self.heard.read_to_end(&mut heard));
            once(&String::from_utf8_lossy(&heard)).for_each(note);
        }
    }
}

/// The lines of a text, each once.
#[cfg(target_os = "linux")]
fn once(text: &str) -> impl Iterator<Item = &str> {
    let mut shown = std::collections::HashSet::new();
    text.lines().filter(move |line| shown.insert(*line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn what_drivers_say_is_said_once() {
        let said = "error: XDG_RUNTIME_DIR is invalid\nslow\nerror: XDG_RUNTIME_DIR is invalid\nslow\n";
        assert!(once(said).eq(["error: XDG_RUNTIME_DIR is invalid", "slow"]));
    }

    #[test]
    fn settings_are_options_in_the_program() {
        let text = "`epochs` must be at least 1; see `epochs and `other`, `rate`";
        assert_eq!(with_options(text), text);
        let named = [("epochs", "epochs"), ("rate", "lr")];
        know_options(named.map(|(name, option)| (name.to_string(), option.to_string())).to_vec());
        assert_eq!(with_options(text), "--epochs must be at least 1; see `epochs and `other`, --lr");
        for odd in ["", "`", "``", "`epochs", "epochs`", "é`"] {
            assert_eq!(with_options(odd), odd);
        }
    }

    #[test]
    fn json_for_a_terminal_says_the_same_to_a_program() {
        let value = Value::from("a\u{1b}[2J\u{9b}\u{202e}\n\"b\\ 猫");
        let shown = escaped_json(&value.to_string());
        assert!(!shown.contains(acts), "{shown}");
        assert_eq!(serde_json::from_str::<Value>(&shown).unwrap(), value);
    }
}
