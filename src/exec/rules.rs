//! Rewriting rules that are worth it on every device.
//!
//! Those of a CPU alone are in [`super::cpu`]'s `rules`; each device lists what it uses.

use std::sync::Arc;

use super::epilogue_rules::can_activate;
use crate::error::Result;
use crate::graph::rewrite::{Rule, downcast};
use crate::graph::{Graph, Node, Value};
use crate::kernels::function::{Of, beyond_clamp};
use crate::ops::conv::{Conv, Output};
use crate::ops::linear::sum_rows::SumRows;
use crate::ops::map::unary::UnaryGrad;
use crate::ops::movement::constant::Constant;
use crate::ops::norm::batch_norm::BatchNorm;
use crate::ops::norm::batch_norm_grad::BatchNormGrad;
use crate::ops::norm::batch_norm_infer::BatchNormInfer;
use crate::ops::norm::batch_norm_max_pool::{BatchNormMaxPool, POOL};
use crate::ops::norm::batch_norm_max_pool_grad::BatchNormMaxPoolGrad;
use crate::ops::norm::fold_batch_norm::FoldBatchNorm;
use crate::ops::norm::moments::Moments;
use crate::ops::optim::clip::{Clip, ClipFactor};
use crate::ops::optim::unscale::Unscale;
use crate::ops::pool::max_pool::MaxPool;
use crate::ops::pool::max_pool_grad::MaxPoolGrad;
use crate::ops::pool::max_pool_places::MaxPoolPlaces;
use crate::ops::pool::max_pool_places_grad::MaxPoolPlacesGrad;

/// A bias that a normalisation takes away again has no gradient: `dy` adds the same to all rows of
/// x, of which the mean goes. Computed, the sum is what rounding leaves of a pass over all of dx.
pub const ZERO_SUM: Rule = Rule {
    name: "zero sum",
    replaces: "sum_rows(batch_norm_grad(dy, x, ..)) => zeros",
    when: "mean and variance are those of x",
    apply: zero_sum,
};

/// What is known to be zero stays so, whatever it is multiplied by, and adds nothing to a norm.
pub const ZEROS_SCALED: Rule = Rule {
    name: "zeros scaled",
    replaces: "clip(zeros, clip_factor(zeros, g, ..)) => zeros, with clip_factor(g, ..); unscale(zeros) => zeros",
    when: "always",
    apply: zeros_scaled,
};

/// The gradient that passed the activation is worked out from x again.
pub const ACTIVATION_GRAD: Rule = Rule {
    name: "activation's gradient",
    replaces: "batch_norm_grad(a_grad(dy, y), x, ..) => batch_norm_grad[a](dy, x, ..)",
    when: "y is the normalised x, with a if its slope is one of its value; nothing else reads what is between",
    apply: activation_grad,
};

/// The two halves of a normalisation with the statistics of its batch, so that each can join its
/// neighbours.
pub const STATISTICS: Rule = Rule {
    name: "statistics",
    replaces: "batch_norm(x, gamma, beta) => batch_norm_infer(x, gamma, beta, moments(x))",
    when: "always",
    apply: statistics,
};

/// Normalised values that are only pooled are not stored at all.
pub const POOLING: Rule = Rule {
    name: "pooling",
    replaces: "max_pool(batch_norm_infer(x, ..)) => batch_norm_max_pool(x, ..), and so their gradients",
    when: "the windows are 2x2, the statistics computed, the activation a cut; nothing else reads what is between",
    apply: pooling,
};

/// Places of the maxima are kept in place of what was pooled, which they tell the gradient.
pub const PLACES: Rule = Rule {
    name: "places",
    replaces: "max_pool(conv(x, w)) => max_pool_places(conv(x, w)), and max_pool_grad => max_pool_places_grad",
    when: "nothing else reads the convolution's output; a place fits a byte",
    apply: places,
};

/// In inference a normalisation is a change of the weights before it.
pub const FOLD: Rule = Rule {
    name: "fold",
    replaces: "batch_norm_infer(conv(x, w, b), ..) => conv(x, fold_batch_norm(w, b, ..))",
    when: "nothing else reads the convolution's output",
    apply: fold,
};

/// Operands of the gradient of a normalisation: what was normalised, mean and variance.
fn norm_grad_operands(node: &Node) -> Option<[Value; 3]> {
    let by_itself =
        downcast::<BatchNormGrad>(node).is_some() || downcast::<BatchNormMaxPoolGrad>(node).is_some();
    match (by_itself, &node.inputs[..]) {
        (true, &[_, x, _, _, mean, variance]) => Some([x, mean, variance]),
        (false, &[.., x, _, mean, variance]) => {
            downcast::<Conv>(node).filter(|conv| matches!(conv.output, Output::NormGrad(_)))?;
            Some([x, mean, variance])
        }
        _ => None,
    }
}

