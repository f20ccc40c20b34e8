//! Layers composed of ops, without kernels of their own.

use crate::error::Result;
use crate::graph::{Graph, Value};
use crate::ops::conv::{Conv, Padding};
use crate::ops::movement::constant::Constant;
use crate::ops::movement::join::{Concat, Slice};

/// Means over square windows of x `[N, H, W, C]`, which may overlap each other and the borders: a
/// depthwise convolution whose weights are all the same. What lies outside counts as 0.
///
/// # Errors
/// If the window does not fit x.
pub fn average_pool(
    graph: &mut Graph,
    x: Value,
    window: usize,
    stride: usize,
    padding: Padding,
) -> Result<Value> {
    graph.check_own(x, "the images to pool")?;
    let channels = graph.ty(x).shape.last();
    let shape = [window, window, 1, channels].into();
    let weights = graph.apply1(Constant { shape, value: 1.0 / (window * window) as f32 }, &[])?;
    graph.apply1(Conv::new(stride, padding, channels), &[x, weights])
}

/// A convolution of x `[N, H, W, C]` whose channels are cut into `groups`, each convolved by
/// itself: output channel o has the weights `w[.., o]` `[KH, KW, C / groups]` and the group `o
/// groups / O`. One group, and as many as channels, are a single op; others are put together of one
/// a group.
///
/// # Errors
/// If the channels cannot be divided among the groups, or the weights have another shape.
pub fn grouped_conv2d(
    graph: &mut Graph,
    x: Value,
    w: Value,
    stride: usize,
    padding: Padding,
    groups: usize,
) -> Result<Value> {
    [x, w].into_iter().try_for_each(|value| graph.check_own(value, "an operand of a convolution"))?;
    let (inputs, outputs) = (graph.ty(x).shape.last(), graph.ty(w).shape.last());
    let divides = groups > 1 && inputs.is_multiple_of(groups) && outputs.is_multiple_of(groups);
    if !divides || groups == inputs && groups == outputs {
        return graph.apply1(Conv::new(stride, padding, groups), &[x, w]);
    }
    let mut parts = Vec::new();
    for group in 0..groups {
        let part = |channels: usize| group * channels / groups..(group + 1) * channels / groups;
        let x = graph.apply1(Slice { axis: 3, range: part(inputs) }, &[x])?;
        let w = graph.apply1(Slice { axis: 3, range: part(outputs) }, &[w])?;
        parts.push(graph.apply1(Conv::new(stride, padding, 1), &[x, w])?);
    }
    graph.apply1(Concat { axis: 3 }, &parts)
}
