//! The plain convolutional network of the Keras tutorials, with batch normalisation: 0.55 M parameters for
//! 32 x 32 pictures and ten classes.

use crate::error::Result;
use crate::graph::Value;
use crate::models::Training;
use crate::nn::Builder;
use crate::ops::conv2d::Padding;
use crate::weights::Layout;

/// The channels of the three stages.
pub const WIDTHS: [usize; 3] = [32, 64, 128];
/// The features of the dense layer before the classifier.
pub const FEATURES: usize = 128;

/// x `[N, H, W, 3]` to logits `[N, classes]`; H and W of at least 8.
pub fn cnn(b: &mut Builder, x: Value, classes: usize, training: Training) -> Result<Value> {
    sized_cnn(b, x, classes, training, WIDTHS, FEATURES)
}

/// [`cnn`] of any width.
pub fn sized_cnn(
    b: &mut Builder,
    mut x: Value,
    classes: usize,
    training: Training,
    widths: [usize; 3],
    features: usize,
) -> Result<Value> {
    for (stage, channels) in widths.into_iter().enumerate() {
        for half in 0..2 {
            let i = 2 * stage + half + 1;
            x = b.conv2d(&format!("conv{i}"), x, channels, 3, 1, Padding::Same)?;
            x = b.batch_norm(&format!("bn{i}"), x)?;
            x = b.relu(&format!("relu{i}"), x)?;
        }
        x = b.max_pool(&format!("pool{}", stage + 1), x, 2)?;
    }
    let &[_, height, width, channels] = b.graph.dims(x) else {
        unreachable!("pooling gives four dimensions")
    };
    x = b.flatten("flatten", x)?;
    x = b.dense("fc1", x, features, Layout::DenseAfterFlatten { height, width, channels })?;
    x = b.relu("relu7", x)?;
    x = b.dropout("dropout", x, training.dropout)?;
    b.classifier("fc2", x, classes, training.zero_classifier)
}
