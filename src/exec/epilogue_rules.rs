//! Rewriting rules by which what follows a convolution, a product or a normalisation joins it: an
//! activation, a residual, the slope of an activation.
//!
//! All are worth it on every device: each saves a pass over a tensor, and on a GPU a launch.

use std::sync::Arc;

use crate::error::Result;
use crate::graph::rewrite::{Rule, downcast};
use crate::graph::{Graph, Node, Value};
use crate::ops::conv::separable_conv2d::SeparableConv2d;
use crate::ops::conv::{Conv, Output, Pass};
use crate::ops::linear::matmul::Matmul;
use crate::ops::map::binary::{Binary, Function2};
use crate::ops::map::dropout::Dropout;
use crate::ops::map::unary::{Unary, UnaryGrad};
use crate::ops::norm::batch_norm::BatchNorm;
use crate::ops::norm::batch_norm_grad::BatchNormGrad;
use crate::ops::norm::batch_norm_infer::BatchNormInfer;
use crate::ops::{Function, Op};

/// An activation joins what computes its input, if nothing else reads that.
pub const ACTIVATION: Rule = Rule {
    name: "activation",
    replaces: "a(f(x)) => f[a](x)",
    when: "a is elementwise, f a product, a normalisation or a forward convolution without one; nothing else reads f(x)",
    apply: activation,
};

/// An activation whose slope is one of its argument joins the convolution before it, which outputs
/// both.
pub const KEPT_ACTIVATION: Rule = Rule {
    name: "kept activation",
    replaces: "y = a(z), z = conv(x) => y, z = conv[a, kept](x)",
    when: "only a's gradient reads z as well",
    apply: kept_activation,
};

/// The gradient of an activation joins the one that it takes.
pub const SLOPE: Rule = Rule {
    name: "slope",
    replaces: "a_grad(conv_input_grad(dy, w), v) => conv_input_grad[a slope](dy, w, v)",
    when: "nothing else reads what is between; no normalisation's gradient can take up a's",
    apply: slope,
};

/// The residual of a block of layers is added as the block's last layer is written.
pub const RESIDUAL: Rule = Rule {
    name: "residual",
    replaces: "add(f(x), r) => f[residual](x, r)",
    when: "f is a normalisation without an activation, or a convolution or its gradient; nothing else reads f(x)",
    apply: residual,
};

/// The mask of a ReLU is told as well by what dropout left of its output: where that dropped a
/// value, it drops the gradient, too. So dropout may overwrite the output.
pub const DROPPED_MASK: Rule = Rule {
    name: "dropped mask",
    replaces: "relu_grad(dropout(dy), y) => relu_grad(dropout(dy), dropout(y))",
    when: "both are the same dropout, and the second is there anyway",
    apply: dropped_mask,
};

fn dropped_mask(graph: &mut Graph, index: usize) -> Result<bool> {
    let node = &graph.nodes()[index];
    let (Some(&UnaryGrad { function: Function::Relu }), &[dy, y]) = (downcast(node), &node.inputs[..]) else {
        return Ok(false);
    };
    let Some((backward, op)) = graph.producer_of::<Dropout>(dy) else { return Ok(false) };
    let step = graph.nodes()[backward].inputs[1];
    let same = |node: &&Node| downcast(node) == Some(op) && node.inputs == [y, step];
    let Some(dropped) = graph.nodes().iter().find(same).map(|node| node.outputs[0]) else {
        return Ok(false);
    };
    graph.node_mut(index).inputs[1] = dropped;
    Ok(true)
}

fn activation(graph: &mut Graph, index: usize) -> Result<bool> {
    let node = &graph.nodes()[index];
    let (Some(&Unary { function }), &[x], &[y]) = (downcast(node), &node.inputs[..], &node.outputs[..])
    else {
        return Ok(false);
    };
    let Some(before) = graph.producer(x) else { return Ok(false) };
    let Some(op) = with_activation(&graph.nodes()[before], function) else { return Ok(false) };
    if graph.nodes()[before].outputs[0] != x || !graph.only_reader(x, index) {
        return Ok(false);
    }
    let node = graph.node_mut(before);
    (node.op, node.outputs[0]) = (op, y);
    graph.node_mut(index).outputs.clear();
    Ok(true)
}

/// A node's op with the activation applied to its first output, if it has none yet.
fn with_activation(node: &Node, function: Function) -> Option<Arc<dyn Op>> {
    let activation = Some(function);
    if let Some(&op @ BatchNorm { activation: None, .. }) = downcast(node) {
        return Some(Arc::new(BatchNorm { activation, ..op }));
    }
    if let Some(&op @ BatchNormInfer { activation: None, .. }) = downcast(node) {
        return Some(Arc::new(BatchNormInfer { activation, ..op }));
    }
    if let Some(&op @ SeparableConv2d { activations: [first, None], .. }) = downcast(node) {
        return Some(Arc::new(SeparableConv2d { activations: [first, activation], ..op }));
    }
    if let Some(&op @ Matmul { activation: None, .. }) = downcast(node) {
        return Some(Arc::new(Matmul { activation, ..op }));
    }
    let conv: &Conv = downcast(node)?;
    can_activate(conv).then(|| Arc::new(Conv { activation, ..conv.clone() }) as Arc<dyn Op>)
}

