//! Pictures and labels: where they come from, and how they lie in memory.
//!
//! [`load`] turns a [`Source`] into a [`Dataset`]: the official CIFAR-10 files ([`cifar10`], fetched by
//! [`download`] when allowed), the built-in synthetic set ([`shapes`]), or a folder of pictures
//! ([`folder`], decoded by [`picture`]). Whatever the source, pictures end up as bytes in one flat block,
//! so that the rest of the program never learns where they came from.

use std::fmt;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::atomic::AtomicBool;

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use crate::environment;
use crate::error::{Error, Result, printable};
use crate::kernels::rng::{self, Stream};

pub(crate) mod cache;
pub mod cifar10;
pub mod download;
pub mod folder;
pub mod picture;
pub mod shapes;

/// Colour channels of every picture: red, green, blue.
pub const CHANNELS: usize = 3;

/// Side of a picture in pixels where no other is asked for.
pub const DEFAULT_SIZE: usize = 32;

/// Sides that [`load`] accepts; more than the upper bound is a typing error, not a picture size.
pub const SIZES: RangeInclusive<usize> = 8..=1024;

/// How many classes data may have; more than the upper bound is another kind of folder.
pub const CLASSES: RangeInclusive<usize> = 2..=10_000;

/// A class name goes into reports, pictures and weight files: it must be short and printable.
fn check_class_name(name: &str) -> std::result::Result<(), String> {
    const MOST: usize = 100;
    if name.chars().count() > MOST {
        return Err(format!("a class name of more than {MOST} characters; shorten it"));
    }
    match printable(name) == name {
        true => Ok(()),
        false => Err(format!("the class name {name} has control characters; rename it")),
    }
}

/// The own name of a folder or archive, also where the path ends in `.` or `..`. One that is called like a
/// built-in source does not get to pass for it.
fn name_of(path: &Path) -> String {
    let full = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    let name = full.file_name().map_or_else(|| "pictures".into(), |name| name.to_string_lossy());
    if matches!(&*name, "cifar10" | "shapes") {
        format!("{name}-files")
    } else {
        printable(&name).into_owned()
    }
}

/// Square colour pictures with a class each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Images {
    /// `[len, size, size, 3]` row-major: 8-bit red, green and blue of a pixel lie side by side.
    pub pixels: Vec<u8>,
    /// `[len]`: index into [`Dataset::classes`].
    pub labels: Vec<u32>,
    /// Width and height of every picture in pixels.
    pub size: usize,
}

impl Images {
    /// `n` black pictures of class 0.
    pub fn black(n: usize, size: usize) -> Images {
        Images { pixels: vec![0; n * size * size * CHANNELS], labels: vec![0; n], size }
    }

    /// Number of pictures.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is no picture at all.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Bytes of one picture: `size * size * 3`.
    pub fn stride(&self) -> usize {
        self.size * self.size * CHANNELS
    }

    /// Picture `i` as `[size, size, 3]`.
    ///
    /// # Panics
    /// If `i >= self.len()`, as slice indexing does.
    pub fn image(&self, i: usize) -> &[u8] {
        &self.pixels[i * self.stride()..(i + 1) * self.stride()]
    }

    /// Copies of the pictures at `indices`, in that order (an index may occur twice).
    ///
    /// # Panics
    /// If an index is out of range, as slice indexing does.
    pub fn subset(&self, indices: &[u32]) -> Images {
        let mut pixels = Vec::with_capacity(indices.len() * self.stride());
        for &i in indices {
            pixels.extend_from_slice(self.image(i as usize));
        }
        let labels = indices.iter().map(|&i| self.labels[i as usize]).collect();
        Images { pixels, labels, size: self.size }
    }

