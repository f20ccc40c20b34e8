//! Optimizers: what is added to the graph for each parameter and its gradient.
//!
//! Each is a file of an [`Optimizer`], and a line of [`OPTIMIZERS`], where options, help, settings
//! and tests find it.
//! Its numbers are held against PyTorch's, which `tools/optimizer_goldens.py` writes down.

pub mod adam;
pub mod keras_adam;
pub mod lion;
pub mod muon;
pub mod sgd;

use crate::error::Result;
use crate::graph::{Graph, Value};
use crate::nn::Parameter;
use crate::registry::registry;
use crate::tensor::TensorType;

/// All optimizers.
pub static OPTIMIZERS: &[&Optimizer] = &[
    // In the order in which help and messages name them.
    &sgd::SGD,
    &adam::ADAM,
    &keras_adam::KERAS_ADAM,
    &lion::LION,
    &muon::MUON,
];

/// The batch that the usual rates are made for.
pub const USUAL_BATCH: usize = 128;

/// An optimizer: everything that options and trainings ask about it.
#[derive(Debug)]
pub struct Optimizer {
    /// In options, files and messages.
    pub name: &'static str,
    /// Description in one line of a help text.
    pub about: &'static str,
    /// The highest rate of a training in batches of [`USUAL_BATCH`], where none is chosen.
    pub usual_rate: f32,
    /// The weight decay where none is chosen.
    pub usual_decay: f32,
    /// How much lower the rate is in batches that are a share of those it is made for: their
    /// gradients are the noisier, their steps the more.
    pub lowered: fn(share: f32) -> f32,
    /// Whether it sets the norms of weights itself, which pretrained layers do not survive.
    pub sets_norms: bool,
    /// The state that shows whether a gradient arrived, before the name of a parameter: it begins
    /// at zero and takes the gradient in.
    pub moment: &'static str,
    /// Whether the momentum is for the training to choose.
    pub takes_momentum: bool,
    /// Whether it leaves a parameter to [`sgd::SGD`], whose rate is then another.
    pub leaves: fn(&Parameter) -> bool,
    /// The rate of what it leaves, as a share of the rate.
    pub left_share: f32,
    /// Value that the first step leaves in that state where an element of the gradient is zero and
    /// the parameter is `p`.
    pub idle: fn(parameter: &Parameter, p: f32, decay: f32) -> f32,
    /// Adds the step of one parameter: updates of it and of its states.
    pub update: fn(&mut Graph, &ParameterStep) -> Result<()>,
}

registry!(Optimizer, "optimizer", OPTIMIZERS);

/// The step of one parameter.
#[derive(Clone, Copy, Debug)]
pub struct ParameterStep<'a> {
    /// The parameter that is moved.
    pub parameter: &'a Parameter,
    /// In the shape of the parameter.
    pub gradient: Value,
    /// Weight decay; 0 for what is not subject to it.
    pub decay: f32,
    /// How much of its momentum a step keeps, where the optimizer asks.
    pub momentum: f32,
    /// The learning rate, `f32 [1]`.
    pub rate: Value,
    /// The number of the step from 0, `u32 [1]`.
    pub number: Value,
}

impl ParameterStep<'_> {
    /// A state in the shape of the parameter, under its name with `prefix` before it. It begins at
    /// zero.
    ///
    /// # Errors
    /// If there is a state of this name and another type.
    pub fn state(&self, graph: &mut Graph, prefix: &str) -> Result<Value> {
        graph.state(&named(prefix, self.parameter), TensorType::f32(self.parameter.shape.clone()))
    }
}

fn named(prefix: &str, parameter: &Parameter) -> String {
    format!("{prefix}.{}", parameter.name)
}

impl Optimizer {
    /// An optimizer of a program's own. `moment` is a state that it keeps for each parameter
    /// ([`ParameterStep::state`]), and that its first step leaves at zero where the gradient is.
    /// A `static` of it that differs takes the rest by `..Optimizer::new(..)`;
    /// [`Optimizer::register`] makes its name known.
    pub const fn new(
        name: &'static str,
        usual_rate: f32,
        moment: &'static str,
        update: fn(&mut Graph, &ParameterStep) -> Result<()>,
    ) -> Optimizer {
        Optimizer {
            name,
            about: "",
            usual_rate,
            usual_decay: 0.0,
            lowered: |share| share,
            sets_norms: false,
            moment,
            takes_momentum: false,
            leaves: |_| false,
            left_share: 1.0,
            idle: |_, _, _| 0.0,
            update,
        }
    }

    /// A rate that is made for batches of some size, in batches of another. Larger ones keep it.
    pub fn rate_in_batches(&self, rate: f32, batch_size: usize, made_for: usize) -> f32 {
        rate * (self.lowered)((batch_size as f32 / made_for as f32).min(1.0))
    }

    /// The state that [`Optimizer::was_zero`] looks at.
    pub fn moment_of(&self, parameter: &Parameter) -> String {
        named(self.moment, parameter)
    }

    /// Whether an element's gradient was zero in a step that found the moment at zero, and the
    /// element at `p`; none where it was not finite. `moment` is what the step left.
    pub fn was_zero(&self, parameter: &Parameter, moment: f32, p: f32, decay: f32) -> Option<bool> {
        moment.is_finite().then(|| moment == (self.idle)(parameter, p, decay))
    }

    /// Adds the step of one parameter. Its moments become states named after it.
    ///
    /// # Errors
    /// If the gradient has another shape than the parameter.
    pub fn add_update(&self, graph: &mut Graph, step: &ParameterStep) -> Result<()> {
        graph.set_layer(&step.parameter.name);
        (self.update)(graph, step)
    }
}

/// Makes the results of an op the new values of states.
pub(super) fn update_all(graph: &mut Graph, states: &[Value], news: Vec<Value>) -> Result<()> {
    states.iter().zip(news).try_for_each(|(&state, new)| graph.update(state, new))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known_and_others_told() {
        for &optimizer in OPTIMIZERS {
            assert_eq!(optimizer.name.parse::<&Optimizer>().unwrap(), optimizer);
            assert!(!optimizer.about.is_empty() && !optimizer.about.ends_with('.'), "{optimizer}");
        }
        let message = "sgdd".parse::<&Optimizer>().unwrap_err().to_string();
        assert!(message.contains("'sgdd'") && Optimizer::names().all(|name| message.contains(name)));
    }

    #[test]
    fn a_smaller_batch_has_a_lower_rate() {
        assert_eq!(sgd::SGD.rate_in_batches(0.1, 8, 128), 0.00625);
        assert_eq!(adam::ADAM.rate_in_batches(4e-3, 32, 128), 2e-3);
        for optimizer in OPTIMIZERS {
            let rates = [16, 64, 128, 512].map(|batch| optimizer.rate_in_batches(0.5, batch, USUAL_BATCH));
            assert!(rates[0] < rates[1] && rates[1] < 0.5, "{optimizer}: {rates:?}");
            assert_eq!(rates[2..], [0.5, 0.5], "{optimizer}");
        }
    }
}
