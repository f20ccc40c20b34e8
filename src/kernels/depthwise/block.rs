//! The 3x3 convolutions of stride 1 and 2, in blocks of neighbouring outputs.

use std::ops::Range;

use super::Geometry;
use crate::kernels::simd::{Kernel, Simd};

/// Neighbouring outputs that are computed together: with three weights and the nine inputs that they read at
/// stride 2, sixteen registers, all that AVX2 has.
pub const BLOCK: usize = 4;

/// The pixels of a row of channels that a block reads through one row of the kernel.
pub type Pixels<'a, const COLUMNS: usize> = [&'a [f32]; COLUMNS];

/// Of input row `row`, for a block whose first output's window begins, but for the padding, at column `first`.
#[inline(always)]
pub fn pixels<'a, const COLUMNS: usize>(
    g: &Geometry,
    x: &'a [f32],
    row: usize,
    first: usize,
    zeros: &'a [f32],
) -> Pixels<'a, COLUMNS> {
    let x = &x[row * g.in_row()..][..g.in_row()];
    let mut pixels = [zeros; COLUMNS];
    for (column, pixel) in pixels.iter_mut().enumerate() {
        let at = (first + column).wrapping_sub(g.pad_left);
        if at < g.in_width {
            *pixel = &x[at * g.channels..][..g.channels];
        }
    }
    pixels
}

/// One output row of a 3x3 convolution.
pub struct BlockRow<'a> {
    pub g: &'a Geometry,
    /// The image.
    pub x: &'a [f32],
    pub w: &'a [f32],
    /// What the sums begin with, for every channel.
    pub start: &'a [f32],
    /// As many as there are channels.
    pub zeros: &'a [f32],
    pub p: usize,
    pub y: &'a mut [f32],
}

impl Kernel for BlockRow<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        match self.g.stride {
            1 => self.blocks::<S, 1, { BLOCK + 2 }>(simd),
            _ => self.blocks::<S, 2, { 2 * BLOCK + 1 }>(simd),
        }
    }
}

impl BlockRow<'_> {
    #[inline(always)]
    fn blocks<S: Simd, const STRIDE: usize, const COLUMNS: usize>(self, simd: S) {
        let BlockRow { g, x, w, start, zeros, p, y } = self;
        let (channels, rows) = (g.channels, g.kernel_rows(p));
        for (block, y) in y.chunks_mut(BLOCK * channels).enumerate() {
            let mut columns = [[zeros; COLUMNS]; 3];
            for i in rows.clone() {
                columns[i] = pixels(g, x, p * STRIDE + i - g.pad_top, block * BLOCK * STRIDE, zeros);
            }
            Block::<STRIDE, COLUMNS> { channels, rows: rows.clone(), columns, w, start }.run(simd, y);
        }
    }
}

/// A few neighbouring outputs.
struct Block<'a, const STRIDE: usize, const COLUMNS: usize> {
    channels: usize,
    /// Of the kernel, those that meet the image.
    rows: Range<usize>,
    columns: [Pixels<'a, COLUMNS>; 3],
    w: &'a [f32],
    start: &'a [f32],
}

impl<const STRIDE: usize, const COLUMNS: usize> Block<'_, STRIDE, COLUMNS> {
    #[inline(always)]
    fn run<S: Simd>(&self, simd: S, y: &mut [f32]) {
        let channels = self.channels;
        assert!(self.rows.end <= 3 && self.w.len() == 9 * channels && self.start.len() == channels);
        assert!(self.columns.iter().flatten().all(|pixel| pixel.len() == channels));
        assert!(y.len() <= BLOCK * channels);
        let whole = channels - channels % S::LANES;
        for c in (0..whole).step_by(S::LANES) {
            // SAFETY: the vector at c ends within `channels`, which all slices have been checked against.
            unsafe { self.vector(simd, c, y) };
        }
        for c in whole..channels {
            self.channel(c, y);
        }
    }

    /// # Safety
    /// `c + LANES` must be at most `channels`, and the slices as long as `run` checks.
    #[inline(always)]
    unsafe fn vector<S: Simd>(&self, simd: S, c: usize, y: &mut [f32]) {
        // SAFETY: passed on from the caller.
        unsafe {
            let mut sums = [simd.load(self.start.as_ptr().add(c)); BLOCK];
            for i in self.rows.clone() {
                let mut w = [simd.zero(); 3];
                for (j, w) in w.iter_mut().enumerate() {
                    *w = simd.load(self.w.as_ptr().add((3 * i + j) * self.channels + c));
                }
                let mut x = [simd.zero(); COLUMNS];
                for (x, pixel) in x.iter_mut().zip(&self.columns[i]) {
                    *x = simd.load(pixel.as_ptr().add(c));
                }
                for (q, sum) in sums.iter_mut().enumerate() {
                    for (j, w) in w.iter().enumerate() {
                        *sum = simd.multiply_add(x[q * STRIDE + j], *w, *sum);
                    }
                }
            }
            for (q, sum) in sums.into_iter().enumerate() {
                if q * self.channels < y.len() {
                    simd.store(y.as_mut_ptr().add(q * self.channels + c), sum);
                }
            }
        }
    }

    /// One channel by itself: what a whole vector leaves over.
    #[inline(always)]
    fn channel(&self, c: usize, y: &mut [f32]) {
        for (q, y) in y.iter_mut().skip(c).step_by(self.channels).enumerate() {
            *y = self.start[c];
            for i in self.rows.clone() {
                for j in 0..3 {
                    *y += self.columns[i][q * STRIDE + j][c] * self.w[(3 * i + j) * self.channels + c];
                }
            }
        }
    }
}
