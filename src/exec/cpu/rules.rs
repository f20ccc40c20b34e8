//! Rewriting rules that a CPU's caches make worthwhile: what one op writes is used while it is
//! still in the cache.

use std::sync::Arc;

use crate::error::Result;
use crate::exec::epilogue_rules::{ACTIVATION, DROPPED_MASK, KEPT_ACTIVATION, RESIDUAL, SLOPE, can_activate, summands};
use crate::exec::rules::{ACTIVATION_GRAD, FOLD, PLACES, POOLING, STATISTICS, ZERO_SUM, foldable};
use crate::graph::rewrite::{Rule, downcast};
use crate::graph::{Graph, Value};
use crate::kernels::function::beyond_clamp;
use crate::ops::Op;
use crate::ops::conv::separable_conv2d::SeparableConv2d;
use crate::ops::conv::{Conv, Output, Pass};
use crate::ops::map::unary::Unary;
use crate::ops::norm::batch_norm_grad::BatchNormGrad;
use crate::ops::norm::batch_norm_infer::{BatchNormInfer, Normalise};
use crate::ops::norm::moments::Moments;

/// The rules of a CPU.
pub const RULES: &[&Rule] = &[
    &ZERO_SUM,
    &ACTIVATION,
    &KEPT_ACTIVATION,
    &SLOPE,
    &RESIDUAL,
    &DROPPED_MASK,
    &ACTIVATION_GRAD,
    &STATISTICS,
    &POOLING,
    &PLACES,
    &FOLD,
    &GATHERED_MOMENTS,
    &NORMALISED_INPUT,
    &GATHERED_GRADIENT,
    &SEPARABLE,
];

/// Statistics are gathered from each block of x as it is written.
const GATHERED_MOMENTS: Rule = Rule {
    name: "gathered moments",
    replaces: "moments(conv(x, w)) => conv[moments](x, w)",
    when: "the convolution is a forward one without residual and activation",
    apply: gathered_moments,
};

/// Each worker normalises what it reads, in its cache: the normalised values are neither written
/// nor kept.
const NORMALISED_INPUT: Rule = Rule {
    name: "normalised input",
    replaces: "conv(batch_norm_infer(x, ..), w) => conv[normalise](x, w, ..)",
    when: "all that read the normalised values can; their activation is a cut; they cannot be folded into a convolution before",
    apply: normalised_input,
};

/// The sums that dx needs are gathered from each block of dy as it is written, and dx takes the
/// place of dy.
const GATHERED_GRADIENT: Rule = Rule {
    name: "gathered gradient",
    replaces: "batch_norm_grad(conv_input_grad(dz, w), x, ..) => conv_input_grad[norm_grad](dz, w, x, ..)",
    when: "nothing else reads what is between",
    apply: gathered_gradient,
};

/// The activation between a depthwise convolution and the pointwise one after it never leaves the
/// cache.
const SEPARABLE: Rule = Rule {
    name: "separable",
    replaces: "conv(depthwise(x, w, b), w', b') => separable(x, w, b, w', b')",
    when: "the second looks at one pixel at a time, nothing can join it any more, nothing else reads what is between",
    apply: separable,
};

fn gathered_moments(graph: &mut Graph, index: usize) -> Result<bool> {
    let node = &graph.nodes()[index];
    if downcast::<Moments>(node).is_none() {
        return Ok(false);
    }
    let (x, moments) = (node.inputs[0], node.outputs.clone());
    let Some((conv, op)) = graph.producer_of::<Conv>(x) else { return Ok(false) };
    if !can_activate(op) || op.residual {
        return Ok(false);
    }
    let op = Arc::new(Conv { output: Output::Moments, ..op.clone() });
    let node = graph.node_mut(conv);
    node.op = op;
    node.outputs.extend(moments);
    graph.node_mut(index).outputs.clear();
    Ok(true)
}

/// A convolution that reads `y` as what it can normalise, with the normalisation.
fn normalising(graph: &Graph, reader: usize, y: Value, norm: &BatchNormInfer) -> Option<Arc<dyn Op>> {
    let node = &graph.nodes()[reader];
    let conv: &Conv = downcast(node)?;
    let reads_once = node.inputs[0] == y && !node.inputs[1..].contains(&y);
    let reads_x = !matches!(conv.pass, Pass::InputGrad { .. });
    let fits = reads_once && reads_x && conv.input.is_none() && beyond_clamp(norm.activation).is_none();
    fits.then(|| Arc::new(Conv { input: Some(norm.normalise()), ..conv.clone() }) as Arc<dyn Op>)
}

