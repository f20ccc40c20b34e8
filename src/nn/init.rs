//! Initial values of parameters.

use crate::kernels::rng::{self, Stream};

/// How a parameter begins.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    Constant(f32),
    /// Uniform in `[-a, a]` with `a = sqrt(6 / (fan_in + fan_out))` (Glorot and Bengio 2010): Keras's default.
    GlorotUniform {
        fan_in: usize,
        fan_out: usize,
    },
}

impl Init {
    /// The values of a parameter of `len` elements. `index` is the parameter's place in its model: every
    /// parameter draws numbers of its own.
    pub fn values(&self, len: usize, seed: u32, index: u32) -> Vec<f32> {
        match *self {
            Init::Constant(value) => vec![value; len],
            Init::GlorotUniform { fan_in, fan_out } => {
                let bound = (6.0 / (fan_in + fan_out) as f32).sqrt();
                let value = |i| (2.0 * rng::unit(rng::draw(seed, Stream::Init, index, i)[0]) - 1.0) * bound;
                (0..len as u32).map(value).collect()
            }
        }
    }
}
