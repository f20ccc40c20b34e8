//! Decoded images of a folder that are too many for memory, in a file of the cache folder.
//!
//! Its name is a digest of all that decides its bytes: the files' names, lengths and times, the
//! size, and what decodes them. So a second run finds it, and a folder that was changed has another
//! one. It holds the pixels, image by image in the order of the files' names; behind them, as JSON,
//! which could not be read; then the length of that, and a sign that it is whole.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::pixels::{Pixels, PositionedFile, RecordFile, Records};
use super::watch::ImageProgress;
use super::{CHANNELS, Options, cache, image_file, images};
use crate::environment;
use crate::error::{Error, Result};
use crate::files::{free_space, write_atomic};
use crate::text;

/// Part of every name: to be raised where the same file could give other pixels than before.
const DECODER: &str = concat!(env!("CARGO_PKG_VERSION"), " 1");

/// Mebibytes of pixels that are kept in memory, where nothing else is asked for.
const IN_MEMORY: u64 = 512;
const VARIABLE: &str = "CIFAR_ENGINE_IN_MEMORY";

/// A file that no run has used for so long is deleted.
const UNUSED: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Ending of the files' names.
const ENDING: &str = "images";

/// The end of a file that is whole.
const WHOLE: &[u8; 8] = b"decoded1";

/// The images of a folder, in a file.
pub(super) struct DecodedFolder<'a> {
    file: Arc<RecordFile>,
    /// By their place in the file.
    paths: Vec<&'a PathBuf>,
    /// What is wrong with those that could not be read, by their place.
    bad: BTreeMap<u32, String>,
}

impl<'a> DecodedFolder<'a> {
    /// The images at these paths below `dir`, in a file that is found or written; none where they
    /// are few enough for memory.
    ///
    /// # Errors
    /// If the file cannot be written, or an image cannot be read that may not be left out: the
    /// first of the paths, as they are given.
    pub fn open(
        dir: &Path,
        paths: &[&'a PathBuf],
        size: usize,
        options: &Options,
    ) -> Result<Option<DecodedFolder<'a>>> {
        let stride = size * size * CHANNELS;
        let bytes = paths.len() as u64 * stride as u64;
        if bytes <= most_in_memory(options)? {
            return Ok(None);
        }
        let shown = text::bytes(bytes);
        let Some(folder) = options.cache.as_ref().map(|cache| cache.join("decoded")) else {
            options.watch.warn(&format!(
                "warning: the decoded images take {shown} of memory: there is no cache folder to keep them in; set \
                 CIFAR_ENGINE_CACHE to one"
            ));
            return Ok(None);
        };
        let mut sorted = paths.to_vec();
        sorted.sort_unstable();
        let path = folder.join(format!("{}.{ENDING}", key(dir, &sorted, size)));
        let mut found = find(&path, bytes)?;
        if found.is_some() {
            options.watch.note(&format!("decoded images: {shown}, found in {}", path.display()));
        } else {
            fs::create_dir_all(&folder).map_err(|error| Error::file(&folder, cache::advice(&error)))?;
            check_room(&folder, bytes, free_space(&folder))?;
            options.watch.note(&format!("decoded images: {shown}, written to {}", path.display()));
            write(&path, (paths, &sorted), size, options)?;
            delete_unused(&folder, options);
            found = find(&path, bytes)?;
        }
        let (file, bad) =
            found.ok_or_else(|| Error::file(&path, "was deleted by another program; begin again"))?;
        let file = Arc::new(RecordFile { file: PositionedFile::new(file), path, stride });
        Ok(Some(DecodedFolder { file, paths: sorted, bad }))
    }

    /// The images at some of the paths, and what is wrong with each, if anything.
    pub fn part(&self, paths: &[&PathBuf]) -> (Pixels, Vec<Option<Error>>) {
        let number = |path: &&PathBuf| self.paths.binary_search(path).unwrap_or(usize::MAX) as u32;
        let numbers: Vec<u32> = paths.iter().map(number).collect();
        let problem = |(number, path): (&u32, &&PathBuf)| Some(Error::file(path, self.bad.get(number)?));
        let problems = numbers.iter().zip(paths).map(problem).collect();
        (Pixels::File(Records::new(self.file.clone(), numbers)), problems)
    }
}

