//! Cases of [`crate::ops::norm`].

use crate::ops::Function;
use crate::ops::Op;
use crate::ops::norm::batch_norm::BatchNorm;
use crate::ops::norm::batch_norm_grad::BatchNormGrad;
use crate::ops::norm::batch_norm_infer::{BatchNormInfer, Normalise};
use crate::ops::norm::batch_norm_max_pool::{BatchNormMaxPool, POOL};
use crate::ops::norm::batch_norm_max_pool_grad::BatchNormMaxPoolGrad;
use crate::ops::norm::fold_batch_norm::FoldBatchNorm;
use crate::ops::norm::moments::Moments;
use crate::ops::norm::scale_shift::ScaleShift;
use crate::selftest::case::{Case, Fill, REDUCTIONS};
use crate::tensor::TensorType;

/// Cases of [`Moments`].
pub fn moments() -> Vec<Case> {
    let case = |dims: &[usize], low, high| {
        Case::new(Moments, vec![(TensorType::f32(dims), Fill::Uniform(low, high))])
    };
    let small = [
        case(&[2, 3, 3, 5], -1.0, 1.0),
        case(&[4, 4, 4, 4], -9.0, 9.0),
        // Where E[x^2] - E[x]^2 would lose half of its digits.
        case(&[300, 3], 49.0, 51.0),
        case(&[37, 1], -1.0, 1.0),
    ];
    small.into_iter().chain(REDUCTIONS.map(|dims| case(&dims, 9.0, 11.0))).collect()
}

/// Cases of [`BatchNorm`].
pub fn batch_norm() -> Vec<Case> {
    let case = |dims: &[usize], activation, low, high| {
        let channels = TensorType::f32([dims[dims.len() - 1]]);
        let gamma = (channels.clone(), Fill::Uniform(0.5, 1.5));
        let beta = (channels, Fill::Uniform(-1.0, 1.0));
        let x = (TensorType::f32(dims), Fill::Uniform(low, high));
        Case::new(BatchNorm { epsilon: 1e-3, activation }, vec![x, gamma, beta])
    };
    let small = [
        case(&[2, 3, 3, 5], None, -1.0, 1.0),
        case(&[4, 4, 4, 4], Some(Function::Relu), -1.0, 1.0),
        case(&[3, 2, 5, 16], Some(Function::Relu6), -9.0, 9.0),
        case(&[3, 2, 5, 17], Some(Function::Silu), -1.0, 1.0),
        // Where E[x^2] - E[x]^2 would lose half of its digits.
        case(&[300, 3], None, 49.0, 51.0),
        case(&[37, 1], None, -1.0, 1.0),
    ];
    let large = REDUCTIONS.map(|dims| case(&dims, Some(Function::Relu), 9.0, 11.0));
    small.map(|case| case.differentiable(&[0, 1, 2])).into_iter().chain(large).collect()
}

/// Cases of [`BatchNormGrad`].
pub fn batch_norm_grad() -> Vec<Case> {
    let case = |dims: &[usize], activation| {
        let (ty, channels) = (TensorType::f32(dims), TensorType::f32([dims[dims.len() - 1]]));
        let vector = |low, high| (channels.clone(), Fill::Uniform(low, high));
        let x = (ty.clone(), Fill::Uniform(-1.0, 1.0));
        let inputs =
            vec![x.clone(), x, vector(0.5, 1.5), vector(-1.0, 1.0), vector(-0.1, 0.1), vector(0.2, 0.5)];
        Case::new(BatchNormGrad { epsilon: 1e-5, activation }, inputs)
    };
    let small = [
        case(&[2, 3, 3, 5], None),
        case(&[4, 4, 4, 4], Some(Function::Relu)),
        case(&[700, 16], Some(Function::Relu6)),
        case(&[37, 1], None),
        case(&[40, 300], Some(Function::Gelu)),
        case(&[40, 3], Some(Function::Silu)),
        // Its slope is one of its value.
        case(&[40, 16], Some(Function::Sigmoid)),
    ];
    // No activation: among so many elements one could lie so close to the kink that rounding
    // decides.
    small.into_iter().chain(REDUCTIONS.map(|dims| case(&dims, None))).collect()
}

/// Cases of [`BatchNormInfer`].
pub fn batch_norm_infer() -> Vec<Case> {
    let case = |dims: &[usize], residual: bool, activation| {
        let channels = TensorType::f32([dims[dims.len() - 1]]);
        let vector = |low, high| (channels.clone(), Fill::Uniform(low, high));
        let mut inputs = vec![
            (TensorType::f32(dims), Fill::Uniform(-3.0, 9.0)),
            vector(0.5, 1.5),
            vector(-1.0, 1.0),
            vector(-0.5, 0.5),
            vector(0.1, 2.0),
        ];
        inputs.extend(residual.then_some((TensorType::f32(dims), Fill::Uniform(-3.0, 3.0))));
        Case::new(BatchNormInfer { epsilon: 1e-3, residual, activation }, inputs)
    };
    vec![
        case(&[2, 3, 3, 5], false, Some(Function::Relu6)),
        case(&[300, 16], false, None),
        case(&[2, 3, 3, 300], false, Some(Function::Gelu)),
        case(&[30, 17], false, Some(Function::Tanh)),
        case(&[2, 3, 3, 5], true, Some(Function::Relu)),
        case(&[300, 16], true, None),
        case(&[2, 3, 3, 5], false, None).differentiable(&[0, 1, 2]),
    ]
}

