//! The transforms of one tile, vectorised over channels. Each is the same one-dimensional transform, first
//! of the columns, then of the rows.

use std::ops::Range;

use super::super::simd::Simd;
use super::{IN, OUT};

/// The points are 0, P, -P, Q, -Q and infinity.
const P: f32 = 5.0 / 8.0;
const Q: f32 = 3.0 / 2.0;

/// G: what the weights are multiplied by. Row by point, `[1, x, x^2]` over the product of the distances to
/// the other points.
pub const G: [[f32; 3]; IN] = {
    let (p, q) = (P as f64, Q as f64);
    let (zero, at_p, at_q) = (p * p * q * q, 2.0 * p * p * (p * p - q * q), 2.0 * q * q * (q * q - p * p));
    [
        [(1.0 / zero) as f32, 0.0, 0.0],
        [(1.0 / at_p) as f32, (p / at_p) as f32, (p * p / at_p) as f32],
        [(1.0 / at_p) as f32, (-p / at_p) as f32, (p * p / at_p) as f32],
        [(1.0 / at_q) as f32, (q / at_q) as f32, (q * q / at_q) as f32],
        [(1.0 / at_q) as f32, (-q / at_q) as f32, (q * q / at_q) as f32],
        [0.0, 0.0, 1.0],
    ]
};

/// `factor * x + y`.
#[inline(always)]
fn scaled<S: Simd>(simd: S, factor: f32, x: S::Vector, y: S::Vector) -> S::Vector {
    simd.multiply_add(simd.splat(factor), x, y)
}

/// `even + x odd` and `even - x odd`: a polynomial at x and at -x.
#[inline(always)]
fn both<S: Simd>(simd: S, x: f32, even: S::Vector, odd: S::Vector) -> [S::Vector; 2] {
    [scaled(simd, x, odd, even), scaled(simd, -x, odd, even)]
}

/// `B^T d`.
#[inline(always)]
fn input<S: Simd>(simd: S, d: [S::Vector; IN]) -> [S::Vector; IN] {
    let (product, sum) = (P * P * Q * Q, P * P + Q * Q);
    let [p, minus_p] = both(simd, P, scaled(simd, -Q * Q, d[2], d[4]), scaled(simd, -Q * Q, d[1], d[3]));
    let [q, minus_q] = both(simd, Q, scaled(simd, -P * P, d[2], d[4]), scaled(simd, -P * P, d[1], d[3]));
    let zero = scaled(simd, product, d[0], scaled(simd, -sum, d[2], d[4]));
    let infinity = scaled(simd, product, d[1], scaled(simd, -sum, d[3], d[5]));
    [zero, p, minus_p, q, minus_q, infinity]
}

/// `A^T m`.
#[inline(always)]
fn output<S: Simd>(simd: S, m: [S::Vector; IN]) -> [S::Vector; OUT] {
    let [even_p, odd_p] = both(simd, 1.0, m[1], m[2]);
    let [even_q, odd_q] = both(simd, 1.0, m[3], m[4]);
    let (one, zero) = (simd.splat(1.0), simd.zero());
    [
        simd.multiply_add(one, simd.multiply_add(one, even_p, even_q), m[0]),
        scaled(simd, P, odd_p, scaled(simd, Q, odd_q, zero)),
        scaled(simd, P * P, even_p, scaled(simd, Q * Q, even_q, zero)),
        scaled(simd, P * P * P, odd_p, scaled(simd, Q * Q * Q, odd_q, m[5])),
    ]
}

/// `A d`.
#[inline(always)]
fn gradient<S: Simd>(simd: S, d: [S::Vector; OUT]) -> [S::Vector; IN] {
    let [p, minus_p] = both(simd, P, scaled(simd, P * P, d[2], d[0]), scaled(simd, P * P, d[3], d[1]));
    let [q, minus_q] = both(simd, Q, scaled(simd, Q * Q, d[2], d[0]), scaled(simd, Q * Q, d[3], d[1]));
    [d[0], p, minus_p, q, minus_q, d[3]]
}

/// Columns as rows.
#[inline(always)]
fn turned<S: Simd, const N: usize, const M: usize>(
    simd: S,
    columns: [[S::Vector; N]; M],
) -> [[S::Vector; M]; N] {
    let mut rows = [[simd.zero(); M]; N];
    for (j, column) in columns.iter().enumerate() {
        for (row, value) in rows.iter_mut().zip(column) {
            row[j] = *value;
        }
    }
    rows
}

/// Where a tile lies in an image: its pixel (0, 0) is `at` elements from the image's first, perhaps
/// outside of it; only the pixels in `rows` and `columns` are inside.
pub struct Place {
    at: isize,
    row: usize,
    pixel: usize,
    rows: Range<usize>,
    columns: Range<usize>,
}

impl Place {
    /// A tile of `side` x `side` pixels whose first is at (`top`, `left`) of an image of `size` (height, width)
    /// and `channels`.
    #[inline(always)]
    pub fn new(side: usize, (top, left): (isize, isize), size: (usize, usize), channels: usize) -> Place {
        let inside = |from: isize, size: usize| {
            let clamp = |edge: isize| edge.clamp(0, side as isize) as usize;
            clamp(-from)..clamp(size as isize - from)
        };
        Place {
            at: (top * size.1 as isize + left) * channels as isize,
            row: size.1 * channels,
            pixel: channels,
            rows: inside(top, size.0),
            columns: inside(left, size.1),
        }
    }

