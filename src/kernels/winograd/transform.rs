//! The transforms of one tile, vectorised over channels.
//!
//! Each is the same one-dimensional transform, first of the columns, then of the rows.

use std::ops::Range;

use super::super::batch_norm::Apply;
use super::super::input::Input;
use super::super::simd::{Kernel, Simd};
use super::{IN, OUT};

/// The points are 0, P, -P, Q, -Q and infinity.
const P: f32 = 5.0 / 8.0;
const Q: f32 = 3.0 / 2.0;

/// G: what the weights are multiplied by. Row by point, `[1, x, x^2]` over the product of the
/// distances to the other points.
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
fn fma<S: Simd>(simd: S, factor: f32, x: S::Vector, y: S::Vector) -> S::Vector {
    simd.multiply_add(simd.splat(factor), x, y)
}

/// `even + x odd` and `even - x odd`: a polynomial at x and at -x.
#[inline(always)]
fn even_odd<S: Simd>(simd: S, x: f32, even: S::Vector, odd: S::Vector) -> [S::Vector; 2] {
    [fma(simd, x, odd, even), fma(simd, -x, odd, even)]
}

/// `B^T d`.
#[inline(always)]
fn input<S: Simd>(simd: S, d: [S::Vector; IN]) -> [S::Vector; IN] {
    let (product, sum) = (P * P * Q * Q, P * P + Q * Q);
    let [p, minus_p] = even_odd(simd, P, fma(simd, -Q * Q, d[2], d[4]), fma(simd, -Q * Q, d[1], d[3]));
    let [q, minus_q] = even_odd(simd, Q, fma(simd, -P * P, d[2], d[4]), fma(simd, -P * P, d[1], d[3]));
    let zero = fma(simd, product, d[0], fma(simd, -sum, d[2], d[4]));
    let infinity = fma(simd, product, d[1], fma(simd, -sum, d[3], d[5]));
    [zero, p, minus_p, q, minus_q, infinity]
}

/// `A^T m`.
#[inline(always)]
fn output<S: Simd>(simd: S, m: [S::Vector; IN]) -> [S::Vector; OUT] {
    let [even_p, odd_p] = even_odd(simd, 1.0, m[1], m[2]);
    let [even_q, odd_q] = even_odd(simd, 1.0, m[3], m[4]);
    let (one, zero) = (simd.splat(1.0), simd.zero());
    [
        simd.multiply_add(one, simd.multiply_add(one, even_p, even_q), m[0]),
        fma(simd, P, odd_p, fma(simd, Q, odd_q, zero)),
        fma(simd, P * P, even_p, fma(simd, Q * Q, even_q, zero)),
        fma(simd, P * P * P, odd_p, fma(simd, Q * Q * Q, odd_q, m[5])),
    ]
}

/// `A d`.
#[inline(always)]
fn gradient<S: Simd>(simd: S, d: [S::Vector; OUT]) -> [S::Vector; IN] {
    let [p, minus_p] = even_odd(simd, P, fma(simd, P * P, d[2], d[0]), fma(simd, P * P, d[3], d[1]));
    let [q, minus_q] = even_odd(simd, Q, fma(simd, Q * Q, d[2], d[0]), fma(simd, Q * Q, d[3], d[1]));
    [d[0], p, minus_p, q, minus_q, d[3]]
}

