//! The operations: one file each, which holds everything about the op, in this order: its mathematics, its
//! attributes, the shape rule, the gradient rule, the CPU call, the GPU [`dispatch`], the naive `f64` reference
//! that is its specification, and the cases it is tested with.
//!
//! To add an op: write `ops/foo.rs` and `shaders/foo.wgsl`, and add it to the two lists below.

use std::any::Any;
use std::fmt::{Debug, Display};
use std::ops::Range;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::graph::{Graph, Node, Value};
use crate::kernels::batch_norm::Line;
use crate::kernels::input::Input;
use crate::kernels::parallel::{Epilogue, Output};
use crate::kernels::simd::Isa;
use crate::tensor::TensorType;
use dispatch::{
    Dispatch, Dispatches, GROUP, Operand, PIECE_BYTES, Reduction, each_value, grid, shader, wide_shader,
    width,
};
use tile::{TiledProduct, Tiling};

pub mod adam;
pub mod add;
pub mod augment;
pub mod batch_norm;
pub mod batch_norm_grad;
pub mod batch_norm_infer;
pub mod batch_norm_max_pool;
pub mod batch_norm_max_pool_grad;
pub mod case;
pub mod clip;
pub mod conv2d;
pub mod conv2d_input_grad;
pub mod conv2d_weight_grad;
pub mod conv_batch_norm_grad;
pub mod conv_moments;
pub mod copy;
pub mod depthwise_conv2d;
pub mod depthwise_conv2d_input_grad;
pub mod depthwise_conv2d_weight_grad;
pub mod dispatch;
pub mod dropout;
pub mod fold_batch_norm;
pub mod global_average_pool;
pub mod global_average_pool_grad;
pub mod matmul;
pub mod max_pool;
pub mod max_pool_grad;
pub mod moving_average;
pub mod normalised_conv;
pub mod relu;
pub mod relu_grad;
pub mod reshape;
pub mod resize;
pub mod separable_conv2d;
pub mod sgd;
pub mod softmax_cross_entropy;
pub mod softmax_cross_entropy_grad;
pub mod sum_rows;
pub mod sum_squares;
pub mod tile;
pub mod zeros;

/// The test cases of every op.
pub fn cases() -> Vec<case::Case> {
    [
        adam::cases,
        add::cases,
        augment::cases,
        batch_norm::cases,
        batch_norm_grad::cases,
        batch_norm_infer::cases,
        batch_norm_max_pool::cases,
        batch_norm_max_pool_grad::cases,
        clip::cases,
        conv2d::cases,
        conv2d_input_grad::cases,
        conv2d_weight_grad::cases,
        conv_batch_norm_grad::cases,
        conv_moments::cases,
        copy::cases,
        depthwise_conv2d::cases,
        depthwise_conv2d_input_grad::cases,
        depthwise_conv2d_weight_grad::cases,
        dropout::cases,
        fold_batch_norm::cases,
        global_average_pool::cases,
        global_average_pool_grad::cases,
        matmul::cases,
        max_pool::cases,
        max_pool_grad::cases,
        moving_average::cases,
        normalised_conv::cases,
        relu::cases,
        relu_grad::cases,
        resize::cases,
        separable_conv2d::cases,
        sgd::cases,
        softmax_cross_entropy::cases,
        softmax_cross_entropy_grad::cases,
        sum_rows::cases,
        sum_squares::cases,
        zeros::cases,
    ]
    .iter()
    .flat_map(|cases| cases())
    .collect()
}

/// Types of a node's operands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Types {
    /// In the op's order.
    pub inputs: Vec<TensorType>,
    /// In the op's order.
    pub outputs: Vec<TensorType>,
}

/// The gradients an op's inputs receive; `None` for one that needs none.
pub type Gradients = Result<Vec<Option<Value>>>;

/// An operation on tensors: a pure function of its inputs.
pub trait Op: Any + Debug + Send + Sync {
    /// What messages call it: the name of its file.
    fn name(&self) -> &'static str;

