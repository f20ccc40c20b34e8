//! Ops as ONNX has them.
//!
//! ONNX keeps images as `[N, C, H, W]`, the engine as `[N, H, W, C]`. Every value of four
//! dimensions is written in ONNX's order; where it becomes a row of features it is put into the
//! engine's first, so that the weights of a dense layer are what they are here.

use super::writer::{Attribute, Writer};
use crate::error::{Error, Result};
use crate::graph::rewrite::downcast;
use crate::graph::{Graph, Node};
use crate::kernels::function::Function;
use crate::ops::conv::{Conv, Output, Pass};
use crate::ops::linear::matmul::Matmul;
use crate::ops::map::binary::{Binary, Function2};
use crate::ops::map::reduce::{Reduce, ReduceKind};
use crate::ops::map::unary::Unary;
use crate::ops::movement::reshape::Reshape;
use crate::ops::norm::batch_norm_infer::BatchNormInfer;
use crate::ops::pool::max_pool::MaxPool;
use crate::ops::pool::resize::Resize;

/// Shapes of a node's operands, in the engine's order.
struct Shapes<'a> {
    inputs: Vec<&'a [usize]>,
    output: &'a [usize],
}

impl Writer {
    /// Writes a node of the engine's graph, whose operands have these names; returns that of its
    /// result.
    ///
    /// # Errors
    /// If ONNX has no such op, or the export does not know it; names the layer.
    pub fn node(&mut self, graph: &Graph, node: &Node, inputs: &[&str]) -> Result<String> {
        self.layer.clone_from(&node.layer);
        let shapes = Shapes {
            inputs: node.inputs.iter().map(|input| graph.dims(*input)).collect(),
            output: graph.dims(node.outputs[0]),
        };
        let written = if let Some(conv) = downcast(node) {
            self.convolution(conv, &shapes, inputs)
        } else if let Some(norm) = downcast(node) {
            self.normalisation(norm, inputs)
        } else if let Some(Unary { function }) = downcast(node) {
            self.function(*function, inputs[0])
        } else if let Some(Binary { function }) = downcast(node) {
            self.function_of_two(*function, &shapes, inputs)
        } else if let Some(pool) = downcast(node) {
            Some(self.max_pool(pool, inputs))
        } else if let Some(reduce) = downcast(node) {
            self.over_all_pixels(reduce, &shapes, inputs[0])
        } else if let Some(Reshape { .. }) = downcast(node) {
            self.flatten(&shapes, inputs[0])
        } else if let Some(product) = downcast(node) {
            self.product(product, &shapes, inputs)
        } else if let Some(Resize { height, width }) = downcast(node) {
            Some(self.enlargement([*height, *width], inputs[0]))
        } else {
            None
        };
        written.ok_or_else(|| {
            let what = format!("{} '{}'", node.op.name(), node.layer);
            Error::op(what, format!("cannot be written as ONNX: {:?}", node.op))
        })
    }

    fn convolution(&mut self, conv: &Conv, shapes: &Shapes, inputs: &[&str]) -> Option<String> {
        let plain = Conv { bias: conv.bias, ..Conv::new(conv.stride, conv.padding, conv.groups) };
        let (&[_, height, width, _], &[kernel_height, kernel_width, ..], &[_, rows, columns, _]) =
            (shapes.inputs[0], shapes.inputs[1], shapes.output)
        else {
            return None;
        };
        if *conv != plain || conv.pass != Pass::Forward || conv.output != Output::Values {
            return None;
        }
        let padding = |dimension, size, kernel, out: usize| {
            let (_, before) = conv.padding.apply(dimension, size, kernel, conv.stride).ok()?;
            let after = ((out - 1) * conv.stride + kernel).saturating_sub(size + before);
            Some([before, after])
        };
        let [top, bottom] = padding(0, height, kernel_height, rows)?;
        let [left, right] = padding(1, width, kernel_width, columns)?;
        let attributes = vec![
            ("kernel_shape", ints(&[kernel_height, kernel_width])),
            ("strides", ints(&[conv.stride; 2])),
            ("pads", ints(&[top, left, bottom, right])),
            ("group", Attribute::Int(conv.groups as i64)),
        ];
        Some(self.apply("Conv", inputs, attributes))
    }

    fn normalisation(&mut self, norm: &BatchNormInfer, inputs: &[&str]) -> Option<String> {
        let BatchNormInfer { epsilon, residual: false, activation: None } = *norm else { return None };
        Some(self.apply("BatchNormalization", inputs, vec![("epsilon", Attribute::Float(epsilon))]))
    }

