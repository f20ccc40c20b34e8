//! The one place through which every output file is written: whole or not at all.
//!
//! A run that is killed, or a disk that fills up, leaves the previous checkpoint or curve as it
//! was; a reader never sees half a file.

use std::fs::{self, File};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Writes `path` through a temporary file in the same folder: `fill` gets the buffered file, then
/// the bytes are flushed to the disk and the file is renamed over `path` in one step.
///
/// When `fill` fails nothing is left behind and an older file at `path` stays as it was. A link
/// is followed, so it goes on pointing at the new file. A device or pipe (`/dev/stdout`) is
/// written in place, for a rename would replace the device itself.
///
/// # Errors
/// [`Error::File`] with `path` and what to do about it.
pub fn write_atomic(
    path: impl AsRef<Path>,
    fill: impl FnOnce(&mut BufWriter<&File>) -> io::Result<()>,
) -> Result<()> {
    let path = path.as_ref();
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    let written = match fs::metadata(&target) {
        Ok(found) if found.is_dir() => Err(io::Error::from(ErrorKind::IsADirectory)),
        Ok(found) if !found.is_file() => write_in_place(&target, fill),
        _ => write_and_rename(&target, fill),
    };
    written.map_err(|error| Error::file(path, advice(&error)))
}

fn write_in_place(
    target: &Path,
    fill: impl FnOnce(&mut BufWriter<&File>) -> io::Result<()>,
) -> io::Result<()> {
    let file = File::options().write(true).open(target)?;
    let mut buffered = BufWriter::new(&file);
    fill(&mut buffered)?;
    buffered.flush()
}

fn write_and_rename(
    target: &Path,
    fill: impl FnOnce(&mut BufWriter<&File>) -> io::Result<()>,
) -> io::Result<()> {
    if target.file_name().is_none() {
        return Err(io::Error::from(ErrorKind::InvalidFilename));
    }
    let folder = folder_of(target);
    let temporary = new_temporary(&folder)?;
    let mut buffered = BufWriter::new(temporary.as_file());
    fill(&mut buffered)?;
    buffered.flush()?;
    drop(buffered);
    // Without this the rename can reach the disk before the bytes do, and a power cut would leave
    // an empty file under the final name.
    temporary.as_file().sync_all()?;
    temporary.persist(target).map_err(|failed| failed.error)?;
    sync_folder(&folder);
    Ok(())
}

fn folder_of(target: &Path) -> PathBuf {
    match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

/// A temporary file that, once renamed, has the permissions of any other new file: the default
/// for temporary files would leave results that no one else on the machine can read.
fn new_temporary(folder: &Path) -> io::Result<tempfile::NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".writing-");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(fs::Permissions::from_mode(0o666)); // the umask takes its share
    }
    builder.tempfile_in(folder)
}

/// Makes the rename itself durable. Some file systems cannot sync a folder; the file is whole
/// either way, so a failure here is no error.
fn sync_folder(folder: &Path) {
    if cfg!(unix)
        && let Ok(folder) = File::open(folder)
    {
        let _ = folder.sync_all();
    }
}

fn advice(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => "the folder does not exist; create it or choose another output path".into(),
        ErrorKind::NotADirectory => {
            "a part of this path is a file, not a folder; choose another output path".into()
        }
        ErrorKind::IsADirectory => "this is a folder; give the name of a file to write".into(),
        ErrorKind::InvalidFilename => "not a usable file name; choose another output path".into(),
        ErrorKind::PermissionDenied => {
            "no permission to write here; choose another output path or change the folder's permissions"
                .into()
        }
        ErrorKind::ReadOnlyFilesystem => "the disk is read-only; choose another output path".into(),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            "the disk is full; free some space or choose another output path".into()
        }
        _ => format!("cannot be written: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(folder: &Path) -> usize {
        fs::read_dir(folder).unwrap().count()
    }

    #[test]
    fn writes_and_replaces_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.txt");
        for text in ["first", "second, longer"] {
            write_atomic(&path, |file| file.write_all(text.as_bytes())).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(entries(folder.path()), 1, "no temporary file may be left");
    }

    #[test]
    fn a_failure_keeps_the_old_file_and_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.txt");
        fs::write(&path, "old").unwrap();
        let failed = write_atomic(&path, |file| {
            file.write_all(b"half of the new")?;
            Err(io::Error::from(ErrorKind::StorageFull))
        });
        let message = failed.unwrap_err().to_string();
        assert!(message.contains("out.txt") && message.contains("free some space"), "{message}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(entries(folder.path()), 1);
    }

    #[test]
    fn unusable_targets_say_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "x").unwrap();
        let cases = [
            (folder.path().join("missing/out.txt"), "create it"),
            (file.join("out.txt"), "is a file, not a folder"),
            (folder.path().to_path_buf(), "give the name of a file"),
        ];
        for (path, expected) in cases {
            let error = write_atomic(&path, |_| Ok(())).unwrap_err();
            assert!(matches!(error, Error::File { .. }));
            assert!(error.to_string().contains(expected), "{error}");
        }
        assert!(write_atomic("", |_| Ok(())).is_err());
    }

    #[cfg(unix)]
    #[test]
    fn permissions_are_those_of_a_plain_new_file() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let (plain, atomic) = (folder.path().join("plain"), folder.path().join("atomic"));
        fs::write(&plain, "x").unwrap();
        write_atomic(&atomic, |file| file.write_all(b"x")).unwrap();
        let mode = |path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&plain), mode(&atomic));
    }

    #[cfg(unix)]
    #[test]
    fn devices_and_links_stay_what_they_are() {
        use std::os::unix::fs::FileTypeExt;
        write_atomic("/dev/null", |file| file.write_all(b"x")).unwrap();
        assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());

        let folder = tempfile::tempdir().unwrap();
        let (real, link) = (folder.path().join("real"), folder.path().join("link"));
        fs::write(&real, "old").unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        write_atomic(&link, |file| file.write_all(b"new")).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(&real).unwrap(), "new");
    }
}
