//! Initial values of parameters.

use super::whitening::{self, Seen};
use crate::error::Result;
use crate::kernels::rng::{self, Stream};

/// How a parameter begins.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// The same number everywhere.
    Constant(f32),
    /// Uniform in `[-a, a]` with `a = sqrt(6 / (fan_in + fan_out))` (Glorot and Bengio 2010):
    /// Keras's default.
    GlorotUniform {
        /// Inputs of an output.
        fan_in: usize,
        /// Outputs that an input reaches.
        fan_out: usize,
    },
    /// Normal, of variance `2 / fan` (He et al. 2015): keeps the spread of what ReLUs leave half
    /// of.
    HeNormal {
        /// Inputs of an output, or outputs that an input reaches.
        fan: usize,
    },
    /// Uniform in `[-bound, bound]`.
    Uniform {
        /// Above zero.
        bound: f32,
    },
    /// Of a convolution `[kernel, kernel, inputs, outputs]`: as many outputs as there are inputs
    /// copy these, and the others begin as [`Init::of_fan_in`] (Jordan 2024, arXiv 2404.00498).
    PartialIdentity {
        /// Side of its window in pixels, which is odd.
        kernel: usize,
        /// Channels that go in.
        inputs: usize,
        /// Channels that come out.
        outputs: usize,
    },
    /// Of a convolution of images with so many pixels a side: see [`whitening`]. Without images to
    /// learn from, as if their patches were white.
    Whitening {
        /// Side of its window in pixels.
        kernel: usize,
    },
}

impl Init {
    /// [`Init::GlorotUniform`] of a convolution.
    pub fn glorot_uniform(kernel: usize, inputs: usize, outputs: usize) -> Init {
        let taps = kernel * kernel;
        Init::GlorotUniform { fan_in: taps * inputs, fan_out: taps * outputs }
    }

    /// [`Init::HeNormal`] of a convolution, by what goes out of it: gradients keep their spread, as
    /// in the ResNets of their authors and of torchvision.
    pub fn he_normal(kernel: usize, _inputs: usize, outputs: usize) -> Init {
        Init::HeNormal { fan: kernel * kernel * outputs }
    }

    /// [`Init::PartialIdentity`] of a convolution.
    pub fn partial_identity(kernel: usize, inputs: usize, outputs: usize) -> Init {
        Init::PartialIdentity { kernel, inputs, outputs }
    }

    /// Uniform, as PyTorch begins weights and biases of so many inputs.
    pub fn of_fan_in(fan_in: usize) -> Init {
        Init::Uniform { bound: 1.0 / (fan_in as f32).sqrt() }
    }

    /// The values that the images to be learnt give a parameter; none where it does not depend on
    /// them.
    ///
    /// # Errors
    /// If the images cannot be read.
    pub fn values_of_images(&self, seen: Seen) -> Result<Option<Vec<f32>>> {
        match *self {
            Init::Whitening { kernel } => whitening::filters(seen, kernel).map(Some),
            _ => Ok(None),
        }
    }

    /// The values of a parameter of `len` elements. `index` is the parameter's place in its model:
    /// every parameter draws numbers of its own.
    pub fn values(&self, len: usize, seed: u32, index: u32) -> Vec<f32> {
        match *self {
            Init::Constant(value) => vec![value; len],
            Init::GlorotUniform { fan_in, fan_out } => {
                let bound = (6.0 / (fan_in + fan_out) as f32).sqrt();
                Init::Uniform { bound }.values(len, seed, index)
            }
            Init::Uniform { bound } => {
                let value = |i| (2.0 * rng::unit(rng::draw(seed, Stream::Init, index, i)[0]) - 1.0) * bound;
                (0..len as u32).map(value).collect()
            }
            Init::PartialIdentity { kernel, inputs, outputs } => {
                let mut values = Init::of_fan_in(kernel * kernel * inputs).values(len, seed, index);
                let (copies, middle) = (inputs.min(outputs), (kernel / 2) * (kernel + 1));
                for (row, weights) in values.chunks_exact_mut(outputs).enumerate() {
                    let (tap, input) = (row / inputs, row % inputs);
                    let is_copied = |output| tap == middle && input == output;
                    (0..copies).for_each(|output| weights[output] = f32::from(u8::from(is_copied(output))));
                }
                values
            }
            Init::Whitening { kernel } => whitening::filters_of_white(kernel),
            Init::HeNormal { fan } => {
                let deviation = (2.0 / fan as f64).sqrt();
                (0..len as u32)
                    .map(|i| (deviation * normal(rng::draw(seed, Stream::Init, index, i))) as f32)
                    .collect()
            }
        }
    }
}

/// A number of the standard normal distribution (Box and Muller 1958); in f64, so that its rounding
/// to f32 does not depend on the machine's logarithm.
fn normal(random: [u32; 4]) -> f64 {
    let [radius, angle] = [random[0], random[1]].map(|bits| (f64::from(bits) + 0.5) / 2f64.powi(32));
    (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_the_spread_that_is_asked_for() {
        for (init, variance, largest) in [
            (Init::glorot_uniform(1, 20, 30), 2.0 / 50.0, (6.0f32 / 50.0).sqrt()),
            (Init::he_normal(1, 20, 50), 2.0 / 50.0, f32::INFINITY),
        ] {
            let values = init.values(50_000, 3, 7);
            let moment = |power: i32| values.iter().map(|v| f64::from(*v).powi(power)).sum::<f64>() / 5e4;
            assert!(moment(1).abs() < 0.003, "{init:?}: mean {}", moment(1));
            assert!((moment(2) / variance - 1.0).abs() < 0.02, "{init:?}: variance {}", moment(2));
            assert!(values.iter().all(|value| value.abs() <= largest));
            assert!(values != init.values(50_000, 4, 7) && values != init.values(50_000, 3, 8));
        }
        // A normal number is beyond two deviations in 4.6 of a hundred cases.
        let beyond = Init::he_normal(1, 1, 2).values(50_000, 1, 1).iter().filter(|v| v.abs() > 2.0).count();
        assert!((2_100..2_500).contains(&beyond), "{beyond}");
    }
    #[test]
    fn a_partial_identity_copies_what_it_can() {
        let (kernel, inputs) = (3, 2);
        for outputs in [1, 2, 5] {
            let init = Init::partial_identity(kernel, inputs, outputs);
            let values = init.values(9 * inputs * outputs, 3, 7);
            for (at, &value) in values.iter().enumerate() {
                let (tap, input, output) = (at / outputs / inputs, at / outputs % inputs, at % outputs);
                if output < inputs {
                    assert_eq!(value, f32::from(u8::from(tap == 4 && input == output)), "{at}");
                } else {
                    assert!(value != 0.0 && value.abs() <= 1.0 / 18f32.sqrt(), "{at}: {value}");
                }
            }
        }
    }
}
