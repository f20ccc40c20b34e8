//! Norms of a training's parameters by epoch: how large they are, and how far they moved.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use super::csv;
use crate::error::{Error, Result};
use crate::files::{advice, read_text};

/// A parameter after an epoch. Norms are Euclidean.
#[derive(Clone, Debug, PartialEq)]
pub struct ParameterNorms {
    /// The epoch, from 1.
    pub epoch: usize,
    /// The parameter's name.
    pub parameter: String,
    /// Its norm.
    pub weight: f64,
    /// Norm of what the epoch changed; none of an epoch that was interrupted.
    pub update: Option<f64>,
    /// Norm of the moment that the optimizer keeps of it: an average of its gradients.
    pub moment: Option<f64>,
}

const HEADER: &str = "epoch,parameter,weight,update,moment";

/// A larger table is none.
const MOST_BYTES: u64 = 1 << 30;

impl ParameterNorms {
    fn line(&self) -> String {
        let cell = |value: Option<f64>| value.map(|value| value.to_string()).unwrap_or_default();
        let ParameterNorms { epoch, parameter, weight, update, moment } = self;
        format!("{epoch},{},{weight},{},{}", csv::cell(parameter), cell(*update), cell(*moment))
    }

    fn parse(line: &str) -> Option<ParameterNorms> {
        let cells = csv::row(line);
        let [epoch, parameter, weight, update, moment] = &cells[..] else { return None };
        let optional = |cell: &str| match cell {
            "" => Some(None),
            cell => cell.parse().ok().map(Some),
        };
        Some(ParameterNorms {
            epoch: epoch.parse().ok()?,
            parameter: parameter.clone(),
            weight: weight.parse().ok()?,
            update: optional(update)?,
            moment: optional(moment)?,
        })
    }
}

/// The Euclidean norm.
pub fn norm(values: impl IntoIterator<Item = f32>) -> f64 {
    values.into_iter().map(|value| f64::from(value).powi(2)).sum::<f64>().sqrt()
}

/// Begins the table with these rows.
///
/// # Errors
/// If it cannot be written.
pub fn write(path: &Path, rows: &[ParameterNorms]) -> Result<()> {
    csv::write(path, HEADER, rows.iter().map(ParameterNorms::line))
}

/// Adds an epoch's rows. A table is not written anew every time: a long training has a million
/// rows.
///
/// # Errors
/// If it cannot be written.
pub fn append(path: &Path, rows: &[ParameterNorms]) -> Result<()> {
    let text: String = rows.iter().map(|row| row.line() + "\n").collect();
    let written =
        OpenOptions::new().append(true).open(path).and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| Error::file(path, format!("cannot be written: {}", advice(&error))))
}

/// The rows of a table up to the first that is not whole, which a kill may have left.
///
/// # Errors
/// If it cannot be read, or is no such table.
pub fn read(path: &Path) -> Result<Vec<ParameterNorms>> {
    let text = read_text(path, MOST_BYTES)?;
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let mut lines = whole.lines();
    match lines.next() {
        Some(HEADER) => Ok(lines.map_while(ParameterNorms::parse).collect()),
        _ => Err(Error::file(path, format!("is no table of norms; its first line should be {HEADER}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(epoch: usize, update: Option<f64>) -> ParameterNorms {
        let parameter = "a, \"b\".weight".to_string();
        ParameterNorms { epoch, parameter, weight: 1.0 / 3.0, update, moment: Some(1e-300) }
    }

    #[test]
    fn every_bit_comes_back_but_for_a_row_that_was_cut() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("norms.csv");
        write(&path, &[row(1, None)]).unwrap();
        append(&path, &[row(2, Some(0.1)), row(3, Some(0.2))]).unwrap();
        let all = [row(1, None), row(2, Some(0.1)), row(3, Some(0.2))];
        assert_eq!(read(&path).unwrap(), all);
        let bytes = std::fs::read(&path).unwrap();
        for cut in 1..20 {
            std::fs::write(&path, &bytes[..bytes.len() - cut]).unwrap();
            assert_eq!(read(&path).unwrap(), all[..2], "{cut}");
        }
        std::fs::write(&path, "x\n").unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("no table of norms"));
        assert_eq!(norm([3.0, -4.0]), 5.0);
    }
}
