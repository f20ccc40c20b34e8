//! `cifar-engine verify`: is a run what its settings make of its images, bit for bit?

use clap::Args;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::begun::{Begun, BegunOptions, check_epoch};
use super::device::OpenDevice;
use super::options::count;
use super::progress::Display;
use crate::console;
use crate::error::{Error, Result};
use crate::report::EpochMetrics;
use crate::text::counted;
use crate::text::hex;
use crate::train::checkpoint::{Checkpoint, RunFingerprint};
use crate::train::verify::{Repeated, Verifier, epoch_of};

#[derive(Args)]
#[command(after_help = "Examples:
  cifar-engine verify runs/mine                the first epoch
  cifar-engine verify runs/mine --all --json   every epoch: a certificate
  cifar-engine verify runs/mine --epoch 7      from the checkpoint kept before it
  cifar-engine verify runs/mine --threads 1    threads change nothing")]
pub struct Verify {
    #[command(flatten)]
    begun: BegunOptions,

    /// How many epochs to compute again, from the first.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = count)]
    epochs: usize,

    /// Compute this epoch again, from the nearest checkpoint before it that was kept
    /// (--keep-checkpoints); without any, all epochs up to it.
    #[arg(long, value_name = "E", value_parser = count, conflicts_with_all = ["epochs", "all"])]
    epoch: Option<usize>,

    /// Compute all epochs again.
    #[arg(long, conflicts_with = "epochs")]
    all: bool,

    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
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
    pub fn run(self) -> Result<()> {
        let begun = self.begun.begun()?;
        if begun.history().is_empty() {
            return Err(Error::file(
                &self.begun.run,
                "has finished no epoch, and there is nothing to compare",
            ));
        }
        let weights = if begun.is_newest { self.weights(&begun.checkpoint)? } else { Vec::new() };
        self.epoch.map_or(Ok(()), |epoch| check_epoch(epoch, &begun))?;
        if self.epochs == 0 {
            return Err(Error::Usage("--epochs must be at least 1".into()));
        }
        let last = if self.all { begun.history().len() } else { self.epoch.unwrap_or(self.epochs) };
        let mut expected = begun.proofs(last)?;
        let start = self.epoch.map_or(Ok(None), |epoch| begun.start(epoch - 1))?;
        expected.drain(..start.as_ref().map_or(0, |start| start.progress.history.len()));
        let OpenDevice { mut device, name, .. } = self.begun.open(&begun)?;
        let certificate = certificate(&begun, &name);
        let mut display = Display::new(last);
        let mut verifier = Verifier::new(expected, &mut display);
        let outcome = begun.repeat(device.as_mut(), start, &mut verifier);
        let (is_done, repeated) = (verifier.is_done(), verifier.repeated);
        display.finish();
        // It ends the training itself when it has seen enough.
        if !is_done {
            outcome?;
        }
        self.report(certificate, &weights, &repeated, &name)
    }

    /// Which epochs the files of weights are of.
    fn weights(&self, checkpoint: &Checkpoint) -> Result<Vec<Weights>> {
        let history = &checkpoint.progress.history;
        // What an interrupt saved in the middle of an epoch has no hash.
        let files = if checkpoint.progress.step == 0 { &FILES[..] } else { &FILES[..1] };
        files
            .iter()
            .map(|file| Ok(Weights { file, epoch: epoch_of(&self.begun.run.join(file), history)? }))
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
            certificate["run"] = json!(self.begun.run.to_string_lossy());
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
            return Err(Error::file(self.begun.run.join(file), problem));
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
