//! Cases of [`crate::ops::optim`].

use crate::ops::optim::adam::{Adam, EpsilonForm};
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

/// Cases of [`SumSquares`].
pub fn sum_squares() -> Vec<Case> {
    let case =
        |dims: &[usize]| Case::new(SumSquares, vec![(TensorType::f32(dims), Fill::Uniform(-0.1, 0.1))]);
    vec![case(&[1]), case(&[3, 5, 7]), case(&[130, 128]), case(&[9001])]
}

/// Cases of [`Unscale`].
pub fn unscale() -> Vec<Case> {
    let case =
        |dims| Case::new(Unscale { scale: 2.0 }, vec![(TensorType::f32(dims), Fill::Uniform(-1.0, 1.0))]);
    ELEMENTWISE.map(case).to_vec()
}
