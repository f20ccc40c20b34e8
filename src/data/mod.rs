//! Images and labels: where they come from, and how they lie in memory.
//!
//! [`load`] turns a [`DataSource`] into a [`Dataset`]: the official CIFAR-10 files ([`cifar10`],
//! fetched by [`download`] when allowed), the built-in synthetic set ([`shapes`]), or a folder of
//! images ([`folder`], listed by [`listing`] and decoded by [`image_file`]). Whatever the source,
//! images end up as bytes of one length each ([`images`]), so that the rest of the program never
//! learns where they came from. They lie in memory or, of a large folder, in a file ([`pixels`])
//! that the cache folder keeps for the next run ([`decoded`]). [`doubles`] finds those that are
//! there twice. What is held back for validation or the test is chosen in [`split`]; what is left
//! out is collected in [`left_out`].

use std::fmt;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use sha2::{Digest, Sha256};

use crate::environment;
use crate::error::{Error, Result, path_text};
use crate::kernels::parallel;
use crate::text;

pub mod balance;
mod budget;
pub(crate) mod cache;
pub mod cifar10;
pub mod decoded;
pub mod doubles;
pub mod download;
pub mod folder;
pub mod image_file;
pub mod images;
mod jpeg;
pub mod left_out;
pub mod listing;
mod names;
mod outputs;
mod parts;
pub mod pixels;
pub mod relabel;
pub mod shapes;
pub mod split;
mod table;
mod turn;
pub mod watch;

pub use images::Images;
pub use names::{check_class_name, composed, read_class_names};
pub use parts::Measured;
pub use pixels::Pixels;

use left_out::LeftOut;
use watch::{ImageProgress, Unwatched, Watch};

/// Colour channels of every image: red, green, blue.
pub const CHANNELS: usize = 3;

/// Side of an image in pixels where no other is asked for.
pub const DEFAULT_SIZE: usize = 32;

/// Sides that [`load`] accepts; more than the upper bound is a typing error, not an image size.
pub const SIZES: RangeInclusive<usize> = 8..=1024;

/// How many classes data may have; more than the upper bound is another kind of folder.
pub const CLASSES: RangeInclusive<usize> = 2..=10_000;

/// Training, validation and test images of the same classes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dataset {
    /// Name of the data in reports: `cifar10` for what has its form in full, `shapes`, or the own
    /// name of the folder or archive.
    pub name: String,
    /// Class names; a label is an index into them.
    pub classes: Vec<String>,
    /// To train on.
    pub train: Images,
    /// To choose the best epoch by. Where the source has none, it is empty until
    /// [`Dataset::split_validation`] takes some of the training images.
    pub validation: Images,
    /// To report the final accuracy on, and for nothing else; empty where the source has none.
    pub test: Images,
    /// Files that were found beside the images that are used.
    pub left_out: LeftOut,
    /// Width and height of the first image before it was scaled, where images are from files.
    pub original: Option<(u32, u32)>,
    /// The folder below which the files of images are.
    pub folder: Option<PathBuf>,
}

impl Dataset {
    /// Images of [`DEFAULT_SIZE`] pixels from a source: `cifar10`, `shapes`, or a path of a folder
    /// or archive ([`DataSource`]). [`load`] has further options.
    ///
    /// # Errors
    /// As for [`load`].
    pub fn open(source: &str) -> Result<Dataset> {
        load(&source.parse()?, &Options::default())
    }

    /// Some of the images of each set, so many at most: to try something out.
    pub fn part(self, most: usize) -> Dataset {
        let (train, validation) = (self.train.part(most), self.validation.part(most));
        Dataset { train, validation, test: self.test.part(most), ..self }
    }

    /// Checks that every label is one of the classes, and that all images are of one size.
    ///
    /// # Errors
    /// As for [`Images::check_labels`]; or names the two sizes.
    pub fn check_labels(&self) -> Result<()> {
        let sets = [("training", &self.train), ("validation", &self.validation), ("test", &self.test)];
        for (name, images) in sets {
            images.check_labels(self.classes.len())?;
            let (size, other) = (self.train.size, images.size);
            if !images.is_empty() && other != size {
                let problem =
                    format!("the {name} images have {other} pixels a side, the training images {size}");
                return Err(Error::Failed(problem));
            }
        }
        Ok(())
    }

