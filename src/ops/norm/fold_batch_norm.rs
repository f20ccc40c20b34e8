//! The weights and the bias of a convolution with the batch normalisation that follows it, in
//! inference:
//!
//! `w'[.., o] = w[.., o] s[o]` and `b'[o] = beta[o] + (b[o] - mean[o]) s[o]`, where
//! `s = gamma / sqrt(variance + epsilon)`
//!
//! so that `x * w' + b'` is the normalisation of `x * w + b`. In a plan that leaves the parameters
//! alone this is a constant step: it runs again only after they have changed.

use super::batch_norm::{per_channel, scale_and_shift};
use crate::kernels::batch_norm::{self, Affine};
use crate::ops::*;

/// Weights and bias with their normalisation folded in. Inputs: w `[.., O]`, then gamma, beta, mean
/// and variance `[O]`, and the convolution's bias `[O]`, if it has one; outputs: the new w and
/// bias.
#[derive(Clone, Copy, Debug)]
pub struct FoldBatchNorm {
    /// Added to the variance.
    pub epsilon: f32,
}

impl Op for FoldBatchNorm {
    fn name(&self) -> &'static str {
        "fold_batch_norm"
    }

    fn output_types(&self, inputs: &[&TensorType]) -> Inferred {
        require((5..=6).contains(&inputs.len()), "takes w, gamma, beta, mean, variance and perhaps a bias")?;
        all_floats(inputs)?;
        per_channel(inputs[0], &inputs[1..])?;
        Ok(vec![inputs[0].clone(), inputs[1].clone()])
    }

    fn cpu(&self, types: &Types, target: CpuTarget) -> CpuStep {
        let (epsilon, channels, has_bias) = (self.epsilon, types.inputs[1].len(), types.inputs.len() == 6);
        CpuStep::with_scratch(2 * channels, move |args| {
            let [w, gamma, beta, mean, variance, old_bias] = args.inputs_from(0);
            let ([folded, bias], scratch) = args.outputs();
            let (scale, zero) = scratch.split_at_mut(channels);
            zero.fill(0.0);
            scale_and_shift([gamma, beta, mean, variance], epsilon, scale, bias);
            let old_bias = if has_bias { old_bias } else { &*zero };
            for (bias, (old, scale)) in bias.iter_mut().zip(old_bias.iter().zip(&*scale)) {
                *bias += old * scale;
            }
            batch_norm::apply(target.isa, w, Affine { scale, shift: zero, activation: None }, folded);
        })
    }

    fn gpu(&self, types: &Types) -> Dispatches {
        let channels = types.inputs[1].len();
        let has_bias = types.inputs.len() == 6;
        // Without a bias there is something to bind all the same, which is not read.
        let inputs = [0, 1, 2, 3, 4, if has_bias { 5 } else { 1 }].map(Operand::Input);
        let outputs = [Operand::Output(0), Operand::Output(1)];
        let constants = [
            ("COLUMNS", (channels / width(channels)) as f64),
            ("HAS_BIAS", f64::from(u8::from(has_bias))),
            ("EPSILON", f64::from(self.epsilon)),
        ];
        let shader = wide_shader!(channels, "fold_batch_norm");
        let values = types.inputs[0].len() / width(channels);
        each_value(shader, values, &constants, inputs.into_iter().chain(outputs).collect())
    }

    fn reference(&self, inputs: &[ArrayViewD<f64>]) -> Vec<ArrayD<f64>> {
        let [w, gamma, beta, mean, variance] = operands(inputs);
        let scale = gamma / &(variance + f64::from(self.epsilon)).sqrt();
        let old_bias = inputs.get(5).map_or(ArrayD::zeros(beta.raw_dim()), |bias| bias.to_owned());
        vec![w * &scale, beta + (old_bias - mean) * &scale]
    }
}
