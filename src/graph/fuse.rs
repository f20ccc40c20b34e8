//! Fusion, after differentiation: an activation joins the batch normalisation before it, in both
//! directions, so that the normalised values are read and written once instead of twice. The convolution before the
//! normalisation gathers its statistics. A pooling that follows joins what is left, and the normalised values are not stored
//! at all; where none does, the convolutions after it normalise what they read if they can, and the gradient joins that of
//! the convolution after it. In inference normalisation and activation join the convolution before them, whose
//! weights take up the normalisation; then a depthwise convolution joins the pointwise one that follows it. The gradient of
//! a bias that a normalisation takes away again is not computed: it is zero.

use std::any::Any;
use std::sync::Arc;

use super::{Graph, Node, Value};
use crate::error::Result;
use crate::ops::batch_norm::BatchNorm;
use crate::ops::batch_norm_grad::BatchNormGrad;
use crate::ops::batch_norm_infer::BatchNormInfer;
use crate::ops::batch_norm_max_pool::{BatchNormMaxPool, POOL};
use crate::ops::batch_norm_max_pool_grad::BatchNormMaxPoolGrad;
use crate::ops::conv_batch_norm_grad::ConvBatchNormGrad;
use crate::ops::conv_moments::ConvMoments;
use crate::ops::conv2d::{self, Conv2d};
use crate::ops::depthwise_conv2d::DepthwiseConv2d;
use crate::ops::fold_batch_norm::FoldBatchNorm;
use crate::ops::max_pool_grad::MaxPoolGrad;
use crate::ops::normalised_conv::NormalisedConv;
use crate::ops::relu::Relu;
use crate::ops::relu_grad::ReluGrad;
use crate::ops::separable_conv2d::SeparableConv2d;
use crate::ops::sum_rows::SumRows;
use crate::ops::zeros::Zeros;
use crate::ops::{Activation, Op, Types};

/// Rewrites the graph; what it computes stays the same. Returns how many pairs of nodes were fused.
///
/// # Errors
/// None but those of [`Graph::apply`] for the nodes it adds.
pub fn fuse(graph: &mut Graph) -> Result<usize> {
    graph.remove_dead_nodes();
    let mut fused = 0;
    for index in 0..graph.nodes.len() {
        fused += usize::from(drop_zero_sum(graph, index));
    }
    for index in 0..graph.nodes.len() {
        fused += usize::from(fuse_forward(graph, index) || fuse_backward(graph, index));
    }
    graph.remove_dead_nodes();
    // Now that normalisations have their activations.
    for index in 0..graph.nodes.len() {
        fused += usize::from(fuse_statistics(graph, index));
    }
    for index in 0..graph.nodes.len() {
        fused += usize::from(fuse_pool(graph, index));
    }
    graph.remove_dead_nodes();
    for index in (0..graph.nodes.len()).rev() {
        fused += usize::from(fuse_gradient_sums(graph, index));
    }
    graph.remove_dead_nodes();
    while let Some(norm) = (0..graph.nodes.len()).find(|&index| convolution_before(graph, index).is_some()) {
        fold(graph, norm)?;
        fused += 1;
    }
    for index in 0..graph.nodes.len() {
        fused += usize::from(fuse_separable(graph, index));
    }
    graph.remove_dead_nodes();
    for index in 0..graph.nodes.len() {
        fused += usize::from(fuse_normalisation(graph, index));
    }
    graph.remove_dead_nodes();
    Ok(fused)
}

fn downcast<T: Op>(node: &Node) -> Option<&T> {
    (&*node.op as &dyn Any).downcast_ref()
}

fn producer(graph: &Graph, value: Value) -> Option<usize> {
    graph.nodes.iter().position(|node| node.outputs.contains(&value))
}

/// The nodes that read `value`.
fn readers(graph: &Graph, value: Value) -> impl Iterator<Item = usize> {
    let nodes = graph.nodes.iter().enumerate();
    nodes.filter(move |(_, node)| node.inputs.contains(&value)).map(|(index, _)| index)
}

/// Whether the host or a state needs `value`.
fn is_result(graph: &Graph, value: Value) -> bool {
    graph.outputs.iter().any(|o| o.1 == value) || graph.updates.iter().any(|u| u.1 == value)
}

/// Whether node `reader` is the only one that needs `value`.
fn only_reader(graph: &Graph, value: Value, reader: usize) -> bool {
    readers(graph, value).all(|index| index == reader) && !is_result(graph, value)
}

