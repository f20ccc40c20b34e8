//! The operations, in folders by family: a file each, or a folder for a large one.
//!
//! Each holds everything about its op, in this order: mathematics, attributes, the shape rule, the
//! gradient rule, its work on a CPU ([`cpu_step`]) and on a GPU ([`dispatch`]), and the naive `f64`
//! reference that is its specification. The cases it is tested with are in
//! [`crate::selftest::cases`]. `cifar-engine explain OP` shows all of it for one op.
//!
//! To add an elementwise function: a row of [`crate::kernels::function`], a case of
//! `shaders/include/function.wgsl`, and PyTorch's values of it (`tools/compose_goldens.py`). To add
//! another op: `ops/FAMILY/foo.rs` and `shaders/foo.wgsl`, a line in the family's list of files,
//! cases and their line in [`crate::selftest::cases`], a chapter of the kernel book and an error to
//! be planted into the shader, in the shader (`//~ foo: TEXT => OTHER TEXT` above a line): tests
//! ask for all of them.

use std::fmt::{Debug, Display};
use std::ops::Range;

use ndarray::{Array, Array4, ArrayD, ArrayViewD, Ix2, Ix4, indices};

use crate::error::{Error, Result};
pub use crate::graph::op::{
    Alias, Axis, Cost, Gradients, Inferred, Op, Tile, Types, cpu_step, dispatch, reference,
};
use crate::graph::{Graph, Node, Value};
use crate::kernels::function::Of;
pub use crate::kernels::function::{Activation, Function};
use crate::tensor::{DType, TensorType};
use cpu_step::{CpuStep, CpuTarget};
use dispatch::{
    Dispatch, Dispatches, GROUP, Operand, PIECE_BYTES, Reduction, each_value, grid, lanes, may_be_joined,
    shader, wide_shader, width,
};
use linear::tile::{TiledProduct, Tiling};
use reference::{channel_sums, moments, operands, shaped, single, spread, vector, view, views};

pub mod augment;
pub mod conv;
pub mod linear;
pub mod loss;
pub mod map;
pub mod methods;
pub mod movement;
pub mod norm;
pub mod optim;
pub mod pool;

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

/// The outcome of a shape rule, of a node that it has accepted.
pub(crate) fn checked<T>(geometry: std::result::Result<T, String>) -> T {
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