/// Whether `mean` and `variance` are those of x.
fn are_moments(graph: &Graph, [x, mean, variance]: [Value; 3]) -> bool {
    let Some(node) = graph.producer(mean).map(|index| &graph.nodes()[index]) else { return false };
    let of = if downcast::<BatchNorm>(node).is_some() || downcast::<Moments>(node).is_some() {
        node.inputs[0]
    } else if downcast::<Conv>(node).is_some_and(|conv| conv.output == Output::Moments) {
        node.outputs[0]
    } else {
        return false;
    };
    of == x && node.outputs.ends_with(&[mean, variance])
}

fn zero_sum(graph: &mut Graph, index: usize) -> Result<bool> {
    let node = &graph.nodes()[index];
    let (Some(SumRows), &[dx], &[sum]) = (downcast(node), &node.inputs[..], &node.outputs[..]) else {
        return Ok(false);
    };
    let Some(gradient) = graph.producer(dx).map(|gradient| &graph.nodes()[gradient]) else {
        return Ok(false);
    };
    let operands = norm_grad_operands(gradient).filter(|_| gradient.outputs[0] == dx);
    if !operands.is_some_and(|operands| are_moments(graph, operands)) {
        return Ok(false);
    }
    let shape = graph.ty(sum).shape.clone();
    let node = graph.node_mut(index);
    node.op = Arc::new(Constant::zeros(shape));
    node.inputs.clear();
    Ok(true)
}

fn zeros_scaled(graph: &mut Graph, index: usize) -> Result<bool> {
    let node = &graph.nodes()[index];
    let is_zero = |&input: &Value| {
        graph.producer_of(input).is_some_and(|(_, constant): (_, &Constant)| constant.value == 0.0)
    };
    let scales = downcast::<Clip>(node).is_some() || downcast::<Unscale>(node).is_some();
    if scales && is_zero(&node.inputs[0]) {
        let shape = graph.ty(node.outputs[0]).shape.clone();
        let node = graph.node_mut(index);
        node.op = Arc::new(Constant::zeros(shape));
        node.inputs.clear();
        return Ok(true);
    }
    let others: Vec<Value> = node.inputs.iter().copied().filter(|input| !is_zero(input)).collect();
    let adds = downcast::<ClipFactor>(node).is_some() && (1..node.inputs.len()).contains(&others.len());
    if adds {
        graph.node_mut(index).inputs = others;
    }
    Ok(adds)
}

fn activation_grad(graph: &mut Graph, index: usize) -> Result<bool> {
    let node = &graph.nodes()[index];
    let Some(&op @ BatchNormGrad { activation: None, .. }) = downcast(node) else {
        return Ok(false);
    };
    let masked = node.inputs[0];
    let Some((slope, &UnaryGrad { function })) = graph.producer_of(masked) else { return Ok(false) };
    let [dy, y] = graph.nodes()[slope].inputs[..] else { return Ok(false) };
    let Some(norm) = graph.producer(y).map(|norm| &graph.nodes()[norm]) else { return Ok(false) };
    let forward = match (downcast(norm), downcast(norm)) {
        (Some(&BatchNorm { activation, .. }), _) | (_, Some(&BatchNormInfer { activation, .. })) => {
            activation
        }
        _ => return Ok(false),
    };
    let expected = (function.slope_of() == Of::Y).then_some(function);
    let same = forward == expected && node.inputs[1..].starts_with(&norm.inputs);
    if !same || norm.outputs[0] != y || !graph.only_reader(masked, index) {
        return Ok(false);
    }
    let node = graph.node_mut(index);
    node.op = Arc::new(BatchNormGrad { activation: Some(function), ..op });
    node.inputs[0] = dy;
    Ok(true)
}

fn statistics(graph: &mut Graph, index: usize) -> Result<bool> {
    let node = graph.nodes()[index].clone();
    let Some(op) = downcast::<BatchNorm>(&node) else { return Ok(false) };
    let apply = op.apply();
    graph.insert(index, Moments, &node.inputs[..1])?;
    graph.node_mut(index).outputs = node.outputs[1..].to_vec();
    let normalise = graph.node_mut(index + 1);
    normalise.op = Arc::new(apply);
    normalise.inputs.extend(&node.outputs[1..]);
    normalise.outputs.truncate(1);
    Ok(true)
}

