//! Fetches one large file so that no accident leaves a wrong one behind.
//!
//! Bytes go to `NAME.part`, which a later run continues where the server allows it. Only a file of
//! the right length and SHA-256 is renamed to `NAME`, in one step; so whoever sees `NAME` sees all
//! of it.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use super::cache;
use super::watch::{self, Watch};
use crate::error::{Error, Result};
use crate::files::open_plain;
use crate::text;

mod address;
#[cfg(feature = "download")]
mod network;
#[cfg(not(feature = "download"))]
#[path = "no_network.rs"]
mod network;
#[cfg(feature = "download")]
mod trust;

pub use address::without_secrets;
use network::from_mirror;
pub use network::length;

/// A file on the network, known by content.
#[derive(Clone, Debug)]
pub struct Remote {
    /// Name it gets on disk.
    pub file_name: String,
    /// Places to try, in this order.
    pub urls: Vec<String>,
    /// Its exact length.
    pub bytes: u64,
    /// SHA-256 of its content, 64 hexadecimal digits; none where it is not known.
    pub sha256: Option<String>,
    /// Longest wait for the name lookup, and again for the connection.
    pub connect_timeout: Duration,
    /// Longest wait for the next bytes of an open connection, and for as many as they must be (1
    /// KB/s).
    pub stall_timeout: Duration,
}

impl Remote {
    /// Whether `path` is a file of the right length. The content was checked before it got its
    /// name, and its readers check it again, so hashing it at each start would only cost time.
    pub fn is_complete(&self, path: &Path) -> bool {
        fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.len() == self.bytes)
    }
}

/// Why a mirror did not deliver: its own fault (try the next one), or ours (give up).
enum Trouble {
    Mirror(String),
    Here(Error),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Trouble::Here(error)
    }
}

type Attempt<T> = std::result::Result<T, Trouble>;

/// Makes sure that `into` holds the file, and returns its path. Waits while another process fetches
/// it.
///
/// # Errors
/// No mirror delivers (one line with the reason for each), the disk refuses, or the stop flag is
/// set.
pub fn fetch(remote: &Remote, into: &Path, watch: &dyn Watch) -> Result<PathBuf> {
    let target = into.join(&remote.file_name);
    if remote.is_complete(&target) {
        return Ok(target);
    }
    fs::create_dir_all(into).map_err(|e| Error::file(into, cache::advice(&e)))?;
    let _lock = lock(&into.join(format!("{}.lock", remote.file_name)), watch)?;
    // Whoever held the lock before may have done the work.
    if remote.is_complete(&target) {
        return Ok(target);
    }
    let part = into.join(format!("{}.part", remote.file_name));
    let mut reasons = Vec::new();
    for url in &remote.urls {
        let shown = without_secrets(url);
        watch.note(&format!("downloading {} ({}) from {shown}", remote.file_name, text::bytes(remote.bytes)));
        let started = Instant::now();
        match from_mirror(remote, url, &part, watch) {
            Ok(()) => {
                fs::rename(&part, &target).map_err(|e| Error::file(&target, cache::advice(&e)))?;
                watch.note(&format!("downloaded and verified in {:.0} s", started.elapsed().as_secs_f32()));
                return Ok(target);
            }
            Err(Trouble::Here(error)) => return Err(error),
            Err(Trouble::Mirror(reason)) => {
                watch.note(&format!("  failed: {reason}"));
                reasons.push(format!("{shown}: {reason}"));
            }
        }
    }
    Err(Error::Failed(format!(
        "download failed: {}",
        if reasons.is_empty() { "no address".into() } else { reasons.join("; ") }
    )))
}

/// The lock lives in a file of its own, which stays: deleting or renaming a locked file would let
/// two processes lock two different files of one name.
fn lock(path: &Path, watch: &dyn Watch) -> Result<File> {
    let file = open_plain(path).map_err(|e| Error::file(path, cache::advice(&e)))?;
    let mut announced = false;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            // Some network file systems know no locks; the hash still keeps a wrong file out.
            Err(TryLockError::Error(_)) => return Ok(file),
            Err(TryLockError::WouldBlock) => {
                if !announced {
                    watch.note("another process is downloading the same file; waiting for it");
                    announced = true;
                }
                watch::check(watch)?;
                std::thread::sleep(Duration::from_millis(100));
            }
        }
    }
}

/// SHA-256 of a file as lower-case hexadecimal digits. Read back from disk, so that it vouches for
/// what is there and not for what was sent.
pub fn sha256(path: &Path) -> Result<String> {
    let mut file = File::open(path).map_err(|e| Error::file(path, e))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => hasher.update(&buffer[..n]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(Error::file(path, e)),
        }
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}
