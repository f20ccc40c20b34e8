//! Names of classes and of data sets: the one place that says which are fit to be kept and printed.

use std::path::{Component, Path};

use unicode_normalization::UnicodeNormalization;

use crate::error::{Error, Result, path_text, printable};
use crate::files::read_text;

/// Letters that a name may have.
const MOST: usize = 100;

/// A name goes into reports, images and weight files: it must be short and printable. What is
/// accepted here is accepted when weights are read, and the other way round.
///
/// # Errors
/// What is wrong with it.
pub fn check_class_name(name: &str) -> std::result::Result<(), String> {
    if name.chars().count() > MOST {
        return Err(format!("a class name of more than {MOST} characters; shorten it"));
    }
    match printable(name) == name {
        true => Ok(()),
        false => Err(format!("the class name {name} has control characters; rename it")),
    }
}

/// The name as every system spells it: some write an accent as a letter of its own.
pub fn composed(name: &str) -> String {
    name.nfc().collect()
}

/// The lines of a file, as many as there are classes, but for empty ones before and after them.
/// Lists made for TensorFlow begin with one for the background, which other models do not have.
///
/// # Errors
/// If it cannot be read, has more or fewer lines, or an empty one between others.
pub fn read_class_names(path: &Path, classes: usize) -> Result<Vec<String>> {
    const MOST: u64 = 4 << 20;
    const BACKGROUND: [&str; 4] = ["background", "__background__", "dummy", "none"];
    let text = read_text(path, MOST)?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text).trim_end();
    let lines = text.lines().map(|line| printable(line.trim()).into_owned());
    let lines: Vec<String> = lines.skip_while(String::is_empty).collect();
    let wrong = |problem: String| Err(Error::file(path, problem));
    if let Some(empty) = lines.iter().position(String::is_empty) {
        return wrong(format!("there is an empty line after name {empty}; each line names a class"));
    }
    let extra = lines.first().is_some_and(|first| BACKGROUND.contains(&first.to_lowercase().as_str()));
    match lines.len().checked_sub(classes) {
        Some(0) => Ok(lines),
        Some(1) if extra => Ok(lines[1..].to_vec()),
        _ => wrong(format!(
            "has {} names, but the model has {classes} classes; only a first line 'background' may be too many",
            lines.len()
        )),
    }
}

/// The own name of a folder or archive, also where the path ends in `.` or `..`. One that is called
/// like a built-in source does not get to pass for it.
pub(super) fn name_of(path: &Path) -> String {
    let full = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    let name = full.file_name().map_or_else(|| "pictures".into(), |name| path_text(Path::new(name)));
    if matches!(&*name, "cifar10" | "shapes") {
        format!("{name}-files")
    } else {
        printable(&name).chars().take(MOST).collect()
    }
}

/// A path below a folder, fit to print, with `/` between its parts on every system.
pub(super) fn below(folder: &Path, path: &Path) -> String {
    let parts = path.strip_prefix(folder).unwrap_or(path).components();
    let part = |part: Component| path_text(Path::new(part.as_os_str())).into_owned();
    printable(&parts.map(part).collect::<Vec<_>>().join("/")).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_counted_in_letters() {
        check_class_name(&"猫".repeat(100)).unwrap();
        assert!(check_class_name(&"猫".repeat(101)).unwrap_err().contains("more than 100"));
        assert!(check_class_name("a\u{202e}b").is_err());
    }

    #[test]
    fn a_long_folder_name_is_cut_to_what_weights_can_keep() {
        let parent = tempfile::tempdir().unwrap();
        for name in ["x".repeat(150), "shapes".into(), "a\u{1b}b".into()] {
            let folder = parent.path().join(&name);
            std::fs::create_dir(&folder).unwrap();
            let kept = name_of(&folder);
            check_class_name(&kept).unwrap();
            assert_ne!(kept, name);
        }
    }
}
