//! Images by a table: a file of comma-separated values that gives every image its class, and
//! perhaps its part of the data.
//!
//! Its first line names the columns. Images are named by their paths from the folder of the table.
//! Competitions name them by a number and keep them in a folder beside the table: an image that is
//! not at its path is looked for by its name, with or without ending, there and one folder down.

use std::collections::{BTreeMap, HashMap};
use std::path::{Component, Path, PathBuf};

use super::Options;
use super::left_out::Reason;
use super::listing::{Entry, Lister};
use super::names::{below, check_class_name, composed};
use super::parts::{DatasetParts, Files, Part, split_up_or_measured};
use super::watch;
use crate::error::{Error, Result, escaped};
use crate::files::{folder_of as folder_around, read_text};
use crate::text::counted;

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
const SPLIT: [&str; 7] = ["split", "set", "data set", "dataset", "part", "subset", "partition"];
/// Where another column says which images are for validation.
const IS_VALIDATION: [&str; 3] = ["is_valid", "is_validation", "valid"];
/// A table of millions of images is no longer than this.
const MOST: u64 = 1 << 30;

/// Whether a path is that of a table.
pub(super) fn is_table(path: &Path) -> bool {
    let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase());
    ending.is_some_and(|ending| ["csv", "tsv"].contains(&ending.as_str())) && path.is_file()
}

/// The folder that images are named from, by one name wherever the program is.
pub(super) fn folder_of(table: &Path) -> PathBuf {
    // The table may be a link: its images lie where the link does.
    let folder = folder_around(table);
    std::fs::canonicalize(&folder).unwrap_or(folder)
}

/// A row, with its line in the file.
struct Row {
    line: u64,
    file: String,
    class: String,
    part: Option<Part>,
}

impl Row {
    /// The part that its image is for; without a word for training.
    fn part(&self) -> Part {
        self.part.unwrap_or(Part::Train)
    }
}

/// Where the images of a table are.
struct Places {
    /// The table's own folder.
    folder: PathBuf,
    /// Images in it and in the folders in it, by their names and by these without their endings;
    /// none as long as all are at their paths.
    by_name: Option<HashMap<String, Vec<PathBuf>>>,
}

impl Places {
    /// Lists the images by name. A folder that cannot be read need not be one of images.
    fn list(folder: &Path, lister: &Lister) -> Result<HashMap<String, Vec<PathBuf>>> {
        let entries = |folder: &Path| match lister.entries(folder) {
            Err(Error::Interrupted) => Err(Error::Interrupted),
            entries => Ok(entries.unwrap_or_default()),
        };
        let mut by_name: HashMap<String, Vec<PathBuf>> = HashMap::new();
        let below = entries(folder)?.into_iter().filter(|path| matches!(lister.entry(path), Entry::Folder));
        for folder in std::iter::once(folder.to_path_buf()).chain(below) {
            let is_image = |path: &PathBuf| matches!(lister.entry(path), Entry::Image);
            for path in entries(&folder)?.into_iter().filter(is_image) {
                for name in [path.file_name(), path.file_stem()].into_iter().flatten() {
                    by_name.entry(composed(&name.to_string_lossy())).or_default().push(path.clone());
                }
            }
        }
        Ok(by_name)
    }

    /// The image that a row means: what lies at its path, or else the only one that is called so.
    /// Of several, one in a folder `train` goes before others, and one in a folder `test` after
    /// them, as a competition's test images may have the numbers of its training images.
    fn find(&mut self, table: &Path, row: &Row, lister: &Lister) -> Result<Option<PathBuf>> {
        let at = |file: &str| Some(normal(&self.folder.join(file))).filter(|path| path.is_file());
        if let Some(path) = at(&row.file).or_else(|| at(&row.file.replace('\\', "/"))) {
            return Ok(Some(path));
        }
        let by_name = match self.by_name.take() {
            Some(by_name) => by_name,
            None => Places::list(&self.folder, lister)?,
        };
        let slashed = row.file.replace('\\', "/");
        let name = slashed.rsplit('/').next().unwrap_or_default();
        let mut called_so = by_name.get(&composed(name)).cloned().unwrap_or_default();
        self.by_name = Some(by_name);
        let rank = |path: &Path| rank(&self.folder, path);
        called_so.sort_by_key(|path| rank(path));
        match called_so.as_slice() {
            [] => Ok(None),
            [only] => Ok(Some(only.clone())),
            [first, second, ..] if rank(first) < rank(second) => Ok(Some(first.clone())),
            [first, second, ..] => {
                let [first, second] = [first, second].map(|path| below(&self.folder, path));
                let problem =
                    format!("{} is {first} or {second}; write the one that is meant", escaped(&row.file));
                Err(Error::file(table, format!("line {}: {problem}", row.line)))
            }
        }
    }
}

/// A path without `.` and `..`.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => drop(normal.pop()),
            part => normal.push(part),
        }
    }
    normal
}

