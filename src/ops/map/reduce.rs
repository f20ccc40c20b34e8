//! Sum, mean or maximum over neighbouring axes, which the output does not have.
//!
//! `y[o, i] = sum over r of x[o, r, i]`, where o stands for the axes before them and i for those
//! after.

use super::binary::{Binary, Function2};
use super::expand::Expand;
use super::scale::Scale;
use crate::kernels::reduce::{self, Reduction};
use crate::ops::*;

/// Way to combine the elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReduceKind {
    /// They are added.
    Sum,
    /// They are added and divided by their number.
    Mean,
    /// The largest is taken; several largest share its gradient.
    Max,
}

/// A sum, mean or maximum over neighbouring axes, which the output does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reduce {
    /// Sum, mean or maximum.
    pub kind: ReduceKind,
    /// The axes over which.
    pub axes: Range<usize>,
}

/// The sizes before, along and after some axes.
pub(super) fn around(dims: &[usize], axes: &Range<usize>) -> [usize; 3] {
    [&dims[..axes.start], &dims[axes.clone()], &dims[axes.end..]].map(|part| part.iter().product())
}

/// Dimensions without these axes; a single value keeps one.
pub(crate) fn without(dims: &[usize], axes: &Range<usize>) -> Vec<usize> {
    let left: Vec<usize> = [&dims[..axes.start], &dims[axes.end..]].concat();
    if left.is_empty() { vec![1] } else { left }
}

impl Reduce {
    /// Over these axes.
    pub fn new(kind: ReduceKind, axes: Range<usize>) -> Reduce {
        Reduce { kind, axes }
    }
}

impl Op for Reduce {
    fn name(&self) -> &'static str {
        match self.kind {
            ReduceKind::Sum => "reduce_sum",
            ReduceKind::Mean => "reduce_mean",
            ReduceKind::Max => "reduce_max",
        }
    }

    fn output_types(&self, inputs: &[&TensorType]) -> Inferred {
        let [x] = floats(inputs)?;
        let Range { start, end } = self.axes;
        let fits = start < end && end <= x.dims().len() && !x.is_empty();
        require(fits, format_args!("there are no axes {start}..{end} with elements to reduce"))?;
        Ok(vec![TensorType::f32(without(x.dims(), &self.axes).as_slice())])
    }

    fn gradient(&self, graph: &mut Graph, node: &Node, grads: &[Option<Value>], _: &[bool]) -> Gradients {
        let Some(dy) = grads[0] else { return Ok(vec![None]) };
        let (x, y) = (node.inputs[0], node.outputs[0]);
        let expand = Expand { shape: graph.ty(x).shape.clone(), axes: self.axes.clone() };
        let [_, count, _] = around(graph.dims(x), &self.axes);
        Ok(vec![Some(match self.kind {
            ReduceKind::Sum => graph.apply1(expand, &[dy])?,
            ReduceKind::Mean => {
                let share = graph.apply1(Scale { factor: 1.0 / count as f32 }, &[dy])?;
                graph.apply1(expand, &[share])?
            }
            ReduceKind::Max => {
                let largest = graph.apply1(expand.clone(), &[y])?;
                let is_largest = graph.apply1(Binary { function: Function2::Equal }, &[x, largest])?;
                let number = graph.apply1(Reduce { kind: ReduceKind::Sum, ..self.clone() }, &[is_largest])?;
                let share = graph.apply1(Binary { function: Function2::Div }, &[dy, number])?;
                let share = graph.apply1(expand, &[share])?;
                graph.apply1(Binary { function: Function2::Mul }, &[is_largest, share])?
            }
        })])
    }

    fn tile(&self, types: &Types, axis: Axis, part: Range<usize>) -> Option<Tile> {
        let is_batched = self.axes.start > 0;
        is_batched.then(|| Tile::images(self.clone(), types, axis, &[0], &part))?
    }

    fn cpu(&self, types: &Types, target: CpuTarget) -> CpuStep {
        let (kind, [_, along, after]) = (self.kind, around(types.inputs[0].dims(), &self.axes));
        let scale = if kind == ReduceKind::Mean { 1.0 / along as f64 } else { 1.0 };
        let sizes = [along, after];
        CpuStep::new(move |args| {
            let x = args.inputs[0];
            let (y, _) = args.output();
            match kind {
                ReduceKind::Max => {
                    // NaN wins, so that a broken activation shows in the loss.
                    let join = |total, x: f64| if x > total || x.is_nan() { x } else { total };
                    let reduction = Reduction { start: f64::NEG_INFINITY, join, scale };
                    reduce::reduce(target.isa, sizes, reduction, x, y);
                }
                ReduceKind::Sum | ReduceKind::Mean => {
                    let reduction = Reduction { start: 0.0, join: |total, x| total + x, scale };
                    reduce::reduce(target.isa, sizes, reduction, x, y);
                }
            }
        })
    }

    fn gpu(&self, types: &Types) -> Dispatches {
        let [before, along, after] = around(types.inputs[0].dims(), &self.axes);
        let columns = after / width(after);
        let lanes = lanes(columns);
        Dispatches::from(Dispatch {
            shader: wide_shader!(after, "reduce"),
            entry: "main",
            constants: vec![
                ("KIND", self.kind as u32 as f64),
                ("BEFORE", before as f64),
                ("ALONG", along as f64),
                ("AFTER", columns as f64),
                ("LANES", lanes as f64),
            ],
            bindings: vec![Operand::Input(0), Operand::Output(0)],
            groups: grid(before * columns.div_ceil(lanes), 1),
        })
    }

    fn reference(&self, inputs: &[ArrayViewD<f64>]) -> Vec<ArrayD<f64>> {
        let over = |x: ArrayD<f64>, axis: usize| {
            x.map_axis(ndarray::Axis(axis), |elements| match self.kind {
                ReduceKind::Sum => elements.sum(),
                ReduceKind::Mean => elements.sum() / elements.len() as f64,
                ReduceKind::Max => elements.fold(f64::NEG_INFINITY, |a, &b| a.max(b)),
            })
        };
        let y = self.axes.clone().rev().fold(inputs[0].to_owned(), over);
        vec![shaped(&y.view(), &without(inputs[0].shape(), &self.axes))]
    }
}
