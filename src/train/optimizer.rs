//! Optimizers: what is added to the graph for each parameter and its gradient.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::graph::{Graph, Value};
use crate::nn::Parameter;
use crate::ops::adam::{Adam, EpsilonForm};
use crate::ops::sgd::Sgd;
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

impl FromStr for Optimizer {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let found = NAMES.iter().find(|(_, known)| *known == name).map(|(optimizer, _)| *optimizer);
        found.ok_or_else(|| {
            Error::Usage(format!("there is no optimizer '{name}'; choose sgd, adam or keras-adam"))
        })
    }
}

impl Optimizer {
    /// Adds the updates of `parameters` by their gradients; `rate` is `f32 [1]`, `step` `u32 [1]`, from 0.
    /// Moments become states named after the parameter.
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
            let moment = |name: &str, graph: &mut Graph| {
                graph.state(&format!("{name}.{}", parameter.name), TensorType::f32(parameter.shape.clone()))
            };
            let p = parameter.value;
            let (olds, news) = match self {
                Optimizer::Sgd => {
                    let b = moment("momentum", graph)?;
                    let op = Sgd { momentum: 0.9, nesterov: true, decay };
                    (vec![p, b], graph.apply(op, &[p, b, gradient, rate])?)
                }
                Optimizer::Adam | Optimizer::KerasAdam => {
                    let (m, v) = (moment("adam_m", graph)?, moment("adam_v", graph)?);
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
