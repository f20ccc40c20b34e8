//! Adam as PyTorch has it; see [`crate::ops::optim::adam`] for the mathematics.

use super::{Optimizer, ParameterStep, update_all};
use crate::error::Result;
use crate::graph::Graph;
use crate::ops::optim::adam::{Adam, EpsilonForm};

/// PyTorch's AdamW: betas 0.9 and 0.999, epsilon 1e-8, decoupled decay.
pub static ADAM: Optimizer = Optimizer {
    name: "adam",
    about: "PyTorch's AdamW: betas 0.9 and 0.999, epsilon 1e-8, decoupled weight decay",
    usual_rate: 4e-3,
    usual_decay: 0.0,
    // The size of a gradient is taken out, so that only its noise counts.
    lowered: f32::sqrt,
    sets_norms: false,
    moment: "adam_m",
    takes_momentum: false,
    leaves: |_| false,
    left_share: 1.0,
    idle: |_, _, _| 0.0,
    update: |graph, step| update(graph, step, (1e-8, EpsilonForm::Torch)),
};

/// Adam's step, with this epsilon in that place.
pub(super) fn update(
    graph: &mut Graph,
    step: &ParameterStep,
    (epsilon, epsilon_form): (f32, EpsilonForm),
) -> Result<()> {
    let states = [step.parameter.value, step.state(graph, ADAM.moment)?, step.state(graph, "adam_v")?];
    let op = Adam { beta1: 0.9, beta2: 0.999, epsilon, epsilon_form, decay: step.decay };
    let [p, m, v] = states;
    let news = graph.apply(op, &[p, m, v, step.gradient, step.rate, step.number])?;
    update_all(graph, &states, news)
}
