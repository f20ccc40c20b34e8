//! The inside of a trained model: what its layers make of images, and what in them speaks for a
//! class. [`look`] takes a look at all of it, which `page` shows.

pub mod look;
#[cfg(feature = "plots")]
pub mod page;

use ndarray::{Array3, ArrayD, ArrayView4, ArrayViewD, Axis, IxDyn};

use crate::error::{Error, Result};
use crate::exec::Device;
use crate::exec::plan::IoBinding;
use crate::grad::differentiate;
use crate::graph::{Graph, Value};
use crate::models::LoadedModel;
use crate::models::Network;
use crate::tensor::TensorType;

/// Outputs of a layer for images `[N, size, size, 3]`, scaled as the model takes them: `[N, ..]`.
///
/// # Errors
/// If there is no such layer; names all. If the images have another size, or values that are not
/// finite; if the device fails.
pub fn activation(
    model: &LoadedModel,
    device: &mut dyn Device,
    images: ArrayView4<f32>,
    layer: &str,
) -> Result<ArrayD<f32>> {
    Ok(activations(model, device, images, &[layer])?.swap_remove(0))
}

/// [`activation`] of several layers.
///
/// # Errors
/// As for it.
pub fn activations(
    model: &LoadedModel,
    device: &mut dyn Device,
    images: ArrayView4<f32>,
    layers: &[&str],
) -> Result<Vec<ArrayD<f32>>> {
    of_layers(model, device, images, layers, |_, output| Ok(output))
}

/// The largest output of every channel of layers over images: `[C]` of each.
///
/// # Errors
/// As for [`activation`].
pub fn channel_maxima(
    model: &LoadedModel,
    device: &mut dyn Device,
    images: ArrayView4<f32>,
    layers: &[&str],
) -> Result<Vec<ArrayD<f32>>> {
    of_layers(model, device, images, layers, |graph, output| {
        let last = graph.dims(output).len() - 1;
        graph.max(output, 0..last)
    })
}

/// What `figure` adds to a graph for the output of each of these layers.
fn of_layers(
    model: &LoadedModel,
    device: &mut dyn Device,
    images: ArrayView4<f32>,
    layers: &[&str],
    figure: impl Fn(&mut Graph, Value) -> Result<Value>,
) -> Result<Vec<ArrayD<f32>>> {
    let mut graph = Graph::new();
    let x = graph.input("images", TensorType::f32(images.shape()));
    let network = Network::of(&model.spec, &mut graph, x)?;
    for &layer in layers {
        let figure = figure(&mut graph, network.layer(layer)?)?;
        graph.output(layer, figure);
    }
    outputs(model, device, (&graph, &network), &[("images", images.into_dyn())])
}

/// Grad-CAM (Selvaraju et al. 2017): how much each place of a layer's output speaks for a class,
/// `[N, height, width]`. Channels are weighted by the mean gradient of the class's logit by them;
/// of their sum, what is above zero counts. Images as for [`activation`].
///
/// # Errors
/// As for [`activation`]; if the layer's outputs are no images, or the class is none of the
/// model's; if an op behind the layer has no gradient.
pub fn grad_cam(
    model: &LoadedModel,
    device: &mut dyn Device,
    images: ArrayView4<f32>,
    layer: &str,
    class: usize,
) -> Result<Array3<f32>> {
    grad_cams(model, device, images, layer, &vec![class; images.shape()[0]])
}

/// [`grad_cam`] of a class for each image.
///
/// # Errors
/// As for it.
pub fn grad_cams(
    model: &LoadedModel,
    device: &mut dyn Device,
    images: ArrayView4<f32>,
    layer: &str,
    of: &[usize],
) -> Result<Array3<f32>> {
    let (count, classes) = (images.shape()[0], model.spec.classes.len());
    if of.len() != count {
        return Err(Error::op(layer, format!("{} classes are not one for each of {count} images", of.len())));
    }
    if let Some(class) = of.iter().find(|class| **class >= classes) {
        return Err(Error::Usage(format!("the model has {classes} classes, there is no class {class}")));
    }
    let mut graph = Graph::new();
    let x = graph.input("images", TensorType::f32(images.shape()));
    let network = Network::of(&model.spec, &mut graph, x)?;
    let features = network.layer(layer)?;
    let &[_, height, width, _] = graph.dims(features) else {
        let problem = format!("gives {}, which has no places to point at", graph.ty(features));
        return Err(Error::op(layer, problem));
    };
    let chosen = graph.input("chosen", TensorType::f32([count, classes]));
    let gradient = differentiate(&mut graph, &[(network.logits, chosen)], &[features])?[0];
    graph.output("features", features);
    graph.output("gradient", gradient);
    let chosen = ArrayD::from_shape_fn(IxDyn(&[count, classes]), |place| f32::from(place[1] == of[place[0]]));
    let inputs = [("images", images.into_dyn()), ("chosen", chosen.view())];
    let read = outputs(model, device, (&graph, &network), &inputs)?;
    let (features, gradient) = (&read[0], &read[1]);
    let weights = gradient.sum_axis(Axis(2)).sum_axis(Axis(1)) / (height * width) as f32;
    let map = (features * weights.insert_axis(Axis(1)).insert_axis(Axis(1))).sum_axis(Axis(3));
    let map = map.into_dimensionality().map_err(|error| Error::op(layer, error.to_string()))?;
    Ok(map.mapv_into(|value| value.max(0.0)))
}

/// Runs a graph with a model in it once, with the model's weights; returns the graph's outputs.
fn outputs(
    model: &LoadedModel,
    device: &mut dyn Device,
    (graph, network): (&Graph, &Network),
    inputs: &[(&str, ArrayViewD<f32>)],
) -> Result<Vec<ArrayD<f32>>> {
    let finite = |(_, values): &(&str, ArrayViewD<f32>)| values.iter().all(|value| value.is_finite());
    if let Some((name, _)) = inputs.iter().find(|input| !finite(input)) {
        return Err(Error::op(*name, "has values that are not finite numbers"));
    }
    let values = model.values(&network.parameters)?;
    let plan = device.plan(graph)?;
    let outputs: Vec<IoBinding> = plan.outputs.clone();
    let plan = device.load_plan(plan, None)?;
    let mut run = || {
        for (parameter, values) in network.parameters.iter().zip(&values) {
            device.write_state(plan, &parameter.name, values.as_slice().into())?;
        }
        for (name, values) in inputs {
            let values = values.as_standard_layout();
            device.write(plan, name, values.as_slice().unwrap_or_default().into())?;
        }
        device.run(plan)?;
        let read = outputs.iter().map(|output| {
            let values = device.read(plan, &output.name)?;
            let array = ArrayD::from_shape_vec(output.ty.dims(), values);
            array.map_err(|error| Error::op(&output.name, error.to_string()))
        });
        read.collect()
    };
    let read = run();
    device.unload(plan)?;
    read
}
