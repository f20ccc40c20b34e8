//! ResNet-18, the smallest of the networks for ImageNet: four stages of two basic blocks.
//!
//! From He et al., "Deep Residual Learning for Image Recognition" (2015). Layers are called as
//! torchvision and timm call them.

use super::pretrained::{IMAGENET, Names, Published, TORCH_EPSILON};
use super::resnet20::stages;
use super::{Architecture, Config, Spec, check_size};
use crate::error::Result;
use crate::graph::Value;
use crate::nn::Builder;
use crate::nn::init::Init;
use crate::ops::conv::Padding;
use crate::ops::pool::max_pool::MaxPool;

/// The model. Its units are the stem, eight blocks, the pooling being in the last one's, and the
/// classifier.
pub static RESNET18: Architecture = Architecture {
    name: "resnet18",
    build: resnet18,
    usual_size: 96,
    one_size: false,
    has_variants: false,
    published: Some(Published {
        names: &[Names::ours("torchvision's")],
        pixels: IMAGENET,
        relatives: &[
            ("layer1.0.conv3.weight", "ResNet with bottlenecks (ResNet-50 or deeper)"),
            ("layer1.2.conv1.weight", "ResNet with more blocks (such as ResNet-34)"),
            ("conv1.0.weight", "ResNet with a deep stem (such as timm's resnet18d)"),
        ],
        in_pytorch,
    }),
};

/// torchvision's expression for a model.
fn in_pytorch(spec: &Spec) -> String {
    let norm = match spec.norm.epsilon {
        TORCH_EPSILON => String::new(),
        other => format!(", norm_layer=functools.partial(torch.nn.BatchNorm2d, eps={other})"),
    };
    format!("torchvision.models.resnet18(num_classes={}{norm})", spec.classes.len())
}

/// Side of the smallest image that can be halved five times.
const LEAST_SIZE: usize = 17;

fn resnet18(b: &mut Builder, x: Value, config: &Config) -> Result<Value> {
    b.convolution_init = Init::he_normal;
    let x = b.unit("conv1", x, |b, x| {
        check_size(b, x, LEAST_SIZE)?;
        let x = b.conv2d_unbiased("conv1", x, 64, 7, 2, Padding::Symmetric(3))?;
        let x = b.batch_norm("bn1", x)?;
        let x = b.relu("relu", x)?;
        b.max_pool_of("maxpool", x, MaxPool { window: 3, stride: 2, padding: 1 })
    })?;
    let x = stages(b, x, 2, &[64, 128, 256, 512])?;
    b.classifier("fc", x, config.classes, config.training)
}