/// Cases of [`BatchNormMaxPool`].
pub fn batch_norm_max_pool() -> Vec<Case> {
    let case = |dims: [usize; 4], activation| {
        let channels = TensorType::f32([dims[3]]);
        let vector = |low, high| (channels.clone(), Fill::Uniform(low, high));
        // So small that many values are above 6.
        let variance =
            if activation == Some(Function::Relu6) { vector(0.01, 0.05) } else { vector(0.1, 2.0) };
        let inputs = vec![
            (TensorType::f32(dims), Fill::Distinct),
            vector(0.5, 1.5),
            vector(-1.0, 1.0),
            vector(-0.5, 0.5),
            variance,
        ];
        Case::new(BatchNormMaxPool { norm: Normalise { epsilon: 1e-3, activation } }, inputs)
    };
    vec![
        case([2, 4, 6, 5], None),
        case([3, 5, 7, 4], Some(Function::Relu)),
        case([2, 2, 3, 16], Some(Function::Relu6)),
        case([2, 17, 18, 12], Some(Function::Relu)),
        case([5, 12, 9, 33], Some(Function::Relu)),
        // Several work items of the CPU's an image, of one row of windows and of two.
        case([2, 6, 9, 1000], Some(Function::Relu)),
        case([2, 11, 18, 300], Some(Function::Relu)),
    ]
}

/// Cases of [`BatchNormMaxPoolGrad`].
pub fn batch_norm_max_pool_grad() -> Vec<Case> {
    let case = |dims: [usize; 4], activation| {
        let (x, channels) = (TensorType::f32(dims), TensorType::f32([dims[3]]));
        let dy = POOL.output_types(&[&x]).unwrap_or_default().remove(0);
        let vector = |low, high| (channels.clone(), Fill::Uniform(low, high));
        // So small that many values are above 6.
        let variance =
            if activation == Some(Function::Relu6) { vector(0.01, 0.05) } else { vector(0.2, 0.5) };
        let inputs = vec![
            (dy, Fill::Uniform(-1.0, 1.0)),
            (x, Fill::Distinct),
            vector(0.5, 1.5),
            vector(-1.0, 1.0),
            vector(-0.1, 0.1),
            variance,
        ];
        Case::new(BatchNormMaxPoolGrad { norm: Normalise { epsilon: 1e-5, activation } }, inputs)
    };
    vec![
        case([2, 4, 6, 5], None),
        case([3, 5, 7, 4], Some(Function::Relu)),
        case([1, 2, 2, 1], Some(Function::Relu6)),
        case([2, 17, 18, 12], Some(Function::Relu)),
        case([5, 12, 9, 33], Some(Function::Relu6)),
        // Several work items of the CPU's an image, of one row of windows and of two.
        case([2, 6, 9, 1000], Some(Function::Relu)),
        case([2, 11, 18, 300], Some(Function::Relu)),
    ]
}

/// Cases of [`ScaleShift`].
pub fn scale_shift() -> Vec<Case> {
    let case = |channels: usize| {
        let vector = |low, high| (TensorType::f32([channels]), Fill::Uniform(low, high));
        let inputs = vec![vector(0.5, 1.5), vector(-1.0, 1.0), vector(-0.5, 0.5), vector(0.1, 2.0)];
        Case::new(ScaleShift { epsilon: 1e-3 }, inputs)
    };
    [1, 12, 300].map(case).into()
}

/// Cases of [`FoldBatchNorm`].
pub fn fold_batch_norm() -> Vec<Case> {
    let case = |dims: &[usize], bias: bool| {
        let channels = TensorType::f32([dims[dims.len() - 1]]);
        let vector = |low, high| (channels.clone(), Fill::Uniform(low, high));
        let w = (TensorType::f32(dims), Fill::Uniform(-1.0, 1.0));
        let mut inputs = vec![w, vector(0.5, 1.5), vector(-1.0, 1.0), vector(-0.5, 0.5), vector(0.1, 2.0)];
        inputs.extend(bias.then(|| vector(-1.0, 1.0)));
        Case::new(FoldBatchNorm { epsilon: 1e-3 }, inputs)
    };
    vec![
        case(&[3, 3, 5, 8], true),
        case(&[3, 3, 7], false),
        case(&[1, 1, 300, 16], true),
        case(&[1, 1, 1, 1], false),
    ]
}
