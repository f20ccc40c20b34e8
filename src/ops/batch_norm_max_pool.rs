//! [`super::batch_norm_infer`] with its activation, then [`super::max_pool`] over windows of 2x2:
//!
//! `y = max over the window of activation(gamma (x - mean) / sqrt(variance + epsilon) + beta)`
//!
//! A rule of the devices makes it of the two in training, where the convolution before has gathered
//! the statistics. It saves half of the traffic: the normalised values are neither stored nor read.

use super::batch_norm_infer::{BatchNormInfer, Normalise};
use super::case::{Case, Fill};
use super::max_pool::MaxPool;
use super::*;
use crate::kernels::batch_norm_pool::{self, Size};

/// The pooling that is fused.
pub const POOL: MaxPool = MaxPool::side_by_side(2);

/// See the module's documentation. Inputs: x `[N, H, W, C]`, then gamma, beta, mean and variance
/// `[C]`; output y `[N, H / 2, W / 2, C]`.
#[derive(Clone, Copy, Debug)]
pub struct BatchNormMaxPool {
    /// Its activation is applied before the largest is chosen.
    pub norm: Normalise,
}

/// Of the images `[N, H, W, C]`.
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
            batch_norm_pool::apply(target.isa, size, x, norm.line(vectors, scratch), y);
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

    fn reference(&self, types: &Types, inputs: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let pooled = Types { inputs: types.inputs[..1].to_vec(), outputs: types.outputs.clone() };
        POOL.reference(&pooled, &BatchNormInfer::from(self.norm).reference(types, inputs))
    }
}

/// Test cases of this op.
pub fn cases() -> Vec<Case> {
    let case = |dims: [usize; 4], activation| {
        let channels = TensorType::f32([dims[3]]);
        let vector = |low, high| (channels.clone(), Fill::Uniform(low, high));
        // So small that many values are above 6.
        let variance =
            if activation == Some(Function::Relu6) { vector(0.01, 0.05) } else { vector(0.1, 2.0) };
        let inputs = vec![
            (TensorType::f32(dims), Fill::Distinct),
            vector(0.5, 1.5),
            vector(-1.0, 1.0),
            vector(-0.5, 0.5),
            variance,
        ];
        Case::new(BatchNormMaxPool { norm: Normalise { epsilon: 1e-3, activation } }, inputs)
    };
    vec![
        case([2, 4, 6, 5], None),
        case([3, 5, 7, 4], Some(Function::Relu)),
        case([2, 2, 3, 16], Some(Function::Relu6)),
        case([2, 17, 18, 12], Some(Function::Relu)),
        case([5, 12, 9, 33], Some(Function::Relu)),
        // Several work items of the CPU's an image, of one row of windows and of two.
        case([2, 6, 9, 1000], Some(Function::Relu)),
        case([2, 11, 18, 300], Some(Function::Relu)),
    ]
}
