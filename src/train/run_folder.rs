//! The folder a training leaves behind.

mod apart;

use std::fs::{self, File, TryLockError};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use super::about;
use super::checkpoint::Checkpoint;
use super::divergence::Divergence;
use super::settings::Settings;
use super::split_table;
use crate::data::DataSource;
use crate::data::listing::Lister;
use crate::error::{Error, Result, path_text};
use crate::files::{advice, is_file, is_still, open_plain, read_text, read_toml, unreadable, write_atomic};
#[cfg(feature = "plots")]
use crate::report::curves;
use crate::report::norms::{self, ParameterNorms};
use crate::report::run::FILES;
#[cfg(feature = "tensorboard")]
use crate::report::tensorboard;
use crate::report::{EpochMetrics, Reading, RunReport, metrics};
use crate::team::Team;

/// A run folder: [`NEEDED`] and [`SHOWN`], and at the end the files of [`RunReport`]. It is locked
/// as long as this value lives; the lock ends with the process, however that ends. A new run that
/// ends before it has saved anything takes its files with it, so that they are in nobody's way;
/// what it diverged by stays, and the next run in the folder replaces it.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    /// None where the folder cannot be written to anyway.
    _lock: Option<File>,
    begun: Begun,
    /// The processes that make the run.
    team: Team,
}

/// Extent of what is new about a run.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Begun {
    /// Nothing: it is continued, or refused.
    Before,
    /// The run, in a folder that was there.
    Here,
    /// So many folders too: its own, and those above that it lies in.
    WithFolders(usize),
    /// A folder that goes with the process, which is not the first of its team.
    Apart,
}

const SETTINGS: &str = "settings.toml";
const LOCK: &str = ".lock";
const BEST: &str = "best.safetensors";
/// The newest weights of a run.
pub const LAST: &str = "last.safetensors";
const CHECKPOINT: &str = "checkpoint.safetensors";
/// The folder of the runs that have been given none.
const RUNS: &str = "runs";
/// The folder of the checkpoints that are kept.
const KEPT: &str = "checkpoints";
/// The folder of the files for TensorBoard.
const EVENTS: &str = "tensorboard";
const NORMS: &str = "norms.csv";
const DIVERGENCE: &str = "divergence.json";

/// The files that a run cannot do without, besides its settings.
pub const NEEDED: [&str; 7] = [BEST, LAST, CHECKPOINT, KEPT, "metrics.csv", "metrics.jsonl", "result.json"];
/// The picture that is drawn during the training, and those of the report, are missed by nobody but
/// the eye.
pub const SHOWN: &str = "curves.png";

/// Settings and results are no larger than this.
pub const MOST_TEXT: u64 = 1 << 20;

impl RunFolder {
    /// Creates the folder, or the first free `runs/MODEL-DATA-N` if none is named, and writes the
    /// settings into it: what cannot be written shows before the training, not after.
    ///
    /// # Errors
    /// If it cannot be written, holds a run already, a file that the run would overwrite, or images
    /// of the data.
    /// Settings beside a lock are what is left of a run that was killed before it had saved
    /// anything: they are in nobody's way.
    pub fn create(path: Option<PathBuf>, settings: &Settings, data: &str) -> Result<RunFolder> {
        let (path, begun) = match path {
            Some(path) => {
                let begun = match missing(&path) {
                    0 => Begun::Here,
                    folders => Begun::WithFolders(folders),
                };
                if fs::symlink_metadata(&path).is_ok() && !path.is_dir() {
                    let problem = "is not a folder, nor a link to one; choose another with `out`";
                    return Err(Error::file(&path, problem));
                }
                fs::create_dir_all(&path)
                    .map_err(|e| Error::file(&path, format!("cannot be created: {}", advice(&e))))?;
                (path, begun)
            }
            None => {
                let folders = 1 + missing(Path::new(RUNS));
                (free_folder(&format!("{}-{data}", settings.model))?, Begun::WithFolders(folders))
            }
        };
        let was_a_run = path.join(LOCK).exists();
        let (lock, team) = (Some(lock(&path)?), Team::default());
        let mut run = RunFolder { _lock: lock, path, begun: Begun::Before, team };
        let fit = check_free(&run.path, was_a_run, settings)
            .and_then(|()| settings.data.parse::<DataSource>())
            .and_then(|source| source.folder().map_or(Ok(()), |folder| check_apart(&run.path, &folder)));
        if let Err(error) = fit {
            if !was_a_run {
                let _ = fs::remove_file(run.path.join(LOCK)); // the folder stays as it was
            }
            return Err(error);
        }
        run.begun = begun;
        // Those of a killed start, which are none of this run.
        for file in [split_table::FILE, NORMS, about::FILE] {
            let _ = fs::remove_file(run.path.join(file));
        }
        run.write_settings(settings)?;
        Ok(run)
    }