/// The most bytes of a folder's pixels that are kept in memory.
fn most_in_memory(options: &Options) -> Result<u64> {
    let mebibytes = match (options.in_memory, environment::text(VARIABLE)) {
        (Some(bytes), _) => return Ok(bytes),
        (None, None) => IN_MEMORY,
        (None, Some(text)) => text
            .trim()
            .parse()
            .map_err(|_| Error::Usage(format!("{VARIABLE} is '{text}', not a whole number of mebibytes")))?,
    };
    Ok(mebibytes.saturating_mul(1 << 20))
}

/// The name of the file for these images: their sorted paths below a folder, and their size.
fn key(dir: &Path, paths: &[&PathBuf], size: usize) -> String {
    let mut hash = Sha256::new_with_prefix(format!("{DECODER} {size} {}\n", paths.len()));
    let stamps: Vec<String> = paths.par_iter().map(|path| stamp(fs::metadata(path).ok())).collect();
    for (path, stamp) in paths.iter().zip(stamps) {
        let name = path.strip_prefix(dir).unwrap_or(path).as_os_str().as_encoded_bytes();
        // Lengths first, so that no name can look like another one and its stamp.
        hash.update(format!("{} {stamp}\n", name.len()));
        hash.update(name);
    }
    images::hex(hash)[..32].to_string()
}

/// What tells that a file has changed.
fn stamp(found: Option<Metadata>) -> String {
    let Some(found) = found else { return "none".into() };
    let since = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let modified = found.modified().map(since).unwrap_or_default();
    // A copy may bring its time of modification along, but never this one.
    #[cfg(unix)]
    let changed = {
        use std::os::unix::fs::MetadataExt;
        (found.ctime(), found.ctime_nsec())
    };
    #[cfg(not(unix))]
    let changed = (0, 0);
    format!("{} {modified} {} {}", found.len(), changed.0, changed.1)
}

/// The file, if it is there, whole and for so many bytes of pixels; and what is wrong with the
/// images that it lacks. It counts as used.
///
/// # Errors
/// If it is another user's, or cannot be read.
fn find(path: &Path, pixels: u64) -> Result<Option<(File, BTreeMap<u32, String>)>> {
    cache::check_own(path)?;
    let opened = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.and_then(|file| Ok((read_end(&file, pixels)?, file))),
    };
    let (bad, file) =
        opened.map_err(|error| Error::file(path, format!("cannot be read ({error}); delete it")))?;
    // Where that cannot be, it is deleted the sooner.
    let _ = File::options().write(true).open(path).and_then(|file| file.set_modified(SystemTime::now()));
    Ok(bad.map(|bad| (file, bad)))
}

/// What a whole file says behind its pixels.
fn read_end(file: &File, pixels: u64) -> io::Result<Option<BTreeMap<u32, String>>> {
    let (all, file) = (file.metadata()?.len(), PositionedFile::new(file.try_clone()?));
    let mut end = [0; 16];
    let Some(at) = all.checked_sub(16).filter(|at| *at >= pixels) else { return Ok(None) };
    file.read(&mut end, at)?;
    let (length, sign) = end.split_at(8);
    if sign != WHOLE || length != (at - pixels).to_le_bytes() {
        return Ok(None);
    }
    let mut json = vec![0; (at - pixels) as usize];
    file.read(&mut json, pixels)?;
    Ok(serde_json::from_slice(&json).ok())
}

/// Decodes the images, with one in memory for each thread, each to its place among the sorted ones.
fn write(
    path: &Path,
    (paths, sorted): (&[&PathBuf], &[&PathBuf]),
    size: usize,
    options: &Options,
) -> Result<()> {
    let stride = (size * size * CHANNELS) as u64;
    let mut failed = None;
    let written = write_atomic(path, |file| {
        let file = PositionedFile::new(file.get_ref().try_clone()?);
        let progress = ImageProgress::new(options.watch, "decoding", paths.len());
        let full = |error: io::Error| {
            let needed = text::bytes(stride * paths.len() as u64);
            Error::file(path, format!("{}; the decoded images need {needed} there", cache::advice(&error)))
        };
        let decode = |path: &&PathBuf| {
            progress.one()?;
            let place = sorted.binary_search(path).unwrap_or(usize::MAX) as u64;
            match image_file::load(path, size) {
                Ok(image) => file.write(&image.pixels, place * stride).map_err(full).map(|()| None),
                Err(bad) => Ok(Some(bad)),
            }
        };
        let end = problems(paths.par_iter(), options.skip_bad, decode).and_then(|problems| {
            let bad: BTreeMap<usize, String> = paths
                .iter()
                .zip(problems)
                .filter_map(|(path, problem)| {
                    let Some(Error::File { problem, .. }) = problem else { return None };
                    Some((sorted.binary_search(path).ok()?, problem))
                })
                .collect();
            let json = serde_json::to_vec(&bad).map_err(|error| Error::file(path, error))?;
            let end = [&json[..], &(json.len() as u64).to_le_bytes(), WHOLE].concat();
            file.write(&end, stride * paths.len() as u64).map_err(full)
        });
        end.map_err(|error| {
            failed = Some(error);
            io::Error::other("the images are not all there")
        })
    });
    failed.map_or(written, Err)
}

