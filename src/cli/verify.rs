//! `cifar-engine verify`: is a run what its settings make of its images, bit for bit?

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::contact::ContactOptions;
use super::device::{DeviceOptions, OpenDevice};
use super::finetune::FinetuneCommand;
use super::options::count;
use super::progress::Display;
use super::train::Train;
use crate::console;
use crate::data::Dataset;
use crate::data::images::hex;
use crate::error::{Error, Result};
use crate::exec::contact::Trial;
use crate::models::pretrained::Pretrained;
use crate::report::EpochMetrics;
use crate::text::counted;
use crate::train::checkpoint::{Checkpoint, RunFingerprint};
use crate::train::run_folder::RunFolder;
use crate::train::settings::{Choices, Settings};
use crate::train::verify::{Repeated, Verifier, epoch_of};
use crate::train::{self, finetune, first_contact};
use crate::weights;

#[derive(Args)]
#[command(after_help = "Examples:
  cifar-engine verify runs/mine                the first epoch
  cifar-engine verify runs/mine --all --json   every epoch: a certificate
  cifar-engine verify runs/mine --threads 1    threads change nothing")]
pub struct Verify {
    /// The run's folder.
    #[arg(value_name = "RUN")]
    run: PathBuf,

    /// How many epochs to compute again, from the first.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = count)]
    epochs: usize,

    /// Compute all epochs again.
    #[arg(long, conflicts_with = "epochs")]
    all: bool,

    /// Where the images lie now [default: where they were].
    #[arg(long, value_name = "DATA")]
    data: Option<String>,

    /// Where the weights that a fine-tuning began with lie now [default: where they were].
    #[arg(long, value_name = "PATH")]
    pretrained: Option<String>,

    /// Print the result as JSON.
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    device: DeviceOptions,

    #[command(flatten)]
    contact: ContactOptions,
}

/// A run as it was begun.
struct Begun {
    settings: Settings,
    data: Dataset,
    /// In fine-tuning.
    pretrained: Option<Pretrained>,
    checkpoint: Checkpoint,
}

impl Begun {
    /// Those that the command made which began it: `auto` takes the same device again.
    fn trials(&self) -> Result<Vec<Trial>> {
        match &self.pretrained {
            None => first_contact::training(&self.settings, &self.data),
            Some(pretrained) => first_contact::finetuning(&self.settings, pretrained, &self.data),
        }
    }
}

/// A file of weights, and the epoch that it is of.
struct Weights {
    file: &'static str,
    epoch: Option<usize>,
}

impl Verify {
    /// Compares the run with a repetition of it.
    ///
    /// # Errors
    /// If anything differs; or as for a training.
    pub fn run(mut self) -> Result<()> {
        let begun = self.begun()?;
        let history = begun.checkpoint.progress.history.clone();
        let weights = self.weights(&begun.checkpoint)?;
        let epochs = if self.all { history.len() } else { self.epochs };
        let OpenDevice { mut device, name, .. } = self.contact.open(&self.device, || begun.trials())?;
        console::info(format_args!("device: {name}"));
        let certificate = certificate(&begun, &name);
        let folder = tempfile::tempdir().map_err(|error| {
            Error::Failed(format!("no temporary folder can be made: {error}; set TMPDIR to one that is free"))
        })?;
        let again = RunFolder::create(Some(folder.path().join("run")), &begun.settings, &begun.data.name)?;
        let mut display = Display::new(epochs);
        let mut verifier = Verifier::new(&history, epochs, &mut display)?;
        let Begun { settings, data, pretrained, .. } = begun;
        let outcome = match pretrained {
            None => train::train(device.as_mut(), &settings, data, &again, &mut verifier),
            Some(pretrained) => {
                finetune::finetune(device.as_mut(), &settings, pretrained, data, &again, &mut verifier)
            }
        };
        let (is_done, repeated) = (verifier.is_done(), verifier.repeated);
        display.finish();
        // It ends the training itself when it has seen enough.
        if !is_done {
            outcome?;
        }
        self.report(certificate, &weights, &repeated, &name)
    }