/// How late an image by this path is taken for one that is only named; the table's own folder may
/// be called as it likes.
fn rank(folder: &Path, path: &Path) -> u8 {
    match path.parent().filter(|parent| *parent != folder).and_then(Part::of) {
        Some(Part::Train) => 0,
        Some(Part::Test) => 2,
        _ => 1,
    }
}

/// The files of the parts that a table tells; the table itself stands for the data in errors.
///
/// # Errors
/// If the table cannot be read, names no columns that are known, or gives an image two classes; an
/// image that is not there, unless such are to be left out.
pub(super) fn list(table: &Path, lister: &mut Lister, options: &Options) -> Result<DatasetParts> {
    let rows = read(table, lister)?;
    if rows.is_empty() {
        return Err(Error::file(table, "holds no rows, only a first line"));
    }
    let mut places = Places { folder: folder_of(table), by_name: None };
    let has_parts = rows.iter().any(|row| row.part.is_some());
    let mut parts = DatasetParts::default();
    let mut seen: HashMap<PathBuf, (PathBuf, Row)> = HashMap::new();
    let mut missing = Vec::new();
    for row in rows {
        watch::check(lister.watch)?;
        let Some(path) = places.find(table, &row, lister)? else {
            missing.push(row);
            continue;
        };
        // By whatever folders and links: an image is in one part.
        let whole = std::fs::canonicalize(&path).unwrap_or_else(|_| path.clone());
        match seen.get(&whole).map(|(_, row)| row) {
            None => part_of(&mut parts, &row).entry(row.class.clone()).or_default().push(path.clone()),
            Some(before) if (&before.class, before.part()) == (&row.class, row.part()) => {
                lister.leave(Reason::Twice, &path);
            }
            Some(before) => return Err(Error::file(table, differing(before, &row))),
        }
        seen.insert(whole, (path, row));
    }
    tell_found(&places.folder, seen.values(), lister);
    leave_missing(table, &missing, seen.is_empty(), lister)?;
    let all = [&mut parts.train, &mut parts.validation, &mut parts.test];
    all.into_iter().flat_map(BTreeMap::values_mut).for_each(|files| files.sort());
    Ok(split_up_or_measured(&places.folder, parts, has_parts, lister, options))
}

/// Says where images are that the table only names.
fn tell_found<'a>(folder: &Path, seen: impl Iterator<Item = &'a (PathBuf, Row)>, lister: &Lister) {
    let at = |row: &Row| [&row.file, &row.file.replace('\\', "/")].map(|file| normal(&folder.join(file)));
    let named = seen.filter(|(path, row)| !at(row).contains(path));
    let example = named.min_by_key(|(_, row)| row.line);
    if let Some((path, row)) = example {
        lister.watch.note(&format!(
            "images are found by their names: {} is {}",
            escaped(&row.file),
            below(folder, path)
        ));
    }
}

/// What two rows of one image disagree about.
fn differing(before: &Row, row: &Row) -> String {
    let said = |row: &Row| match row.part {
        Some(part) => format!("{} in {}", row.class, part.name()),
        None => row.class.clone(),
    };
    let (file, first, second) = (escaped(&row.file), said(before), said(row));
    format!(
        "line {}: {file} is {second} here and {first} in line {}; an image has one class and one part",
        row.line, before.line
    )
}

/// The files of the part that a row's image is for.
fn part_of<'a>(parts: &'a mut DatasetParts, row: &Row) -> &'a mut Files {
    match row.part() {
        Part::Train => &mut parts.train,
        Part::Validation => &mut parts.validation,
        Part::Test => &mut parts.test,
    }
}

/// Leaves out the rows without an image, or refuses them.
fn leave_missing(table: &Path, missing: &[Row], are_all: bool, lister: &mut Lister) -> Result<()> {
    let Some(Row { line, file, .. }) = missing.first() else { return Ok(()) };
    if lister.skip_bad && !are_all {
        missing.iter().for_each(|row| lister.left_out.add(Reason::NoFile, escaped(&row.file)));
        return Ok(());
    }
    let more = match missing.len() - 1 {
        0 => String::new(),
        more => format!(", nor those of {}", counted(more, "other row")),
    };
    let advice = if are_all {
        "paths are those from the folder of the table"
    } else {
        "`skip_bad` leaves out what is missing"
    };
    let problem = format!(
        "line {line}: {} is neither beside the table nor in a folder there{more}; {advice}",
        escaped(file)
    );
    Err(Error::file(table, problem))
}

/// The columns that are used.
struct Columns {
    file: usize,
    label: usize,
    split: Option<usize>,
    /// Used where there is no other word on the parts.
    is_validation: Option<usize>,
}

