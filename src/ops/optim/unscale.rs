//! `g = gradient / scale`: the gradient of a loss, from that of the loss times `scale`.
//!
//! A training in half precision multiplies its loss by a power of two, so that small gradients of
//! activations stay above the smallest half. What is computed from the gradients of parameters is
//! not stored so: a device keeps the inputs of this op, and all that depends on its output, in
//! single precision.

use crate::ops::map::scale::Scale;
use crate::ops::*;

/// A gradient divided by the scale of its loss, a power of two, so that no digit is lost. Works in
/// place.
#[derive(Clone, Copy, Debug)]
pub struct Unscale {
    /// What the loss was multiplied by.
    pub scale: f32,
}

impl Unscale {
    fn product(self) -> Scale {
        Scale { factor: 1.0 / self.scale }
    }
}

impl Op for Unscale {
    fn name(&self) -> &'static str {
        "unscale"
    }

    fn output_types(&self, inputs: &[&TensorType]) -> Inferred {
        self.product().output_types(inputs)
    }

    fn alias(&self) -> Alias {
        self.product().alias()
    }

    fn cpu(&self, types: &Types, target: CpuTarget) -> CpuStep {
        self.product().cpu(types, target)
    }

    fn gpu(&self, types: &Types) -> Dispatches {
        self.product().gpu(types)
    }

    fn reference(&self, inputs: &[ArrayViewD<f64>]) -> Vec<ArrayD<f64>> {
        vec![&inputs[0] / f64::from(self.scale)]
    }
}
