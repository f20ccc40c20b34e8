//! Trials of a device before it trains or evaluates ([`crate::exec::contact`]): the programs that
//! it will run, on a few of the images.
//!
//! A trial is small: of a larger batch it has 128 images, and of large images fewer. It is the same
//! for every seed, so that a second training of the kind finds its verdict.

use super::features::BatchSource;
use super::finetune;
use super::groups::Group;
use super::plans::{self, CLASS_WEIGHTS, ModelGraph};
use super::settings::Settings;
use crate::data::{self, Dataset, Images};
use crate::error::{Error, Result};
use crate::exec::contact::{Fill, Trial};
use crate::exec::{Device, PlanId};
use crate::graph::Graph;
use crate::kernels::rng::{Stream, draw, unit};
use crate::models::pretrained::Pretrained;
use crate::models::{LoadedModel, Spec};
use crate::nn::Parameter;

/// The most images of a trial.
const MOST: usize = 128;
/// The fewest, where there are so many: in a sum over few, single elements weigh too much, in which
/// devices differ by rounding.
const FEWEST: usize = 32;
/// The most pixels, as the model sees the images: a trial costs a second or two on a small CPU.
const MOST_PIXELS: usize = MOST * 48 * 48;

/// The device's name for the images.
const NAME: &str = "trial";

/// How many images of those that a model gets a trial has.
fn batch(spec: &Spec, images: usize) -> usize {
    let pixels = spec.variant.input_size * spec.variant.input_size;
    images.clamp(FEWEST, MOST).min((MOST_PIXELS / pixels.max(1)).max(1))
}

/// The settings of a trial of so many images. A classifier that begins at zero would pass no
/// gradient on in its first step.
fn settings_of_trial(settings: &Settings, batch_size: usize) -> Settings {
    Settings { batch_size, shards: 1, seed: 0, zero_classifier: false, ..settings.clone() }
}

/// The first images of a set; fewer only where there are fewer.
fn first(images: &Images, count: usize) -> Images {
    let indices: Vec<u32> = (0..images.len().min(count) as u32).collect();
    images.subset(&indices)
}

/// The trial of a training from scratch.
///
/// # Errors
/// If the settings do not suit the images.
pub fn training(settings: &Settings, data: &Dataset) -> Result<Vec<Trial>> {
    data.check_labels()?;
    let spec = super::spec(settings, data)?;
    // Layers that begin by what they show must see something: at zero, they give the next layer
    // nothing but rounding.
    let seen = first(&data.train, MOST);
    let values = |parameters: &[Parameter]| plans::initial_values_for(parameters, 0, &spec, &seen);
    Ok(vec![whole(&spec, settings, &data.train, values)?])
}

/// A trial of a step that trains the whole model.
fn whole(
    spec: &Spec,
    settings: &Settings,
    images: &Images,
    values: impl FnOnce(&[Parameter]) -> Result<Vec<Vec<f32>>>,
) -> Result<Trial> {
    let images = first(images, batch(spec, settings.batch_size));
    let settings = settings_of_trial(settings, images.len());
    let ModelGraph { graph, parameters, .. } = plans::training(spec, &settings, &images)?;
    let values = values(&parameters)?;
    let names = names(&parameters);
    let count = images.len();
    let fill = move |device: &mut dyn Device, plan: PlanId| {
        plans::upload(device, plan, "train", &images)?;
        plans::write_parameters(device, plan, &parameters, &values)?;
        write_batch(device, plan, &images)
    };
    Ok(Trial { images: count, parameters: names, fill: with_rates(&graph, &settings, fill), graph })
}

fn names(parameters: &[Parameter]) -> Vec<String> {
    parameters.iter().map(|parameter| parameter.name.clone()).collect()
}

/// Writes the inputs for all the images.
fn write_batch(device: &mut dyn Device, plan: PlanId, images: &Images) -> Result<()> {
    let indices: Vec<u32> = (0..images.len() as u32).collect();
    BatchSource::of(images).write(device, plan, &indices, 0)?;
    device.write(plan, "step", [0u32].as_slice().into())
}

/// A filling of a training's plan with all the rates that it takes.
fn with_rates(
    graph: &Graph,
    settings: &Settings,
    fill: impl Fn(&mut dyn Device, PlanId) -> Result<()> + 'static,
) -> Fill {
    let rates: Vec<&str> = Group::ALL
        .iter()
        .map(|group| group.input())
        .filter(|name| graph.input_named(name).is_some())
        .collect();
    let classes = graph.input_named(CLASS_WEIGHTS).map_or(0, |weights| graph.ty(weights).len());
    // Whatever they are, the device must compute by them.
    let weights: Vec<f32> = (0..classes).map(|class| 0.5 + (class % 3) as f32).collect();
    let (rate, scale) = (settings.optimizer.usual_rate, settings.precision.loss_scale(settings.batch_size));
    Box::new(move |device, plan| {
        fill(device, plan)?;
        device.write(plan, "loss_gradient", [scale].as_slice().into())?;
        if !weights.is_empty() {
            device.write(plan, CLASS_WEIGHTS, weights.as_slice().into())?;
        }
        rates.iter().try_for_each(|name| device.write(plan, name, [rate].as_slice().into()))
    })
}

