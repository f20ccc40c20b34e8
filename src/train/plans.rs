//! The two programs of a training: one step, and one batch of an evaluation.
//!
//! Each is a single plan, from the image's bytes to the updated weights.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::groups::Group;
use super::optimizers::ParameterStep;
use super::settings::Settings;
use super::settings::class_weights::ClassWeights;
use super::{shards, updates};
use crate::data::{Images, Pixels};
use crate::error::Result;
use crate::exec::{Device, PlanId, Precision};
use crate::grad::differentiate;
use crate::graph::{Graph, Value};
use crate::models::{Spec, Training};
use crate::nn::whitening::Seen;
use crate::nn::{Builder, Layer, Mode, Parameter, WHOLE};
use crate::ops::augment::{Augment, Augmentations, Batch};
use crate::ops::linear::matmul::Matmul;
use crate::ops::loss::softmax_cross_entropy::SoftmaxCrossEntropy;
use crate::tensor::{Shape, TensorType};

/// A graph for a device to run, with what belongs to its model.
pub struct ModelGraph {
    /// All of it.
    pub graph: Graph,
    /// Parameters of the model, in the order of its layers.
    pub parameters: Vec<Parameter>,
    /// Layers of the model, in order.
    pub layers: Vec<Layer>,
    /// The nodes of the forward pass, for the model's table.
    pub forward: Graph,
    /// What is added up over the shards of a training step, by name.
    pub added_up: Vec<(String, Value)>,
}

/// A set of images, as plans take it.
#[derive(Clone, Copy, Debug)]
pub struct ImageSet {
    /// How many there are.
    pub count: usize,
    /// Whether the plan has room for those of one batch only, in its inputs `images` and `labels`;
    /// otherwise all are in its states `NAME.images` and `NAME.labels`.
    pub by_batch: bool,
}

impl From<usize> for ImageSet {
    /// So many images, all in the plan's states.
    fn from(count: usize) -> ImageSet {
        ImageSet { count, by_batch: false }
    }
}

impl From<&Images> for ImageSet {
    /// All of them, where they are in memory.
    fn from(images: &Images) -> ImageSet {
        ImageSet { count: images.len(), by_batch: images.is_in_file() }
    }
}

/// The input that holds the weights of the classes.
pub const CLASS_WEIGHTS: &str = "class_weights";

/// One training step, of a shard where the settings have shards. Inputs: `indices` `u32 [batch]`,
/// `step` `u32 [1]`, the rates of the groups that it has ([`Group::input`]), `loss_gradient` `f32
/// [1]` (what the precision scales a loss by, [`Precision::loss_scale`]), and where classes have
/// weights, these ([`CLASS_WEIGHTS`]).
/// Output: `totals` `[3]`: summed loss, correct (of images joined in pairs, by the label of the
/// larger share), count. States: the set `train` ([`ImageSet`]), the parameters and the moments.
///
/// # Errors
/// If the image size does not suit the model.
pub fn training(spec: &Spec, settings: &Settings, images: impl Into<ImageSet>) -> Result<ModelGraph> {
    let images = images.into();
    let mut graph = Graph::new();
    let step = graph.input("step", TensorType::u32([1]));
    let epoch_steps = settings.config(images.count).steps() * settings.shards;
    let augment = Augment { epoch_steps, ..augmented(spec, settings) };
    let batch = batch(&mut graph, spec, augment, ("train", images), settings.shard_size(), step)?;
    training_step(graph, spec, settings, WHOLE, batch, step)
}

/// [`training`] of the model's units from `from` on, on the outputs of the units before: with the
/// inputs `features` `[batch, ..]` and `labels` `u32 [batch]` instead of the indices and the
/// images.
///
/// # Errors
/// As for [`training`].
pub fn training_on_features(
    spec: &Spec,
    settings: &Settings,
    from: usize,
    features: &Shape,
) -> Result<ModelGraph> {
    let mut graph = Graph::new();
    let step = graph.input("step", TensorType::u32([1]));
    let batch = feature_batch(&mut graph, features, settings.shard_size());
    training_step(graph, spec, settings, from..WHOLE.end, batch, step)
}

