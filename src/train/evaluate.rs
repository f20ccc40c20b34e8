//! Evaluation of a model on a set of images.

use std::path::{Path, PathBuf};

use ndarray::{Array2, ArrayView1, Axis};

use super::features::{BatchSource, Features};
use super::plans::{self, ModelGraph};
use crate::data::Images;
use crate::error::{Error, Result};
use crate::exec::{Device, PlanId};
use crate::models::{Calibration, LoadedModel, Spec, View, Views};
use crate::nn::Parameter;
use crate::ops::augment::EMPTY;
use crate::ops::loss::softmax_cross_entropy::first_largest;
use crate::team::Team;
use crate::text::counted;

/// Images a step, where nothing else is asked for.
pub const BATCH_SIZE: usize = 128;

/// An evaluation plan on a device, with its images.
pub struct Evaluator {
    plan: PlanId,
    batch_source: BatchSource,
    parameters: Vec<Parameter>,
    labels: Vec<u32>,
    classes: usize,
    batch_size: usize,
    /// The processes that share the batches.
    team: Team,
}

/// How a model is evaluated.
#[derive(Clone, Copy, Debug)]
pub struct EvalOptions {
    /// Images a step.
    pub batch_size: usize,
    /// The views of each image whose mean logits are taken.
    pub views: Views,
}

impl LoadedModel {
    /// Evaluates the model on images; `name` is the device's name for them. `goes_on` is asked
    /// before each batch, with how many are done, of how many.
    ///
    /// # Errors
    /// As for [`Evaluator`]; and if the model's outputs are not finite.
    pub fn evaluate(
        &self,
        device: &mut dyn Device,
        name: &str,
        images: &Images,
        options: EvalOptions,
        goes_on: impl FnMut(usize, usize) -> bool,
    ) -> Result<Evaluation> {
        self.evaluate_in(&Team::default(), device, (name, images), options, goes_on)
    }

    /// [`LoadedModel::evaluate`] by all processes of a team.
    ///
    /// # Errors
    /// As for [`LoadedModel::evaluate`].
    pub fn evaluate_in(
        &self,
        team: &Team,
        device: &mut dyn Device,
        (name, images): (&str, &Images),
        options: EvalOptions,
        mut goes_on: impl FnMut(usize, usize) -> bool,
    ) -> Result<Evaluation> {
        let evaluator = self.evaluator(device, name, images, options.batch_size)?.shared_by(team);
        let result = evaluator.run_views(device, (name, images), options.views, &mut goes_on);
        evaluator.unload(device)?;
        finite(result?, &self.path)
    }

    /// Loads the model with its weights and these images.
    fn evaluator(
        &self,
        device: &mut dyn Device,
        name: &str,
        images: &Images,
        batch_size: usize,
    ) -> Result<Evaluator> {
        let evaluator = Evaluator::new(device, None, &self.spec, name, images, batch_size)?;
        let values = self.values(&evaluator.parameters)?;
        plans::write_parameters(device, evaluator.plan, &evaluator.parameters, &values)?;
        Ok(evaluator)
    }
}

/// The outcome, if all outputs are numbers; `path` is that of the weights.
fn finite(result: Evaluation, path: &Path) -> Result<Evaluation> {
    let damaged =
        "gives outputs that are not finite numbers: the weights are damaged, or their training diverged";
    match result.logits.iter().all(|logit| logit.is_finite()) {
        true => Ok(result),
        false => Err(Error::file(path, damaged)),
    }
}

/// A model on a device, for images that come a few at a time.
pub struct Predictor {
    /// The file of the weights, for messages.
    path: PathBuf,
    /// Side of the images in pixels.
    size: usize,
    evaluator: Evaluator,
    views: Views,
    calibration: Calibration,
}

/// The device's name for the images of a [`Predictor`].
const PREDICTED: &str = "predicted";

impl LoadedModel {
    /// Prepares predictions; `options.batch_size` images at a time at most.
    ///
    /// # Errors
    /// As for [`Evaluator`].
    pub fn predictor(&self, device: &mut dyn Device, options: EvalOptions) -> Result<Predictor> {
        let EvalOptions { batch_size, views } = options;
        let size = self.spec.image_size;
        let empty = Images::black(batch_size, size);
        let evaluator = self.evaluator(device, PREDICTED, &empty, batch_size)?;
        let (path, calibration) = (self.path.clone(), self.spec.calibration);
        Ok(Predictor { path, size, evaluator, views, calibration })
    }
}