    /// Images to train on and to validate with, if `validation` images are for that; with 0 the
    /// source's own validation images are not used.
    pub fn training_len(&self, validation: usize) -> usize {
        self.train.len() + if validation == 0 { 0 } else { self.validation.len() }
    }

    /// How many images can be taken for validation, if `n` are wanted: the last image of a class is
    /// not. A number that leaves no image at all stays as it is, to be refused.
    pub fn can_hold_back(&self, n: usize) -> usize {
        let classes = self.train.counts(self.classes.len()).iter().filter(|count| **count > 0).count();
        if n < self.train.len() { n.min(self.train.len() - classes) } else { n }
    }

    /// The labels of the training and of the validation images after [`Dataset::split_validation`].
    ///
    /// # Errors
    /// As for [`Dataset::split_validation`].
    pub fn labels_after_split(&self, n: usize, seed: u32) -> Result<(Vec<u32>, Vec<u32>)> {
        let train = &self.train.labels;
        if !self.validation.is_empty() {
            let validation = if n == 0 { Vec::new() } else { self.validation.labels.clone() };
            self.check_measured(validation.len())?;
            return Ok((train.clone(), validation));
        }
        let taken = split::validation(train, n, seed)?;
        self.check_measured(taken.len())?;
        let is_taken = |i: &usize| taken.binary_search(&(*i as u32)).is_ok();
        let (validation, rest): (Vec<usize>, Vec<usize>) = (0..train.len()).partition(is_taken);
        let labels = |indices: Vec<usize>| indices.into_iter().map(|i| train[i]).collect();
        Ok((labels(rest), labels(validation)))
    }

    /// Takes `n` of the training images for validation, unless the source has validation images of
    /// its own; with 0 there are none.
    ///
    /// # Errors
    /// If no training image would be left, or no image to measure results on.
    pub fn split_validation(&mut self, n: usize, seed: u32) -> Result<()> {
        if self.validation.is_empty() {
            self.validation = self.train.split_validation(n, seed)?;
        } else if n == 0 {
            self.validation = Images { size: self.train.size, ..Images::default() };
        }
        self.check_measured(self.validation.len())
    }

    fn check_measured(&self, validation: usize) -> Result<()> {
        if self.test.is_empty() && validation == 0 {
            let problem = "there are no test images, and none that can be held back for validation: choose a \
                           `validation` over 0, and have two images or more of a class";
            return Err(Error::Usage(problem.into()));
        }
        Ok(())
    }

    /// Images that results are measured on, and their name: the test images, or the validation
    /// images where there are no others.
    pub fn measured(&self) -> (&'static str, &Images) {
        if self.test.is_empty() { ("validation", &self.validation) } else { ("test", &self.test) }
    }

    /// A digest of all images that a training sees, before or after the validation images are split
    /// off the source's own: tells whether these are the same images as before.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn training_digest(&self) -> Result<String> {
        if self.validation.is_empty() {
            return self.train.digest();
        }
        let mut hash = Sha256::new();
        self.train.add_to(&mut hash)?;
        self.validation.add_to(&mut hash)?;
        Ok(text::hex(hash))
    }

    fn resized(self, size: usize, options: &Options) -> Result<Dataset> {
        let all = self.train.len() + self.test.len();
        let progress = ImageProgress::new(options.watch, "scaling", all);
        let scaled = |images| decoded::scaled(images, size, (all, options), &progress);
        Ok(Dataset { train: scaled(self.train)?, test: scaled(self.test)?, ..self })
    }
}

