//! The network side of a download.

use std::fs;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::net::IpAddr;
use std::path::Path;
use std::time::Instant;

use ureq::http::{Response, StatusCode, Uri, header};
use ureq::{Agent, Body};

use super::{Attempt, Remote, Trouble, cache, sha256, trust, without_secrets};
use crate::data::watch::{self, Watch};
use crate::error::{Error, Result};
use crate::files::open_plain;

/// A connection that brings fewer bytes a second than this, over the longest wait, counts as
/// stalled.
const LEAST_RATE: f64 = 1024.0;

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

/// Brings `part` to the full length and the right hash, reconnecting as long as that gets anywhere.
pub fn from_mirror(remote: &Remote, url: &str, part: &Path, watch: &dyn Watch) -> Attempt<()> {
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
    let config = if is_local(url) { config.proxy(None) } else { config };
    Ok(config.build().new_agent())
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

/// One connection's worth: asks for what is missing after `have` bytes and appends what comes.
fn transfer(
    remote: &Remote,
    url: &str,
    agent: &Agent,
    part: &Path,
    have: u64,
    watch: &dyn Watch,
) -> Attempt<()> {
    watch::check(watch)?;
    let mut response = request(agent, url, have)?;
    let mut start = resume_at(&response, remote, have)?;
    if start.is_none() {
        response = request(agent, url, 0)?;
        start = resume_at(&response, remote, 0)?;
    }
    let start = start
        .ok_or_else(|| Trouble::Mirror("answers with a part of the file that was not asked for".into()))?;
    check_headers(&response, remote.bytes - start)?;
    let received = receive(&mut response.into_body().into_reader(), remote, part, start, watch);
    watch.ended();
    received
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
fn receive(body: &mut impl Read, remote: &Remote, part: &Path, start: u64, watch: &dyn Watch) -> Attempt<()> {
    let here = |e: io::Error| Trouble::Here(Error::file(part, cache::advice(&e)));
    let mut file = open_plain(part).map_err(here)?;
    file.set_len(start).map_err(here)?;
    file.seek(SeekFrom::Start(start)).map_err(here)?;
    let mut buffer = vec![0; 64 << 10];
    let mut have = start;
    let least = (LEAST_RATE * remote.stall_timeout.as_secs_f64()) as u64;
    let (mut since, mut had) = (Instant::now(), have);
    while have < remote.bytes {
        watch::check(watch)?;
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
        watch.bytes(have, remote.bytes);
    }
    file.sync_all().map_err(here)
}

/// Whether an address is this machine's own, which no proxy can reach.
fn is_local(url: &str) -> bool {
    let Ok(uri) = url.parse::<Uri>() else { return false };
    let host = uri.host().unwrap_or_default();
    let ip: Option<IpAddr> = host.trim_start_matches('[').trim_end_matches(']').parse().ok();
    host.eq_ignore_ascii_case("localhost") || ip.is_some_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_this_machine() {
        for local in [
            "http://localhost/x",
            "http://127.0.0.1:80/x",
            "http://127.1.2.3",
            "https://[::1]:1/",
            "http://LOCALHOST:8",
        ] {
            assert!(is_local(local), "{local}");
        }
        for other in
            ["http://localhost.example.org/x", "http://127.0.0.1.example.org", "http://a.org/localhost", "x"]
        {
            assert!(!is_local(other), "{other}");
        }
    }
}
