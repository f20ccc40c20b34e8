//! `cifar-engine data --apply`: moves images to the classes that a table says.

use std::path::Path;

use crate::console;
use crate::data::DataSource;
use crate::data::relabel::{Relabelled, moves};
use crate::error::{Error, Result, escaped};
use crate::files::read_text;
use crate::report::csv;
use crate::text::counted;

/// A table of millions of rows is no longer.
const MOST: u64 = 1 << 30;

/// Says what would be moved, or moves it if the answer is yes.
///
/// # Errors
/// If the data is no folder of images, the table cannot be read, or asks for what cannot be.
pub fn apply(source: &DataSource, table: &Path, yes: bool) -> Result<()> {
    let DataSource::Path(folder) = source else {
        return Err(Error::Usage("--apply moves the images of a folder; name that".into()));
    };
    if source.is_table() {
        let problem = "--apply moves the images of a folder; in a table, change their classes there";
        return Err(Error::file(folder, problem));
    }
    let moves = moves(folder, &read(table)?)?;
    for (moved, step) in moves.iter().enumerate() {
        if yes {
            step.run().map_err(|error| {
                let done = format!("{moved} of {} were moved before it", counted(moves.len(), "image"));
                Error::Failed(format!("{error}; {done}, and the same command goes on from there"))
            })?;
        }
        let [from, to] = step.names.each_ref().map(|name| escaped(name));
        console::print(format_args!("{from} -> {to}"))?;
    }
    let images = counted(moves.len(), "image");
    match yes {
        _ if moves.is_empty() => console::print("no image is to be moved"),
        true => console::print(format_args!("{images} moved")),
        false => console::print(format_args!("{images} would move; nothing was changed: --yes does it")),
    }
}

/// The rows of a table, whose header says which column is which.
fn read(path: &Path) -> Result<Vec<Relabelled>> {
    let text = read_text(path, MOST)?;
    let mut lines = text.strip_prefix('\u{feff}').unwrap_or(&text).lines();
    let header = csv::row(lines.next().unwrap_or_default());
    let column = |name: &str| {
        let missing =
            || Error::file(path, format!("has no column {name}; it needs file, label and predicted"));
        header.iter().position(|cell| cell.trim() == name).ok_or_else(missing)
    };
    let columns = [column("file")?, column("label")?, column("predicted")?];
    let rows = lines.zip(2..).filter(|(line, _)| !line.trim().is_empty());
    let row = |(line, number): (&str, usize)| {
        let cells = csv::row(line);
        let cell = |column: usize| {
            let missing = || Error::file(path, format!("line {number} has too few cells"));
            cells.get(column).cloned().ok_or_else(missing)
        };
        Ok(Relabelled { file: cell(columns[0])?, label: cell(columns[1])?, class: cell(columns[2])? })
    };
    rows.map(row).collect()
}
