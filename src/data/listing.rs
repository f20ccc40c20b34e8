//! The image files of folders: which files are images, in which order, and what is left out.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use super::image_file::SKIP;
use super::left_out::{LeftOut, Reason};
use super::watch::{self, Unwatched, Watch};
use crate::error::{Error, Result, path_text};
use crate::files::unreadable;

/// Names of files that are tried; what is in them is told by their content.
const EXTENSIONS: [&str; 10] = ["png", "jpg", "jpeg", "jpe", "jfif", "webp", "bmp", "gif", "tif", "tiff"];
/// Images all the same, but not to be read here.
const UNSUPPORTED: [&str; 10] = ["heic", "heif", "avif", "jxl", "jp2", "psd", "svg", "ico", "dng", "ppm"];
/// Names of what file managers, archivers and file systems leave in folders.
const SYSTEM: [&str; 9] = [
    "__MACOSX",
    "Thumbs.db",
    "desktop.ini",
    "@eaDir",
    ".DS_Store",
    ".AppleDouble",
    "lost+found",
    "System Volume Information",
    "$RECYCLE.BIN",
];

/// Name in errors of the files that are looked for.
pub const WANTED: &str = "a .png, .jpg, .webp, .gif, .bmp or .tiff file";

/// Something in a folder.
pub enum Entry {
    /// A folder, or a link to one.
    Folder,
    /// An image, by its name.
    Image,
    /// A file that is left out.
    Other(Reason),
}

/// Lists the images of folders, and remembers what it left out.
pub struct Lister<'a> {
    /// Files that were left out so far.
    pub left_out: LeftOut,
    /// Who may stop it.
    pub watch: &'a dyn Watch,
    /// Leave out folders without permission, instead of an error.
    pub skip_bad: bool,
}

impl Default for Lister<'_> {
    /// One that nobody watches, for which a closed folder is an error.
    fn default() -> Self {
        Lister { left_out: LeftOut::default(), watch: &Unwatched, skip_bad: false }
    }
}

impl Lister<'_> {
    /// The images in a folder and in the folders below it, sorted by path. Each folder is visited
    /// once, however many links lead to it, and none of those that the first lies in.
    ///
    /// # Errors
    /// If a folder cannot be read, or the work is to stop.
    pub fn images(&mut self, dir: &Path) -> Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        self.visit(dir, &mut above(dir), &mut found)?;
        Ok(found)
    }

    fn visit(&mut self, dir: &Path, visited: &mut HashSet<PathBuf>, found: &mut Vec<PathBuf>) -> Result<()> {
        if !visited.insert(fs::canonicalize(dir).map_err(|e| Error::file(dir, unreadable(&e)))?) {
            self.leave(Reason::VisitedBefore, dir);
            return Ok(());
        }
        for path in self.entries(dir)? {
            match self.entry(&path) {
                Entry::Folder => self.visit(&path, visited, found)?,
                Entry::Image => found.push(path),
                Entry::Other(reason) => self.leave(reason, &path),
            }
        }
        Ok(())
    }

    /// Everything in a folder, sorted by name.
    ///
    /// # Errors
    /// As for [`Lister::images`].
    pub fn entries(&self, dir: &Path) -> Result<Vec<PathBuf>> {
        watch::check(self.watch)?;
        let mut found: Vec<(OsString, PathBuf)> = Vec::new();
        for entry in open(dir).map_err(|e| Error::file(dir, unreadable(&e)))? {
            let entry = entry.map_err(|e| Error::file(dir, unreadable(&e)))?;
            found.push((entry.file_name(), entry.path()));
        }
        found.sort();
        Ok(found.into_iter().map(|(_, path)| path).collect())
    }

    /// Entry of a path in a folder, by its name and kind.
    pub fn entry(&self, path: &Path) -> Entry {
        match kind(path) {
            Entry::Folder if self.skip_bad && is_closed(path) => Entry::Other(Reason::Closed),
            kind => kind,
        }
    }

    /// An error of listing `dir`, with what can be done where it is a folder below that is closed.
    pub fn advised(&self, error: Error, dir: &Path) -> Error {
        match &error {
            Error::File { path, .. } if path != dir && is_closed(path) => error.with_advice(SKIP),
            _ => error,
        }
    }

    /// Notes that something is left out.
    pub fn leave(&mut self, reason: Reason, path: &Path) {
        self.left_out.add(reason, path_text(path));
    }
}

/// The folders that a folder lies in, by its path and by where that leads: a link to one of them
/// goes in a circle, by way of other classes.
fn above(dir: &Path) -> HashSet<PathBuf> {
    let mut above = HashSet::new();
    if let Ok(real) = fs::canonicalize(dir) {
        above.extend(dir.ancestors().skip(1).filter_map(|folder| fs::canonicalize(folder).ok()));
        above.extend(real.ancestors().skip(1).map(Path::to_path_buf));
        // A path with `..` in it begins further down.
        above.retain(|folder| !folder.starts_with(&real));
    }
    above
}

/// Opens a folder, to read the names in it and, which takes a permission of its own, what they
/// name.
fn open(dir: &Path) -> io::Result<fs::ReadDir> {
    fs::metadata(dir.join("."))?;
    fs::read_dir(dir)
}

