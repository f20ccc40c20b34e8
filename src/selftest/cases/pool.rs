//! Cases of [`crate::ops::pool`].

use crate::ops::Op;
use crate::ops::pool::max_pool::MaxPool;
use crate::ops::pool::max_pool_grad::MaxPoolGrad;
use crate::ops::pool::max_pool_places::MaxPoolPlaces;
use crate::ops::pool::max_pool_places_grad::MaxPoolPlacesGrad;
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

/// Geometries whose places fit their bytes.
fn with_places() -> impl Iterator<Item = (MaxPool, [usize; 4])> {
    geometries().into_iter().filter(|(pool, [.., channels])| MaxPoolPlaces::suits(*pool, *channels))
}

/// Cases of [`MaxPoolPlaces`]: all elements different, and many equal ones.
pub fn max_pool_places() -> Vec<Case> {
    let case = |(pool, x): (MaxPool, [usize; 4]), fill| {
        Case::new(MaxPoolPlaces { pool }, vec![(TensorType::f32(x), fill)])
    };
    let fills = [Fill::Distinct, Fill::Below(3), Fill::Uniform(-9.0, -8.0)];
    with_places().flat_map(|geometry| fills.map(|fill| case(geometry, fill))).collect()
}

/// Cases of [`MaxPoolPlacesGrad`], with places that lie inside the borders in every window.
pub fn max_pool_places_grad() -> Vec<Case> {
    let overlapping = |stride, padding| MaxPool { window: 3, stride, padding };
    let geometries: [(MaxPool, [usize; 4], &[u8]); 4] = [
        (MaxPool::side_by_side(2), [3, 8, 8, 20], &[0, 1, 2, 3]),
        (MaxPool::side_by_side(2), [2, 5, 7, 4], &[0, 1, 2, 3]),
        (overlapping(1, 0), [1, 5, 4, 8], &[0, 1, 2, 3, 4, 5, 6, 7, 8]),
        (overlapping(2, 1), [2, 8, 8, 20], &[4, 5, 7, 8]),
    ];
    let case = |(pool, [images, height, width, channels], places): (MaxPool, [usize; 4], &'static [u8])| {
        let x = TensorType::f32([images, height, width, channels]);
        let mut pooled = MaxPoolPlaces { pool }.output_types(&[&x]).unwrap_or_default();
        let (words, dy) = (pooled.remove(1), pooled.remove(0));
        let op = MaxPoolPlacesGrad { pool, height, width };
        Case::new(op, vec![(words, Fill::Bytes(places)), (dy, Fill::Uniform(-1.0, 1.0))])
    };
    geometries.into_iter().map(case).collect()
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
