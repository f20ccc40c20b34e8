//! Images that are too many for memory, decoded or scaled, in a file of the cache folder.
//!
//! Its name is a digest of all that decides its bytes: of a folder the files' names, lengths and
//! times, of images in memory, as those of CIFAR-10, themselves; the size, and what decodes them.
//! So a second run finds it, and a folder that was changed has another one. It holds the pixels,
//! image by image, of a folder in the order of the files' names; behind them a checksum of each
//! image, by which every reading is checked ([`super::pixels`]), and, as JSON, which could not be
//! read; then the length of these two, and a sign that it is whole.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::pixels::{Pixels, PositionedFile, RecordFile, Records, checksum};
use super::turn::{self, Turn};
use super::watch::ImageProgress;
use super::{CHANNELS, Images, Options, cache, image_file};
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
const WHOLE: &[u8; 8] = b"decoded2";

/// The images of a folder, in a file.
pub(super) struct DecodedFolder<'a> {
    file: Arc<RecordFile>,
    /// By their place in the file.
    paths: Vec<&'a PathBuf>,
    /// What is wrong with those that could not be read, by their place.
    bad: Bad,
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
        let count = paths.len();
        if bytes_of(count, size) <= most_in_memory(options)? {
            return Ok(None);
        }
        let mut sorted = paths.to_vec();
        sorted.sort_unstable();
        let name = || Ok(key(dir, &sorted, size));
        let made =
            made(name, (count, size), options, |writer| decode(writer, (paths, &sorted), size, options))?;
        Ok(made.map(|(file, bad)| DecodedFolder { file, paths: sorted, bad }))
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

/// The same images scaled to a size: in a file, where all that are loaded with them are `all` of
/// that size and too many for memory.
///
/// # Errors
/// If the file cannot be written or the images not be read, or the progress is told to stop.
pub(super) fn scaled(
    images: Images,
    size: usize,
    (all, options): (usize, &Options),
    progress: &ImageProgress,
) -> Result<Images> {
    let few = bytes_of(all, size) <= most_in_memory(options)?;
    if few || images.is_empty() || images.size == size {
        return images.resized(size, progress);
    }
    let name = || Ok(hashed(format!("{DECODER} {size} {}\n", images.digest()?)));
    let made = made(name, (images.len(), size), options, |writer| {
        (0..images.len()).into_par_iter().try_for_each(|i| {
            progress.one()?;
            writer.put(i, &image_file::resize_square(&images.image(i)?, images.size, size)?)
        })?;
        Ok(BTreeMap::new())
    })?;
    let Some((file, _)) = made else { return images.resized(size, progress) };
    let numbers = (0..images.len() as u32).collect();
    Ok(Images { pixels: Pixels::File(Records::new(file, numbers)), size, ..images })
}

fn bytes_of(images: usize, size: usize) -> u64 {
    images as u64 * (size * size * CHANNELS) as u64
}

/// What is wrong with images that cannot be read, by their place in a file.
type Bad = BTreeMap<u32, String>;

/// A file of so many images of a size: found under a name in the cache folder, or made by `fill`;
/// none where there is no cache folder.
fn made(
    name: impl FnOnce() -> Result<String>,
    (count, size): (usize, usize),
    options: &Options,
    fill: impl FnOnce(&Writer) -> Result<Bad>,
) -> Result<Option<(Arc<RecordFile>, Bad)>> {
    let bytes = bytes_of(count, size);
    let shown = text::bytes(bytes);
    let Some(folder) = options.cache.as_deref().map(folder) else {
        options.watch.warn(&format!(
            "warning: the decoded images take {shown} of memory: there is no cache folder to keep them in; set \
             CIFAR_ENGINE_CACHE to one"
        ));
        return Ok(None);
    };
    let path = folder.join(format!("{}.{ENDING}", name()?));
    let mut found = find(&path, (count, bytes))?;
    let mut turn = None;
    if found.is_none() {
        fs::create_dir_all(&folder).map_err(|error| Error::file(&folder, cache::advice(&error)))?;
        turn = Some(Turn::take(&path, options.watch)?);
        // Another process may have written it meanwhile.
        found = find(&path, (count, bytes))?;
    }
    if found.is_some() {
        options.watch.note(&format!("decoded images: {shown}, found in {}", path.display()));
    } else {
        delete_unused(&folder, options);
        check_room(&folder, bytes, free_space(&folder))?;
        options.watch.note(&format!("decoded images: {shown}, written to {}", path.display()));
        write(&path, (count, size), fill)?;
        found = find(&path, (count, bytes))?;
    }
    drop(turn);
    let (file, End { sums, bad }) =
        found.ok_or_else(|| Error::file(&path, "was deleted by another program; begin again"))?;
    let stride = size * size * CHANNELS;
    Ok(Some((Arc::new(RecordFile { file: PositionedFile::new(file), path, stride, sums }), bad)))
}