/// Source of the data, as given on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DataSource {
    /// CIFAR-10 where it is cached or can be fetched; [`DataSource::Shapes`] with a loud warning
    /// where it is absent and the network does not deliver it or may not be used.
    Auto,
    /// CIFAR-10 from the cache or the network, or an error.
    Cifar10,
    /// The built-in synthetic images.
    Shapes,
    /// CIFAR-10 binary files (their folder, its parent, or the archive), a folder of images, or a
    /// table that names images and their classes.
    Path(PathBuf),
}

impl DataSource {
    /// Whether it is a table that names images.
    pub fn is_table(&self) -> bool {
        matches!(self, DataSource::Path(path) if table::is_table(path))
    }

    /// The folder below which its images lie: that of a table, or the path itself.
    pub fn folder(&self) -> Option<PathBuf> {
        match self {
            DataSource::Path(path) if self.is_table() => Some(table::folder_of(path)),
            DataSource::Path(path) => Some(path.clone()),
            _ => None,
        }
    }

    /// Whether it is a folder or a table of images, which come in sizes of their own.
    pub fn is_image_folder(&self) -> bool {
        let is_folder = |path: &Path| path.is_dir() && cifar10::find_folder(path).is_none();
        matches!(self, DataSource::Path(path) if is_folder(path) || table::is_table(path))
    }
}

impl FromStr for DataSource {
    type Err = Error;

    /// `auto`, `cifar10`, `shapes`; anything else is a path (write `./shapes` for a folder of that
    /// name).
    fn from_str(text: &str) -> Result<DataSource> {
        match text {
            "" => Err(Error::Usage("empty data source: give auto, cifar10, shapes or a path".into())),
            "auto" => Ok(DataSource::Auto),
            "cifar10" => Ok(DataSource::Cifar10),
            "shapes" => Ok(DataSource::Shapes),
            path => Ok(DataSource::Path(PathBuf::from(path))),
        }
    }
}

impl fmt::Display for DataSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DataSource::Auto => f.write_str("auto"),
            DataSource::Cifar10 => f.write_str("cifar10"),
            DataSource::Shapes => f.write_str("shapes"),
            DataSource::Path(path) => f.write_str(&path_text(path)),
        }
    }
}

/// How to obtain the data; [`Options::default`] reads the environment.
#[derive(Clone, Debug)]
pub struct Options<'a> {
    /// Side of the images in pixels; `None` is [`DEFAULT_SIZE`].
    pub image_size: Option<usize>,
    /// Where downloads are kept. Default: `CIFAR_ENGINE_CACHE`, or the user's cache folder, if
    /// there is one.
    pub cache: Option<PathBuf>,
    /// Where to fetch CIFAR-10 from and what it must look like. `CIFAR_ENGINE_MIRRORS` (URLs apart
    /// by spaces or commas; one that ends in `/` gets the file name appended) replaces the
    /// addresses.
    pub remote: download::Remote,
    /// Make no network attempt. Default: whether `CIFAR_ENGINE_OFFLINE` is on, that is, set to
    /// anything but `0`, `false`, `no` or `off`.
    pub offline: bool,
    /// Seed of the synthetic images.
    pub shapes_seed: u32,
    /// Decides which images of a folder without test images are held back for the test.
    pub seed: u32,
    /// Threads to decode with; 0 for one a core.
    pub threads: usize,
    /// Load only what results are measured on ([`Dataset::measured`]): `train` is empty.
    pub test_only: bool,
    /// For a folder without test images: which images a run measures itself on. Without it, all of
    /// them with `test_only`, and otherwise a part of each class, by the seed.
    pub measured: Option<&'a Measured>,
    /// Leave out images that cannot be read, instead of an error.
    pub skip_bad: bool,
    /// The most bytes of the decoded images of a folder that are kept in memory; beyond it they are
    /// read from a file in the cache folder, an image at a time. Default: the mebibytes that
    /// `CIFAR_ENGINE_IN_MEMORY` says, or 512.
    pub in_memory: Option<u64>,
    /// Who is told how far it is, and may stop it. Default: nobody.
    pub watch: &'a dyn Watch,
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
            shapes_seed: 0,
            seed: 0,
            threads: 0,
            test_only: false,
            measured: None,
            skip_bad: false,
            in_memory: None,
            watch: &Unwatched,
        }
    }
}

