//! How far the reading of images is, and whether it is to stop.

use std::io::IsTerminal;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::Options;
use crate::console;
use crate::error::{Error, Result};

/// Time below which work is not worth a word.
const SILENT: Duration = Duration::from_secs(2);
/// Between two lines where nobody watches a bar.
const BETWEEN: Duration = Duration::from_secs(10);

/// Counts images on any number of threads: after a while with a bar on a terminal, with a line now
/// and then elsewhere.
pub struct ImageProgress<'a> {
    doing: &'static str,
    total: usize,
    quiet: bool,
    stop: Option<&'a AtomicBool>,
    begin: Instant,
    done: AtomicUsize,
    shown: Mutex<Shown>,
}

#[derive(Default)]
struct Shown {
    bar: Option<ProgressBar>,
    line: Option<Instant>,
}

impl<'a> ImageProgress<'a> {
    /// Of `total` images, with which something is done: "decoding".
    pub fn new(options: &Options<'a>, doing: &'static str, total: usize) -> ImageProgress<'a> {
        let mut progress = ImageProgress::silent(doing, total);
        (progress.quiet, progress.stop) = (options.quiet, options.stop);
        progress
    }

    /// One that says nothing and never stops.
    pub fn silent(doing: &'static str, total: usize) -> ImageProgress<'a> {
        let (begin, done, shown) = (Instant::now(), AtomicUsize::new(0), Mutex::default());
        ImageProgress { doing, total, quiet: true, stop: None, begin, done, shown }
    }

    /// Notes that another image is begun.
    ///
    /// # Errors
    /// [`Error::Interrupted`] where the work is to stop.
    pub fn one(&self) -> Result<()> {
        let done = self.done.fetch_add(1, Ordering::Relaxed);
        if self.stop.is_some_and(|stop| stop.load(Ordering::Relaxed)) {
            return Err(Error::Interrupted);
        }
        if self.quiet || self.begin.elapsed() < SILENT {
            return Ok(());
        }
        // Who finds another thread at it has nothing to add.
        if let Ok(mut shown) = self.shown.try_lock() {
            self.show(&mut shown, done);
        }
        Ok(())
    }

    fn show(&self, shown: &mut Shown, done: usize) {
        let ImageProgress { doing, total, .. } = self;
        if std::io::stderr().is_terminal() {
            let bar = shown.bar.get_or_insert_with(|| {
                let style = ProgressStyle::with_template("{prefix} {bar:24} {pos}/{len} images, {eta} left");
                let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
                ProgressBar::new(*total as u64).with_style(style).with_prefix(*doing)
            });
            bar.set_position(done as u64);
        } else if shown.line.is_none_or(|line| line.elapsed() >= BETWEEN) {
            shown.line = Some(Instant::now());
            console::note(format_args!("{doing} {done} of {total} images"));
        }
    }
}

impl Drop for ImageProgress<'_> {
    fn drop(&mut self) {
        if let Some(bar) = self.shown.get_mut().ok().and_then(|shown| shown.bar.take()) {
            bar.finish_and_clear();
        }
    }
}
