//! MobileNet (Howard et al., "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision
//! Applications", 2017): depthwise-separable convolutions, each half followed by batch normalisation and ReLU6.
//! Layers are called as timm calls them.

use std::ops::Range;

use super::{Training, Variant, scaled};
use crate::error::Result;
use crate::graph::Value;
use crate::nn::Builder;

/// The stages after the stem: how many blocks, the stride of the first, the channels at width 1.
pub const STAGES: [(usize, usize, usize); 5] =
    [(1, 1, 64), (2, 2, 128), (2, 2, 256), (6, 2, 512), (2, 2, 1024)];

/// Channels of the stem at width 1.
pub const STEM: usize = 32;

/// The stem, 13 blocks (the pooling with the last), and the classifier: where the model can be cut in two.
pub const UNITS: usize = 15;

/// The units in `part`, from x `[N, H, W, C]`, pictures of three channels for the first, to logits
/// `[N, classes]` after the last.
pub fn mobilenet_v1(
    b: &mut Builder,
    mut x: Value,
    part: Range<usize>,
    classes: usize,
    variant: &Variant,
    training: Training,
) -> Result<Value> {
    let padding = variant.padding.of_kernel(3);
    let mut unit = 0..UNITS;
    let mut wanted = || unit.next().is_some_and(|unit| part.contains(&unit));
    if wanted() {
        x = b.conv2d_unbiased("conv_stem", x, scaled(STEM, variant.width), 3, 2, padding)?;
        x = b.batch_norm("bn1", x)?;
        x = b.relu6("relu", x)?;
    }
    for (stage, (blocks, first_stride, channels)) in STAGES.into_iter().enumerate() {
        for block in 0..blocks {
            if wanted() {
                let stride = if block == 0 { first_stride } else { 1 };
                let name = format!("blocks.{stage}.{block}");
                x = separable(b, &name, x, scaled(channels, variant.width), stride, variant, true)?;
                if (stage + 1, block + 1) == (STAGES.len(), blocks) {
                    x = b.global_average_pool("global_pool", x)?;
                }
            }
        }
    }
    if wanted() {
        x = b.dropout("dropout", x, training.dropout)?;
        x = b.classifier("classifier", x, classes, training.zero_classifier)?;
    }
    Ok(x)
}

/// A depthwise convolution and a pointwise one, each normalised; whether the second is activated too is where
/// the two generations of MobileNet differ.
pub(super) fn separable(
    b: &mut Builder,
    name: &str,
    mut x: Value,
    channels: usize,
    stride: usize,
    variant: &Variant,
    activated: bool,
) -> Result<Value> {
    let part = |layer: &str| format!("{name}.{layer}");
    x = b.depthwise_conv2d(&part("conv_dw"), x, 3, stride, variant.padding.of_kernel(3))?;
    x = b.batch_norm(&part("bn1"), x)?;
    x = b.relu6(&part("relu1"), x)?;
    x = b.conv2d_unbiased(&part("conv_pw"), x, channels, 1, 1, variant.padding.of_kernel(1))?;
    x = b.batch_norm(&part("bn2"), x)?;
    if activated { b.relu6(&part("relu2"), x) } else { Ok(x) }
}
