//! The gradient of [`super::batch_norm`].
//!
//! With `x_hat = (x - mean) / sqrt(variance + epsilon)`, N rows and g the part of dy that passes
//! the activation:
//!
//! `dbeta = sum g`, `dgamma = sum g x_hat`,
//! `dx = gamma / sqrt(variance + epsilon) (g - dbeta / N - x_hat dgamma / N)`

use super::batch_norm::{constants, per_channel, scale_and_shift};
use super::batch_norm_infer::Normalise;
use crate::kernels::batch_norm::{Backward, gradient_apply, gradient_sums};
use crate::kernels::function::activation_slope;
use crate::kernels::rows;
use crate::ops::dispatch::Shader;
use crate::ops::*;

/// Inputs: dy and x `[..., C]`, gamma, beta, mean and variance `[C]`; outputs: dx, dgamma, dbeta.
#[derive(Clone, Copy, Debug)]
pub struct BatchNormGrad {
    /// Added to the variance.
    pub epsilon: f32,
    /// The forward node's.
    pub activation: Activation,
}

impl From<Normalise> for BatchNormGrad {
    fn from(Normalise { epsilon, activation }: Normalise) -> BatchNormGrad {
        BatchNormGrad { epsilon, activation }
    }
}

/// Vectors of coefficients in scratch, each an element a channel.
const VECTORS: usize = 5;

/// Operands of the passes over dy and x, and the coefficients of the second one, which follow from
/// the sums.
pub(crate) struct NormGradCoefficients<'a> {
    pub backward: Backward<'a>,
    slope: &'a mut [f32],
    offset: &'a mut [f32],
}

impl<'a> NormGradCoefficients<'a> {
    /// Scratch elements of [`NormGradCoefficients::new`].
    pub fn scratch(channels: usize) -> usize {
        VECTORS * channels
    }

