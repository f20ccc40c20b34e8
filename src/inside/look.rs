//! A look inside a trained model: its first filters, the channels that never answer, what chosen
//! layers make of an image, and where in images classes are seen.

use std::collections::BTreeSet;

use ndarray::{ArrayD, ArrayView2, ArrayView4, Axis};
use serde::Serialize;

use super::{activations, channel_maxima, grad_cams};
use crate::data::{CHANNELS, Images};
use crate::error::Result;
use crate::exec::Device;
use crate::graph::Graph;
use crate::models::{LoadedModel, Network};
use crate::nn::{Layer, Parameter};
use crate::report::analysis::Analysis;
use crate::tensor::TensorType;

/// Images of this side are small: so many of them are a batch.
const SMALL: usize = 96;
const BATCH: usize = 16;
/// Smallest side of the outputs of which maps are made, where there are any so large.
const LEAST_MAP: usize = 4;

/// What there is to see of a trained model.
#[derive(Serialize)]
pub struct Look {
    /// The filters of its first convolution; none where that sees no colours.
    pub filters: Option<Filters>,
    /// Of every layer that cuts at zero, the channels that never answer.
    pub silent: Vec<Silent>,
    /// How many images those were looked for on.
    pub images: usize,
    /// What chosen layers make of the first image that is looked into.
    pub activations: Vec<Activation>,
    /// The layer of the maps; none where the model has no images inside.
    pub map_layer: Option<String>,
    /// Where in the images classes are seen.
    pub maps: Vec<ClassMap>,
}

/// The filters of a layer.
#[derive(Serialize)]
pub struct Filters {
    /// The layer.
    pub layer: String,
    /// Height, width and number.
    pub dims: [usize; 3],
    /// The largest weight, without its sign.
    pub largest: f32,
    /// `[height, width, 3, number]`.
    #[serde(skip)]
    pub weights: ArrayD<f32>,
}

/// Channels of a layer that are zero for every image.
#[derive(Serialize)]
pub struct Silent {
    /// The layer.
    pub layer: String,
    /// How many channels it has.
    pub channels: usize,
    /// Numbers of those that are zero.
    pub silent: Vec<usize>,
}

/// Outputs of a layer for an image.
#[derive(Serialize)]
pub struct Activation {
    /// The layer.
    pub layer: String,
    /// Height, width and channels.
    pub dims: [usize; 3],
    /// The smallest.
    pub smallest: f32,
    /// The largest.
    pub largest: f32,
    /// Share of zeros.
    pub zeros: f32,
    /// `[height, width, channels]`.
    #[serde(skip)]
    pub values: ArrayD<f32>,
}

/// Where in an image a class is seen (Grad-CAM).
#[derive(Serialize)]
pub struct ClassMap {
    /// Number of the image, among those that are looked into.
    pub image: usize,
    /// Number of the class.
    pub class: usize,
    /// Rows of how much each place speaks for the class; 0 and more.
    pub map: Vec<Vec<f32>>,
}

/// Questions to a model.
pub struct Asked<'a> {
    /// Images on which silent channels are looked for.
    pub sample: &'a Images,
    /// Images to look into; the first one's activations are shown.
    pub images: &'a Images,
    /// Of these images, by number, the classes to map.
    pub classes: &'a [(usize, usize)],
    /// Layers whose activations are shown; if there are none, one of each size.
    pub layers: &'a [String],
}

/// Images of a run of the model, `most` if they are small: larger ones take memory, and a signal
/// waits for the end of a run.
pub fn batch_size(most: usize, side: usize) -> usize {
    (most * SMALL * SMALL / (side * side).max(1)).clamp(1, most)
}

