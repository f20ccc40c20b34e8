//! `y = value`, everywhere: weights of an average, and zeros where a gradient is known to be zero.

use crate::ops::*;
use crate::tensor::Shape;

/// A tensor of one value. No inputs; the output has the given shape.
#[derive(Clone, Debug)]
pub struct Constant {
    /// Shape of the output.
    pub shape: Shape,
    /// Value of every element.
    pub value: f32,
}

impl Constant {
    /// Zeros.
    pub fn zeros(shape: Shape) -> Constant {
        Constant { shape, value: 0.0 }
    }
}

impl Op for Constant {
    fn name(&self) -> &'static str {
        "constant"
    }

    fn output_types(&self, inputs: &[&TensorType]) -> Inferred {
        let [] = floats(inputs)?;
        Ok(vec![TensorType::f32(self.shape.clone())])
    }

    fn gradient(&self, _: &mut Graph, _: &Node, _: &[Option<Value>], _: &[bool]) -> Gradients {
        Ok(Vec::new())
    }

    fn cpu(&self, _: &Types, _: CpuTarget) -> CpuStep {
        let value = self.value;
        CpuStep::new(move |args| args.output().0.fill(value))
    }

    fn gpu(&self, types: &Types) -> Dispatches {
        let vectors = types.outputs[0].len().div_ceil(4);
        let constants = [("VALUE", f64::from(self.value))];
        each_value(shader!("constant"), vectors, &constants, vec![Operand::Output(0)])
    }

    fn reference(&self, _: &[ArrayViewD<f64>]) -> Vec<ArrayD<f64>> {
        vec![ArrayD::from_elem(self.shape.dims(), f64::from(self.value))]
    }
}
