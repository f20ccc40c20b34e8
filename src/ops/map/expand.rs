//! The opposite of [`super::reduce`]: every element counts for all of some axes, `y[o, r, i] = x[o,
//! i]`.

use super::reduce::{Reduce, ReduceKind, around, without};
use crate::kernels::parallel;
use crate::ops::*;
use crate::tensor::Shape;

/// A repetition of every element along some axes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expand {
    /// The shape of y.
    pub shape: Shape,
    /// The axes of y that x does not have.
    pub axes: Range<usize>,
}

impl Op for Expand {
    fn name(&self) -> &'static str {
        "expand"
    }

    fn output_types(&self, inputs: &[&TensorType]) -> Inferred {
        let [x] = floats(inputs)?;
        let Range { start, end } = self.axes;
        let fits = start < end && end <= self.shape.dims().len();
        require(fits, format_args!("there are no axes {start}..{end} in {:?}", self.shape))?;
        let wanted = without(self.shape.dims(), &self.axes);
        require(x.dims() == wanted, format_args!("x must be {wanted:?}"))?;
        Ok(vec![TensorType::f32(self.shape.clone())])
    }

    fn gradient(&self, graph: &mut Graph, _: &Node, grads: &[Option<Value>], _: &[bool]) -> Gradients {
        let dx = grads[0].map(|dy| graph.apply1(Reduce::new(ReduceKind::Sum, self.axes.clone()), &[dy]));
        Ok(vec![dx.transpose()?])
    }

    fn tile(&self, types: &Types, axis: Axis, part: Range<usize>) -> Option<Tile> {
        let is_batched = self.axes.start > 0 && axis == Axis::Batch;
        let dims = [&[part.len()], self.shape.dims().get(1..)?].concat();
        let op = Expand { shape: dims.as_slice().into(), axes: self.axes.clone() };
        is_batched.then(|| Tile::images(op, types, axis, &[0], &part))?
    }

    fn cpu(&self, _: &Types, _: CpuTarget) -> CpuStep {
        let [_, along, after] = around(self.shape.dims(), &self.axes);
        CpuStep::new(move |args| {
            let x = args.inputs[0];
            let rows = args.output().0.chunks_mut(after).enumerate();
            parallel::for_each(rows, &mut [], 0, |(row, y), _| {
                y.copy_from_slice(&x[row / along * after..][..after]);
            });
        })
    }

    fn gpu(&self, types: &Types) -> Dispatches {
        let [_, along, after] = around(self.shape.dims(), &self.axes);
        let width = width(after);
        let constants = [("ALONG", along as f64), ("AFTER", (after / width) as f64)];
        let bindings = vec![Operand::Input(0), Operand::Output(0)];
        let values = types.outputs[0].len() / width;
        each_value(wide_shader!(after, "expand"), values, &constants, bindings)
    }

    fn reference(&self, inputs: &[ArrayViewD<f64>]) -> Vec<ArrayD<f64>> {
        let mut dims = self.shape.dims().to_vec();
        dims[self.axes.clone()].fill(1);
        vec![spread(&shaped(&inputs[0], &dims).view(), self.shape.dims()).to_owned()]
    }
}
