//! `split.csv`: which file of a run's data was trained on, validated with and tested on.
//!
//! It is what a run is measured on again later, whatever has come to the data's folder since.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::data::{Dataset, Measured};
use crate::error::{Error, Result};
use crate::files::{is_file_or_nothing, read_text};
use crate::report::csv;

/// The name of the file.
pub const FILE: &str = "split.csv";
const HEADER: &str = "file,split";
/// A table of millions of files is no longer than this.
const MOST: u64 = 1 << 30;

const PARTS: [&str; 3] = ["train", "validation", "test"];
/// Advice about a table that is damaged.
const ADVICE: &str = "put a copy of it back, or delete it: evaluate then takes all images of the data, and resume splits \
                      them anew by the seed";

/// The part of each file, by its name.
type Split = BTreeMap<String, String>;

fn split_of(data: &Dataset) -> Split {
    let rows = PARTS
        .iter()
        .zip([&data.train, &data.validation, &data.test])
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
    let rows = split_of(data).into_iter().map(|(file, part)| format!("{},{part}", csv::name(&file)));
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

/// Images that the run in a folder is measured on; none where its images are not from files of
/// their own.
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
    if !is_file_or_nothing(&path)? {
        return Ok(None);
    }
    let text = read_text(&path, MOST).map_err(|error| error.with_advice(ADVICE))?;
    parse(&text).map(Some).map_err(|problem| Error::file(&path, format!("{problem}; {ADVICE}")))
}

/// The table in a text, perhaps as a spreadsheet saved it.
fn parse(text: &str) -> std::result::Result<Split, String> {
    let mut lines = text.strip_prefix('\u{feff}').unwrap_or(text).lines();
    match lines.next() {
        None => return Err("is empty".into()),
        Some(header) if header != HEADER => return Err(format!("does not begin with a line {HEADER}")),
        Some(_) => {}
    }
    let mut split = Split::new();
    for (line, number) in lines.zip(2..).filter(|(line, _)| !line.is_empty()) {
        let (file, part) = match csv::row(line).as_slice() {
            [file, part] if PARTS.contains(&part.as_str()) => (csv::named(file), part.clone()),
            _ => return Err(format!("line {number} is not a file and train, validation or test")),
        };
        if split.insert(file, part).is_some() {
            return Err(format!("line {number} names a file that is named above"));
        }
    }
    if split.values().all(|part| part == "train") {
        return Err("names no images to measure on".into());
    }
    Ok(split)
}

#[cfg(test)]
mod tests {
    use std::fs;

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

    #[test]
    fn a_damaged_table_is_told_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        for (text, problem) in [
            ("", "split.csv: is empty; put a copy"),
            ("a,test\n", "split.csv: does not begin with a line file,split; put a copy"),
            ("file,split\na,train\n", "names no images to measure on"),
            ("file,split\na,test\nb\n", "line 3 is not a file and"),
            ("file,split\na,tested\n", "line 2 is not a file and"),
            ("file,split\na,test\na,train\n", "line 3 names a file that is named above"),
        ] {
            fs::write(&path, text).unwrap();
            let message = measured(folder.path()).unwrap_err().to_string();
            assert!(message.contains(problem) && message.contains("or delete it"), "{message}");
        }
        fs::write(&path, "\u{feff}file,split\r\na,test\r\n\r\n").unwrap();
        assert_eq!(measured(folder.path()).unwrap().unwrap().files, ["a".to_string()].into());
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        let message = measured(folder.path()).unwrap_err().to_string();
        assert!(
            message.contains("split.csv: is no plain file, where one was expected; move it away"),
            "{message}"
        );
    }
}
