//! Steps of an optimizer as a part of a graph, and what may be done beside them: gradients clipped
//! before, averages of the weights kept after.

use super::optimizers::{Optimizer, ParameterStep};
use crate::error::{Error, Result};
use crate::exec::Device;
use crate::grad::differentiate;
use crate::graph::{Graph, Value};
use crate::nn::{Builder, Parameter};
use crate::ops::movement::constant::Constant;
use crate::ops::optim::clip::{Clip, ClipFactor};
use crate::ops::optim::moving_average::MovingAverage;
use crate::ops::optim::unscale::Unscale;
use crate::program::Program;
use crate::tensor::TensorType;

/// Adds to a graph what makes each of its runs a step of an optimizer: the gradients of a loss
/// `[1]` by the parameters, without weight decay, and their updates. Inputs: `rate` `f32 [1]`, the
/// learning rate, and `step` `u32 [1]`, the number of the step from 0 (to be written, whether the
/// optimizer reads it or not).
///
/// # Errors
/// If the loss has another shape, a parameter has no influence on it, or an op between them has no
/// gradient.
pub fn minimise(
    graph: &mut Graph,
    loss: Value,
    parameters: &[Parameter],
    optimizer: &Optimizer,
) -> Result<()> {
    graph.check_own(loss, "the loss")?;
    if graph.ty(loss) != &TensorType::f32([1]) {
        return Err(Error::op("the loss", format!("is {}, not f32[1]: a single number", graph.ty(loss))));
    }
    let trained: Vec<&Parameter> = parameters.iter().filter(|parameter| parameter.trainable()).collect();
    let values: Vec<Value> = trained.iter().map(|parameter| parameter.value).collect();
    let one = graph.apply1(Constant { shape: [1].into(), value: 1.0 }, &[])?;
    let gradients = differentiate(graph, &[(loss, one)], &values)?;
    let rate = graph.input("rate", TensorType::f32([1]));
    // A model that draws masks has it already.
    let number = graph.input_named("step").unwrap_or_else(|| graph.input("step", TensorType::u32([1])));
    let momentum = super::optimizers::sgd::MOMENTUM;
    trained.into_iter().zip(gradients).try_for_each(|(parameter, gradient)| {
        let step = ParameterStep { parameter, gradient, decay: 0.0, momentum, rate, number };
        optimizer.add_update(graph, &step)
    })
}

/// A program whose every step ([`Program::step`]) is one of an optimizer, for a loss `[1]` of the
/// layers that were built: `loss` is an output, [`minimise`] adds the rest, and the parameters
/// begin with numbers drawn from the seed.
///
/// # Errors
/// As for [`minimise`] and [`Program::new`]; if there are normalisations, but not of
/// [`Mode::Train`](crate::nn::Mode::Train).
pub fn training(
    layers: Builder,
    loss: Value,
    optimizer: &Optimizer,
    seed: u32,
    device: Box<dyn Device>,
) -> Result<Program> {
    layers.check_learns()?;
    let Builder { graph, parameters, .. } = layers;
    graph.output("loss", loss);
    minimise(graph, loss, &parameters, optimizer)?;
    let mut program = Program::new(graph, device)?;
    program.initialise(&parameters, seed)?;
    Ok(program)
}

/// Divides the gradients of a loss that was multiplied by `scale` by it.
///
/// # Errors
/// None but those of [`Graph::apply`].
pub fn unscale(graph: &mut Graph, gradients: &[Value], scale: f32) -> Result<Vec<Value>> {
    graph.set_layer("unscale");
    gradients.iter().map(|&gradient| graph.apply1(Unscale { scale }, &[gradient])).collect()
}

/// Gradient clipping by the global norm (Pascanu et al. 2013): `g *= min(1, limit / |g|)`. Scales
/// the gradients such that their norm, all together, is at most `limit`; returns the scaled
/// ones.
///
/// # Errors
/// None but those of [`Graph::apply`].
pub fn clip(graph: &mut Graph, gradients: &[Value], limit: f32) -> Result<Vec<Value>> {
    graph.set_layer("clip");
    if gradients.is_empty() {
        return Ok(Vec::new());
    }
    let factor = graph.apply1(ClipFactor { limit }, gradients)?;
    gradients.iter().map(|&gradient| graph.apply1(Clip, &[gradient, factor])).collect()
}

/// The state that holds the moving average of a parameter.
pub fn average_of(parameter: &str) -> String {
    format!("average.{parameter}")
}

/// Keeps a moving average of every parameter that the graph updates (Polyak and Juditsky 1992),
/// with `decay` of it left by each step. It begins at zero, so after t steps it must be divided by
/// `1 - decay^t`, as Adam's moments.
///
/// # Errors
/// None but those of [`Graph::apply`].
pub fn keep_averages(graph: &mut Graph, parameters: &[Parameter], decay: f32) -> Result<()> {
    graph.set_layer("average");
    for (state, new) in graph.updates().to_vec() {
        let Some(parameter) = parameters.iter().find(|parameter| parameter.value == state) else { continue };
        let ty = TensorType::f32(parameter.shape.clone());
        let average = graph.state(&average_of(&parameter.name), ty)?;
        let op = MovingAverage { momentum: 1.0 - decay, scale: 1.0 };
        let moved = graph.apply1(op, &[average, new])?;
        graph.update(average, moved)?;
    }
    Ok(())
}
