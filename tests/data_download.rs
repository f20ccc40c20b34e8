//! Downloads against a small HTTP server of this test's own, which misbehaves in all the known
//! ways.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cifar_engine::data::download::{self, Remote, fetch};
use cifar_engine::data::watch::Unwatched;
use cifar_engine::data::{self, DataSource, Options};
use cifar_engine::error::Error;
use sha2::{Digest, Sha256};

/// How a server answers.
#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Good,
    /// Sends this many bytes of each answer, then closes.
    CutsAfter(usize),
    /// The same, and answers every request with the whole file.
    CutsAndIgnoresRange(usize),
    IgnoresRange,
    /// Answers a range request with another range than was asked for.
    WrongRange,
    Html,
    /// Right length, wrong bytes.
    WrongBytes,
    NotFound,
    TooLong,
    /// No Content-Length, and more bytes than the file has.
    EndlessWithoutLength,
    /// Sends some bytes and then keeps the connection open in silence.
    Stalls,
    /// A few bytes at a time.
    Slow,
    /// The same, for ever so long, a byte at a time.
    Drips,
}

struct Server {
    url: String,
    /// The Range header of each request so far (empty: none).
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn start(mode: Mode, content: &[u8]) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/file.bin", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (log, content) = (requests.clone(), content.to_vec());
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (log, content) = (log.clone(), content.clone());
                // A client that hangs up early is part of the plan.
                std::thread::spawn(move || answer(stream, mode, &content, &log).ok());
            }
        });
        Server { url, requests }
    }

    fn ranges(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

fn answer(
    mut stream: TcpStream,
    mode: Mode,
    content: &[u8],
    log: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let mut range = String::new();
    for line in
        BufReader::new(stream.try_clone()?).lines().map_while(Result::ok).take_while(|l| !l.is_empty())
    {
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("range: ") {
            range = value.to_string();
        }
    }
    log.lock().unwrap().push(range.clone());
    let ignores = matches!(mode, Mode::IgnoresRange | Mode::CutsAndIgnoresRange(_));
    let from = range.strip_prefix("bytes=").and_then(|r| r.strip_suffix('-')).and_then(|r| r.parse().ok());
    let from: Option<usize> = from.filter(|_| !ignores);
    let start = from.unwrap_or(0);
    let mut body = content[start..].to_vec();
    let mut head = match from {
        Some(_) => {
            let said = if mode == Mode::WrongRange { start / 2 } else { start };
            format!(
                "HTTP/1.1 206 Partial\r\nContent-Range: bytes {said}-{}/{}\r\n",
                content.len() - 1,
                content.len()
            )
        }
        None => "HTTP/1.1 200 OK\r\n".to_string(),
    };
    match mode {
        Mode::Html => {
            (body, head) =
                (vec![b'<'; content.len()], "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n".into())
        }
        Mode::NotFound => (body, head) = (b"no".to_vec(), "HTTP/1.1 404 Not Found\r\n".into()),
        Mode::WrongBytes => body.iter_mut().for_each(|b| *b ^= 0x55),
        Mode::TooLong | Mode::EndlessWithoutLength => body.extend([7; 5000]),
        _ => {}
    }
    if mode != Mode::EndlessWithoutLength {
        head += &format!("Content-Length: {}\r\n", body.len());
    }
    stream.write_all(format!("{head}Connection: close\r\n\r\n").as_bytes())?;
    match mode {
        Mode::CutsAfter(n) | Mode::CutsAndIgnoresRange(n) => stream.write_all(&body[..n.min(body.len())]),
        Mode::Stalls => {
            stream.write_all(&body[..1000])?;
            std::thread::sleep(Duration::from_secs(20));
            Ok(())
        }
        Mode::Drips => body.chunks(1).try_for_each(|byte| {
            std::thread::sleep(Duration::from_millis(20));
            stream.write_all(byte)
        }),
        Mode::Slow => body.chunks(1 + body.len() / 50).try_for_each(|chunk| {
            std::thread::sleep(Duration::from_millis(20));
            stream.write_all(chunk)
        }),
        _ => stream.write_all(&body),
    }
}

fn content() -> Vec<u8> {
    (0..200_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

fn remote(servers: &[&Server], content: &[u8]) -> Remote {
    Remote {
        file_name: "file.bin".into(),
        urls: servers.iter().map(|server| server.url.clone()).collect(),
        bytes: content.len() as u64,
        sha256: Some(Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()),
        connect_timeout: Duration::from_secs(2),
        stall_timeout: Duration::from_millis(400),
    }
}

/// Fetches and checks that exactly the right file, and no partial one, is left.
fn assert_fetches(servers: &[&Server], dir: &Path) {
    let content = content();
    let path = fetch(&remote(servers, &content), dir, &Unwatched).unwrap();
    assert_eq!(path, dir.join("file.bin"));
    assert!(fs::read(path).unwrap() == content);
    assert!(!dir.join("file.bin.part").exists());
}

/// Fails with `reason` and leaves no finished file; a good server then completes what is there.
fn assert_fails(mode: Mode, reason: &str) {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(mode, &content());
    let error = fetch(&remote(&[&server], &content()), dir.path(), &Unwatched).unwrap_err().to_string();
    assert!(error.contains(&server.url) && error.contains(reason) && !error.contains('\n'), "{error}");
    assert!(!dir.path().join("file.bin").exists());
    let part = fs::metadata(dir.path().join("file.bin.part")).map_or(0, |meta| meta.len());
    assert!(part < content().len() as u64);
    assert_fetches(&[&Server::start(Mode::Good, &content())], dir.path());
}

#[test]
fn a_good_server_is_asked_once_and_never_again() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(Mode::Good, &content());
    for _ in 0..2 {
        assert_fetches(&[&server], &dir.path().join("made/on/the/way"));
    }
    assert_eq!(server.ranges(), [""]);
}

#[test]
fn a_slow_server_is_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    assert_fetches(&[&Server::start(Mode::Slow, &content())], dir.path());
}

#[test]
fn a_cut_connection_is_resumed_where_it_broke() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(Mode::CutsAfter(70_000), &content());
    assert_fetches(&[&server], dir.path());
    assert_eq!(server.ranges(), ["", "bytes=70000-", "bytes=140000-"]);
}

