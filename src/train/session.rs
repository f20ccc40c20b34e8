//! The loop around the steps: epochs, validation, files, interruption.
//!
//! It does not care what a step is ([`super::stage`]) and can go on from what it saved
//! ([`super::checkpoint`]).

mod diverged;
mod told;
mod witnessed;

use std::path::Path;
use std::time::{Duration, Instant};

use super::checkpoint::{Checkpoint, Progress, RunFingerprint};
use super::divergence::States;
use super::evaluate::{Evaluation, Evaluator};
use super::plans::{self, Totals};
use super::run_folder::RunFolder;
use super::score::best_epoch;
use super::stage::{Ended, Epoch, Stage};
use super::updates::average_of;
use super::walk;
use super::{Observer, Phase, StepProgress};
use crate::error::{Error, Result};
use crate::exec::Device;
use crate::models::{self, Spec};
use crate::nn::Parameter;
use crate::report::metrics::{Proof, WeightsHash};
use crate::report::norms::{ParameterNorms, norm};
use crate::report::{EpochMetrics, Reading};

/// A training under way.
pub struct Session<'a> {
    run: &'a RunFolder,
    spec: &'a Spec,
    parameters: Vec<Parameter>,
    fingerprint: RunFingerprint,
    reading: Reading,
    progress: Progress,
    /// States that the device is to hold again, until a stage has taken it over.
    saved: Option<States>,
    /// What the stage under way began with, until it has a checkpoint: states, and steps of the
    /// epoch before.
    start: Option<(States, usize)>,
    /// The parameters at the beginning of the epoch under way; none where that was before an
    /// interrupt.
    before: Option<Vec<Vec<f32>>>,
    /// Of the weights after the last epoch.
    hash: WeightsHash,
    pace: Pace,
    /// Up to when `progress.elapsed` is counted.
    clock: Instant,
    curves: Curves,
}

/// The picture of the history, for which no training waits: it is drawn now and then, and at the
/// end.
#[derive(Default)]
struct Curves {
    drawn: Option<Instant>,
    /// It is warned of once.
    failed: bool,
}

/// Time between two images of the history.
const BETWEEN_CURVES: Duration = Duration::from_secs(2);

/// How fast this process trains the stage under way.
struct Pace {
    /// When it began with it.
    begin: Instant,
    /// Steps since then.
    steps: usize,
    /// Number of stages.
    stages: usize,
}

impl Pace {
    fn new(stages: usize) -> Pace {
        Pace { begin: Instant::now(), steps: 0, stages }
    }
}

impl<'a> Session<'a> {
    /// Begins a run, or goes on with the one in the run folder. The parameters are the whole
    /// model's, whichever of them are trained.
    ///
    /// # Errors
    /// If there is a checkpoint that is damaged or belongs to other settings, images or pretrained
    /// weights. Other test images are only warned of.
    pub fn begin(
        run: &'a RunFolder,
        spec: &'a Spec,
        parameters: Vec<Parameter>,
        fingerprint: RunFingerprint,
        reading: Reading,
        observer: &mut dyn Observer,
    ) -> Result<Self> {
        let (progress, pace) = (Progress::default(), Pace::new(1));
        let (clock, curves) = (Instant::now(), Curves::default());
        let mut session = Session {
            run,
            spec,
            parameters,
            fingerprint,
            reading,
            progress,
            saved: None,
            start: None,
            before: None,
            hash: WeightsHash::default(),
            pace,
            clock,
            curves,
        };
        run.forget_divergence();
        let checkpoint = run.checkpoint()?;
        if checkpoint.is_none() && RunFolder::is_saved(run.path()) {
            observer
                .warn("the run has no checkpoint.safetensors: it begins again, and what it left is replaced");
        }
        if let Some(Checkpoint { fingerprint, progress, states }) = checkpoint {
            session.fingerprint.check(&fingerprint)?;
            if session.fingerprint.has_other_test(&fingerprint) {
                observer.warn(
                    "the test images are not those that this run was begun with: its test accuracy will be \
                     that on the new ones",
                );
            }
            if !progress.history.is_empty() && !run.best().exists() {
                let problem = "is gone, and no later epoch may be better; put it back, or delete \
                               checkpoint.safetensors to begin the run again";
                return Err(Error::file(run.best(), problem));
            }
            (session.progress, session.saved) = (progress, Some(states));
        }
        Ok(session)
    }