    /// The run's settings, data and checkpoint, which must belong together.
    fn begun(&mut self) -> Result<Begun> {
        let (path, device, contact) = (self.run.clone(), self.device.clone(), self.contact);
        let choices = Choices { data: self.data.take(), ..Choices::default() };
        let is_finetune = RunFolder::settings(&path)?.command() == "finetune";
        let (run, settings, data, pretrained) = match (is_finetune, self.pretrained.take()) {
            (true, given) => {
                let command = FinetuneCommand::resuming(path.clone(), choices, given, false, device, contact);
                let (run, settings, data, pretrained) = command.open(path)?;
                (run, settings, data, Some(pretrained))
            }
            (false, None) => {
                let (run, settings, data) =
                    Train::resuming(path.clone(), choices, false, device, contact).open(path)?;
                (run, settings, data, None)
            }
            _ => {
                let problem = "--pretrained is for a fine-tuning; this run was begun by train";
                return Err(Error::Usage(problem.into()));
            }
        };
        let checkpoint = run.checkpoint()?.ok_or_else(|| {
            Error::file(run.path(), "has no checkpoint: no epoch was finished, or it was deleted")
        })?;
        let digest = pretrained.as_ref().map(|pretrained| weights::digest(&pretrained.file)).transpose()?;
        RunFingerprint::of(&settings, &data, digest).check(&checkpoint.fingerprint)?;
        Ok(Begun { settings, data, pretrained, checkpoint })
    }

    /// Which epochs the files of weights are of.
    fn weights(&self, checkpoint: &Checkpoint) -> Result<Vec<Weights>> {
        let history = &checkpoint.progress.history;
        // What an interrupt saved in the middle of an epoch has no hash.
        let files = if checkpoint.progress.step == 0 { &FILES[..] } else { &FILES[..1] };
        files
            .iter()
            .map(|file| Ok(Weights { file, epoch: epoch_of(&self.run.join(file), history)? }))
            .collect()
    }

    fn report(
        &self,
        mut certificate: Value,
        weights: &[Weights],
        repeated: &[Repeated],
        device: &str,
    ) -> Result<()> {
        let foreign = weights.iter().find(|weights| weights.epoch.is_none());
        let differs = repeated.iter().find(|repeated| !repeated.is_equal());
        if self.json {
            certificate["run"] = json!(self.run.to_string_lossy());
            certificate["equal"] = json!(foreign.is_none() && differs.is_none());
            let files = weights.iter().map(|weights| (weights.file.to_string(), json!(weights.epoch)));
            certificate["epoch_of"] = files.collect();
            certificate["repeated"] = json!(repeated);
            console::print_json(&certificate)?;
        } else {
            for Weights { file, epoch } in weights {
                let of = epoch.map_or("of no epoch of this run".into(), |epoch| format!("of epoch {epoch}"));
                console::print(format_args!("{file}: {of}"))?;
            }
            for repeated in repeated {
                let equal = if repeated.is_equal() { "equal" } else { "DIFFERENT" };
                console::print(format_args!("epoch {}: {equal}, {}", repeated.epoch, repeated.found))?;
            }
        }
        if let Some(Repeated { epoch, .. }) = differs {
            let reason = differs.map(|repeated| repeated.reason(device)).unwrap_or_default();
            return Err(Error::Failed(format!("epoch {epoch} differs from the run's: {reason}")));
        }
        if let Some(Weights { file, .. }) = foreign {
            let problem = "holds weights of no epoch of this run; they were changed or replaced";
            return Err(Error::file(self.run.join(file), problem));
        }
        if self.json {
            return Ok(());
        }
        let (epochs, verb) = (repeated.len(), if repeated.len() == 1 { "is" } else { "are" });
        console::print(format_args!(
            "{} {verb} the run's, bit for bit, on: {device}",
            counted(epochs, "epoch")
        ))
    }
}

/// The files of weights; the last one is newer than the last epoch where the run was interrupted.
const FILES: [&str; 2] = ["best.safetensors", "last.safetensors"];

/// What the result is about, for whoever wants to repeat it.
fn certificate(begun: &Begun, device: &str) -> Value {
    let RunFingerprint { settings, images, test, pretrained, .. } = &begun.checkpoint.fingerprint;
    let last: Option<&EpochMetrics> = begun.checkpoint.progress.history.last();
    json!({
        "program": concat!("cifar-engine ", env!("CARGO_PKG_VERSION")),
        "device": device,
        "settings_sha256": hex(Sha256::new_with_prefix(settings)),
        "training_images_sha256": images,
        "test_images_sha256": test,
        "pretrained_sha256": pretrained,
        "epochs": last.map(|row| row.epoch),
        "weights_sha256": last.and_then(|row| row.proof.as_ref()).map(|proof| &proof.weights_sha256),
    })
}
