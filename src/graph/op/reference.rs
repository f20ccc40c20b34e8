//! The tools that references are written with: `ndarray`, and a few more.
//!
//! A reference takes a view of each input and returns an array for each output, of the operands'
//! shapes, and reads like the formula at the top of its op's file: elements are `x[[n, p, q, c]]`,
//! and vectors of one element a channel meet the last axis by themselves.

pub use ndarray;
use ndarray::{ArrayD, ArrayView, ArrayViewD, Axis, Dimension};

/// The first `N` inputs.
///
/// # Panics
/// If there are fewer.
pub fn operands<'a, const N: usize>(inputs: &'a [ArrayViewD<'a, f64>]) -> [&'a ArrayViewD<'a, f64>; N] {
    assert!(inputs.len() >= N, "the reference takes {N} inputs, not {}", inputs.len());
    std::array::from_fn(|i| &inputs[i])
}

/// The same elements, of a number of axes that is known: `view::<Ix4>(x)` has `x[[n, p, q, c]]`.
///
/// # Panics
/// If x has another number of axes.
pub fn view<'a, D: Dimension>(x: &'a ArrayViewD<'a, f64>) -> ArrayView<'a, f64, D> {
    let fixed = x.view().into_dimensionality();
    fixed.unwrap_or_else(|_| panic!("the reference takes {:?} axes, not {:?}", D::NDIM, x.shape()))
}

/// Views of arrays: the outputs of one reference as the inputs of another.
pub fn views(arrays: &[ArrayD<f64>]) -> Vec<ArrayViewD<'_, f64>> {
    arrays.iter().map(|array| array.view()).collect()
}

/// The same elements in row-major order, under another shape.
///
/// # Panics
/// If it has another number of elements.
pub fn shaped(x: &ArrayViewD<f64>, dims: &[usize]) -> ArrayD<f64> {
    let shaped = x.to_shape(dims).map(|x| x.into_owned());
    shaped.unwrap_or_else(|_| panic!("{:?} has not the elements of {dims:?}", x.shape()))
}

/// x as often as it takes to fill a shape: axes of one element are repeated, and missing ones in
/// front.
///
/// # Panics
/// If the other axes differ.
pub fn spread<'a>(x: &'a ArrayViewD<'a, f64>, dims: &[usize]) -> ArrayViewD<'a, f64> {
    x.broadcast(dims).unwrap_or_else(|| panic!("{:?} cannot fill {dims:?}", x.shape()))
}

/// An array of this shape, of elements in row-major order.
///
/// # Panics
/// If they are not as many as the shape has.
pub fn array(dims: &[usize], elements: Vec<f64>) -> ArrayD<f64> {
    let count = elements.len();
    let array = ArrayD::from_shape_vec(dims, elements);
    array.unwrap_or_else(|_| panic!("{count} elements do not fill {dims:?}"))
}

/// The only element of x.
pub fn single(x: &ArrayViewD<f64>) -> f64 {
    x[[0]]
}

/// An array `[N]` of these elements.
pub fn vector<const N: usize>(elements: [f64; N]) -> ArrayD<f64> {
    ArrayD::from_shape_fn(vec![N], |at| elements[at[0]])
}

/// The sum over all axes but the last: `[C]`.
pub fn channel_sums(x: &ArrayD<f64>) -> ArrayD<f64> {
    (1..x.ndim()).fold(x.clone(), |sum, _| sum.sum_axis(Axis(0)))
}

/// Mean and biased variance over all axes but the last, each `[C]`.
pub fn moments(x: &ArrayViewD<f64>) -> [ArrayD<f64>; 2] {
    let mean = channel_means(&x.to_owned());
    let variance = channel_means(&(x - &mean).pow2());
    [mean, variance]
}

/// The mean over all axes but the last: `[C]`.
pub fn channel_means(x: &ArrayD<f64>) -> ArrayD<f64> {
    let sums = channel_sums(x);
    let count = x.len() / sums.len();
    sums / count as f64
}
