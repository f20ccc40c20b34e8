//! Names of classes and of data sets: the one place that says which are fit to be kept and printed.

use std::path::{Component, Path};

use unicode_normalization::UnicodeNormalization;

use crate::error::{path_text, printable};

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
