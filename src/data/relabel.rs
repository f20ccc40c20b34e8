//! Images that are moved to the folder of another class, as a table says.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::folder::{ClassFolder, class_folders};
use super::listing::Lister;
use super::names::{below, composed};
use crate::error::{Error, Result};
use crate::files::advice;

/// A row of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relabelled {
    /// The file, as a path below the folder that is fit to print.
    pub file: String,
    /// Its class now.
    pub label: String,
    /// The class it is of.
    pub class: String,
}

/// A move of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    /// The path below the folder now and afterwards, fit to print.
    pub names: [String; 2],
    from: PathBuf,
    to: PathBuf,
}

/// The moves that a table asks for; rows that leave an image where it is are none, and those of an
/// image that was moved before. Nothing is moved yet, and if anything is wrong with a row, nothing
/// should be. Where its name is taken in the other class, an image gets another.
///
/// # Errors
/// If a row names no image of the folder, so also what is outside of it, an image twice, a class
/// that has no folder beside the image's, or one that the image is not in.
pub fn moves(dir: &Path, rows: &[Relabelled]) -> Result<Vec<Move>> {
    let mut lister = Lister { skip_bad: true, ..Lister::default() };
    let folders = class_folders(dir, &mut lister)?;
    let mut known: BTreeMap<String, (&ClassFolder, PathBuf)> = BTreeMap::new();
    for folder in &folders {
        let images = lister.images(&folder.path)?;
        known.extend(images.into_iter().map(|image| (below(dir, &image), (folder, image))));
    }
    let (mut moves, mut taken, mut named) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
    for row in rows {
        let Relabelled { file, label, class } = row;
        let wrong = |problem: String| Error::file(dir, format!("{file} {problem}; nothing was moved"));
        if !named.insert(file) {
            return Err(wrong("is named twice".into()));
        }
        let Some((folder, from)) = known.get(file).cloned() else {
            if place_of_moved(dir, &folders, row).is_some_and(|place| known.contains_key(&place)) {
                continue;
            }
            return Err(wrong("is no image of this folder".into()));
        };
        if folder.class != composed(label) {
            return Err(wrong(format!("is not in the class {label}, but in {}", folder.class)));
        }
        let is_wanted = |other: &&ClassFolder| other.class == composed(class) && other.part == folder.part;
        let Some(wanted) = folders.iter().find(is_wanted) else {
            return Err(wrong(format!("is to be of the class {class}, which has no folder there")));
        };
        if wanted.class == folder.class {
            continue;
        }
        let to = wanted.path.join(from.strip_prefix(&folder.path).unwrap_or(&from));
        let to = free_name(to, |path| taken.contains(path) || fs::symlink_metadata(path).is_ok());
        taken.insert(to.clone());
        let names = [&from, &to].map(|path| below(dir, path));
        moves.push(Move { names, from, to });
    }
    Ok(moves)
}

/// Where the image of a row is, as a path below the folder, if it was moved as the row says.
fn place_of_moved(dir: &Path, folders: &[ClassFolder], row: &Relabelled) -> Option<String> {
    let [label, class] = [&row.label, &row.class].map(|name| composed(name));
    let inside = |folder: &&ClassFolder| Path::new(&row.file).starts_with(below(dir, &folder.path));
    let old = folders.iter().filter(|folder| folder.class == label).find(inside)?;
    let new = folders.iter().find(|folder| folder.class == class && folder.part == old.part)?;
    let rest = Path::new(&row.file).strip_prefix(below(dir, &old.path)).ok()?;
    Some(below(dir, &new.path.join(rest)))
}

/// A path that is not taken: this one, or with a number behind the name.
fn free_name(path: PathBuf, is_taken: impl Fn(&Path) -> bool) -> PathBuf {
    let numbered = |number: u64| {
        let mut name = path.file_stem().unwrap_or_default().to_os_string();
        name.push(format!("-{number}"));
        if let Some(extension) = path.extension() {
            name.push(".");
            name.push(extension);
        }
        path.with_file_name(name)
    };
    let paths = std::iter::once(path.clone()).chain((2..).map(numbered));
    paths.into_iter().find(|path| !is_taken(path)).unwrap_or_default()
}

/// A copy instead of the original, for a new place on another file system.
fn copy_and_remove(from: &Path, to: &Path) -> io::Result<()> {
    let mut copy = OpenOptions::new().write(true).create_new(true).open(to)?;
    let copied = File::open(from).and_then(|mut original| io::copy(&mut original, &mut copy));
    if let Err(error) = copied.and_then(|_| copy.sync_all()) {
        let _ = fs::remove_file(to); // half an image is none
        return Err(error);
    }
    remove_original(from, to)
}

/// Removes what has another name now; where that cannot be, the other name goes, so that no image
/// is in two classes.
fn remove_original(from: &Path, to: &Path) -> io::Result<()> {
    match fs::remove_file(from) {
        // Another has removed it, or a network's file system has done so twice: `to` is left.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.inspect_err(|_| {
            let _ = fs::remove_file(to);
        }),
    }
}