    /// Takes `n` pictures out, a random choice that depends on `seed` only, and returns them. Both parts keep
    /// the stored order. No second copy of the pictures that stay is made.
    ///
    /// # Errors
    /// If no picture would be left.
    pub fn split_validation(&mut self, n: usize, seed: u32) -> Result<Images> {
        let len = self.len();
        if n >= len {
            return Err(Error::Usage(format!(
                "cannot set {n} pictures aside for validation: there are {len} training pictures"
            )));
        }
        let mut order = rng::permutation(len, seed, Stream::Split, 0);
        let (taken, kept) = order.split_at_mut(n);
        taken.sort_unstable();
        kept.sort_unstable();
        let part = self.subset(taken);
        let stride = self.stride();
        for (to, &from) in kept.iter().enumerate() {
            let from = from as usize;
            self.pixels.copy_within(from * stride..(from + 1) * stride, to * stride);
            self.labels[to] = self.labels[from];
        }
        self.pixels.truncate(kept.len() * stride);
        self.labels.truncate(kept.len());
        Ok(part)
    }

    /// The same pictures with left and right exchanged.
    pub fn mirrored(&self) -> Images {
        let mut pixels = self.pixels.clone();
        for row in pixels.chunks_exact_mut((self.size * CHANNELS).max(1)) {
            let (pixels, _) = row.as_chunks_mut::<CHANNELS>();
            pixels.reverse();
        }
        Images { pixels, labels: self.labels.clone(), size: self.size }
    }

    /// SHA-256 of pixels and labels, in hexadecimal: tells whether these are the same pictures as before.
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(&self.pixels);
        self.labels.iter().for_each(|label| hash.update(label.to_le_bytes()));
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The same pictures scaled to `size` x `size`; unchanged (not even copied) if they have that size.
    ///
    /// # Errors
    /// If the scaled pictures do not fit into memory.
    pub fn resized(self, size: usize) -> Result<Images> {
        if size == self.size {
            return Ok(self);
        }
        let mut pixels = allocate(self.len(), size)?;
        pixels
            .par_chunks_mut(size * size * CHANNELS)
            .zip(self.pixels.par_chunks(self.stride()))
            .try_for_each(|(to, from)| {
                picture::resize_square(from, self.size, size).map(|p| to.copy_from_slice(&p))
            })?;
        Ok(Images { pixels, labels: self.labels, size })
    }

    /// How many pictures each of `classes` classes has: `[classes]`.
    pub fn counts(&self, classes: usize) -> Vec<usize> {
        let mut counts = vec![0; classes];
        for &label in &self.labels {
            if let Some(count) = counts.get_mut(label as usize) {
                *count += 1;
            }
        }
        counts
    }
}

/// Zeroed room for `n` pictures. Where the system refuses that much memory, this is an error rather than an
/// abort; a system that promises more than it has may still end the program later.
fn allocate(n: usize, size: usize) -> Result<Vec<u8>> {
    let bytes = n.saturating_mul(size * size * CHANNELS);
    let mut pixels = Vec::new();
    pixels.try_reserve_exact(bytes).map_err(|_| {
        Error::Failed(format!(
            "{n} pictures of {size}x{size} need {} MB of memory; choose a smaller size",
            bytes >> 20
        ))
    })?;
    pixels.resize(bytes, 0);
    Ok(pixels)
}

/// A training and a test set over the same classes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dataset {
    /// What a report calls the data: `cifar10` for what has its form in full, `shapes`, or the own name of
    /// the folder or archive.
    pub name: String,
    /// Class names; a label is an index into them.
    pub classes: Vec<String>,
    /// To train on.
    pub train: Images,
    /// To report the final accuracy on, and for nothing else.
    pub test: Images,
    /// Anything about how the data was obtained that a reader of the results must know.
    pub note: Option<String>,
    /// The pictures that were left out because they cannot be read, a line each.
    pub skipped: Vec<String>,
}

impl Dataset {
    fn resized(self, size: usize) -> Result<Dataset> {
        Ok(Dataset { train: self.train.resized(size)?, test: self.test.resized(size)?, ..self })
    }
}

/// What to train on, as given on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// CIFAR-10 where it is cached or can be fetched; [`Source::Shapes`] with a loud warning where it is
    /// absent and the network does not deliver it or may not be used.
    Auto,
    /// CIFAR-10 from the cache or the network, or an error.
    Cifar10,
    /// The built-in synthetic pictures.
    Shapes,
    /// CIFAR-10 binary files (their folder, its parent, or the archive), or a folder of class folders.
    Path(PathBuf),
}

impl FromStr for Source {
    type Err = Error;

