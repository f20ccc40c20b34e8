//! Rewriting rules that a CPU's caches make worthwhile: what one op writes is used while it is
//! still in the cache.

use std::sync::Arc;

use crate::error::Result;
use crate::exec::epilogue_rules::{ACTIVATION, DROPPED_MASK, KEPT_ACTIVATION, RESIDUAL, SLOPE, summands};
use crate::exec::gathered_rules::{GATHERED_GRADIENT, GATHERED_MOMENTS, NORMALISED_INPUT};
use crate::exec::rules::{ACTIVATION_GRAD, FOLD, PLACES, POOLING, STATISTICS, ZERO_SUM, ZEROS_SCALED};
use crate::graph::rewrite::{Rule, downcast};
use crate::graph::{Graph, Value};
use crate::ops::conv::Conv;
use crate::ops::conv::separable_conv2d::SeparableConv2d;
use crate::ops::map::unary::Unary;
use crate::ops::norm::batch_norm_infer::BatchNormInfer;

/// The rules of a CPU.
pub const RULES: &[&Rule] = &[
    &ZERO_SUM,
    &ZEROS_SCALED,
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

/// The activation between a depthwise convolution and the pointwise one after it never leaves the
/// cache.
const SEPARABLE: Rule = Rule {
    name: "separable",
    replaces: "conv(depthwise(x, w, b), w', b') => separable(x, w, b, w', b')",
    when: "the second looks at one pixel at a time, nothing can join it any more, nothing else reads what is between",
    apply: separable,
};

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