/// `sum_rows(batch_norm_grad(dy, x, ..))` is zero, whatever dy is: a normalisation takes away the mean of x, so nothing
/// depends on what is added to all rows of x. Computed, the sum is what rounding leaves of a pass over all of dx.
fn drop_zero_sum(graph: &mut Graph, index: usize) -> bool {
    let node = &graph.nodes[index];
    let (Some(SumRows), &[dx], &[sum]) = (downcast(node), &node.inputs[..], &node.outputs[..]) else {
        return false;
    };
    let Some(gradient) = producer(graph, dx).map(|gradient| &graph.nodes[gradient]) else { return false };
    let (Some(BatchNormGrad { .. }), true) = (downcast(gradient), gradient.outputs[0] == dx) else {
        return false;
    };
    let &[_, x, _, _, mean, variance] = &gradient.inputs[..] else { return false };
    // Only where x has this mean.
    let of_x = producer(graph, mean).map(|norm| &graph.nodes[norm]).is_some_and(|norm| {
        downcast::<BatchNorm>(norm).is_some() && norm.inputs[0] == x && norm.outputs[1..] == [mean, variance]
    });
    if of_x {
        let shape = graph.ty(sum).shape.clone();
        graph.nodes[index].op = Arc::new(Zeros { shape });
        graph.nodes[index].inputs.clear();
    }
    of_x
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

/// `max_pool(batch_norm_infer(x, ..))` becomes one node where x has these statistics, and so do their gradients, if nothing
/// else reads what is between.
fn fuse_pool(graph: &mut Graph, index: usize) -> bool {
    if downcast(&graph.nodes[index]) != Some(&POOL) {
        return false;
    }
    let normalised = graph.nodes[index].inputs[0];
    let Some(norm) = producer(graph, normalised) else { return false };
    let Some(&op) = downcast::<BatchNormInfer>(&graph.nodes[norm]) else { return false };
    let moments = producer(graph, graph.nodes[norm].inputs[3]).map(|moments| &graph.nodes[moments]);
    if moments.and_then(downcast::<ConvMoments>).is_none() || is_result(graph, normalised) {
        return false;
    }
    let pooled = graph.nodes[index].outputs[0];
    let backward = match readers(graph, normalised).filter(|&reader| reader != index).collect::<Vec<_>>()[..]
    {
        [] => None,
        [spread] => match gradient_through(graph, norm, spread, [normalised, pooled]) {
            Some(gradient) => Some((spread, gradient)),
            None => return false,
        },
        _ => return false,
    };
    // The pooling is left without a reader, and so is its gradient.
    graph.nodes[norm].op = Arc::new(BatchNormMaxPool { norm: op });
    graph.nodes[norm].outputs[0] = pooled;
    graph.nodes[index].outputs[0] = normalised;
    if let Some((spread, gradient)) = backward {
        let BatchNormInfer { epsilon, activation } = op;
        graph.nodes[gradient].op = Arc::new(BatchNormMaxPoolGrad { epsilon, activation });
        graph.nodes[gradient].inputs[0] = graph.nodes[spread].inputs[2];
    }
    true
}

/// The gradient of node `norm`, if node `spread` is the gradient of its pooling and only feeds that.
fn gradient_through(graph: &Graph, norm: usize, spread: usize, [x, y]: [Value; 2]) -> Option<usize> {
    let &MaxPoolGrad { pool } = downcast(&graph.nodes[spread])?;
    let spread_values = graph.nodes[spread].outputs[0];
    let gradient = readers(graph, spread_values).next()?;
    let &BatchNormGrad { activation, .. } = downcast(&graph.nodes[gradient])?;
    let &BatchNormInfer { activation: forward, .. } = downcast(&graph.nodes[norm])?;
    let matches = pool == POOL
        && graph.nodes[spread].inputs[..2] == [x, y]
        && activation == forward
        && graph.nodes[gradient].inputs[1..] == graph.nodes[norm].inputs[..]
        && graph.nodes[gradient].inputs[0] == spread_values;
    (matches && only_reader(graph, spread_values, gradient)).then_some(gradient)
}

fn types(graph: &Graph, node: &Node) -> Types {
    let types = |values: &[Value]| values.iter().map(|&value| graph.ty(value).clone()).collect();
    Types { inputs: types(&node.inputs), outputs: types(&node.outputs) }
}

/// Of `batch_norm(conv(x, w))` the statistics join the convolution; what is left is to normalise with them.
fn fuse_statistics(graph: &mut Graph, norm: usize) -> bool {
    let Some(&op) = downcast::<BatchNorm>(&graph.nodes[norm]) else { return false };
    let x = graph.nodes[norm].inputs[0];
    let Some(conv) = producer(graph, x) else { return false };
    let node = &graph.nodes[conv];
    let Some(fused) = ConvMoments::new(node.op.clone(), types(graph, node)) else { return false };
    graph.nodes[conv].op = Arc::new(fused);
    let moments = graph.nodes[norm].outputs.split_off(1);
    graph.nodes[conv].outputs.extend(&moments);
    graph.nodes[norm].op = Arc::new(op.apply());
    graph.nodes[norm].inputs.extend(moments);
    true
}

/// All nodes that read `batch_norm_infer(x, ..)` normalise what they read instead, if all of them can.
fn fuse_normalisation(graph: &mut Graph, norm: usize) -> bool {
    let Some(&op) = downcast::<BatchNormInfer>(&graph.nodes[norm]) else { return false };
    let y = graph.nodes[norm].outputs[0];
    let fused = |reader| {
        let node: &Node = &graph.nodes[reader];
        let reads_once = node.inputs[0] == y && !node.inputs[1..].contains(&y);
        let fused = NormalisedConv::new(op, node.op.clone(), types(graph, node));
        fused.filter(|_| reads_once).map(|fused| (reader, fused))
    };
    let Some(fused) = readers(graph, y).map(fused).collect::<Option<Vec<_>>>() else { return false };
    if is_result(graph, y) {
        return false;
    }
    let inputs = graph.nodes[norm].inputs.clone();
    for (reader, fused) in fused {
        let node = &mut graph.nodes[reader];
        node.op = Arc::new(fused);
        node.inputs[0] = inputs[0];
        node.inputs.extend(&inputs[1..]);
    }
    true
}

/// `batch_norm_grad(conv_input_grad(dz, w), ..)` becomes one node, if nothing else needs what is between.
fn fuse_gradient_sums(graph: &mut Graph, index: usize) -> bool {
    let Some(&op) = downcast::<BatchNormGrad>(&graph.nodes[index]) else { return false };
    let dy = graph.nodes[index].inputs[0];
    let Some(conv) = producer(graph, dy) else { return false };
    let node = &graph.nodes[conv];
    let Some(fused) = ConvBatchNormGrad::new(node.op.clone(), types(graph, node), op) else { return false };
    if !only_reader(graph, dy, index) {
        return false;
    }
    // The convolution's gradient is left without a reader.
    let inputs = node.inputs.iter().copied();
    let inputs = inputs.chain(graph.nodes[index].inputs[1..].iter().copied()).collect();
    graph.nodes[index].inputs = inputs;
    graph.nodes[index].op = Arc::new(fused);
    true
}

/// The convolution whose output node `norm` normalises, if it does so with stored statistics and nothing else
/// reads that output; and that convolution with the activation.
fn convolution_before(graph: &Graph, norm: usize) -> Option<(usize, Arc<dyn Op>)> {
    let &BatchNormInfer { activation, .. } = downcast(&graph.nodes[norm])?;
    let x = graph.nodes[norm].inputs[0];
    let convolution = producer(graph, x)?;
    let node = &graph.nodes[convolution];
    let op: Arc<dyn Op> = if let Some(&op @ Conv2d { activation: Activation::None, .. }) = downcast(node) {
        Arc::new(Conv2d { activation, ..op })
    } else if let Some(&op @ DepthwiseConv2d { activation: Activation::None, .. }) = downcast(node) {
        Arc::new(DepthwiseConv2d { activation, ..op })
    } else {
        return None;
    };
    only_reader(graph, x, norm).then_some((convolution, op))
}

/// `batch_norm_infer(convolution(x, w, b), ..)` becomes a convolution with other weights and bias.
fn fold(graph: &mut Graph, norm: usize) -> Result<()> {
    let (Some((convolution, op)), Some(&BatchNormInfer { epsilon, .. })) =
        (convolution_before(graph, norm), downcast(&graph.nodes[norm]))
    else {
        return Ok(());
    };
    let (node, normalisation) = (graph.nodes[convolution].clone(), graph.nodes[norm].clone());
    let mut inputs = vec![node.inputs[1]];
    inputs.extend(&normalisation.inputs[1..]);
    inputs.extend(node.inputs.get(2));
    graph.set_layer(&node.layer);
    let folded = graph.apply(FoldBatchNorm { epsilon }, &inputs)?;
    // The normalisation is left without a reader.
    graph.nodes[norm].outputs = node.outputs;
    graph.nodes[convolution] = Node {
        op,
        inputs: vec![node.inputs[0], folded[0], folded[1]],
        outputs: normalisation.outputs,
        ..node
    };
    graph.nodes[convolution..].rotate_right(1);
    graph.remove_dead_nodes();
    Ok(())
}

/// `conv2d(depthwise_conv2d(x, w, b), w', b')` becomes one node, if the second looks at one pixel at a time and nothing
/// else reads what is between.
fn fuse_separable(graph: &mut Graph, index: usize) -> bool {
    let node = &graph.nodes[index];
    let (Some(&pointwise), &[middle, weights, bias]) = (downcast::<Conv2d>(node), &node.inputs[..]) else {
        return false;
    };
    let Some(first) = producer(graph, middle) else { return false };
    let Some(&depthwise) = downcast::<DepthwiseConv2d>(&graph.nodes[first]) else { return false };
    let geometry = pointwise.geometry(graph.ty(middle).dims(), graph.ty(weights).dims());
    let one_pixel = geometry.is_ok_and(|g| conv2d::pointwise(&g).is_some());
    let inputs = &graph.nodes[first].inputs;
    if !one_pixel || inputs.len() != 3 || !only_reader(graph, middle, index) {
        return false;
    }
    graph.nodes[index].inputs = inputs.iter().copied().chain([weights, bias]).collect();
    graph.nodes[index].op = Arc::new(SeparableConv2d { depthwise, pointwise });
    true
}