    /// How far the training is.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Trains to the end of a stage, of so many; call it for the stages from `progress().stage` on.
    /// After every epoch the run folder holds the history, the weights and a checkpoint, which
    /// survive whatever ends the training.
    ///
    /// # Errors
    /// If a loss is not finite, a file cannot be written or the observer stops the training
    /// ([`Error::Interrupted`], after weights and checkpoint are saved).
    pub fn fit(
        &mut self,
        device: &mut dyn Device,
        stage: &Stage,
        stages: usize,
        observer: &mut dyn Observer,
    ) -> Result<Ended> {
        self.pace = Pace::new(stages);
        if observer.needs_room() {
            walk::check(stage)?;
        }
        stage.clear(device)?;
        if let Some(saved) = self.saved.take() {
            self.restore(device, stage, &saved)?;
            if stage.config.ended(self.progress.of_stage()).is_none() {
                self.note_device(device, observer);
            }
        }
        self.start = Some((self.states(device, stage)?, self.progress.step));
        self.run.begin_norms(&self.run.norms(self.progress.history.len()))?;
        self.before =
            if self.progress.step == 0 { Some(self.parameter_values(device, stage)?) } else { None };
        let ended = loop {
            match stage.config.ended(self.progress.of_stage()) {
                Some(ended) => break ended,
                None => self.epoch(device, stage, observer)?,
            }
        };
        self.write_history(stage, observer, true)?;
        self.progress.stage += 1;
        self.progress.stage_epochs = 0;
        Ok(ended)
    }

    /// Gives the device back what it held. A checkpoint without some of it is none of this stage.
    fn restore(&self, device: &mut dyn Device, stage: &Stage, saved: &States) -> Result<()> {
        if self.progress.step > stage.config.steps()
            || self.progress.stage_epochs > stage.config.settings.epochs
        {
            return Err(self.run.not_its_checkpoint());
        }
        for name in self.names(stage) {
            let values = saved.get(name).ok_or_else(|| self.run.not_its_checkpoint())?;
            device.write_state(stage.plan, name, values.as_slice().into())?;
        }
        Ok(())
    }

    /// The names of everything on the device that a checkpoint holds.
    fn names<'b>(&'b self, stage: &'b Stage) -> impl Iterator<Item = &'b String> {
        self.parameters.iter().map(|parameter| &parameter.name).chain(stage.states())
    }

    /// Everything on the device that a checkpoint holds.
    fn states(&self, device: &dyn Device, stage: &Stage) -> Result<States> {
        self.names(stage).map(|name| Ok((name.clone(), device.read_state(stage.plan, name)?))).collect()
    }

