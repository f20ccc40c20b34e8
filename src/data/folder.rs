//! A folder of pictures: `train/CLASS/*.png` and `test/CLASS/*.png`, JPEG alike, any class names.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::{CHANNELS, CLASSES, Dataset, Images, allocate, check_class_name, name_of, picture};
use crate::error::{Error, Result};

const EXTENSIONS: [&str; 3] = ["png", "jpg", "jpeg"];

/// The pictures of one split by class folder, and how many files were passed over.
struct Listing {
    /// Sorted by class name; each list sorted by file name, so that no file system decides the order.
    classes: BTreeMap<String, Vec<PathBuf>>,
    ignored: usize,
}

/// Reads every picture below `dir` at `size` x `size`, or only those to test on. Classes are the folders of `train`,
/// sorted by name. Pictures that cannot be read are an error, or left out if `skip_bad`.
///
/// # Errors
/// No `train` and `test`, a number of classes outside [`CLASSES`], a class name that is not fit to print, a
/// class without training pictures, no test picture at all, a test class unknown to `train`, or a picture
/// that cannot be read (the first one in order, named).
pub fn load(dir: &Path, size: usize, test_only: bool, skip_bad: bool) -> Result<Dataset> {
    let (train_dir, test_dir) = (dir.join("train"), dir.join("test"));
    if !train_dir.is_dir() || !test_dir.is_dir() {
        return Err(unexpected_layout(dir));
    }
    let (train, mut test) = (list(&train_dir)?, list(&test_dir)?);
    let classes: Vec<String> = train.classes.keys().cloned().collect();
    match classes.as_slice() {
        [] => return Err(Error::file(&train_dir, "empty: expected a folder of pictures for each class")),
        [only] => {
            return Err(Error::file(
                &train_dir,
                format!("only one class ({only}); two are needed to tell apart"),
            ));
        }
        many if many.len() > *CLASSES.end() => {
            let problem = format!("{} classes are too many (limit {})", many.len(), CLASSES.end());
            return Err(Error::file(&train_dir, problem));
        }
        _ => {}
    }
    if let Some((class, _)) = train.classes.iter().find(|(_, pictures)| pictures.is_empty()) {
        let problem = "a class needs at least one .png, .jpg or .jpeg file to train on";
        return Err(Error::file(train_dir.join(class), problem));
    }
    // A class that is not tested may have an empty folder or none.
    test.classes.retain(|_, pictures| !pictures.is_empty());
    if test.classes.is_empty() {
        return Err(Error::file(&test_dir, "empty: expected a folder of pictures for each class"));
    }
    if let Some(unknown) = test.classes.keys().find(|name| !train.classes.contains_key(*name)) {
        return Err(Error::file(test_dir.join(unknown), "this class has no folder in train"));
    }
    let ignored = train.ignored + test.ignored;
    let note =
        (ignored > 0).then(|| format!("{ignored} files that are not named .png, .jpg or .jpeg were ignored"));
    let mut skipped = Vec::new();
    let train = match test_only {
        true => Images { size, ..Images::default() },
        false => decode(&train, &classes, size, skip_bad.then_some(&mut skipped))?,
    };
    let test = decode(&test, &classes, size, skip_bad.then_some(&mut skipped))?;
    let counts = train.counts(classes.len());
    if let Some(class) = (0..classes.len()).find(|&class| counts[class] == 0 && !test_only) {
        return Err(Error::file(train_dir.join(&classes[class]), "none of its pictures can be read"));
    }
    if test.is_empty() {
        return Err(Error::file(&test_dir, "none of its pictures can be read"));
    }
    Ok(Dataset { name: name_of(dir), classes, train, test, note, skipped })
}

/// The pictures in a folder and in the folders below it, sorted by path.
///
/// # Errors
/// If a folder cannot be read, or they are nested so deep that they must lead in a circle.
pub fn pictures(dir: &Path) -> Result<Vec<PathBuf>> {
    fn visit(dir: &Path, depth: usize, found: &mut Vec<PathBuf>) -> Result<()> {
        const DEEPEST: usize = 32;
        if depth > DEEPEST {
            return Err(Error::file(dir, "more folders in each other than are likely to be meant"));
        }
        for (_, path) in entries(dir)? {
            if path.is_dir() {
                visit(&path, depth + 1, found)?;
            } else if is_picture(&path) {
                found.push(path);
            }
        }
        Ok(())
    }
    let mut found = Vec::new();
    visit(dir, 0, &mut found)?;
    Ok(found)
}

