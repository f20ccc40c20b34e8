//! The one place through which every output file is written, whole or not at all
//! ([`write_atomic`]), and small text files are read.

mod atomic;
mod kept;

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::{Component, Path, PathBuf};

use serde::de::DeserializeOwned;

use crate::console;
use crate::error::{Error, Result, path_text};
pub(crate) use atomic::folder_of;
pub use atomic::write_atomic;
pub(crate) use atomic::{advice, is_still};
pub(crate) use kept::{VERSION, keep, kept_path, read_kept};

/// Reads a text file, of which no more than `limit` bytes are ever in memory.
///
/// # Errors
/// If it cannot be read, is longer, or is no UTF-8 text.
pub fn read_text(path: impl AsRef<Path>, limit: u64) -> Result<String> {
    let path = path.as_ref();
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(limit + 1).read_to_end(&mut bytes));
    read.map_err(|error| Error::file(path, unreadable(&error)))?;
    if bytes.len() as u64 > limit {
        return Err(Error::file(path, format!("longer than {limit} bytes; this is another kind of file")));
    }
    console::detail(format_args!("read: {}", path.display()));
    String::from_utf8(bytes).map_err(|_| Error::file(path, "is not UTF-8 text"))
}

/// Message where a file or folder cannot be read.
pub fn unreadable(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => "does not exist; check the path".into(),
        ErrorKind::PermissionDenied => "no permission to read it; change its permissions".into(),
        ErrorKind::IsADirectory => "is a folder, where a file was expected".into(),
        _ => format!("cannot be read: {error}"),
    }
}

/// Whether there is a plain file by this name.
///
/// # Errors
/// If that cannot be told, as in a folder without permission.
pub fn is_file(path: &Path) -> Result<bool> {
    match fs::metadata(path) {
        Ok(found) => Ok(found.is_file()),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            Err(Error::file(path, unreadable(&error)))
        }
        Err(_) => Ok(false),
    }
}

/// [`is_file`], where anything else by this name than a file is an error too.
///
/// # Errors
/// As for [`is_file`]; and if there is a folder, a pipe or a link to nothing.
pub fn is_file_or_nothing(path: &Path) -> Result<bool> {
    match is_file(path)? {
        false if fs::symlink_metadata(path).is_ok() => {
            Err(Error::file(path, "is no plain file, where one was expected; move it away"))
        }
        found => Ok(found),
    }
}

/// Reads a TOML file, as [`read_text`] does.
///
/// # Errors
/// If it cannot be read, is no TOML, or says something else than a `T`; with the line.
pub fn read_toml<T: DeserializeOwned>(path: impl AsRef<Path>, limit: u64) -> Result<T> {
    let path = path.as_ref();
    let text = read_text(path, limit)?;
    // TOML's own integers are signed. What is larger than they are could be read here, but never be
    // written again.
    let parsed = toml::from_str::<toml::Table>(&text).and_then(|_| toml::from_str(&text));
    parsed.map_err(|error| {
        let line = error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
        // Names as the file has them, not as options.
        Error::file(path, format!("line {line}: {}", without_types(error.message()).replace('`', "'")))
    })
}

/// A parser's message with words for Rust's types of numbers.
fn without_types(message: &str) -> String {
    let words = |word: &str| match word {
        "usize" | "u64" | "u32" | "u16" | "u8" => Some("a whole number from 0"),
        "f32" | "f64" => Some("a number"),
        _ => None,
    };
    let parts = message.split(' ').map(|word| words(word).unwrap_or(word));
    parts.collect::<Vec<_>>().join(" ")
}

/// Opens a plain file for reading and writing, and creates it where there is none. A name in a
/// folder that others can write to may be taken by something else: a link is not followed, the
/// other end of a pipe not waited for.
///
/// # Errors
/// If it is no plain file, or cannot be opened.
pub(crate) fn open_plain(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.create(true).truncate(false).read(true).write(true);
    #[cfg(unix)]
    {
        use rustix::fs::OFlags;
        use std::os::unix::fs::OpenOptionsExt;
        options.custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32);
    }
    let is_plain = |found: fs::Metadata| found.is_file();
    match options.open(path) {
        Ok(file) if file.metadata().is_ok_and(is_plain) => Ok(file),
        Err(error) if fs::symlink_metadata(path).map_or(true, is_plain) => Err(error),
        _ => {
            Err(io::Error::other("is a link, a pipe or a folder, where a plain file was expected; delete it"))
        }
    }
}

/// Whether another user could have put `path` where it is: it is not this user's nor the system's,
/// and lies in a folder that others can write to.
#[cfg(unix)]
pub(crate) fn is_foreign(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let own = |found: fs::Metadata| [0, rustix::process::geteuid().as_raw()].contains(&found.uid());
    let owned = [fs::symlink_metadata(path), fs::metadata(path)].into_iter().flatten().all(own);
    let shared = fs::metadata(folder_of(path)).is_ok_and(|folder| folder.mode() & 0o022 != 0);
    shared && !owned
}

#[cfg(not(unix))]
pub(crate) fn is_foreign(_path: &Path) -> bool {
    false
}

/// Bytes that this user can still write to the disk of a folder, where the system tells.
pub(crate) fn free_space(folder: &Path) -> Option<u64> {
    #[cfg(unix)]
    return rustix::fs::statvfs(folder).ok().map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize));
    #[cfg(not(unix))]
    return Some(folder).and(None);
}

