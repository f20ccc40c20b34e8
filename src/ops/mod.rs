//! The operations: a file each, or a folder for a large one, which holds everything about the op,
//! in this order: its mathematics, its attributes, the shape rule, the gradient rule, its work on a
//! CPU ([`cpu_step`]) and on a GPU ([`dispatch`]), the naive `f64` reference that is its
//! specification, and the cases it is tested with.
//!
//! To add an elementwise function: a row of [`crate::kernels::function`] and a case of
//! `shaders/include/function.wgsl`. To add another op: `ops/foo.rs` and `shaders/foo.wgsl`, the two
//! lists below, a chapter of the kernel book and an error to be planted into the shader, in the
//! shader (`//~ foo: TEXT => OTHER TEXT` above a line), both of which tests ask for.

use std::fmt::{Debug, Display};
use std::ops::Range;

use crate::error::{Error, Result};
pub use crate::graph::op::{Alias, Axis, Cost, Gradients, Inferred, Op, Tile, Types, cpu_step, dispatch};
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
pub mod constant;
pub mod conv;
pub mod copy;
pub mod dropout;
pub mod fold_batch_norm;
pub mod global_average_pool;
pub mod global_average_pool_grad;
pub mod join;
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
        constant::cases,
        copy::cases,
        dropout::cases,
        fold_batch_norm::cases,
        global_average_pool::cases,
        global_average_pool_grad::cases,
        join::cases,
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
    ]
    .iter()
    .flat_map(|cases| cases())
    .collect()
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