/// What is wrong with each image by some work on it, which ends at what is wrong with something
/// else. Where none may be left out, the first problem in order, not in time, is the error, so that
/// the same folder always gives the same message.
pub(super) fn problems<I: IndexedParallelIterator>(
    images: I,
    skip_bad: bool,
    work: impl Fn(I::Item) -> Result<Option<Error>> + Sync + Send,
) -> Result<Vec<Option<Error>>> {
    if skip_bad {
        return images.map(work).collect();
    }
    match images.find_map_first(|image| work(image).transpose()) {
        Some(Ok(bad)) => Err(bad.with_advice(image_file::SKIP)),
        Some(Err(error)) => Err(error),
        None => Ok(Vec::new()),
    }
}

/// Checks that so many bytes can be written to a folder, where the system tells how many can.
fn check_room(folder: &Path, bytes: u64, free: Option<u64>) -> Result<()> {
    match free.filter(|free| *free < bytes) {
        None => Ok(()),
        Some(free) => {
            let [needed, free] = [bytes, free].map(text::bytes);
            let elsewhere = "set CIFAR_ENGINE_CACHE to a folder on another disk";
            Err(Error::file(
                folder,
                format!(
                    "the decoded images need {needed} here, and {free} is free; free some space, {elsewhere}, or \
                     {VARIABLE} to more mebibytes of memory"
                ),
            ))
        }
    }
}

/// Deletes what no run has used for long, and what is left of runs that were killed.
fn delete_unused(folder: &Path, options: &Options) {
    let is_unused = |path: &Path, found: &Metadata| match path.extension().and_then(|end| end.to_str()) {
        Some(ENDING) => found.modified().is_ok_and(|time| time.elapsed().is_ok_and(|age| age > UNUSED)),
        Some("writing") => File::open(path).is_ok_and(|file| file.try_lock().is_ok()),
        _ => false,
    };
    let (mut deleted, mut bytes) = (0, 0);
    for path in fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()) {
        let Ok(found) = fs::symlink_metadata(&path) else { continue };
        if found.is_file() && is_unused(&path, &found) && fs::remove_file(&path).is_ok() {
            (deleted, bytes) = (deleted + 1, bytes + found.len());
        }
    }
    if deleted > 0 {
        options.watch.note(&format!(
            "deleted: {} of decoded images in {}, of {}, which no run used for 30 days or finished",
            text::counted(deleted, "file"),
            folder.display(),
            text::bytes(bytes)
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_without_room_is_named_with_what_is_needed() {
        let folder = Path::new("cache/decoded");
        check_room(folder, 5_000_000_000, Some(5_000_000_000)).unwrap();
        check_room(folder, 5_000_000_000, None).unwrap();
        let error = check_room(folder, 5_000_000_000, Some(4_999_999_999)).unwrap_err().to_string();
        for part in ["decoded: the decoded images need 5.0 GB here", "CIFAR_ENGINE_CACHE", VARIABLE] {
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn a_name_depends_on_names_lengths_times_and_size() {
        let dir = tempfile::tempdir().unwrap();
        let [one, other] = ["one", "other"].map(|name| dir.path().join(name));
        let write = |text: &str, seconds| {
            std::fs::write(&one, text).unwrap();
            let file = File::options().write(true).open(&one).unwrap();
            file.set_modified(UNIX_EPOCH + Duration::from_secs(seconds)).unwrap();
        };
        let key = |paths: &[&PathBuf], size| key(dir.path(), paths, size);
        write("x", 1);
        let mut known = std::collections::BTreeSet::from([key(&[&one], 8)]);
        assert!(!known.insert(key(&[&one], 8)));
        assert!(known.insert(key(&[&one], 9)) && known.insert(key(&[&one, &other], 8)));
        write("xx", 1);
        assert!(known.insert(key(&[&one], 8)));
        write("xx", 2);
        assert!(known.insert(key(&[&one], 8)));
        std::fs::rename(&one, &other).unwrap();
        assert!(known.insert(key(&[&other], 8)));
    }
}