/// Checks that a file can be written where it is to be, and is none of those that are read, nor one
/// in a folder of them, nor a new one in a folder below such a folder: before the work whose result
/// it is.
///
/// # Errors
/// If there is no folder for it, or none that may be written to; it is a folder itself, or read.
pub fn check_output(out: &Path, read: &[PathBuf]) -> Result<()> {
    let folder = folder_of(out);
    if !folder.is_dir() {
        return Err(Error::file(out, format!("there is no folder {}; create it first", path_text(&folder))));
    }
    if out.is_dir() {
        return Err(Error::file(out, "is a folder; name a file"));
    }
    // Directly in a folder that is read, beside those of classes, a new file does no harm.
    let is_beside = |read: &Path| !out.exists() && read.is_dir() && is_within(read, &folder);
    match read.iter().find(|read| is_within(out, read) && !is_beside(read)) {
        None => atomic::check_writable(out),
        Some(_) if out.exists() => Err(Error::Usage(format!(
            "{} is read here and would be lost; write to another file",
            path_text(out)
        ))),
        Some(around) => Err(Error::Usage(format!(
            "{} would lie among what is read here, in {}; write it elsewhere",
            path_text(out),
            path_text(around)
        ))),
    }
}

/// Whether a path, to which there may be nothing yet, is another one or lies in that folder.
pub fn is_within(path: &Path, folder: &Path) -> bool {
    // What is not there will lie below the nearest folder around it that is.
    let there = path.ancestors().find_map(|around| {
        let found = fs::canonicalize(if around.as_os_str().is_empty() { Path::new(".") } else { around });
        Some((found.ok()?, path.strip_prefix(around).unwrap_or(path)))
    });
    let (Some((mut whole, rest)), Ok(folder)) = (there, fs::canonicalize(folder)) else { return false };
    for part in rest.components() {
        match part {
            Component::ParentDir => drop(whole.pop()),
            part => whole.push(part),
        }
    }
    whole.starts_with(folder)
}

/// The ending of a picture or of what prints as one, in small letters.
fn picture_ending(path: &Path) -> Option<String> {
    const PICTURES: [&str; 13] =
        ["png", "jpg", "jpeg", "webp", "gif", "bmp", "tif", "tiff", "svg", "pdf", "eps", "avif", "heic"];
    let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase());
    ending.filter(|ending| PICTURES.contains(&ending.as_str()))
}

/// Checks that a file is not called `-`, which is standard output to those who write it.
fn check_no_dash(path: &Path) -> Result<()> {
    let problem = "is not written to standard output; give the name of a file, or ./- for one of this name";
    if path == Path::new("-") { Err(Error::file(path, problem)) } else { Ok(()) }
}

/// Checks that a file which is no picture is not written by the name of one, and so perhaps over
/// one; `ending` is what it should have.
///
/// # Errors
/// If its ending is a picture's, or it is called `-`.
pub fn check_no_picture(path: &Path, ending: &str) -> Result<()> {
    check_no_dash(path)?;
    match picture_ending(path) {
        None => Ok(()),
        Some(found) => {
            let proper = path.with_extension(ending);
            Err(Error::file(path, format!("would be no {found} file; name it {}", path_text(&proper))))
        }
    }
}

/// Checks that a picture which is written by this name can be a PNG.
///
/// # Errors
/// If its ending is that of another kind of picture or document, or it is called `-`.
pub fn check_picture(path: &Path) -> Result<()> {
    check_no_dash(path)?;
    match picture_ending(path).filter(|ending| ending != "png") {
        None => Ok(()),
        Some(ending) => {
            let png = path.with_extension("png");
            Err(Error::file(
                path,
                format!("pictures are written as PNG, not {ending}; name it {}", path_text(&png)),
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_picture_is_that_of_what_is_written() {
        for fine in ["a.png", "a.PNG", "a", "a.b.png", "/dev/stdout", "jpg"] {
            check_picture(Path::new(fine)).unwrap();
        }
        let message = check_picture(Path::new("curves/a.JPG")).unwrap_err().to_string();
        assert_eq!(message, "curves/a.JPG: pictures are written as PNG, not jpg; name it curves/a.png");
    }

    #[test]
    fn what_is_not_there_yet_lies_where_it_will() {
        let dir = tempfile::tempdir().unwrap();
        let photos = dir.path().join("photos");
        fs::create_dir(&photos).unwrap();
        for (path, within) in [
            ("photos", true),
            ("photos/new/a.png", true),
            ("new/../photos/why", true),
            ("photos/new/../../other", false),
            ("other", false),
            ("photos2/a", false),
        ] {
            assert_eq!(is_within(&dir.path().join(path), &photos), within, "{path}");
        }
    }

    /// Nobody may write into the folders of the processes, root neither.
    #[cfg(target_os = "linux")]
    #[test]
    fn an_output_that_cannot_be_written_is_told_beforehand() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("page.html");
        check_output(&out, &[]).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        check_output(Path::new("/dev/null"), &[]).unwrap();
        for (out, told) in [("/sys/page.html", "page.html"), ("/proc/none/page.html", "there is no folder")] {
            let error = check_output(Path::new(out), &[]).unwrap_err().to_string();
            assert!(error.contains(told), "{error}");
        }
    }

    #[test]
    fn text_is_read_up_to_a_limit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("text");
        fs::write(&path, "twelve bytes").unwrap();
        assert_eq!(read_text(&path, 12).unwrap(), "twelve bytes");
        assert!(read_text(&path, 11).unwrap_err().to_string().contains("longer than 11 bytes"));
        fs::write(&path, [0xff, 0xfe]).unwrap();
        assert!(read_text(&path, 12).unwrap_err().to_string().contains("UTF-8"));
        assert!(read_text(folder.path(), 12).is_err());
    }
}
