//! Lion: every element moves by the rate, whatever the size of its gradient.
//!
//! From Chen et al., "Symbolic Discovery of Optimization Algorithms" (2023), arXiv 2302.06675,
//! algorithm 2:
//!
//! `c = b1 m + (1 - b1) g`, `p -= rate (sign(c) + decay p)`, `m = b2 m + (1 - b2) g`
//!
//! with b1 0.9 and b2 0.99. So its rate is about a tenth of Adam's, and its decay the larger.

use super::{Optimizer, ParameterStep};
use crate::error::Result;
use crate::graph::{Graph, Value};
use crate::ops::Function;
use crate::ops::map::binary::Function2;
use crate::ops::optim::moving_average::MovingAverage;

/// Lion with its authors' betas.
pub static LION: Optimizer = Optimizer {
    name: "lion",
    about: "The sign of a momentum (Chen et al. 2023): betas 0.9 and 0.99, decoupled weight decay",
    usual_rate: 4e-4,
    usual_decay: 0.1,
    // The size of a gradient is taken out, so that only its noise counts.
    lowered: f32::sqrt,
    sets_norms: false,
    moment: "lion_m",
    takes_momentum: false,
    leaves: |_| false,
    left_share: 1.0,
    idle: |_, _, _| 0.0,
    update,
};

fn update(graph: &mut Graph, step: &ParameterStep) -> Result<()> {
    let (p, m) = (step.parameter.value, step.state(graph, LION.moment)?);
    let average = |beta: f64| MovingAverage { momentum: (1.0 - beta) as f32, scale: 1.0 };
    let c = graph.apply1(average(0.9), &[m, step.gradient])?;
    let mut direction = sign(graph, c)?;
    if step.decay > 0.0 {
        let decay = graph.scale(p, step.decay)?;
        direction = graph.add(direction, decay)?;
    }
    let moved = graph.mul(direction, step.rate)?;
    let moved = graph.sub(p, moved)?;
    let next = graph.apply1(average(0.99), &[m, step.gradient])?;
    graph.update(p, moved)?;
    graph.update(m, next)
}

/// 1, 0 or -1: where `-x < x`, less where `x < -x`.
fn sign(graph: &mut Graph, x: Value) -> Result<Value> {
    let opposite = graph.map(Function::Neg, x)?;
    let above = graph.map2(Function2::Less, opposite, x)?;
    let below = graph.map2(Function2::Less, x, opposite)?;
    graph.sub(above, below)
}