    /// Those without an operator of ONNX's own are put together of others.
    fn function(&mut self, function: Function, x: &str) -> Option<String> {
        let operator = match function {
            Function::Neg => "Neg",
            Function::Abs => "Abs",
            Function::Exp => "Exp",
            Function::Ln => "Log",
            Function::Sqrt => "Sqrt",
            Function::Tanh => "Tanh",
            Function::Sigmoid => "Sigmoid",
            Function::Erf => "Erf",
            Function::Relu => "Relu",
            Function::HardSwish => "HardSwish",
            Function::Square => return Some(self.apply("Mul", &[x, x], vec![])),
            Function::Relu6 => {
                let [low, high] = [0.0, 6.0].map(|bound| self.number(bound));
                return Some(self.apply("Clip", &[x, &low, &high], vec![]));
            }
            Function::Silu => {
                let share = self.apply("Sigmoid", &[x], vec![]);
                return Some(self.apply("Mul", &[x, &share], vec![]));
            }
            Function::Gelu => return Some(self.gelu(x)),
            Function::Rsqrt | Function::GeluTanh => return None,
        };
        Some(self.apply(operator, &[x], vec![]))
    }

    /// `x (1 + erf(x / sqrt(2))) / 2`: an operator of its own came with a later set.
    fn gelu(&mut self, x: &str) -> String {
        let [scale, one, half] =
            [std::f32::consts::FRAC_1_SQRT_2, 1.0, 0.5].map(|constant| self.number(constant));
        let scaled = self.apply("Mul", &[x, &scale], vec![]);
        let erf = self.apply("Erf", &[&scaled], vec![]);
        let twice = self.apply("Add", &[&erf, &one], vec![]);
        let below = self.apply("Mul", &[&twice, &half], vec![]);
        self.apply("Mul", &[x, &below], vec![])
    }

    fn function_of_two(&mut self, function: Function2, shapes: &Shapes, inputs: &[&str]) -> Option<String> {
        let operator = match function {
            Function2::Add => "Add",
            Function2::Sub => "Sub",
            Function2::Mul => "Mul",
            Function2::Div => "Div",
            Function2::Min => "Min",
            Function2::Max => "Max",
            Function2::Less | Function2::Equal => return None,
        };
        // A vector of channels would have to lie along another dimension.
        let alike = shapes.inputs.iter().all(|dims| *dims == shapes.output);
        alike.then(|| self.apply(operator, inputs, vec![]))
    }

    fn max_pool(&mut self, pool: &MaxPool, inputs: &[&str]) -> String {
        let attributes = vec![
            ("kernel_shape", ints(&[pool.window; 2])),
            ("strides", ints(&[pool.stride; 2])),
            ("pads", ints(&[pool.padding; 4])),
        ];
        self.apply("MaxPool", inputs, attributes)
    }

    fn over_all_pixels(&mut self, reduce: &Reduce, shapes: &Shapes, x: &str) -> Option<String> {
        let operator = match reduce.kind {
            ReduceKind::Mean => "GlobalAveragePool",
            ReduceKind::Max => "GlobalMaxPool",
            ReduceKind::Sum => return None,
        };
        if shapes.inputs[0].len() != 4 || reduce.axes != (1..3) {
            return None;
        }
        let pooled = self.apply(operator, &[x], vec![]);
        Some(self.apply("Flatten", &[&pooled], vec![]))
    }

    fn flatten(&mut self, shapes: &Shapes, x: &str) -> Option<String> {
        let (from, &[images, _]) = (shapes.inputs[0], shapes.output) else { return None };
        if from.first() != Some(&images) {
            return None;
        }
        match *from {
            [_, _] => Some(self.apply("Identity", &[x], vec![])),
            [_, 1, 1, _] => Some(self.apply("Flatten", &[x], vec![])),
            [_, _, _, _] => {
                let x = self.apply("Transpose", &[x], vec![("perm", ints(&[0, 2, 3, 1]))]);
                Some(self.apply("Flatten", &[&x], vec![]))
            }
            _ => None,
        }
    }

    fn product(&mut self, product: &Matmul, shapes: &Shapes, inputs: &[&str]) -> Option<String> {
        let matrices = shapes.inputs[..2].iter().all(|dims| dims.len() == 2);
        let transposed = |name, set| (name, Attribute::Int(i64::from(set)));
        let attributes =
            vec![transposed("transA", product.a_transposed), transposed("transB", product.b_transposed)];
        matrices.then(|| self.apply("Gemm", inputs, attributes))
    }

    fn enlargement(&mut self, size: [usize; 2], x: &str) -> String {
        let sizes = self.integers(&size.map(|side| side as i64));
        let attributes = vec![
            ("mode", Attribute::Word("linear")),
            ("coordinate_transformation_mode", Attribute::Word("half_pixel")),
            ("axes", ints(&[2, 3])),
        ];
        self.apply("Resize", &[x, "", "", &sizes], attributes)
    }
}

fn ints(values: &[usize]) -> Attribute {
    Attribute::Ints(values.iter().map(|value| *value as i64).collect())
}
