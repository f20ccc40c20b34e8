//! What may be done besides an optimizer's step: gradients clipped before it, averages of the
//! weights kept after it.

use crate::error::Result;
use crate::graph::{Graph, Value};
use crate::nn::Parameter;
use crate::ops::map::add::Add;
use crate::ops::optim::clip::Clip;
use crate::ops::optim::moving_average::MovingAverage;
use crate::ops::optim::sum_squares::SumSquares;
use crate::tensor::TensorType;

/// Scales the gradients such that their norm, all together, is at most `limit`; returns the scaled
/// ones.
///
/// # Errors
/// None but those of [`Graph::apply`].
pub fn clip(graph: &mut Graph, gradients: &[Value], limit: f32) -> Result<Vec<Value>> {
    graph.set_layer("clip");
    let mut total = None;
    for &gradient in gradients {
        let squares = graph.apply1(SumSquares, &[gradient])?;
        total = Some(match total {
            None => squares,
            Some(total) => graph.apply1(Add, &[total, squares])?,
        });
    }
    let Some(total) = total else { return Ok(Vec::new()) };
    gradients.iter().map(|&gradient| graph.apply1(Clip { limit }, &[gradient, total])).collect()
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
