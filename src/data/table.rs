//! Images by a table: a file of comma-separated values that gives every image its class, and
//! perhaps its part of the data.
//!
//! Its first line names the columns. Images are named by their paths from the folder of the table.
//! Competitions name them by a number and keep them in a folder beside the table: where the first
//! image is not found by its name, it is looked for with an ending, and one folder further down.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use super::Options;
use super::folder::{DatasetParts, Files, Part, split_up_or_measured};
use super::left_out::Reason;
use super::listing::{Entry, Lister};
use super::names::{check_class_name, composed};
use super::watch;
use crate::error::{Error, Result, escaped, path_text};
use crate::files::read_text;

/// Names that people give the columns, in any case of letters; of several columns the first name in
/// the list wins.
const FILE: [&str; 14] = [
    "file",
    "filename",
    "file_name",
    "filepath",
    "path",
    "image",
    "image_path",
    "image_name",
    "img",
    "fname",
    "image_id",
    "id",
    "image id",
    "name",
];
const LABEL: [&str; 8] = ["label", "class", "labels", "category", "class_name", "target", "breed", "species"];
const SPLIT: [&str; 5] = ["split", "set", "part", "subset", "partition"];
/// A table of millions of images is no longer than this.
const MOST: u64 = 1 << 30;
/// Endings that are tried where an image is named without its own.
const ENDINGS: [&str; 4] = ["jpg", "jpeg", "png", "webp"];

/// Whether a path is that of a table.
pub(super) fn is_table(path: &Path) -> bool {
    let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase());
    ending.is_some_and(|ending| ["csv", "tsv"].contains(&ending.as_str())) && path.is_file()
}

/// The folder that images are named from.
pub(super) fn folder_of(table: &Path) -> PathBuf {
    match table.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

/// A row, with its line in the file.
struct Row {
    line: u64,
    file: String,
    class: String,
    part: Option<String>,
}

/// Where the images lie, by what was found of the first one.
struct Place {
    folder: PathBuf,
    /// Added to the names.
    ending: &'static str,
}

impl Place {
    fn path(&self, file: &str) -> PathBuf {
        self.folder.join(format!("{file}{}{}", if self.ending.is_empty() { "" } else { "." }, self.ending))
    }

    /// The first place where there is a file of that name.
    fn find(table: &Path, file: &str, lister: &Lister) -> Result<Place> {
        let folder = folder_of(table);
        let below = lister.entries(&folder)?;
        let below = below.into_iter().filter(|path| matches!(lister.entry(path), Entry::Folder));
        let folders: Vec<PathBuf> = std::iter::once(folder).chain(below).collect();
        let endings = || std::iter::once("").chain(ENDINGS);
        let places = folders
            .into_iter()
            .flat_map(|folder| endings().map(move |ending| Place { folder: folder.clone(), ending }));
        places.into_iter().find(|place| place.path(file).is_file()).ok_or_else(|| {
            let file = escaped(file);
            Error::file(
                table,
                format!("the first image, {file}, is neither beside this table nor in a folder there"),
            )
        })
    }
}

/// The files of the parts that a table tells; the table itself stands for the data in errors.
///
/// # Errors
/// If the table cannot be read, names no columns that are known, or gives an image two classes; an
/// image that is not there, unless such are to be left out.
pub(super) fn list(table: &Path, lister: &mut Lister, options: &Options) -> Result<DatasetParts> {
    let rows = read(table, lister)?;
    let Some(first) = rows.first() else {
        return Err(Error::file(table, "holds no rows, only a first line"));
    };
    let place = Place::find(table, &first.file, lister)?;
    if place.folder != folder_of(table) || !place.ending.is_empty() {
        lister.watch.note(&format!("images of {}: {}", path_text(table), path_text(&place.path("*"))));
    }
    let has_parts = rows.iter().any(|row| row.part.is_some());
    let mut parts = DatasetParts::default();
    let mut seen: HashMap<PathBuf, Row> = HashMap::new();
    let mut missing = Vec::new();
    for row in rows {
        watch::check(lister.watch)?;
        let path = place.path(&row.file);
        let before = seen.get(&path);
        if let Some(before) = before.filter(|before| (&before.class, &before.part) != (&row.class, &row.part))
        {
            return Err(Error::file(table, differing(before, &row)));
        }
        if before.is_some() {
            lister.leave(Reason::Twice, &path);
            continue;
        }
        match path.is_file() {
            true => {
                part_of(&mut parts, table, &row)?.entry(row.class.clone()).or_default().push(path.clone())
            }
            false => missing.push((row.line, path.clone())),
        }
        seen.insert(path, row);
    }
    leave_missing(table, &missing, lister)?;
    let all = [&mut parts.train, &mut parts.validation, &mut parts.test];
    all.into_iter().flat_map(BTreeMap::values_mut).for_each(|files| files.sort());
    Ok(split_up_or_measured(&folder_of(table), parts, has_parts, lister, options))
}

/// What two rows of one image disagree about.
fn differing(before: &Row, row: &Row) -> String {
    let said = |row: &Row| match &row.part {
        Some(part) => format!("{} in {}", row.class, escaped(part)),
        None => row.class.clone(),
    };
    let (file, first, second) = (escaped(&row.file), said(before), said(row));
    format!(
        "line {}: {file} is {second} here and {first} in line {}; an image has one class and one part",
        row.line, before.line
    )
}

/// The part that a row's image is for; without a word for training.
fn part_of<'a>(parts: &'a mut DatasetParts, table: &Path, row: &Row) -> Result<&'a mut Files> {
    let Some(part) = &row.part else { return Ok(&mut parts.train) };
    match Part::named(part) {
        Some(Part::Train) => Ok(&mut parts.train),
        Some(Part::Validation) => Ok(&mut parts.validation),
        Some(Part::Test) => Ok(&mut parts.test),
        None => {
            let problem =
                format!("line {}: the part {}; write train, validation or test", row.line, escaped(part));
            Err(Error::file(table, problem))
        }
    }
}

