//! Fetches one large file so that no accident leaves a wrong one behind.
//!
//! Bytes go to `NAME.part`, which a later run continues where the server allows it. Only a file of
//! the right length and SHA-256 is renamed to `NAME`, in one step; so whoever sees `NAME` sees all
//! of it.

use std::fs::{self, File, TryLockError};
use std::io::{self, IsTerminal, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use sha2::{Digest, Sha256};
use ureq::http::{Response, StatusCode, header};
use ureq::{Agent, Body};

use super::cache;
use crate::error::{Error, Result};
use crate::files::open_plain;
use crate::text;

mod address;
mod trust;

pub use address::without_secrets;

/// A connection that brings fewer bytes a second than this, over the longest wait, counts as
/// stalled.
const LEAST_RATE: f64 = 1024.0;

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

/// How a transfer shows itself and how it is called off.
#[derive(Clone, Copy, Debug, Default)]
pub struct Watch<'a> {
    /// Print nothing.
    pub quiet: bool,
    /// Once true, the transfer ends with [`Error::Interrupted`]; the `.part` file stays.
    pub stop: Option<&'a AtomicBool>,
}

impl Watch<'_> {
    fn check(&self) -> Result<()> {
        match self.stop {
            Some(stop) if stop.load(Ordering::Relaxed) => Err(Error::Interrupted),
            _ => Ok(()),
        }
    }

    fn say(&self, line: &str) {
        if !self.quiet {
            crate::console::note(line);
        }
    }

    /// A bar where somebody watches; log files get plain lines only.
    fn bar(&self, bytes: u64) -> ProgressBar {
        if self.quiet || !io::stderr().is_terminal() {
            return ProgressBar::hidden();
        }
        let style = ProgressStyle::with_template("{bar:30} {bytes}/{total_bytes} {bytes_per_sec} eta {eta}");
        ProgressBar::new(bytes).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
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
pub fn fetch(remote: &Remote, into: &Path, watch: &Watch) -> Result<PathBuf> {
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
        watch.say(&format!("downloading {} ({}) from {shown}", remote.file_name, text::bytes(remote.bytes)));
        let started = Instant::now();
        match from_mirror(remote, url, &part, watch) {
            Ok(()) => {
                fs::rename(&part, &target).map_err(|e| Error::file(&target, cache::advice(&e)))?;
                watch.say(&format!("downloaded and verified in {:.0} s", started.elapsed().as_secs_f32()));
                return Ok(target);
            }
            Err(Trouble::Here(error)) => return Err(error),
            Err(Trouble::Mirror(reason)) => {
                watch.say(&format!("  failed: {reason}"));
                reasons.push(format!("{shown}: {reason}"));
            }
        }
    }
    Err(Error::Failed(format!(
        "download failed: {}",
        if reasons.is_empty() { "no address".into() } else { reasons.join("; ") }
    )))
}

/// Asks an address how many bytes the file there has.
///
/// # Errors
/// If it does not answer, or not with a length.
pub fn length(url: &str, timeouts: &Remote) -> Result<u64> {
    let failed = |problem: String| Error::Failed(without_secrets(&format!("{url}: {problem}")));
    let response = agent(timeouts, url)?.head(url).call().map_err(|error| failed(error.to_string()))?;
    if response.status() != StatusCode::OK {
        return Err(failed(format!("HTTP {}", response.status())));
    }
    let length = text(&response, header::CONTENT_LENGTH).parse().ok();
    length.ok_or_else(|| failed("does not say how long the file is".into()))
}

/// The lock lives in a file of its own, which stays: deleting or renaming a locked file would let
/// two processes lock two different files of one name.
fn lock(path: &Path, watch: &Watch) -> Result<File> {
    let file = open_plain(path).map_err(|e| Error::file(path, cache::advice(&e)))?;
    let mut announced = false;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            // Some network file systems know no locks; the hash still keeps a wrong file out.
            Err(TryLockError::Error(_)) => return Ok(file),
            Err(TryLockError::WouldBlock) => {
                if !announced {
                    watch.say("another process is downloading the same file; waiting for it");
                    announced = true;
                }
                watch.check()?;
                std::thread::sleep(Duration::from_millis(100));
            }
        }
    }
}

/// Brings `part` to the full length and the right hash, reconnecting as long as that gets anywhere.
fn from_mirror(remote: &Remote, url: &str, part: &Path, watch: &Watch) -> Attempt<()> {
    let agent = agent(remote, url)?;
    // What an earlier run or mirror left may be what spoils the hash, so it earns this mirror a
    // second go.
    let mut inherited = part_length(remote, part)? > 0;
    loop {
        let before = part_length(remote, part)?;
        let outcome = match before < remote.bytes {
            true => transfer(remote, url, &agent, part, before, watch),
            false => Ok(()), // all there, never checked
        };
        if let Err(trouble) = outcome {
            // At least 1/64 of the file a try bounds the number of tries.
            let gained = part_length(remote, part)?.saturating_sub(before);
            if matches!(trouble, Trouble::Mirror(_)) && gained >= (remote.bytes / 64).max(1) {
                continue;
            }
            return Err(trouble);
        }
        let Some(expected) = &remote.sha256 else { return Ok(()) };
        let found = sha256(part)?;
        if found.eq_ignore_ascii_case(expected) {
            return Ok(());
        }
        fs::remove_file(part).map_err(|e| Error::file(part, e))?;
        if !inherited {
            return Err(Trouble::Mirror(format!("wrong content (sha256 {found}, expected {expected})")));
        }
        inherited = false;
    }
}

