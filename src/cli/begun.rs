//! A run as it was begun, to be computed again: from its beginning, or from a checkpoint that it
//! has kept.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;

use super::contact::ContactOptions;
use super::device::{DeviceOptions, OpenDevice};
use super::finetune::FinetuneCommand;
use super::options::AboutOptions;
use super::train::Train;
use crate::console;
use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::exec::Device;
use crate::exec::contact::Trial;
use crate::models::pretrained::Pretrained;
use crate::report::EpochMetrics;
use crate::report::metrics::Proof;
use crate::text::counted;
use crate::train::checkpoint::{Checkpoint, RunFingerprint};
use crate::train::run_folder::RunFolder;
use crate::train::settings::{Choices, Settings};
use crate::train::{self, Observer, finetune, first_contact, verify};
use crate::weights;

/// Which run is computed again, and by what.
#[derive(Args, Clone)]
pub struct BegunOptions {
    /// The run's folder.
    #[arg(value_name = "RUN")]
    pub run: PathBuf,

    /// Where the images lie now [default: where they were].
    #[arg(long, value_name = "DATA")]
    data: Option<String>,

    /// Where the weights that a fine-tuning began with lie now [default: where they were].
    #[arg(long, value_name = "PATH")]
    pretrained: Option<String>,

    #[command(flatten)]
    device: DeviceOptions,

    #[command(flatten)]
    contact: ContactOptions,
}

/// A run as it was begun.
pub struct Begun {
    folder: PathBuf,
    /// The run's settings.
    pub settings: Settings,
    /// Its images.
    pub data: Dataset,
    /// In fine-tuning.
    pretrained: Option<Pretrained>,
    /// The newest state of the run.
    pub checkpoint: Checkpoint,
    /// Whether it is the run's own; otherwise one that it has kept stands in for it.
    pub is_newest: bool,
}

/// The checkpoint of a run and `true`, or, where it is gone or damaged, the newest one that it has
/// kept and `false`.
fn newest(run: &RunFolder) -> Result<(Checkpoint, bool)> {
    let problem = match run.checkpoint() {
        Ok(Some(checkpoint)) => return Ok((checkpoint, true)),
        Ok(None) => Error::file(run.path(), "has no checkpoint: no epoch was finished, or it was deleted"),
        Err(error) => error,
    };
    let kept = RunFolder::kept(run.path())?.into_iter().rev();
    let mut whole = kept.filter_map(|(epoch, path)| Some((epoch, Checkpoint::load(&path).ok()?)));
    let Some((epoch, checkpoint)) = whole.find(|(epoch, _)| *epoch > 0) else { return Err(problem) };
    console::note(format_args!("warning: {problem}; the one kept after epoch {epoch} stands in for it"));
    Ok((checkpoint, false))
}

impl BegunOptions {
    /// The run's settings, data and checkpoint, which must belong together.
    ///
    /// # Errors
    /// If they do not, or cannot be read.
    pub fn begun(&self) -> Result<Begun> {
        let path = self.run.clone();
        let options = (AboutOptions::default(), false, self.device.clone(), self.contact);
        let choices = Choices { data: self.data.clone(), ..Choices::default() };
        let is_finetune = RunFolder::settings(&path)?.command() == "finetune";
        let (run, settings, data, pretrained) = match (is_finetune, self.pretrained.clone()) {
            (true, given) => {
                let command = FinetuneCommand::resuming(path.clone(), choices, given, options);
                let (run, settings, data, pretrained) = command.open(RunFolder::look_into(path)?)?;
                (run, settings, data, Some(pretrained))
            }
            (false, None) => {
                let (run, settings, data) =
                    Train::resuming(path.clone(), choices, options).open(RunFolder::look_into(path)?)?;
                (run, settings, data, None)
            }
            _ => {
                let problem = "--pretrained is for a fine-tuning; this run was begun by train";
                return Err(Error::Usage(problem.into()));
            }
        };
        let (checkpoint, is_newest) = newest(&run)?;
        let digest = pretrained.as_ref().map(|pretrained| weights::digest(&pretrained.file)).transpose()?;
        RunFingerprint::of(&settings, &data, digest)?.check(&checkpoint.fingerprint)?;
        Ok(Begun { folder: self.run.clone(), settings, data, pretrained, checkpoint, is_newest })
    }

    /// Opens the device: `auto` takes the same one as for the run.
    ///
    /// # Errors
    /// As for [`ContactOptions::open`].
    pub fn open(&self, begun: &Begun) -> Result<OpenDevice> {
        let device = self.device.in_precision(begun.settings.precision)?;
        let opened = self.contact.open(&device, || begun.trials())?;
        console::info(format_args!("device: {}", opened.name));
        Ok(opened)
    }
}