    /// The coefficients that follow from the forward pass; returns what it left of the scratch,
    /// too.
    pub fn new(
        norm: &BatchNormGrad,
        [dy, x, gamma, beta, mean, variance]: [&'a [f32]; 6],
        scratch: &'a mut [f32],
    ) -> (Self, &'a mut [f32]) {
        let (both, scratch) = scratch.split_at_mut(2 * gamma.len());
        let (scale, shift) = both.split_at_mut(gamma.len());
        scale_and_shift([gamma, beta, mean, variance], norm.epsilon, scale, shift);
        NormGradCoefficients::with_scales(norm, [dy, x, scale, shift, mean, variance], scratch)
    }

    /// The same of scales and shifts that are known.
    pub fn with_scales(
        norm: &BatchNormGrad,
        [dy, x, scale, shift, mean, variance]: [&'a [f32]; 6],
        scratch: &'a mut [f32],
    ) -> (Self, &'a mut [f32]) {
        let channels = scale.len();
        let (vectors, rest) = scratch.split_at_mut((VECTORS - 2) * channels);
        let mut vectors = vectors.chunks_exact_mut(channels);
        let [inv_std, slope, offset] = std::array::from_fn(|_| vectors.next().unwrap_or_default());
        for (inv_std, variance) in inv_std.iter_mut().zip(variance) {
            *inv_std = 1.0 / (variance + norm.epsilon).sqrt();
        }
        let backward = Backward { x, dy, mean, inv_std, scale, shift, activation: norm.activation };
        (NormGradCoefficients { backward, slope, offset }, rest)
    }

    /// Slope and offset of dx over x: `dx = scale g + slope x + offset`.
    pub fn slope_and_offset(&mut self, dgamma: &[f32], dbeta: &[f32]) -> [&[f32]; 2] {
        let Backward { x, mean, inv_std, scale, .. } = self.backward;
        let count = (x.len() / mean.len()) as f32;
        for c in 0..mean.len() {
            self.slope[c] = -scale[c] * inv_std[c] * dgamma[c] / count;
            self.offset[c] = -scale[c] * dbeta[c] / count - mean[c] * self.slope[c];
        }
        [self.slope, self.offset]
    }
}

impl BatchNormGrad {
    /// The three launches, with a shader that [`gradient_shader`] gives, and its own constants.
    pub(crate) fn dispatches(
        &self,
        types: &Types,
        shader: Shader,
        more: &[(&'static str, f64)],
    ) -> Dispatches {
        use Operand::{Input, Output, Scratch};
        let channels = types.inputs[2].len();
        let reduction = Reduction::new(&types.inputs[1]);
        let stage = |entry, bindings, groups| Dispatch {
            shader,
            entry,
            constants: [&constants(&reduction, self.epsilon, self.activation), more].concat(),
            bindings,
            groups,
        };
        let (partial, coefficients) = (Scratch(0), Scratch(1));
        let vectors = [Input(2), Input(3), Input(4), Input(5)];
        let blocks = [&[Input(0), Input(1)], &vectors[..], &[partial]].concat();
        let total = [&[partial, Output(1)], &vectors[..], &[Output(2), coefficients]].concat();
        let list = vec![
            stage("blocks", blocks, reduction.block_groups()),
            stage("total", total, reduction.total_groups()),
            stage("apply", vec![Input(0), Input(1), coefficients, Output(0)], reduction.value_groups()),
        ];
        Dispatches { scratch: vec![reduction.partial(2, channels), 4 * channels], list }
    }
}

impl BatchNormGrad {
    /// Launches behind those that have left dy in output 0, and in scratch 0 sums of g (x - mean)
    /// and of g of each block of rows. Operands: x, scales and shifts, mean and variance.
    pub(crate) fn finish_gathered(
        &self,
        mut work: Dispatches,
        reduction: Reduction,
        [x, scale_shift, mean, variance]: [Operand; 4],
    ) -> Dispatches {
        use Operand::{Output, Scratch};
        let coefficients = Scratch(work.scratch.len());
        work.scratch.push(2 * reduction.channels());
        let mut own = vec![("EPSILON", f64::from(self.epsilon))];
        own.extend(function_constants(self.activation));
        let numbers = reduction.numbers();
        let stage = |entry, bindings, groups| Dispatch {
            shader: shader!("norm_grad", "vec4"),
            entry,
            constants: own.clone(),
            bindings,
            groups,
        };
        let total =
            vec![Scratch(0), scale_shift, mean, variance, Output(1), Output(2), coefficients, numbers];
        work.list.push(stage("total", total, reduction.total_groups()));
        let apply = vec![coefficients, scale_shift, x, Output(0), numbers];
        work.list.push(stage("apply", apply, reduction.value_groups()));
        work
    }
}

/// `batch_norm_grad` with the include that says what of dy reaches a value of x.
macro_rules! gradient_shader {
    ($types:expr, $gradient:literal) => {
        wide_shader!($types.inputs[2].len(), "batch_norm_grad", $gradient)
    };
}
pub(crate) use gradient_shader;

impl Op for BatchNormGrad {
    fn name(&self) -> &'static str {
        "batch_norm_grad"
    }

    fn output_names(&self) -> &'static [&'static str] {
        &["dx", "dgamma", "dbeta"]
    }

    fn output_types(&self, inputs: &[&TensorType]) -> Inferred {
        let [dy, x, gamma, beta, mean, variance] = floats(inputs)?;
        require(dy == x, "dy and x must have one shape")?;
        per_channel(x, &[gamma, beta, mean, variance])?;
        Ok(vec![x.clone(), gamma.clone(), beta.clone()])
    }

    fn cpu(&self, types: &Types, target: CpuTarget) -> CpuStep {
        let (op, channels) = (*self, types.inputs[2].len());
        let sums = rows::scratch(types.inputs[1].len() / channels, channels, 2);
        CpuStep::with_scratch(NormGradCoefficients::scratch(channels) + sums, move |args| {
            let inputs = args.inputs_from(0);
            let ([dx, dgamma, dbeta], scratch) = args.outputs();
            let (mut coefficients, rest) = NormGradCoefficients::new(&op, inputs, scratch);
            gradient_sums(target.isa, coefficients.backward, [&mut *dgamma, &mut *dbeta], rest);
            let backward = coefficients.backward;
            gradient_apply(target.isa, backward, coefficients.slope_and_offset(dgamma, dbeta), dx);
        })
    }

    fn gpu(&self, types: &Types) -> Dispatches {
        self.dispatches(types, gradient_shader!(types, "whole_gradient"), &[])
    }

    fn reference(&self, inputs: &[ArrayViewD<f64>]) -> Vec<ArrayD<f64>> {
        let [dy, x, gamma, beta, mean, variance] = operands(inputs);
        let inv_std = 1.0 / (variance + f64::from(self.epsilon)).sqrt();
        let x_hat = (x - mean) * &inv_std;
        let slope = (&x_hat * gamma + beta).mapv(|y| activation_slope(self.activation, y));
        let g = dy * &slope;
        let (dbeta, dgamma) = (channel_sums(&g), channel_sums(&(&g * &x_hat)));
        let count = (x.len() / gamma.len()) as f64;
        let dx = gamma * &inv_std * (g - &dbeta / count - x_hat * &dgamma / count);
        vec![dx, dgamma, dbeta]
    }
}
