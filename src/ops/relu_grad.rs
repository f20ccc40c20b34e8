//! `dx = dy` where ReLU let x through (`0 < y`, and `y < 6` for ReLU6), else 0.

use super::case::{Case, ELEMENTWISE, Fill};
use super::*;
use crate::kernels::{parallel, rows::BLOCK};

/// Inputs: `dy`, and the forward pass's output `y`. Works in place on `dy`.
#[derive(Clone, Copy, Debug)]
pub struct ReluGrad {
    /// The forward node's.
    pub activation: Activation,
}

impl Op for ReluGrad {
    fn name(&self) -> &'static str {
        "relu_grad"
    }

    fn output_types(&self, inputs: &[&TensorType]) -> Inferred {
        let [dy, y] = floats(inputs)?;
        require(dy == y, "dy and y must have one shape")?;
        Ok(vec![dy.clone()])
    }

    fn alias(&self) -> Alias {
        Alias::InPlace(&[(0, 0)])
    }

    fn cpu(&self, _: &Types, _: CpuTarget) -> CpuStep {
        let (low, high) = self.activation.clamp();
        CpuStep::new(move |args| {
            let y = args.inputs[1];
            let (dx, _) = args.output();
            let block = 16 * BLOCK;
            parallel::for_each(dx.chunks_mut(block).zip(y.chunks(block)), &mut [], 0, |(dx, y), _| {
                dx.iter_mut().zip(y).for_each(|(dx, &y)| *dx = if y > low && y < high { *dx } else { 0.0 });
            });
        })
    }

    fn gpu(&self, types: &Types) -> Dispatches {
        let vectors = types.outputs[0].len().div_ceil(4);
        let shader = shader!("relu_grad", "vec4", "index", "nan", "activation");
        let bindings = vec![Operand::Input(1), Operand::Output(0)];
        let constants = &[("ACTIVATION", self.activation.number())];
        each_value(shader, vectors, constants, bindings)
    }

    fn reference(&self, _: &Types, inputs: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let (low, high) = self.activation.clamp_f64();
        let dx = inputs[0].iter().zip(&inputs[1]).map(|(dy, &y)| if y > low && y < high { *dy } else { 0.0 });
        vec![dx.collect()]
    }
}

/// Test cases of this op.
pub fn cases() -> Vec<Case> {
    let case = |activation, fill| {
        ELEMENTWISE.map(|dims| {
            let ty = || TensorType::f32(dims);
            Case::new(ReluGrad { activation }, vec![(ty(), Fill::Uniform(-1.0, 1.0)), (ty(), fill)])
        })
    };
    let relu6 = case(Activation::Relu6, Fill::Uniform(-3.0, 9.0));
    [case(Activation::Relu, Fill::AwayFromZero), relu6].concat()
}
