//! MobileNet v2: blocks that widen, convolve depthwise and narrow again, with shortcuts between the
//! narrow ends.
//!
//! From Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks" (2018). The narrow
//! ends have no activation, and a shortcut where they are of one shape. Layers are called as timm
//! calls them.

use super::mobilenet_v1::{separable, stem};
use super::pretrained::{IMAGENET, Names, Published, in_timm};
use super::{Architecture, Config, Variant, mobilenet_v2_names, scaled};
use crate::error::Result;
use crate::graph::Value;
use crate::nn::Builder;

/// The model. Its units are the stem, 17 blocks, the head with its pooling, and the classifier.
pub static MOBILENET_V2: Architecture = Architecture {
    name: "mobilenet-v2",
    build: mobilenet_v2,
    usual_size: 96,
    one_size: false,
    has_variants: true,
    published: Some(Published {
        names: &[Names::ours("timm's"), mobilenet_v2_names::TORCHVISION, mobilenet_v2_names::FLAT],
        pixels: IMAGENET,
        relatives: &[(
            "blocks.1.2.conv_pw.weight",
            "MobileNet v2 with more blocks (timm's mobilenetv2_110d or 120d)",
        )],
        in_pytorch: |spec| in_timm(spec, 2, &[0.35, 0.5, 0.75, 1.0, 1.4]),
    }),
};

/// The stages after the stem: how many blocks, the stride of the first, the channels at width 1.
pub const STAGES: [(usize, usize, usize); 7] =
    [(1, 1, 16), (2, 2, 24), (3, 2, 32), (4, 2, 64), (3, 1, 96), (3, 2, 160), (1, 1, 320)];

/// How much wider a block is inside, but in the first stage.
const EXPANSION: usize = 6;

/// Channels before the classifier, at width 1 and below.
pub const HEAD: usize = 1280;

fn mobilenet_v2(b: &mut Builder, x: Value, config: &Config) -> Result<Value> {
    let Config { classes, ref variant, training } = *config;
    let mut x = stem(b, x, variant)?;
    for (stage, (blocks, first_stride, channels)) in STAGES.into_iter().enumerate() {
        for block in 0..blocks {
            let (name, channels) = (format!("blocks.{stage}.{block}"), scaled(channels, variant.width));
            let stride = if block == 0 { first_stride } else { 1 };
            x = b.unit(&name, x, |b, x| match stage {
                0 => separable(b, &name, x, channels, stride, variant, false),
                _ => inverted_residual(b, &name, x, channels, stride, variant),
            })?;
        }
    }
    x = b.unit("conv_head", x, |b, x| {
        let channels = scaled(HEAD, variant.width.max(1.0));
        let x = b.conv2d_unbiased("conv_head", x, channels, 1, 1, variant.padding.of_kernel(1))?;
        let x = b.batch_norm("bn2", x)?;
        let x = b.relu6("relu2", x)?;
        b.global_average_pool("global_pool", x)
    })?;
    b.classifier("classifier", x, classes, training)
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
