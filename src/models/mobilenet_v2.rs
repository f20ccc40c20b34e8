//! MobileNet v2 (Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", 2018): blocks that
//! widen, convolve depthwise and narrow again without an activation, with a shortcut between narrow ends of
//! one shape. Layers are called as timm calls them.

use std::ops::Range;

use super::mobilenet_v1::{STEM, separable};
use super::{Training, Variant, scaled};
use crate::error::Result;
use crate::graph::Value;
use crate::nn::Builder;

/// The stages after the stem: how many blocks, the stride of the first, the channels at width 1.
pub const STAGES: [(usize, usize, usize); 7] =
    [(1, 1, 16), (2, 2, 24), (3, 2, 32), (4, 2, 64), (3, 1, 96), (3, 2, 160), (1, 1, 320)];

/// How much wider a block is inside, but in the first stage.
const EXPANSION: usize = 6;

/// Channels before the classifier, at width 1 and below.
pub const HEAD: usize = 1280;

/// The stem, 17 blocks, the head with its pooling, and the classifier: where the model can be cut in two.
pub const UNITS: usize = 20;

/// The units in `part`, from x `[N, H, W, C]`, pictures of three channels for the first, to logits
/// `[N, classes]` after the last.
pub fn mobilenet_v2(
    b: &mut Builder,
    mut x: Value,
    part: Range<usize>,
    classes: usize,
    variant: &Variant,
    training: Training,
) -> Result<Value> {
    let mut unit = 0..UNITS;
    let mut wanted = || unit.next().is_some_and(|unit| part.contains(&unit));
    if wanted() {
        let padding = variant.padding.of_kernel(3);
        x = b.conv2d_unbiased("conv_stem", x, scaled(STEM, variant.width), 3, 2, padding)?;
        x = b.batch_norm("bn1", x)?;
        x = b.relu6("relu", x)?;
    }
    for (stage, (blocks, first_stride, channels)) in STAGES.into_iter().enumerate() {
        for block in 0..blocks {
            if wanted() {
                let stride = if block == 0 { first_stride } else { 1 };
                let (name, channels) = (format!("blocks.{stage}.{block}"), scaled(channels, variant.width));
                x = match stage {
                    0 => separable(b, &name, x, channels, stride, variant, false)?,
                    _ => inverted_residual(b, &name, x, channels, stride, variant)?,
                };
            }
        }
    }
    if wanted() {
        let channels = scaled(HEAD, variant.width.max(1.0));
        x = b.conv2d_unbiased("conv_head", x, channels, 1, 1, variant.padding.of_kernel(1))?;
        x = b.batch_norm("bn2", x)?;
        x = b.relu6("relu2", x)?;
        x = b.global_average_pool("global_pool", x)?;
    }
    if wanted() {
        x = b.dropout("dropout", x, training.dropout)?;
        x = b.classifier("classifier", x, classes, training.zero_classifier)?;
    }
    Ok(x)
}

fn inverted_residual(
    b: &mut Builder,
    name: &str,
    input: Value,
    channels: usize,
    stride: usize,
    variant: &Variant,
) -> Result<Value> {
    let part = |layer: &str| format!("{name}.{layer}");
    let narrow = b.graph.ty(input).shape.last();
    let (pointwise, padding) = (variant.padding.of_kernel(1), variant.padding.of_kernel(3));
    let mut x = b.conv2d_unbiased(&part("conv_pw"), input, EXPANSION * narrow, 1, 1, pointwise)?;
    x = b.batch_norm(&part("bn1"), x)?;
    x = b.relu6(&part("relu1"), x)?;
    x = b.depthwise_conv2d(&part("conv_dw"), x, 3, stride, padding)?;
    x = b.batch_norm(&part("bn2"), x)?;
    x = b.relu6(&part("relu2"), x)?;
    x = b.conv2d_unbiased(&part("conv_pwl"), x, channels, 1, 1, pointwise)?;
    x = b.batch_norm(&part("bn3"), x)?;
    if stride == 1 && channels == narrow { b.add(&part("add"), input, x) } else { Ok(x) }
}