/// Whether a convolution's y is its only output, and has no activation yet.
pub(super) fn can_activate(conv: &Conv) -> bool {
    conv.pass == Pass::Forward && conv.output == Output::Values && conv.activation.is_none()
}

fn kept_activation(graph: &mut Graph, index: usize) -> Result<bool> {
    let node = &graph.nodes()[index];
    let (Some(&Unary { function }), &[z], &[y]) = (downcast(node), &node.inputs[..], &node.outputs[..])
    else {
        return Ok(false);
    };
    let Some((conv, op)) = graph.producer_of::<Conv>(z) else { return Ok(false) };
    // Joined to a convolution, perhaps.
    let is_gradient = |reader: usize| {
        let node = &graph.nodes()[reader];
        let joined = downcast::<Conv>(node).is_some_and(|conv| conv.output == Output::Slope(function));
        downcast(node) == Some(&UnaryGrad { function }) || joined && node.inputs.ends_with(&[z])
    };
    let others: Vec<usize> = graph.readers(z).filter(|&reader| reader != index).collect();
    let kept_for_gradients = !others.is_empty() && others.into_iter().all(is_gradient);
    if !can_activate(op) || graph.is_result(z) || !kept_for_gradients {
        return Ok(false);
    }
    let op = Arc::new(Conv { activation: Some(function), output: Output::Kept, ..op.clone() });
    let node = graph.node_mut(conv);
    (node.op, node.outputs) = (op, vec![y, z]);
    graph.node_mut(index).outputs.clear();
    Ok(true)
}

fn slope(graph: &mut Graph, index: usize) -> Result<bool> {
    let node = &graph.nodes()[index];
    let (Some(&UnaryGrad { function }), &[dy, v], &[dx]) =
        (downcast(node), &node.inputs[..], &node.outputs[..])
    else {
        return Ok(false);
    };
    let Some((conv, op)) = graph.producer_of::<Conv>(dy) else { return Ok(false) };
    let is_gradient = matches!(op.pass, Pass::InputGrad { .. }) && op.output == Output::Values;
    let for_a_norm = |reader: usize| downcast::<BatchNormGrad>(&graph.nodes()[reader]).is_some();
    let needed = graph.is_result(dx) || graph.readers(dx).any(|reader| !for_a_norm(reader));
    if !is_gradient || op.residual || !graph.only_reader(dy, index) || !needed {
        return Ok(false);
    }
    let op = Arc::new(Conv { output: Output::Slope(function), ..op.clone() });
    let inputs = [&graph.nodes()[conv].inputs[..], &[v]].concat();
    let node = graph.node_mut(index);
    (node.op, node.inputs) = (op, inputs);
    Ok(true)
}

/// Operands of a node that adds two values of one shape.
pub(super) fn summands(graph: &Graph, node: &Node) -> Option<[Value; 2]> {
    let (Some(Binary { function: Function2::Add }), &[a, b]) = (downcast(node), &node.inputs[..]) else {
        return None;
    };
    (graph.ty(a) == graph.ty(b)).then_some([a, b])
}

fn residual(graph: &mut Graph, index: usize) -> Result<bool> {
    let node = &graph.nodes()[index];
    let Some([a, b]) = summands(graph, node) else { return Ok(false) };
    let producer = |value: Value| graph.producer(value).map(|producer| &graph.nodes()[producer]);
    // Which of the two takes the other up may not depend on the order of the rules: both are looked
    // at when their normalisations have been taken apart.
    if [a, b].into_iter().filter_map(producer).any(|node| downcast::<BatchNorm>(node).is_some()) {
        return Ok(false);
    }
    let fused = [(a, b), (b, a)].into_iter().find_map(|(own, other)| {
        let producer = producer(own).filter(|_| own != other && graph.only_reader(own, index))?;
        let op = with_residual(producer)?;
        Some(Node { op, inputs: [&producer.inputs[..], &[other]].concat(), ..producer.clone() })
    });
    let Some(fused) = fused else { return Ok(false) };
    let outputs = node.outputs.clone();
    *graph.node_mut(index) = Node { outputs, ..fused };
    Ok(true)
}

/// A node's op with a residual for its last input, if it has none yet.
fn with_residual(node: &Node) -> Option<Arc<dyn Op>> {
    if let Some(&op @ BatchNormInfer { residual: false, activation: None, .. }) = downcast(node) {
        return Some(Arc::new(BatchNormInfer { residual: true, ..op }));
    }
    if let Some(&op @ SeparableConv2d { residual: false, activations: [_, None], .. }) = downcast(node) {
        return Some(Arc::new(SeparableConv2d { residual: true, ..op }));
    }
    let conv: &Conv = downcast(node)?;
    let has_y = !matches!(conv.pass, Pass::WeightGrad { .. });
    let plain = conv.output == Output::Values && conv.activation.is_none() && !conv.residual;
    (has_y && plain).then(|| Arc::new(Conv { residual: true, ..conv.clone() }) as Arc<dyn Op>)
}
