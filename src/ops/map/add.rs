//! `y = a + b`, elementwise: residual connections, and gradients that reach a value by two ways.

use crate::kernels::{parallel, rows::BLOCK};
use crate::ops::*;

/// See the module's documentation. Inputs: two `f32` of one shape; works in place on the first.
#[derive(Clone, Copy, Debug)]
pub struct Add;

impl Op for Add {
    fn name(&self) -> &'static str {
        "add"
    }

    fn output_types(&self, inputs: &[&TensorType]) -> Inferred {
        let [a, b] = floats(inputs)?;
        require(a == b, "the two inputs must have one shape")?;
        Ok(vec![a.clone()])
    }

    fn gradient(&self, _: &mut Graph, _: &Node, grads: &[Option<Value>], _: &[bool]) -> Gradients {
        Ok(vec![grads[0], grads[0]])
    }

    fn alias(&self) -> Alias {
        Alias::InPlace(&[(0, 0)])
    }

    fn tile(&self, types: &Types, axis: Axis, part: Range<usize>) -> Option<Tile> {
        Tile::images(*self, types, axis, &[0, 1], &part)
    }

    fn cpu(&self, _: &Types, _: CpuTarget) -> CpuStep {
        CpuStep::new(|args| {
            let b = args.inputs[1];
            let (y, _) = args.output();
            let block = 16 * BLOCK;
            parallel::for_each(y.chunks_mut(block).zip(b.chunks(block)), &mut [], 0, |(y, b), _| {
                y.iter_mut().zip(b).for_each(|(y, b)| *y += b);
            });
        })
    }

    fn gpu(&self, types: &Types) -> Dispatches {
        let vectors = types.outputs[0].len().div_ceil(4);
        let shader = shader!("add");
        let bindings = vec![Operand::Input(1), Operand::Output(0)];
        each_value(shader, vectors, &[], bindings)
    }

    fn reference(&self, inputs: &[ArrayViewD<f64>]) -> Vec<ArrayD<f64>> {
        vec![&inputs[0] + &inputs[1]]
    }
}