impl Predictor {
    /// A row of class probabilities for each image of the model's size, no more than a batch of
    /// them.
    ///
    /// # Errors
    /// If there are more images, or they have another size; if the device fails, or the model's
    /// outputs are not finite.
    pub fn predict(&self, device: &mut dyn Device, images: &Images) -> Result<Vec<Vec<f32>>> {
        let (most, size) = (self.evaluator.batch_size, self.size);
        if images.len() > most || images.size != size {
            let (given, found) = (counted(images.len(), "image"), images.size);
            let problem =
                format!("{given} of {found} pixels a side were given to a predictor of {most} of {size}");
            return Err(Error::Failed(problem));
        }
        let mut pixels = images.pixels.bytes()?.into_owned();
        pixels.resize(most * images.stride(), 0);
        let mut batch = Images { pixels: pixels.into(), size, ..images.without_files() };
        batch.labels.resize(most, 0);
        plans::upload(device, self.evaluator.plan, PREDICTED, &batch)?;
        let mut result =
            self.evaluator.run_views(device, (PREDICTED, &batch), self.views, &mut |_, _| true)?;
        result.logits.slice_axis_inplace(Axis(0), (..images.len()).into());
        let result = finite(result, &self.path)?;
        Ok(result.logits.outer_iter().map(|row| self.calibration.probabilities(row)).collect())
    }

    /// Gives the device back what it took.
    ///
    /// # Errors
    /// If the device fails.
    pub fn unload(self, device: &mut dyn Device) -> Result<()> {
        self.evaluator.unload(device)
    }
}

/// The outcome of an evaluation.
#[derive(Clone, Debug)]
pub struct Evaluation {
    /// Mean cross-entropy.
    pub loss: f64,
    /// Share of the images whose largest logit is at the label, from 0 to 1.
    pub accuracy: f64,
    /// The views whose mean the logits are.
    pub views: Views,
    /// Where there are several, the accuracy of the images alone.
    pub plain_accuracy: Option<f64>,
    /// Per class: (correct, images).
    pub per_class: Vec<(usize, usize)>,
    /// `[images, classes]`.
    pub logits: Array2<f32>,
}

impl Evaluation {
    /// The figures of these logits, `[images, classes]`.
    pub(super) fn of(logits: Array2<f32>, labels: &[u32]) -> Evaluation {
        let mut per_class = vec![(0, 0); logits.ncols()];
        let mut loss = 0.0;
        for (logits, &label) in logits.outer_iter().zip(labels) {
            loss += cross_entropy(logits, label as usize);
            if let Some((correct, images)) = per_class.get_mut(label as usize) {
                *images += 1;
                *correct += usize::from(first_largest(logits) == label as usize);
            }
        }
        let correct: usize = per_class.iter().map(|(correct, _)| correct).sum();
        let (loss, accuracy) = (loss / labels.len() as f64, correct as f64 / labels.len() as f64);
        Evaluation { loss, accuracy, views: Views::default(), plain_accuracy: None, per_class, logits }
    }

    /// How many images it is of.
    pub(super) fn images(&self) -> usize {
        self.per_class.iter().map(|(_, images)| images).sum()
    }

    /// Whether every output of the model was a finite number.
    pub fn is_finite(&self) -> bool {
        self.loss.is_finite() && self.logits.iter().all(|logit| logit.is_finite())
    }
}

impl Evaluator {
    /// Loads the plan and uploads the images. The parameters are those of the plan `beside`, if
    /// there is one; `name` must then differ from those of other images that are beside it.
    ///
    /// # Errors
    /// If there are no images or their size does not suit the model.
    pub fn new(
        device: &mut dyn Device,
        beside: Option<PlanId>,
        spec: &Spec,
        name: &str,
        images: &Images,
        batch_size: usize,
    ) -> Result<Evaluator> {
        if images.is_empty() {
            return Err(Error::Failed(format!("the {name} set has no images")));
        }
        images.check_labels(spec.classes.len())?;
        let batch_size = batch_size.min(images.len());
        let ModelGraph { graph, parameters, .. } = plans::evaluation(spec, name, images, batch_size)?;
        let plan = device.load_plan(device.plan(&graph)?, beside)?;
        device.write(plan, "step", [0u32].as_slice().into())?;
        device.record(plan, &["logits"])?;
        plans::upload(device, plan, name, images)?;
        let (labels, classes) = (images.labels.clone(), spec.classes.len());
        let batch_source = BatchSource::of(images);
        let team = Team::default();
        Ok(Evaluator { plan, batch_source, parameters, labels, classes, batch_size, team })
    }

