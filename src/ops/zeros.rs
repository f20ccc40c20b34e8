//! `y = 0`: what a rule of the devices puts in the place of a gradient that it knows to be zero.

use super::case::{Case, ELEMENTWISE};
use super::*;
use crate::tensor::Shape;

/// See the module's documentation. No inputs; the output has the given shape.
#[derive(Clone, Debug)]
pub struct Zeros {
    /// Of the output.
    pub shape: Shape,
}

impl Op for Zeros {
    fn name(&self) -> &'static str {
        "zeros"
    }

    fn output_types(&self, inputs: &[&TensorType]) -> Inferred {
        let [] = floats(inputs)?;
        Ok(vec![TensorType::f32(self.shape.clone())])
    }

    fn cpu(&self, _: &Types, _: CpuTarget) -> CpuStep {
        CpuStep::new(|args| args.output().0.fill(0.0))
    }

    fn gpu(&self, types: &Types) -> Dispatches {
        let vectors = types.outputs[0].len().div_ceil(4);
        each_value(shader!("zeros"), vectors, &[], vec![Operand::Output(0)])
    }

    fn reference(&self, types: &Types, _: &[Vec<f64>]) -> Vec<Vec<f64>> {
        vec![vec![0.0; types.outputs[0].len()]]
    }
}

/// Test cases of this op.
pub fn cases() -> Vec<Case> {
    ELEMENTWISE.map(|dims| Case::new(Zeros { shape: dims.into() }, Vec::new())).to_vec()
}
