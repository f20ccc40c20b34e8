//! The 3x3 convolutions of stride 1 and 2, in blocks of neighbouring outputs.

use std::ops::Range;

use super::{BLOCK, Geometry, load, pixels, store};
use crate::kernels::simd::{Kernel, Simd};

/// One output row of a 3x3 convolution, in blocks.
pub struct BlockRow<'a> {
    pub g: &'a Geometry,
    /// The image.
    pub x: &'a [f32],
    pub w: &'a [f32],
    /// What the sums begin with, for every channel.
    pub start: &'a [f32],
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
        let rows = g.kernel_rows(p);
        for (block, y) in y.chunks_mut(BLOCK * g.channels).enumerate() {
            let mut columns = [[zeros; COLUMNS]; 3];
            for i in rows.clone() {
                columns[i] = pixels(g, x, p * STRIDE + i - g.pad_top, block * BLOCK * STRIDE, zeros);
            }
            let block = Block::<STRIDE, COLUMNS> { rows: rows.clone(), columns: &columns, w, start };
            let whole = g.channels - g.channels % S::LANES;
            for c in (0..whole).step_by(S::LANES) {
                block.run(simd, g.channels, c, S::LANES, y);
            }
            if whole < g.channels {
                block.run(simd, g.channels, whole, g.channels - whole, y);
            }
        }
    }
}

/// Neighbouring outputs of a 3x3 convolution.
struct Block<'a, const STRIDE: usize, const COLUMNS: usize> {
    rows: Range<usize>,
    columns: &'a [[&'a [f32]; COLUMNS]; 3],
    w: &'a [f32],
    start: &'a [f32],
}

impl<const STRIDE: usize, const COLUMNS: usize> Block<'_, STRIDE, COLUMNS> {
    /// Computes `lanes` channels from `c` on of all outputs in y.
    #[inline(always)]
    fn run<S: Simd>(&self, simd: S, channels: usize, c: usize, lanes: usize, y: &mut [f32]) {
        let mut sums = [load(simd, &self.start[c..], lanes); BLOCK];
        for i in self.rows.clone() {
            let w = [0, 1, 2].map(|j| load(simd, &self.w[(3 * i + j) * channels + c..], lanes));
            let x = self.columns[i].map(|column| load(simd, &column[c..], lanes));
            for (q, sum) in sums.iter_mut().enumerate() {
                for j in 0..3 {
                    *sum = simd.multiply_add(x[q * STRIDE + j], w[j], *sum);
                }
            }
        }
        for (y, sum) in y.chunks_exact_mut(channels).zip(sums) {
            store(simd, &mut y[c..], lanes, sum);
        }
    }
}