/// The folder of these files in a cache folder.
fn folder(cache: &Path) -> PathBuf {
    cache.join("decoded")
}

/// The folder of these files in a cache folder, how many there are, and their bytes.
pub fn kept(cache: &Path) -> (PathBuf, usize, u64) {
    let folder = folder(cache);
    let files = fs::read_dir(&folder).into_iter().flatten().flatten();
    let sizes = files.filter_map(|entry| Some(entry.metadata().ok()?.len()));
    let (count, bytes) = sizes.fold((0, 0), |(count, bytes), size| (count + 1, bytes + size));
    (folder, count, bytes)
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
    short(hash)
}

fn hashed(text: String) -> String {
    short(Sha256::new_with_prefix(text))
}

/// As much of a digest as a file is named after.
fn short(hash: Sha256) -> String {
    text::hex(hash)[..32].to_string()
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

/// What stands behind the pixels.
struct End {
    /// A checksum of each image.
    sums: Vec<u32>,
    bad: Bad,
}

/// The file, if it is there, whole and for so many images and bytes of pixels. It counts as used.
///
/// # Errors
/// If it is another user's, or cannot be read.
fn find(path: &Path, images: (usize, u64)) -> Result<Option<(File, End)>> {
    cache::check_own(path)?;
    let opened = match File::open(path) {
        // What is wrong with a cache folder that is none shows when it is made.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        opened => opened.and_then(|file| Ok((read_end(&file, images)?, file))),
    };
    let (end, file) = opened.map_err(|error| {
        let problem = match error.kind() {
            io::ErrorKind::PermissionDenied => {
                format!("cannot be read ({error}); set CIFAR_ENGINE_CACHE to a folder of your own")
            }
            _ => format!("cannot be read ({error}); delete it"),
        };
        Error::file(path, problem)
    })?;
    // Where that cannot be, it is deleted the sooner.
    let _ = File::options().write(true).open(path).and_then(|file| file.set_modified(SystemTime::now()));
    Ok(end.map(|end| (file, end)))
}

/// What a whole file says behind its pixels.
fn read_end(file: &File, (images, pixels): (usize, u64)) -> io::Result<Option<End>> {
    let (all, file) = (file.metadata()?.len(), PositionedFile::new(file.try_clone()?));
    let mut end = [0; 16];
    let Some(at) = all.checked_sub(16).filter(|at| *at >= pixels + 4 * images as u64) else {
        return Ok(None);
    };
    file.read(&mut end, at)?;
    let (length, sign) = end.split_at(8);
    if sign != WHOLE || length != (at - pixels).to_le_bytes() {
        return Ok(None);
    }
    let mut behind = vec![0; (at - pixels) as usize];
    file.read(&mut behind, pixels)?;
    let (sums, json) = behind.split_at(4 * images);
    let sums = sums.as_chunks().0.iter().map(|sum| u32::from_le_bytes(*sum)).collect();
    Ok(serde_json::from_slice(json).ok().map(|bad| End { sums, bad }))
}

/// A file while it is filled, by any number of threads.
struct Writer<'a> {
    path: &'a Path,
    file: PositionedFile,
    /// Bytes of an image.
    stride: usize,
    sums: Vec<AtomicU32>,
}

