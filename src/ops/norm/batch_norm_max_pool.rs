//! [`super::batch_norm_infer`] with its activation, then [`crate::ops::pool::max_pool`] over
//! windows of 2x2:
//!
//! `y = max over the window of activation(gamma (x - mean) / sqrt(variance + epsilon) + beta)`
//!
//! A rule of the devices makes it of the two in training, where the convolution before has gathered
//! the statistics. It saves half of the traffic: the normalised values are neither stored nor read.

use super::batch_norm_infer::{BatchNormInfer, Normalise};
use crate::kernels::batch_norm_pool::{self, Size};
use crate::ops::pool::max_pool::MaxPool;
use crate::ops::*;

/// The pooling that is fused.
pub const POOL: MaxPool = MaxPool::side_by_side(2);

/// Normalisation, activation and pooling in one. Inputs: x `[N, H, W, C]`, then gamma, beta, mean
/// and variance `[C]`; output y `[N, H / 2, W / 2, C]`.
#[derive(Clone, Copy, Debug)]
pub struct BatchNormMaxPool {
    /// Its activation is applied before the largest is chosen.
    pub norm: Normalise,
}

/// Size of the images `[N, H, W, C]`.
pub(crate) fn size(x: &TensorType) -> Size {
    Size { height: x.dims()[1], width: x.dims()[2] }
}

impl Op for BatchNormMaxPool {
    fn name(&self) -> &'static str {
        "batch_norm_max_pool"
    }

    fn output_types(&self, inputs: &[&TensorType]) -> Inferred {
        POOL.output_types(&[&BatchNormInfer::from(self.norm).output_types(inputs)?.remove(0)])
    }

    fn cpu(&self, types: &Types, target: CpuTarget) -> CpuStep {
        let (norm, size) = (self.norm, size(&types.inputs[0]));
        CpuStep::with_scratch(2 * types.inputs[1].len(), move |args| {
            let (x, vectors) = (args.inputs[0], args.inputs_from(1));
            let (y, scratch) = args.output();
            batch_norm_pool::apply(target.isa, size, x, norm.affine(vectors, scratch), y);
        })
    }

    fn gpu(&self, types: &Types) -> Dispatches {
        let x = &types.inputs[0];
        let channels = x.shape.last();
        let mut constants = vec![
            ("COLUMNS", (channels / width(channels)) as f64),
            ("HEIGHT", size(x).height as f64),
            ("WIDTH", size(x).width as f64),
            ("EPSILON", f64::from(self.norm.epsilon)),
        ];
        constants.extend(function_constants(self.norm.activation));
        let shader = wide_shader!(channels, "batch_norm_max_pool");
        let bindings = (0..5).map(Operand::Input).chain([Operand::Output(0)]).collect();
        each_value(shader, types.outputs[0].len() / width(channels), &constants, bindings)
    }

    fn reference(&self, inputs: &[ArrayViewD<f64>]) -> Vec<ArrayD<f64>> {
        POOL.reference(&views(&BatchNormInfer::from(self.norm).reference(inputs)))
    }
}