/// The trials of a fine-tuning: of the frozen layers, and of each stage.
///
/// # Errors
/// If the settings, the weights and the images do not suit each other.
pub fn finetuning(settings: &Settings, pretrained: &Pretrained, data: &Dataset) -> Result<Vec<Trial>> {
    let Some(chosen) = &settings.finetune else {
        return Err(Error::Usage("these are no settings of a fine-tuning".into()));
    };
    data.check_labels()?;
    let spec = finetune::spec(&pretrained.spec, settings, chosen, data);
    let values = |parameters: &[Parameter]| finetune::initial_values(pretrained, parameters, settings);
    let mut trials = Vec::new();
    for from in finetune::beginnings(settings, chosen, &spec)? {
        if from == 0 {
            trials.push(whole(&spec, settings, &data.train, values)?);
            continue;
        }
        let frozen = frozen(&spec, settings, &data.train, from, values)?;
        let shape = frozen.graph.dims(frozen.graph.outputs()[0].1)[1..].to_vec();
        trials.push(frozen);
        trials.push(on_features(&spec, settings, (from, shape), &data.train, values)?);
    }
    Ok(trials)
}

/// A trial of the units before one, which are frozen.
fn frozen(
    spec: &Spec,
    settings: &Settings,
    images: &Images,
    until: usize,
    values: impl FnOnce(&[Parameter]) -> Result<Vec<Vec<f32>>>,
) -> Result<Trial> {
    let images = first(images, batch(spec, MOST));
    let augment = plans::augmented(spec, &settings_of_trial(settings, images.len()));
    let graph = plans::features(spec, augment, (NAME, &images), images.len(), until)?;
    let (parameters, values) = part(spec, &graph, values)?;
    Ok(Trial {
        images: images.len(),
        parameters: Vec::new(),
        fill: looking(parameters, values, images),
        graph,
    })
}

/// The parameters of the model that a graph has, and their values; `values` are those of all.
fn part(
    spec: &Spec,
    graph: &Graph,
    values: impl FnOnce(&[Parameter]) -> Result<Vec<Vec<f32>>>,
) -> Result<(Vec<Parameter>, Vec<Vec<f32>>)> {
    let parameters = plans::evaluation(spec, NAME, 1, 1)?.parameters;
    let values = values(&parameters)?;
    let all = parameters.into_iter().zip(values);
    Ok(all.filter(|(parameter, _)| graph.has_state(&parameter.name)).unzip())
}

/// A filling of a plan that only looks at images.
fn looking(parameters: Vec<Parameter>, values: Vec<Vec<f32>>, images: Images) -> Fill {
    Box::new(move |device, plan| {
        plans::upload(device, plan, NAME, &images)?;
        plans::write_parameters(device, plan, &parameters, &values)?;
        write_batch(device, plan, &images)
    })
}

/// A trial of a stage that trains the units from one on, on features that are made up: what the
/// frozen units make of the images has a trial of its own.
fn on_features(
    spec: &Spec,
    settings: &Settings,
    (from, shape): (usize, Vec<usize>),
    images: &Images,
    values: impl FnOnce(&[Parameter]) -> Result<Vec<Vec<f32>>>,
) -> Result<Trial> {
    let images = first(images, batch(spec, settings.batch_size));
    let count = images.len();
    let settings = settings_of_trial(settings, count);
    let program = plans::training_on_features(spec, &settings, from, &shape.as_slice().into())?;
    let graph = program.graph;
    let (parameters, values) = part(spec, &graph, values)?;
    let names = names(&parameters);
    let len = count * shape.iter().product::<usize>();
    let features: Vec<f32> = (0..len as u32).map(|i| unit(draw(0, Stream::Init, 0, i)[0])).collect();
    let fill = move |device: &mut dyn Device, plan: PlanId| {
        plans::write_parameters(device, plan, &parameters, &values)?;
        device.write(plan, "features", features.as_slice().into())?;
        device.write(plan, "labels", images.labels.as_slice().into())?;
        device.write(plan, "step", [0u32].as_slice().into())
    };
    Ok(Trial { images: count, parameters: names, fill: with_rates(&graph, &settings, fill), graph })
}

/// The trial of an evaluation of so many images at a time, on made-up ones.
///
/// # Errors
/// If the weights are not whole.
pub fn evaluation(model: &LoadedModel, images: usize) -> Result<Vec<Trial>> {
    let spec = &model.spec;
    // So that all numbers of images together have few trials.
    let count = images.next_power_of_two().min(batch(spec, MOST));
    let images = data::shapes::sized(count, 0, spec.image_size, 0)?.train;
    let ModelGraph { graph, parameters, .. } = plans::evaluation(spec, NAME, count, count)?;
    let values = model.values(&parameters)?;
    Ok(vec![Trial {
        images: count,
        parameters: Vec::new(),
        fill: looking(parameters, values, images),
        graph,
    }])
}
