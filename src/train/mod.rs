//! Training: settings in, a run folder out.
//!
//! Read [`plans`] first: it builds the two programs that everything here runs. [`train`] is the loop around
//! them.

pub mod evaluate;
pub mod optimizer;
pub mod plans;
pub mod run_folder;
pub mod schedule;
pub mod settings;

use std::time::Instant;

use crate::data::{Dataset, Images};
use crate::error::{Error, Result};
use crate::exec::{Device, PlanId};
use crate::kernels::rng::{self, Stream};
use crate::models::{self, Spec, Variant};
use crate::nn::Parameter;
use crate::report::EpochMetrics;
use evaluate::{BATCH_SIZE, Evaluation, Evaluator, Trained};
use plans::{Program, Totals};
use run_folder::RunFolder;
use settings::{Normalise, Settings};

/// Where a training is, after each step.
#[derive(Clone, Copy, Debug)]
pub struct StepProgress {
    pub epoch: usize,
    pub epochs: usize,
    /// Of the epoch, from 1.
    pub step: usize,
    pub steps: usize,
    /// Of the epoch so far.
    pub loss: f64,
    pub accuracy: f64,
    pub images_per_s: f64,
}

/// Watches a training, and may stop it.
pub trait Observer {
    /// After every step.
    fn step(&mut self, progress: &StepProgress);
    /// Asked often; false stops the training at the next safe point.
    fn keep_going(&self) -> bool;
    /// After every epoch.
    fn epoch(&mut self, metrics: &EpochMetrics);
}

/// What a training ends with.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub history: Vec<EpochMetrics>,
    /// Of the best weights, on the test set.
    pub test: Evaluation,
}

/// The description of the model that these settings train on this data.
pub fn spec(settings: &Settings, data: &Dataset) -> Spec {
    let (mean, std) = match settings.normalise {
        Normalise::Unit => ([0.0; 3], [255.0; 3]),
        Normalise::Statistics => statistics(&data.train),
    };
    Spec {
        architecture: settings.model,
        classes: data.classes.clone(),
        image_size: data.train.size,
        variant: Variant::plain(data.train.size),
        mean,
        std,
        norm: settings.norm,
        data: data.name.clone(),
    }
}

/// Mean and standard deviation of each channel, in units of 0..255.
fn statistics(images: &Images) -> ([f32; 3], [f32; 3]) {
    let mut sums = [[0u64; 2]; 3];
    for (i, &pixel) in images.pixels.iter().enumerate() {
        let value = u64::from(pixel);
        sums[i % 3][0] += value;
        sums[i % 3][1] += value * value;
    }
    let count = (images.pixels.len() / 3) as f64;
    let mean = sums.map(|[sum, _]| sum as f64 / count);
    let channel = |c: usize| (sums[c][1] as f64 / count - mean[c] * mean[c]).sqrt();
    // Pictures of one colour have no spread; one unit keeps them finite.
    (mean.map(|m| m as f32), [0, 1, 2].map(|c| channel(c).max(1.0) as f32))
}

/// Trains a model and evaluates it once on the test set. After every epoch the run folder holds the history
/// and the weights, which survive whatever ends the training.
///
/// # Errors
/// If the settings do not fit the data ([`Settings::check_against`]), a loss is not finite, a file cannot be written or
/// the observer stops the training ([`Error::Interrupted`], after the weights are saved).
pub fn train(
    device: &mut dyn Device,
    settings: &Settings,
    data: Dataset,
    run: &RunFolder,
    observer: &mut dyn Observer,
) -> Result<Outcome> {
    settings.check()?;
    settings.check_against(data.train.len())?;
    let spec = spec(settings, &data);
    let (images, validation) = data.split_validation(settings.validation, settings.seed)?;
    let Dataset { test, train: all, .. } = data;
    drop(all);
    let mut trainer = Trainer::new(device, settings, &spec, images, run)?;
    let validation = match validation.is_empty() {
        true => None,
        false => Some(Evaluator::new(trainer.device, &spec, "validation", &validation, BATCH_SIZE)?),
    };
    let (mut history, mut best) = (Vec::new(), f64::NEG_INFINITY);
    for epoch in 1..=settings.epochs {
        let begin = Instant::now();
        let mut metrics = trainer.epoch(epoch, observer)?;
        if let Some(validation) = &validation {
            let result = trainer.validate(validation, observer)?;
            // The losses of the steps were finite, but the last update has not been tried before.
            if !result.is_finite() {
                return Err(trainer.diverged(epoch, trainer.steps(), metrics.rate));
            }
            (metrics.validation_loss, metrics.validation_accuracy) =
                (Some(result.loss), Some(result.accuracy));
        }
        metrics.seconds = begin.elapsed().as_secs_f64();
        trainer.save(&run.last())?;
        // Without a validation set nothing tells which epoch was best; the last one stands in.
        let score = metrics.validation_accuracy.unwrap_or(epoch as f64);
        if score > best {
            best = score;
            trainer.save(&run.best())?;
        }
        history.push(metrics);
        run.write_history(&format!("{} on {}", spec.architecture, spec.data), &history)?;
        observer.epoch(&history[history.len() - 1]);
    }
    // From the file, which thereby is known to be good.
    let test =
        Trained::open(&run.best())?.evaluate(device, "test", &test, BATCH_SIZE, || observer.keep_going())?;
    Ok(Outcome { history, test })
}