    /// `auto`, `cifar10`, `shapes`; anything else is a path (write `./shapes` for a folder of that name).
    fn from_str(text: &str) -> Result<Source> {
        match text {
            "" => Err(Error::Usage("empty data source: give auto, cifar10, shapes or a path".into())),
            "auto" => Ok(Source::Auto),
            "cifar10" => Ok(Source::Cifar10),
            "shapes" => Ok(Source::Shapes),
            path => Ok(Source::Path(PathBuf::from(path))),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Auto => f.write_str("auto"),
            Source::Cifar10 => f.write_str("cifar10"),
            Source::Shapes => f.write_str("shapes"),
            Source::Path(path) => write!(f, "{}", path.display()),
        }
    }
}

/// How to obtain the data; [`Options::default`] reads the environment.
#[derive(Clone, Debug)]
pub struct Options<'a> {
    /// Side of the pictures in pixels; `None` is [`DEFAULT_SIZE`].
    pub image_size: Option<usize>,
    /// Where downloads are kept. Default: `CIFAR_ENGINE_CACHE`, or the user's cache folder, if there is one.
    pub cache: Option<PathBuf>,
    /// Where to fetch CIFAR-10 from and what it must look like. `CIFAR_ENGINE_MIRRORS` (URLs apart by
    /// spaces or commas; one that ends in `/` gets the file name appended) replaces the addresses.
    pub remote: download::Remote,
    /// Make no network attempt. Default: whether `CIFAR_ENGINE_OFFLINE` is on, that is, set to anything but `0`,
    /// `false`, `no` or `off`.
    pub offline: bool,
    /// No progress display. The warning about a fallback is printed all the same.
    pub quiet: bool,
    /// What the synthetic pictures depend on.
    pub shapes_seed: u32,
    /// Load no training pictures: `train` is empty.
    pub test_only: bool,
    /// Leave out pictures that cannot be read, instead of an error.
    pub skip_bad: bool,
    /// Set from elsewhere (Ctrl-C) to give up a download; what was received is kept for the next run.
    pub stop: Option<&'a AtomicBool>,
}

impl Default for Options<'_> {
    fn default() -> Self {
        let mut remote = cifar10::remote();
        if let Some(list) = environment::text("CIFAR_ENGINE_MIRRORS") {
            remote.urls = mirrors(&list, &remote.file_name);
        }
        Options {
            image_size: None,
            cache: cache::default_folder(),
            remote,
            offline: environment::is_on("CIFAR_ENGINE_OFFLINE"),
            quiet: false,
            shapes_seed: 0,
            test_only: false,
            skip_bad: false,
            stop: None,
        }
    }
}

fn mirrors(list: &str, file_name: &str) -> Vec<String> {
    list.split([' ', ',', '\t', '\n'])
        .filter(|url| !url.is_empty())
        .map(|url| if url.ends_with('/') { format!("{url}{file_name}") } else { url.to_string() })
        .collect()
}

/// Obtains the pictures of `source` at the size asked for.
///
/// # Errors
/// A picture size out of range; data that is missing, malformed or cannot be fetched. Only
/// [`Source::Auto`] replaces data that is absent and cannot be fetched. Data that is there but broken, and a
/// cache that cannot be written, are errors for it too.
pub fn load(source: &Source, options: &Options) -> Result<Dataset> {
    let size = options.image_size.unwrap_or(DEFAULT_SIZE);
    if !SIZES.contains(&size) {
        return Err(Error::Usage(format!(
            "image size {size}: choose {} to {} pixels",
            SIZES.start(),
            SIZES.end()
        )));
    }
    let shapes = || shapes::dataset(size, options.shapes_seed, options.test_only);
    let from_path = |path: &Path| from_path(path, size, options);
    match source {
        Source::Shapes => shapes(),
        Source::Path(path) => from_path(path),
        Source::Cifar10 => match locate_cifar10(options) {
            Ok(path) => from_path(&path),
            Err(Error::Interrupted) => Err(Error::Interrupted),
            Err(why) => Err(unavailable(&why, options)),
        },
        Source::Auto => match locate_cifar10(options) {
            Ok(path) => from_path(&path),
            Err(Error::Interrupted) => Err(Error::Interrupted),
            Err(why @ Error::File { .. }) => Err(unavailable(&why, options)),
            Err(why) => {
                fallback_warning(&why, options).lines().for_each(crate::console::note);
                let note =
                    "CIFAR-10 could not be had; built-in synthetic shapes are used instead".to_string();
                Ok(Dataset { note: Some(note), ..shapes()? })
            }
        },
    }
}