/// Length of the partial file, 0 if there is none. One that is too long is of no use and goes; so
/// does what is no plain file, such as a link to one of another purpose.
fn part_length(remote: &Remote, part: &Path) -> Result<u64> {
    match fs::symlink_metadata(part) {
        Ok(meta) if meta.is_file() && meta.len() <= remote.bytes => Ok(meta.len()),
        Ok(_) => fs::remove_file(part).map(|()| 0).map_err(|e| Error::file(part, e)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(e) => Err(Error::file(part, e)),
    }
}

fn agent(remote: &Remote, url: &str) -> Result<Agent> {
    let secure = url.get(..8).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https://"));
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .timeout_resolve(Some(remote.connect_timeout))
        .timeout_connect(Some(remote.connect_timeout))
        .timeout_recv_response(Some(remote.stall_timeout))
        .timeout_per_read(Some(remote.stall_timeout))
        .user_agent(concat!("cifar-engine/", env!("CARGO_PKG_VERSION")))
        .accept_encoding("identity")
        .https_only(secure); // also where it redirects to
    let config = if secure { config.tls_config(trust::roots()?) } else { config };
    // A proxy cannot reach this machine's own addresses.
    let config = if address::is_local(url) { config.proxy(None) } else { config };
    Ok(config.build().new_agent())
}

/// One connection's worth: asks for what is missing after `have` bytes and appends what comes.
fn transfer(remote: &Remote, url: &str, agent: &Agent, part: &Path, have: u64, watch: &Watch) -> Attempt<()> {
    watch.check()?;
    let mut response = request(agent, url, have)?;
    let mut start = resume_at(&response, remote, have)?;
    if start.is_none() {
        response = request(agent, url, 0)?;
        start = resume_at(&response, remote, 0)?;
    }
    let start = start
        .ok_or_else(|| Trouble::Mirror("answers with a part of the file that was not asked for".into()))?;
    check_headers(&response, remote.bytes - start)?;
    receive(&mut response.into_body().into_reader(), remote, part, start, watch)
}

fn request(agent: &Agent, url: &str, have: u64) -> Attempt<Response<Body>> {
    let request = agent.get(url);
    let request = if have > 0 { request.header(header::RANGE, format!("bytes={have}-")) } else { request };
    request.call().map_err(|e| Trouble::Mirror(without_secrets(&e.to_string())))
}

/// Where in the file the answer begins: `have`, or 0 from a server that knows no ranges. `None` if
/// the answer fits neither, so that the request must be made anew for the whole file.
fn resume_at(response: &Response<Body>, remote: &Remote, have: u64) -> Attempt<Option<u64>> {
    match response.status() {
        StatusCode::OK => Ok(Some(0)),
        StatusCode::PARTIAL_CONTENT => {
            let range = text(response, header::CONTENT_RANGE);
            let spans = |total: &str| range == format!("bytes {have}-{}/{total}", remote.bytes - 1);
            Ok((have > 0 && (spans(&remote.bytes.to_string()) || spans("*"))).then_some(have))
        }
        StatusCode::RANGE_NOT_SATISFIABLE if have > 0 => Ok(None),
        status => Err(Trouble::Mirror(format!("HTTP {status}"))),
    }
}

fn text(response: &Response<Body>, name: header::HeaderName) -> &str {
    response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// Turns down what cannot be the file before any of it is written: login pages, other versions.
fn check_headers(response: &Response<Body>, expected: u64) -> Attempt<()> {
    let kind = text(response, header::CONTENT_TYPE);
    if kind.to_ascii_lowercase().starts_with("text/html") {
        return Err(Trouble::Mirror("sends a web page instead of the file".into()));
    }
    match text(response, header::CONTENT_LENGTH).parse::<u64>() {
        Ok(length) if length != expected => {
            Err(Trouble::Mirror(format!("offers {length} bytes, expected {expected}")))
        }
        _ => Ok(()), // chunked answers have none; what arrives is counted anyway
    }
}

/// Writes the body at `start` of `part` and never past the expected length, whatever the server
/// sends.
fn receive(body: &mut impl Read, remote: &Remote, part: &Path, start: u64, watch: &Watch) -> Attempt<()> {
    let here = |e: io::Error| Trouble::Here(Error::file(part, cache::advice(&e)));
    let mut file = open_plain(part).map_err(here)?;
    file.set_len(start).map_err(here)?;
    file.seek(SeekFrom::Start(start)).map_err(here)?;
    let bar = watch.bar(remote.bytes);
    bar.set_position(start);
    bar.reset_eta();
    let mut buffer = vec![0; 64 << 10];
    let mut have = start;
    let least = (LEAST_RATE * remote.stall_timeout.as_secs_f64()) as u64;
    let (mut since, mut had) = (Instant::now(), have);
    while have < remote.bytes {
        watch.check()?;
        if since.elapsed() >= remote.stall_timeout {
            if have - had < least {
                return Err(Trouble::Mirror(format!("stalled after {have} of {} bytes", remote.bytes)));
            }
            (since, had) = (Instant::now(), have);
        }
        let room = buffer.len().min((remote.bytes - have) as usize);
        let n = match body.read(&mut buffer[..room]) {
            Ok(0) => {
                return Err(Trouble::Mirror(format!(
                    "connection closed after {have} of {} bytes",
                    remote.bytes
                )));
            }
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(Trouble::Mirror(format!("{e} after {have} of {} bytes", remote.bytes))),
        };
        file.write_all(&buffer[..n]).map_err(here)?;
        have += n as u64;
        bar.set_position(have);
    }
    bar.finish_and_clear();
    file.sync_all().map_err(here)
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
