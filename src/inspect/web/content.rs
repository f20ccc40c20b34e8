//! What a page of a model knows.

use serde::Serialize;

use super::check::{WebCase, WebWork, cases, works};
use super::program::{Library, WebProgram, bytes, floats};
use crate::data::Images;
use crate::error::Result;
use crate::exec::Device;
use crate::exec::plan::Plan;
use crate::grad::differentiate;
use crate::kernels::rng::{self, Stream};
use crate::models::{LoadedModel, Spec};
use crate::nn::Parameter;
use crate::selftest::check::TOLERANCE;
use crate::tensor::TensorType;
use crate::train::evaluate::EvalOptions;
use crate::train::groups::Group;
use crate::train::plans::{self, ModelGraph, Totals};
use crate::train::settings::Settings;

/// Images of a page at most.
pub const IMAGES: usize = 100;

/// Bytes of their pixels at most, if there are to be more than [`EXPECTED_LOGITS`].
const IMAGE_BYTES: usize = 2 << 20;

/// Images of a training step at most.
const BATCH_SIZE: usize = 32;

/// Passes over the images that the training of a page makes.
const EPOCHS: usize = 40;

/// Images, and steps of the training, of which the page knows what a CPU computes.
const EXPECTED_LOGITS: usize = 10;
const EXPECTED_LOSSES: usize = 20;

/// Layers whose outputs are shown at most.
const LAYERS: usize = 12;