#[test]
fn a_later_run_continues_what_an_earlier_one_left() {
    let dir = tempfile::tempdir().unwrap();
    // Less than 1/64 of the file at a time is given up on.
    let bad = Server::start(Mode::CutsAfter(3000), &content());
    let error = fetch(&remote(&[&bad], &content()), dir.path(), &Unwatched).unwrap_err().to_string();
    assert!(error.contains("after 3000 of 200000 bytes"), "{error}");
    assert_eq!(bad.ranges().len(), 1);
    let good = Server::start(Mode::Good, &content());
    assert_fetches(&[&good], dir.path());
    assert_eq!(good.ranges(), ["bytes=3000-"]);
}

#[test]
fn a_server_without_ranges_starts_over() {
    for mode in [Mode::IgnoresRange, Mode::WrongRange] {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file.bin.part"), &content()[..5000]).unwrap();
        let server = Server::start(mode, &content());
        assert_fetches(&[&server], dir.path());
        assert_eq!(server.ranges()[0], "bytes=5000-");
    }
}

#[test]
fn a_server_that_cuts_and_knows_no_ranges_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(Mode::CutsAndIgnoresRange(100_000), &content());
    assert!(fetch(&remote(&[&server], &content()), dir.path(), &Unwatched).is_err());
    assert_eq!(server.ranges().len(), 2);
}

#[test]
fn a_partial_file_of_other_content_is_thrown_away_not_trusted() {
    for garbage in [vec![9; 5000], vec![9; 200_000], vec![9; 300_000]] {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file.bin.part"), garbage).unwrap();
        assert_fetches(&[&Server::start(Mode::Good, &content())], dir.path());
    }
}

