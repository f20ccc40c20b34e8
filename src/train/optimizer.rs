//! Optimizers: what is added to the graph for each parameter and its gradient.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::graph::{Graph, Value};
use crate::nn::Parameter;
use crate::ops::adam::{Adam, EpsilonForm};
use crate::ops::add::Add;
use crate::ops::clip::Clip;
use crate::ops::moving_average::MovingAverage;
use crate::ops::sgd::Sgd;
use crate::ops::sum_squares::SumSquares;
use crate::tensor::TensorType;

/// Which optimizer. Weight decay is given apart, and applies to weights only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Optimizer {
    /// Nesterov momentum 0.9; decay is added to the gradient.
    Sgd,
    /// PyTorch's AdamW: betas 0.9 and 0.999, epsilon 1e-8, decoupled decay.
    Adam,
    /// Keras's Adam: the same betas, epsilon 1e-7 in Keras's place.
    KerasAdam,
}

const NAMES: [(Optimizer, &str); 3] =
    [(Optimizer::Sgd, "sgd"), (Optimizer::Adam, "adam"), (Optimizer::KerasAdam, "keras-adam")];

impl fmt::Display for Optimizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(NAMES.iter().find(|(optimizer, _)| optimizer == self).map_or("", |(_, name)| name))
    }
}

impl Optimizer {
    /// The names of all optimizers.
    pub fn names() -> [&'static str; NAMES.len()] {
        NAMES.map(|(_, name)| name)
    }
}

impl FromStr for Optimizer {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let found = NAMES.iter().find(|(_, known)| *known == name).map(|(optimizer, _)| *optimizer);
        found.ok_or_else(|| {
            Error::Usage(format!("there is no optimizer '{name}'; choose sgd, adam or keras-adam"))
        })
    }
}

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

impl Optimizer {
    /// The state that [`Optimizer::was_zero`] looks at.
    pub fn moment_of(self, parameter: &str) -> String {
        match self {
            Optimizer::Sgd => format!("momentum.{parameter}"),
            Optimizer::Adam | Optimizer::KerasAdam => format!("adam_m.{parameter}"),
        }
    }

    /// Whether an element's gradient was zero in a step that found the moment at zero, and the
    /// parameter at `p`; none where it was not finite. `moment` is what the step left.
    pub fn was_zero(self, moment: f32, p: f32, decay: f32) -> Option<bool> {
        let decayed = if self == Optimizer::Sgd { decay * p } else { 0.0 };
        moment.is_finite().then_some(moment == decayed)
    }

    /// Adds the updates of `parameters` by their gradients; `rate` is `f32 [1]`, `step` `u32 [1]`,
    /// from 0. Moments become states named after the parameter.
    ///
    /// # Errors
    /// If a gradient has another shape than its parameter.
    pub fn add_updates(
        self,
        graph: &mut Graph,
        parameters: &[&Parameter],
        gradients: &[Value],
        decay: f32,
        [rate, step]: [Value; 2],
    ) -> Result<()> {
        for (parameter, &gradient) in parameters.iter().zip(gradients) {
            graph.set_layer(&parameter.name);
            let decay = if parameter.decay { decay } else { 0.0 };
            let moment =
                |name: &str, graph: &mut Graph| graph.state(name, TensorType::f32(parameter.shape.clone()));
            let p = parameter.value;
            let (olds, news) = match self {
                Optimizer::Sgd => {
                    let b = moment(&self.moment_of(&parameter.name), graph)?;
                    let op = Sgd { momentum: 0.9, nesterov: true, decay };
                    (vec![p, b], graph.apply(op, &[p, b, gradient, rate])?)
                }
                Optimizer::Adam | Optimizer::KerasAdam => {
                    let m = moment(&self.moment_of(&parameter.name), graph)?;
                    let v = moment(&format!("adam_v.{}", parameter.name), graph)?;
                    let (epsilon, epsilon_form) = match self {
                        Optimizer::KerasAdam => (1e-7, EpsilonForm::Keras),
                        _ => (1e-8, EpsilonForm::Torch),
                    };
                    let op = Adam { beta1: 0.9, beta2: 0.999, epsilon, epsilon_form, decay };
                    (vec![p, m, v], graph.apply(op, &[p, m, v, gradient, rate, step])?)
                }
            };
            for (old, new) in olds.into_iter().zip(news) {
                graph.update(old, new)?;
            }
        }
        Ok(())
    }
}