    /// Opens the folder of a run that is to be continued; returns the settings it was begun with.
    ///
    /// # Errors
    /// If it holds no run, its settings cannot be read, or another process is writing to it.
    pub fn open(path: PathBuf) -> Result<(RunFolder, Settings)> {
        let settings = RunFolder::settings(&path)?;
        let (lock, team) = (Some(lock(&path)?), Team::default());
        Ok((RunFolder { _lock: lock, path, begun: Begun::Before, team }, settings))
    }

    /// [`RunFolder::open`] of a run that is only read: its folder may be one that cannot be written
    /// to.
    ///
    /// # Errors
    /// As for [`RunFolder::open`].
    pub fn look_into(path: PathBuf) -> Result<(RunFolder, Settings)> {
        let closed = [ErrorKind::PermissionDenied, ErrorKind::ReadOnlyFilesystem];
        match open_plain(&path.join(LOCK)) {
            Err(error) if closed.contains(&error.kind()) => {
                let settings = RunFolder::settings(&path)?;
                let team = Team::default();
                Ok((RunFolder { _lock: None, path, begun: Begun::Before, team }, settings))
            }
            _ => RunFolder::open(path),
        }
    }

    /// The processes that make the run.
    pub fn team(&self) -> &Team {
        &self.team
    }

    /// The settings of the run in a folder.
    ///
    /// # Errors
    /// If it holds no run, or they cannot be read or make no sense.
    pub fn settings(path: &Path) -> Result<Settings> {
        let file = path.join(SETTINGS);
        if !is_file(&file)? {
            return Err(Error::file(path, format!("is not a run folder: it has no {SETTINGS}")));
        }
        let settings: Settings = read_toml(&file, MOST_TEXT)?;
        let problem = |error: Error| Error::file(&file, error.to_string().replace('`', "'"));
        settings.check().map_err(problem)?;
        Ok(settings)
    }

    /// Whether there is anything to go on from, or to use.
    pub fn has_saved(&self) -> bool {
        RunFolder::is_saved(&self.path)
    }

    /// The files in a folder that a run cannot do without, were it one.
    pub fn needed(path: &Path) -> Vec<PathBuf> {
        NEEDED.iter().chain([&SETTINGS]).map(|file| path.join(file)).collect()
    }

    /// Whether a folder is that of a run which has saved anything.
    pub fn is_saved(path: &Path) -> bool {
        [BEST, LAST, CHECKPOINT].iter().any(|file| path.join(file).exists())
    }

