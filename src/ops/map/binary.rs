//! `c = f(a, b)`, elementwise.
//!
//! The operands have one shape; or one of them is a vector along the other's last axis, or a single
//! value, and counts for every row, or every element.

use ndarray::Zip;

use super::expand::Expand;
use super::reduce::{Reduce, ReduceKind};
use super::unary::Unary;
use crate::kernels::elementwise::{RowOperand, rows_with};
use crate::ops::linear::sum_rows::SumRows;
use crate::ops::movement::reshape::Reshape;
use crate::ops::*;

/// A function of two operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Function2 {
    /// `a + b`.
    Add,
    /// `a - b`.
    Sub,
    /// `a b`.
    Mul,
    /// `a / b`.
    Div,
    /// The smaller; where they are equal, each gets half of the gradient.
    Min,
    /// The larger; where they are equal, each gets half of the gradient.
    Max,
    /// 1 where `a < b`, 1/2 where they are equal, else 0. It has no gradient.
    Less,
    /// 1 where they are equal, else 0. It has no gradient.
    Equal,
}

impl Function2 {
    /// All functions.
    pub const ALL: [Function2; 8] = [
        Function2::Add,
        Function2::Sub,
        Function2::Mul,
        Function2::Div,
        Function2::Min,
        Function2::Max,
        Function2::Less,
        Function2::Equal,
    ];

    fn value(self, a: f64, b: f64) -> f64 {
        match self {
            Function2::Add => a + b,
            Function2::Sub => a - b,
            Function2::Mul => a * b,
            Function2::Div => a / b,
            Function2::Min => a.min(b),
            Function2::Max => a.max(b),
            Function2::Less => f64::from(u8::from(a < b)) + 0.5 * f64::from(u8::from(a == b)),
            Function2::Equal => f64::from(u8::from(a == b)),
        }
    }
}

/// An elementwise function of two operands. Inputs a and b; the output has the shape of the larger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binary {
    /// Which function.
    pub function: Function2,
}

/// How an operand covers the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cover {
    Whole,
    Row,
    Value,
}

/// Whether an operand of dimensions `a` has the shape of the output, where the other one has `b`.
fn is_larger(a: &[usize], b: &[usize]) -> bool {
    a.len() > b.len() || a.iter().product::<usize>() >= b.iter().product()
}

fn cover(operand: &TensorType, output: &TensorType) -> Option<Cover> {
    match operand.dims() {
        dims if dims == output.dims() => Some(Cover::Whole),
        [1] => Some(Cover::Value),
        [columns] if *columns == output.shape.last() => Some(Cover::Row),
        _ => None,
    }
}

/// Adds up what a gradient says for all elements that an operand of this type stood for.
fn reduced(graph: &mut Graph, gradient: Value, operand: &TensorType) -> Result<Value> {
    match cover(operand, graph.ty(gradient)) {
        Some(Cover::Row) => graph.apply1(SumRows, &[gradient]),
        Some(Cover::Value) => {
            let shape = [1, graph.ty(gradient).len()].into();
            let flat = graph.apply1(Reshape { shape }, &[gradient])?;
            graph.apply1(Reduce::new(ReduceKind::Sum, 1..2), &[flat])
        }
        _ => Ok(gradient),
    }
}

