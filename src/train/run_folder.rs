//! The folder a training leaves behind.

use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use super::settings::Settings;
use crate::error::{Error, Result};
use crate::files::write_atomic;
use crate::report::{EpochMetrics, curves, metrics};

/// A run folder: `settings.toml`, `metrics.csv`, `curves.png`, `best.safetensors`, `last.safetensors`.
#[derive(Clone, Debug)]
pub struct RunFolder {
    path: PathBuf,
}

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
                    .map_err(|e| Error::file(&path, format!("cannot be created: {e}")))?;
                path
            }
            None => free_folder(&format!("{}-{data}", settings.model))?,
        };
        let text = toml::to_string(settings)
            .map_err(|e| Error::file(&path, format!("cannot hold settings: {e}")))?;
        let run = RunFolder { path };
        run.claim()?;
        write_atomic(run.path.join("settings.toml"), |file| file.write_all(text.as_bytes()))?;
        Ok(run)
    }

    /// Makes the folder this run's own: of two trainings that start together, one creates `settings.toml`.
    fn claim(&self) -> Result<()> {
        let taken = || Error::file(&self.path, "holds a run already; choose another folder with --out");
        if ["metrics.csv", "best.safetensors", "last.safetensors"]
            .iter()
            .any(|file| self.path.join(file).exists())
        {
            return Err(taken());
        }
        match fs::File::create_new(self.path.join("settings.toml")) {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(taken()),
            Err(error) => Err(Error::file(&self.path, format!("cannot be written: {error}"))),
        }
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

    /// Writes the history so far, as a table and as a picture.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn write_history(&self, title: &str, history: &[EpochMetrics]) -> Result<()> {
        metrics::write_csv(self.path.join("metrics.csv"), history)?;
        curves::draw(self.path.join("curves.png"), title, history)
    }
}

/// Creating the folder is what claims it, so two runs that start together get two folders.
fn free_folder(stem: &str) -> Result<PathBuf> {
    // The data set's name may be a picture folder's, of any length.
    let plain = |c: char| if c.is_control() || "/\\:".contains(c) { '_' } else { c };
    let stem: String = stem.chars().take(60).map(plain).collect();
    let runs = Path::new("runs");
    fs::create_dir_all(runs).map_err(|e| Error::file(runs, format!("cannot be created: {e}")))?;
    for number in 1u64.. {
        let path = runs.join(format!("{stem}-{number}"));
        match fs::create_dir(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(Error::file(&path, format!("cannot be created: {error}"))),
        }
    }
    unreachable!("there are more numbers than folders")
}
