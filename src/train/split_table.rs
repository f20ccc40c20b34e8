//! `split.csv`: which file of a run's data was trained on, validated with and tested on. It is what
//! a run is measured on again later, whatever has come to the data's folder since.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::data::{Dataset, Measured};
use crate::error::{Error, Result};
use crate::files::read_text;
use crate::report::csv::{self, cell};

/// The name of the file.
pub const FILE: &str = "split.csv";
const HEADER: &str = "file,split";
/// A table of millions of files is no longer than this.
const MOST: u64 = 1 << 30;

/// The part of each file, by its name.
type Split = BTreeMap<String, String>;

fn split_of(data: &Dataset) -> Split {
    let parts = [("train", &data.train), ("validation", &data.validation), ("test", &data.test)];
    let rows = parts
        .iter()
        .flat_map(|(part, images)| images.files.iter().map(|file| (file.clone(), part.to_string())));
    rows.collect()
}

/// Writes the table of a data set that has been split; nothing where its images are not from files
/// of their own.
///
/// # Errors
/// If it cannot be written.
pub fn write(folder: &Path, data: &Dataset) -> Result<()> {
    if data.train.files.is_empty() {
        return Ok(());
    }
    let rows = split_of(data).into_iter().map(|(file, part)| format!("{},{part}", cell(&file)));
    csv::write(&folder.join(FILE), HEADER, rows)
}

/// Checks that a run that is continued trains on the files that it was begun with, if the folder
/// has a table.
///
/// # Errors
/// If the table cannot be read, or a file differs, which is named.
pub fn check(folder: &Path, data: &Dataset) -> Result<()> {
    let Some(begun) = read(folder)? else { return Ok(()) };
    let trained = |split: Split| -> Split { split.into_iter().filter(|(_, part)| part != "test").collect() };
    let (begun, now) = (trained(begun), trained(split_of(data)));
    let files: BTreeSet<&String> = begun.keys().chain(now.keys()).collect();
    let Some(file) = files.into_iter().find(|file| begun.get(*file) != now.get(*file)) else { return Ok(()) };
    let differs = match (begun.get(file), now.get(file)) {
        (Some(was), Some(is)) => format!("was for {was} and is for {is}"),
        (Some(was), None) => format!("was for {was} and is gone"),
        (None, _) => "is new".to_string(),
    };
    let problem = format!("the data is not what this run was begun with: {file} {differs}");
    Err(Error::file(folder.join(FILE), problem + "; give the folder its images again, or begin another run"))
}

/// What the run in a folder is measured on; none where its images are not from files of their own.
///
/// # Errors
/// If the table cannot be read.
pub fn measured(folder: &Path) -> Result<Option<Measured>> {
    let Some(split) = read(folder)? else { return Ok(None) };
    let is_test = split.values().any(|part| part == "test");
    let wanted = if is_test { "test" } else { "validation" };
    let files = split.into_iter().filter(|(_, part)| part == wanted).map(|(file, _)| file).collect();
    Ok(Some(Measured { is_test, files }))
}

fn read(folder: &Path) -> Result<Option<Split>> {
    let path = folder.join(FILE);
    if !path.is_file() {
        return Ok(None);
    }
    let text = read_text(&path, MOST)?;
    let row = |line: &str| match csv::row(line).as_slice() {
        [file, part] => Ok((file.clone(), part.clone())),
        _ => Err(Error::file(&path, format!("has a line that is not '{HEADER}': {line}"))),
    };
    text.lines().skip(1).map(row).collect::<Result<Split>>().map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Images;

    fn images(files: &[&str]) -> Images {
        let files: Vec<String> = files.iter().map(|file| file.to_string()).collect();
        let black = Images::black(files.len(), 8);
        Images { files, ..black }
    }

    #[test]
    fn a_table_comes_back_and_tells_what_differs() {
        let folder = tempfile::tempdir().unwrap();
        let (train, validation) = (images(&["a/1, 2.png", "=b/\"x\".png"]), images(&["a/3.png"]));
        let mut data = Dataset { train, validation, test: images(&["'c/4.png"]), ..Dataset::default() };
        assert_eq!(measured(folder.path()).unwrap(), None);
        check(folder.path(), &data).unwrap();
        write(folder.path(), &data).unwrap();
        assert_eq!(read(folder.path()).unwrap().unwrap(), split_of(&data));
        check(folder.path(), &data).unwrap();
        let found = measured(folder.path()).unwrap().unwrap();
        assert_eq!((found.is_test, found.files), (true, ["'c/4.png".to_string()].into()));
        data.test = Images::default();
        check(folder.path(), &data).unwrap();
        data.train = images(&["a/1, 2.png", "a/3.png"]);
        data.validation = images(&["=b/\"x\".png"]);
        let text = check(folder.path(), &data).unwrap_err().to_string();
        assert!(text.contains("=b/\"x\".png was for train and is for validation"), "{text}");
        write(folder.path(), &data).unwrap();
        assert!(!measured(folder.path()).unwrap().unwrap().is_test);
    }
}
