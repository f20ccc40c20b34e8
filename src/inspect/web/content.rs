//! What a page of a model knows.

use serde::Serialize;

use super::check::{WebCase, WebWork, cases, works};
use super::program::{Shaders, WebProgram, bytes, floats};
use super::run::Run;
use super::training::{BATCH_SIZES, Begin, Training};
use crate::data::Images;
use crate::error::Result;
use crate::exec::Device;
use crate::grad::differentiate;
use crate::models::{LoadedModel, Spec};
use crate::nn::Parameter;
use crate::report::metrics::weights_digest;
use crate::selftest::check::TOLERANCE;
use crate::tensor::TensorType;
use crate::train::evaluate::EvalOptions;
use crate::train::plans::{self, ModelGraph};

/// Images of a page at most.
pub const IMAGES: usize = 100;

/// Bytes of their pixels at most, if there are to be more than [`EXPECTED_LOGITS`].
const IMAGE_BYTES: usize = 2 << 20;

/// Images of which the page knows what a CPU computes.
const EXPECTED_LOGITS: usize = 10;

/// Layers whose outputs are shown at most.
const LAYERS: usize = 64;

/// All that a page is made of.
#[derive(Serialize)]
pub struct Content {
    /// For people.
    pub title: String,
    /// The program that wrote it.
    program: &'static str,
    model: String,
    /// Facts about the model, in words.
    facts: Vec<(&'static str, String)>,
    /// The `settings.toml` of its run.
    settings: Option<String>,
    /// What a page has, and this one does not, and why.
    pub missing: Vec<String>,
    classes: Vec<String>,
    /// What logits are divided by before the softmax.
    temperature: f32,
    /// A prediction of a lower probability is unsure; none where that is not known.
    unsure_below: Option<f32>,
    images: WebImages,
    shaders: Shaders,
    /// The model's parameters, by the names of the states.
    weights: Vec<Named>,
    predict: WebProgram,
    /// Predictions of a whole batch, to be timed.
    many: Option<Many>,
    /// Logits of the first images.
    logits: Vec<Vec<f32>>,
    look: Look,
    train: Option<Training>,
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
pub(super) struct Named {
    name: String,
    dims: Vec<usize>,
    values: String,
}

/// Predictions of several images at once, of the state `many.images`.
#[derive(Serialize)]
struct Many {
    program: WebProgram,
    batch_size: usize,
}

/// The outputs of layers, and what speaks for a class.
#[derive(Serialize)]
struct Look {
    /// One input is `chosen`: 1 at the class.
    program: WebProgram,
    layers: Vec<String>,
    /// How many the model has.
    of: usize,
    /// The layer that the heat map is of; its outputs are `features`, and their gradient
    /// `gradient`.
    heat: Option<String>,
}

impl Content {
    /// Content for a model, of a run if that is known, and some of these images, at most `most` of
    /// the `set` of `data`; `cpu` computes what the page is held against.
    ///
    /// # Errors
    /// If a prediction needs more than WebGPU promises, or the weights are damaged.
    pub fn new(
        (model, run): (&LoadedModel, Option<&Run>),
        (images, most): (Images, usize),
        (data, set): (&str, &str),
        cpu: &mut dyn Device,
    ) -> Result<Content> {
        let spec = &model.spec;
        let images = some_of(images, most).in_memory()?;
        let mut shaders = Shaders::default();
        let ModelGraph { graph, parameters, .. } = plans::evaluation(spec, "shown", 1, 1)?;
        let predict = shaders.graph(&graph)?;
        let values = model.values(&parameters)?;
        let digest =
            weights_digest(parameters.iter().zip(&values).map(|(p, values)| (p.name.as_str(), &values[..])));
        let weights = parameters.iter().zip(&values);
        let weights = weights.map(|(parameter, values)| Named::new(parameter, floats(values))).collect();
        let first = images.subset(&(0..images.len().min(EXPECTED_LOGITS) as u32).collect::<Vec<_>>());
        let options = EvalOptions { batch_size: EXPECTED_LOGITS, views: Default::default() };
        let logits = model.evaluate(cpu, "first", &first, options, |_, _| true)?.logits;
        let mut missing = Vec::new();
        let training = Begin { model, run: run.map(|run| &run.settings), images: &images };
        let train = training.training(&mut shaders, cpu);
        let train = train.map_err(|error| missing.push(format!("a training: {error}"))).ok();
        let mut facts = facts(model, &images, data, set);
        facts.extend(run.iter().flat_map(|run| run.facts()));
        facts.push(("sha256 of the weights", digest));
        Ok(Content {
            title: format!("{} on {}, in a page", spec.architecture, spec.data),
            program: concat!("cifar-engine ", env!("CARGO_PKG_VERSION")),
            model: spec.architecture.to_string(),
            facts,
            settings: run.map(Run::shown_settings),
            missing,
            classes: spec.classes.clone(),
            temperature: spec.calibration.temperature,
            unsure_below: spec.calibration.unsure_below,
            weights,
            predict,
            many: many(&mut shaders, spec)?,
            logits: logits.outer_iter().map(|row| row.to_vec()).collect(),
            look: look(&mut shaders, spec)?,
            train,
            cases: cases(&mut shaders)?,
            tolerance: TOLERANCE,
            works: works(&mut shaders)?,
            shaders,
            images: WebImages {
                size: images.size,
                pixels: bytes(&images.pixels.bytes()?),
                labels: images.labels.clone(),
            },
        })
    }
}

impl Named {
    pub(super) fn new(parameter: &Parameter, values: String) -> Named {
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
        ("made by", concat!("cifar-engine ", env!("CARGO_PKG_VERSION")).into()),
    ]
}

/// Predictions in the largest batch that a browser can hold.
fn many(shaders: &mut Shaders, spec: &Spec) -> Result<Option<Many>> {
    for batch_size in BATCH_SIZES {
        let graph = plans::evaluation(spec, "many", batch_size, batch_size)?.graph;
        if let Ok(program) = shaders.graph(&graph) {
            return Ok(Some(Many { program, batch_size }));
        }
    }
    Ok(None)
}

/// The program that shows outputs of layers that are images, and the gradient of a class by the
/// last of them.
fn look(shaders: &mut Shaders, spec: &Spec) -> Result<Look> {
    let ModelGraph { mut graph, layers, .. } = plans::evaluation(spec, "shown", 1, 1)?;
    let is_image = |dims: &[usize]| matches!(dims, [_, height, width, _] if height.min(width) > &1);
    let images: Vec<_> = layers.iter().filter(|layer| is_image(layer.output.dims())).collect();
    let shown = images.len().min(LAYERS);
    // At equal distances, the first and the last among them.
    let between = shown.saturating_sub(1).max(1);
    let shown: Vec<_> = (0..shown).map(|i| images[i * (images.len() - 1) / between]).collect();
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
        program: shaders.graph(&graph)?,
        layers: shown.iter().map(|layer| layer.name.clone()).collect(),
        of: images.len(),
        heat: images.last().map(|layer| layer.name.clone()),
    })
}