    /// Trains to the end of the epoch under way, and saves.
    fn epoch(&mut self, device: &mut dyn Device, stage: &Stage, observer: &mut dyn Observer) -> Result<()> {
        let epoch = stage.epoch(&self.progress);
        self.steps(device, stage, &epoch, observer)?;
        let rate = shortest(epoch.rate(epoch.steps() - 1));
        let validation = match &stage.validation {
            Some(validation) => Some(self.validate(device, stage, validation, observer)?),
            None => None,
        };
        // The losses of the steps were finite, but the last update has not been tried before.
        let finite = match &validation {
            Some(result) => result.is_finite(),
            None => self.is_finite(device, stage)?,
        };
        if !finite {
            return Err(self.diverged(device, (stage, &epoch), epoch.steps(), observer));
        }
        self.count_time();
        let Progress { totals, seconds, elapsed, .. } = self.progress;
        let metrics = EpochMetrics {
            epoch: epoch.number,
            train_loss: totals.mean_loss(),
            train_accuracy: totals.accuracy(),
            validation_loss: validation.as_ref().map(|result| result.loss),
            validation_accuracy: validation.as_ref().map(|result| result.accuracy),
            rate,
            images_per_s: totals.count / seconds,
            seconds: elapsed,
            validation_images: validation.as_ref().map_or(0, Evaluation::images),
            proof: Some(self.proof(device, stage)?),
        };
        self.check_alike(&metrics)?;
        let norms = self.norms(device, stage)?;
        // Before the checkpoint: rows of an epoch that is repeated are taken out, missing ones
        // never come.
        self.run.add_norms(&norms)?;
        self.finish_epoch(device, stage, metrics, observer)?;
        self.progress.history.last().into_iter().for_each(|metrics| observer.epoch(metrics));
        Ok(())
    }

    /// Runs what is left of the epoch's steps.
    fn steps(
        &mut self,
        device: &mut dyn Device,
        stage: &Stage,
        epoch: &Epoch,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        let (begin, before) = (Instant::now(), self.progress.seconds);
        for step in self.progress.step..epoch.steps() {
            match observer.witness(epoch.number, step + 1) {
                Some(witness) => self.run_before(device, (stage, epoch), step, witness)?,
                None => epoch.run(device, step)?,
            }
            let known = self.progress.step;
            self.collect(device, (stage, epoch), step + 1 == epoch.steps(), observer)?;
            self.pace.steps += self.progress.step - known;
            // No clock is so coarse that this is no time at all, but nothing here may be infinite.
            self.progress.seconds = (before + begin.elapsed().as_secs_f64()).max(1e-9);
            if self.progress.step > known {
                observer.step(&self.step_progress(stage, epoch));
            }
            if epoch.is_probed(step + 1) {
                self.collect(device, (stage, epoch), true, observer)?;
                self.probe(device, stage, epoch, observer)?;
            }
            if !observer.keep_going() {
                self.collect(device, (stage, epoch), true, observer)?;
                self.save(device, stage)?;
                return Err(Error::Interrupted);
            }
        }
        Ok(())
    }

    /// Takes note of the steps that have ended, or of all that were started: on a GPU the last few
    /// may be under way.
    fn collect(
        &mut self,
        device: &mut dyn Device,
        (stage, epoch): (&Stage, &Epoch),
        all: bool,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        for batch in stage.collect(device, all)? {
            self.progress.step += 1;
            if !batch.loss.is_finite() {
                return Err(self.diverged(device, (stage, epoch), self.progress.step, observer));
            }
            self.progress.totals.add(batch);
        }
        Ok(())
    }

    fn step_progress(&self, stage: &Stage, epoch: &Epoch) -> StepProgress {
        let Progress { step, stage_epochs, totals, seconds, .. } = self.progress;
        let (all, done) = (stage.config.settings.epochs * epoch.steps(), stage_epochs * epoch.steps() + step);
        StepProgress {
            epoch: epoch.number,
            epochs: epoch.number - stage_epochs - 1 + stage.config.settings.epochs,
            step,
            steps: epoch.steps(),
            loss: totals.mean_loss(),
            accuracy: totals.accuracy(),
            images_per_s: totals.count / seconds,
            stage: self.progress.stage + 1,
            stages: self.pace.stages,
            stage_done: self.pace.steps,
            stage_seconds: self.pace.begin.elapsed().as_secs_f64(),
            stage_left: all - done,
        }
    }