/// The folder or archive that holds CIFAR-10, downloaded if it is neither cached nor forbidden to.
///
/// # Errors
/// [`Error::File`] where something on this machine is wrong: a broken archive that the network does not
/// replace, a cache that cannot be written. [`Error::Failed`] where CIFAR-10 is just not to be had.
fn locate_cifar10(options: &Options) -> Result<PathBuf> {
    let cache = cache::folder(&options.cache)?;
    if let Some(folder) = cifar10::find_folder(cache) {
        cifar10::files(&folder).chain([folder.clone()]).try_for_each(|path| cache::check_own(&path))?;
        return Ok(folder);
    }
    let archive = cache.join(&options.remote.file_name);
    cache::check_own(&archive)?;
    if options.remote.is_complete(&archive) {
        return Ok(archive);
    }
    let fetched = if options.offline {
        Err(Error::Failed("not in the cache, and offline mode is on (CIFAR_ENGINE_OFFLINE)".into()))
    } else {
        let watch = download::Watch { quiet: options.quiet, stop: options.stop };
        download::fetch(&options.remote, cache, &watch)
    };
    match (fetched, std::fs::symlink_metadata(&archive)) {
        // A half-copied file: who put it there wants CIFAR-10 and must learn that this is not it.
        (Err(Error::Failed(why)), Ok(found)) => {
            let (has, expected) = (found.len(), options.remote.bytes);
            let what = if found.is_file() { format!("has {has} bytes") } else { "is no file".into() };
            Err(Error::file(
                &archive,
                format!("{what}, expected {expected} bytes; delete it or replace it ({why})"),
            ))
        }
        (fetched, _) => fetched,
    }
}

fn from_path(path: &Path, size: usize, options: &Options) -> Result<Dataset> {
    if path.is_file() {
        cifar10::load_archive(path, options.test_only)?.resized(size)
    } else if let Some(batches) = cifar10::find_folder(path) {
        cifar10::load_folder(&batches, options.test_only)?.resized(size)
    } else if path.is_dir() {
        folder::load(path, size, options.test_only, options.skip_bad)
    } else {
        Err(Error::file(path, "no such file or folder (the data is auto, cifar10, shapes or a path)"))
    }
}

fn unavailable(why: &Error, options: &Options) -> Error {
    // What is wrong with the cache itself has its own remedy, and is not mended by placing more there.
    let place = match why {
        Error::File { .. } => String::new(),
        _ => format!("{}, or ", placing(options)),
    };
    Error::Failed(format!(
        "CIFAR-10 could not be had ({why}): {place}use --data PATH (the archive, its folder, or a folder of pictures), \
         or --data shapes (built-in synthetic pictures)"
    ))
}

/// How CIFAR-10 gets into the cache without a network.
fn placing(options: &Options) -> String {
    match &options.cache {
        Some(cache) => format!("place {} in {}", options.remote.file_name, cache.display()),
        None => "set CIFAR_ENGINE_CACHE".into(),
    }
}

/// Boxed, so that nobody mistakes the figures of a synthetic run for those of CIFAR-10.
fn fallback_warning(why: &Error, options: &Options) -> String {
    let rule = "*".repeat(78);
    let why = why.to_string().replace("; ", "\n**    "); // a line for each mirror
    format!(
        "\n{rule}\n**\n**  WARNING: THIS IS NOT CIFAR-10\n**\n\
         **  CIFAR-10 could not be had:\n**    {why}\n**\n\
         **  Going on with \"shapes\", synthetic pictures drawn by this program. They are\n\
         **  easier than CIFAR-10; an accuracy on them says nothing about CIFAR-10.\n**\n\
         **  To train on CIFAR-10, {}\n\
         **  or give --data PATH; --data shapes silences this warning.\n**\n{rule}\n",
        placing(options).replace(" in ", " in\n**    "),
    )
}

#[cfg(test)]
mod tests;
