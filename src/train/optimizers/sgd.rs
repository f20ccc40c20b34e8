//! Stochastic gradient descent; see [`crate::ops::optim::sgd`] for the mathematics.

use super::{Optimizer, ParameterStep, update_all};
use crate::error::Result;
use crate::graph::Graph;
use crate::ops::optim::sgd::Sgd;

/// How much of the momentum stays, where nothing else is chosen.
pub const MOMENTUM: f32 = 0.9;

/// Nesterov momentum; decay is added to the gradient.
pub static SGD: Optimizer = Optimizer {
    name: "sgd",
    about: "Nesterov momentum, weight decay added to the gradient",
    usual_rate: 0.1,
    usual_decay: 1e-3,
    lowered: |share| share,
    sets_norms: false,
    moment: "momentum",
    takes_momentum: true,
    leaves: |_| false,
    left_share: 1.0,
    idle: |_, p, decay| decay * p,
    update,
};

fn update(graph: &mut Graph, step: &ParameterStep) -> Result<()> {
    let states = [step.parameter.value, step.state(graph, SGD.moment)?];
    let op = Sgd { momentum: step.momentum, nesterov: true, decay: step.decay };
    let news = graph.apply(op, &[states[0], states[1], step.gradient, step.rate])?;
    update_all(graph, &states, news)
}