/// The training plan on its device.
struct Trainer<'a> {
    device: &'a mut dyn Device,
    settings: &'a Settings,
    spec: &'a Spec,
    run: &'a RunFolder,
    plan: PlanId,
    parameters: Vec<Parameter>,
    images: usize,
}

impl<'a> Trainer<'a> {
    fn new(
        device: &'a mut dyn Device,
        settings: &'a Settings,
        spec: &'a Spec,
        images: Images,
        run: &'a RunFolder,
    ) -> Result<Self> {
        let Program { plan, parameters, .. } = plans::training(spec, settings, images.len())?;
        let plan = device.load(plan)?;
        plans::upload(device, "train", &images)?;
        plans::write_parameters(device, &parameters, &plans::initial_values(&parameters, settings.seed))?;
        device.write(plan, "loss_gradient", [1.0f32].as_slice().into())?;
        Ok(Trainer { device, settings, spec, run, plan, parameters, images: images.len() })
    }

    /// Trains for one epoch; the incomplete last batch is left out, another one each time.
    fn epoch(&mut self, epoch: usize, observer: &mut dyn Observer) -> Result<EpochMetrics> {
        let Settings { batch_size, epochs, seed, .. } = *self.settings;
        let order = rng::permutation(self.images, seed, Stream::Shuffle, epoch as u32);
        let steps = self.steps();
        let (mut totals, mut rate) = (Totals::default(), 0.0);
        let begin = Instant::now();
        for (step, indices) in order.chunks_exact(batch_size).enumerate() {
            let global = (epoch - 1) * steps + step;
            rate = self.settings.schedule.rate(self.settings.rate, global, epochs * steps);
            let batch = self.step(indices, global, rate)?;
            if !batch.loss.is_finite() {
                return Err(self.diverged(epoch, step + 1, shortest(rate)));
            }
            totals.add(batch);
            let progress = StepProgress {
                epoch,
                epochs,
                step: step + 1,
                steps,
                loss: totals.mean_loss(),
                accuracy: totals.accuracy(),
                images_per_s: totals.count / begin.elapsed().as_secs_f64(),
            };
            observer.step(&progress);
            if !observer.keep_going() {
                self.save(&self.run.last())?;
                return Err(Error::Interrupted);
            }
        }
        // Without a validation set nothing else would notice what the last update did.
        if !self.is_finite()? {
            return Err(self.diverged(epoch, steps, shortest(rate)));
        }
        Ok(EpochMetrics {
            epoch,
            train_loss: totals.mean_loss(),
            train_accuracy: totals.accuracy(),
            validation_loss: None,
            validation_accuracy: None,
            rate: shortest(rate),
            images_per_s: totals.count / begin.elapsed().as_secs_f64(),
            seconds: 0.0,
        })
    }

    fn step(&mut self, indices: &[u32], global: usize, rate: f32) -> Result<Totals> {
        self.device.write(self.plan, "indices", indices.into())?;
        self.device.write(self.plan, "step", [global as u32].as_slice().into())?;
        self.device.write(self.plan, "rate", [rate].as_slice().into())?;
        self.device.run(self.plan)?;
        Totals::read(self.device, self.plan)
    }

    /// Steps of an epoch.
    fn steps(&self) -> usize {
        self.images / self.settings.batch_size
    }

    /// Whether every parameter is a finite number.
    fn is_finite(&self) -> Result<bool> {
        for parameter in &self.parameters {
            if !self.device.read_state(&parameter.name)?.iter().all(|value| value.is_finite()) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Runs the validation; if that is interrupted, the weights are saved first.
    fn validate(&mut self, validation: &Evaluator, observer: &dyn Observer) -> Result<Evaluation> {
        let result = validation.run(self.device, || observer.keep_going());
        if let Err(Error::Interrupted) = result {
            self.save(&self.run.last())?;
        }
        result
    }

    fn save(&self, path: &std::path::Path) -> Result<()> {
        models::save(path, self.spec, &self.parameters, |name| self.device.read_state(name))
    }

    fn diverged(&self, epoch: usize, step: usize, rate: f64) -> Error {
        let kept = match epoch {
            1 => "no epoch was finished".to_string(),
            _ => format!("the weights of epoch {} are in {}", epoch - 1, self.run.last().display()),
        };
        Error::Failed(format!(
            "the loss is not a finite number at epoch {epoch}, step {step} (rate {rate}); {kept}; try a lower --lr"
        ))
    }
}

/// The `f64` that prints as the `f32` does: 0.1, not 0.10000000149.
fn shortest(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}
