//! The operations: a file each, or a folder for a large one, which holds everything about the op, in
//! this order: its mathematics, its attributes, the shape rule, the gradient rule, its work on a CPU
//! ([`cpu_step`]) and on a GPU ([`dispatch`]), the naive `f64` reference that is its specification,
//! and the cases it is tested with.
//!
//! To add an elementwise function: a row of [`crate::kernels::function`] and a case of
//! `shaders/include/function.wgsl`. To add another op: `ops/foo.rs` and `shaders/foo.wgsl`, the two
//! lists below, a chapter of the kernel book and an error planted into the shader in `tests/ops.rs`,
//! both of which tests ask for.

use std::any::Any;
use std::fmt::{Debug, Display};
use std::ops::Range;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::graph::{Graph, Node, Value};
use crate::kernels::function::Of;
pub use crate::kernels::function::{Activation, Function};
use crate::tensor::{DType, TensorType};
use cpu_step::{CpuStep, CpuTarget};
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
pub mod conv;
pub mod copy;
pub mod cpu_step;
pub mod dispatch;
pub mod dropout;
pub mod fold_batch_norm;
pub mod global_average_pool;
pub mod global_average_pool_grad;
pub mod map;
pub mod matmul;
pub mod max_pool;
pub mod max_pool_grad;
pub mod moments;
pub mod moving_average;
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
        conv::cases,
        copy::cases,
        dropout::cases,
        fold_batch_norm::cases,
        global_average_pool::cases,
        global_average_pool_grad::cases,
        map::binary::cases,
        map::expand::cases,
        map::reduce::cases,
        map::scale::cases,
        map::unary::cases,
        matmul::cases,
        max_pool::cases,
        max_pool_grad::cases,
        moments::cases,
        moving_average::cases,
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

/// Types that a shape rule finds for the outputs, or what is wrong with the inputs.
pub type Inferred = std::result::Result<Vec<TensorType>, String>;

/// The gradients an op's inputs receive; `None` for one that needs none.
pub type Gradients = Result<Vec<Option<Value>>>;

/// Memory that an op's outputs share with its inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alias {
    /// Every output has memory of its own.
    None,
    /// The op computes nothing: its one output is this input under another shape.
    View(usize),
    /// Pairs (output, input): the output takes the place of the input, always. When the op runs,
    /// the output's buffer holds the input's values, and the input's own slice is empty.
    InPlace(&'static [(usize, usize)]),
}

impl Alias {
    /// The input that output `output` shares memory with, if there is one.
    pub fn input_of(self, output: usize) -> Option<usize> {
        match self {
            Alias::None => None,
            Alias::View(input) => Some(input),
            Alias::InPlace(pairs) => pairs.iter().find(|pair| pair.0 == output).map(|pair| pair.1),
        }
    }

    /// The inputs that the op overwrites.
    pub fn overwritten(self) -> impl Iterator<Item = usize> {
        let pairs = if let Alias::InPlace(pairs) = self { pairs } else { &[] };
        pairs.iter().map(|pair| pair.1)
    }
}

/// Work that one run of an op takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Multiplications and additions, where they dominate; 0 for an op that is bound by memory.
    pub flops: u64,
    /// Bytes read and written, each operand once.
    pub bytes: u64,
}

impl Cost {
    /// The cost of an op that reads and writes its operands once, with so many multiplications and
    /// additions.
    pub fn of(types: &Types, flops: u64) -> Cost {
        let operands = types.inputs.iter().chain(&types.outputs);
        Cost { flops, bytes: operands.map(|ty| ty.bytes() as u64).sum() }
    }
}

/// A dimension along which an op can be computed part by part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Axis {
    /// Images: dimension 0.
    Batch,
    /// Rows of a single image: dimension 1 of `[1, H, W, C]`.
    Rows,
}

impl Axis {
    /// The dimension's number.
    pub fn dimension(self) -> usize {
        match self {
            Axis::Batch => 0,
            Axis::Rows => 1,
        }
    }
}

/// An op that computes a part of another one's outputs, along an [`Axis`], bit for bit.
#[derive(Clone, Debug)]
pub struct Tile {
    /// What to compute.
    pub op: Arc<dyn Op>,
    /// Types of the tile's operands.
    pub types: Types,
    /// The inputs of which the tile takes a part; all others it takes whole.
    pub cut: &'static [usize],
    /// That part, along the axis.
    pub input: Range<usize>,
}

