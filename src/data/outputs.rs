//! Files that are written, and the data: no image may be lost by one, and none may come to lie
//! among the images, where the next training would take it for one.

use std::fs;
use std::path::{Path, PathBuf};

use super::listing::Lister;
use super::{DataSource, Dataset, Options, cifar10, table};
use crate::error::{Error, Result, path_text};
use crate::files::{check_output, folder_of, is_within};

impl DataSource {
    /// Checks that a file can be written, and costs the data nothing: it is none of them, nor in
    /// one of their folders. Directly in a folder of images, beside those of classes, a picture
    /// does no harm.
    ///
    /// # Errors
    /// If it is, or as for [`check_output`].
    pub fn check_output(&self, out: &Path) -> Result<()> {
        let DataSource::Path(path) = self else { return check_output(out, &[]) };
        if let Some(folder) = cifar10::find_folder(path) {
            return check_output(out, &cifar10::files(&folder).collect::<Vec<_>>());
        }
        if !self.is_image_folder() {
            return check_output(out, std::slice::from_ref(path));
        }
        if self.is_table() {
            check_output(out, std::slice::from_ref(path))?;
            return check_none_of(self.named_files(), out);
        }
        check_output(out, &[])?;
        match lies_below(&folder_of(out), path) {
            false => Ok(()),
            true if out.exists() => {
                let problem = format!("{} is read here and would be lost", path_text(out));
                Err(Error::Usage(format!("{problem}; write to another file")))
            }
            true => {
                let problem = format!("{} would lie among what is read here", path_text(out));
                Err(Error::Usage(format!("{problem}, in {}; write it elsewhere", path_text(path))))
            }
        }
    }

    /// Checks that pictures which are written to a folder, which may be new, neither replace images
    /// nor lie among them.
    ///
    /// # Errors
    /// If they would.
    pub fn check_apart(&self, folder: &Path) -> Result<()> {
        let DataSource::Path(data) = self else { return Ok(()) };
        let images = if self.is_table() {
            let own = fs::canonicalize(folder);
            let is_in_it = |file: &PathBuf| {
                own.as_ref().is_ok_and(|own| fs::canonicalize(file).is_ok_and(|file| file.starts_with(own)))
            };
            self.named_files().into_iter().filter(is_in_it).collect()
        } else if is_within(folder, data) && folder.is_dir() {
            Lister { skip_bad: true, ..Lister::default() }.images(folder)?
        } else {
            Vec::new()
        };
        if let Some(image) = images.first() {
            let problem = format!("holds images of the data ({})", path_text(image));
            return Err(Error::file(folder, format!("{problem}; choose another folder")));
        }
        match self.is_image_folder() && !self.is_table() && lies_below(folder, data) {
            false => Ok(()),
            true => {
                let problem = format!("lies in {}, whose images are read", path_text(data));
                Err(Error::file(folder, format!("{problem}; choose another folder")))
            }
        }
    }

    /// All images that a table names. What is wrong with it, loading it tells.
    fn named_files(&self) -> Vec<PathBuf> {
        let DataSource::Path(path) = self else { return Vec::new() };
        let mut lister = Lister { skip_bad: true, ..Lister::default() };
        let parts = table::list(path, &mut lister, &Options::default()).unwrap_or_default();
        let all = [parts.train, parts.validation, parts.test];
        all.into_iter().flat_map(|files| files.into_values().flatten()).collect()
    }
}

impl Dataset {
    /// Checks that a file which is written by this name replaces none of the images, by whatever
    /// names they were found.
    ///
    /// # Errors
    /// If it is one of them.
    pub fn check_kept(&self, out: &Path) -> Result<()> {
        let names = [&self.train, &self.validation, &self.test].into_iter().flat_map(|set| &set.files);
        let folder = self.folder.as_deref().unwrap_or(Path::new(""));
        check_none_of(names.map(|name| folder.join(name)), out)
    }
}

/// Checks that a file which is written by this name replaces none of these.
fn check_none_of(files: impl IntoIterator<Item = PathBuf>, out: &Path) -> Result<()> {
    let Some(own) = identity(out) else { return Ok(()) };
    match files.into_iter().any(|file| identity(&file).is_some_and(|file| file == own)) {
        false => Ok(()),
        true => {
            let problem = format!("{} is an image of the data and would be lost", path_text(out));
            Err(Error::Usage(format!("{problem}; write to another file")))
        }
    }
}

/// What tells a file from others, whatever its names; none where there is none.
#[cfg(unix)]
fn identity(path: &Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(path).ok().map(|found| (found.dev(), found.ino()))
}

#[cfg(not(unix))]
fn identity(path: &Path) -> Option<PathBuf> {
    fs::canonicalize(path).ok()
}

/// Whether a folder, which may be new, lies below another one, and is not that one itself.
fn lies_below(folder: &Path, data: &Path) -> bool {
    is_within(folder, data) && (!folder.exists() || !is_within(data, folder))
}
