//! The folder a training leaves behind.

use std::fs::{self, File, TryLockError};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use super::checkpoint::Checkpoint;
use super::settings::Settings;
use crate::error::{Error, Result};
use crate::files::{advice, open_plain, read_toml, write_atomic};
use crate::report::{EpochMetrics, RunReport, curves, metrics};

/// A run folder: `settings.toml`, `metrics.csv` and `.jsonl`, `curves.png`, `best.safetensors`, `last.safetensors`,
/// `checkpoint.safetensors`, and at the end `result.json` and the files of [`RunReport`]. It is locked as long as this value lives; the lock ends with the process, however
/// that ends.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    _lock: File,
}

const SETTINGS: &str = "settings.toml";

/// Settings and results are no larger than this.
pub const MOST_TEXT: u64 = 1 << 20;

impl RunFolder {
    /// Creates the folder, or the first free `runs/MODEL-DATA-N` if none is named, and writes the settings
    /// into it: what cannot be written shows before the training, not after.
    ///
    /// # Errors
    /// If it cannot be written, or holds a run already.
    pub fn create(path: Option<PathBuf>, settings: &Settings, data: &str) -> Result<RunFolder> {
        let path = match path {
            Some(path) => {
                if path.exists() && !path.is_dir() {
                    return Err(Error::file(&path, "is not a folder; choose another with --out"));
                }
                fs::create_dir_all(&path)
                    .map_err(|e| Error::file(&path, format!("cannot be created: {}", advice(&e))))?;
                path
            }
            None => free_folder(&format!("{}-{data}", settings.model))?,
        };
        let run = RunFolder { _lock: lock(&path)?, path };
        if [SETTINGS, "metrics.csv", "best.safetensors", "last.safetensors"]
            .iter()
            .any(|file| run.path.join(file).exists())
        {
            let advice = "go on with it by --resume, or choose another folder with --out";
            return Err(Error::file(&run.path, format!("holds a run already; {advice}")));
        }
        run.write_settings(settings)?;
        Ok(run)
    }

    /// Opens the folder of a run that is to be continued; returns the settings it was begun with.
    ///
    /// # Errors
    /// If it holds no run, its settings cannot be read, or another process is writing to it.
    pub fn open(path: PathBuf) -> Result<(RunFolder, Settings)> {
        let file = path.join(SETTINGS);
        if !file.is_file() {
            return Err(Error::file(&path, format!("holds no run: there is no {SETTINGS} in it")));
        }
        let run = RunFolder { _lock: lock(&path)?, path };
        let settings = read_toml(&file, MOST_TEXT)?;
        Ok((run, settings))
    }

    /// Writes `settings.toml`.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write_settings(&self, settings: &Settings) -> Result<()> {
        write_atomic(self.path.join(SETTINGS), |file| file.write_all(settings.to_toml().as_bytes()))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The weights with the best validation accuracy.
    pub fn best(&self) -> PathBuf {
        self.path.join("best.safetensors")
    }

    /// The newest weights: of the last epoch, or of the moment of an interrupt.
    pub fn last(&self) -> PathBuf {
        self.path.join("last.safetensors")
    }

    fn checkpoint_path(&self) -> PathBuf {
        self.path.join("checkpoint.safetensors")
    }

    /// The state that the run goes on from; none before the first epoch's end.
    ///
    /// # Errors
    /// If it cannot be read or is damaged.
    pub fn checkpoint(&self) -> Result<Option<Checkpoint>> {
        let path = self.checkpoint_path();
        if path.exists() { Checkpoint::load(&path).map(Some) } else { Ok(None) }
    }

    /// The error of a checkpoint that is whole, but not one of this training.
    pub(super) fn not_its_checkpoint(&self) -> Error {
        let problem = "does not belong to this run; delete it to begin the run again";
        Error::file(self.checkpoint_path(), problem)
    }

    /// Replaces the state that the run goes on from.
    ///
    /// # Errors
    /// If it cannot be written; the one before is then still whole.
    pub fn write_checkpoint(&self, checkpoint: &Checkpoint) -> Result<()> {
        checkpoint.save(&self.checkpoint_path())
    }

    /// Writes what a finished run leaves to look at.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn write_report(&self, report: &RunReport<'_>) -> Result<()> {
        report.write(&self.path)?;
        report.write_result(&self.path.join("result.json"))
    }

    /// Writes the history so far, as tables and as a picture.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn write_history(&self, title: &str, history: &[EpochMetrics]) -> Result<()> {
        metrics::write_csv(self.path.join("metrics.csv"), history)?;
        metrics::write_jsonl(self.path.join("metrics.jsonl"), history)?;
        curves::draw(self.path.join("curves.png"), title, history)
    }
}

/// Claims a folder for this process. The file stays when the lock goes: to delete it would let two processes
/// lock two files of one name.
fn lock(folder: &Path) -> Result<File> {
    let path = folder.join(".lock");
    let file = open_plain(&path).map_err(|error| Error::file(&path, advice(&error)))?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => {
            let problem = "another training is writing to it; wait for its end, or choose another folder";
            Err(Error::file(folder, problem))
        }
        // Some network file systems know no locks.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(file),
    }
}

/// Creating the folder is what claims it, so two runs that start together get two folders.
fn free_folder(stem: &str) -> Result<PathBuf> {
    // The data set's name may be a picture folder's, of any length.
    let plain = |c: char| if c.is_control() || "/\\:".contains(c) { '_' } else { c };
    let stem: String = stem.chars().take(60).map(plain).collect();
    let runs = Path::new("runs");
    fs::create_dir_all(runs).map_err(|e| Error::file(runs, format!("cannot be created: {}", advice(&e))))?;
    for number in 1u64.. {
        let path = runs.join(format!("{stem}-{number}"));
        match fs::create_dir(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(Error::file(&path, format!("cannot be created: {}", advice(&error)))),
        }
    }
    unreachable!("there are more numbers than folders")
}