fn unexpected_layout(dir: &Path) -> Error {
    let found = match entries(dir) {
        Err(error) => return error,
        Ok(entries) if entries.is_empty() => "nothing".into(),
        Ok(entries) => {
            let names: Vec<_> = entries.iter().take(3).map(|(name, _)| name.to_string_lossy()).collect();
            format!("{}{}", names.join(", "), if entries.len() > 3 { ", ..." } else { "" })
        }
    };
    let hint = if dir.join("data_batch_1").is_file() || dir.join("cifar-10-batches-py").is_dir() {
        "this is the Python version of CIFAR-10, get the binary version; "
    } else {
        ""
    };
    Error::file(
        dir,
        format!(
            "{hint}expected train/CLASS/*.png and test/CLASS/*.png (or .jpg, .jpeg) or CIFAR-10 files; found {found}"
        ),
    )
}

/// Name and path of everything in `dir` that is not hidden, sorted by name.
fn entries(dir: &Path) -> Result<Vec<(OsString, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(|e| Error::file(dir, e))? {
        let entry = entry.map_err(|e| Error::file(dir, e))?;
        let name = entry.file_name();
        if !name.as_encoded_bytes().starts_with(b".") {
            found.push((name, entry.path()));
        }
    }
    found.sort();
    Ok(found)
}

fn list(split: &Path) -> Result<Listing> {
    let mut listing = Listing { classes: BTreeMap::new(), ignored: 0 };
    for (name, path) in entries(split)? {
        if !path.is_dir() {
            listing.ignored += 1;
            continue;
        }
        let class =
            name.into_string().map_err(|_| Error::file(&path, "the name is not valid UTF-8; rename it"))?;
        check_class_name(&class).map_err(|problem| Error::file(&path, problem))?;
        let all = entries(&path)?;
        let total = all.len();
        let pictures: Vec<PathBuf> =
            all.into_iter().map(|(_, path)| path).filter(|path| is_picture(path)).collect();
        listing.ignored += total - pictures.len();
        listing.classes.insert(class, pictures);
    }
    Ok(listing)
}

fn is_picture(path: &Path) -> bool {
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
    EXTENSIONS.contains(&extension.as_str()) && path.is_file()
}

/// Decodes the pictures of a split. Those that cannot be read go into `skipped`, a line each; without it the first of
/// them is an error.
fn decode(
    listing: &Listing,
    classes: &[String],
    size: usize,
    skipped: Option<&mut Vec<String>>,
) -> Result<Images> {
    let mut files: Vec<&Path> = Vec::new();
    let mut labels = Vec::new();
    for (label, class) in classes.iter().enumerate() {
        let pictures = listing.classes.get(class).map_or(&[][..], Vec::as_slice);
        files.extend(pictures.iter().map(PathBuf::as_path));
        labels.resize(files.len(), label as u32);
    }
    let mut images = Images { pixels: allocate(files.len(), size)?, labels, size };
    let room = images.pixels.par_chunks_mut(size * size * CHANNELS).zip(&files);
    let load = |(to, path): (&mut [u8], &&Path)| {
        picture::load_picture(path, size).map(|picture| to.copy_from_slice(&picture)).err()
    };
    let Some(skipped) = skipped else {
        // The first failure in order, not in time, so that the same folder always gives the same message.
        let failure = room.find_map_first(load);
        return failure.map_or(Ok(images), |error| Err(error.with_advice(picture::SKIP)));
    };
    let failures: Vec<Option<Error>> = room.map(load).collect();
    let good: Vec<u32> = (0..files.len()).filter(|&i| failures[i].is_none()).map(|i| i as u32).collect();
    skipped.extend(failures.iter().flatten().map(ToString::to_string));
    if good.len() < files.len() {
        images = images.subset(&good);
    }
    Ok(images)
}