/// All that a page is made of.
#[derive(Serialize)]
pub struct Content {
    /// For people.
    pub title: String,
    /// Facts about the model, in words.
    facts: Vec<(&'static str, String)>,
    classes: Vec<String>,
    /// What logits are divided by before the softmax.
    temperature: f32,
    images: WebImages,
    library: Library,
    /// The model's parameters, by the names of the states.
    weights: Vec<Named>,
    predict: WebProgram,
    /// Logits of the first images.
    logits: Vec<Vec<f32>>,
    look: Look,
    train: Training,
    cases: Vec<WebCase>,
    tolerance: f64,
    works: Vec<WebWork>,
}

/// Images with their classes.
#[derive(Serialize)]
struct WebImages {
    size: usize,
    pixels: String,
    labels: Vec<u32>,
}

/// A tensor with its values as text.
#[derive(Serialize)]
struct Named {
    name: String,
    dims: Vec<usize>,
    values: String,
}

/// The outputs of layers, and what speaks for a class.
#[derive(Serialize)]
struct Look {
    /// One input is `chosen`: 1 at the class.
    program: WebProgram,
    layers: Vec<String>,
    /// The layer that the heat map is of; its outputs are `features`, and their gradient
    /// `gradient`.
    heat: Option<String>,
}

/// A training on the images of the page.
#[derive(Serialize)]
struct Training {
    program: WebProgram,
    recipe: String,
    /// The upper halves of the words of the initial values: bfloat16.
    initial: Vec<Named>,
    /// Inputs that take the rate.
    rates: Vec<&'static str>,
    /// The images of every step, and its rate.
    steps: Vec<TrainStep>,
    steps_an_epoch: usize,
    /// Mean losses of the first steps.
    losses: Vec<f64>,
    /// The state to draw: filters of the first layer `[height, width, 3, filters]`.
    filters: Option<Filters>,
}

#[derive(Clone, Serialize)]
struct TrainStep {
    indices: Vec<u32>,
    rate: f32,
}

#[derive(Serialize)]
struct Filters {
    name: String,
    dims: Vec<usize>,
}

impl Content {
    /// Content for a model and some of these images, at most `most` of the `set` of `data`; `cpu`
    /// computes what the page is held against.
    ///
    /// # Errors
    /// If a plan needs more than WebGPU promises, or the weights are damaged.
    pub fn new(
        model: &LoadedModel,
        (images, most): (Images, usize),
        (data, set): (&str, &str),
        cpu: &mut dyn Device,
    ) -> Result<Content> {
        let spec = &model.spec;
        let images = some_of(images, most);
        let mut library = Library::default();
        let ModelGraph { graph, parameters, .. } = plans::evaluation(spec, "shown", 1, 1)?;
        let predict = library.graph(&graph)?;
        let values = model.values(&parameters)?;
        let weights = parameters.iter().zip(&values);
        let weights = weights.map(|(parameter, values)| Named::new(parameter, floats(values))).collect();
        let first = images.subset(&(0..images.len().min(EXPECTED_LOGITS) as u32).collect::<Vec<_>>());
        let options = EvalOptions { batch_size: EXPECTED_LOGITS, views: Default::default() };
        let logits = model.evaluate(cpu, "first", &first, options, |_, _| true)?.logits;
        Ok(Content {
            title: format!("{} on {}, in a page", spec.architecture, spec.data),
            facts: facts(model, &images, data, set),
            classes: spec.classes.clone(),
            temperature: spec.calibration.temperature,
            weights,
            predict,
            logits: logits.outer_iter().map(|row| row.to_vec()).collect(),
            look: look(&mut library, spec)?,
            train: training(&mut library, spec, &images, cpu)?,
            cases: cases(&mut library)?,
            tolerance: TOLERANCE,
            works: works(&mut library)?,
            library,
            images: WebImages {
                size: images.size,
                pixels: bytes(&images.pixels),
                labels: images.labels.clone(),
            },
        })
    }
}

impl Named {
    fn new(parameter: &Parameter, values: String) -> Named {
        Named { name: parameter.name.clone(), dims: parameter.shape.dims().to_vec(), values }
    }
}

/// So many of the images, if a page may have them.
fn some_of(images: Images, most: usize) -> Images {
    let fit = (IMAGE_BYTES / images.stride()).max(EXPECTED_LOGITS);
    images.part(fit.min(most))
}

fn facts(model: &LoadedModel, images: &Images, data: &str, set: &str) -> Vec<(&'static str, String)> {
    let spec = &model.spec;
    let size = spec.image_size;
    vec![
        ("model", spec.architecture.to_string()),
        ("trained parameters", model.trained_parameters.to_string()),
        ("images", format!("{size}x{size}, {} of the {set} images of {data}", images.len())),
        ("mean of pixels", format!("{:?}", spec.mean)),
        ("deviation of pixels", format!("{:?}", spec.std)),
        ("made by", format!("cifar-engine {}", env!("CARGO_PKG_VERSION"))),
    ]
}

/// The program that shows outputs of layers that are images, and the gradient of a class by the
/// last of them.
fn look(library: &mut Library, spec: &Spec) -> Result<Look> {
    let ModelGraph { mut graph, layers, .. } = plans::evaluation(spec, "shown", 1, 1)?;
    let is_image = |dims: &[usize]| matches!(dims, [_, height, width, _] if height.min(width) > &1);
    let images: Vec<_> = layers.iter().filter(|layer| is_image(layer.output.dims())).collect();
    let shown = images.len().min(LAYERS);
    let shown: Vec<_> = (0..shown).map(|i| images[i * images.len() / shown]).collect();
    shown.iter().for_each(|layer| graph.output(&layer.name, layer.value));
    if let Some(last) = images.last() {
        let logits = graph.outputs().iter().find(|(name, _)| name == "logits").map(|(_, value)| *value);
        let chosen = graph.input("chosen", TensorType::f32([1, spec.classes.len()]));
        let seeds: Vec<_> = logits.into_iter().map(|logits| (logits, chosen)).collect();
        let gradient = differentiate(&mut graph, &seeds, &[last.value])?[0];
        graph.output("features", last.value);
        graph.output("gradient", gradient);
    }
    Ok(Look {
        program: library.graph(&graph)?,
        layers: shown.iter().map(|layer| layer.name.clone()).collect(),
        heat: images.last().map(|layer| layer.name.clone()),
    })
}

/// The default training of the model, on these images.
fn training(library: &mut Library, spec: &Spec, images: &Images, cpu: &mut dyn Device) -> Result<Training> {
    let usual = Settings::default();
    let batch_size = BATCH_SIZE.min(images.len());
    let settings = Settings {
        model: spec.architecture,
        image_size: spec.image_size,
        batch_size,
        epochs: EPOCHS,
        // The rate that suits the usual batch, by its share (Goyal et al. 2017).
        rate: usual.rate * batch_size as f32 / usual.batch_size as f32,
        ..usual
    };
    let program = plans::training(spec, &settings, images.len())?;
    let values = plans::initial_values_for(&program.parameters, settings.seed, spec, images);
    let halves = values.iter().map(|values| values.iter().map(|value| half(*value)).collect());
    let halves: Vec<Vec<u16>> = halves.collect();
    let initial = program.parameters.iter().zip(&halves);
    let initial = initial.map(|(parameter, halves)| {
        Named::new(parameter, bytes(&halves.iter().flat_map(|half| half.to_le_bytes()).collect::<Vec<u8>>()))
    });
    let steps = steps(&settings, images.len());
    let run = CpuTraining { program: &program, images, halves: &halves, steps: &steps };
    let losses = run.losses(cpu)?;
    let filters = program.parameters.iter().find(|parameter| matches!(parameter.shape.dims(), [_, _, 3, _]));
    let filters = filters
        .map(|parameter| Filters { name: parameter.name.clone(), dims: parameter.shape.dims().to_vec() });
    Ok(Training {
        program: library.graph(&program.graph)?,
        recipe: format!(
            "from new weights, on the images of this page, {batch_size} a step: {}, with flips and shifts, \
             as the default training does",
            settings.optimizer.name
        ),
        initial: initial.collect(),
        rates: rates(&program)?,
        steps_an_epoch: settings.config(images.len()).steps(),
        steps,
        losses,
        filters,
    })
}

/// A number as bfloat16, rounded towards zero.
fn half(value: f32) -> u16 {
    (value.to_bits() >> 16) as u16
}

/// The inputs of a training that take a rate.
fn rates(program: &ModelGraph) -> Result<Vec<&'static str>> {
    let plan = Plan::compile(&program.graph)?;
    Ok(Group::in_plan(&plan).into_iter().map(Group::input).collect())
}