    /// An evaluator of the model's units from `from` on, given the outputs of the units before, by
    /// the parameters of the plan `beside`.
    ///
    /// # Errors
    /// If the device cannot take the plan.
    pub fn on_features(
        device: &mut dyn Device,
        beside: PlanId,
        spec: &Spec,
        from: usize,
        features: Features,
        batch_size: usize,
    ) -> Result<Evaluator> {
        let labels = features.labels().to_vec();
        let batch_size = batch_size.min(labels.len());
        let program = plans::evaluation_on_features(spec, from, features.shape(), batch_size)?;
        let ModelGraph { graph, parameters, .. } = program;
        let (plan, classes) = (device.load_beside(beside, &graph)?, spec.classes.len());
        device.record(plan, &["logits"])?;
        Ok(Evaluator {
            plan,
            batch_source: BatchSource::Features(features),
            parameters,
            labels,
            classes,
            batch_size,
            team: Team::default(),
        })
    }

    /// The same, whose batches the processes of a team share; all of them run it.
    pub fn shared_by(self, team: &Team) -> Evaluator {
        Evaluator { team: team.clone(), ..self }
    }

    /// Batches of a run.
    pub fn batches(&self) -> usize {
        self.labels.len().div_ceil(self.batch_size)
    }

    /// Gives the device back what it took.
    ///
    /// # Errors
    /// If the device fails.
    pub fn unload(self, device: &mut dyn Device) -> Result<()> {
        device.unload(self.plan)
    }

    /// Runs over all images with the parameters as they are. `goes_on` is asked before each
    /// batch, with how many are done, of how many.
    ///
    /// # Errors
    /// If the device fails, or `goes_on` says no: [`Error::Interrupted`].
    pub fn run(
        &self,
        device: &mut dyn Device,
        goes_on: impl FnMut(usize, usize) -> bool,
    ) -> Result<Evaluation> {
        self.run_on(&self.batch_source, device, goes_on)
    }

    /// The loss of every image, in a run.
    ///
    /// # Errors
    /// As for [`Evaluator::run`].
    pub(super) fn losses(
        &self,
        device: &mut dyn Device,
        goes_on: impl FnMut(usize, usize) -> bool,
    ) -> Result<Vec<f64>> {
        let logits = self.run(device, goes_on)?.logits;
        let losses = logits.outer_iter().zip(&self.labels);
        Ok(losses.map(|(logits, &label)| cross_entropy(logits, label as usize)).collect())
    }

    fn run_on(
        &self,
        batch_source: &BatchSource,
        device: &mut dyn Device,
        mut goes_on: impl FnMut(usize, usize) -> bool,
    ) -> Result<Evaluation> {
        let mut logits = Vec::new();
        let mut add = |batch: &[f32]| logits.extend_from_slice(batch);
        // An evaluation that was interrupted may have left some.
        device.collect(self.plan, true, &mut |_| ())?;
        let count = self.labels.len();
        // All are asked before each round of a batch for each of them.
        for round in (0..self.batches()).step_by(self.team.size()) {
            if !goes_on(round, self.batches()) {
                return Err(Error::Interrupted);
            }
            let first = (round + self.team.rank()) * self.batch_size;
            if first >= count {
                continue;
            }
            let used = self.batch_size.min(count - first);
            let index = |i: usize| if i < used { (first + i) as u32 } else { EMPTY };
            let indices: Vec<u32> = (0..self.batch_size).map(index).collect();
            batch_source.write(device, self.plan, &indices, 0)?;
            device.run(self.plan)?;
            device.collect(self.plan, false, &mut add)?;
        }
        device.collect(self.plan, true, &mut add)?;
        let mut logits = self.in_order(logits)?;
        // The last batch may have empty places.
        logits.truncate(count * self.classes);
        let logits = Array2::from_shape_vec([count, self.classes], logits);
        let logits = logits.map_err(|_| Error::Failed("the device left out some of the logits".into()))?;
        Ok(Evaluation::of(logits, &self.labels))
    }

