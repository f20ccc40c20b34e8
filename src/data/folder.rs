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

/// Reads every picture below `dir` at `size` x `size`. Classes are the folders of `train`, sorted by name.
///
/// # Errors
/// No `train` and `test`, a number of classes outside [`CLASSES`], a class name that is not fit to print, a
/// class without training pictures, no test picture at all, a test class unknown to `train`, or a picture
/// that cannot be read (the first one in order, named).
pub fn load(dir: &Path, size: usize) -> Result<Dataset> {
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
    let (train, test) = (decode(&train, &classes, size)?, decode(&test, &classes, size)?);
    Ok(Dataset { name: name_of(dir), classes, train, test, note })
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

fn decode(listing: &Listing, classes: &[String], size: usize) -> Result<Images> {
    let mut files: Vec<&Path> = Vec::new();
    let mut labels = Vec::new();
    for (label, class) in classes.iter().enumerate() {
        let pictures = listing.classes.get(class).map_or(&[][..], Vec::as_slice);
        files.extend(pictures.iter().map(PathBuf::as_path));
        labels.resize(files.len(), label as u32);
    }
    let mut pixels = allocate(files.len(), size)?;
    // The first failure in order, not in time, so that the same folder always gives the same message.
    let failure = pixels.par_chunks_mut(size * size * CHANNELS).zip(&files).find_map_first(|(to, path)| {
        picture::load_picture(path, size).map(|picture| to.copy_from_slice(&picture)).err()
    });
    match failure {
        Some(error) => Err(error),
        None => Ok(Images { pixels, labels, size }),
    }
}