fn leave_missing(table: &Path, missing: &[(u64, PathBuf)], lister: &mut Lister) -> Result<()> {
    let Some((line, first)) = missing.first() else { return Ok(()) };
    if lister.skip_bad {
        missing.iter().for_each(|(_, path)| lister.leave(Reason::NoFile, path));
        return Ok(());
    }
    let more = match missing.len() - 1 {
        0 => String::new(),
        more => format!(" (nor those of {more} rows after it)"),
    };
    let problem =
        format!("line {line}: there is no {}{more}; `skip_bad` leaves out what is missing", path_text(first));
    Err(Error::file(table, problem))
}

/// The rows, whose columns the first line names.
fn read(table: &Path, lister: &Lister) -> Result<Vec<Row>> {
    let wrong = |problem: String| Error::file(table, problem);
    let text = read_text(table, MOST)?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let first = text.lines().next().unwrap_or_default();
    let frequent =
        [',', ';', '\t'].into_iter().max_by_key(|sign| (first.matches(*sign).count(), *sign == ','));
    let separator = frequent.map_or(b',', |sign| sign as u8);
    let mut reader =
        csv::ReaderBuilder::new().delimiter(separator).trim(csv::Trim::All).from_reader(text.as_bytes());
    let told = |error: csv::Error| wrong(in_words(&error, text));
    let header = reader.headers().map_err(told)?.clone();
    let names: Vec<String> = header.iter().map(str::to_lowercase).collect();
    let column = |known: &[&str]| known.iter().find_map(|name| names.iter().position(|own| own == name));
    let (Some(file), Some(label)) = (column(&FILE), column(&LABEL)) else {
        let found: Vec<_> = names.iter().take(5).map(|name| escaped(name)).collect();
        let problem = "the first line must name a column of files and one of classes, such as file,label";
        return Err(wrong(format!("{problem}; it has {}", found.join(", "))));
    };
    let split = column(&SPLIT);
    let mut rows = Vec::new();
    for record in reader.records() {
        watch::check(lister.watch)?;
        let record = record.map_err(told)?;
        let line = line(text, record.position());
        let cell = |column: usize| record.get(column).unwrap_or_default().to_string();
        let (file, class) = (cell(file), composed(&cell(label)));
        if file.is_empty() || class.is_empty() {
            let lacking = if file.is_empty() { "image" } else { "class" };
            return Err(wrong(format!("line {line}: no {lacking} is named")));
        }
        check_class_name(&class).map_err(|problem| wrong(format!("line {line}: {problem}")))?;
        let part = split.map(cell).filter(|part| !part.is_empty());
        rows.push(Row { line, file, class, part });
    }
    Ok(rows)
}

/// The line of a record; the reader's is that of the empty lines before it.
fn line(text: &str, position: Option<&csv::Position>) -> u64 {
    let Some(position) = position else { return 0 };
    let rest = text.as_bytes().get(position.byte() as usize..).unwrap_or_default();
    let empty = rest.iter().take_while(|sign| b"\r\n".contains(sign));
    position.line() + empty.filter(|sign| **sign == b'\n').count() as u64
}

/// What is wrong with a table; the reader's own words are about bytes.
fn in_words(error: &csv::Error, text: &str) -> String {
    match error.kind() {
        csv::ErrorKind::UnequalLengths { pos, expected_len, len } => {
            format!("line {}: has {len} cells, and the first line {expected_len}", line(text, pos.as_ref()))
        }
        _ => format!("is no table: {error}"),
    }
}
