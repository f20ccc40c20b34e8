//! The gradient of [`super::batch_norm_max_pool`].
//!
//! It is that of [`super::batch_norm_grad`], where the gradient of the normalised values is each
//! window's dy at its first largest element, and 0 elsewhere.

use super::batch_norm::per_channel;
use super::batch_norm_grad::{BatchNormGrad, NormGradCoefficients, gradient_shader};
use super::batch_norm_infer::{BatchNormInfer, Normalise};
use super::batch_norm_max_pool::{POOL, size};
use crate::kernels::batch_norm_pool::{Size, gradient_apply, gradient_scratch, gradient_sums};
use crate::ops::pool::max_pool_grad::MaxPoolGrad;
use crate::ops::*;

/// Inputs: dy `[N, H / 2, W / 2, C]`, x `[N, H, W, C]`, gamma, beta, mean and variance `[C]`;
/// outputs: dx, dgamma, dbeta.
#[derive(Clone, Copy, Debug)]
pub struct BatchNormMaxPoolGrad {
    /// The forward node's.
    pub norm: Normalise,
}

impl Op for BatchNormMaxPoolGrad {
    fn name(&self) -> &'static str {
        "batch_norm_max_pool_grad"
    }

    fn output_names(&self) -> &'static [&'static str] {
        &["dx", "dgamma", "dbeta"]
    }

    fn output_types(&self, inputs: &[&TensorType]) -> Inferred {
        let [dy, x, gamma, beta, mean, variance] = floats(inputs)?;
        require(POOL.output_types(&[x])?[0] == *dy, "dy must have the shape of x, pooled")?;
        per_channel(x, &[gamma, beta, mean, variance])?;
        Ok(vec![x.clone(), gamma.clone(), beta.clone()])
    }

    fn cpu(&self, types: &Types, target: CpuTarget) -> CpuStep {
        let (norm, size) = (BatchNormGrad::from(self.norm), size(&types.inputs[1]));
        let channels = types.inputs[2].len();
        let sums = gradient_scratch(size, types.inputs[1].dims()[0], channels);
        CpuStep::with_scratch(NormGradCoefficients::scratch(channels) + sums, move |args| {
            let inputs = args.inputs_from(0);
            let ([dx, dgamma, dbeta], scratch) = args.outputs();
            let (mut coefficients, rest) = NormGradCoefficients::new(&norm, inputs, scratch);
            gradient_sums(target.isa, size, coefficients.backward, [&mut *dgamma, &mut *dbeta], rest);
            let backward = coefficients.backward;
            gradient_apply(target.isa, size, backward, coefficients.slope_and_offset(dgamma, dbeta), dx);
        })
    }

    fn gpu(&self, types: &Types) -> Dispatches {
        let Size { height, width } = size(&types.inputs[1]);
        let constants = [("HEIGHT", height as f64), ("WIDTH", width as f64)];
        BatchNormGrad::from(self.norm).dispatches(
            types,
            gradient_shader!(types, "pooled_gradient"),
            &constants,
        )
    }

    fn reference(&self, inputs: &[ArrayViewD<f64>]) -> Vec<ArrayD<f64>> {
        let [dy, x] = operands(inputs);
        let normal = BatchNormInfer::from(self.norm).reference(&inputs[1..]).remove(0);
        let largest = POOL.reference(&[normal.view()]).remove(0);
        let back =
            MaxPoolGrad { pool: POOL }.reference(&[normal.view(), largest.view(), dy.view()]).remove(0);
        let vectors = &inputs[2..];
        BatchNormGrad::from(self.norm).reference(&[&[back.view(), x.view()], vectors].concat())
    }
}