#[test]
fn a_file_of_the_wrong_length_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file.bin"), "half a copy").unwrap();
    assert_fetches(&[&Server::start(Mode::Good, &content())], dir.path());
}

#[test]
fn what_is_not_the_file_is_refused() {
    assert_fails(Mode::Html, "sends a web page instead of the file");
    assert_fails(Mode::NotFound, "HTTP 404");
    assert_fails(Mode::TooLong, "offers 205000 bytes, expected 200000");
    assert_fails(Mode::WrongBytes, "wrong content (sha256 ");
}

#[test]
fn without_a_stated_length_no_byte_too_many_is_written() {
    let dir = tempfile::tempdir().unwrap();
    assert_fetches(&[&Server::start(Mode::EndlessWithoutLength, &content())], dir.path());
}

#[test]
fn a_stalled_server_is_left_for_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let (stalls, good) = (Server::start(Mode::Stalls, &content()), Server::start(Mode::Good, &content()));
    let started = Instant::now();
    assert_fetches(&[&stalls, &good], dir.path());
    assert!(started.elapsed() < Duration::from_secs(5));
    assert_eq!(good.ranges(), ["bytes=1000-"]);
}

#[test]
fn a_server_that_drips_is_left_for_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let (drips, good) = (Server::start(Mode::Drips, &content()), Server::start(Mode::Good, &content()));
    assert_fetches(&[&drips, &good], dir.path());
    assert!(good.ranges()[0].starts_with("bytes="), "what came is kept");
}

#[test]
fn passwords_and_tokens_in_addresses_are_in_no_message() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(Mode::NotFound, &content());
    let secret = server.url.replace("http://", "http://user:opensesame@") + "?token=opensesame";
    let addresses =
        [secret.as_str(), "https://user:open/sesame@127.0.0.1:1/x", "http://127.0.0.1:1/x?opensesame"];
    let mut remote = remote(&[], &content());
    remote.urls = addresses.map(String::from).to_vec();
    let error = fetch(&remote, dir.path(), &Unwatched).unwrap_err().to_string();
    assert!(error.contains(&server.url) && !error.contains("sesame"), "{error}");
    let error = download::length(&secret, &remote).unwrap_err().to_string();
    assert!(error.contains("HTTP 404") && !error.contains("sesame"), "{error}");
}

#[cfg(unix)]
#[test]
fn links_under_the_names_of_the_cache_are_not_written_through() {
    for name in ["file.bin", "file.bin.part"] {
        let dir = tempfile::tempdir().unwrap();
        let (victim, link) = (dir.path().join("victim"), dir.path().join("cache").join(name));
        fs::create_dir(dir.path().join("cache")).unwrap();
        fs::write(&victim, "precious").unwrap();
        std::os::unix::fs::symlink(&victim, link).unwrap();
        assert_fetches(&[&Server::start(Mode::Good, &content())], &dir.path().join("cache"));
        assert_eq!(fs::read_to_string(victim).unwrap(), "precious");
    }
}

#[cfg(unix)]
#[test]
fn a_lock_that_is_a_link_or_a_pipe_is_refused_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let lock = dir.path().join("file.bin.lock");
    let good = Server::start(Mode::Good, &content());
    let refused = || fetch(&remote(&[&good], &content()), dir.path(), &Unwatched).unwrap_err().to_string();
    std::os::unix::fs::symlink(dir.path().join("elsewhere"), &lock).unwrap();
    assert!(refused().contains("file.bin.lock: is a link, a pipe or a folder"));
    assert!(!dir.path().join("elsewhere").exists());
    fs::remove_file(&lock).unwrap();
    if std::process::Command::new("mkfifo").arg(&lock).status().is_ok_and(|made| made.success()) {
        assert!(refused().contains("file.bin.lock: is a link, a pipe or a folder"));
    }
}

