//! `y = max(x, 0)`, or `min(max(x, 0), 6)` for ReLU6. NaN stays NaN.

use super::case::{Case, ELEMENTWISE, Fill};
use super::relu_grad::ReluGrad;
use super::*;
use crate::kernels::{parallel, rows::BLOCK};

/// See the module's documentation. Works in place.
#[derive(Clone, Copy, Debug)]
pub struct Relu {
    /// Which of the two.
    pub activation: Activation,
}

impl Op for Relu {
    fn name(&self) -> &'static str {
        "relu"
    }

    fn output_types(&self, inputs: &[&TensorType]) -> Inferred {
        let [x] = floats(inputs)?;
        Ok(vec![x.clone()])
    }

    fn gradient(&self, graph: &mut Graph, node: &Node, grads: &[Option<Value>], _: &[bool]) -> Gradients {
        // From y alone, so that x need not be kept.
        let op = ReluGrad { activation: self.activation };
        let dx = grads[0].map(|dy| graph.apply1(op, &[dy, node.outputs[0]]));
        Ok(vec![dx.transpose()?])
    }

    fn alias(&self) -> Alias {
        Alias::InPlace(&[(0, 0)])
    }

    fn tile(&self, types: &Types, axis: Axis, part: Range<usize>) -> Option<Tile> {
        Tile::images(*self, types, axis, &[0], &part)
    }

    fn cpu(&self, _: &Types, _: CpuTarget) -> CpuStep {
        let (low, high) = self.activation.clamp();
        CpuStep::new(move |args| {
            parallel::for_each(args.output().0.chunks_mut(16 * BLOCK), &mut [], 0, |y, _| {
                y.iter_mut().for_each(|y| *y = y.clamp(low, high));
            });
        })
    }

    fn gpu(&self, types: &Types) -> Dispatches {
        let vectors = types.outputs[0].len().div_ceil(4);
        let shader = shader!("relu", "vec4", "index", "nan", "activation");
        let bindings = vec![Operand::Output(0)];
        let constants = &[("ACTIVATION", self.activation.number())];
        each_value(shader, vectors, constants, bindings)
    }

    fn reference(&self, _: &Types, inputs: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let (low, high) = self.activation.clamp_f64();
        vec![inputs[0].iter().map(|x| x.clamp(low, high)).collect()]
    }
}

/// Test cases of this op.
pub fn cases() -> Vec<Case> {
    let case = |activation, fill| {
        ELEMENTWISE.map(|dims| {
            Case::new(Relu { activation }, vec![(TensorType::f32(dims), fill)]).differentiable(&[0])
        })
    };
    let relu6 = case(Activation::Relu6, Fill::Uniform(-3.0, 9.0));
    [case(Activation::Relu, Fill::AwayFromZero), relu6].concat()
}
