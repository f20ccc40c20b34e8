//! Test cases of ops: an op, and how its inputs are filled.
//!
//! The same cases hold the reference against itself (numerical gradients), the CPU against the
//! reference, and every other device against the CPU.

use std::sync::Arc;

use ndarray::ArrayD;

use crate::kernels::rng::{self, Stream};
use crate::ops::reference::array;
use crate::ops::{Op, Types};
use crate::tensor::{DType, TensorType};

/// How an input is filled.
#[derive(Clone, Copy, Debug)]
pub enum Fill {
    /// Uniform in a range.
    Uniform(f32, f32),
    /// Uniform in [-1, 1], but at least 0.1 away from 0: for functions with a kink there.
    AwayFromZero,
    /// A shuffled ramp over [-1, 1]: no two values within a finite difference of each other.
    Distinct,
    /// Integers below a bound.
    Below(u32),
    /// The same, but every fourth is `u32::MAX`: labels, with empty places.
    Labels(u32),
    /// Random bits.
    Bits,
    /// Words of four bytes, each one of these.
    Bytes(&'static [u8]),
    /// A single value, everywhere.
    Constant(f32),
}

/// Shapes for elementwise ops: more elements than a workgroup of a GPU has invocations, an odd
/// number of them, and one that can be treated four at a time.
pub const ELEMENTWISE: [&[usize]; 2] = [&[3, 101], &[4, 9, 36]];

/// Shapes for sums over rows: more columns than a workgroup of a GPU takes, and more blocks of rows
/// than one has invocations to join them.
pub const REDUCTIONS: [[usize; 2]; 2] = [[70, 132], [8300, 31]];

/// An op and its inputs.
#[derive(Clone, Debug)]
pub struct Case {
    /// The op under test.
    pub op: Arc<dyn Op>,
    /// Type and content of each input.
    pub inputs: Vec<(TensorType, Fill)>,
    /// The inputs whose gradients are checked numerically.
    pub differentiable: Vec<usize>,
}

impl Case {
    /// A case whose gradients are not checked.
    pub fn new(op: impl Op, inputs: Vec<(TensorType, Fill)>) -> Self {
        Case { op: Arc::new(op), inputs, differentiable: Vec::new() }
    }

    /// Asks for a numerical gradient check of these inputs.
    pub fn differentiable(mut self, inputs: &[usize]) -> Self {
        self.differentiable = inputs.to_vec();
        self
    }

    /// Types of the op's operands.
    ///
    /// # Panics
    /// If the op rejects the inputs.
    pub fn types(&self) -> Types {
        let inputs: Vec<TensorType> = self.inputs.iter().map(|(ty, _)| ty.clone()).collect();
        let outputs = self.op.output_types(&inputs.iter().collect::<Vec<_>>());
        let outputs = outputs.unwrap_or_else(|problem| panic!("{:?}: {problem}", self.op));
        Types { inputs, outputs }
    }

    /// Whether a GPU can compute it: not what only a CPU's rules make.
    pub fn has_shaders(&self) -> bool {
        !self.op.gpu(&self.types()).list.is_empty()
    }

    /// The values of input `index`; integers as their values.
    pub fn values(&self, index: usize) -> ArrayD<f64> {
        let (ty, fill) = &self.inputs[index];
        let len = ty.len();
        let order = rng::permutation(len, 7, Stream::Init, index as u32);
        let value = |i: usize| {
            let bits = rng::draw(7, Stream::Split, index as u32, i as u32)[0];
            let unit = rng::unit(bits);
            match *fill {
                Fill::Uniform(low, high) => f64::from(low + (high - low) * unit),
                Fill::AwayFromZero => f64::from((0.1 + 0.9 * unit) * if bits & 1 == 0 { 1.0 } else { -1.0 }),
                Fill::Distinct => f64::from(2.0 * (order[i] as f32 + 0.5) / len as f32 - 1.0),
                Fill::Labels(_) if i % 4 == 2 => f64::from(u32::MAX),
                Fill::Below(bound) | Fill::Labels(bound) => f64::from(rng::below(bits, bound)),
                Fill::Bits => f64::from(bits),
                Fill::Bytes(bytes) => {
                    let byte = |place: u32| u32::from(bytes[(bits >> place) as usize % 256 % bytes.len()]);
                    f64::from([0, 8, 16, 24].iter().map(|place| byte(*place) << place).sum::<u32>())
                }
                Fill::Constant(value) => f64::from(value),
            }
        };
        array(ty.dims(), (0..len).map(value).collect())
    }
}

/// Stores reference values as a tensor of the given type would hold them.
pub fn to_words(values: &ArrayD<f64>, dtype: DType) -> Vec<u32> {
    let word = |&value: &f64| match dtype {
        DType::F32 => (value as f32).to_bits(),
        DType::U32 => value as u32,
        DType::F16 => unreachable!("no operand of an op has this type"),
    };
    values.iter().map(word).collect()
}
