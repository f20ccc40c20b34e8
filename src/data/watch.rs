//! Watchers of work on data: who is told how far it is, and may stop it.

use std::fmt::Debug;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::error::{Error, Result};

/// Watches what is listed, decoded, drawn and downloaded, from any thread. What it does not care
/// about it need not have.
pub trait Watch: Debug + Sync {
    /// Asked often; false stops the work at the next safe point, with [`Error::Interrupted`]. What
    /// was received of a download is kept for the next one.
    fn keep_going(&self) -> bool {
        true
    }

    /// After every image: what is done with them, with how many, of how many.
    fn images(&self, _doing: &'static str, _done: usize, _of: usize) {}

    /// After every piece of a download: how much of it is there, of how much.
    fn bytes(&self, _done: u64, _of: u64) {}

    /// After the last of the images or bytes, or of those that came before an error.
    fn ended(&self) {}

    /// A line about what is being done.
    fn note(&self, _line: &str) {}

    /// A line that helps to find out why something is as it is.
    fn detail(&self, _line: &str) {}

    /// What is not as it was asked for, in lines.
    fn warn(&self, _lines: &str) {}
}

/// Nobody: the work goes on to its end, without a word.
#[derive(Clone, Copy, Debug)]
pub struct Unwatched;

impl Watch for Unwatched {}

/// One who is told nothing, and stops the work by a store of `true`.
impl Watch for AtomicBool {
    fn keep_going(&self) -> bool {
        !self.load(Ordering::Relaxed)
    }
}

/// Fails where the work is to stop.
///
/// # Errors
/// [`Error::Interrupted`].
pub fn check(watch: &dyn Watch) -> Result<()> {
    if watch.keep_going() { Ok(()) } else { Err(Error::Interrupted) }
}

/// Counts images for a [`Watch`], on any number of threads.
pub struct ImageProgress<'a> {
    doing: &'static str,
    total: usize,
    watch: &'a dyn Watch,
    done: AtomicUsize,
}

impl<'a> ImageProgress<'a> {
    /// Of `total` images, with which something is done: "decoding".
    pub fn new(watch: &'a dyn Watch, doing: &'static str, total: usize) -> ImageProgress<'a> {
        ImageProgress { doing, total, watch, done: AtomicUsize::new(0) }
    }

    /// Notes that another image is begun.
    ///
    /// # Errors
    /// [`Error::Interrupted`] where the work is to stop.
    pub fn one(&self) -> Result<()> {
        let done = self.done.fetch_add(1, Ordering::Relaxed);
        check(self.watch)?;
        self.watch.images(self.doing, done, self.total);
        Ok(())
    }
}

impl Drop for ImageProgress<'_> {
    fn drop(&mut self) {
        self.watch.ended();
    }
}