    /// Writes `settings.toml`.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write_settings(&self, settings: &Settings) -> Result<()> {
        write_atomic(self.path.join(SETTINGS), |file| file.write_all(settings.to_toml().as_bytes()))
    }

    /// Whether nobody looks into the folder.
    fn is_apart(&self) -> bool {
        self.begun == Begun::Apart
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The weights with the best validation accuracy.
    pub fn best(&self) -> PathBuf {
        self.path.join(BEST)
    }

    /// The newest weights: of the last epoch, or of the moment of an interrupt.
    pub fn last(&self) -> PathBuf {
        self.path.join(LAST)
    }

    fn checkpoint_path(&self) -> PathBuf {
        self.path.join(CHECKPOINT)
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
        let problem =
            "was written by another command or with other settings; delete it to begin the run again";
        Error::file(self.checkpoint_path(), problem)
    }

    /// Replaces the state that the run goes on from.
    ///
    /// # Errors
    /// If it cannot be written; the one before is then still whole.
    pub fn write_checkpoint(&self, checkpoint: &Checkpoint) -> Result<()> {
        checkpoint.save(&self.checkpoint_path())
    }

    /// Keeps the state after an epoch, beside the one that the run goes on from.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn keep_checkpoint(&self, checkpoint: &Checkpoint) -> Result<()> {
        let folder = self.path.join(KEPT);
        fs::create_dir_all(&folder)
            .map_err(|e| Error::file(&folder, format!("cannot be created: {}", advice(&e))))?;
        checkpoint.save(&self.kept_checkpoint(checkpoint.progress.history.len()))
    }

    fn kept_checkpoint(&self, epochs: usize) -> PathBuf {
        self.path.join(KEPT).join(format!("epoch-{epochs:04}.safetensors"))
    }

    /// Removes the checkpoint after so many epochs, whose weights could not be kept.
    pub fn remove_kept(&self, epochs: usize) {
        let _ = fs::remove_file(self.kept_checkpoint(epochs)); // it may not be there either
    }

    /// The file, beside a kept checkpoint, of the weights after so many epochs, which other
    /// commands read; of a run with averages of the weights, these.
    pub fn kept_weights(&self, epochs: usize) -> PathBuf {
        self.path.join(KEPT).join(format!("weights-{epochs:04}.safetensors"))
    }

    /// The checkpoints that a run has kept: how many epochs were finished, and the files, oldest
    /// first.
    ///
    /// # Errors
    /// If their folder cannot be read.
    pub fn kept(path: &Path) -> Result<Vec<(usize, PathBuf)>> {
        let folder = path.join(KEPT);
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) if error.kind() == ErrorKind::NotADirectory => {
                let problem =
                    "is a file, where a run has the folder of the checkpoints that it keeps; move it away";
                return Err(Error::file(&folder, problem));
            }
            entries => entries,
        };
        let unread = |error| Error::file(&folder, unreadable(&error));
        let mut kept = Vec::new();
        for entry in entries.map_err(unread)? {
            let path = entry.map_err(unread)?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let epoch = name.strip_prefix("epoch-").and_then(|name| name.strip_suffix(".safetensors"));
            kept.extend(epoch.and_then(|epoch| epoch.parse().ok()).map(|epoch: usize| (epoch, path.clone())));
        }
        kept.sort();
        Ok(kept)
    }

    /// Writes why the training diverged.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write_divergence(&self, divergence: &Divergence) -> Result<()> {
        write_atomic(self.path.join(DIVERGENCE), |file| {
            serde_json::to_writer_pretty(&mut *file, divergence)?;
            writeln!(file)
        })
    }

    /// Removes what an attempt before diverged by.
    pub(super) fn forget_divergence(&self) {
        let _ = fs::remove_file(self.path.join(DIVERGENCE));
    }

    /// Why the training in a folder diverged; none where it did not.
    ///
    /// # Errors
    /// If it holds no run, or the file cannot be read.
    pub fn divergence(path: &Path) -> Result<Option<Divergence>> {
        RunFolder::settings(path)?;
        let file = path.join(DIVERGENCE);
        if !is_file(&file)? {
            return Ok(None);
        }
        let read = serde_json::from_str(&read_text(&file, MOST_TEXT)?);
        read.map(Some).map_err(|error| Error::file(&file, format!("is damaged: {error}; delete it")))
    }

    /// Writes the figures that a finished run ends with.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write_result(&self, report: &RunReport<'_>) -> Result<()> {
        report.write_result(&self.path.join("result.json"))
    }

    /// Writes what a finished run leaves to look at.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn write_report(&self, report: &RunReport<'_>) -> Result<()> {
        if self.is_apart() { Ok(()) } else { report.write(&self.path) }
    }

    /// Writes the history so far as tables.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn write_tables(&self, history: &[EpochMetrics]) -> Result<()> {
        metrics::write_csv(self.path.join("metrics.csv"), history)?;
        metrics::write_jsonl(self.path.join("metrics.jsonl"), history)
    }

    /// Writes the history so far for TensorBoard.
    ///
    /// # Errors
    /// If a file cannot be written.
    #[cfg(feature = "tensorboard")]
    pub fn write_events(&self, history: &[EpochMetrics]) -> Result<()> {
        tensorboard::write(&self.path.join(EVENTS), history)
    }

    /// Nothing: this build has no TensorBoard files, and refuses settings that ask for some.
    ///
    /// # Errors
    /// None.
    #[cfg(not(feature = "tensorboard"))]
    pub fn write_events(&self, _history: &[EpochMetrics]) -> Result<()> {
        Ok(())
    }

    /// The norms of the parameters after the epochs up to this one; none where nobody wrote them
    /// down.
    pub(super) fn norms(&self, epochs: usize) -> Vec<ParameterNorms> {
        let rows = norms::read(&self.path.join(NORMS)).unwrap_or_default();
        rows.into_iter().filter(|row| row.epoch <= epochs).collect()
    }

    /// Begins the table of norms with these rows.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(super) fn begin_norms(&self, rows: &[ParameterNorms]) -> Result<()> {
        norms::write(&self.path.join(NORMS), rows)
    }

    /// Adds an epoch's rows to the table of norms.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(super) fn add_norms(&self, rows: &[ParameterNorms]) -> Result<()> {
        norms::append(&self.path.join(NORMS), rows)
    }

    /// Draws the history so far.
    ///
    /// # Errors
    /// If the picture cannot be written.
    #[cfg(feature = "plots")]
    pub fn draw_curves(&self, title: &str, reading: &Reading, history: &[EpochMetrics]) -> Result<()> {
        if self.is_apart() { Ok(()) } else { curves::draw(self.path.join(SHOWN), title, reading, history) }
    }

    /// Nothing: this build draws no pictures.
    ///
    /// # Errors
    /// None.
    #[cfg(not(feature = "plots"))]
    pub fn draw_curves(&self, _title: &str, _reading: &Reading, _history: &[EpochMetrics]) -> Result<()> {
        Ok(())
    }
}

