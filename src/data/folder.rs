//! A folder of images, in any of the layouts in which people keep them.
//!
//! - `train/CLASS/*`, with or without `test/CLASS/*` and `val/CLASS/*` (or `valid`, `validation`),
//! - `CLASS/*` alone: a part of each class is held back for the test, by the seed
//!   ([`super::split`]).
//!
//! Folders below that of a class belong to it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::decoded::{self, DecodedFolder};
use super::images::allocate;
use super::left_out::{LeftOut, Reason};
use super::listing::{Entry, Lister, WANTED};
use super::names::{below, check_class_name, composed, name_of};
use super::parts::{DatasetParts, Files, Part, split_up_or_measured};
use super::table;
use super::watch::ImageProgress;
use super::{CHANNELS, CLASSES, Dataset, Images, Options, Pixels, image_file};
use crate::error::{Error, Result};

/// The folders of the parts.
struct FolderLayout {
    train: Option<PathBuf>,
    validation: Option<PathBuf>,
    test: Option<PathBuf>,
}

/// Reads the images below `dir` at `size` x `size`, or only those to measure on. Classes are the
/// folders of `train`, or of `dir` itself, sorted by name. Images that cannot be read are an error,
/// or left out if that is wanted.
///
/// # Errors
/// No layout that is known, a number of classes outside [`CLASSES`], a class name that is not fit
/// to print, a class without training images, a class to measure on that is unknown to `train`, or
/// an image that cannot be read (the first one in order, named).
pub fn load(dir: &Path, size: usize, options: &Options) -> Result<Dataset> {
    let mut lister = lister(options);
    let parts = list(dir, &mut lister, options).map_err(|error| lister.advised(error, dir))?;
    decode(dir, dir, parts, size, (lister, options))
}

/// The images that a table names.
///
/// # Errors
/// As for [`load`], and of the table's own.
pub fn load_table(file: &Path, size: usize, options: &Options) -> Result<Dataset> {
    let mut lister = lister(options);
    let parts = table::list(file, &mut lister, options)?;
    decode(file, &table::folder_of(file), parts, size, (lister, options))
}

fn lister<'a>(options: &Options<'a>) -> Lister<'a> {
    Lister { watch: options.watch, skip_bad: options.skip_bad, ..Lister::default() }
}

/// The images of the parts of a source, which are named by their paths below `dir`.
fn decode(
    source: &Path,
    dir: &Path,
    mut parts: DatasetParts,
    size: usize,
    (lister, options): (Lister, &Options),
) -> Result<Dataset> {
    let classes = classes(source, &parts, &lister.left_out, options.test_only)?;
    if options.test_only {
        parts.train.clear();
    }
    let DatasetParts { train, validation, test } = &parts;
    let all: Vec<&PathBuf> =
        [train, validation, test].iter().flat_map(|part| part.values()).flatten().collect();
    options.watch.detail(&format!("reading {} images of {}", all.len(), dir.display()));
    let decoded = DecodedFolder::open(dir, &all, size, options)?;
    let progress = decoded.is_none().then(|| ImageProgress::new(options.watch, "decoding", all.len()));
    let mut decoder =
        ImageDecoder { dir, size, classes: &classes, decoded, progress, original: None, lister };
    let train = decoder.decode(train, options)?;
    let validation = decoder.decode(validation, options)?;
    let test = decoder.decode(test, options)?;
    let (original, left_out) = decoder.end();
    let counts = train.counts(classes.len());
    if let Some(class) = (0..classes.len()).find(|&class| counts[class] == 0 && !options.test_only) {
        let problem = format!("none of the training images of {} can be read", classes[class]);
        return Err(Error::file(source, problem));
    }
    for (files, images) in [(&parts.validation, &validation), (&parts.test, &test)] {
        if let Some(file) = files.values().flatten().next().filter(|_| images.is_empty()) {
            return Err(Error::file(file, "neither this image nor any other of its set can be read"));
        }
    }
    let folder = std::fs::canonicalize(dir).ok();
    Ok(Dataset { name: name_of(source), classes, train, validation, test, left_out, original, folder })
}

