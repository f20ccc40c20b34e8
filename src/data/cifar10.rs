//! CIFAR-10 in its official binary form: a folder of batch files, or the archive they come in.
//!
//! A record is one label byte and 3072 pixel bytes: the red, the green and the blue plane of a
//! 32x32 image, row by row. Five files make the training set, a sixth the test set. Krizhevsky,
//! "Learning Multiple Layers of Features from Tiny Images" (2009).

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use flate2::bufread::MultiGzDecoder;

use super::names::{check_class_name, name_of};
use super::{CHANNELS, Dataset, Images, download::Remote};
use crate::error::{Error, Result};
use crate::text::bytes;

/// The ten classes in label order.
pub const CLASSES: [&str; 10] =
    ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

const SIZE: usize = 32;
const PLANE: usize = SIZE * SIZE;
const RECORD: usize = 1 + CHANNELS * PLANE;
/// Records of an official batch file; smaller sets in the same layout are welcome, larger ones are
/// not it.
const MAX_RECORDS: usize = 10_000;

const FOLDER: &str = "cifar-10-batches-bin";
const META: &str = "batches.meta.txt";
const MAX_META: u64 = 4096;
const BATCHES: [&str; 6] = [
    "data_batch_1.bin",
    "data_batch_2.bin",
    "data_batch_3.bin",
    "data_batch_4.bin",
    "data_batch_5.bin",
    "test_batch.bin",
];

/// Unpacked bytes read from an archive before it is taken for a decompression bomb; the official
/// one holds 184 MB.
const MAX_UNPACKED: u64 = 512 << 20;

/// The official archive and the places it is known to be at.
pub fn remote() -> Remote {
    Remote {
        file_name: "cifar-10-binary.tar.gz".into(),
        urls: vec![
            "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz".into(),
            "https://storage.googleapis.com/s4tf-hosted-binaries/datasets/CIFAR10/cifar-10-binary.tar.gz"
                .into(),
        ],
        bytes: 170_052_171,
        sha256: Some("c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd".into()),
        connect_timeout: Duration::from_secs(5),
        stall_timeout: Duration::from_secs(20),
    }
}

/// The folder with the batch files: `dir` itself or its `cifar-10-batches-bin`, if one of them
/// holds any.
pub fn find_folder(dir: &Path) -> Option<PathBuf> {
    [dir.to_path_buf(), dir.join(FOLDER)]
        .into_iter()
        .find(|d| BATCHES.iter().any(|name| d.join(name).is_file()))
}

/// Where the files of such a folder are, if they are there.
pub(super) fn files(folder: &Path) -> impl Iterator<Item = PathBuf> {
    BATCHES.iter().chain([&META]).map(move |name| folder.join(name))
}

/// Reads the six batch files (and the class names, if they are there) of `dir`; of the five with
/// training images only the sizes, if `test_only`.
///
/// The result is called `cifar10` only where it can be CIFAR-10: all files of the official size and
/// the official class names. Otherwise it has the name of its folder.
///
/// # Errors
/// A missing file, one whose size is no whole number of records, or a label above 9; names the file
/// and the record. Class names that are not ten different ones of a sensible length.
pub fn load_folder(dir: &Path, test_only: bool) -> Result<Dataset> {
    let mut parts = BatchParts::default();
    for (i, name) in BATCHES.into_iter().enumerate() {
        let path = dir.join(name);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(missing(dir, name)),
            Err(e) => return Err(Error::file(&path, e)),
        };
        let found = file.metadata().map_err(|e| Error::file(&path, e))?;
        if !found.is_file() {
            return Err(Error::file(&path, "not a file; expected a batch of images"));
        }
        parts.read(i, test_only, file, found.len(), &path)?;
    }
    let meta = dir.join(META);
    if meta.is_file() {
        let file = File::open(&meta).map_err(|e| Error::file(&meta, e))?;
        parts.classes = Some(read_classes(file, &meta)?);
    }
    parts.assemble(dir)
}

/// Reads the official `.tar.gz` (a plain `.tar` will do) without unpacking it to disk.
///
/// # Errors
/// As [`load_folder`]; also a file that is no such archive, is damaged, or unpacks to far too much.
pub fn load_archive(path: &Path, test_only: bool) -> Result<Dataset> {
    let open = || File::open(path).map(BufReader::new).map_err(|e| Error::file(path, e));
    let mut magic = Vec::new();
    open()?.take(512).read_to_end(&mut magic).map_err(|e| Error::file(path, e))?;
    if magic.starts_with(&[0x1f, 0x8b]) {
        read_archive(MultiGzDecoder::new(open()?), path, test_only)
    } else if magic.get(257..262) == Some(b"ustar") {
        read_archive(open()?, path, test_only)
    } else {
        Err(Error::file(path, "not a CIFAR-10 archive (expected cifar-10-binary.tar.gz)"))
    }
}

fn read_archive(stream: impl Read, path: &Path, test_only: bool) -> Result<Dataset> {
    let damaged = |e: io::Error| Error::file(path, format!("damaged archive: {e}"));
    let mut parts = BatchParts::default();
    let mut archive = tar::Archive::new(stream.take(MAX_UNPACKED));
    for entry in archive.entries().map_err(damaged)? {
        let entry = entry.map_err(damaged)?;
        let name =
            entry.path().ok().and_then(|p| Some(p.file_name()?.to_str()?.to_string())).unwrap_or_default();
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let inside = path.join(&name);
        let length = entry.size();
        if name == META {
            parts.classes = Some(read_classes(entry, &inside)?);
        } else if let Some(i) = BATCHES.iter().position(|batch| *batch == name) {
            if parts.batches[i].is_some() {
                return Err(Error::file(&inside, "occurs twice in the archive"));
            }
            parts.read(i, test_only, entry, length, &inside)?;
        }
    }
    // The checksum of a gzip stream follows its last byte; reading to the end is what checks it.
    let mut rest = archive.into_inner();
    io::copy(&mut rest, &mut io::sink()).map_err(damaged)?;
    if rest.limit() == 0 {
        return Err(Error::file(path, format!("unpacks to more than {}: not CIFAR-10", bytes(MAX_UNPACKED))));
    }
    parts.assemble(path)
}

