//! `cifar-engine compare`: puts runs side by side.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::table::{Side, Table};
use crate::console;
use crate::error::{Error, Result};
use crate::files::{is_file, is_file_or_nothing, read_text, read_toml};
use crate::report::{EpochMetrics, comparison, metrics};
use crate::text::{counted, duration};
use crate::train::about::About;
use crate::train::run_folder::MOST_TEXT;
use crate::train::score;

/// Arguments of `cifar-engine compare`.
#[derive(Args)]
#[command(after_help = "Examples:
  cifar-engine compare runs/*
  cifar-engine compare runs/a runs/b --out a-b.png
  cifar-engine compare runs/* --sort accuracy
  cifar-engine compare runs/* --json | jq '.[].test_accuracy'")]
pub struct Compare {
    /// Run folders.
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,

    /// Only runs that `train` or `finetune --tag` gave this tag; several times for all of several.
    #[arg(long = "tag", value_name = "TEXT")]
    tags: Vec<String>,

    /// Which run comes first; the others are held against it.
    #[arg(long, value_enum, default_value_t, value_name = "BY")]
    sort: Sort,

    /// Where to draw the accuracies over the epochs.
    #[arg(long, default_value = "compare.png", value_name = "FILE")]
    out: PathBuf,

    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

/// An order of runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Sort {
    /// The order in which they are named.
    #[default]
    Given,
    /// By test accuracy, the best first.
    Accuracy,
    /// By test accuracy with every class of the same weight, the best first.
    Balanced,
    /// By test loss, the lowest first.
    Loss,
    /// By the best validation accuracy, the best first.
    Validation,
    /// By training time, the shortest first.
    Time,
}

/// A run by its folder.
pub struct Run {
    name: String,
    about: About,
    settings: toml::Table,
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
        if !is_file(&file)? {
            return Err(Error::file(path, "is not a run folder: it has no settings.toml"));
        }
        let settings = read_toml(&file, MOST_TEXT)?;
        let table = path.join("metrics.csv");
        let history = if is_file_or_nothing(&table)? { metrics::read_csv(&table)? } else { Vec::new() };
        let file = path.join("result.json");
        let result = if is_file_or_nothing(&file)? { read_result(&file)? } else { Value::Null };
        let (name, about) = (path.display().to_string(), About::read(path)?);
        Ok(Run { name, about, settings, history, result })
    }

    /// The run as a picture calls it: what it is called, if anything, and its folder.
    fn label(&self) -> String {
        match &self.about.name {
            Some(name) => format!("{name} ({})", self.name),
            None => self.name.clone(),
        }
    }

    fn seconds(&self) -> f64 {
        self.history.iter().map(|row| row.seconds).sum()
    }

    fn json(&self) -> Value {
        let mut run = json!({
            "run": self.name,
            "finished": !self.result.is_null(),
            "test_accuracy": self.result["test_accuracy"],
            "test_loss": self.result["test_loss"],
            "test_balanced_accuracy": self.result["test_balanced_accuracy"],
            "test_top5_accuracy": self.result["test_top5_accuracy"],
            "test_auroc": self.result["test_auroc"],
            "test_calibration_error": self.result["test_calibration_error"],
            "test_calibrated_error": self.result["test_calibrated_error"],
            "best_validation_accuracy": score::best_accuracy(&self.history),
            "best_epoch": score::best_epoch(&self.history),
            "epochs": self.history.len(),
            "seconds": self.seconds(),
            "parameters": self.result["parameters"],
            "settings": self.settings,
        });
        self.about.entries().into_iter().for_each(|(name, value)| run[name] = value);
        run
    }

    /// The epochs that are finished and, where the run is not, those it was begun for.
    fn epochs(&self) -> String {
        let planned = self.settings.get("epochs").and_then(toml::Value::as_integer);
        let planned = planned.filter(|_| self.result.is_null()).map(|epochs| format!("/{epochs}"));
        format!("{}{}", self.history.len(), planned.unwrap_or_default())
    }

    /// A figure of `result.json`.
    fn figure(&self, name: &str) -> Option<f64> {
        self.result[name].as_f64()
    }

    /// The cells under [`COLUMNS`]; `first` is what it is held against.
    fn cells(&self, first: &Run) -> Vec<String> {
        let accuracy = |run: &Run| Some(100.0 * run.figure("test_accuracy")?);
        let balanced = self.figure("test_balanced_accuracy");
        let best = score::best_accuracy(&self.history);
        let difference = accuracy(self).zip(accuracy(first)).filter(|_| !std::ptr::eq(self, first));
        [
            accuracy(self).map(|accuracy| format!("{accuracy:.2} %")),
            difference.map(|(own, first)| format!("{:+.2}", own - first)),
            balanced.map(|accuracy| format!("{:.2} %", 100.0 * accuracy)),
            self.figure("test_loss").map(|loss| format!("{loss:.4}")),
            best.map(|best| format!("{:.2} %", 100.0 * best)),
            best.map(|_| score::best_epoch(&self.history).to_string()),
            Some(self.epochs()),
            Some(duration(self.seconds())),
            self.history.last().map(|row| format!("{:.0}", row.images_per_s)),
        ]
        .map(|cell| cell.unwrap_or_else(unknown))
        .to_vec()
    }
}

/// The figures that a run has ended with.
fn read_result(file: &Path) -> Result<Value> {
    let parsed = serde_json::from_str(&read_text(file, MOST_TEXT)?);
    parsed.map(Value::Object).map_err(|error| {
        let problem = format!("is damaged in line {}", error.line());
        Error::file(file, format!("{problem}; delete it to compare the run by its epochs alone"))
    })
}

/// Columns of every run, whatever its settings.
const COLUMNS: [&str; 9] =
    ["test accuracy", "to first", "balanced", "loss", "validation", "at epoch", "of", "time", "images/s"];

/// How a cell says that there is nothing.
fn unknown() -> String {
    "–".to_string()
}

impl Compare {
    /// Prints the table of the runs, and draws their curves if `--out` asks for it.
    ///
    /// # Errors
    /// If a run cannot be read, or the picture not be written.
    pub fn run(self) -> Result<()> {
        let mut runs = self.runs.iter().map(|path| Run::read(path)).collect::<Result<Vec<_>>>()?;
        let all = runs.len();
        runs.retain(|run| self.tags.iter().all(|tag| run.about.tags.contains(tag)));
        if runs.is_empty() {
            let tags = self.tags.join(", ");
            return Err(Error::Failed(format!("none of {} has the tag {tags}", counted(all, "run"))));
        }
        sort(&mut runs, self.sort);
        let drawn = draw(&runs, &self.out)?;
        if self.json {
            return console::print_json(&Value::Array(runs.iter().map(Run::json).collect()));
        }
        table(&runs).print()?;
        if drawn { console::print(self.out.display()) } else { Ok(()) }
    }
}

/// Sorts runs, the best first; those that lack the figure come last.
fn sort(runs: &mut [Run], by: Sort) {
    let key = |run: &Run| match by {
        Sort::Given => None,
        Sort::Accuracy => run.figure("test_accuracy").map(|accuracy| -accuracy),
        Sort::Balanced => run.figure("test_balanced_accuracy").map(|accuracy| -accuracy),
        Sort::Loss => run.figure("test_loss"),
        Sort::Validation => score::best_accuracy(&run.history).map(|accuracy| -accuracy),
        Sort::Time => Some(run.seconds()),
    };
    runs.sort_by(|a, b| key(a).unwrap_or(f64::MAX).total_cmp(&key(b).unwrap_or(f64::MAX)));
}

/// Draws the accuracies, where there are any; whether there are.
///
/// # Errors
/// If the image cannot be written.
pub fn draw(runs: &[Run], out: &Path) -> Result<bool> {
    let drawn = runs.iter().any(|run| !run.history.is_empty());
    if drawn {
        let lines: Vec<_> = runs.iter().map(|run| (run.label(), run.history.clone())).collect();
        comparison::draw(out, &lines)?;
    }
    Ok(drawn)
}

/// A row for each run: its results, the settings that are not the same in all, and its name.
pub fn table(runs: &[Run]) -> Table {
    let settings: Vec<_> = runs.iter().map(given).collect();
    let names: BTreeSet<&String> = settings.iter().flat_map(BTreeMap::keys).collect();
    let differs = |name: &&String| settings.iter().any(|run| run.get(*name) != settings[0].get(*name));
    let names: Vec<&String> = names.into_iter().filter(differs).collect();
    let titles = COLUMNS.into_iter().chain(names.iter().map(|name| name.as_str()));
    let facts: Vec<BTreeMap<String, String>> =
        runs.iter().map(|run| run.about.facts().into_iter().collect()).collect();
    // A note may be long, and has lines: it is in the report and in --json.
    let about = ["name", "tags"].into_iter().filter(|fact| facts.iter().any(|run| run.contains_key(*fact)));
    let about: Vec<&str> = about.collect();
    let words = about.iter().copied().chain(["run"]).map(|title| (title, Side::Left));
    let mut table = Table::new(titles.map(|title| (title, Side::Right)).chain(words));
    for ((run, given), facts) in runs.iter().zip(&settings).zip(&facts) {
        let given = names.iter().map(|name| given.get(*name).cloned().unwrap_or_else(unknown));
        let about = about.iter().map(|fact| facts.get(*fact).cloned().unwrap_or_else(unknown));
        table.push(run.cells(&runs[0]).into_iter().chain(given).chain(about).chain([run.name.clone()]));
    }
    table
}

/// Settings that only say what is written beside the results.
const SILENT: [&str; 2] = ["keep_checkpoints", "tensorboard"];

/// The settings of a run by name, those in a table below as `finetune.head_rate`, and its number of
/// parameters.
fn given(run: &Run) -> BTreeMap<String, String> {
    let mut given = BTreeMap::new();
    flatten("", &run.settings, &mut given);
    given.retain(|name, _| !SILENT.contains(&name.as_str()));
    if let Some(parameters) = run.result["parameters"].as_u64() {
        given.insert("parameters".into(), parameters.to_string());
    }
    given
}

fn flatten(before: &str, table: &toml::Table, given: &mut BTreeMap<String, String>) {
    for (name, value) in table {
        let name = format!("{before}{name}");
        match value {
            toml::Value::Table(table) => flatten(&format!("{name}."), table, given),
            toml::Value::String(text) => drop(given.insert(name, text.clone())),
            other => drop(given.insert(name, other.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_calls_a_run_by_its_name_and_its_folder() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("settings.toml"), "epochs = 1\n").unwrap();
        let folder = dir.path().display().to_string();
        let label = || Run::read(dir.path()).unwrap().label();
        assert_eq!(label(), folder);
        std::fs::write(dir.path().join("about.toml"), "name = \"small\"\n").unwrap();
        assert_eq!(label(), format!("small ({folder})"));
    }
}