    /// The logits of all batches, of which each process of the team has every so many-th.
    fn in_order(&self, own: Vec<f32>) -> Result<Vec<f32>> {
        if self.team.size() == 1 {
            return Ok(own);
        }
        let len = self.batch_size * self.classes;
        let parts = self.team.gather_numbers(own)?;
        let (size, missing) = (parts.len(), || Error::Failed("a process left out some of the logits".into()));
        let batch = |batch: usize| {
            parts[batch % size].get(batch / size * len..).and_then(|rest| rest.get(..len)).ok_or_else(missing)
        };
        (0..self.batches()).map(batch).collect::<Result<Vec<_>>>().map(|batches| batches.concat())
    }

    /// [`Evaluator::run`] by the mean logits of views of the images; `name` is the device's for
    /// them, and they are uploaded already.
    fn run_views(
        &self,
        device: &mut dyn Device,
        (name, images): (&str, &Images),
        views: Views,
        goes_on: &mut dyn FnMut(usize, usize) -> bool,
    ) -> Result<Evaluation> {
        let (list, once) = (views.list(), self.batches());
        let plain = self.run(device, |done, _| goes_on(done, list.len() * once))?;
        if list.len() == 1 {
            return Ok(plain);
        }
        let mut mean = list[0].weight * &plain.logits;
        for (number, view) in list.iter().enumerate().skip(1) {
            if !images.is_in_file() {
                plans::upload(device, self.plan, name, &seen(images, view)?)?;
            }
            let source = BatchSource::seen(images, Some(*view));
            let result =
                self.run_on(&source, device, |done, _| goes_on(number * once + done, list.len() * once))?;
            mean.scaled_add(view.weight, &result.logits);
        }
        let plain_accuracy = Some(plain.accuracy);
        Ok(Evaluation { views, plain_accuracy, ..Evaluation::of(mean, &self.labels) })
    }
}

/// Images as a view shows them.
fn seen(images: &Images, view: &View) -> Result<Images> {
    let shifted = if view.by == 0 { images.clone() } else { images.shifted(view.by)? };
    if view.mirrored { shifted.mirrored() } else { Ok(shifted) }
}

/// `-log softmax(z)[label]`; NaN for a label outside the classes.
fn cross_entropy(logits: ArrayView1<f32>, label: usize) -> f64 {
    let largest = logits.fold(f32::NEG_INFINITY, |a, &b| a.max(b));
    let total: f64 = logits.iter().map(|z| f64::from(z - largest).exp()).sum();
    logits.get(label).map_or(f64::NAN, |z| total.ln() - f64::from(z - largest))
}

#[cfg(test)]
mod tests {
    use ndarray::arr2;

    use super::*;

    #[test]
    fn figures_follow_from_logits_and_labels() {
        let logits = arr2(&[[2.0, 1.0, 0.0], [0.0, 3.0, 0.0], [5.0, 5.0, 0.0], [0.0, 0.0, 0.5]]);
        let result = Evaluation::of(logits, &[0, 1, 1, 2]);
        assert_eq!(result.accuracy, 0.75); // of equal logits the first one wins
        assert_eq!(result.per_class, [(1, 1), (1, 2), (1, 1)]);
        let losses = [(2.0f64, 1.0f64, 0.0f64), (3.0, 0.0, 0.0), (5.0, 5.0, 0.0), (0.5, 0.0, 0.0)];
        let loss = |(own, a, b): (f64, f64, f64)| (own.exp() + a.exp() + b.exp()).ln() - own;
        let mean = losses.into_iter().map(loss).sum::<f64>() / 4.0;
        assert!((result.loss - mean).abs() < 1e-12);
        assert!(Evaluation::of(arr2(&[[1.0, 2.0]]), &[7]).loss.is_nan());
        assert!(!Evaluation::of(arr2(&[[f32::NAN, 2.0]]), &[1]).is_finite());
    }
}