/// The files of the parts, whatever the layout.
fn list(dir: &Path, lister: &mut Lister, options: &Options) -> Result<DatasetParts> {
    let Some(mut layout) = layout(dir, lister)? else {
        check_classes(dir, lister)?;
        let parts = DatasetParts { train: class_files(dir, lister)?, ..DatasetParts::default() };
        return Ok(split_up_or_measured(dir, parts, false, lister, options));
    };
    leave_the_rest(dir, &layout, lister)?;
    if !options.test_only || options.measured.is_some() {
        layout.leave_unlabelled_test(lister)?;
    }
    let mut part = |folder: &Option<PathBuf>| match folder {
        Some(folder) => class_files(folder, lister),
        None => Ok(Files::new()),
    };
    let train = part(&layout.train)?;
    let (mut validation, mut test) = (part(&layout.validation)?, part(&layout.test)?);
    if let Some((class, _)) = train.iter().find(|(_, files)| files.is_empty()) {
        let problem = format!("a class needs at least {WANTED} to train on");
        return Err(Error::file(layout.train.as_deref().unwrap_or(dir).join(class), problem));
    }
    // A class that is not tested may have an empty folder or none.
    for (folder, files) in [(&layout.validation, &mut validation), (&layout.test, &mut test)] {
        files.retain(|_, files| !files.is_empty());
        if let Some(folder) = folder.as_ref().filter(|_| files.is_empty()) {
            return Err(Error::file(folder, "empty: expected a folder of images for each class"));
        }
    }
    let parts = DatasetParts { train, validation, test };
    Ok(split_up_or_measured(dir, parts, true, lister, options))
}

/// The folders of the parts; none where `dir` itself is one of classes.
fn layout(dir: &Path, lister: &Lister) -> Result<Option<FolderLayout>> {
    let all = folders(dir, lister)?;
    let find = |part: Part| -> Result<Option<PathBuf>> {
        let mut found = all.iter().filter(|folder| Part::of(folder) == Some(part));
        let first = found.next();
        if let (Some(first), Some(second)) = (first, found.next()) {
            let problem = format!("beside {}; keep one of these folders", first.display());
            return Err(Error::file(second, problem));
        }
        Ok(first.cloned())
    };
    let [train, validation, test] = [Part::Train, Part::Validation, Part::Test].map(find);
    let layout = FolderLayout { train: train?, validation: validation?, test: test? };
    let parts = layout.parts();
    let mut flat = true;
    for part in &parts {
        flat &= folders(part, lister)?.is_empty();
    }
    // A folder `train` that has no folders of its own, beside other folders, is one of images of
    // trains.
    let are_classes = flat && all.len() > parts.len();
    let mut named_as_parts = Vec::new();
    for folder in all.iter().filter(|folder| are_classes && Part::is_meant_by(folder)) {
        let is_image = |path: &PathBuf| matches!(lister.entry(path), Entry::Image);
        if folders(folder, lister)?.is_empty() && lister.entries(folder)?.iter().any(is_image) {
            named_as_parts.push(folder);
        }
    }
    if let [first, second, ..] = named_as_parts.as_slice() {
        let (first, second, name) = (below(dir, first), below(dir, second), dir.display());
        let problem = format!(
            "{first} and {second} hold images but no folders of classes; sort the images into {name}/CLASS/*, or \
             rename these two if they are classes"
        );
        return Err(Error::file(dir, problem));
    }
    if all.is_empty() {
        return Err(unexpected_layout(dir, lister));
    }
    Ok((!are_classes && !parts.is_empty()).then_some(layout))
}

impl FolderLayout {
    /// The folders there are.
    fn parts(&self) -> Vec<&PathBuf> {
        [&self.train, &self.validation, &self.test].into_iter().flatten().collect()
    }

    /// Leaves out a folder of test images whose labels nobody has told, as competitions hand them
    /// out.
    fn leave_unlabelled_test(&mut self, lister: &mut Lister) -> Result<()> {
        let Some((test, train)) = self.test.as_ref().zip(self.train.as_ref()) else { return Ok(()) };
        if folders(train, lister)?.is_empty() || !folders(test, lister)?.is_empty() {
            return Ok(());
        }
        let images: Vec<PathBuf> = lister.entries(test)?;
        let is_image = |path: &&PathBuf| matches!(lister.entry(path), Entry::Image);
        let images: Vec<PathBuf> = images.iter().filter(is_image).cloned().collect();
        if !images.is_empty() {
            images.iter().for_each(|image| lister.leave(Reason::NoLabel, image));
            self.test = None;
        }
        Ok(())
    }
}

/// The folders in a folder.
fn folders(dir: &Path, lister: &Lister) -> Result<Vec<PathBuf>> {
    let is_folder = |path: &PathBuf| matches!(lister.entry(path), Entry::Folder);
    Ok(lister.entries(dir)?.into_iter().filter(is_folder).collect())
}

/// Notes what lies beside the folders of the parts, and so is in none of them.
fn leave_the_rest(dir: &Path, layout: &FolderLayout, lister: &mut Lister) -> Result<()> {
    let parts = layout.parts();
    for path in lister.entries(dir)?.iter().filter(|path| !parts.contains(path)) {
        match lister.entry(path) {
            Entry::Folder => lister.leave(Reason::BesideParts, path),
            Entry::Image => lister.leave(Reason::NoClass, path),
            Entry::Other(reason) => lister.leave(reason, path),
        }
    }
    Ok(())
}