#[test]
fn every_bad_mirror_before_a_good_one_is_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let modes =
        [Mode::NotFound, Mode::Html, Mode::WrongBytes, Mode::CutsAfter(10), Mode::TooLong, Mode::Good];
    let servers: Vec<Server> = modes.iter().map(|&mode| Server::start(mode, &content())).collect();
    assert_fetches(&servers.iter().collect::<Vec<_>>(), dir.path());
}

#[test]
fn a_dead_address_and_nonsense_are_reported() {
    let dir = tempfile::tempdir().unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut remote = remote(&[], &content());
    remote.urls = vec![format!("http://{port}/x"), "not an address".into()];
    let error = fetch(&remote, dir.path(), &Unwatched).unwrap_err().to_string();
    assert!(error.contains(&format!("http://{port}/x: ")) && error.contains("; not an address: "), "{error}");
}

#[test]
fn processes_take_turns() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(Mode::Slow, &content());
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| assert_fetches(&[&server], dir.path()));
        }
    });
    assert_eq!(server.ranges(), [""]);
}

#[test]
fn a_stop_keeps_what_was_received() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(Mode::Slow, &content());
    let stop = AtomicBool::new(false);
    let result = std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(300));
            stop.store(true, Ordering::Relaxed);
        });
        fetch(&remote(&[&server], &content()), dir.path(), &stop)
    });
    assert!(matches!(result, Err(Error::Interrupted)));
    assert!(fs::metadata(dir.path().join("file.bin.part")).unwrap().len() > 0);
    assert_fetches(&[&server], dir.path());
    assert!(server.ranges()[1].starts_with("bytes="));
}

/// A complete small archive in the official layout.
fn archive() -> Vec<u8> {
    let mut tar = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    let names = (1..=5).map(|i| format!("data_batch_{i}.bin")).chain(["test_batch.bin".to_string()]);
    for name in names {
        let mut header = tar::Header::new_ustar();
        header.set_size(2 * 3073);
        tar.append_data(&mut header, format!("cifar-10-batches-bin/{name}"), &[3u8; 2 * 3073][..]).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap()
}

#[test]
fn loading_fetches_once_and_falls_back_only_where_that_is_allowed() {
    let dir = tempfile::tempdir().unwrap();
    let (good, bad) = (Server::start(Mode::Good, &archive()), Server::start(Mode::NotFound, &archive()));
    let mut options = Options { cache: Some(dir.path().into()), offline: false, ..Options::default() };
    options.remote = Remote { file_name: "cifar-10-binary.tar.gz".into(), ..remote(&[&bad], &archive()) };
    let error = data::load(&DataSource::Cifar10, &options).unwrap_err().to_string();
    assert!(error.contains("HTTP 404") && error.contains("place cifar-10-binary.tar.gz in"), "{error}");
    let drawn = data::load(&DataSource::Auto, &Options { image_size: Some(8), ..options.clone() }).unwrap();
    assert_eq!(drawn.name, "shapes");
    // What is there but broken, or a cache that cannot be used, is no reason to draw shapes.
    let archive_path = dir.path().join("cifar-10-binary.tar.gz");
    fs::write(&archive_path, "half").unwrap();
    let error = data::load(&DataSource::Auto, &options).unwrap_err().to_string();
    assert!(error.contains("has 4 bytes, expected") && error.contains("HTTP 404"), "{error}");
    let blocked = Options { cache: Some(archive_path.join("cache")), ..options.clone() };
    let error = data::load(&DataSource::Auto, &blocked).unwrap_err().to_string();
    assert!(error.contains("CIFAR-10 could not be downloaded") && !error.contains("HTTP 404"), "{error}");
    options.remote.urls = vec![good.url.clone()];
    for source in [DataSource::Auto, DataSource::Cifar10] {
        let data = data::load(&source, &options).unwrap();
        let found = (data.name.as_str(), data.train.len(), data.test.len());
        assert_eq!(found, ("cifar-10-binary.tar.gz", 10, 2), "small, so not called cifar10");
    }
    assert_eq!(good.ranges(), [""]);
}