    #[inline(always)]
    fn is_whole(&self, side: usize) -> bool {
        self.rows == (0..side) && self.columns == (0..side)
    }

    /// How far pixel (i, j) is from the image's first.
    #[inline(always)]
    fn offset(&self, i: usize, j: usize) -> isize {
        self.at + (i * self.row + j * self.pixel) as isize
    }

    /// Column `j` of the tile, `lanes` channels of it, zero outside the image. `WHOLE` says that there is
    /// no outside, and that `lanes` is a whole vector.
    ///
    /// # Safety
    /// `image` must point to that many readable channels of a whole image.
    #[inline(always)]
    unsafe fn column<S: Simd, const N: usize, const WHOLE: bool>(
        &self,
        simd: S,
        image: *const f32,
        j: usize,
        lanes: usize,
    ) -> [S::Vector; N] {
        let mut column = [simd.zero(); N];
        for (i, value) in column.iter_mut().enumerate() {
            // SAFETY: the pixel is inside the image, whose channels the caller vouches for.
            unsafe {
                if WHOLE {
                    *value = simd.load(image.offset(self.offset(i, j)));
                } else if self.rows.contains(&i) && self.columns.contains(&j) {
                    *value = simd.load_first(image.offset(self.offset(i, j)), lanes);
                }
            }
        }
        column
    }
}

/// `B^T d B` of a tile: its 36 vectors go to `to`, `point` elements apart.
///
/// # Safety
/// `image` must point to `lanes` readable channels of the image that `place` was made for, and a vector must be
/// writable at each of the 36 places.
#[inline(always)]
pub unsafe fn transform_input<S: Simd>(
    simd: S,
    place: &Place,
    image: *const f32,
    lanes: usize,
    to: *mut f32,
    point: usize,
) {
    let mut half = [[simd.zero(); IN]; IN];
    if place.is_whole(IN) && lanes >= S::LANES {
        for (j, half) in half.iter_mut().enumerate() {
            // SAFETY: passed on from the caller.
            *half = input(simd, unsafe { place.column::<S, IN, true>(simd, image, j, lanes) });
        }
    } else {
        for (j, half) in half.iter_mut().enumerate() {
            // SAFETY: passed on from the caller.
            *half = input(simd, unsafe { place.column::<S, IN, false>(simd, image, j, lanes) });
        }
    }
    for (i, row) in turned(simd, half).into_iter().enumerate() {
        for (j, value) in input(simd, row).into_iter().enumerate() {
            // SAFETY: passed on from the caller.
            unsafe { simd.store(to.add((i * IN + j) * point), value) };
        }
    }
}

/// `A dy A^T` of a tile of the output's gradient, written as [`transform_input`] does.
///
/// # Safety
/// As for [`transform_input`].
#[inline(always)]
pub unsafe fn transform_gradient<S: Simd>(
    simd: S,
    place: &Place,
    image: *const f32,
    lanes: usize,
    to: *mut f32,
    point: usize,
) {
    let mut half = [[simd.zero(); IN]; OUT];
    if place.is_whole(OUT) && lanes >= S::LANES {
        for (j, half) in half.iter_mut().enumerate() {
            // SAFETY: passed on from the caller.
            *half = gradient(simd, unsafe { place.column::<S, OUT, true>(simd, image, j, lanes) });
        }
    } else {
        for (j, half) in half.iter_mut().enumerate() {
            // SAFETY: passed on from the caller.
            *half = gradient(simd, unsafe { place.column::<S, OUT, false>(simd, image, j, lanes) });
        }
    }
    for (i, row) in turned(simd, half).into_iter().enumerate() {
        for (j, value) in gradient(simd, row).into_iter().enumerate() {
            // SAFETY: passed on from the caller.
            unsafe { simd.store(to.add((i * IN + j) * point), value) };
        }
    }
}

/// `A^T m A + bias` of a tile, whose 36 vectors are read at `from`, `point` elements apart, and whose
/// outputs go to `image` at `place`.
///
/// # Safety
/// A vector must be readable at each of the 36 places, and `image` must point to `lanes` writable channels of the
/// image that `place` was made for.
#[inline(always)]
pub unsafe fn transform_output<S: Simd>(
    simd: S,
    place: &Place,
    from: *const f32,
    point: usize,
    bias: S::Vector,
    image: *mut f32,
    lanes: usize,
) {
    let mut half = [[simd.zero(); OUT]; IN];
    for (j, half) in half.iter_mut().enumerate() {
        let mut column = [simd.zero(); IN];
        for (i, value) in column.iter_mut().enumerate() {
            // SAFETY: passed on from the caller.
            *value = unsafe { simd.load(from.add((i * IN + j) * point)) };
        }
        *half = output(simd, column);
    }
    let whole = place.is_whole(OUT) && lanes >= S::LANES;
    for (i, row) in turned(simd, half).into_iter().enumerate() {
        for (j, value) in output(simd, row).into_iter().enumerate() {
            let value = simd.multiply_add(simd.splat(1.0), value, bias);
            // SAFETY: the pixel is inside the image, whose channels the caller vouches for.
            unsafe {
                if whole {
                    simd.store(image.offset(place.offset(i, j)), value);
                } else if place.rows.contains(&i) && place.columns.contains(&j) {
                    simd.store_first(image.offset(place.offset(i, j)), lanes, value);
                }
            }
        }
    }
}