impl Op for Binary {
    fn name(&self) -> &'static str {
        match self.function {
            Function2::Add => "add",
            Function2::Sub => "sub",
            Function2::Mul => "mul",
            Function2::Div => "div",
            Function2::Min => "min",
            Function2::Max => "max",
            Function2::Less => "less",
            Function2::Equal => "equal",
        }
    }

    fn output_types(&self, inputs: &[&TensorType]) -> Inferred {
        let [a, b] = floats(inputs)?;
        let larger = if is_larger(a.dims(), b.dims()) { a } else { b };
        let fits = [a, b].iter().all(|operand| cover(operand, larger).is_some());
        require(
            fits,
            "the two must have one shape, or one be a vector along the other's last axis or a single value",
        )?;
        Ok(vec![larger.clone()])
    }

    fn gradient(
        &self,
        graph: &mut Graph,
        node: &Node,
        grads: &[Option<Value>],
        needed: &[bool],
    ) -> Gradients {
        let Some(dc) = grads[0] else { return Ok(vec![None; 2]) };
        let (a, b, c) = (node.inputs[0], node.inputs[1], node.outputs[0]);
        let apply = |graph: &mut Graph, function, a, b| graph.apply1(Binary { function }, &[a, b]);
        let negative = |graph: &mut Graph, v| graph.apply1(Unary { function: Function::Neg }, &[v]);
        let mut out = vec![None; 2];
        for i in (0..2).filter(|i| needed[*i]) {
            let other = if i == 0 { b } else { a };
            let gradient = match (self.function, i) {
                (Function2::Add, _) | (Function2::Sub, 0) => dc,
                (Function2::Sub, _) => negative(graph, dc)?,
                (Function2::Mul, _) => apply(graph, Function2::Mul, dc, other)?,
                (Function2::Div, 0) => apply(graph, Function2::Div, dc, b)?,
                (Function2::Div, _) => {
                    let product = apply(graph, Function2::Mul, dc, c)?;
                    let quotient = apply(graph, Function2::Div, product, b)?;
                    negative(graph, quotient)?
                }
                (Function2::Min | Function2::Max, _) => {
                    let own = if i == 0 { a } else { b };
                    let (low, high) =
                        if self.function == Function2::Min { (own, other) } else { (other, own) };
                    let share = apply(graph, Function2::Less, low, high)?;
                    apply(graph, Function2::Mul, dc, share)?
                }
                (Function2::Less | Function2::Equal, _) => {
                    let name = format!("{} '{}'", self.name(), node.layer);
                    return Err(Error::op(name, "has no gradient"));
                }
            };
            let operand = graph.ty(node.inputs[i]).clone();
            out[i] = Some(reduced(graph, gradient, &operand)?);
        }
        Ok(out)
    }

    fn tile(&self, types: &Types, axis: Axis, part: Range<usize>) -> Option<Tile> {
        let cut: &[usize] = match [0, 1].map(|i| cover(&types.inputs[i], &types.outputs[0])) {
            [Some(Cover::Whole), Some(Cover::Whole)] => &[0, 1],
            [Some(Cover::Whole), _] => &[0],
            _ => &[1],
        };
        // A single row could be an operand that counts for all.
        let batched = types.outputs[0].dims().len() > 1;
        Tile::images(*self, types, axis, cut, &part).filter(|_| batched)
    }

    fn cpu(&self, types: &Types, target: CpuTarget) -> CpuStep {
        let (function, isa, columns) = (self.function, target.isa, types.outputs[0].shape.last());
        let covers = [0, 1].map(|i| cover(&types.inputs[i], &types.outputs[0]));
        CpuStep::new(move |args| {
            let operands = std::array::from_fn(|i| match covers[i] {
                Some(Cover::Row) => RowOperand::Row(args.inputs[i]),
                Some(Cover::Value) => RowOperand::Value(args.inputs[i][0]),
                _ => RowOperand::Whole(args.inputs[i]),
            });
            let (c, _) = args.output();
            match function {
                Function2::Add => rows_with(isa, c, operands, columns, |a, b| a + b),
                Function2::Sub => rows_with(isa, c, operands, columns, |a, b| a - b),
                Function2::Mul => rows_with(isa, c, operands, columns, |a, b| a * b),
                Function2::Div => rows_with(isa, c, operands, columns, |a, b| a / b),
                Function2::Min => rows_with(isa, c, operands, columns, |a, b| if b < a { b } else { a }),
                Function2::Max => rows_with(isa, c, operands, columns, |a, b| if b > a { b } else { a }),
                Function2::Less => rows_with(isa, c, operands, columns, |a, b| {
                    f32::from(u8::from(a < b)) + 0.5 * f32::from(u8::from(a == b))
                }),
                Function2::Equal => rows_with(isa, c, operands, columns, |a, b| f32::from(u8::from(a == b))),
            }
        })
    }

    fn gpu(&self, types: &Types) -> Dispatches {
        let columns = types.outputs[0].shape.last();
        // 0: every element has its own, 1: a row for all, 2: a value for all.
        let number = |i: usize| match cover(&types.inputs[i], &types.outputs[0]) {
            Some(Cover::Row) => 1.0,
            Some(Cover::Value) => 2.0,
            _ => 0.0,
        };
        let constants = [
            ("FUNCTION", self.function as u32 as f64),
            ("COLUMNS", columns as f64),
            ("COVER_A", number(0)),
            ("COVER_B", number(1)),
        ];
        let bindings = vec![Operand::Input(0), Operand::Input(1), Operand::Output(0)];
        each_value(shader!("binary"), types.outputs[0].len(), &constants, bindings)
    }

    fn reference(&self, inputs: &[ArrayViewD<f64>]) -> Vec<ArrayD<f64>> {
        let [a, b] = operands(inputs);
        let dims = if is_larger(a.shape(), b.shape()) { a.shape() } else { b.shape() };
        let operands = Zip::from(spread(a, dims)).and(spread(b, dims));
        vec![operands.map_collect(|a, b| self.function.value(*a, *b))]
    }
}

/// The mean over some axes and what is left when it is taken away: a helper for compositions.
///
/// # Errors
/// None but those of [`Graph::apply`].
pub fn centred(graph: &mut Graph, x: Value, axes: Range<usize>) -> Result<(Value, Value)> {
    let shape = graph.ty(x).shape.clone();
    let mean = graph.apply1(Reduce::new(ReduceKind::Mean, axes.clone()), &[x])?;
    let spread = graph.apply1(Expand { shape, axes }, &[mean])?;
    Ok((mean, graph.apply1(Binary { function: Function2::Sub }, &[x, spread])?))
}