/// Refuses folders that cannot be meant as classes: those that hold no image, but all the same
/// folders.
fn check_classes(dir: &Path, lister: &Lister) -> Result<()> {
    let mut shared: Option<BTreeSet<String>> = None;
    let classes = folders(dir, lister)?;
    for class in &classes {
        if lister.entries(class)?.iter().any(|path| matches!(lister.entry(path), Entry::Image)) {
            return Ok(());
        }
        let below: BTreeSet<String> = folders(class, lister)?.iter().map(|path| below(class, path)).collect();
        shared = Some(shared.map_or(below.clone(), |shared| &shared & &below));
    }
    let names: Vec<String> = shared.unwrap_or_default().into_iter().take(2).collect();
    if classes.len() < 2 || names.len() < 2 {
        return Ok(());
    }
    let of: Vec<String> = classes.iter().take(2).map(|path| below(dir, path)).collect();
    let (names, of) = (names.join(", "), of.join(", "));
    let problem = format!(
        "{of} and all others hold the same folders ({names}), so they are no classes; call them train, validation and \
         test, or give one of them"
    );
    Err(Error::file(dir, problem))
}

fn unexpected_layout(dir: &Path, lister: &Lister) -> Error {
    let found = match lister.entries(dir) {
        Err(error) => return error,
        Ok(entries) if entries.is_empty() => "nothing".into(),
        Ok(entries) => {
            let name = |path: &PathBuf| below(dir, path);
            let names: Vec<_> = entries.iter().take(3).map(name).collect();
            format!("{}{}", names.join(", "), if entries.len() > 3 { ", ..." } else { "" })
        }
    };
    let hint = if dir.join("data_batch_1").is_file() || dir.join("cifar-10-batches-py").is_dir() {
        "this is the Python version of CIFAR-10, get the binary version; "
    } else {
        ""
    };
    let expected = "CLASS/*.png (or .jpg and others), train/CLASS/* with or without val/CLASS/* and test/CLASS/*, \
                    or CIFAR-10 files";
    Error::file(dir, format!("{hint}expected {expected}; found {found}"))
}

/// A folder with images of a class.
pub(super) struct ClassFolder {
    /// The folder of the part that it lies in; that of the data where there are no parts.
    pub part: PathBuf,
    /// The class.
    pub class: String,
    /// The folder itself.
    pub path: PathBuf,
}

/// The folders of the classes, in every part that there is.
pub(super) fn class_folders(dir: &Path, lister: &mut Lister) -> Result<Vec<ClassFolder>> {
    let parts = match layout(dir, lister)? {
        Some(layout) => layout.parts().into_iter().cloned().collect(),
        None => vec![dir.to_path_buf()],
    };
    let mut found = Vec::new();
    for part in parts {
        for path in folders(&part, lister)? {
            found.push(ClassFolder { part: part.clone(), class: class_name(&path)?, path });
        }
    }
    Ok(found)
}

/// Checks that names with signs that cannot be printed are not written as others are: `split.csv`
/// and its like tell images apart by what is written.
fn check_written(folder: &Path, images: &[PathBuf]) -> Result<()> {
    let mut written = BTreeSet::new();
    let escaped =
        images.iter().map(|path| (path, below(folder, path))).filter(|(_, name)| name.contains('\\'));
    for (path, name) in escaped {
        if !written.insert(name) {
            return Err(Error::file(path, "is written as the name of another image is: rename one of them"));
        }
    }
    Ok(())
}

/// The files of each class below `folder`.
fn class_files(folder: &Path, lister: &mut Lister) -> Result<Files> {
    let mut files = Files::new();
    let mut loose = Vec::new();
    for path in lister.entries(folder)? {
        match lister.entry(&path) {
            Entry::Folder => {
                let (class, images) = (class_name(&path)?, lister.images(&path)?);
                check_written(folder, &images)?;
                files.entry(class).or_default().extend(images);
            }
            Entry::Image => loose.push(path),
            Entry::Other(reason) => lister.leave(reason, &path),
        }
    }
    if files.is_empty() && !loose.is_empty() {
        let (count, name) = (loose.len(), folder.display());
        let problem =
            format!("holds {count} images but no folders of classes; sort them into {name}/CLASS/*");
        return Err(Error::file(folder, problem));
    }
    loose.iter().for_each(|path| lister.leave(Reason::NoClass, path));
    Ok(files)
}

/// The class whose images a folder holds.
fn class_name(folder: &Path) -> Result<String> {
    let name = folder.file_name().and_then(|name| name.to_str());
    let name = name.ok_or_else(|| Error::file(folder, "the name is not valid UTF-8; rename it"))?;
    let class = composed(name);
    check_class_name(&class).map_err(|problem| Error::file(folder, problem))?;
    Ok(class)
}

