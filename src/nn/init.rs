//! Initial values of parameters.

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
}

impl Init {
    /// [`Init::GlorotUniform`] of a weight.
    pub fn glorot_uniform(fan_in: usize, fan_out: usize) -> Init {
        Init::GlorotUniform { fan_in, fan_out }
    }

    /// [`Init::HeNormal`] of a weight, by what goes out of it: gradients keep their spread, as in
    /// the ResNets of their authors and of torchvision.
    pub fn he_normal(_fan_in: usize, fan_out: usize) -> Init {
        Init::HeNormal { fan: fan_out }
    }

    /// The values of a parameter of `len` elements. `index` is the parameter's place in its model:
    /// every parameter draws numbers of its own.
    pub fn values(&self, len: usize, seed: u32, index: u32) -> Vec<f32> {
        match *self {
            Init::Constant(value) => vec![value; len],
            Init::GlorotUniform { fan_in, fan_out } => {
                let bound = (6.0 / (fan_in + fan_out) as f32).sqrt();
                let value = |i| (2.0 * rng::unit(rng::draw(seed, Stream::Init, index, i)[0]) - 1.0) * bound;
                (0..len as u32).map(value).collect()
            }
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
            (Init::glorot_uniform(20, 30), 2.0 / 50.0, (6.0f32 / 50.0).sqrt()),
            (Init::he_normal(20, 50), 2.0 / 50.0, f32::INFINITY),
        ] {
            let values = init.values(50_000, 3, 7);
            let moment = |power: i32| values.iter().map(|v| f64::from(*v).powi(power)).sum::<f64>() / 5e4;
            assert!(moment(1).abs() < 0.003, "{init:?}: mean {}", moment(1));
            assert!((moment(2) / variance - 1.0).abs() < 0.02, "{init:?}: variance {}", moment(2));
            assert!(values.iter().all(|value| value.abs() <= largest));
            assert!(values != init.values(50_000, 4, 7) && values != init.values(50_000, 3, 8));
        }
        // A normal number is beyond two deviations in 4.6 of a hundred cases.
        let beyond = Init::he_normal(1, 2).values(50_000, 1, 1).iter().filter(|v| v.abs() > 2.0).count();
        assert!((2_100..2_500).contains(&beyond), "{beyond}");
    }
}
