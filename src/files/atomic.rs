//! Files that are written whole or not at all.
//!
//! A run that is killed, or a disk that fills up, leaves the previous checkpoint or curve as it
//! was; a reader never sees half a file.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::open_plain;
use crate::console;
use crate::error::{Error, Result};

/// Writes `path` through a temporary file in the same folder: `fill` gets the buffered file, then
/// the bytes are flushed to the disk and the file is renamed over `path` in one step.
///
/// When `fill` fails nothing is left behind and an older file at `path` stays as it was. When the
/// process is killed, the older file stays too, and so may the temporary one, which is called
/// `.NAME.writing` (a digest where that is too long for a name); the next save of the same file
/// uses it up. While it is written it is locked: a second process that saves the same file waits,
/// and the later one wins.
///
/// A link is followed, also to where nothing is yet, so it goes on pointing at the new file. What
/// is no plain file (a device, a pipe), and everything by a name under `/dev` or `/proc` such as
/// `/dev/stdout`, is written in place, at its end: a rename would replace the device itself, or the
/// file that a shell has connected. There, half of the output may remain after a failure.
/// `/dev/shm` is a folder like any other.
///
/// # Errors
/// [`Error::File`] with `path` and what to do about it.
pub fn write_atomic(
    path: impl AsRef<Path>,
    fill: impl FnOnce(&mut BufWriter<&File>) -> io::Result<()>,
) -> Result<()> {
    let path = path.as_ref();
    let written = follow_links(path).and_then(|target| match fs::metadata(&target) {
        Ok(found) if found.is_dir() => Err(io::Error::from(ErrorKind::IsADirectory)),
        Ok(found) if !found.is_file() || is_special(&target) => write_in_place(&target, fill),
        _ => write_and_rename(&target, fill),
    });
    written.map_err(|error| Error::file(path, advice(&error)))?;
    console::detail(format_args!("written: {}", path.display()));
    Ok(())
}

/// Checks that [`write_atomic`] can begin: before the work whose result is written.
///
/// # Errors
/// As for [`write_atomic`].
pub(super) fn check_writable(path: &Path) -> Result<()> {
    let begun = follow_links(path).and_then(|target| match fs::metadata(&target) {
        Ok(found) if !found.is_file() || is_special(&target) => Ok(()),
        _ => {
            let name = target.file_name().ok_or(ErrorKind::InvalidFilename)?;
            let temporary = folder_of(&target).join(temporary_name(name));
            let _locked = open_temporary(&temporary)?;
            fs::remove_file(&temporary)
        }
    });
    begun.map_err(|error| Error::file(path, advice(&error)))
}

/// Whether the name stands for something that the system has opened already.
fn is_special(path: &Path) -> bool {
    cfg!(unix) && (path.starts_with("/dev") || path.starts_with("/proc")) && !path.starts_with("/dev/shm")
}

/// The path that `path` finally points at, whether that exists or not, but no further than to a
/// special name.
fn follow_links(path: &Path) -> io::Result<PathBuf> {
    const MOST: usize = 40; // as the system itself
    let mut target = path.to_path_buf();
    for _ in 0..MOST {
        if is_special(&target) {
            return Ok(target);
        }
        match fs::read_link(&target) {
            Ok(next) => target = folder_of(&target).join(next), // an absolute `next` replaces all of it
            Err(_) => return Ok(target),
        }
    }
    Err(io::Error::other("links that lead in a circle"))
}

fn write_in_place(
    target: &Path,
    fill: impl FnOnce(&mut BufWriter<&File>) -> io::Result<()>,
) -> io::Result<()> {
    let file = File::options().append(true).open(target)?;
    let mut buffered = BufWriter::new(&file);
    fill(&mut buffered)?;
    buffered.flush()
}

fn write_and_rename(
    target: &Path,
    fill: impl FnOnce(&mut BufWriter<&File>) -> io::Result<()>,
) -> io::Result<()> {
    let name = target.file_name().ok_or(ErrorKind::InvalidFilename)?;
    let folder = folder_of(target);
    let temporary = folder.join(temporary_name(name));
    let file = open_temporary(&temporary)?;
    if let Ok(before) = fs::metadata(target) {
        // What a user has kept from others, or opened to them, stays so; where that cannot be,
        // permissions mean nothing.
        let _ = file.set_permissions(before.permissions());
    }
    let written = fill_and_sync(&file, fill).and_then(|()| fs::rename(&temporary, target));
    if written.is_err() {
        let _ = fs::remove_file(&temporary); // the first error is the one to tell
    }
    written?;
    sync_folder(&folder);
    Ok(())
}

fn fill_and_sync(file: &File, fill: impl FnOnce(&mut BufWriter<&File>) -> io::Result<()>) -> io::Result<()> {
    let mut buffered = BufWriter::new(file);
    fill(&mut buffered)?;
    buffered.flush()?;
    drop(buffered);
    // Without this the rename can reach the disk before the bytes do, and a power cut would leave
    // an empty file under the final name.
    file.sync_all()
}

/// `.NAME.writing`; of a name so long that this would be none, a digest of it.
fn temporary_name(name: &OsStr) -> OsString {
    const LONGEST: usize = 255; // bytes of a name, by most file systems
    let mut hidden = OsString::from(".");
    hidden.push(name);
    hidden.push(".writing");
    if hidden.len() <= LONGEST {
        return hidden;
    }
    let digest = Sha256::digest(name.as_encoded_bytes());
    let short: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!(".{short}.writing").into()
}

