//! The parts of a data set: images to train on, to validate with and to test on.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::left_out::Reason;
use super::listing::Lister;
use super::names::below;
use super::{Options, split};

/// Names of the folders of the parts, as tools and people call them; in any case of letters, and
/// with `_set` behind.
const TRAIN: [&str; 2] = ["train", "training"];
const VALIDATION: [&str; 3] = ["val", "valid", "validation"];
const TEST: [&str; 2] = ["test", "testing"];

/// The files of each class, by the class's name; each list in the order of the listing, so that no
/// file system decides it.
pub(super) type Files = BTreeMap<String, Vec<PathBuf>>;

/// A part of a data set.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Train,
    Validation,
    Test,
}

impl Part {
    /// The part that is called so.
    pub fn named(name: &str) -> Option<Part> {
        let name = short(name);
        let all = [(&TRAIN[..], Part::Train), (&VALIDATION, Part::Validation), (&TEST, Part::Test)];
        all.into_iter().find(|(names, _)| names.contains(&name.as_str())).map(|(_, part)| part)
    }

    /// The part whose folder this is, by its name.
    pub fn of(folder: &Path) -> Option<Part> {
        Part::named(&folder.file_name().unwrap_or_default().to_string_lossy())
    }

    /// Whether a folder is called as one of a part is, perhaps with a number: `test1`.
    pub fn is_meant_by(folder: &Path) -> bool {
        let name = short(&folder.file_name().unwrap_or_default().to_string_lossy());
        Part::named(name.trim_end_matches(|c: char| c.is_ascii_digit() || "_- ".contains(c))).is_some()
    }

    /// What it is called.
    pub fn name(self) -> &'static str {
        match self {
            Part::Train => "train",
            Part::Validation => "validation",
            Part::Test => "test",
        }
    }
}

/// The parts of a data set; one that the source does not have is empty.
#[derive(Default)]
pub(super) struct DatasetParts {
    pub train: Files,
    pub validation: Files,
    pub test: Files,
}

/// Which images of a run's data its results are measured on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Measured {
    /// Whether they are the run's test images; otherwise its validation images.
    pub is_test: bool,
    /// Their files, as [`super::Images::files`] has them.
    pub files: BTreeSet<String>,
}

/// A name without `set` behind, in small letters: `Training_Set` is `training`.
fn short(name: &str) -> String {
    let name = name.to_lowercase();
    let short = name.strip_suffix("set").map(|name| name.trim_end_matches(['_', '-', ' ']).to_string());
    short.unwrap_or(name)
}

/// What is wanted of the parts of a set; where it has none of its own, all are in `train`.
pub(super) fn split_up_or_measured(
    dir: &Path,
    mut parts: DatasetParts,
    has_parts: bool,
    lister: &mut Lister,
    options: &Options,
) -> DatasetParts {
    let has_measured = !parts.test.is_empty() || !parts.validation.is_empty();
    if !has_parts || (options.test_only && !has_measured) {
        return split_up(dir, parts.train, lister, options);
    }
    if options.test_only && !parts.test.is_empty() {
        parts.validation.clear();
    }
    parts
}

/// The parts of a set that has no test images of its own. What is measured on is what a run's list
/// says, or without a run all there is; to train, a part of each class is held back.
fn split_up(dir: &Path, mut files: Files, lister: &mut Lister, options: &Options) -> DatasetParts {
    let empty: Vec<String> =
        files.iter().filter(|(_, files)| files.is_empty()).map(|(class, _)| class.clone()).collect();
    for class in empty {
        files.remove(&class);
        lister.leave(Reason::EmptyFolder, &dir.join(class));
    }
    if let Some(measured) = options.measured.filter(|_| options.test_only) {
        return listed(dir, files, lister, measured);
    }
    if options.test_only {
        return DatasetParts { test: files, ..DatasetParts::default() };
    }
    if let Some(measured) = options.measured.filter(|measured| measured.is_test) {
        let DatasetParts { test, .. } = listed(dir, files.clone(), lister, measured);
        files.values_mut().for_each(|files| files.retain(|path| !measured.files.contains(&below(dir, path))));
        return DatasetParts { train: files, test, ..DatasetParts::default() };
    }
    let mut test = Files::new();
    for (number, (class, files)) in files.iter_mut().enumerate() {
        let held_back: BTreeSet<usize> = split::test(files.len(), options.seed, number).into_iter().collect();
        let (mut index, mut kept) = (0.., Vec::new());
        let is_held_back = |_: &PathBuf| index.next().is_some_and(|i| held_back.contains(&i));
        let (taken, rest): (Vec<_>, Vec<_>) = std::mem::take(files).into_iter().partition(is_held_back);
        kept.extend(rest);
        *files = kept;
        if !taken.is_empty() {
            test.insert(class.clone(), taken);
        }
    }
    DatasetParts { train: files, test, ..DatasetParts::default() }
}

/// The files that a run was measured on.
fn listed(dir: &Path, mut files: Files, lister: &mut Lister, measured: &Measured) -> DatasetParts {
    let mut found = BTreeSet::new();
    for files in files.values_mut() {
        files.retain(|path| {
            let name = below(dir, path);
            let is_listed = measured.files.contains(&name);
            found.extend(is_listed.then_some(name));
            is_listed
        });
    }
    files.retain(|_, files| !files.is_empty());
    measured.files.difference(&found).for_each(|name| lister.left_out.add(Reason::Gone, name));
    match measured.is_test {
        true => DatasetParts { test: files, ..DatasetParts::default() },
        false => DatasetParts { validation: files, ..DatasetParts::default() },
    }
}