    /// Runs the validation, on the weights that are saved; if it is interrupted, everything is
    /// saved first.
    fn validate(
        &mut self,
        device: &mut dyn Device,
        stage: &Stage,
        validation: &Evaluator,
        observer: &mut dyn Observer,
    ) -> Result<Evaluation> {
        let goes_on = |done, of| observer.goes_on(Phase::Validation, done, of);
        let result = match stage.config.settings.ema > 0.0 {
            true => self.with_averages(device, stage, |device| validation.run(device, goes_on)),
            false => validation.run(device, goes_on),
        };
        if let Err(Error::Interrupted) = result {
            self.save(device, stage)?;
        }
        result
    }

    /// Does something while the parameters have the averaged values.
    fn with_averages<T>(
        &self,
        device: &mut dyn Device,
        stage: &Stage,
        work: impl FnOnce(&mut dyn Device) -> Result<T>,
    ) -> Result<T> {
        let own = self.parameters.iter().map(|parameter| device.read_state(stage.plan, &parameter.name));
        let own = own.collect::<Result<Vec<_>>>()?;
        let averages = self.weights(device, stage)?;
        plans::write_parameters(device, stage.plan, &self.parameters, &averages)?;
        let result = work(device);
        plans::write_parameters(device, stage.plan, &self.parameters, &own)?;
        result
    }

    /// The weights that count: the averages, where they are kept.
    fn weights(&self, device: &dyn Device, stage: &Stage) -> Result<Vec<Vec<f32>>> {
        let Progress { stage_epochs, step, .. } = self.progress;
        let kept = stage.average_weight(stage_epochs * stage.config.steps() + step);
        let values = |parameter: &Parameter| {
            let average = average_of(&parameter.name);
            if kept == 0.0 || !stage.states().any(|state| *state == average) {
                return device.read_state(stage.plan, &parameter.name);
            }
            let values = device.read_state(stage.plan, &average)?;
            Ok(values.into_iter().map(|value| (f64::from(value) / kept) as f32).collect())
        };
        self.parameters.iter().map(values).collect()
    }

    fn parameter_values(&self, device: &dyn Device, stage: &Stage) -> Result<Vec<Vec<f32>>> {
        self.parameters.iter().map(|parameter| device.read_state(stage.plan, &parameter.name)).collect()
    }

    /// The norms of the trained parameters after the epoch under way.
    fn norms(&mut self, device: &dyn Device, stage: &Stage) -> Result<Vec<ParameterNorms>> {
        let now = self.parameter_values(device, stage)?;
        let optimizer = stage.config.settings.optimizer;
        let epoch = self.progress.history.len() + 1;
        let mut rows = Vec::new();
        for (index, parameter) in self.parameters.iter().enumerate() {
            let moment = optimizer.moment_of(parameter);
            if !stage.states().any(|state| *state == moment) {
                continue; // not trained in this stage
            }
            let moved =
                |before: &Vec<Vec<f32>>| norm(now[index].iter().zip(&before[index]).map(|(a, b)| a - b));
            rows.push(ParameterNorms {
                epoch,
                parameter: parameter.name.clone(),
                weight: norm(now[index].iter().copied()),
                update: self.before.as_ref().map(moved),
                moment: Some(norm(device.read_state(stage.plan, &moment)?)),
            });
        }
        self.before = Some(now);
        Ok(rows)
    }

    fn proof(&mut self, device: &dyn Device, stage: &Stage) -> Result<Proof> {
        let weights = self.weights(device, stage)?;
        let names = self.parameters.iter().map(|parameter| parameter.name.as_str());
        Ok(Proof { weights_sha256: self.hash.digest(names, weights), device: device.name() })
    }

    /// Checks that all processes of the team have the same weights: what each computes by itself
    /// could have gone wrong in one of them.
    fn check_alike(&self, metrics: &EpochMetrics) -> Result<()> {
        let weights = metrics.proof.as_ref().map(|proof| proof.weights_sha256.clone()).unwrap_or_default();
        let what = format!("hash of the weights after epoch {}", metrics.epoch);
        self.run.team().check_alike(&[(&what, weights)])
    }

