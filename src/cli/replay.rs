//! `cifar-engine replay`: goes back to a step of a training, and shows every tensor in it.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::begun::{Begun, BegunOptions, check_epoch};
use super::device::OpenDevice;
use super::options::count;
use super::progress::Display;
use crate::console;
use crate::error::{Error, Result};
use crate::files::{check_no_picture, check_output, write_atomic};
use crate::inspect::replay::record::{Record, Recorder};
use crate::inspect::replay::{self, About};
use crate::report::EpochMetrics;
use crate::text::{bytes, counted};
use crate::train::run_folder::RunFolder;
use crate::train::verify::{Repeated, Verifier};
use crate::train::walk::Witness;
use crate::train::{Observer, Phase, StepProgress};

#[derive(Args)]
#[command(after_help = "Examples:
  cifar-engine replay runs/mine --epoch 7 --step 120
  cifar-engine replay runs/mine --epoch 1 --step 1 --no-proof --out first.html

The steps before it are repeated, bit for bit as they were: from the nearest
checkpoint that `train --keep-checkpoints` has kept, or from the beginning.")]
pub struct Replay {
    #[command(flatten)]
    begun: BegunOptions,

    /// The epoch, from 1.
    #[arg(long, value_name = "E", value_parser = count)]
    epoch: usize,

    /// The step of the epoch, from 1.
    #[arg(long, value_name = "S", value_parser = count)]
    step: usize,

    /// Stop after the step; otherwise the epoch goes on to its end, where the weights must have the
    /// hash that metrics.jsonl holds.
    #[arg(long)]
    no_proof: bool,

    /// Where to write the page.
    #[arg(long, value_name = "FILE", default_value = "replay.html", conflicts_with = "json")]
    out: PathBuf,

    /// Print types, figures and hashes of all tensors as JSON.
    #[arg(long)]
    json: bool,
}

/// The outcome of the comparison with the run.
enum Proof {
    /// The weights after the epoch have the hash of the run.
    Proved,
    /// Nothing was compared, or not the step itself.
    Open,
    /// They differ, or the step did by itself; why.
    Refuted(String),
}

impl Replay {
    /// Repeats the run up to the step, and writes a page about it.
    ///
    /// # Errors
    /// If the run has no such step; if what is repeated is not the run; or as for a training.
    pub fn run(self) -> Result<()> {
        if !self.json {
            check_output(&self.out, &RunFolder::needed(&self.begun.run))?;
            check_no_picture(&self.out, "html")?;
        }
        let begun = self.begun.begun()?;
        check_epoch(self.epoch, &begun)?;
        self.check_step(&begun)?;
        let mut expected = begun.proofs(self.epoch)?;
        let start = begun.start(self.epoch - 1)?;
        let kept = start.as_ref().map_or(0, |start| start.progress.history.len());
        expected.drain(..kept);
        let OpenDevice { mut device, name, is_gpu, .. } = self.begun.open(&begun)?;
        let about = self.about(&begun, &name, kept)?;
        let mut display = Display::new(self.epoch);
        let (epoch, step, proves) = (self.epoch, self.step, !self.no_proof);
        let verifier = Verifier::new(expected, &mut display);
        let on_cpu = !is_gpu;
        let mut watch = Watch { verifier, recorder: Recorder::default(), epoch, step, proves, on_cpu };
        let outcome = begun.repeat(device.as_mut(), start, &mut watch);
        let (is_done, repeated, record) = (watch.is_done(), watch.verifier.repeated, watch.recorder.record);
        display.finish();
        // It ends the training itself when it has seen enough.
        if !is_done {
            outcome?;
        }
        self.report(&record, about, &self.proof(&record, &repeated, &name))
    }

    fn check_step(&self, begun: &Begun) -> Result<()> {
        let held_back = begun.settings.validation;
        let images = begun.data.training_len(held_back).saturating_sub(held_back);
        let steps = begun.settings.config(images).steps();
        if (1..=steps).contains(&self.step) {
            return Ok(());
        }
        let (step, all) = (self.step, counted(steps, "step"));
        Err(Error::Usage(format!("--step {step} is none of an epoch of this run, which has {all}")))
    }