/// Columns as rows.
#[inline(always)]
fn transpose<S: Simd, const N: usize, const M: usize>(
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
pub struct TilePosition {
    at: isize,
    row: usize,
    pixel: usize,
    rows: Range<usize>,
    columns: Range<usize>,
    side: usize,
}

impl TilePosition {
    /// A tile of `side` x `side` pixels whose first is at (`top`, `left`) of an image of `size`
    /// (height, width) and `channels`.
    #[inline(always)]
    pub fn new(
        side: usize,
        (top, left): (isize, isize),
        size: (usize, usize),
        channels: usize,
    ) -> TilePosition {
        let inside = |from: isize, size: usize| {
            let clamp = |edge: isize| edge.clamp(0, side as isize) as usize;
            clamp(-from)..clamp(size as isize - from)
        };
        TilePosition {
            at: (top * size.1 as isize + left) * channels as isize,
            row: size.1 * channels,
            pixel: channels,
            rows: inside(top, size.0),
            columns: inside(left, size.1),
            side,
        }
    }

    #[inline(always)]
    fn is_whole(&self) -> bool {
        self.rows == (0..self.side) && self.columns == (0..self.side)
    }

    /// How far pixel (i, j) is from the image's first.
    #[inline(always)]
    fn offset(&self, i: usize, j: usize) -> isize {
        self.at + (i * self.row + j * self.pixel) as isize
    }

    /// Some channels of the tile's pixels, where they lie in the image; if some are outside, or are
    /// to be normalised first, from `patch`, with zeros outside. A test of every pixel for every
    /// vector of channels would take longer than the copy.
    #[inline(always)]
    pub fn source<'a, S: Simd>(
        &self,
        simd: S,
        image: Input<'a>,
        channels: Range<usize>,
        patch: &'a mut [f32],
    ) -> TilePixels<'a> {
        if self.is_whole() && image.affine.is_none() {
            let pixels = &image.x[self.at as usize + channels.start..];
            return TilePixels { pixels, row: self.row, pixel: self.pixel, side: self.side };
        }
        let pixel = channels.len();
        let patch = &mut patch[..self.side * self.side * pixel];
        if !self.is_whole() {
            patch.fill(0.0);
        }
        let affine = image.affine.map(|affine| affine.channels(channels.clone()));
        // Of all channels, the pixels of a row lie side by side.
        let run = if pixel == self.pixel { self.columns.len() } else { 1 };
        for i in self.rows.clone() {
            for j in self.columns.clone().step_by(run.max(1)) {
                let x = &image.x[self.offset(i, j) as usize + channels.start..][..run * pixel];
                let y = &mut patch[(i * self.side + j) * pixel..][..run * pixel];
                match affine {
                    Some(affine) => Apply { x, affine, y }.run(simd),
                    None => y.copy_from_slice(x),
                }
            }
        }
        TilePixels { pixels: patch, row: self.side * pixel, pixel, side: self.side }
    }
}

/// A whole tile, its pixels some elements apart.
pub struct TilePixels<'a> {
    pixels: &'a [f32],
    row: usize,
    pixel: usize,
    side: usize,
}

impl TilePixels<'_> {
    /// A vector of the channels from `c` on, or as many as there are of `count`.
    #[inline(always)]
    pub fn channels<S: Simd>(&self, c: usize, count: usize) -> Channels<'_> {
        let (last, lanes) = (self.side - 1, S::LANES.min(count - c));
        let len = last * (self.row + self.pixel) + lanes;
        Channels { pixels: &self.pixels[c..][..len], row: self.row, pixel: self.pixel, lanes }
    }
}

/// A vector of channels of a whole tile: the slice ends with that of its last pixel.
pub struct Channels<'a> {
    pixels: &'a [f32],
    row: usize,
    pixel: usize,
    lanes: usize,
}