    /// Enters the epoch into the history and writes every file: first what cannot be had again, the
    /// weights and then the checkpoint. A run that is killed before that is complete repeats the
    /// epoch; the tables are written again at the latest when the stage ends.
    fn finish_epoch(
        &mut self,
        device: &dyn Device,
        stage: &Stage,
        metrics: EpochMetrics,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        let progress = &mut self.progress;
        progress.history.push(metrics);
        progress.stage_epochs += 1;
        (progress.step, progress.totals) = (0, Totals::default());
        (progress.seconds, progress.elapsed) = (0.0, 0.0);
        if best_epoch(&self.progress.history) == self.progress.history.len() {
            self.save_weights(device, stage, &self.run.best())?;
        }
        // First, for a run that is killed in between repeats the epoch, and with it this; but a
        // full disk ends the training only when the run itself is saved.
        let kept = self.keep(device, stage);
        self.save(device, stage)?;
        self.write_history(stage, observer, false)?;
        kept
    }

    /// Keeps state and weights after an epoch whose number asks for it: both or, where one cannot
    /// be written, none.
    fn keep(&self, device: &dyn Device, stage: &Stage) -> Result<()> {
        let (keep, epochs) = (stage.config.settings.keep_checkpoints, self.progress.history.len());
        if keep == 0 || !epochs.is_multiple_of(keep) {
            return Ok(());
        }
        let kept = self.run.keep_checkpoint(&self.checkpoint(device, stage)?);
        let kept = kept.and_then(|()| self.save_weights(device, stage, &self.run.kept_weights(epochs)));
        kept.inspect_err(|_| self.run.remove_kept(epochs))
    }

    /// Writes the history as tables and, if it is time or the end, as an image.
    fn write_history(&mut self, stage: &Stage, observer: &mut dyn Observer, at_end: bool) -> Result<()> {
        self.run.write_tables(&self.progress.history)?;
        if stage.config.settings.tensorboard {
            self.run.write_events(&self.progress.history)?;
        }
        let Curves { drawn, failed } = self.curves;
        if !failed && (at_end || drawn.is_none_or(|time| time.elapsed() >= BETWEEN_CURVES)) {
            let title = format!("{} on {}", self.spec.architecture, self.spec.data);
            let result = self.run.draw_curves(&title, &self.reading, &self.progress.history);
            if let Err(error) = &result {
                observer.warn(&format!("{error}; the training goes on without this picture"));
            }
            self.curves = Curves { drawn: Some(Instant::now()), failed: result.is_err() };
        }
        Ok(())
    }

    /// Counts the time that has passed as this epoch's.
    fn count_time(&mut self) {
        let now = Instant::now();
        self.progress.elapsed += (now - self.clock).as_secs_f64();
        self.clock = now;
    }

    /// Writes the weights as they are, and the checkpoint.
    fn save(&mut self, device: &dyn Device, stage: &Stage) -> Result<()> {
        self.count_time();
        self.save_weights(device, stage, &self.run.last())?;
        self.run.write_checkpoint(&self.checkpoint(device, stage)?)?;
        self.start = None;
        Ok(())
    }

    /// All that the training can be continued from.
    fn checkpoint(&self, device: &dyn Device, stage: &Stage) -> Result<Checkpoint> {
        let states = self.states(device, stage)?;
        let (fingerprint, progress) = (self.fingerprint.clone(), self.progress.clone());
        Ok(Checkpoint { fingerprint, progress, states })
    }

    fn save_weights(&self, device: &dyn Device, stage: &Stage, path: &Path) -> Result<()> {
        models::save(path, self.spec, &self.parameters, &self.weights(device, stage)?)
    }

    /// Whether every parameter is a finite number.
    fn is_finite(&self, device: &dyn Device, stage: &Stage) -> Result<bool> {
        for parameter in &self.parameters {
            if !device.read_state(stage.plan, &parameter.name)?.iter().all(|value| value.is_finite()) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// The `f64` that prints as the `f32` does: 0.1, not 0.10000000149.
pub(super) fn shortest(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}
