//! Muon: filters move by the orthogonal matrix that is nearest to their momentum, so that no
//! direction is left behind.
//!
//! From Jordan, "Muon: An optimizer for hidden layers in neural networks" (2024). Everything but
//! filters is left to [`SGD`].
//!
//! A convolution's weights `[KH, KW, C, K]` are taken as a matrix of K columns. With its momentum,
//! Nesterov's look-ahead, and Newton and Schulz's iteration, which is for the shorter side's
//! products, so for a tall x:
//!
//! `b = 0.6 b + g`, `x = (g + 0.6 b) / |g + 0.6 b|`, three times `x = 3.4445 x + x (-4.7750 A +
//! 2.0315 A A)` with `A = x' x`, and `w = sqrt(K) w / |w| - rate x`.
//!
//! The weights are brought to one norm in each step, as in Jordan's training of CIFAR-10 (arXiv
//! 2404.00498): a normalisation behind them takes their size out anyway, and the rate is then a
//! share of it. The numbers are that training's.

use super::sgd::SGD;
use super::{Optimizer, ParameterStep};
use crate::error::Result;
use crate::graph::{Graph, Value};
use crate::nn::Parameter;
use crate::ops::Function;
use crate::ops::linear::matmul::Matmul;
use crate::ops::movement::constant::Constant;
use crate::ops::movement::reshape::Reshape;
use crate::ops::optim::sum_squares::SumSquares;
use crate::weights::layout::Layout;

/// Muon for the filters, SGD for the rest.
pub static MUON: Optimizer = Optimizer {
    name: "muon",
    about: "Orthogonal steps for filters (Jordan 2024), and for the rest sgd, at 1.67 times the rate",
    usual_rate: USUAL_RATE,
    usual_decay: SGD.usual_decay,
    lowered: SGD.lowered,
    sets_norms: true,
    moment: SGD.moment,
    takes_momentum: true,
    leaves: |parameter| !is_filter(parameter),
    // What is usual there, where the rate is what is usual here.
    left_share: SGD.usual_rate / USUAL_RATE,
    idle: |parameter, p, decay| if is_filter(parameter) { 0.0 } else { (SGD.idle)(parameter, p, decay) },
    update,
};

/// The rate for filters in batches of [`super::USUAL_BATCH`].
const USUAL_RATE: f32 = 0.06;

const MOMENTUM: f32 = 0.6;
const ITERATIONS: usize = 3;
const COEFFICIENTS: [f32; 3] = [3.4445, -4.7750, 2.0315];

/// Addend of a norm, which may be zero.
const EPSILON: f32 = 1e-7;

/// Whether a parameter is a matrix of filters; those of one channel each are none.
fn is_filter(parameter: &Parameter) -> bool {
    matches!(parameter.layout, Layout::Convolution) && parameter.shape.dims()[2] > 1
}

fn update(graph: &mut Graph, step: &ParameterStep) -> Result<()> {
    if !is_filter(step.parameter) {
        return (SGD.update)(graph, step);
    }
    let (p, b) = (step.parameter.value, step.state(graph, MUON.moment)?);
    let kept = graph.scale(b, MOMENTUM)?;
    let b_next = graph.add(kept, step.gradient)?;
    let ahead = graph.scale(b_next, MOMENTUM)?;
    let ahead = graph.add(step.gradient, ahead)?;
    let moved = orthogonal(graph, ahead)?;
    let moved = graph.mul(moved, step.rate)?;
    let filters = step.parameter.shape.last() as f32;
    let of_one_norm = normalised(graph, p)?;
    let of_one_norm = graph.scale(of_one_norm, filters.sqrt())?;
    let p_next = graph.sub(of_one_norm, moved)?;
    graph.update(p, p_next)?;
    graph.update(b, b_next)
}

/// About the orthogonal matrix that is nearest to x, taken as a matrix of its last axis' columns:
/// singular values become numbers around 1.
fn orthogonal(graph: &mut Graph, x: Value) -> Result<Value> {
    let shape = graph.ty(x).shape.clone();
    let columns = shape.last();
    let rows = shape.len() / columns;
    let x = normalised(graph, x)?;
    let mut x = graph.apply1(Reshape { shape: [rows, columns].into() }, &[x])?;
    let [linear, cubic, quintic] = COEFFICIENTS;
    let is_tall = rows > columns;
    for _ in 0..ITERATIONS {
        let a = graph
            .apply1(Matmul { a_transposed: is_tall, b_transposed: !is_tall, ..Matmul::default() }, &[x, x])?;
        let square = graph.matmul(a, a)?;
        let a = graph.scale(a, cubic)?;
        let square = graph.scale(square, quintic)?;
        let polynomial = graph.add(a, square)?;
        let factors = if is_tall { [x, polynomial] } else { [polynomial, x] };
        let product = graph.apply1(Matmul::default(), &factors)?;
        let scaled = graph.scale(x, linear)?;
        x = graph.add(scaled, product)?;
    }
    graph.apply1(Reshape { shape }, &[x])
}

/// `x / (|x| + epsilon)`.
fn normalised(graph: &mut Graph, x: Value) -> Result<Value> {
    let squares = graph.apply1(SumSquares, &[x])?;
    let norm = graph.map(Function::Sqrt, squares)?;
    let epsilon = graph.apply1(Constant { shape: [1].into(), value: EPSILON }, &[])?;
    let norm = graph.add(norm, epsilon)?;
    graph.div(x, norm)
}
