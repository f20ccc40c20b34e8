//! `y = factor x`, elementwise.

use crate::kernels::elementwise::each;
use crate::ops::*;

/// A product with a constant. Works in place.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale {
    /// Factor of every element.
    pub factor: f32,
}

impl Op for Scale {
    fn name(&self) -> &'static str {
        "scale"
    }

    fn output_types(&self, inputs: &[&TensorType]) -> Inferred {
        let [x] = floats(inputs)?;
        Ok(vec![x.clone()])
    }

    fn gradient(&self, graph: &mut Graph, _: &Node, grads: &[Option<Value>], _: &[bool]) -> Gradients {
        let dx = grads[0].map(|dy| graph.apply1(*self, &[dy]));
        Ok(vec![dx.transpose()?])
    }

    fn alias(&self) -> Alias {
        Alias::InPlace(&[(0, 0)])
    }

    fn tile(&self, types: &Types, axis: Axis, part: Range<usize>) -> Option<Tile> {
        Tile::images(*self, types, axis, &[0], &part)
    }

    fn cpu(&self, _: &Types, target: CpuTarget) -> CpuStep {
        let factor = self.factor;
        CpuStep::new(move |args| each(target.isa, args.output().0, |x| factor * x))
    }

    fn gpu(&self, types: &Types) -> Dispatches {
        let factor = [self.factor, 0.0, 0.0, 0.0];
        may_be_joined(shader!("scale"), types.outputs[0].len(), &[], &[Operand::Output(0)], factor, &[])
            .into()
    }

    fn reference(&self, inputs: &[ArrayViewD<f64>]) -> Vec<ArrayD<f64>> {
        vec![f64::from(self.factor) * &inputs[0]]
    }
}