impl Move {
    /// Moves the image. What has come to its new place meanwhile is not overwritten.
    ///
    /// # Errors
    /// If it cannot be moved; it is then where it was.
    pub fn run(&self) -> Result<()> {
        let Move { from, to, .. } = self;
        let failed = |error: std::io::Error| Error::file(to, advice(&error));
        to.parent().map_or(Ok(()), fs::create_dir_all).map_err(failed)?;
        // A rename would overwrite; a second name does not.
        match fs::hard_link(from, to) {
            Ok(()) => remove_original(from, to).map_err(|error| Error::file(from, advice(&error))),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(failed(error)),
            Err(error) if error.kind() == ErrorKind::CrossesDevices => {
                copy_and_remove(from, to).map_err(failed)
            }
            // Some file systems have one name for a file only.
            Err(_) if fs::symlink_metadata(to).is_err() => fs::rename(from, to).map_err(failed),
            Err(error) => Err(failed(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_removed_gets_no_second_name() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("cat"), dir.path().join("dog"));
        fs::create_dir(&from).unwrap(); // no file, so it cannot be removed as one
        fs::write(&to, "image").unwrap();
        assert!(remove_original(&from, &to).is_err());
        assert!(from.exists() && !to.exists());
        // Where the image has no other name any more, it stays.
        fs::write(&to, "image").unwrap();
        remove_original(&dir.path().join("gone"), &to).unwrap();
        assert!(to.exists());
    }

    fn folder(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file).unwrap();
        }
        folder
    }

    fn row(file: &str, label: &str, class: &str) -> Relabelled {
        Relabelled { file: file.into(), label: label.into(), class: class.into() }
    }

    #[test]
    fn images_go_to_the_class_beside_theirs_with_the_folders_below_it() {
        let dir = folder(&[
            "train/cat/a #1.png",
            "train/cat/in/b.png",
            "train/dog/c.png",
            "val/cat/d.png",
            "val/dog/e.png",
        ]);
        let rows = [
            row("train/cat/in/b.png", "cat", "dog"),
            row("train/cat/a #1.png", "cat", "cat"),
            row("val/dog/e.png", "dog", "cat"),
        ];
        let moves = moves(dir.path(), &rows).unwrap();
        let names: Vec<&str> = moves.iter().map(|step| step.names[1].as_str()).collect();
        assert_eq!(names, ["train/dog/in/b.png", "val/cat/e.png"]);
        assert!(dir.path().join("train/cat/in/b.png").exists(), "nothing is moved yet");
        moves.iter().for_each(|step| step.run().unwrap());
        assert_eq!(fs::read_to_string(dir.path().join("train/dog/in/b.png")).unwrap(), "train/cat/in/b.png");
        assert!(
            !dir.path().join("train/cat/in/b.png").exists() && dir.path().join("train/cat/a #1.png").exists()
        );
    }

    #[test]
    fn nothing_is_overwritten_and_nothing_outside_is_touched() {
        let dir = folder(&["in/cat/a.png", "in/cat/b.png", "in/dog/a.png", "out/x.png"]);
        let inside = dir.path().join("in");
        for (rows, problem) in [
            (vec![row("../out/x.png", "cat", "dog")], "../out/x.png is no image of this folder"),
            (vec![row("cat/../../out/x.png", "cat", "dog")], "is no image of this folder"),
            (vec![row("cat/b.png", "cat", "../../out")], "the class ../../out, which has no folder there"),
            (vec![row("cat/b.png", "dog", "cat")], "is not in the class dog, but in cat"),
            (
                vec![row("cat/b.png", "cat", "dog"), row("cat/b.png", "cat", "dog")],
                "cat/b.png is named twice",
            ),
        ] {
            let message = moves(&inside, &rows).unwrap_err().to_string();
            assert!(message.contains(problem), "{message}");
        }
        // Where the name is taken, an image gets another; what was moved may be named again.
        let rows = [row("cat/a.png", "cat", "dog")];
        let found = moves(&inside, &rows).unwrap();
        assert_eq!(found[0].names[1], "dog/a-2.png");
        found[0].run().unwrap();
        assert_eq!(fs::read_to_string(inside.join("dog/a-2.png")).unwrap(), "in/cat/a.png");
        assert_eq!(fs::read_to_string(inside.join("dog/a.png")).unwrap(), "in/dog/a.png");
        assert!(moves(&inside, &rows).unwrap().is_empty());
        // What comes to the place after the check stays, too.
        let found = moves(&inside, &[row("cat/b.png", "cat", "dog")]).unwrap();
        fs::write(inside.join("dog/b.png"), "new").unwrap();
        assert!(found[0].run().is_err());
        assert_eq!(fs::read_to_string(inside.join("dog/b.png")).unwrap(), "new");
        assert!(inside.join("cat/b.png").exists());
    }
}