/// The empty temporary file, locked until it is closed.
fn open_temporary(path: &Path) -> io::Result<File> {
    loop {
        // Anything but a plain file, a link above all, has no business under this name.
        if fs::symlink_metadata(path).is_ok_and(|found| !found.is_file()) {
            fs::remove_file(path)?;
        }
        let file = open_plain(path)?;
        match file.lock() {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            // Some network file systems know no locks; two processes there must not share a file.
            _ => {}
        }
        // Whoever held the lock before has renamed or removed the file that was opened here.
        if is_still(&file, path)? {
            file.set_len(0)?;
            return Ok(file);
        }
    }
}

/// Whether `path` still names the open `file`.
#[cfg(unix)]
pub(crate) fn is_still(file: &File, path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let opened = file.metadata()?;
    match fs::symlink_metadata(path) {
        Ok(found) => Ok((found.dev(), found.ino()) == (opened.dev(), opened.ino())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(not(unix))]
pub(crate) fn is_still(_file: &File, path: &Path) -> io::Result<bool> {
    Ok(path.exists())
}

pub(crate) fn folder_of(target: &Path) -> PathBuf {
    match target.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        _ => PathBuf::from("."),
    }
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

pub(crate) fn advice(error: &io::Error) -> String {
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
        ErrorKind::FileTooLarge => {
            "larger than files may be here (ulimit -f, or the disk's own limit); raise the limit or choose \
             another output path"
                .into()
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

    #[test]
    fn what_a_killed_run_left_is_used_up_and_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("best.safetensors");
        fs::write(folder.path().join(".best.safetensors.writing"), "a long rest of a killed run").unwrap();
        write_atomic(&path, |file| file.write_all(b"new")).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(entries(folder.path()), 1);
    }

    #[test]
    fn many_who_save_the_same_file_never_mix() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.txt");
        std::thread::scope(|scope| {
            for letter in [b'a', b'b', b'c', b'd'] {
                let path = &path;
                scope.spawn(move || {
                    for _ in 0..10 {
                        write_atomic(path, |file| (0..50).try_for_each(|_| file.write_all(&[letter; 1000])))
                            .unwrap();
                        let seen = fs::read(path).unwrap();
                        assert!(seen.len() == 50_000 && seen.iter().all(|byte| *byte == seen[0]));
                    }
                });
            }
        });
        assert_eq!(entries(folder.path()), 1);
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
    fn permissions_of_a_file_that_was_there_stay() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        fs::write(&path, "x").unwrap();
        for mode in [0o600, 0o640, 0o664] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            write_atomic(&path, |file| file.write_all(b"new")).unwrap();
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, mode);
        }
    }

    #[test]
    fn names_of_any_length_that_a_file_can_have_are_written() {
        let folder = tempfile::tempdir().unwrap();
        for length in [245, 246, 247, 255] {
            let path = folder.path().join("x".repeat(length));
            write_atomic(&path, |file| file.write_all(b"new")).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        }
        assert_eq!(entries(folder.path()), 4);
        assert_ne!(
            temporary_name(OsStr::new(&"x".repeat(250))),
            temporary_name(OsStr::new(&"x".repeat(251)))
        );
    }

    #[cfg(unix)]
    #[test]
    fn what_is_no_plain_file_is_neither_followed_nor_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("precious"), "old").unwrap();
        std::os::unix::fs::symlink("precious", at("link")).unwrap();
        std::os::unix::fs::symlink("nothing", at("dangling")).unwrap();
        fs::create_dir(at("folder")).unwrap();
        let made = std::process::Command::new("mkfifo").arg(at("pipe")).status();
        let pipes: &[&str] = if made.is_ok_and(|status| status.success()) { &["pipe"] } else { &[] };
        for name in ["link", "dangling", "folder"].iter().chain(pipes) {
            let error = open_plain(&at(name)).unwrap_err().to_string();
            assert!(error.contains("plain file was expected"), "{name}: {error}");
        }
        assert!(!at("nothing").exists());
        assert_eq!(fs::read_to_string(at("precious")).unwrap(), "old");
        open_plain(&at("new")).unwrap();
        open_plain(&at("new")).unwrap();
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

    #[cfg(unix)]
    #[test]
    fn links_to_nothing_are_written_through_and_circles_refused() {
        use std::os::unix::fs::symlink;
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        symlink("second", at("first")).unwrap();
        symlink(at("real"), at("second")).unwrap();
        write_atomic(at("first"), |file| file.write_all(b"new")).unwrap();
        assert!(fs::symlink_metadata(at("first")).unwrap().is_symlink());
        assert!(fs::symlink_metadata(at("real")).unwrap().is_file());
        symlink(at("one"), at("other")).unwrap();
        symlink(at("other"), at("one")).unwrap();
        let error = write_atomic(at("one"), |_| Ok(())).unwrap_err().to_string();
        assert!(error.contains("circle"), "{error}");
        // A link under the temporary name is replaced, not followed.
        fs::write(at("precious"), "old").unwrap();
        symlink(at("precious"), at(".real.writing")).unwrap();
        write_atomic(at("real"), |file| file.write_all(b"newer")).unwrap();
        assert_eq!(fs::read_to_string(at("precious")).unwrap(), "old");
        assert_eq!(fs::read_to_string(at("real")).unwrap(), "newer");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_file_that_is_connected_already_is_written_in_place() {
        use std::os::fd::AsRawFd;
        let folder = tempfile::tempdir().unwrap();
        let real = folder.path().join("redirected");
        fs::write(&real, "before ").unwrap();
        let open = File::open(&real).unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(format!("/proc/self/fd/{}", open.as_raw_fd()), &link).unwrap();
        write_atomic(&link, |file| file.write_all(b"after")).unwrap();
        assert_eq!(io::read_to_string(open).unwrap(), "before after");
        assert_eq!(entries(folder.path()), 2);
    }
}
