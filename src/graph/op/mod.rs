//! The interface of an op to a graph and to the devices.
//!
//! The ops themselves are in [`crate::ops`].
//!
//! [`cpu_step`] and [`dispatch`] are what an op gives a CPU and a GPU; [mod@reference] is what its
//! specification is written with.

pub mod cpu_step;
pub mod dispatch;
pub mod reference;

use std::any::Any;
use std::fmt::Debug;
use std::ops::Range;
use std::sync::Arc;

use ndarray::{ArrayD, ArrayViewD};

use super::{Graph, Node, Value};
use crate::error::{Error, Result};
use crate::tensor::TensorType;
use cpu_step::{CpuStep, CpuTarget};
use dispatch::Dispatches;

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
    /// The op of the tile, for its part of the operands.
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

/// An operation on tensors: a pure function of its inputs. [`Op::cpu`] and [`Op::gpu`] each say how
/// a kind of device computes it, once, when a plan is loaded; the other methods are its
/// mathematics.
pub trait Op: Any + Debug + Send + Sync {
    /// The name that messages, profiles and tables use.
    fn name(&self) -> &'static str;

    /// The path of the type in the source, for who wants to read it there.
    fn type_name(&self) -> &'static str {
        std::any::type_name::<Self>()
    }

    /// The shape rule.
    ///
    /// # Errors
    /// Says what is wrong with the inputs; [`Graph::apply`] adds the layer and the types.
    fn output_types(&self, inputs: &[&TensorType]) -> Inferred;

    /// What the outputs are called, where there are several.
    fn output_names(&self) -> &'static [&'static str] {
        &[]
    }

    /// The gradient rule: adds the nodes that turn the gradients of the outputs (`None` where
    /// nothing depends on one) into those of the inputs; only those in `needed` are used.
    ///
    /// # Errors
    /// If the op has no gradient, or its nodes cannot be added.
    #[allow(unused_variables)] // their names are read in the documentation
    fn gradient(
        &self,
        graph: &mut Graph,
        node: &Node,
        grads: &[Option<Value>],
        needed: &[bool],
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
    #[allow(unused_variables)] // their names are read in the documentation
    fn tile(&self, types: &Types, axis: Axis, part: Range<usize>) -> Option<Tile> {
        None
    }

    /// The specification: computes the outputs naively in `f64`, as the formula says, with what
    /// [mod@reference] has. Integers are passed as their values.
    ///
    /// # Panics
    /// If the inputs are not such as the shape rule accepts.
    fn reference(&self, inputs: &[ArrayViewD<f64>]) -> Vec<ArrayD<f64>>;

    /// The work of a CPU. What it computes must not depend on the number of threads.
    fn cpu(&self, types: &Types, target: CpuTarget) -> CpuStep;

    /// The shaders that compute the outputs on a GPU, or why there are none.
    fn gpu(&self, types: &Types) -> Dispatches;
}