impl Begun {
    /// Those that the command made which began it.
    fn trials(&self) -> Result<Vec<Trial>> {
        match &self.pretrained {
            None => first_contact::training(&self.settings, &self.data),
            Some(pretrained) => first_contact::finetuning(&self.settings, pretrained, &self.data),
        }
    }

    /// The finished epochs.
    pub fn history(&self) -> &[EpochMetrics] {
        &self.checkpoint.progress.history
    }

    /// The proofs of its first so many epochs, which are those that it wrote for people, too.
    ///
    /// # Errors
    /// If it has fewer, or `metrics.jsonl` holds others.
    pub fn proofs(&self, epochs: usize) -> Result<Vec<(usize, Proof)>> {
        let proofs = verify::proofs(self.history(), epochs)?;
        verify::check_written(&self.folder.join("metrics.jsonl"), &proofs)?;
        Ok(proofs)
    }

    /// The newest checkpoint that the run has kept of its first so many epochs; none where that is
    /// its beginning. Those that cannot be used are warned of.
    ///
    /// # Errors
    /// If their folder cannot be read.
    pub fn start(&self, epochs: usize) -> Result<Option<Checkpoint>> {
        let kept = RunFolder::kept(&self.folder)?.into_iter().rev().filter(|(epoch, _)| *epoch <= epochs);
        for (epoch, path) in kept.filter(|(epoch, _)| *epoch > 0) {
            match self.usable(epoch, &path) {
                Ok(checkpoint) => {
                    console::info(format_args!("from the checkpoint kept after epoch {epoch}"));
                    return Ok(Some(checkpoint));
                }
                Err(problem) => {
                    console::note(format_args!("warning: {} {problem}: it is passed over", path.display()));
                }
            }
        }
        console::info("from the beginning of the run");
        Ok(None)
    }

    /// The checkpoint in a file, if it is one of this run after so many epochs.
    fn usable(&self, epochs: usize, path: &Path) -> std::result::Result<Checkpoint, &'static str> {
        let damaged = "is damaged, or of another version";
        let checkpoint = Checkpoint::load(path).map_err(|_| damaged)?;
        let progress = &checkpoint.progress;
        let hashes = |rows: &[EpochMetrics]| -> Vec<Option<String>> {
            rows.iter().map(|row| Some(row.proof.as_ref()?.weights_sha256.clone())).collect()
        };
        let is_prefix = self.history().get(..epochs).map(hashes) == Some(hashes(&progress.history));
        let fits = self.checkpoint.fingerprint.check(&checkpoint.fingerprint).is_ok();
        if is_prefix && fits && progress.step == 0 { Ok(checkpoint) } else { Err("is none of this run") }
    }

    /// Trains again, from a checkpoint or from the beginning, in a folder that is gone afterwards,
    /// until the observer stops it.
    ///
    /// # Errors
    /// Those of the training; [`Error::Interrupted`] where it was stopped before its end.
    pub fn repeat(
        self,
        device: &mut dyn Device,
        start: Option<Checkpoint>,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        let Begun { folder, settings, data, pretrained, .. } = self;
        let settings = Settings { keep_checkpoints: 0, tensorboard: false, ..settings };
        let temporary = tempfile::tempdir().map_err(|error| {
            Error::Failed(format!("no temporary folder can be made: {error}; set TMPDIR to one that is free"))
        })?;
        let again = RunFolder::create(Some(temporary.path().join("run")), &settings, &data.name)?;
        if let Some(start) = start {
            again.write_checkpoint(&start)?;
            // A training does not go on without the best weights, though nobody asks for them here.
            let best = folder.join("best.safetensors");
            fs::copy(&best, again.best()).map_err(|error| Error::file(&best, error.to_string()))?;
        }
        match pretrained {
            None => train::train(device, &settings, data, &again, observer).map(drop),
            Some(pretrained) => {
                finetune::finetune(device, &settings, pretrained, data, &again, observer).map(drop)
            }
        }
    }
}

/// The error of an epoch that no run has, which are counted from 1.
pub fn check_epoch(epoch: usize, begun: &Begun) -> Result<()> {
    let finished = begun.history().len();
    if (1..=finished).contains(&epoch) {
        return Ok(());
    }
    let all = counted(finished, "epoch");
    Err(Error::Usage(format!("--epoch {epoch} is none of this run, which has finished {all}")))
}
