//! Work on data as the program shows it: after a while with a bar on a terminal, with a line now
//! and then elsewhere.

use std::fmt::Debug;
use std::io::{IsTerminal, stderr};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::stopped;
use crate::console::{self, Level};
use crate::data::watch::Watch;

/// Time below which work on images is not worth a word.
const SILENT: Duration = Duration::from_secs(2);
/// Between two lines where nobody watches a bar.
const BETWEEN: Duration = Duration::from_secs(10);

const IMAGES: &str = "{prefix} {bar:24} {pos}/{len} images, {eta} left";
const BYTES: &str = "{bar:30} {bytes}/{total_bytes} {bytes_per_sec} eta {eta}";

/// The one who watches for the program.
pub static DATA_WATCH: DataWatch = DataWatch(Mutex::new(None));

/// Shows work on data on standard error; Ctrl-C stops it.
#[derive(Debug)]
pub struct DataWatch(Mutex<Option<Shown>>);

/// The work that is under way.
#[derive(Debug)]
struct Shown {
    begin: Instant,
    bar: Option<ProgressBar>,
    line: Option<Instant>,
}

impl Shown {
    fn begin() -> Shown {
        Shown { begin: Instant::now(), bar: None, line: None }
    }

    fn bar(&mut self, template: &str, of: u64, prefix: &'static str) -> &ProgressBar {
        self.bar.get_or_insert_with(|| {
            let style = ProgressStyle::with_template(template);
            let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
            ProgressBar::new(of).with_style(style).with_prefix(prefix)
        })
    }
}

impl DataWatch {
    /// Shows how far the work is, unless it is to be quiet. Who finds another thread at it has
    /// nothing to add.
    fn show(&self, show: impl FnOnce(&mut Shown)) {
        if !console::says(Level::Normal) {
            return;
        }
        if let Ok(mut shown) = self.0.try_lock() {
            show(shown.get_or_insert_with(Shown::begin));
        }
    }
}

impl Watch for DataWatch {
    fn keep_going(&self) -> bool {
        !stopped()
    }

    fn images(&self, doing: &'static str, done: usize, of: usize) {
        self.show(|shown| {
            if shown.begin.elapsed() < SILENT {
                return;
            }
            if stderr().is_terminal() {
                shown.bar(IMAGES, of as u64, doing).set_position(done as u64);
            } else if shown.line.is_none_or(|line| line.elapsed() >= BETWEEN) {
                shown.line = Some(Instant::now());
                console::note(format_args!("{doing} {done} of {of} images"));
            }
        });
    }

    fn bytes(&self, done: u64, of: u64) {
        self.show(|shown| {
            if stderr().is_terminal() {
                let is_first = shown.bar.is_none();
                let bar = shown.bar(BYTES, of, "");
                bar.set_position(done);
                if is_first {
                    bar.reset_eta(); // what an earlier run received took this one no time
                }
            }
        });
    }

    fn ended(&self) {
        let shown = self.0.lock().ok().and_then(|mut shown| shown.take());
        if let Some(bar) = shown.and_then(|shown| shown.bar) {
            bar.finish_and_clear();
        }
    }

    fn note(&self, line: &str) {
        console::info(line);
    }

    fn detail(&self, line: &str) {
        console::detail(line);
    }

    fn warn(&self, lines: &str) {
        lines.lines().for_each(console::note);
    }
}