impl Columns {
    /// Those of a first line; the error is what is wrong with it.
    fn of(header: &csv::StringRecord) -> std::result::Result<Columns, String> {
        let names: Vec<String> = header.iter().map(str::to_lowercase).collect();
        let column = |known: &[&str]| known.iter().find_map(|name| names.iter().position(|own| own == name));
        let (Some(file), Some(label)) = (column(&FILE), column(&LABEL)) else {
            let found: Vec<_> = names.iter().take(5).map(|name| escaped(name)).collect();
            let found =
                if found.is_empty() { "is empty".into() } else { format!("has {}", found.join(", ")) };
            let problem = "the first line must name a column of files and one of classes, such as file,label";
            return Err(format!("{problem}; it {found}"));
        };
        let split = column(&SPLIT);
        let is_validation = column(&IS_VALIDATION).filter(|_| split.is_none());
        let columns = Columns { file, label, split, is_validation };
        let is_twice = |&column: &usize| names.iter().filter(|name| **name == names[column]).count() > 1;
        match columns.all().into_iter().find(is_twice) {
            None => Ok(columns),
            Some(column) => Err(format!(
                "several columns are called {}; give those that are not meant another name",
                escaped(&names[column])
            )),
        }
    }

    fn all(&self) -> Vec<usize> {
        [Some(self.file), Some(self.label), self.split, self.is_validation].into_iter().flatten().collect()
    }

    /// A row; the error is what is wrong with it.
    fn row(&self, record: &csv::StringRecord, line: u64) -> std::result::Result<Row, String> {
        let cell = |column: usize| record.get(column).unwrap_or_default();
        let (file, class) = (cell(self.file).to_string(), composed(cell(self.label)));
        if file.is_empty() || class.is_empty() {
            return Err(format!("no {} is named", if file.is_empty() { "image" } else { "class" }));
        }
        check_class_name(&class)?;
        let part = match (self.split, self.is_validation) {
            (Some(split), _) => part_named(cell(split))?,
            (None, Some(column)) if is_true(cell(column))? => Some(Part::Validation),
            (None, Some(_)) => Some(Part::Train),
            (None, None) => None,
        };
        Ok(Row { line, file, class, part })
    }
}

/// The rows of a table.
fn read(table: &Path, lister: &Lister) -> Result<Vec<Row>> {
    let wrong = |problem: String| Error::file(table, problem);
    let text = read_text(table, MOST)?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let first = text.lines().find(|line| !line.is_empty()).unwrap_or_default();
    let frequent =
        [',', ';', '\t'].into_iter().max_by_key(|sign| (first.matches(*sign).count(), *sign == ','));
    let separator = frequent.map_or(b',', |sign| sign as u8);
    let mut reader =
        csv::ReaderBuilder::new().delimiter(separator).trim(csv::Trim::All).from_reader(text.as_bytes());
    let told = |error: csv::Error| wrong(in_words(&error, text));
    let header = reader.headers().map_err(told)?.clone();
    let columns = Columns::of(&header).map_err(wrong)?;
    tell_columns(&header, &columns.all(), lister);
    let row = |record: csv::Result<csv::StringRecord>| {
        watch::check(lister.watch)?;
        let record = record.map_err(told)?;
        let line = line(text, record.position());
        columns.row(&record, line).map_err(|problem| wrong(format!("line {line}: {problem}")))
    };
    reader.records().map(row).collect()
}

/// Says which columns are taken, where there are others.
fn tell_columns(header: &csv::StringRecord, taken: &[usize], lister: &Lister) {
    let names = |is: &dyn Fn(usize) -> bool| {
        let names = header.iter().enumerate().filter(|(i, _)| is(*i)).map(|(_, name)| escaped(name));
        names.take(5).collect::<Vec<_>>().join(", ")
    };
    if header.len() > taken.len() {
        let [used, idle] = [names(&|i| taken.contains(&i)), names(&|i| !taken.contains(&i))];
        lister.watch.note(&format!("columns of the table: {used}; not used: {idle}"));
    }
}

/// The part of an image by its cell; none in an empty one.
fn part_named(cell: &str) -> std::result::Result<Option<Part>, String> {
    match Part::named(cell) {
        None if !cell.is_empty() => {
            let problem = "write train, validation or test, or give the column another name";
            Err(format!("the part {}; {problem}", escaped(cell)))
        }
        part => Ok(part),
    }
}

/// Whether a cell says yes.
fn is_true(cell: &str) -> std::result::Result<bool, String> {
    match cell.to_lowercase().as_str() {
        "true" | "1" | "yes" => Ok(true),
        "false" | "0" | "no" | "" => Ok(false),
        _ => Err(format!("{} instead of true or false", escaped(cell))),
    }
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
            let begin = pos.as_ref().map_or(0, |pos| pos.byte() as usize);
            let first = text.get(begin..).unwrap_or_default().trim_start().lines().next().unwrap_or_default();
            let is_open = first.matches('"').count() % 2 == 1;
            let hint = if is_open { "; a quotation mark from there on is not closed" } else { "" };
            let line = line(text, pos.as_ref());
            format!(
                "line {line}: has {}, and the first line {expected_len}{hint}",
                counted(*len as usize, "cell")
            )
        }
        _ => format!("is no table: {error}"),
    }
}