/// Every epoch has the images in another order, and begins again with them where the last batch is
/// not full.
fn steps(settings: &Settings, images: usize) -> Vec<TrainStep> {
    let (each, batch_size) = (settings.config(images).steps(), settings.batch_size);
    let all = each * settings.epochs;
    let step = |step: usize| {
        let order = rng::permutation(images, settings.seed, Stream::Shuffle, (step / each) as u32);
        let place = |i: usize| order[(step % each * batch_size + i) % images];
        let rate = settings.schedule.rate(settings.rate, step, all);
        TrainStep { indices: (0..batch_size).map(place).collect(), rate }
    };
    (0..all).map(step).collect()
}

/// A training that a CPU runs, to have something to compare with.
struct CpuTraining<'a> {
    program: &'a ModelGraph,
    images: &'a Images,
    halves: &'a [Vec<u16>],
    steps: &'a [TrainStep],
}

impl CpuTraining<'_> {
    /// Mean losses of the first steps.
    fn losses(&self, cpu: &mut dyn Device) -> Result<Vec<f64>> {
        let ModelGraph { graph, parameters, .. } = self.program;
        let plan = cpu.load(graph)?;
        plans::upload(cpu, plan, "train", self.images)?;
        let whole = |half: &u16| f32::from_bits(u32::from(*half) << 16);
        let values: Vec<Vec<f32>> =
            self.halves.iter().map(|halves| halves.iter().map(whole).collect()).collect();
        plans::write_parameters(cpu, plan, parameters, &values)?;
        cpu.write(plan, "loss_gradient", [1.0f32].as_slice().into())?;
        let rates = rates(self.program)?;
        let mut losses = Vec::new();
        for (number, step) in self.steps.iter().take(EXPECTED_LOSSES).enumerate() {
            cpu.write(plan, "indices", step.indices.as_slice().into())?;
            cpu.write(plan, "step", [number as u32].as_slice().into())?;
            for rate in &rates {
                cpu.write(plan, rate, [step.rate].as_slice().into())?;
            }
            cpu.run(plan)?;
            losses.push(Totals::from(cpu.read(plan, "totals")?.as_slice()).mean_loss());
        }
        cpu.unload(plan)?;
        Ok(losses)
    }
}