fn is_closed(dir: &Path) -> bool {
    open(dir).is_err_and(|error| error.kind() == ErrorKind::PermissionDenied)
}

fn kind(path: &Path) -> Entry {
    let name = path.file_name().unwrap_or_default();
    let hidden = name.as_encoded_bytes();
    if SYSTEM.iter().any(|system| name == *system) || hidden.starts_with(b"._") {
        return Entry::Other(Reason::System);
    }
    if hidden.starts_with(b".") {
        return Entry::Other(Reason::Hidden);
    }
    let extension = path.extension().and_then(OsStr::to_str).unwrap_or_default().to_ascii_lowercase();
    match fs::metadata(path) {
        Err(_) => Entry::Other(Reason::DanglingLink),
        Ok(found) if found.is_dir() && holds_runs(path) => Entry::Other(Reason::Run),
        Ok(found) if found.is_dir() => Entry::Folder,
        Ok(found) if found.is_file() && EXTENSIONS.contains(&&*extension) => Entry::Image,
        Ok(_) if UNSUPPORTED.contains(&&*extension) => Entry::Other(Reason::Format),
        Ok(_) => Entry::Other(Reason::OtherType),
    }
}

/// Whether a folder is that of a run, or `runs`, in which they lie: the images in it are this
/// program's own. Whoever trains in the folder of the images has it among them.
fn holds_runs(folder: &Path) -> bool {
    let is_run = |folder: &Path| {
        let has = |file| folder.join(file).is_file();
        has("settings.toml") && ([".lock", "metrics.csv", "best.safetensors"].into_iter().any(has))
    };
    let mut inside = fs::read_dir(folder).into_iter().flatten().flatten();
    is_run(folder) || folder.ends_with("runs") && inside.any(|entry| is_run(&entry.path()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;

    fn touch(path: &Path) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "x").unwrap();
    }

    #[test]
    fn everything_in_a_folder_is_used_or_named() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["b.JPG", "a/c.webp", "a/deep/d.jfif", "notes.txt", "e.heic", "photo"] {
            touch(&dir.path().join(name));
        }
        for name in [".f.png", "._b.JPG", "__MACOSX/b.JPG", "a/Thumbs.db", "lost+found/b.JPG"] {
            touch(&dir.path().join(name));
        }
        let mut lister = Lister::default();
        let found = lister.images(dir.path()).unwrap();
        let names: Vec<_> = found.iter().map(|path| path.strip_prefix(dir.path()).unwrap()).collect();
        assert_eq!(names, ["a/c.webp", "a/deep/d.jfif", "b.JPG"].map(Path::new));
        let count = |reason| lister.left_out.count(reason);
        assert_eq!([Reason::Format, Reason::Hidden, Reason::OtherType].map(count), [1, 1, 2]);
        assert_eq!(count(Reason::System), 4);
    }

    #[cfg(unix)]
    #[test]
    fn links_that_fan_out_go_in_circles_or_lead_to_nothing() {
        use std::os::unix::fs::symlink;
        let dir = tempfile::tempdir().unwrap();
        let folder = |i: usize| dir.path().join(format!("d{i}"));
        touch(&folder(30).join("x.png"));
        for i in 0..30 {
            fs::create_dir(folder(i)).unwrap();
            symlink(folder(i + 1), folder(i).join("a")).unwrap();
            symlink(folder(i + 1), folder(i).join("b")).unwrap();
        }
        symlink(folder(0), folder(30).join("circle")).unwrap();
        symlink("nowhere", folder(30).join("gone.png")).unwrap();
        let mut lister = Lister::default();
        assert_eq!(lister.images(&folder(0)).unwrap().len(), 1);
        assert_eq!(lister.left_out.count(Reason::VisitedBefore), 31);
        assert_eq!(lister.left_out.count(Reason::DanglingLink), 1);
    }

    #[cfg(unix)]
    #[test]
    fn links_to_folders_above_bring_no_other_class() {
        use std::os::unix::fs::symlink;
        let dir = tempfile::tempdir().unwrap();
        for name in ["data/cat/a.png", "data/dog/b.png", "elsewhere/fox/c.png"] {
            touch(&dir.path().join(name));
        }
        let data = dir.path().join("data");
        symlink("../elsewhere/fox", data.join("fox")).unwrap();
        for class in ["cat", "fox"] {
            symlink(&data, data.join(class).join("all")).unwrap();
            let mut lister = Lister::default();
            assert_eq!(lister.images(&data.join(class)).unwrap().len(), 1, "{class}");
            assert_eq!(lister.left_out.count(Reason::VisitedBefore), 1, "{class}");
        }
        let mut lister = Lister::default();
        assert_eq!(lister.images(&data.join("cat/..")).unwrap().len(), 3);
        assert_eq!(lister.left_out.count(Reason::VisitedBefore), 2);
    }

    #[test]
    fn listing_stops_when_told() {
        let (dir, stop) = (tempfile::tempdir().unwrap(), AtomicBool::new(true));
        let mut lister = Lister { watch: &stop, ..Lister::default() };
        assert!(matches!(lister.images(dir.path()), Err(Error::Interrupted)));
    }
}