impl Drop for RunFolder {
    fn drop(&mut self) {
        if self.is_apart() {
            let _ = fs::remove_dir_all(&self.path); // the system clears such folders, too
            return;
        }
        // What a training diverged by is looked at, and is in the way of no other.
        if self.begun == Begun::Before || self.has_saved() || self.path.join(DIVERGENCE).exists() {
            return;
        }
        // Whatever cannot be removed is in the way no more than it was.
        for file in [SETTINGS, split_table::FILE, NORMS, about::FILE, LOCK] {
            let _ = fs::remove_file(self.path.join(file));
        }
        if let Begun::WithFolders(count) = self.begun {
            // One that holds something by now stays.
            self.path.ancestors().take(count).for_each(|folder| drop(fs::remove_dir(folder)));
        }
    }
}

/// Refuses a folder with something in it that a new run would overwrite. A folder in the place of a
/// picture is not: it only keeps the picture from being drawn; one of files for TensorBoard is what
/// there will be.
fn check_free(folder: &Path, was_a_run: bool, settings: &Settings) -> Result<()> {
    let found = |file: &&str| fs::symlink_metadata(folder.join(file)).is_ok();
    let first = [SETTINGS, split_table::FILE, NORMS, about::FILE].into_iter().filter(|_| !was_a_run);
    if let Some(file) = NEEDED.into_iter().chain(first).find(|file| found(file)) {
        let advice = "go on with it by `resume`, or choose another folder with `out`";
        return Err(Error::file(folder, format!("holds a run already ({file}); {advice}")));
    }
    let events = settings.tensorboard.then_some(EVENTS);
    match FILES
        .into_iter()
        .chain([SHOWN])
        .chain(events)
        .find(|file| found(file) && !folder.join(file).is_dir())
    {
        None => Ok(()),
        Some(file) => {
            let problem = format!("holds a file {file}, which the run would overwrite");
            Err(Error::file(folder, format!("{problem}; choose another folder with `out`")))
        }
    }
}

