//! The 3x3 convolutions of stride 1 and 2, in blocks of neighbouring outputs.

use std::ops::Range;

use super::super::conv::ConvGeometry;
use crate::simd::{Kernel, Simd};

/// Neighbouring outputs whose weights' gradients are computed together: with their inputs, at
/// stride 2, and the sums they fill the sixteen registers that AVX2 has.
pub const BLOCK: usize = 4;

/// The pixels of a row of channels that a block reads through one row of the kernel.
pub type Pixels<'a, const COLUMNS: usize> = [&'a [f32]; COLUMNS];

/// Pixels of input row `row`, for a block whose first output's window begins, but for the padding,
/// at column `first`.
#[inline(always)]
pub fn pixels<'a, const COLUMNS: usize>(
    g: &ConvGeometry,
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
            *pixel = &x[at * g.in_channels..][..g.in_channels];
        }
    }
    pixels
}

/// One output row of a 3x3 convolution.
pub struct BlockRow<'a> {
    pub g: &'a ConvGeometry,
    /// The image.
    pub x: &'a [f32],
    pub w: &'a [f32],
    /// Start of the sums, for every channel.
    pub start: &'a [f32],
    /// Zeros, as many as there are channels.
    pub zeros: &'a [f32],
    pub p: usize,
    pub y: &'a mut [f32],
}

impl Kernel for BlockRow<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        // At stride 1 the block that fills the row, if one does: those of images of 224 and 96
        // pixels on a side, at every depth. At stride 2 more outputs read so many columns that
        // longer blocks are no faster.
        match (self.g.stride, self.g.out_width) {
            (1, width) if width % 7 == 0 => self.blocks::<S, 1, 7, 9>(simd),
            (1, width) if width % 6 == 0 => self.blocks::<S, 1, 6, 8>(simd),
            (1, _) => self.blocks::<S, 1, 4, 6>(simd),
            _ => self.blocks::<S, 2, 4, 9>(simd),
        }
    }
}

impl BlockRow<'_> {
    /// Blocks of `OUTPUTS` outputs, which read `COLUMNS = STRIDE (OUTPUTS - 1) + 3` columns.
    #[inline(always)]
    fn blocks<S: Simd, const STRIDE: usize, const OUTPUTS: usize, const COLUMNS: usize>(self, simd: S) {
        let BlockRow { g, x, w, start, zeros, p, y } = self;
        let (channels, rows) = (g.in_channels, g.kernel_rows(p));
        assert!(zeros.len() >= channels && y.len().is_multiple_of(channels));
        for (block, y) in y.chunks_mut(OUTPUTS * channels).enumerate() {
            let first = block * OUTPUTS * STRIDE;
            let sums = Block::<STRIDE, OUTPUTS, COLUMNS> { channels, rows: rows.clone(), w, start };
            let row = |i: usize| p * STRIDE + i - g.pad_top;
            if first >= g.pad_left && first - g.pad_left + COLUMNS <= g.in_width {
                let mut starts = [zeros; 3];
                for i in rows.clone() {
                    let from = row(i) * g.in_row() + (first - g.pad_left) * channels;
                    starts[i] = &x[from..from + COLUMNS * channels];
                }
                // SAFETY: each of the rows that are asked for holds so many columns.
                sums.run(simd, y, |i, column| unsafe { starts[i].as_ptr().add(column * channels) });
            } else {
                let mut columns = [[zeros; COLUMNS]; 3];
                for i in rows.clone() {
                    columns[i] = pixels(g, x, row(i), first, zeros);
                }
                sums.run(simd, y, |i, column| columns[i][column].as_ptr());
            }
        }
    }
}

/// A few neighbouring outputs.
struct Block<'a, const STRIDE: usize, const OUTPUTS: usize, const COLUMNS: usize> {
    channels: usize,
    /// Rows of the kernel that meet the image.
    rows: Range<usize>,
    w: &'a [f32],
    start: &'a [f32],
}

impl<const STRIDE: usize, const OUTPUTS: usize, const COLUMNS: usize> Block<'_, STRIDE, OUTPUTS, COLUMNS> {
    /// `pixel(i, column)` gives the channels that kernel row i meets there.
    #[inline(always)]
    fn run<S: Simd>(&self, simd: S, y: &mut [f32], pixel: impl Fn(usize, usize) -> *const f32) {
        let channels = self.channels;
        assert!(self.rows.end <= 3 && self.w.len() == 9 * channels && self.start.len() == channels);
        assert!(y.len() <= OUTPUTS * channels);
        let whole = channels - channels % S::LANES;
        for c in (0..whole).step_by(S::LANES) {
            // SAFETY: the vector at c ends within `channels`, which all slices have been checked
            // against.
            unsafe { self.vector(simd, c, y, &pixel) };
        }
        for c in whole..channels {
            self.channel(c, y, &pixel);
        }
    }

    /// # Safety
    /// `c + LANES` must be at most `channels`, and the slices as long as `run` checks.
    #[inline(always)]
    unsafe fn vector<S: Simd>(
        &self,
        simd: S,
        c: usize,
        y: &mut [f32],
        pixel: impl Fn(usize, usize) -> *const f32,
    ) {
        // SAFETY: passed on from the caller.
        unsafe {
            let mut sums = [simd.load(self.start.as_ptr().add(c)); OUTPUTS];
            for i in self.rows.clone() {
                let mut w = [simd.zero(); 3];
                for (j, w) in w.iter_mut().enumerate() {
                    *w = simd.load(self.w.as_ptr().add((3 * i + j) * self.channels + c));
                }
                for column in 0..COLUMNS {
                    let x = simd.load(pixel(i, column).add(c));
                    for (j, w) in w.iter().enumerate() {
                        if column >= j && (column - j) % STRIDE == 0 && (column - j) / STRIDE < OUTPUTS {
                            let sum = &mut sums[(column - j) / STRIDE];
                            *sum = simd.multiply_add(x, *w, *sum);
                        }
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
    fn channel(&self, c: usize, y: &mut [f32], pixel: impl Fn(usize, usize) -> *const f32) {
        for (q, y) in y.iter_mut().skip(c).step_by(self.channels).enumerate() {
            *y = self.start[c];
            for i in self.rows.clone() {
                for j in 0..3 {
                    // SAFETY: `pixel` gives as many elements as there are channels.
                    *y +=
                        unsafe { *pixel(i, q * STRIDE + j).add(c) } * self.w[(3 * i + j) * self.channels + c];
                }
            }
        }
    }
}