impl Tile {
    /// The tile of an op that takes `input` of each of the inputs in `cut`, and whose outputs all
    /// are `part` of the whole op's, along `axis`.
    pub fn new(
        op: impl Op,
        types: &Types,
        axis: Axis,
        cut: &'static [usize],
        [input, part]: [&Range<usize>; 2],
    ) -> Tile {
        let mut types = types.clone();
        let resize = |ty: &mut TensorType, part: &Range<usize>| {
            let mut dims = ty.dims().to_vec();
            dims[axis.dimension()] = part.len();
            ty.shape = dims.as_slice().into();
        };
        cut.iter().for_each(|&i| resize(&mut types.inputs[i], input));
        types.outputs.iter_mut().for_each(|ty| resize(ty, part));
        Tile { op: Arc::new(op), types, cut, input: input.clone() }
    }

    /// The tile of an op that treats every image of a batch by itself: the inputs in `cut` have the
    /// batch for their first dimension, as all outputs have.
    pub fn images(
        op: impl Op,
        types: &Types,
        axis: Axis,
        cut: &'static [usize],
        part: &Range<usize>,
    ) -> Option<Tile> {
        (axis == Axis::Batch).then(|| Tile::new(op, types, axis, cut, [part, part]))
    }
}

/// An operation on tensors: a pure function of its inputs. The first six methods are its
/// mathematics; of the last two, each says how a kind of device computes it, once, when a plan is
/// loaded.
pub trait Op: Any + Debug + Send + Sync {
    /// The name that messages, profiles and tables use.
    fn name(&self) -> &'static str;

    /// The shape rule.
    ///
    /// # Errors
    /// Says what is wrong with the inputs; [`Graph::apply`] adds the layer and the types.
    fn output_types(&self, inputs: &[&TensorType]) -> Inferred;

    /// The gradient rule: adds the nodes that turn the gradients of the outputs (`None` where
    /// nothing depends on one) into those of the inputs; only those in `needed` are used.
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

    /// The memory that outputs share with inputs.
    fn alias(&self) -> Alias {
        Alias::None
    }

    /// The work of one run.
    fn cost(&self, types: &Types) -> Cost {
        Cost::of(types, 0)
    }

    /// The op that computes `part` of the outputs along `axis` from a part of the inputs; `None`
    /// where the outputs depend on each other along it.
    fn tile(&self, _types: &Types, _axis: Axis, _part: Range<usize>) -> Option<Tile> {
        None
    }

    /// The specification: computes the outputs naively in `f64`. Integers are passed as their
    /// values.
    fn reference(&self, types: &Types, inputs: &[Vec<f64>]) -> Vec<Vec<f64>>;

    /// The work of a CPU. What it computes must not depend on the number of threads.
    fn cpu(&self, types: &Types, target: CpuTarget) -> CpuStep;

    /// The shaders that compute the outputs on a GPU, or why there are none.
    fn gpu(&self, types: &Types) -> Dispatches;
}

/// The types of an op's inputs, if there are exactly `N`, all of numbers.
pub(crate) fn floats<'a, const N: usize>(
    inputs: &[&'a TensorType],
) -> std::result::Result<[&'a TensorType; N], String> {
    all_floats(inputs)?;
    expect(inputs)
}

/// Checks that all of an op's inputs are numbers.
pub(crate) fn all_floats(inputs: &[&TensorType]) -> std::result::Result<(), String> {
    let wrong = inputs.iter().position(|ty| ty.dtype != DType::F32);
    wrong.map_or(Ok(()), |i| Err(format!("input {i} is {}, but must be f32", inputs[i])))
}

/// Fails a shape rule. Kernels ask for their geometry in every run, so give `format_args!`, not
/// `format!`: text is allocated only when there is something to say.
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

/// The constants of `shaders/include/function.wgsl`.
pub(crate) fn function_constants(activation: Activation) -> [(&'static str, f64); 2] {
    const NONE: u32 = u32::MAX;
    let number = activation.map_or(NONE, |function| function as u32);
    let of_value = activation.is_some_and(|function| function.slope_of() == Of::Y);
    [("FUNCTION", f64::from(number)), ("SLOPE_OF_VALUE", f64::from(of_value))]
}