impl Writer<'_> {
    /// Writes an image to its place.
    fn put(&self, place: usize, pixels: &[u8]) -> Result<()> {
        self.sums[place].store(checksum(pixels), Ordering::Relaxed);
        self.file.write(pixels, (place * self.stride) as u64).map_err(|error| self.full(&error))
    }

    /// Writes what stands behind the pixels.
    fn end(&self, bad: &Bad) -> Result<()> {
        let sums = self.sums.iter().flat_map(|sum| sum.load(Ordering::Relaxed).to_le_bytes());
        let json = serde_json::to_vec(bad).map_err(|error| Error::file(self.path, error))?;
        let behind: Vec<u8> = sums.chain(json).collect();
        let end = [&behind[..], &(behind.len() as u64).to_le_bytes(), WHOLE].concat();
        self.file.write(&end, (self.stride * self.sums.len()) as u64).map_err(|error| self.full(&error))
    }

    fn full(&self, error: &io::Error) -> Error {
        let needed = text::bytes((self.stride * self.sums.len()) as u64);
        let problem = format!("{}; the decoded images need {needed} there", cache::advice(error));
        Error::file(self.path, problem)
    }
}

/// Makes a file of so many images of a size, of which `fill` puts each to its place.
fn write(
    path: &Path,
    (count, size): (usize, usize),
    fill: impl FnOnce(&Writer) -> Result<Bad>,
) -> Result<()> {
    let mut failed = None;
    let written = write_atomic(path, |file| {
        let file = PositionedFile::new(file.get_ref().try_clone()?);
        let sums = (0..count).map(|_| AtomicU32::new(0)).collect();
        let writer = Writer { path, file, stride: size * size * CHANNELS, sums };
        fill(&writer).and_then(|bad| writer.end(&bad)).map_err(|error| {
            failed = Some(error);
            io::Error::other("the images are not all there")
        })
    });
    failed.map_or(written, Err)
}

/// Decodes images, with one in memory for each thread, each to its place among the sorted ones.
fn decode(
    writer: &Writer,
    (paths, sorted): (&[&PathBuf], &[&PathBuf]),
    size: usize,
    options: &Options,
) -> Result<Bad> {
    let progress = ImageProgress::new(options.watch, "decoding", paths.len());
    let place = |path: &PathBuf| sorted.binary_search(&path).unwrap_or(usize::MAX);
    let decode = |path: &&PathBuf| {
        progress.one()?;
        match image_file::load(path, size) {
            Ok(image) => writer.put(place(path), &image.pixels).map(|()| None),
            Err(bad) => Ok(Some(bad)),
        }
    };
    let problems = problems(paths.par_iter(), options.skip_bad, decode)?;
    let bad = paths.iter().zip(problems).filter_map(|(path, problem)| {
        let Some(Error::File { problem, .. }) = problem else { return None };
        Some((place(path) as u32, problem))
    });
    Ok(bad.collect())
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
        Some("writing" | turn::ENDING) => File::open(path).is_ok_and(|file| file.try_lock().is_ok()),
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
    fn of_several_that_need_a_file_one_makes_it() {
        let (dir, made_by) = (tempfile::tempdir().unwrap(), AtomicU32::new(0));
        let options = Options { cache: Some(dir.path().to_path_buf()), ..Options::default() };
        let fill = |writer: &Writer| {
            made_by.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(300));
            writer.put(0, &[7; CHANNELS]).map(|()| Bad::new())
        };
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| made(|| Ok("one".into()), (1, 1), &options, fill).unwrap().unwrap());
            }
        });
        assert_eq!(made_by.into_inner(), 1);
        let left = fs::read_dir(folder(dir.path())).unwrap().map(|entry| entry.unwrap().file_name());
        assert_eq!(left.collect::<Vec<_>>(), ["one.images"]);
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
