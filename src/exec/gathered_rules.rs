//! Rewriting rules by which a convolution normalises what it reads, and gathers from what it writes
//! the sums that a normalisation needs.
//!
//! The tensor between the two is not read for either. Each device says which convolutions gather:
//! on a CPU all, on a GPU those that one launch computes.

use std::sync::Arc;

use super::epilogue_rules::can_activate;
use super::rules::foldable;
use crate::error::Result;
use crate::graph::rewrite::{Rule, downcast};
use crate::graph::{Graph, Value};
use crate::kernels::function::beyond_clamp;
use crate::ops::conv::{Conv, Output, Pass};
use crate::ops::norm::batch_norm_grad::BatchNormGrad;
use crate::ops::norm::batch_norm_infer::{BatchNormInfer, Normalise};
use crate::ops::norm::moments::Moments;
use crate::ops::norm::scale_shift::{ScaleShift, Scaled};
use crate::ops::{Op, Types};
use crate::tensor::TensorType;

/// Convolutions normalise what they read, as they read it: the normalised values are neither
/// written nor kept.
pub const NORMALISED_INPUT: Rule = Rule {
    name: "normalised input",
    replaces: "conv(batch_norm_infer(x, ..), w) => conv[scaled](x, w, scale_shift(..))",
    when: "all that read the normalised values can; their activation is a cut; they cannot be folded into a convolution before",
    apply: normalised_input,
};

/// Statistics are gathered from each block of x as it is written.
pub const GATHERED_MOMENTS: Rule = Rule {
    name: "gathered moments",
    replaces: "moments(conv(x, w)) => conv[moments](x, w)",
    when: "the convolution is a forward one without residual and activation",
    apply: |graph, index| gathered_moments(graph, index, |_, _| true),
};

/// The sums that dx needs are gathered from each block of dy as it is written, and dx takes the
/// place of dy.
pub const GATHERED_GRADIENT: Rule = Rule {
    name: "gathered gradient",
    replaces: "batch_norm_grad(conv_input_grad(dz, w), x, ..) => conv_input_grad[norm_grad](dz, w, x, scale_shift(..), ..)",
    when: "nothing else reads what is between",
    apply: |graph, index| gathered_gradient(graph, index, |_, _| true),
};

/// [`GATHERED_MOMENTS`] of a GPU.
pub const MOMENTS_OF_TILES: Rule = Rule {
    when: "the convolution is a forward one without residual and activation; a launch computes it, in whole vectors and without cutting the depth",
    apply: |graph, index| gathered_moments(graph, index, has_shaders),
    ..GATHERED_MOMENTS
};

/// [`GATHERED_GRADIENT`] of a GPU.
pub const GRADIENT_OF_TILES: Rule = Rule {
    when: "nothing else reads what is between; a launch computes the convolution, in whole vectors and without cutting the depth",
    apply: |graph, index| gathered_gradient(graph, index, has_shaders),
    ..GATHERED_GRADIENT
};

/// Whether a GPU computes a convolution of such operands.
fn has_shaders(conv: &Conv, inputs: Vec<TensorType>) -> bool {
    let outputs = conv.output_types(&inputs.iter().collect::<Vec<_>>());
    outputs.is_ok_and(|outputs| !conv.gpu(&Types { inputs, outputs }).list.is_empty())
}

/// Scales and shifts of a normalisation by these vectors: those that there are, or new ones right
/// behind the last of the vectors.
fn scale_shift(graph: &mut Graph, op: ScaleShift, vectors: &[Value], layer: &str) -> Result<Value> {
    let mut nodes = graph.nodes().iter();
    if let Some(node) = nodes.find(|node| downcast(node) == Some(&op) && node.inputs == vectors) {
        return Ok(node.outputs[0]);
    }
    let behind = vectors.iter().filter_map(|&vector| graph.producer(vector)).max();
    let at = behind.map_or(0, |last| last + 1);
    let made = graph.insert(at, op, vectors)?[0];
    graph.node_mut(at).layer = layer.to_string();
    Ok(made)
}

