//! Evaluation of a model on a set of images.

use std::path::{Path, PathBuf};

use super::features::{Features, Feed};
use super::plans::{self, Program, Totals};
use crate::data::Images;
use crate::error::{Error, Result};
use crate::exec::{Device, PlanId};
use crate::models::pretrained::{Attributes, Pretrained};
use crate::models::{self, Spec};
use crate::nn::Parameter;
use crate::ops::softmax_cross_entropy::first_largest;
use crate::weights::WeightsFile;

/// Images a step, where nothing else is asked for. Losses are summed by batch, so one size everywhere also
/// makes equal evaluations equal in the last digit.
pub const BATCH_SIZE: usize = 128;

/// An evaluation plan on a device, with its images.
pub struct Evaluator {
    plan: PlanId,
    feed: Feed,
    parameters: Vec<Parameter>,
    labels: Vec<u32>,
    classes: usize,
    batch_size: usize,
}

/// A weights file whose tensors are those of the model that its metadata describes.
pub struct Trained {
    pub path: PathBuf,
    pub spec: Spec,
    file: WeightsFile,
}

impl Trained {
    /// Reads a file and checks it, before anything of the size it claims is allocated.
    ///
    /// # Errors
    /// If it cannot be read, is damaged, or its tensors do not fit its model.
    pub fn open(path: &Path) -> Result<Trained> {
        Trained::open_as(path, &Attributes::default(), None)
    }

    /// [`Trained::open`], with what the user knows better than the file, and for pictures of another size.
    ///
    /// # Errors
    /// As for [`Trained::open`].
    pub fn open_as(path: &Path, attributes: &Attributes, image_size: Option<usize>) -> Result<Trained> {
        let Pretrained { mut spec, file, .. } = Pretrained::open(path, attributes)?;
        if let Some(size) = image_size {
            (spec.image_size, spec.variant.input_size) = (size, size);
        }
        let Program { parameters, .. } = plans::evaluation(&spec, "check", 1, 1)?;
        models::values(&file, &parameters, path)?;
        Ok(Trained { path: path.to_path_buf(), spec, file })
    }

    /// Evaluates the model on images; `name` is the device's name for them.
    ///
    /// # Errors
    /// As for [`Evaluator`]; and if the model's outputs are not finite.
    pub fn evaluate(
        &self,
        device: &mut dyn Device,
        name: &str,
        images: &Images,
        batch_size: usize,
        keep_going: impl Fn() -> bool,
    ) -> Result<Evaluation> {
        let evaluator = Evaluator::new(device, &self.spec, name, images, batch_size)?;
        let values = models::values(&self.file, &evaluator.parameters, &self.path)?;
        plans::write_parameters(device, &evaluator.parameters, &values)?;
        let result = evaluator.run(device, keep_going)?;
        let damaged =
            "gives outputs that are not finite numbers: the weights are damaged, or their training diverged";
        if result.is_finite() { Ok(result) } else { Err(Error::file(&self.path, damaged)) }
    }
}

/// The outcome of an evaluation.
#[derive(Clone, Debug)]
pub struct Evaluation {
    pub loss: f64,
    pub accuracy: f64,
    /// Per class: (correct, images).
    pub per_class: Vec<(usize, usize)>,
    /// `[images, classes]`.
    pub logits: Vec<f32>,
}

impl Evaluation {
    /// Whether every output of the model was a finite number.
    pub fn is_finite(&self) -> bool {
        self.loss.is_finite() && self.logits.iter().all(|logit| logit.is_finite())
    }
}

impl Evaluator {
    /// Loads the plan and uploads the images; `name` must differ between the evaluators of a device.
    ///
    /// # Errors
    /// If there are no images or their size does not suit the model.
    pub fn new(
        device: &mut dyn Device,
        spec: &Spec,
        name: &str,
        images: &Images,
        batch_size: usize,
    ) -> Result<Evaluator> {
        if images.is_empty() {
            return Err(Error::Failed(format!("the {name} set has no images")));
        }
        let batch_size = batch_size.min(images.len());
        let Program { plan, parameters, .. } = plans::evaluation(spec, name, images.len(), batch_size)?;
        let plan = device.load(plan)?;
        device.record(plan, &["totals", "logits"])?;
        plans::upload(device, name, images)?;
        let (labels, classes) = (images.labels.clone(), spec.classes.len());
        Ok(Evaluator { plan, feed: Feed::Pictures, parameters, labels, classes, batch_size })
    }

    /// An evaluator of the model's units from `from` on, given what the units before put out.
    ///
    /// # Errors
    /// If the device cannot take the plan.
    pub fn on_features(
        device: &mut dyn Device,
        spec: &Spec,
        from: usize,
        features: Features,
        batch_size: usize,
    ) -> Result<Evaluator> {
        let (part, labels) = (from..spec.architecture.units(), features.labels().to_vec());
        let batch_size = batch_size.min(labels.len());
        let program = plans::evaluation_on_features(spec, part, features.shape(), batch_size)?;
        let Program { plan, parameters, .. } = program;
        let (plan, classes) = (device.load(plan)?, spec.classes.len());
        device.record(plan, &["totals", "logits"])?;
        Ok(Evaluator { plan, feed: Feed::Features(features), parameters, labels, classes, batch_size })
    }

    /// Runs over all images with the parameters the device holds.
    ///
    /// # Errors
    /// If the device fails, or `keep_going` says no: [`Error::Interrupted`].
    pub fn run(&self, device: &mut dyn Device, keep_going: impl Fn() -> bool) -> Result<Evaluation> {
        let (mut totals, mut logits) = (Totals::default(), Vec::new());
        let mut add = |outputs: &[f32]| {
            let (sums, batch) = outputs.split_at(3);
            totals.add(Totals::from(sums));
            logits.extend_from_slice(batch);
        };
        // An evaluation that was interrupted may have left some.
        device.collect(self.plan, true, &mut |_| ())?;
        let count = self.labels.len();
        for first in (0..count).step_by(self.batch_size) {
            if !keep_going() {
                return Err(Error::Interrupted);
            }
            let used = self.batch_size.min(count - first);
            let index = |i: usize| if i < used { (first + i) as u32 } else { u32::MAX };
            let indices: Vec<u32> = (0..self.batch_size).map(index).collect();
            self.feed.write(device, self.plan, &indices, 0)?;
            device.run(self.plan)?;
            device.collect(self.plan, false, &mut add)?;
        }
        device.collect(self.plan, true, &mut add)?;
        // The last batch may have empty places.
        logits.truncate(count * self.classes);
        let mut per_class = vec![(0, 0); self.classes];
        for (logits, &label) in logits.chunks_exact(self.classes).zip(&self.labels) {
            if let Some((correct, images)) = per_class.get_mut(label as usize) {
                *images += 1;
                *correct += usize::from(first_largest(logits) == label as usize);
            }
        }
        Ok(Evaluation { loss: totals.mean_loss(), accuracy: totals.accuracy(), per_class, logits })
    }
}

/// Softmax of one row of logits.
pub fn probabilities(logits: &[f32]) -> Vec<f32> {
    let largest = logits.iter().fold(f32::NEG_INFINITY, |a, &b| a.max(b));
    let exponentials: Vec<f64> = logits.iter().map(|z| f64::from(z - largest).exp()).collect();
    let total: f64 = exponentials.iter().sum();
    exponentials.iter().map(|e| (e / total) as f32).collect()
}
