//! Fusion, after differentiation: an activation joins the batch normalisation before it, in both
//! directions, so that the normalised values are read and written once instead of twice.

use std::any::Any;
use std::sync::Arc;

use super::{Graph, Node, Value};
use crate::ops::batch_norm::BatchNorm;
use crate::ops::batch_norm_grad::BatchNormGrad;
use crate::ops::batch_norm_infer::BatchNormInfer;
use crate::ops::relu::Relu;
use crate::ops::relu_grad::ReluGrad;
use crate::ops::{Activation, Op};

/// Rewrites the graph; what it computes stays the same. Returns how many pairs of nodes were fused.
pub fn fuse(graph: &mut Graph) -> usize {
    graph.remove_dead_nodes();
    let mut fused = 0;
    for index in 0..graph.nodes.len() {
        fused += usize::from(fuse_forward(graph, index) || fuse_backward(graph, index));
    }
    graph.remove_dead_nodes();
    fused
}

fn downcast<T: Op>(node: &Node) -> Option<&T> {
    (&*node.op as &dyn Any).downcast_ref()
}

fn producer(graph: &Graph, value: Value) -> Option<usize> {
    graph.nodes.iter().position(|node| node.outputs.contains(&value))
}

/// Whether node `reader` is the only one that needs `value`.
fn only_reader(graph: &Graph, value: Value, reader: usize) -> bool {
    let others = graph.nodes.iter().enumerate().filter(|(index, _)| *index != reader);
    let read = others.into_iter().any(|(_, node)| node.inputs.contains(&value));
    !read && !graph.outputs.iter().any(|o| o.1 == value) && !graph.updates.iter().any(|u| u.1 == value)
}

/// `relu(batch_norm(x))` becomes one node, if nothing else reads the normalised values.
fn fuse_forward(graph: &mut Graph, index: usize) -> bool {
    let Some(&Relu { activation }) = downcast(&graph.nodes[index]) else { return false };
    let x = graph.nodes[index].inputs[0];
    let Some(norm) = producer(graph, x) else { return false };
    let Some(op) = with_activation(&graph.nodes[norm], activation) else { return false };
    if graph.nodes[norm].outputs[0] != x || !only_reader(graph, x, index) {
        return false;
    }
    // The fused node writes the activation's value; the activation is left without a reader.
    let y = graph.nodes[index].outputs[0];
    graph.nodes[norm].op = op;
    graph.nodes[norm].outputs[0] = y;
    graph.nodes[index].outputs[0] = x;
    true
}

fn with_activation(node: &Node, activation: Activation) -> Option<Arc<dyn Op>> {
    if let Some(&op @ BatchNorm { activation: Activation::None, .. }) = downcast(node) {
        return Some(Arc::new(BatchNorm { activation, ..op }));
    }
    if let Some(&op @ BatchNormInfer { activation: Activation::None, .. }) = downcast(node) {
        return Some(Arc::new(BatchNormInfer { activation, ..op }));
    }
    None
}

/// `batch_norm_grad(relu_grad(dy, y), x, ..)` becomes one node that computes the sign of y from x again.
fn fuse_backward(graph: &mut Graph, index: usize) -> bool {
    let Some(&op @ BatchNormGrad { activation: Activation::None, .. }) = downcast(&graph.nodes[index]) else {
        return false;
    };
    let masked = graph.nodes[index].inputs[0];
    let Some(relu) = producer(graph, masked) else { return false };
    let Some(&ReluGrad { activation }) = downcast(&graph.nodes[relu]) else { return false };
    let [dy, y] = graph.nodes[relu].inputs[..] else { return false };
    let normalised = graph.nodes[index].inputs[1..].to_vec();
    let fused_forward = producer(graph, y).is_some_and(|norm| {
        let node = &graph.nodes[norm];
        downcast(node).is_some_and(|forward: &BatchNorm| forward.activation == activation)
            && node.inputs == normalised[..3]
    });
    if !fused_forward || !only_reader(graph, masked, index) {
        return false;
    }
    graph.nodes[index].op = Arc::new(BatchNormGrad { activation, ..op });
    graph.nodes[index].inputs[0] = dy;
    true
}
