//! Cutting along an axis and putting together.
//!
//! [`Slice`] is `y[o, r, i] = x[o, start + r, i]`, and [`Concat`] its opposite, where r counts
//! along the axis and o and i everything before and after it.

use super::constant::Constant;
use crate::kernels::parallel;
use crate::ops::*;

/// The part of x that lies in `range` along an axis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// Counted from 0.
    pub axis: usize,
    /// Along the axis: within x, and not empty.
    pub range: Range<usize>,
}

/// All inputs one after the other along an axis, of shapes that
/// differ along that axis alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Concat {
    /// Counted from 0.
    pub axis: usize,
}

/// A type like this one, of another length along an axis.
fn resized(ty: &TensorType, axis: usize, len: usize) -> TensorType {
    let mut dims = ty.dims().to_vec();
    dims[axis] = len;
    TensorType::f32(dims.as_slice())
}

/// The elements that are neighbours in memory for one index before an axis.
fn row(ty: &TensorType, axis: usize) -> usize {
    ty.dims()[axis..].iter().product()
}

/// A copy of a part of every row.
struct RowCopy {
    count: usize,
    /// Elements of the part.
    copied: usize,
    /// Where the part begins in a row of the first operand, and the length of that row.
    from: [usize; 2],
    /// The same of the second one.
    to: [usize; 2],
}

impl RowCopy {
    fn launch(&self, bindings: [Operand; 2]) -> Dispatches {
        let constants = [
            ("COPIED", self.copied as f64),
            ("FROM", self.from[0] as f64),
            ("ROW_FROM", self.from[1] as f64),
            ("TO", self.to[0] as f64),
            ("ROW_TO", self.to[1] as f64),
        ];
        each_value(shader!("copy_rows"), self.count * self.copied, &constants, bindings.to_vec())
    }
}

impl Op for Slice {
    fn name(&self) -> &'static str {
        "slice"
    }

    fn output_types(&self, inputs: &[&TensorType]) -> Inferred {
        let [x] = floats(inputs)?;
        let Range { start, end } = self.range;
        let fits = x.dims().get(self.axis).is_some_and(|len| start < end && end <= *len);
        require(fits, format_args!("there is no {start}..{end} along axis {} of {x}", self.axis))?;
        Ok(vec![resized(x, self.axis, end - start)])
    }

    /// dy with zeros around it.
    fn gradient(&self, graph: &mut Graph, node: &Node, grads: &[Option<Value>], _: &[bool]) -> Gradients {
        let Some(dy) = grads[0] else { return Ok(vec![None]) };
        let ty = graph.ty(node.inputs[0]).clone();
        let mut parts = Vec::new();
        for (len, before) in [(self.range.start, true), (ty.dims()[self.axis] - self.range.end, false)] {
            let zeros = Constant::zeros(resized(&ty, self.axis, len).shape);
            if len > 0 {
                parts.push(graph.apply1(zeros, &[])?);
            }
            if before {
                parts.push(dy);
            }
        }
        match parts[..] {
            [dy] => Ok(vec![Some(dy)]),
            _ => Ok(vec![Some(graph.apply1(Concat { axis: self.axis }, &parts)?)]),
        }
    }

    fn cpu(&self, types: &Types, _: CpuTarget) -> CpuStep {
        let [from, to] = [&types.inputs[0], &types.outputs[0]].map(|ty| row(ty, self.axis));
        let start = self.range.start * (to / self.range.len());
        CpuStep::new(move |args| {
            let x = args.inputs[0];
            let rows = args.output().0.chunks_mut(to).zip(x.chunks(from));
            parallel::for_each(rows, &mut [], 0, |(y, x), _| y.copy_from_slice(&x[start..][..to]));
        })
    }

    fn gpu(&self, types: &Types) -> Dispatches {
        let [from, to] = [&types.inputs[0], &types.outputs[0]].map(|ty| row(ty, self.axis));
        let start = self.range.start * (to / self.range.len());
        let count = types.outputs[0].len() / to;
        RowCopy { count, copied: to, from: [start, from], to: [0, to] }
            .launch([Operand::Input(0), Operand::Output(0)])
    }

    fn reference(&self, inputs: &[ArrayViewD<f64>]) -> Vec<ArrayD<f64>> {
        let range = ndarray::Slice::from(self.range.clone());
        vec![inputs[0].slice_axis(ndarray::Axis(self.axis), range).to_owned()]
    }
}

impl Op for Concat {
    fn name(&self) -> &'static str {
        "concat"
    }

    fn output_types(&self, inputs: &[&TensorType]) -> Inferred {
        all_floats(inputs)?;
        let axis = self.axis;
        let first = *inputs.first().ok_or("takes at least one input")?;
        require(axis < first.dims().len(), format_args!("there is no axis {axis} in {first}"))?;
        let alike = |ty: &&TensorType| {
            ty.dims().len() == first.dims().len() && resized(ty, axis, 1) == resized(first, axis, 1)
        };
        require(inputs.iter().all(alike), format_args!("the inputs may differ along axis {axis} alone"))?;
        let len = inputs.iter().map(|ty| ty.dims()[axis]).sum();
        Ok(vec![resized(first, axis, len)])
    }

    fn gradient(
        &self,
        graph: &mut Graph,
        node: &Node,
        grads: &[Option<Value>],
        needed: &[bool],
    ) -> Gradients {
        let Some(dy) = grads[0] else { return Ok(vec![None; node.inputs.len()]) };
        let (axis, mut start) = (self.axis, 0);
        let mut out = Vec::new();
        for (&input, &needed) in node.inputs.iter().zip(needed) {
            let range = start..start + graph.ty(input).dims()[axis];
            start = range.end;
            out.push(if needed { Some(graph.apply1(Slice { axis, range }, &[dy])?) } else { None });
        }
        Ok(out)
    }

    fn cpu(&self, types: &Types, _: CpuTarget) -> CpuStep {
        let axis = self.axis;
        let parts: Vec<usize> = types.inputs.iter().map(|ty| row(ty, axis)).collect();
        let to = row(&types.outputs[0], axis);
        CpuStep::new(move |args| {
            let inputs = args.inputs;
            let rows = args.output().0.chunks_mut(to).enumerate();
            parallel::for_each(rows, &mut [], 0, |(index, mut y), _| {
                for (x, &len) in inputs.iter().zip(&parts) {
                    let (part, rest) = y.split_at_mut(len);
                    part.copy_from_slice(&x[index * len..][..len]);
                    y = rest;
                }
            });
        })
    }

    fn gpu(&self, types: &Types) -> Dispatches {
        let row_to = row(&types.outputs[0], self.axis);
        let count = types.outputs[0].len() / row_to;
        let mut start = 0;
        let launch = |(i, ty): (usize, &TensorType)| {
            let copied = row(ty, self.axis);
            let rows = RowCopy { count, copied, from: [0, copied], to: [start, row_to] };
            start += copied;
            rows.launch([Operand::Input(i), Operand::Output(0)]).list
        };
        let list = types.inputs.iter().enumerate().flat_map(launch).collect();
        Dispatches { scratch: Vec::new(), list }
    }

    fn reference(&self, inputs: &[ArrayViewD<f64>]) -> Vec<ArrayD<f64>> {
        let joined = ndarray::concatenate(ndarray::Axis(self.axis), inputs);
        vec![joined.unwrap_or_else(|error| panic!("the shape rule let pass: {error}"))]
    }
}