/// Refuses a folder with images of the data: the pictures of a run or of a report would lie among
/// them, and the whole folder of a run be left out of the next training.
///
/// # Errors
/// If it is one, or cannot be read.
pub fn check_apart(folder: &Path, data: &Path) -> Result<()> {
    let (Ok(own), Ok(data)) = (fs::canonicalize(folder), fs::canonicalize(data)) else { return Ok(()) };
    let mut lister = Lister { skip_bad: true, ..Lister::default() };
    let images = if own.starts_with(data) { lister.images(folder)? } else { Vec::new() };
    match images.first() {
        None => Ok(()),
        Some(image) => {
            let problem = format!("holds images of the data ({})", path_text(image));
            Err(Error::file(folder, format!("{problem}; choose another folder")))
        }
    }
}

/// The folder of the run whose weights lie in `folder`: itself, or that around the weights that a
/// run has kept.
pub fn run_of(folder: &Path) -> &Path {
    let around = folder.parent().filter(|_| folder.file_name().is_some_and(|name| name == KEPT));
    around.filter(|run| run.join(SETTINGS).is_file()).unwrap_or(folder)
}

/// The settings of the run in a folder, which may be under way; none where the folder holds no run.
///
/// # Errors
/// If they cannot be read.
pub fn settings_in(folder: &Path) -> Result<Option<Settings>> {
    let file = folder.join(SETTINGS);
    if is_file(&file)? { read_toml(&file, MOST_TEXT).map(Some) } else { Ok(None) }
}

/// Claims a folder for this process. The file stays when the lock goes, unless nothing else does.
fn lock(folder: &Path) -> Result<File> {
    let path = folder.join(LOCK);
    loop {
        let file = open_plain(&path).map_err(|error| Error::file(&path, advice(&error)))?;
        if let Err(TryLockError::WouldBlock) = file.try_lock() {
            let problem = "another training is writing to it; wait for its end, or choose another folder";
            return Err(Error::file(folder, problem));
        }
        // Some network file systems know no locks. A file that is gone was that of a run that left
        // nothing.
        if is_still(&file, &path).map_err(|error| Error::file(&path, advice(&error)))? {
            return Ok(file);
        }
    }
}

/// Creating the folder is what claims it, so two runs that start together get two folders.
fn free_folder(stem: &str) -> Result<PathBuf> {
    // The data set's name may be a picture folder's, of any length.
    let plain = |c: char| if c.is_control() || "/\\:".contains(c) { '_' } else { c };
    let stem: String = stem.chars().take(60).map(plain).collect();
    numbered_folder(Path::new(RUNS), &stem)
}

/// How many folders are to be made for a path to be there.
fn missing(path: &Path) -> usize {
    let named = path.ancestors().take_while(|folder| !folder.as_os_str().is_empty());
    named.take_while(|folder| !folder.exists()).count()
}

/// Creates the first folder `STEM-N` that there is not.
fn numbered_folder(within: &Path, stem: &str) -> Result<PathBuf> {
    for number in 1u64.. {
        // Each time: a run that ends meanwhile may take away what it has made.
        fs::create_dir_all(within)
            .map_err(|e| Error::file(within, format!("cannot be created: {}", advice(&e))))?;
        let path = within.join(format!("{stem}-{number}"));
        match fs::create_dir(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(Error::file(&path, format!("cannot be created: {}", advice(&error)))),
        }
    }
    unreachable!("there are more numbers than folders")
}