fn mirrors(list: &str, file_name: &str) -> Vec<String> {
    list.split([' ', ',', '\t', '\n'])
        .filter(|url| !url.is_empty())
        .map(|url| if url.ends_with('/') { format!("{url}{file_name}") } else { url.to_string() })
        .collect()
}

/// Obtains the images of `source` at the size asked for.
///
/// # Errors
/// An image size out of range; threads that cannot be had; data that is missing, malformed or
/// cannot be fetched. Only [`DataSource::Auto`] replaces data that is absent and cannot be fetched.
/// Data that is there but broken, and a cache that cannot be written, are errors for it too.
pub fn load(source: &DataSource, options: &Options) -> Result<Dataset> {
    let size = options.image_size.unwrap_or(DEFAULT_SIZE);
    if !SIZES.contains(&size) {
        return Err(Error::Usage(format!(
            "image size {size}: choose {} to {} pixels",
            SIZES.start(),
            SIZES.end()
        )));
    }
    parallel::pool(options.threads).map_err(Error::threads)?.install(|| load_sized(source, size, options))
}

fn load_sized(source: &DataSource, size: usize, options: &Options) -> Result<Dataset> {
    let shapes = || shapes::dataset(size, options);
    let from_path = |path: &Path| from_path(path, size, options);
    match source {
        DataSource::Shapes => shapes(),
        DataSource::Path(path) => from_path(path),
        DataSource::Cifar10 => match locate_cifar10(options) {
            Ok(path) => from_path(&path),
            Err(Error::Interrupted) => Err(Error::Interrupted),
            Err(why) => Err(unavailable(&why, options)),
        },
        DataSource::Auto => match locate_cifar10(options) {
            Ok(path) => from_path(&path),
            Err(Error::Interrupted) => Err(Error::Interrupted),
            Err(why @ Error::File { .. }) => Err(unavailable(&why, options)),
            Err(why) => {
                options.watch.warn(&fallback_warning(&why, options));
                shapes()
            }
        },
    }
}

/// The folder or archive that holds CIFAR-10, downloaded if it is neither cached nor forbidden to.
///
/// # Errors
/// [`Error::File`] where something on this machine is wrong: a broken archive that the network does
/// not replace, a cache that cannot be written. [`Error::Failed`] where CIFAR-10 cannot be
/// downloaded.
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
        download::fetch(&options.remote, cache, options.watch)
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
    if table::is_table(path) {
        folder::load_table(path, size, options)
    } else if path.is_file() {
        cifar10::load_archive(path, options.test_only)?.resized(size, options)
    } else if let Some(batches) = cifar10::find_folder(path) {
        cifar10::load_folder(&batches, options.test_only)?.resized(size, options)
    } else if path.is_dir() {
        folder::load(path, size, options)
    } else {
        let problem = match path.exists() {
            true => "is neither a file nor a folder",
            false => "no such file or folder (the data is auto, cifar10, shapes or a path)",
        };
        Err(Error::file(path, problem))
    }
}

fn unavailable(why: &Error, options: &Options) -> Error {
    // What is wrong with the cache itself has its own remedy, and is not mended by placing more
    // there.
    let place = match why {
        Error::File { .. } => String::new(),
        _ => format!("{}, or ", placing(options)),
    };
    Error::Failed(format!(
        "CIFAR-10 could not be downloaded ({why}): {place}use `data` PATH (the archive, its folder, or a folder or table of images), \
         or `data` shapes (built-in synthetic images)"
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
         **  CIFAR-10 could not be downloaded:\n**    {why}\n**\n\
         **  Going on with \"shapes\", synthetic images drawn by this program. They are\n\
         **  easier than CIFAR-10; an accuracy on them says nothing about CIFAR-10.\n**\n\
         **  To train on CIFAR-10, {}\n\
         **  or give `data` PATH; `data` shapes silences this warning.\n**\n{rule}\n",
        placing(options).replace(" in ", " in\n**    "),
    )
}

#[cfg(test)]
mod tests;