fn training_step(
    mut graph: Graph,
    spec: &Spec,
    settings: &Settings,
    part: Range<usize>,
    batch: Batch,
    step: Value,
) -> Result<ModelGraph> {
    let seed = settings.seed;
    let mode = match &settings.finetune {
        Some(finetune) if finetune.frozen_statistics => Mode::Tune { step, seed },
        _ => Mode::Train { step, seed },
    };
    let mut builder = Builder::new(&mut graph, mode, spec.norm).only(part);
    let logits = spec.build(&mut builder, batch.x, settings.training())?;
    let Builder { parameters, layers, .. } = builder;

    let forward = graph.clone();
    graph.set_layer("loss");
    let mut inputs = [&[logits], &batch.targets[..]].concat();
    if settings.class_weights != ClassWeights::None {
        inputs.push(graph.input(CLASS_WEIGHTS, TensorType::f32([spec.classes.len()])));
    }
    let outputs = graph.apply(SoftmaxCrossEntropy { smoothing: settings.label_smoothing }, &inputs)?;
    graph.output("totals", outputs[1]);
    let loss_gradient = graph.input("loss_gradient", TensorType::f32([1]));
    let trainable: Vec<&Parameter> = parameters.iter().filter(|p| p.trainable()).collect();
    let values: Vec<Value> = trainable.iter().map(|p| p.value).collect();
    let mut gradients = differentiate(&mut graph, &[(outputs[0], loss_gradient)], &values)?;
    let by_parameter: Vec<_> = trainable.iter().copied().zip(gradients.iter().copied()).collect();
    let added_up = shards::added_up(&graph, &by_parameter, outputs[1]);
    if settings.precision == Precision::F16 {
        gradients =
            updates::unscale(&mut graph, &gradients, settings.precision.loss_scale(settings.batch_size))?;
    }
    if settings.clip > 0.0 {
        gradients = updates::clip(&mut graph, &gradients, settings.clip)?;
    }
    let (optimizer, momentum) = (settings.optimizer, settings.momentum);
    let mut rates = BTreeMap::new();
    for (parameter, gradient) in trainable.into_iter().zip(gradients) {
        let input = Group::of(parameter, settings).input();
        let rate = *rates.entry(input).or_insert_with(|| graph.input(input, TensorType::f32([1])));
        let decay = settings.decay_of(parameter);
        let update = ParameterStep { parameter, gradient, decay, momentum, rate, number: step };
        optimizer.add_update(&mut graph, &update)?;
    }
    if settings.ema > 0.0 {
        updates::keep_averages(&mut graph, &parameters, settings.ema)?;
    }
    Ok(ModelGraph { graph, parameters, layers, forward, added_up })
}

/// The loss of a classifier, for [`super::logistic`]. Inputs: `features` `[rows, depth]`, `labels`
/// `u32 [rows]`, `weight` `[depth, classes]`, `bias` `[classes]`, `loss_gradient` `f32 [1]`, and
/// where classes have weights, these ([`CLASS_WEIGHTS`]).
/// Outputs: `totals`, and the gradients of the mean loss, `weight_gradient` and `bias_gradient`.
///
/// # Errors
/// None but those of [`Graph::apply`].
pub fn classifier_loss([rows, depth]: [usize; 2], classes: usize, weighted: bool) -> Result<Graph> {
    let mut graph = Graph::new();
    graph.set_layer("classifier");
    let x = graph.input("features", TensorType::f32([rows, depth]));
    let labels = graph.input("labels", TensorType::u32([rows]));
    let weight = graph.input("weight", TensorType::f32([depth, classes]));
    let bias = graph.input("bias", TensorType::f32([classes]));
    let loss_gradient = graph.input("loss_gradient", TensorType::f32([1]));
    let logits = graph.apply1(Matmul::default(), &[x, weight, bias])?;
    let mut inputs = vec![logits, labels];
    if weighted {
        inputs.push(graph.input(CLASS_WEIGHTS, TensorType::f32([classes])));
    }
    let outputs = graph.apply(SoftmaxCrossEntropy { smoothing: 0.0 }, &inputs)?;
    let gradients = differentiate(&mut graph, &[(outputs[0], loss_gradient)], &[weight, bias])?;
    graph.output("totals", outputs[1]);
    graph.output("weight_gradient", gradients[0]);
    graph.output("bias_gradient", gradients[1]);
    Ok(graph)
}

