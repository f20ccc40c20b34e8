//! Cases of [`crate::ops::movement`].

use crate::ops::movement::constant::Constant;
use crate::ops::movement::copy::Copy;
use crate::ops::movement::join::{Concat, Slice};
use crate::selftest::case::{Case, ELEMENTWISE, Fill};
use crate::tensor::TensorType;

/// Cases of [`Constant`].
pub fn constant() -> Vec<Case> {
    let case = |value| move |dims: &[usize]| Case::new(Constant { shape: dims.into(), value }, Vec::new());
    [ELEMENTWISE.map(case(0.0)), ELEMENTWISE.map(case(-1.5))].concat()
}

/// Cases of [`Copy`].
pub fn copy() -> Vec<Case> {
    let case =
        |dims| Case::new(Copy, vec![(TensorType::f32(dims), Fill::Uniform(-1.0, 1.0))]).differentiable(&[0]);
    ELEMENTWISE.map(case).to_vec()
}

/// Cases of [`Slice`] and [`Concat`].
pub fn join() -> Vec<Case> {
    let fill = |dims: &[usize]| (TensorType::f32(dims), Fill::Uniform(-1.0, 1.0));
    let slice =
        |dims: &[usize], axis, range| Case::new(Slice { axis, range }, vec![fill(dims)]).differentiable(&[0]);
    let concat = |axis, inputs: &[&[usize]]| {
        let all: Vec<usize> = (0..inputs.len()).collect();
        Case::new(Concat { axis }, inputs.iter().map(|dims| fill(dims)).collect()).differentiable(&all)
    };
    vec![
        slice(&[5, 7, 9], 0, 1..3),
        slice(&[5, 7, 9], 1, 0..4),
        slice(&[5, 300], 1, 290..300),
        slice(&[4, 6], 1, 0..6),
        concat(0, &[&[2, 3], &[5, 3]]),
        concat(1, &[&[2, 3, 4], &[2, 1, 4], &[2, 5, 4]]),
        concat(3, &[&[2, 3, 4, 5], &[2, 3, 4, 150]]),
        concat(0, &[&[4]]),
    ]
}
