//! The folder that downloads are kept in, and which of the files there may be taken.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::environment;
use crate::error::{Error, Result};
use crate::files;

/// `CIFAR_ENGINE_CACHE`, in which a `~/` in front stands for the user's folder, or the user's own
/// cache folder. None where a user has no folder: a place that all users share is no place to
/// trust.
pub(super) fn default_folder() -> Option<PathBuf> {
    match environment::value("CIFAR_ENGINE_CACHE") {
        Some(given) => {
            expanded(Path::new(&given), directories::BaseDirs::new().as_ref().map(|dirs| dirs.home_dir()))
        }
        None => {
            directories::ProjectDirs::from("", "", "cifar-engine").map(|dirs| dirs.cache_dir().to_path_buf())
        }
    }
}

/// A path with the user's folder for `~`; none where that is not known, or is another user's
/// (`~name`).
fn expanded(path: &Path, home: Option<&Path>) -> Option<PathBuf> {
    match path.strip_prefix("~") {
        Ok(rest) => home.map(|home| home.join(rest)),
        Err(_) if path.as_os_str().as_encoded_bytes().starts_with(b"~") => None,
        Err(_) => Some(path.to_path_buf()),
    }
}

/// The folder, of [`default_folder`] or another.
///
/// # Errors
/// If there is none.
pub(crate) fn folder(folder: &Option<PathBuf>) -> Result<&Path> {
    folder.as_deref().ok_or_else(|| {
        let problem = "there is no folder for downloads (no home folder, or one that is not known); set \
                       CIFAR_ENGINE_CACHE to the full path of a folder of your own";
        Error::Failed(problem.into())
    })
}

/// Checks that nobody else has put a file or folder where it is: in a folder that others can write
/// to, it must be one's own.
///
/// # Errors
/// If another user could have put it there.
pub(crate) fn check_own(path: &Path) -> Result<()> {
    match files::is_foreign(path) {
        false => Ok(()),
        true => Err(Error::file(
            path,
            "is another user's, in a folder that others can write to, so it is not trusted; set CIFAR_ENGINE_CACHE to a \
             folder of your own",
        )),
    }
}

/// Advice about a file of the cache that cannot be written.
pub(super) fn advice(error: &io::Error) -> String {
    let elsewhere = "set CIFAR_ENGINE_CACHE to a folder";
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            format!("the disk is full; free some space, or {elsewhere} on another disk")
        }
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            format!("cannot be written ({error}); {elsewhere} of your own")
        }
        ErrorKind::NotADirectory | ErrorKind::AlreadyExists => {
            format!("a part of this path is a file; {elsewhere}")
        }
        ErrorKind::NotFound => format!("cannot be made ({error}); {elsewhere} that can be written to"),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_users_folder_is_known_by_its_sign() {
        let home = Path::new("/home/me");
        for (given, expected) in [
            ("~", Some("/home/me")),
            ("~/c/d", Some("/home/me/c/d")),
            ("~other/c", None),
            ("a/~", Some("a/~")),
            ("/x", Some("/x")),
        ] {
            assert_eq!(expanded(Path::new(given), Some(home)), expected.map(PathBuf::from), "{given}");
        }
        assert_eq!(expanded(Path::new("~/c"), None), None);
        assert!(folder(&None).unwrap_err().to_string().contains("CIFAR_ENGINE_CACHE"));
    }

    #[test]
    fn a_full_disk_is_not_told_to_take_more() {
        let text = advice(&io::Error::from(ErrorKind::StorageFull));
        assert!(text.contains("another disk"), "{text}");
    }

    #[cfg(unix)]
    #[test]
    fn what_others_could_have_put_there_is_not_taken() {
        use std::os::unix::fs::{PermissionsExt, chown};
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights");
        std::fs::write(&path, "x").unwrap();
        let open =
            |mode| std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(mode)).unwrap();
        open(0o777);
        check_own(&path).unwrap();
        check_own(&folder.path().join("nothing")).unwrap();
        if chown(&path, Some(61235), None).is_err() {
            return println!("left out: only root can give files away");
        }
        let error = check_own(&path).unwrap_err().to_string();
        assert!(error.contains("another user's") && error.contains("CIFAR_ENGINE_CACHE"), "{error}");
        open(0o755);
        check_own(&path).unwrap();
    }
}