impl Look {
    /// Takes a look. `goes_on` is asked between runs of the model.
    ///
    /// # Errors
    /// If a layer does not exist; if the device fails; what `goes_on` returns.
    pub fn at(
        model: &LoadedModel,
        device: &mut dyn Device,
        asked: &Asked,
        goes_on: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Look> {
        let (layers, parameters) = inside(model)?;
        let silent = silent(model, device, asked.sample, &layers, goes_on)?;
        let images = model.spec.scaled(asked.images.array()?.view());
        let shown = images_inside(&layers);
        let mut chosen: Vec<&str> = match asked.layers {
            [] => shown.iter().map(|layer| layer.name.as_str()).collect(),
            named => named.iter().map(String::as_str).collect(),
        };
        let mut known = BTreeSet::new();
        chosen.retain(|layer| known.insert(*layer));
        goes_on()?;
        let activations = match images.is_empty() {
            true => Vec::new(),
            false => shown_activations(model, device, images.slice_axis(Axis(0), (..1).into()), &chosen)?,
        };
        goes_on()?;
        let map_layer = map_layer(&shown).map(String::from);
        let maps = match &map_layer {
            Some(layer) if !asked.classes.is_empty() => {
                maps(model, device, images.view(), (layer, asked.classes), goes_on)?
            }
            _ => Vec::new(),
        };
        let filters = filters(model, &parameters)?;
        Ok(Look { filters, silent, images: asked.sample.len(), activations, map_layer, maps })
    }
}

/// Where in each of these images a class is seen, one of its own for each; none where the model has
/// no images inside. `goes_on` is asked between runs of the model.
///
/// # Errors
/// If the device fails; what `goes_on` returns.
pub fn class_maps(
    model: &LoadedModel,
    device: &mut dyn Device,
    images: &Images,
    classes: &[usize],
    goes_on: &mut dyn FnMut() -> Result<()>,
) -> Result<Vec<ClassMap>> {
    let (layers, _) = inside(model)?;
    let Some(layer) = map_layer(&images_inside(&layers)).map(String::from) else { return Ok(Vec::new()) };
    let asked: Vec<(usize, usize)> = classes.iter().copied().enumerate().collect();
    maps(model, device, model.spec.scaled(images.array()?.view()).view(), (&layer, &asked), goes_on)
}

/// Of a measured set, images and classes that are worth a look.
pub struct Worth {
    /// Numbers of the images in the set: the first is right if any is, then come the worst
    /// mistakes.
    pub images: Vec<u32>,
    /// Of these images, by number, the classes to map: of the first the one that was predicted, of
    /// a mistake what was predicted, and the label.
    pub classes: Vec<(usize, usize)>,
}

impl Worth {
    /// The worst mistakes, up to so many, and an image that is right.
    pub fn of(analysis: &Analysis, mistakes: usize) -> Worth {
        let right = analysis.predictions.iter().find(|prediction| prediction.is_right());
        let first = right.or(analysis.predictions.first());
        let mut worth = Worth { images: Vec::new(), classes: Vec::new() };
        if let Some(prediction) = first {
            worth.images.push(prediction.index as u32);
            worth.classes.push((0, prediction.predicted));
        }
        for wrong in analysis.mistakes().into_iter().take(mistakes) {
            let image = worth.images.len();
            worth.images.push(wrong.index as u32);
            worth.classes.extend([(image, wrong.predicted), (image, wrong.label)]);
        }
        worth
    }
}

/// The layers of a model and its parameters.
fn inside(model: &LoadedModel) -> Result<(Vec<Layer>, Vec<Parameter>)> {
    let mut graph = Graph::new();
    let size = model.spec.image_size;
    let images = graph.input("images", TensorType::f32([1, size, size, CHANNELS]));
    let Network { layers, parameters, .. } = Network::of(&model.spec, &mut graph, images)?;
    Ok((layers, parameters))
}

/// Height and width of a layer's outputs, if they are images.
fn sides(layer: &Layer) -> Option<[usize; 2]> {
    match *layer.output.dims() {
        [_, height, width, _] if height * width > 1 => Some([height, width]),
        _ => None,
    }
}

/// Of the layers with images as outputs, the last of each size; convolutions, normalisations and
/// poolings count only where no other layer is left.
fn images_inside(layers: &[Layer]) -> Vec<&Layer> {
    let is_plain = |layer: &&Layer| {
        !["conv2d", "depthwise", "whitening", "batch_norm", "max_pool"].contains(&layer.kind)
    };
    let mut chosen: Vec<&Layer> = Vec::new();
    for layer in layers.iter().filter(is_plain).chain(layers) {
        let Some(size) = sides(layer) else { continue };
        match chosen.iter_mut().find(|known| sides(known) == Some(size)) {
            Some(known) if is_plain(&layer) || !is_plain(known) => *known = layer,
            Some(_) => {}
            None => chosen.push(layer),
        }
    }
    chosen.sort_by_key(|layer| std::cmp::Reverse(sides(layer)));
    chosen
}

/// Of layers with images as outputs, the one with the smallest that are still large enough for a
/// map.
fn map_layer<'a>(shown: &[&'a Layer]) -> Option<&'a str> {
    let large = shown.iter().rev().find(|layer| sides(layer).is_some_and(|[h, w]| h.min(w) >= LEAST_MAP));
    large.or(shown.first()).map(|layer| layer.name.as_str())
}