/// One batch of an evaluation. Inputs: `indices` `u32 [batch]` (an index outside the images is an
/// empty place), `step`. Output: `logits` `[batch, classes]`. States: the set ([`ImageSet`]), the
/// parameters.
///
/// # Errors
/// If the image size does not suit the model.
pub fn evaluation(
    spec: &Spec,
    name: &str,
    images: impl Into<ImageSet>,
    batch_size: usize,
) -> Result<ModelGraph> {
    let mut graph = Graph::new();
    let step = graph.input("step", TensorType::u32([1]));
    let batch = batch(&mut graph, spec, plain(spec), (name, images.into()), batch_size, step)?;
    evaluation_step(graph, spec, WHOLE, batch.x)
}

/// [`evaluation`] of the model's units from `from` on, on the outputs of the units before; inputs
/// as for [`training_on_features`].
///
/// # Errors
/// As for [`evaluation`].
pub fn evaluation_on_features(
    spec: &Spec,
    from: usize,
    features: &Shape,
    batch_size: usize,
) -> Result<ModelGraph> {
    let mut graph = Graph::new();
    let batch = feature_batch(&mut graph, features, batch_size);
    evaluation_step(graph, spec, from..WHOLE.end, batch.x)
}

fn evaluation_step(mut graph: Graph, spec: &Spec, part: Range<usize>, x: Value) -> Result<ModelGraph> {
    let mut builder = Builder::new(&mut graph, Mode::Infer, spec.norm).only(part);
    let logits = spec.build(&mut builder, x, Training::default())?;
    let Builder { parameters, layers, .. } = builder;
    let forward = graph.clone();
    graph.output("logits", logits);
    Ok(ModelGraph { graph, parameters, layers, forward, added_up: Vec::new() })
}

/// Outputs of the model's first units, up to `until`, for a batch of images, with stored statistics
/// and without dropout. Inputs: `indices`, and `step`, which the augmentation depends on. Output:
/// `features`. States: the set ([`ImageSet`]), the units' parameters.
///
/// # Errors
/// If the image size does not suit the model.
pub fn features(
    spec: &Spec,
    augment: Augment,
    (name, images): (&str, impl Into<ImageSet>),
    batch_size: usize,
    until: usize,
) -> Result<Graph> {
    let mut graph = Graph::new();
    let step = graph.input("step", TensorType::u32([1]));
    let batch = batch(&mut graph, spec, augment, (name, images.into()), batch_size, step)?;
    let mut builder = Builder::new(&mut graph, Mode::Infer, spec.norm).only(0..until);
    let features = spec.build(&mut builder, batch.x, Training::default())?;
    graph.output("features", features);
    Ok(graph)
}

/// The augmentation of a training, as if each step were an epoch.
pub fn augmented(spec: &Spec, settings: &Settings) -> Augment {
    Augment { changes: settings.augment, seed: settings.seed, ..plain(spec) }
}

/// No augmentation.
pub fn plain(spec: &Spec) -> Augment {
    let (size, mean, std) = (spec.image_size, spec.mean, spec.std);
    Augment { size, mean, std, changes: Augmentations::default(), seed: 0, epoch_steps: 1, by_place: false }
}

/// Images of the size that the model sees, and their targets.
fn batch(
    graph: &mut Graph,
    spec: &Spec,
    augment: Augment,
    (name, ImageSet { count, by_batch }): (&str, ImageSet),
    batch_size: usize,
    step: Value,
) -> Result<Batch> {
    graph.set_layer("input");
    let augment = Augment { by_place: by_batch, ..augment };
    let types = |count| (TensorType::u32([count, Augment::record(augment.size)]), TensorType::u32([count]));
    let (data, labels) = if by_batch {
        let (images, labels) = types(batch_size);
        (graph.input("images", images), graph.input("labels", labels))
    } else {
        let (images, labels) = types(count);
        (graph.state(&format!("{name}.images"), images)?, graph.state(&format!("{name}.labels"), labels)?)
    };
    let indices = graph.input("indices", TensorType::u32([batch_size]));
    let mut batch = augment.add(graph, [data, labels, indices, step])?;
    batch.x = spec.resized(graph, batch.x)?;
    Ok(batch)
}

