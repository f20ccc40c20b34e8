//! Networks for fast trainings: a stem of fixed weights that whitens the images' patches, and
//! three blocks of two convolutions ([`FAST`]), or wider ones of three ([`ACCURATE`]).
//!
//! From Jordan, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU" (2024), arXiv 2404.00498: its
//! networks for 94 and for 96 %, in the form that goes with Muon.
//!
//! The paper divides the head's outputs by 256. Here the head's weights are so much smaller
//! instead, by a power of two, which changes no digit: with the square of 256 as much less rate,
//! and more decay, the head learns the same.

use super::{Architecture, Config, check_size};
use crate::data::DEFAULT_SIZE;
use crate::error::Result;
use crate::graph::Value;
use crate::nn::{Builder, Init};
use crate::ops::conv::Padding;

/// The model. Its units are the stem, three blocks, the last pooling being in the third one, and
/// the classifier.
pub static FAST: Architecture = Architecture {
    name: "fast",
    build: fast,
    usual_size: DEFAULT_SIZE,
    one_size: false,
    has_variants: false,
    published: None,
};

/// The wider model. Its units are those of [`FAST`].
pub static ACCURATE: Architecture = Architecture {
    name: "accurate",
    build: accurate,
    usual_size: DEFAULT_SIZE,
    one_size: false,
    has_variants: false,
    published: None,
};

/// What the networks differ in.
struct Form {
    /// The channels of the three blocks.
    widths: [usize; 3],
    /// The convolutions of a block. What the first one makes is added to what the third one does.
    convolutions: usize,
}

/// Side of the smallest image of which the blocks leave something.
const LEAST_SIZE: usize = 9;

/// What the head's weights are divided by.
const HEAD_SCALE: f32 = 256.0;

fn fast(b: &mut Builder, x: Value, config: &Config) -> Result<Value> {
    network(b, x, config, &Form { widths: [64, 256, 256], convolutions: 2 })
}

fn accurate(b: &mut Builder, x: Value, config: &Config) -> Result<Value> {
    network(b, x, config, &Form { widths: [128, 384, 512], convolutions: 3 })
}

fn network(b: &mut Builder, x: Value, config: &Config, form: &Form) -> Result<Value> {
    b.convolution_init = Init::partial_identity;
    let mut x = b.unit("stem", x, |b, x| {
        check_size(b, x, LEAST_SIZE)?;
        let x = b.whitening("stem", x, 2)?;
        b.gelu("stem_gelu", x)
    })?;
    for (number, channels) in (1..).zip(form.widths) {
        let name = format!("block{number}");
        x = b.unit(&name, x, |b, x| {
            let x = block(b, &name, x, channels, form.convolutions)?;
            if number < form.widths.len() {
                return Ok(x);
            }
            let side = b.graph.dims(x)[1];
            let x = b.max_pool("global_pool", x, side)?;
            b.flatten("flatten", x)
        })?;
    }
    // Uniform, of a standard deviation of 1 before the division.
    let init = Init::Uniform { bound: 3f32.sqrt() / HEAD_SCALE };
    b.unbiased_classifier("head", x, config.classes, config.training, init)
}

/// A block: x `[N, H, W, C]` to `[N, H / 2, W / 2, channels]`.
fn block(b: &mut Builder, name: &str, mut x: Value, channels: usize, convolutions: usize) -> Result<Value> {
    let mut first = x;
    for i in 1..=convolutions {
        let part = |layer: &str| format!("{name}.{layer}{i}");
        x = b.conv2d_unbiased(&part("conv"), x, channels, 3, 1, Padding::Symmetric(1))?;
        if i == 1 {
            x = b.max_pool(&format!("{name}.pool"), x, 2)?;
        }
        x = b.unscaled_batch_norm(&part("norm"), x)?;
        if i == 3 {
            x = b.add(&format!("{name}.add"), first, x)?;
        }
        x = b.gelu(&part("gelu"), x)?;
        if i == 1 {
            first = x;
        }
    }
    Ok(x)
}
