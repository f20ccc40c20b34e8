//! The plain convolutional network of the Keras tutorials, with batch normalisation: 0.55 M
//! parameters for 32 x 32 images and ten classes.

use super::{Architecture, Config};
use crate::data::DEFAULT_SIZE;
use crate::error::Result;
use crate::graph::Value;
use crate::nn::{Builder, Training};
use crate::ops::conv::Padding;
use crate::weights::Layout;

/// The model.
pub static CNN: Architecture = Architecture {
    name: "cnn",
    build: cnn,
    usual_size: DEFAULT_SIZE,
    one_size: true,
    has_variants: false,
    published: None,
};

/// The channels of the three stages.
pub const WIDTHS: [usize; 3] = [32, 64, 128];
/// The features of the dense layer before the classifier.
pub const FEATURES: usize = 128;

fn cnn(b: &mut Builder, x: Value, config: &Config) -> Result<Value> {
    sized_cnn(b, x, config.classes, config.training, WIDTHS, FEATURES)
}

/// The model in any width: x `[N, H, W, 3]` to logits `[N, classes]`; H and W of at least 8. Its
/// units are the stages, the dense layer, and the classifier.
pub fn sized_cnn(
    b: &mut Builder,
    mut x: Value,
    classes: usize,
    training: Training,
    widths: [usize; 3],
    features: usize,
) -> Result<Value> {
    for (stage, channels) in (1..).zip(widths) {
        x = b.unit(&format!("stage{stage}"), x, |b, mut x| {
            for i in [2 * stage - 1, 2 * stage] {
                x = b.conv2d(&format!("conv{i}"), x, channels, 3, 1, Padding::Same)?;
                x = b.batch_norm(&format!("bn{i}"), x)?;
                x = b.relu(&format!("relu{i}"), x)?;
            }
            b.max_pool(&format!("pool{stage}"), x, 2)
        })?;
    }
    x = b.unit("fc1", x, |b, x| {
        let &[_, height, width, channels] = b.graph.dims(x) else {
            unreachable!("pooling gives four dimensions")
        };
        let x = b.flatten("flatten", x)?;
        let x = b.dense("fc1", x, features, Layout::DenseAfterFlatten { height, width, channels })?;
        b.relu("relu7", x)
    })?;
    b.classifier("fc2", x, classes, training)
}
