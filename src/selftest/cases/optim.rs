//! Cases of [`crate::ops::optim`].

use crate::ops::optim::adam::{Adam, EpsilonForm};
use crate::ops::optim::clip::{Clip, ClipFactor};
use crate::ops::optim::moving_average::MovingAverage;
use crate::ops::optim::sgd::Sgd;
use crate::ops::optim::sum_squares::SumSquares;
use crate::ops::optim::unscale::Unscale;
use crate::selftest::case::{Case, ELEMENTWISE, Fill};
use crate::tensor::TensorType;

/// Cases of [`Sgd`].
pub fn sgd() -> Vec<Case> {
    let case = |nesterov, decay| {
        ELEMENTWISE.map(|dims| {
            let input = || (TensorType::f32(dims), Fill::Uniform(-1.0, 1.0));
            let inputs = vec![input(), input(), input(), (TensorType::f32([1]), Fill::Constant(0.1))];
            Case::new(Sgd { momentum: 0.9, nesterov, decay }, inputs)
        })
    };
    [case(true, 0.01), case(false, 0.0)].concat()
}

/// Cases of [`Adam`].
pub fn adam() -> Vec<Case> {
    let case = |dims, epsilon_form, decay, step| {
        let input = |low, high| (TensorType::f32(dims), Fill::Uniform(low, high));
        let inputs = vec![
            input(-1.0, 1.0),
            input(-10.0, 10.0),
            input(0.0, 0.1),
            input(-10.0, 10.0),
            // So large that the last digits of a step show beside p.
            (TensorType::f32([1]), Fill::Constant(1.0)),
            (TensorType::u32([1]), Fill::Constant(step)),
        ];
        Case::new(Adam { beta1: 0.9, beta2: 0.9999, epsilon: 1e-3, epsilon_form, decay }, inputs)
    };
    let case = |epsilon_form, decay, step| ELEMENTWISE.map(|dims| case(dims, epsilon_form, decay, step));
    [
        case(EpsilonForm::Torch, 0.0, 0.0),
        case(EpsilonForm::Torch, 0.05, 100.0),
        case(EpsilonForm::Keras, 0.0, 1.0),
        // Late enough that the correction of v is nearly complete.
        case(EpsilonForm::Keras, 0.0, 3000.0),
    ]
    .concat()
}

/// Cases of [`MovingAverage`].
pub fn moving_average() -> Vec<Case> {
    let case = |dims| {
        let input = || (TensorType::f32(dims), Fill::Uniform(-1.0, 1.0));
        Case::new(MovingAverage { momentum: 0.1, scale: 1.25 }, vec![input(), input()])
    };
    ELEMENTWISE.map(case).to_vec()
}

/// Inputs of several lengths: a part of a block, some, and many.
fn gradients(shapes: &[&[usize]]) -> Vec<(TensorType, Fill)> {
    shapes.iter().map(|&dims| (TensorType::f32(dims), Fill::Uniform(-0.1, 0.1))).collect()
}

/// Cases of [`SumSquares`].
pub fn sum_squares() -> Vec<Case> {
    let case = |shapes: &[&[usize]]| Case::new(SumSquares, gradients(shapes));
    let several: [&[usize]; 4] = [&[1], &[3, 5, 7], &[130, 128], &[256]];
    vec![case(&[&[1]]), case(&[&[3, 5, 7]]), case(&[&[130, 128]]), case(&[&[9001]]), case(&several)]
}

/// Cases of [`ClipFactor`]: of gradients that are shorter than allowed, and longer.
pub fn clip_factor() -> Vec<Case> {
    let case = |limit, shapes: &[&[usize]]| Case::new(ClipFactor { limit }, gradients(shapes));
    let many = vec![&[70][..]; 14];
    vec![
        case(1e3, &[&[300]]),
        case(0.01, &[&[300]]),
        case(0.5, &[&[3], &[1100, 3], &[257]]),
        case(0.5, &many),
    ]
}

/// Cases of [`Clip`].
pub fn clip() -> Vec<Case> {
    let case = |dims| {
        let gradient = (TensorType::f32(dims), Fill::Uniform(-1.0, 1.0));
        Case::new(Clip, vec![gradient, (TensorType::f32([1]), Fill::Constant(0.7))])
    };
    ELEMENTWISE.map(case).to_vec()
}

/// Cases of [`Unscale`].
pub fn unscale() -> Vec<Case> {
    let case =
        |dims| Case::new(Unscale { scale: 2.0 }, vec![(TensorType::f32(dims), Fill::Uniform(-1.0, 1.0))]);
    ELEMENTWISE.map(case).to_vec()
}
