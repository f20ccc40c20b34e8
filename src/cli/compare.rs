//! `cifar-engine compare`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};
use toml::Table;

use super::progress::duration;
use crate::console;
use crate::error::{Error, Result};
use crate::files::{read_text, read_toml};
use crate::report::{EpochMetrics, comparison, metrics};
use crate::train::run_folder::MOST_TEXT;
use crate::train::score;

#[derive(Args)]
#[command(after_help = "Examples:
  cifar-engine compare runs/*
  cifar-engine compare runs/a runs/b --out a-b.png
  cifar-engine compare runs/* --json | jq '.[].test_accuracy'")]
pub struct Compare {
    /// Run folders.
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,

    /// Where to draw the accuracies over the epochs.
    #[arg(long, default_value = "compare.png", value_name = "FILE")]
    out: PathBuf,

    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

/// What a run folder says about its run.
pub struct Run {
    name: String,
    settings: Table,
    history: Vec<EpochMetrics>,
    /// `result.json`; null for a run that is not finished.
    result: Value,
}

impl Run {
    /// Reads a run folder.
    ///
    /// # Errors
    /// If it holds no run, or one of its files is not what it should be.
    pub fn read(path: &Path) -> Result<Run> {
        let file = path.join("settings.toml");
        if !file.is_file() {
            return Err(Error::file(path, "holds no run: there is no settings.toml in it"));
        }
        let settings = read_toml(&file, MOST_TEXT)?;
        let table = path.join("metrics.csv");
        let history = if table.is_file() { metrics::read_csv(&table)? } else { Vec::new() };
        let file = path.join("result.json");
        let result = match file.is_file() {
            true => serde_json::from_str(&read_text(&file, MOST_TEXT)?).map_err(|e| Error::file(&file, e))?,
            false => Value::Null,
        };
        Ok(Run { name: path.display().to_string(), settings, history, result })
    }

    fn seconds(&self) -> f64 {
        self.history.iter().map(|row| row.seconds).sum()
    }

    fn json(&self) -> Value {
        json!({
            "run": self.name,
            "test_accuracy": self.result["test_accuracy"],
            "test_loss": self.result["test_loss"],
            "best_validation_accuracy": score::best_accuracy(&self.history),
            "best_epoch": score::best_epoch(&self.history),
            "epochs": self.history.len(),
            "seconds": self.seconds(),
            "parameters": self.result["parameters"],
            "settings": self.settings,
        })
    }

    /// The cells of its column, in the order of [`ROWS`].
    fn column(&self) -> [String; ROWS.len()] {
        let unknown = || "–".to_string();
        let percent = |share: f64| format!("{:.2} %", 100.0 * share);
        let number = |key: &str| self.result[key].as_f64();
        let best = score::best_accuracy(&self.history);
        [
            number("test_accuracy").map_or_else(unknown, percent),
            number("test_loss").map_or_else(unknown, |loss| format!("{loss:.4}")),
            best.map_or_else(unknown, |b| {
                format!("{} (epoch {})", percent(b), score::best_epoch(&self.history))
            }),
            self.history.len().to_string(),
            duration(self.seconds()),
            self.history.last().map_or_else(unknown, |row| format!("{:.0}", row.images_per_s)),
            number("parameters").map_or_else(unknown, |n| format!("{n}")),
        ]
    }
}

const ROWS: [&str; 7] =
    ["test accuracy", "test loss", "best validation", "epochs done", "time", "images/s", "parameters"];

impl Compare {
    pub fn run(self) -> Result<()> {
        let runs = self.runs.iter().map(|path| Run::read(path)).collect::<Result<Vec<_>>>()?;
        let drawn = draw(&runs, &self.out)?;
        if self.json {
            return console::print(Value::Array(runs.iter().map(Run::json).collect()));
        }
        print_table(&table(&runs))?;
        if drawn { console::print(format_args!("{}", self.out.display())) } else { Ok(()) }
    }
}

/// Draws the accuracies, where there are any; whether there are.
///
/// # Errors
/// If the picture cannot be written.
pub fn draw(runs: &[Run], out: &Path) -> Result<bool> {
    let drawn = runs.iter().any(|run| !run.history.is_empty());
    if drawn {
        let lines: Vec<_> = runs.iter().map(|run| (run.name.clone(), run.history.clone())).collect();
        comparison::draw(out, &lines)?;
    }
    Ok(drawn)
}

/// Rows of what runs have come to and what they were told, each with its name and a cell for every run.
pub fn table(runs: &[Run]) -> Vec<(String, Vec<String>)> {
    let mut table = vec![("".to_string(), runs.iter().map(|run| run.name.clone()).collect::<Vec<_>>())];
    let columns: Vec<_> = runs.iter().map(Run::column).collect();
    for (row, name) in ROWS.iter().enumerate() {
        table.push((name.to_string(), columns.iter().map(|column| column[row].clone()).collect()));
    }
    table.extend(differing_settings(runs));
    table
}

/// A row for each of the settings that are not the same in all runs.
fn differing_settings(runs: &[Run]) -> Vec<(String, Vec<String>)> {
    let names: BTreeSet<&String> = runs.iter().flat_map(|run| run.settings.keys()).collect();
    let row = |name: &String| {
        let value = |run: &Run| run.settings.get(name).map_or("–".to_string(), short);
        (name.clone(), runs.iter().map(value).collect::<Vec<_>>())
    };
    names.into_iter().map(row).filter(|(_, cells)| cells.iter().any(|cell| *cell != cells[0])).collect()
}

/// A setting as a cell shows it.
fn short(value: &toml::Value) -> String {
    match value {
        toml::Value::String(text) => text.clone(),
        toml::Value::Float(number) => format!("{number}"),
        toml::Value::Table(table) => {
            table.iter().map(|(name, value)| format!("{name}={}", short(value))).collect::<Vec<_>>().join(",")
        }
        other => other.to_string(),
    }
}

fn print_table(table: &[(String, Vec<String>)]) -> Result<()> {
    let length = |text: &String| text.chars().count();
    let first = table.iter().map(|(name, _)| length(name)).max().unwrap_or(0);
    let columns = table.first().map_or(0, |(_, cells)| cells.len());
    let widths: Vec<usize> = (0..columns)
        .map(|column| table.iter().map(|(_, cells)| length(&cells[column])).max().unwrap_or(0))
        .collect();
    for (name, cells) in table {
        let cells: Vec<String> =
            cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:>width$}")).collect();
        console::print(format_args!("{name:first$}  {}", cells.join("  ")))?;
    }
    Ok(())
}
