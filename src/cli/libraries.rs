//! Warnings of the libraries that the program uses, as messages of its own.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use log::{LevelFilter, Log, Metadata, Record};

use crate::console;

/// How often the same text is shown.
const TIMES: usize = 3;
/// How many texts are told apart: those of more are not shown, as they could be endless.
const TEXTS: usize = 200;

/// The listener to all libraries.
struct Listener {
    heard: Mutex<Heard>,
}

/// How often each text was heard.
#[derive(Default)]
struct Heard(HashMap<String, usize>);

impl Heard {
    /// What is to be shown of a text that is heard now: one line, if anything.
    fn line(&mut self, text: &str) -> Option<String> {
        let text: Vec<&str> = text.split_whitespace().collect();
        let text = text.join(" ");
        if self.0.len() == TEXTS && !self.0.contains_key(&text) {
            return None;
        }
        let times = self.0.entry(text.clone()).or_default();
        *times += 1;
        match *times {
            TIMES => Some(format!("{text} (not shown again)")),
            times => (times < TIMES).then_some(text),
        }
    }
}

impl Log for Listener {
    fn enabled(&self, _: &Metadata) -> bool {
        true // as the greatest level says
    }

    fn log(&self, record: &Record) {
        let library = record.target().split("::").next().unwrap_or_default();
        let level = if record.level() == log::Level::Error { "error" } else { "warning" };
        let text = format!("{library}: {level}: {}", record.args());
        let line = self.heard.lock().unwrap_or_else(PoisonError::into_inner).line(&text);
        line.into_iter().for_each(console::detail);
    }

    fn flush(&self) {}
}

/// Shows warnings and errors of libraries from now on, where details are wanted.
pub fn listen() {
    let listener = Box::new(Listener { heard: Mutex::default() });
    if log::set_boxed_logger(listener).is_ok() {
        log::set_max_level(LevelFilter::Warn);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_shown_in_one_line_and_a_few_times() {
        let mut heard = Heard::default();
        let lines: Vec<Option<String>> = (0..5).map(|_| heard.line("slow\n  path")).collect();
        let shown = |text: &str| Some(text.to_string());
        let expected =
            [shown("slow path"), shown("slow path"), shown("slow path (not shown again)"), None, None];
        assert_eq!(lines, expected);
        let different = (0..2 * TEXTS).filter_map(|number| heard.line(&format!("buffer {number}")));
        assert_eq!(different.count(), TEXTS - 1);
    }
}