/// The filters of the first convolution, which sees colours.
fn filters(model: &LoadedModel, parameters: &[Parameter]) -> Result<Option<Filters>> {
    let first = parameters.iter().find(|parameter| parameter.shape.dims().len() == 4);
    let Some(&[height, width, CHANNELS, count]) = first.map(|first| first.shape.dims()) else {
        return Ok(None);
    };
    let all = model.values(parameters)?;
    let found =
        parameters.iter().zip(all).find(|(parameter, _)| Some(&parameter.name) == first.map(|f| &f.name));
    let Some((parameter, values)) = found else { return Ok(None) };
    let largest = values.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
    let layer = parameter.name.strip_suffix(".weight").unwrap_or(&parameter.name).to_string();
    let weights = ArrayD::from_shape_vec(parameter.shape.dims(), values);
    let weights = weights.map_err(|error| crate::error::Error::op(&parameter.name, error.to_string()))?;
    Ok(Some(Filters { layer, dims: [height, width, count], largest, weights }))
}

/// Channels of the layers that cut at zero which are zero for all images.
fn silent(
    model: &LoadedModel,
    device: &mut dyn Device,
    images: &Images,
    layers: &[Layer],
    goes_on: &mut dyn FnMut() -> Result<()>,
) -> Result<Vec<Silent>> {
    let cut: Vec<&str> =
        layers.iter().filter(|l| ["relu", "relu6"].contains(&l.kind)).map(|l| l.name.as_str()).collect();
    if cut.is_empty() || images.is_empty() {
        return Ok(Vec::new());
    }
    let mut largest: Vec<ArrayD<f32>> = Vec::new();
    let together = batch_size(BATCH, seen_side(model));
    for first in (0..images.len()).step_by(together) {
        goes_on()?;
        let batch: Vec<u32> = (first as u32..images.len().min(first + together) as u32).collect();
        let batch = images.subset(&batch);
        let maxima = channel_maxima(model, device, model.spec.scaled(batch.array()?.view()).view(), &cut)?;
        if largest.is_empty() {
            largest = maxima;
        } else {
            largest
                .iter_mut()
                .zip(&maxima)
                .for_each(|(known, new)| known.zip_mut_with(new, |a, b| *a = a.max(*b)));
        }
    }
    let silent = |(layer, largest): (&&str, &ArrayD<f32>)| Silent {
        layer: layer.to_string(),
        channels: largest.len(),
        silent: largest
            .iter()
            .enumerate()
            .filter(|(_, value)| **value <= 0.0)
            .map(|(channel, _)| channel)
            .collect(),
    };
    Ok(cut.iter().zip(&largest).map(silent).collect())
}

fn shown_activations(
    model: &LoadedModel,
    device: &mut dyn Device,
    image: ArrayView4<f32>,
    layers: &[&str],
) -> Result<Vec<Activation>> {
    let found = activations(model, device, image, layers)?;
    let shown = |(layer, values): (&&str, ArrayD<f32>)| {
        let values = values.index_axis_move(Axis(0), 0);
        // A vector is an image of one pixel.
        let dims = match *values.shape() {
            [height, width, channels] => [height, width, channels],
            _ => [1, 1, values.len()],
        };
        let zeros = values.iter().filter(|value| **value == 0.0).count() as f32 / values.len() as f32;
        let smallest = values.iter().copied().fold(f32::INFINITY, f32::min);
        let largest = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        Activation { layer: layer.to_string(), dims, smallest, largest, zeros, values }
    };
    Ok(layers.iter().zip(found).map(shown).collect())
}

/// Maps of classes, in batches.
fn maps(
    model: &LoadedModel,
    device: &mut dyn Device,
    images: ArrayView4<f32>,
    (layer, asked): (&str, &[(usize, usize)]),
    goes_on: &mut dyn FnMut() -> Result<()>,
) -> Result<Vec<ClassMap>> {
    let mut maps = Vec::new();
    for asked in asked.chunks(batch_size(2 * BATCH, seen_side(model))) {
        goes_on()?;
        let (rows, classes): (Vec<usize>, Vec<usize>) = asked.iter().copied().unzip();
        let found = grad_cams(model, device, images.select(Axis(0), &rows).view(), layer, &classes)?;
        let rows = |map: ArrayView2<f32>| map.outer_iter().map(|row| row.to_vec()).collect();
        let map = |(&(image, class), map)| ClassMap { image, class, map: rows(map) };
        maps.extend(asked.iter().zip(found.outer_iter()).map(map));
    }
    Ok(maps)
}

/// Side of the images that the model's layers see.
fn seen_side(model: &LoadedModel) -> usize {
    model.spec.image_size.max(model.spec.variant.input_size)
}
