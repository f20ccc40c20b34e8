//! ResNet-20, the network for 32 x 32 images: three stages of three basic blocks. Its deeper and
//! shallower relatives differ in the number of blocks ([`cifar_resnet`]).
//!
//! From He et al., "Deep Residual Learning for Image Recognition" (2015), section 4.2. Layers are
//! called as torchvision calls a ResNet's.
//!
//! Where a block halves the image, its shortcut is a convolution of 1x1 (the paper's option B);
//! the paper's own results are with option A, which leaves out every other pixel and adds channels
//! of zeros. B is what most libraries have, needs no layers of another kind, and costs 2,560
//! weights more.

use super::{Architecture, Config};
use crate::error::Result;
use crate::graph::Value;
use crate::nn::Builder;
use crate::nn::init::Init;
use crate::ops::conv::Padding;

/// The model. Its units are the stem, nine blocks, the pooling being in the last one's, and the
/// classifier.
pub static RESNET20: Architecture = Architecture {
    name: "resnet20",
    build: resnet20,
    usual_size: 32,
    one_size: false,
    has_variants: false,
    published: None,
};

fn resnet20(b: &mut Builder, x: Value, config: &Config) -> Result<Value> {
    cifar_resnet(b, x, config, 3)
}

/// The network of 6 n + 2 layers for 32 x 32 images, whose three stages have n blocks each.
pub fn cifar_resnet(b: &mut Builder, x: Value, config: &Config, blocks: usize) -> Result<Value> {
    b.convolution_init = Init::he_normal;
    let x = b.unit("conv1", x, |b, x| {
        let x = b.conv2d_unbiased("conv1", x, 16, 3, 1, Padding::Symmetric(1))?;
        let x = b.batch_norm("bn1", x)?;
        b.relu("relu", x)
    })?;
    let x = stages(b, x, blocks, &[16, 32, 64])?;
    b.classifier("fc", x, config.classes, config.training)
}

/// Stages of so many basic blocks, then the mean over all pixels. Every stage but the first halves
/// the image.
pub(super) fn stages(b: &mut Builder, mut x: Value, blocks: usize, channels: &[usize]) -> Result<Value> {
    for (stage, &width) in (1..).zip(channels) {
        for block in 0..blocks {
            let name = format!("layer{stage}.{block}");
            x = b.unit(&name, x, |b, x| {
                let stride = if stage > 1 && block == 0 { 2 } else { 1 };
                let x = basic_block(b, &name, x, width, stride)?;
                match (stage, block + 1) == (channels.len(), blocks) {
                    true => b.global_average_pool("global_pool", x),
                    false => Ok(x),
                }
            })?;
        }
    }
    Ok(x)
}

/// Two convolutions of 3x3, and a shortcut around them.
fn basic_block(b: &mut Builder, name: &str, input: Value, channels: usize, stride: usize) -> Result<Value> {
    let part = |layer: &str| format!("{name}.{layer}");
    let mut x = b.conv2d_unbiased(&part("conv1"), input, channels, 3, stride, Padding::Symmetric(1))?;
    x = b.batch_norm(&part("bn1"), x)?;
    x = b.relu(&part("relu1"), x)?;
    x = b.conv2d_unbiased(&part("conv2"), x, channels, 3, 1, Padding::Symmetric(1))?;
    x = b.batch_norm(&part("bn2"), x)?;
    let mut shortcut = input;
    if stride > 1 || b.graph.ty(input).shape.last() != channels {
        shortcut =
            b.conv2d_unbiased(&part("downsample.0"), input, channels, 1, stride, Padding::Symmetric(0))?;
        shortcut = b.batch_norm(&part("downsample.1"), shortcut)?;
    }
    x = b.add(&part("add"), shortcut, x)?;
    b.relu(&part("relu2"), x)
}