/// A batch of the outputs of a model's first units, and its labels.
fn feature_batch(graph: &mut Graph, features: &Shape, batch_size: usize) -> Batch {
    let dims: Vec<usize> = std::iter::once(batch_size).chain(features.dims().iter().copied()).collect();
    let x = graph.input("features", TensorType::f32(dims.as_slice()));
    Batch { x, targets: vec![graph.input("labels", TensorType::u32([batch_size]))] }
}

/// Puts a set of images where a loaded plan expects them: all of them, but none of those in a file
/// ([`ImageSet`]), of which every batch is written by itself.
///
/// # Errors
/// If neither the plan nor those beside it use images of this name and number.
pub fn upload(device: &mut dyn Device, plan: PlanId, name: &str, images: &Images) -> Result<()> {
    let Pixels::Memory(pixels) = &images.pixels else { return Ok(()) };
    device.write_state(plan, &format!("{name}.labels"), images.labels.as_slice().into())?;
    let state = format!("{name}.images");
    // Most sizes need no copy: four bytes in a row are a word as they lie.
    if cfg!(target_endian = "little")
        && images.stride().is_multiple_of(4)
        && let Ok(words) = bytemuck::try_cast_slice::<u8, u32>(pixels)
    {
        return device.write_state(plan, &state, words.into());
    }
    let record = Augment::record(images.size);
    let mut words = vec![0; images.len() * record];
    for (i, words) in words.chunks_exact_mut(record.max(1)).enumerate() {
        write_record(words, images.stride(), |pixels| images.read(i, pixels))?;
    }
    device.write_state(plan, &state, words.as_slice().into())
}

/// Fills an image's words with its bytes, which `read` puts into a slice of so many.
pub(super) fn write_record(
    words: &mut [u32],
    stride: usize,
    read: impl FnOnce(&mut [u8]) -> Result<()>,
) -> Result<()> {
    read(&mut bytemuck::cast_slice_mut(words)[..stride])?;
    // The lowest byte comes first.
    words.iter_mut().for_each(|word| *word = u32::from_le(*word));
    Ok(())
}

/// Gives every parameter of a plan the value it has in `values`, in the same order.
///
/// # Errors
/// If neither the plan nor those beside it have these parameters.
pub fn write_parameters(
    device: &mut dyn Device,
    plan: PlanId,
    parameters: &[Parameter],
    values: &[Vec<f32>],
) -> Result<()> {
    for (parameter, values) in parameters.iter().zip(values) {
        device.write_state(plan, &parameter.name, values.as_slice().into())?;
    }
    Ok(())
}

/// The initial values of a model that is to learn these images: layers may begin by what they show.
///
/// # Errors
/// If the images cannot be read.
pub fn initial_values_for(
    parameters: &[Parameter],
    seed: u32,
    spec: &Spec,
    images: &Images,
) -> Result<Vec<Vec<f32>>> {
    let seen = Seen { images, mean: spec.mean, std: spec.std };
    let values = parameters.iter().zip(initial_values(parameters, seed));
    let chosen =
        values.map(|(parameter, values)| Ok(parameter.init.values_of_images(seen)?.unwrap_or(values)));
    chosen.collect()
}

/// The initial values of a model of which nothing is known.
pub fn initial_values(parameters: &[Parameter], seed: u32) -> Vec<Vec<f32>> {
    let values = |(index, p): (usize, &Parameter)| p.init.values(p.shape.len(), seed, index as u32);
    parameters.iter().enumerate().map(values).collect()
}

/// The three numbers a batch ends with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Totals {
    /// Summed over images.
    pub loss: f64,
    /// Images whose largest logit is at the label.
    pub correct: f64,
    /// Images that count.
    pub count: f64,
}

impl From<&[f32]> for Totals {
    /// The output `totals` of a plan.
    fn from(totals: &[f32]) -> Totals {
        let [loss, correct, count] = [0, 1, 2].map(|i| totals.get(i).map_or(f64::NAN, |v| f64::from(*v)));
        Totals { loss, correct, count }
    }
}

impl Totals {
    /// Adds those of other images.
    pub fn add(&mut self, other: Totals) {
        self.loss += other.loss;
        self.correct += other.correct;
        self.count += other.count;
    }

    /// The loss of an image, in the mean; NaN of none.
    pub fn mean_loss(&self) -> f64 {
        self.loss / self.count
    }

    /// The share of images that are right, from 0 to 1; NaN of none.
    pub fn accuracy(&self) -> f64 {
        self.correct / self.count
    }
}