fn normalised_input(graph: &mut Graph, norm: usize) -> Result<bool> {
    let node = &graph.nodes()[norm];
    let (Some(op), &[y]) = (downcast::<BatchNormInfer>(node), &node.outputs[..]) else { return Ok(false) };
    if op.residual || graph.is_result(y) || foldable(graph, norm).is_some() {
        return Ok(false);
    }
    let fused = graph.readers(y).map(|reader| Some((reader, normalising(graph, reader, y, op)?)));
    let Some(fused) = fused.collect::<Option<Vec<_>>>() else { return Ok(false) };
    let inputs = node.inputs.clone();
    for (reader, fused) in fused {
        let node = graph.node_mut(reader);
        let own = 2 + usize::from(downcast::<Conv>(node).is_some_and(|conv| conv.bias));
        node.op = fused;
        node.inputs[0] = inputs[0];
        node.inputs.splice(own..own, inputs[1..].iter().copied());
    }
    Ok(true)
}

fn gathered_gradient(graph: &mut Graph, index: usize) -> Result<bool> {
    let node = &graph.nodes()[index];
    let Some(&BatchNormGrad { epsilon, activation }) = downcast(node) else { return Ok(false) };
    let dy = node.inputs[0];
    let Some((conv, op)) = graph.producer_of::<Conv>(dy) else { return Ok(false) };
    let gradient = matches!(op.pass, Pass::InputGrad { .. }) && op.output == Output::Values && !op.residual;
    let convolution = &graph.nodes()[conv];
    if !gradient || !graph.only_reader(dy, index) {
        return Ok(false);
    }
    // The convolution's gradient is left without a reader.
    let normalise = Normalise { epsilon, activation };
    let fused = Arc::new(Conv { output: Output::NormGrad(normalise), ..op.clone() });
    let inputs = [&convolution.inputs[..], &node.inputs[1..]].concat();
    let node = graph.node_mut(index);
    (node.op, node.inputs) = (fused, inputs);
    Ok(true)
}

/// Whether the one node that reads `y` will join what computes it.
fn will_be_joined(graph: &Graph, y: Value) -> bool {
    let mut readers = graph.readers(y).map(|reader| &graph.nodes()[reader]);
    match (readers.next(), readers.next()) {
        (Some(reader), None) if !graph.is_result(y) => {
            let joins = [downcast::<Unary>(reader).is_some(), summands(graph, reader).is_some()];
            joins.contains(&true) || downcast::<BatchNormInfer>(reader).is_some()
        }
        _ => false,
    }
}

fn separable(graph: &mut Graph, index: usize) -> Result<bool> {
    let node = &graph.nodes()[index];
    let Some(pointwise) = downcast::<Conv>(node) else { return Ok(false) };
    let plain = |conv: &Conv| {
        let own = Conv { bias: false, residual: false, activation: None, ..conv.clone() };
        conv.bias && own == Conv::new(conv.stride, conv.padding, conv.groups)
    };
    if !plain(pointwise) || will_be_joined(graph, node.outputs[0]) {
        return Ok(false);
    }
    let (middle, others) = (node.inputs[0], node.inputs[1..].to_vec());
    let Some((first, depthwise)) = graph.producer_of::<Conv>(middle) else { return Ok(false) };
    let one_pixel = pointwise.groups == 1 && pointwise.is_pointwise(graph.ty(middle), graph.ty(others[0]));
    let is_first = plain(depthwise) && depthwise.groups > 1 && !depthwise.residual;
    if !one_pixel || !is_first || !graph.only_reader(middle, index) {
        return Ok(false);
    }
    let fused = SeparableConv2d {
        stride: depthwise.stride,
        padding: depthwise.padding,
        activations: [depthwise.activation, pointwise.activation],
        residual: pointwise.residual,
    };
    let inputs = [&graph.nodes()[first].inputs[..], &others].concat();
    let node = graph.node_mut(index);
    (node.op, node.inputs) = (Arc::new(fused), inputs);
    Ok(true)
}