/// A convolution that reads `y` as what it can normalise, with the normalisation.
fn normalising(graph: &Graph, reader: usize, y: Value, norm: &BatchNormInfer) -> Option<Conv> {
    let node = &graph.nodes()[reader];
    let conv: &Conv = downcast(node)?;
    let reads_once = node.inputs[0] == y && !node.inputs[1..].contains(&y);
    let reads_x = !matches!(conv.pass, Pass::InputGrad { .. });
    let fits = reads_once && reads_x && conv.input.is_none() && beyond_clamp(norm.activation).is_none();
    let input = Some(Scaled { activation: norm.activation });
    fits.then(|| Conv { input, ..conv.clone() })
}

fn normalised_input(graph: &mut Graph, index: usize) -> Result<bool> {
    let node = graph.nodes()[index].clone();
    let (Some(norm), &[y]) = (downcast::<BatchNormInfer>(&node), &node.outputs[..]) else {
        return Ok(false);
    };
    let joins = |graph: &Graph, reader: usize| normalising(graph, reader, y, norm);
    let all_join = graph.readers(y).all(|reader| joins(graph, reader).is_some());
    if norm.residual || graph.is_result(y) || foldable(graph, index).is_some() || !all_join {
        return Ok(false);
    }
    let op = ScaleShift { epsilon: norm.epsilon };
    let both = scale_shift(graph, op, &node.inputs[1..], &node.layer)?;
    let readers: Vec<usize> = graph.readers(y).collect();
    for reader in readers {
        let Some(conv) = joins(graph, reader) else { continue };
        let reader = graph.node_mut(reader);
        reader.inputs[0] = node.inputs[0];
        reader.inputs.insert(2 + usize::from(conv.bias), both);
        reader.op = Arc::new(conv);
    }
    Ok(true)
}

/// Whether a device has a convolution that gathers from what it writes, on such operands.
type Gathers = fn(&Conv, Vec<TensorType>) -> bool;

fn gathered_moments(graph: &mut Graph, index: usize, gathers: Gathers) -> Result<bool> {
    let node = &graph.nodes()[index];
    if downcast::<Moments>(node).is_none() {
        return Ok(false);
    }
    let (x, moments) = (node.inputs[0], node.outputs.clone());
    let Some((conv, op)) = graph.producer_of::<Conv>(x) else { return Ok(false) };
    let gathering = Conv { output: Output::Moments, ..op.clone() };
    let operands = graph.types(&graph.nodes()[conv]).inputs;
    if !can_activate(op) || op.residual || !gathers(&gathering, operands) {
        return Ok(false);
    }
    let node = graph.node_mut(conv);
    node.op = Arc::new(gathering);
    node.outputs.extend(moments);
    graph.node_mut(index).outputs.clear();
    Ok(true)
}

fn gathered_gradient(graph: &mut Graph, index: usize, gathers: Gathers) -> Result<bool> {
    let node = graph.nodes()[index].clone();
    let Some(&BatchNormGrad { epsilon, activation }) = downcast(&node) else { return Ok(false) };
    let [dy, x, ref vectors @ ..] = node.inputs[..] else { return Ok(false) };
    let Some((conv, op)) = graph.producer_of::<Conv>(dy) else { return Ok(false) };
    let gradient = matches!(op.pass, Pass::InputGrad { .. }) && op.output == Output::Values && !op.residual;
    let gathering = Conv { output: Output::NormGrad(Normalise { epsilon, activation }), ..op.clone() };
    let convolution = graph.nodes()[conv].clone();
    let types = graph.types(&node).inputs;
    let both = TensorType::f32([2, types[2].len()]);
    let operands = [&graph.types(&convolution).inputs[..], &[types[1].clone(), both], &types[4..]].concat();
    if !gradient || !graph.only_reader(dy, index) || !gathers(&gathering, operands) {
        return Ok(false);
    }
    let both = scale_shift(graph, ScaleShift { epsilon }, vectors, &node.layer)?;
    let inputs = [&convolution.inputs[..], &[x, both], &vectors[2..]].concat();
    // The convolution's gradient is left without a reader.
    let Some(index) = graph.producer(node.outputs[0]) else { return Ok(false) };
    let node = graph.node_mut(index);
    (node.op, node.inputs) = (Arc::new(gathering), inputs);
    Ok(true)
}