impl Channels<'_> {
    /// Column `j` of the tile, of N pixels. `WHOLE` says that `lanes` is a whole vector.
    #[inline(always)]
    fn column<S: Simd, const N: usize, const WHOLE: bool>(&self, simd: S, j: usize) -> [S::Vector; N] {
        let mut column = [simd.zero(); N];
        for (i, value) in column.iter_mut().enumerate() {
            // SAFETY: `TilePixels::channels` cut the slice so that it holds `lanes` elements of
            // every pixel; that N is the tile's side, the callers of the transforms vouch for.
            unsafe {
                let pixel = self.pixels.as_ptr().add(i * self.row + j * self.pixel);
                *value = if WHOLE { simd.load(pixel) } else { simd.load_first(pixel, self.lanes) };
            }
        }
        column
    }

    /// The tile's columns, transformed; written out, because a loop would first fill them with
    /// zeros.
    #[inline(always)]
    fn input_columns<S: Simd, const WHOLE: bool>(&self, simd: S) -> [[S::Vector; IN]; IN] {
        [
            input(simd, self.column::<S, IN, WHOLE>(simd, 0)),
            input(simd, self.column::<S, IN, WHOLE>(simd, 1)),
            input(simd, self.column::<S, IN, WHOLE>(simd, 2)),
            input(simd, self.column::<S, IN, WHOLE>(simd, 3)),
            input(simd, self.column::<S, IN, WHOLE>(simd, 4)),
            input(simd, self.column::<S, IN, WHOLE>(simd, 5)),
        ]
    }

    /// Columns of the output's gradient, as [`Channels::input_columns`] of the input.
    #[inline(always)]
    fn gradient_columns<S: Simd, const WHOLE: bool>(&self, simd: S) -> [[S::Vector; IN]; OUT] {
        [
            gradient(simd, self.column::<S, OUT, WHOLE>(simd, 0)),
            gradient(simd, self.column::<S, OUT, WHOLE>(simd, 1)),
            gradient(simd, self.column::<S, OUT, WHOLE>(simd, 2)),
            gradient(simd, self.column::<S, OUT, WHOLE>(simd, 3)),
        ]
    }
}

/// `B^T d B` of a tile of [`IN`] x [`IN`]: its 36 vectors go to `to`, `point` elements apart.
///
/// # Safety
/// The tile must have that side, and a vector must be writable at each of the 36 places.
#[inline(always)]
pub unsafe fn transform_input<S: Simd>(simd: S, tile: &Channels, to: *mut f32, point: usize) {
    let rows = match tile.lanes >= S::LANES {
        true => tile.input_columns::<S, true>(simd),
        false => tile.input_columns::<S, false>(simd),
    };
    for (i, row) in transpose(simd, rows).into_iter().enumerate() {
        for (j, value) in input(simd, row).into_iter().enumerate() {
            // SAFETY: passed on from the caller.
            unsafe { simd.store(to.add((i * IN + j) * point), value) };
        }
    }
}

/// `A dy A^T` of a tile of [`OUT`] x [`OUT`] of the output's gradient, written as
/// [`transform_input`] does.
///
/// # Safety
/// As for [`transform_input`].
#[inline(always)]
pub unsafe fn transform_gradient<S: Simd>(simd: S, tile: &Channels, to: *mut f32, point: usize) {
    let rows = match tile.lanes >= S::LANES {
        true => tile.gradient_columns::<S, true>(simd),
        false => tile.gradient_columns::<S, false>(simd),
    };
    for (i, row) in transpose(simd, rows).into_iter().enumerate() {
        for (j, value) in gradient(simd, row).into_iter().enumerate() {
            // SAFETY: passed on from the caller.
            unsafe { simd.store(to.add((i * IN + j) * point), value) };
        }
    }
}

/// Work on outputs before they are stored.
#[derive(Clone, Copy)]
pub struct Finish<S: Simd> {
    pub bias: S::Vector,
    pub low: S::Vector,
    pub high: S::Vector,
}

/// `clamp(A^T m A + bias)` of a tile, whose 36 vectors are read at `from`, `point` elements apart,
/// and whose outputs go to `image` at `place`.
///
/// # Safety
/// A vector must be readable at each of the 36 places, and `image` must point to `lanes` writable
/// channels of the image that `place` was made for.
#[inline(always)]
pub unsafe fn transform_output<S: Simd>(
    simd: S,
    place: &TilePosition,
    from: *const f32,
    point: usize,
    finish: Finish<S>,
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
    let whole = place.is_whole() && lanes >= S::LANES;
    for (i, row) in transpose(simd, half).into_iter().enumerate() {
        for (j, value) in output(simd, row).into_iter().enumerate() {
            let value = simd.multiply_add(simd.splat(1.0), value, finish.bias);
            let value = simd.clamp(value, finish.low, finish.high);
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