/// Batches that were found so far, in the order of [`BATCHES`].
#[derive(Default)]
struct BatchParts {
    /// The images of a batch; none of them where it was passed over.
    batches: [Option<Images>; 6],
    /// How many images it has.
    records: [usize; 6],
    classes: Option<Vec<String>>,
}

/// The test set is the last of [`BATCHES`].
const TEST: usize = BATCHES.len() - 1;

impl BatchParts {
    fn read(&mut self, i: usize, test_only: bool, source: impl Read, length: u64, path: &Path) -> Result<()> {
        self.records[i] = records(length, path)?;
        let skipped = test_only && i != TEST;
        self.batches[i] = Some(if skipped { Images::default() } else { read_batch(source, length, path)? });
        Ok(())
    }

    fn assemble(self, source: &Path) -> Result<Dataset> {
        let complete = self.records == [MAX_RECORDS; 6];
        let (mut pixels, mut labels) = (Vec::new(), Vec::new());
        let mut test = Images::default();
        // All of it at once: a block that grows is copied again and again.
        let images = self.batches[..TEST].iter().flatten().map(Images::len).sum::<usize>();
        pixels.reserve_exact(images * CHANNELS * PLANE);
        for (i, (batch, name)) in self.batches.into_iter().zip(BATCHES).enumerate() {
            let batch = batch.ok_or_else(|| missing(source, name))?;
            if i == TEST {
                test = batch;
            } else {
                pixels.extend_from_slice(&batch.pixels.bytes()?);
                labels.extend(batch.labels);
            }
        }
        let train = Images { pixels: pixels.into(), labels, size: SIZE, files: Vec::new() };
        let classes = self.classes.unwrap_or_else(|| CLASSES.map(String::from).to_vec());
        let official = complete && classes == CLASSES;
        let name = if official { "cifar10".into() } else { name_of(source) };
        Ok(Dataset { name, classes, train, test, ..Dataset::default() })
    }
}

fn missing(source: &Path, name: &str) -> Error {
    let what = if source.is_dir() { "missing" } else { "missing from the archive" };
    Error::file(source.join(name), format!("{what}; CIFAR-10 (binary version) is {}", BATCHES.join(", ")))
}

/// How many records a file of `length` bytes holds.
fn records(length: u64, path: &Path) -> Result<usize> {
    let records = length / RECORD as u64;
    if length == 0 || !length.is_multiple_of(RECORD as u64) || records > MAX_RECORDS as u64 {
        return Err(Error::file(
            path,
            format!(
                "{length} bytes are not 1 to {MAX_RECORDS} whole records of {RECORD} bytes (the official files have \
                 {} bytes); truncated?",
                MAX_RECORDS * RECORD
            ),
        ));
    }
    Ok(records as usize)
}

/// Reads `length` bytes, which [`records`] has checked before any is allocated.
fn read_batch(source: impl Read, length: u64, path: &Path) -> Result<Images> {
    let mut bytes = Vec::with_capacity(length as usize);
    source.take(length).read_to_end(&mut bytes).map_err(|e| Error::file(path, e))?;
    if bytes.len() as u64 != length {
        return Err(Error::file(path, format!("ends after {} of {length} bytes", bytes.len())));
    }
    unpack(&bytes, path)
}

fn unpack(bytes: &[u8], path: &Path) -> Result<Images> {
    let records = bytes.len() / RECORD;
    let mut pixels = Vec::with_capacity(records * CHANNELS * PLANE);
    let mut labels = Vec::with_capacity(records);
    for (i, record) in bytes.chunks_exact(RECORD).enumerate() {
        let (label, planes) = (record[0], &record[1..]);
        if usize::from(label) >= CLASSES.len() {
            return Err(Error::file(
                path,
                format!("record {i} (of {records}, from 0) has label {label}, expected 0 to 9"),
            ));
        }
        labels.push(u32::from(label));
        let (red, rest) = planes.split_at(PLANE);
        let (green, blue) = rest.split_at(PLANE);
        pixels.extend(red.iter().zip(green).zip(blue).flat_map(|((&r, &g), &b)| [r, g, b]));
    }
    Ok(Images { pixels: pixels.into(), labels, size: SIZE, files: Vec::new() })
}

fn read_classes(source: impl Read, path: &Path) -> Result<Vec<String>> {
    let mut bytes = Vec::new();
    source.take(MAX_META + 1).read_to_end(&mut bytes).map_err(|e| Error::file(path, e))?;
    if bytes.len() as u64 > MAX_META {
        return Err(Error::file(
            path,
            format!("too long for a list of class names (limit {MAX_META} bytes)"),
        ));
    }
    let text = String::from_utf8(bytes).map_err(|_| Error::file(path, "not UTF-8 text"))?;
    let names: Vec<String> =
        text.lines().map(str::trim).filter(|l| !l.is_empty()).map(String::from).collect();
    if names.len() != CLASSES.len() {
        return Err(Error::file(path, format!("{} class names, expected {}", names.len(), CLASSES.len())));
    }
    for (i, name) in names.iter().enumerate() {
        check_class_name(name).map_err(|problem| Error::file(path, problem))?;
        if names[..i].contains(name) {
            return Err(Error::file(path, format!("the class name {name} occurs twice")));
        }
    }
    Ok(names)
}