    /// What profiles call it: for an op around another, whose time it takes, that one's name.
    fn title(&self) -> &'static str {
        self.name()
    }

    /// The shape rule.
    ///
    /// # Errors
    /// Says what is wrong with the inputs; [`Graph::apply`] adds the layer and the types.
    fn output_types(&self, inputs: &[&TensorType]) -> std::result::Result<Vec<TensorType>, String>;

    /// The gradient rule: adds the nodes that turn the gradients of the outputs (`None` where nothing
    /// depends on one) into those of the inputs; only those in `needed` are used.
    ///
    /// # Errors
    /// If the op has no gradient, or its nodes cannot be added.
    fn gradient(
        &self,
        _graph: &mut Graph,
        node: &Node,
        _grads: &[Option<Value>],
        _needed: &[bool],
    ) -> Gradients {
        Err(Error::op(format!("{} '{}'", self.name(), node.layer), "has no gradient"))
    }

    /// Pairs (output, input) that share memory. Such an op always works in place: when it is called, the
    /// output's buffer holds the input's values, and the input's own slice is empty.
    fn in_place(&self) -> &'static [(usize, usize)] {
        &[]
    }

    /// For an op that computes nothing and only renames the shape of an input: which one.
    fn view_of(&self) -> Option<usize> {
        None
    }

    /// Multiplications and additions, where they dominate; 0 for an op that is bound by memory.
    fn flops(&self, _types: &Types) -> u64 {
        0
    }

    /// Elements of scratch memory that [`Op::cpu`] needs with this many threads.
    fn cpu_scratch(&self, _types: &Types, _isa: Isa, _threads: usize) -> usize {
        0
    }

    /// For an op that computes faster with its weights in a form of its own: which input they are, and the elements of that
    /// form. It is kept from run to run where the weights stay the same.
    fn cpu_prepared(&self, _types: &Types, _isa: Isa) -> Option<(usize, usize)> {
        None
    }

    /// Brings the weights into that form.
    fn cpu_prepare(&self, _types: &Types, _isa: Isa, _weights: &[f32], _prepared: &mut [f32]) {}

    /// Computes the outputs on the CPU, in parallel; the result must not depend on the number of threads.
    fn cpu(&self, types: &Types, args: &mut CpuArgs);

    /// For an op that treats every picture of a batch by itself, at no more cost for a few than its share: the inputs whose
    /// first dimension is the batch, as it is that of all outputs. All others are the same for every picture.
    fn batched_inputs(&self, _types: &Types) -> Option<&'static [usize]> {
        None
    }

    /// For an op whose output's rows (the second dimension) each need few rows of input 0: the same op for `rows` of a
    /// single picture's output alone. It computes the same bits.
    fn band(&self, _types: &Types, _rows: Range<usize>) -> Option<Band> {
        None
    }

    /// Blocks of rows of the first output that [`Op::cpu_with`] hands to an epilogue; 0 for an op without one.
    fn cpu_blocks(&self, _types: &Types) -> usize {
        0
    }

    /// For an op whose [`Op::cpu_with`] can normalise input 0 as it reads it: the elements of scratch that each thread needs
    /// for that, besides [`Op::cpu_scratch`].
    fn cpu_line_scratch(&self, _types: &Types) -> Option<usize> {
        None
    }

    /// As [`Op::cpu`], with input 0 normalised first, for an op with [`Op::cpu_line_scratch`], and with an epilogue on each of
    /// [`Op::cpu_blocks`].
    fn cpu_with(&self, _types: &Types, _args: &mut CpuArgs, _line: Option<Line>, _epilogue: Epilogue) {
        unreachable!("{} cannot be computed with what surrounds it", self.name())
    }

    /// Describes the shaders that compute the outputs on a GPU.
    fn gpu(&self, types: &Types) -> Dispatches;

    /// The specification: computes the outputs naively in `f64`. Integers are passed as their values.
    fn reference(&self, types: &Types, inputs: &[Vec<f64>]) -> Vec<Vec<f64>>;
}

/// An op for a few rows of its output: see [`Op::band`].
pub struct Band {
    /// It takes those rows of input 0, everything else as it is, and puts out those rows.
    pub op: Arc<dyn Op>,
    /// Of its operands.
    pub types: Types,
    /// The rows of input 0.
    pub input: Range<usize>,
}

impl Band {
    /// The band of an op with these types from its rows of the input to its rows of the output.
    pub(crate) fn new(op: impl Op, types: &Types, input: Range<usize>, rows: Range<usize>) -> Band {
        let mut types = types.clone();
        for (ty, rows) in [(&mut types.inputs[0], &input), (&mut types.outputs[0], &rows)] {
            let mut dims = ty.dims().to_vec();
            dims[1] = rows.len();
            ty.shape = dims.as_slice().into();
        }
        Band { op: Arc::new(op), types, input }
    }
}