fn pooling(graph: &mut Graph, index: usize) -> Result<bool> {
    let node = &graph.nodes()[index];
    if downcast(node) != Some(&POOL) {
        return Ok(false);
    }
    let (normalised, pooled) = (node.inputs[0], node.outputs[0]);
    let Some((norm, &op)) = graph.producer_of::<BatchNormInfer>(normalised) else { return Ok(false) };
    let cuts = beyond_clamp(op.activation).is_none();
    let computed = graph.producer(graph.nodes()[norm].inputs[3]).is_some();
    if !computed || graph.is_result(normalised) || !cuts || op.residual {
        return Ok(false);
    }
    let others: Vec<usize> = graph.readers(normalised).filter(|&reader| reader != index).collect();
    let backward = match others[..] {
        [] => None,
        [spread] => match gradient_through(graph, norm, spread, [normalised, pooled]) {
            Some(gradient) => Some((spread, gradient)),
            None => return Ok(false),
        },
        _ => return Ok(false),
    };
    let node = graph.node_mut(norm);
    node.op = Arc::new(BatchNormMaxPool { norm: op.normalise() });
    node.outputs[0] = pooled;
    graph.node_mut(index).outputs.clear();
    if let Some((spread, gradient)) = backward {
        let dy = graph.nodes()[spread].inputs[2];
        let node = graph.node_mut(gradient);
        node.op = Arc::new(BatchNormMaxPoolGrad { norm: op.normalise() });
        node.inputs[0] = dy;
    }
    Ok(true)
}

/// The gradient of node `norm`, if node `spread` is the gradient of its pooling and only feeds
/// that.
fn gradient_through(graph: &Graph, norm: usize, spread: usize, [x, y]: [Value; 2]) -> Option<usize> {
    let &MaxPoolGrad { pool } = downcast(&graph.nodes()[spread])?;
    let spread_values = graph.nodes()[spread].outputs[0];
    let gradient = graph.readers(spread_values).next()?;
    let &BatchNormGrad { activation, .. } = downcast(&graph.nodes()[gradient])?;
    let &BatchNormInfer { activation: forward, .. } = downcast(&graph.nodes()[norm])?;
    let matches = pool == POOL
        && graph.nodes()[spread].inputs[..2] == [x, y]
        && activation == forward
        && graph.nodes()[gradient].inputs[1..] == graph.nodes()[norm].inputs[..]
        && graph.nodes()[gradient].inputs[0] == spread_values;
    (matches && graph.only_reader(spread_values, gradient)).then_some(gradient)
}

fn places(graph: &mut Graph, index: usize) -> Result<bool> {
    let node = graph.nodes()[index].clone();
    let Some(&pool) = downcast::<MaxPool>(&node) else { return Ok(false) };
    let (x, y) = (node.inputs[0], node.outputs[0]);
    let of_conv = graph.producer_of::<Conv>(x).is_some() && !graph.is_result(x);
    let others: Vec<usize> = graph.readers(x).filter(|&reader| reader != index).collect();
    let &[gradient] = &others[..] else { return Ok(false) };
    let spreads = downcast::<MaxPoolGrad>(&graph.nodes()[gradient]).is_some_and(|op| op.pool == pool);
    let matches = spreads && graph.nodes()[gradient].inputs[..2] == [x, y];
    let &[_, height, width, channels] = graph.dims(x) else { return Ok(false) };
    if !of_conv || !matches || !MaxPoolPlaces::suits(pool, channels) {
        return Ok(false);
    }
    let places = graph.insert(index, MaxPoolPlaces { pool }, &[x])?[1];
    graph.node_mut(index).outputs[0] = y;
    graph.node_mut(index + 1).outputs.clear();
    let node = graph.node_mut(gradient + 1);
    node.op = Arc::new(MaxPoolPlacesGrad { pool, height, width });
    node.inputs = vec![places, node.inputs[2]];
    Ok(true)
}

/// The convolution that node `norm`, a normalisation, can be folded into.
pub(super) fn foldable(graph: &Graph, norm: usize) -> Option<usize> {
    let x = graph.nodes()[norm].inputs[0];
    let (index, conv) = graph.producer_of::<Conv>(x)?;
    (can_activate(conv) && !conv.residual && graph.only_reader(x, norm)).then_some(index)
}

fn fold(graph: &mut Graph, norm: usize) -> Result<bool> {
    let normalisation = graph.nodes()[norm].clone();
    let Some(&BatchNormInfer { epsilon, residual, activation }) = downcast(&normalisation) else {
        return Ok(false);
    };
    let Some(index) = foldable(graph, norm) else { return Ok(false) };
    let node = graph.nodes()[index].clone();
    let Some(conv) = downcast::<Conv>(&node) else { return Ok(false) };
    let own_bias = if conv.bias { &node.inputs[2..3] } else { &[] };
    let inputs = [&node.inputs[1..2], &normalisation.inputs[1..5], own_bias].concat();
    let folded = graph.insert(index, FoldBatchNorm { epsilon }, &inputs)?;
    // What the convolution takes beyond its weights and bias stays.
    let rest = &node.inputs[2 + own_bias.len()..];
    let inputs = [&node.inputs[..1], &folded[..], rest, &normalisation.inputs[5..]].concat();
    let op = Arc::new(Conv { activation, residual, bias: true, ..conv.clone() });
    // In the normalisation's place: a residual may be computed after the convolution.
    *graph.node_mut(norm + 1) = Node { op, inputs, outputs: normalisation.outputs, ..node.clone() };
    graph.node_mut(index + 1).outputs.clear();
    Ok(true)
}
