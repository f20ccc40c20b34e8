//! Methods of a graph that add one node: what layers, losses and optimizers are composed of.
//!
//! Each fails where its op refuses the operands.

#![allow(clippy::missing_errors_doc)] // said once, above

use std::ops::Range;

use super::linear::matmul::Matmul;
use super::loss::softmax_cross_entropy::SoftmaxCrossEntropy;
use super::map::binary::{Binary, Function2};
use super::map::expand::Expand;
use super::map::reduce::{Reduce, ReduceKind};
use super::map::scale::Scale;
use super::map::unary::Unary;
use super::movement::constant::Constant;
use crate::error::Result;
use crate::graph::{Graph, Value};
use crate::kernels::function::Function;
use crate::tensor::Shape;

impl Graph {
    /// `function(x)`, elementwise.
    pub fn map(&mut self, function: Function, x: Value) -> Result<Value> {
        self.apply1(Unary { function }, &[x])
    }

    /// `function(a, b)`, elementwise; see [`Binary`] for shapes that differ.
    pub fn map2(&mut self, function: Function2, a: Value, b: Value) -> Result<Value> {
        self.apply1(Binary { function }, &[a, b])
    }

    /// `a + b`, elementwise; see [`Binary`] for shapes that differ.
    pub fn add(&mut self, a: Value, b: Value) -> Result<Value> {
        self.map2(Function2::Add, a, b)
    }

    /// `a - b`, elementwise; see [`Binary`] for shapes that differ.
    pub fn sub(&mut self, a: Value, b: Value) -> Result<Value> {
        self.map2(Function2::Sub, a, b)
    }

    /// `a b`, elementwise; see [`Binary`] for shapes that differ.
    pub fn mul(&mut self, a: Value, b: Value) -> Result<Value> {
        self.map2(Function2::Mul, a, b)
    }

    /// `a / b`, elementwise; see [`Binary`] for shapes that differ.
    pub fn div(&mut self, a: Value, b: Value) -> Result<Value> {
        self.map2(Function2::Div, a, b)
    }

    /// Tensor of this shape with one value everywhere.
    pub fn constant(&mut self, value: f32, shape: impl Into<Shape>) -> Result<Value> {
        self.apply1(Constant { shape: shape.into(), value }, &[])
    }

    /// `factor x`.
    pub fn scale(&mut self, x: Value, factor: f32) -> Result<Value> {
        self.apply1(Scale { factor }, &[x])
    }

    /// Sum over neighbouring axes, which the result does not have.
    pub fn sum(&mut self, x: Value, axes: Range<usize>) -> Result<Value> {
        self.apply1(Reduce::new(ReduceKind::Sum, axes), &[x])
    }

    /// Mean over neighbouring axes, which the result does not have.
    pub fn mean(&mut self, x: Value, axes: Range<usize>) -> Result<Value> {
        self.apply1(Reduce::new(ReduceKind::Mean, axes), &[x])
    }

    /// Maximum over neighbouring axes, which the result does not have.
    pub fn max(&mut self, x: Value, axes: Range<usize>) -> Result<Value> {
        self.apply1(Reduce::new(ReduceKind::Max, axes), &[x])
    }

    /// Tensor of this shape in which x is repeated along `axes`, which x does not have.
    pub fn expand(&mut self, x: Value, shape: Shape, axes: Range<usize>) -> Result<Value> {
        self.apply1(Expand { shape, axes }, &[x])
    }

    /// Mean over the rows of `-log softmax(logits)[label]`, `[1]`, of logits `[N, C]` and labels
    /// `u32 [N]`.
    pub fn cross_entropy(&mut self, logits: Value, labels: Value) -> Result<Value> {
        Ok(self.apply(SoftmaxCrossEntropy { smoothing: 0.0 }, &[logits, labels])?[0])
    }

    /// Matrix product `a b` of `[.., M, K]` and `[.., K, N]`.
    pub fn matmul(&mut self, a: Value, b: Value) -> Result<Value> {
        self.apply1(Matmul::default(), &[a, b])
    }
}