    fn about(&self, begun: &Begun, device: &str, kept: usize) -> Result<About> {
        let (run, settings) = (&self.begun.run, &begun.settings);
        let (labels, _) = begun.data.labels_after_split(settings.validation, settings.seed)?;
        let from = match kept {
            0 => "the beginning of the run".to_string(),
            epoch => format!("the checkpoint kept after epoch {epoch}"),
        };
        let row: Option<&EpochMetrics> = begun.history().get(self.epoch - 1);
        let loss = row.map_or(String::new(), |row| format!("{:.4}", row.train_loss));
        Ok(About {
            title: format!("Step {} of epoch {} of {}", self.step, self.epoch, run.display()),
            facts: vec![
                ("model", settings.model.to_string()),
                ("data", begun.data.name.clone()),
                ("repeated from", from),
                ("device", device.to_string()),
                ("training loss of the epoch", loss),
            ],
            classes: begun.data.classes.clone(),
            labels,
            proof: String::new(),
            proved: None,
        })
    }

    fn proof(&self, record: &Record, repeated: &[Repeated], device: &str) -> Proof {
        if !record.same_as_whole {
            let problem =
                "one op at a time, the step gave other bits than as a whole; the machine is at fault";
            return Proof::Refuted(problem.into());
        }
        match repeated.iter().find(|repeated| !repeated.is_equal()) {
            Some(differs) => {
                let (epoch, reason) = (differs.epoch, differs.reason(device));
                Proof::Refuted(format!("epoch {epoch} differs from the run's: {reason}"))
            }
            None if self.no_proof => Proof::Open,
            None => Proof::Proved,
        }
    }

    fn report(&self, record: &Record, mut about: About, proof: &Proof) -> Result<()> {
        let epoch = self.epoch;
        about.labels = record.images.iter().map(|&image| about.labels[image as usize]).collect();
        about.facts.push(("learning rate", record.rate.to_string()));
        about.facts.push(("batch", counted(record.images.len(), "image")));
        about.proof = match proof {
            Proof::Proved => format!("proved: the weights after epoch {epoch} have the hash of the run"),
            Proof::Open => format!("not proved: epoch {epoch} was not run to its end (--no-proof)"),
            Proof::Refuted(reason) => format!("NOT the step of the run: {reason}"),
        };
        about.proved = match proof {
            Proof::Proved => Some(true),
            Proof::Open => None,
            Proof::Refuted(_) => Some(false),
        };
        if self.json {
            let run = self.begun.run.to_string_lossy();
            console::print_json(
                &json!({"run": run, "proved": about.proved, "about": about, "record": record,
                "not_shown": replay::not_shown()}),
            )?;
        } else {
            let page = replay::page(record, &about)?;
            write_atomic(&self.out, |file| file.write_all(page.as_bytes()))?;
            let (steps, values) = (record.steps.len(), record.values.len());
            let (steps, values) = (counted(steps, "step"), counted(values, "tensor"));
            console::print(format_args!("{}: {steps} of the plan, {values}", about.title))?;
            console::print(&about.proof)?;
            console::print(format_args!("page: {}, {}", self.out.display(), bytes(page.len() as u64)))?;
        }
        match proof {
            Proof::Refuted(reason) => Err(Error::Failed(reason.clone())),
            _ => Ok(()),
        }
    }
}

/// The one who watches the training: it compares its epochs with the run's, and has the step
/// recorded.
struct Watch<'a> {
    verifier: Verifier<'a>,
    recorder: Recorder,
    epoch: usize,
    step: usize,
    /// Whether the epoch goes on after the step.
    proves: bool,
    /// Whether it is computed in the main memory.
    on_cpu: bool,
}

impl Watch<'_> {
    /// Whether nothing more is to be seen. What differs does not end it: the step is to be seen all
    /// the same.
    fn is_done(&self) -> bool {
        let Verifier { expected, repeated, .. } = &self.verifier;
        self.recorder.is_done && (!self.proves || repeated.len() == expected.len())
    }
}

impl Observer for Watch<'_> {
    fn step(&mut self, progress: &StepProgress) {
        self.verifier.step(progress);
    }

    fn phase(&mut self, phase: Phase, done: usize, of: usize) {
        self.verifier.phase(phase, done, of);
    }

    fn keep_going(&self) -> bool {
        !self.is_done() && self.verifier.shown.keep_going()
    }

    fn epoch(&mut self, metrics: &EpochMetrics) {
        self.verifier.epoch(metrics);
    }

    fn note(&mut self, text: &str) {
        self.verifier.note(text);
    }

    fn warn(&mut self, text: &str) {
        self.verifier.warn(text);
    }

    fn needs_room(&self) -> bool {
        self.on_cpu && !self.recorder.is_done
    }

    fn witness(&mut self, epoch: usize, step: usize) -> Option<&mut dyn Witness> {
        ((epoch, step) == (self.epoch, self.step)).then_some(&mut self.recorder as &mut dyn Witness)
    }
}
