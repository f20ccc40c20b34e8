//! Cases of [`crate::ops::pool`].

use crate::ops::Op;
use crate::ops::pool::max_pool::MaxPool;
use crate::ops::pool::max_pool_grad::MaxPoolGrad;
use crate::ops::pool::resize::Resize;
use crate::selftest::case::{Case, Fill};
use crate::tensor::TensorType;

/// Poolings with and without overlap, leftover pixels and padding.
fn geometries() -> Vec<(MaxPool, [usize; 4])> {
    let overlapping = |window, stride, padding| MaxPool { window, stride, padding };
    vec![
        (MaxPool::side_by_side(2), [3, 8, 8, 20]),
        (MaxPool::side_by_side(2), [2, 5, 7, 4]),
        (overlapping(3, 2, 0), [2, 7, 7, 3]),
        (overlapping(3, 1, 0), [1, 4, 4, 1]),
        (MaxPool::side_by_side(2), [2, 12, 13, 32]),
        (overlapping(3, 2, 1), [2, 8, 8, 20]),
        (overlapping(3, 2, 1), [1, 7, 5, 3]),
        (overlapping(3, 1, 1), [1, 1, 2, 4]),
        (overlapping(4, 2, 2), [1, 6, 3, 1]),
    ]
}

/// Cases of [`MaxPool`].
pub fn max_pool() -> Vec<Case> {
    let case = |(pool, x): (MaxPool, [usize; 4])| {
        Case::new(pool, vec![(TensorType::f32(x), Fill::Distinct)]).differentiable(&[0])
    };
    geometries().into_iter().map(case).collect()
}

/// Cases of [`MaxPoolGrad`].
pub fn max_pool_grad() -> Vec<Case> {
    let case = |(pool, x): (MaxPool, [usize; 4]), x_fill| {
        let x = TensorType::f32(x);
        let y = pool.output_types(&[&x]).unwrap_or_default().remove(0);
        let inputs = vec![(x, x_fill), (y.clone(), Fill::Constant(1.0)), (y, Fill::Uniform(-1.0, 1.0))];
        Case::new(MaxPoolGrad { pool }, inputs)
    };
    // A constant y equal to a constant x: every element ties, and only the first may receive.
    let ties = geometries().into_iter().map(|g| case(g, Fill::Constant(1.0)));
    // Zeros and ones: the first of the ones, wherever it lies, and nobody where there is none.
    let first = geometries().into_iter().map(|g| case(g, Fill::Below(2)));
    ties.chain(first).collect()
}

/// Cases of [`Resize`].
pub fn resize() -> Vec<Case> {
    let case = |x: [usize; 4], height, width| {
        Case::new(Resize { height, width }, vec![(TensorType::f32(x), Fill::Uniform(-1.0, 1.0))])
    };
    vec![
        case([2, 4, 4, 3], 12, 12),
        case([3, 5, 3, 8], 7, 8),
        case([1, 1, 1, 2], 3, 2),
        case([2, 3, 3, 3], 3, 3),
    ]
}
