//! MobileNet: depthwise-separable convolutions, each half followed by batch normalisation and
//! ReLU6.
//!
//! From Howard et al., "MobileNets: Efficient Convolutional Neural Networks for Mobile Vision
//! Applications" (2017). Layers are called as timm calls them.

use super::pretrained::{CENTRED, Names, Published, in_timm};
use super::{Architecture, Config, Variant, scaled};
use crate::error::Result;
use crate::graph::Value;
use crate::nn::Builder;

/// The model. Its units are the stem, 13 blocks, the pooling being in the last one's, and the
/// classifier.
pub static MOBILENET_V1: Architecture = Architecture {
    name: "mobilenet-v1",
    build: mobilenet_v1,
    usual_size: 96,
    one_size: false,
    has_variants: true,
    published: Some(Published {
        names: &[Names::ours("timm's")],
        pixels: CENTRED,
        relatives: &[("conv_head.weight", "MobileNet v1 with a larger head (timm's mobilenetv1_100h)")],
        in_pytorch: |spec| in_timm(spec, 1, &[1.0, 1.25]),
    }),
};

/// The stages after the stem: how many blocks, the stride of the first, the channels at width 1.
pub const STAGES: [(usize, usize, usize); 5] =
    [(1, 1, 64), (2, 2, 128), (2, 2, 256), (6, 2, 512), (2, 2, 1024)];

/// Channels of the stem at width 1.
const STEM: usize = 32;

fn mobilenet_v1(b: &mut Builder, x: Value, config: &Config) -> Result<Value> {
    let Config { classes, ref variant, training } = *config;
    let mut x = stem(b, x, variant)?;
    for (stage, (blocks, first_stride, channels)) in STAGES.into_iter().enumerate() {
        for block in 0..blocks {
            let (name, channels) = (format!("blocks.{stage}.{block}"), scaled(channels, variant.width));
            x = b.unit(&name, x, |b, x| {
                let stride = if block == 0 { first_stride } else { 1 };
                let x = separable(b, &name, x, channels, stride, variant, true)?;
                match (stage + 1, block + 1) == (STAGES.len(), blocks) {
                    true => b.global_average_pool("global_pool", x),
                    false => Ok(x),
                }
            })?;
        }
    }
    b.classifier("classifier", x, classes, training)
}

/// The first unit of both generations.
pub(super) fn stem(b: &mut Builder, x: Value, variant: &Variant) -> Result<Value> {
    b.unit("conv_stem", x, |b, x| {
        let padding = variant.padding.of_kernel(3);
        let x = b.conv2d_unbiased("conv_stem", x, scaled(STEM, variant.width), 3, 2, padding)?;
        let x = b.batch_norm("bn1", x)?;
        b.relu6("relu", x)
    })
}

/// A depthwise convolution and a pointwise one, each normalised; whether the second is activated
/// too is where the two generations of MobileNet differ.
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