/// No op takes more inputs.
pub const MAX_INPUTS: usize = 8;
/// No op has more outputs.
pub const MAX_OUTPUTS: usize = 4;

/// The memory a CPU kernel works on. What the methods give has exactly the length of its type.
pub struct CpuArgs<'a> {
    /// The instruction set to compute with.
    pub isa: Isa,
    /// Empty beyond the op's inputs, and for an input that shares memory with an output. Integers lie in them bit by bit.
    pub inputs: [&'a [f32]; MAX_INPUTS],
    /// Not zeroed: they hold whatever was there before, or, for in-place ops, the input.
    pub outputs: [&'a mut [f32]; MAX_OUTPUTS],
    /// Of the operands.
    pub types: &'a Types,
    /// What [`Op::cpu_prepare`] made of the weights; empty where they may change with every run.
    pub prepared: &'a [f32],
    /// At least as many elements as [`Op::cpu_scratch`] asks for, with any values in them.
    pub scratch: &'a mut [f32],
}

impl<'a> CpuArgs<'a> {
    /// Input `index`; empty if it shares memory with an output.
    ///
    /// # Panics
    /// If the op has no such input.
    pub fn input(&self, index: usize) -> &'a [f32] {
        let values = self.inputs[index];
        &values[..values.len().min(self.types.inputs[index].len())]
    }

    /// Input `index` as `u32`; see [`CpuArgs::input`].
    pub fn input_u32(&self, index: usize) -> &'a [u32] {
        bytemuck::cast_slice(self.input(index))
    }

    /// The first output, and the scratch.
    pub fn output(&mut self) -> (&mut [f32], &mut [f32]) {
        let len = self.types.outputs[0].len();
        (&mut self.outputs[0][..len], self.scratch)
    }

    /// The first `N` outputs, and the scratch.
    pub fn output_many<const N: usize>(&mut self) -> ([&mut [f32]; N], &mut [f32]) {
        let mut outputs = self.outputs.iter_mut().zip(&self.types.outputs);
        let outputs = std::array::from_fn(|_| match outputs.next() {
            Some((values, ty)) => &mut values[..ty.len()],
            None => Default::default(),
        });
        (outputs, self.scratch)
    }
}

/// Fails a shape rule. Kernels ask for their geometry in every run, so give `format_args!`, not `format!`: text
/// is allocated only when there is something to say.
pub(crate) fn require(condition: bool, problem: impl Display) -> std::result::Result<(), String> {
    if condition { Ok(()) } else { Err(problem.to_string()) }
}

/// What the shape rule found out about a node that it has accepted.
pub(crate) fn planned<T>(geometry: std::result::Result<T, String>) -> T {
    geometry.unwrap_or_else(|problem| unreachable!("the shape rule let pass: {problem}"))
}

/// The types of an op's inputs, if there are exactly `N`.
pub(crate) fn expect<'a, const N: usize>(
    inputs: &[&'a TensorType],
) -> std::result::Result<[&'a TensorType; N], String> {
    inputs.try_into().map_err(|_| format!("takes {N} inputs, not {}", inputs.len()))
}

/// An activation, as the range that it clamps to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Activation {
    /// Everything passes.
    None,
    /// From 0 up.
    Relu,
    /// From 0 to 6.
    Relu6,
}

impl Activation {
    /// The lower and the upper end.
    pub fn clamp(self) -> (f32, f32) {
        match self {
            Activation::None => (f32::NEG_INFINITY, f32::INFINITY),
            Activation::Relu => (0.0, f32::INFINITY),
            Activation::Relu6 => (0.0, 6.0),
        }
    }

    /// What `include/activation.wgsl` knows it by.
    pub(crate) fn number(self) -> f64 {
        match self {
            Activation::None => 0.0,
            Activation::Relu => 1.0,
            Activation::Relu6 => 2.0,
        }
    }

    /// The same range in `f64`, for references.
    pub(crate) fn clamp_f64(self) -> (f64, f64) {
        let (low, high) = self.clamp();
        (f64::from(low), f64::from(high))
    }
}
