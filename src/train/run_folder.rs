//! The folder a training leaves behind.

use std::fs;
use std::io::Write;
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
                if path.join("metrics.csv").exists() || path.join("settings.toml").exists() {
                    return Err(Error::file(&path, "holds a run already; choose another folder with --out"));
                }
                fs::create_dir_all(&path)
                    .map_err(|e| Error::file(&path, format!("cannot be created: {e}")))?;
                path
            }
            None => free_folder(&format!("{}-{data}", settings.model))?,
        };
        let text = toml::to_string(settings)
            .map_err(|e| Error::file(&path, format!("cannot hold settings: {e}")))?;
        write_atomic(path.join("settings.toml"), |file| file.write_all(text.as_bytes()))?;
        Ok(RunFolder { path })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The weights with the best validation accuracy.
    pub fn best(&self) -> PathBuf {
        self.path.join("best.safetensors")
    }

    /// The weights of the last epoch.
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
    let runs = Path::new("runs");
    fs::create_dir_all(runs).map_err(|e| Error::file(runs, format!("cannot be created: {e}")))?;
    for number in 1.. {
        let path = runs.join(format!("{stem}-{number}"));
        match fs::create_dir(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(Error::file(&path, format!("cannot be created: {error}"))),
        }
    }
    unreachable!("there are more numbers than folders")
}
