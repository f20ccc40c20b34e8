//! Turns of processes that need the same file: one makes it, the others wait.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use super::watch::{self, Watch};
use crate::error::Result;
use crate::files::{is_still, open_plain};

/// Ending of the names of what processes lock.
pub(super) const ENDING: &str = "turn";

/// Turn of this process to make a file that others need as well, such as those of one training on
/// one machine: they wait for it.
pub(super) struct Turn {
    path: PathBuf,
    /// Locked; none where such a file cannot be had.
    lock: Option<File>,
}

impl Turn {
    /// # Errors
    /// If the watch stops the work while another process has its turn.
    pub fn take(of: &Path, watch: &dyn Watch) -> Result<Turn> {
        let path = of.with_extension(ENDING);
        let mut is_told = false;
        loop {
            let Ok(lock) = open_plain(&path) else { return Ok(Turn { path, lock: None }) };
            while let Err(error) = lock.try_lock() {
                if let TryLockError::Error(_) = error {
                    return Ok(Turn { path, lock: None }); // a file system without locks
                }
                if !is_told {
                    watch.note(&format!("waiting for another process, which writes {}", of.display()));
                    is_told = true;
                }
                watch::check(watch)?;
                sleep(Duration::from_millis(100));
            }
            // One that is gone was of a turn that is over: a third process may have made another.
            if is_still(&lock, &path).unwrap_or(true) {
                return Ok(Turn { path, lock: Some(lock) });
            }
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        // What cannot be deleted now is so by a later run; what is not locked is another's.
        if self.lock.is_some() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;
    use crate::error::Error;

    #[test]
    fn one_that_waits_may_be_stopped() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("one.images");
        let first = Turn::take(&file, &watch::Unwatched).unwrap();
        let stopped = AtomicBool::new(true);
        assert!(matches!(Turn::take(&file, &stopped), Err(Error::Interrupted)));
        drop(first);
        Turn::take(&file, &stopped).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn a_link_in_its_place_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (own, file) = (dir.path().join("own"), dir.path().join("one.images"));
        fs::write(&own, "mine").unwrap();
        std::os::unix::fs::symlink(&own, file.with_extension(ENDING)).unwrap();
        drop(Turn::take(&file, &watch::Unwatched).unwrap());
        assert_eq!(fs::read_to_string(&own).unwrap(), "mine");
        assert!(file.with_extension(ENDING).is_symlink(), "what another has put there stays");
    }
}