/// The names of the classes: those to train on; where nothing is trained, all there are.
fn classes(dir: &Path, parts: &DatasetParts, left_out: &LeftOut, test_only: bool) -> Result<Vec<String>> {
    let DatasetParts { train, validation, test } = parts;
    let mut measured = validation.keys().chain(test.keys());
    if test_only {
        let all: BTreeSet<String> = measured.chain(train.keys()).cloned().collect();
        return match all.is_empty() {
            true => Err(Error::file(dir, "holds no images to measure on")),
            false => Ok(all.into_iter().collect()),
        };
    }
    let folder = Some(dir.join("train")).filter(|train| train.is_dir());
    let wrong = |problem| Err(Error::file(folder.as_deref().unwrap_or(dir), problem));
    let classes: Vec<String> = train.keys().cloned().collect();
    match classes.as_slice() {
        [] => return wrong("no training images: expected images of each class".into()),
        [only] => {
            let problem = format!("only one class ({only}); two are needed to tell apart");
            let others = left_out.summary_of(|why| matches!(why, Reason::Closed | Reason::EmptyFolder));
            let inside = Some(dir.join(only)).filter(|inside| inside.is_dir() && folder.is_none());
            let inside = inside.map(|inside| format!("if the classes are in it, give {}", inside.display()));
            return wrong(match others.or(inside) {
                Some(hint) => format!("{problem}; {hint}"),
                None => problem,
            });
        }
        many if many.len() > *CLASSES.end() => {
            return wrong(format!("{} classes are too many (limit {})", many.len(), CLASSES.end()));
        }
        _ => {}
    }
    match measured.find(|name| !train.contains_key(*name)) {
        None => Ok(classes),
        Some(unknown) => {
            wrong(format!("has no training images of the class {unknown}, which there are images to test of"))
        }
    }
}

/// Decodes the images of the parts.
struct ImageDecoder<'a> {
    dir: &'a Path,
    size: usize,
    classes: &'a [String],
    /// Where all of them are decoded already.
    decoded: Option<DecodedFolder<'a>>,
    progress: Option<ImageProgress<'a>>,
    /// Width and height of the first image.
    original: Option<(u32, u32)>,
    lister: Lister<'a>,
}

impl ImageDecoder<'_> {
    /// Decodes the images of a part. Those that cannot be read are left out if that is wanted;
    /// otherwise the first of them is an error.
    fn decode(&mut self, files: &Files, options: &Options) -> Result<Images> {
        let label = |class: &String| self.classes.binary_search(class).unwrap_or(0) as u32;
        let labels =
            files.iter().flat_map(|(class, files)| files.iter().map(move |_| label(class))).collect();
        let paths: Vec<&PathBuf> = files.values().flatten().collect();
        let names = paths.iter().map(|path| below(self.dir, path)).collect();
        let (pixels, failures) = match &self.decoded {
            Some(decoded) => {
                let (pixels, failures) = decoded.part(&paths);
                (pixels, decoded::problems(failures.into_par_iter(), options.skip_bad, Ok)?)
            }
            None => self.decode_into_memory(&paths, options)?,
        };
        let first = paths.first().filter(|_| !matches!(failures.first(), Some(Some(_))));
        if let (None, Some(first)) = (self.original, first) {
            self.original = image_file::load(first, self.size).ok().map(|image| image.original);
        }
        Ok(self.without(Images { pixels, labels, size: self.size, files: names }, failures))
    }

    fn decode_into_memory(
        &self,
        paths: &[&PathBuf],
        options: &Options,
    ) -> Result<(Pixels, Vec<Option<Error>>)> {
        let mut pixels = allocate(paths.len(), self.size)?;
        let images = pixels.par_chunks_mut(self.size * self.size * CHANNELS).zip(paths);
        let failures = decoded::problems(images, options.skip_bad, |(to, path)| {
            self.progress.as_ref().map_or(Ok(()), ImageProgress::one)?;
            Ok(image_file::load(path, self.size).map(|image| to.copy_from_slice(&image.pixels)).err())
        })?;
        Ok((pixels.into(), failures))
    }

    /// Notes on what was found.
    fn end(self) -> (Option<(u32, u32)>, LeftOut) {
        (self.original, self.lister.left_out)
    }

    /// The images without those that could not be read.
    fn without(&mut self, images: Images, failures: Vec<Option<Error>>) -> Images {
        let failed = |i: &u32| failures.get(*i as usize).is_some_and(Option::is_some);
        let good: Vec<u32> = (0..images.len() as u32).filter(|i| !failed(i)).collect();
        for error in failures.into_iter().flatten() {
            self.lister.left_out.add(Reason::Unreadable, error.to_string());
        }
        if good.len() < images.len() { images.subset(&good) } else { images }
    }
}
