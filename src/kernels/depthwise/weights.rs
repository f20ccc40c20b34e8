//! The gradient of the weights.

use super::super::conv::ConvGeometry;
use super::block::{BLOCK, Pixels, pixels};
use super::gather::Gather;
use crate::conv::add_partials;
use crate::input::Input;
use crate::parallel;
use crate::simd::{Isa, Kernel, Simd};

/// The batch is cut into this many groups (or fewer), each summing its own gradient, which are then
/// added in order: the result does not depend on which worker took which group.
const GROUPS: usize = 16;

/// Scratch elements of [`weight_gradient`].
pub fn weight_gradient_scratch(g: &ConvGeometry) -> usize {
    g.in_channels + GROUPS.min(g.batch) * g.weights()
}

/// Additional scratch of each worker (`f32`s) in [`weight_gradient`], for an input that is
/// normalised as it is read.
pub fn weight_gradient_affine_scratch(g: &ConvGeometry) -> usize {
    g.in_height * g.in_row()
}

/// `dw [KH, KW, C]` from `x [N, H, W, C]` and `dy [N, P, Q, C]`.
pub fn weight_gradient(
    isa: Isa,
    g: &ConvGeometry,
    x: Input,
    dy: &[f32],
    dw: &mut [f32],
    scratch: &mut [f32],
) {
    let groups = GROUPS.min(g.batch);
    let (zeros, rest) = scratch.split_at_mut(g.in_channels);
    let (partial, workers) = rest.split_at_mut(groups * g.weights());
    zeros.fill(0.0);
    let zeros = &*zeros;
    let (image, out_image) = (g.in_height * g.in_row(), g.out_height * g.out_row());
    let each = x.affine.map_or(0, |_| weight_gradient_affine_scratch(g));
    let items = partial.chunks_exact_mut(g.weights()).enumerate();
    parallel::for_each(items, workers, each, |(group, dw), own| {
        dw.fill(0.0);
        for n in g.batch * group / groups..g.batch * (group + 1) / groups {
            let x = x.read(isa, n * image..(n + 1) * image, own);
            let dy = &dy[n * out_image..][..out_image];
            for (p, dy) in dy.chunks_exact(g.out_row()).enumerate() {
                isa.run(WeightRow { g, x, zeros, p, dy, dw });
            }
        }
    });
    add_partials(isa, partial, dw);
}

/// Adds what one output row contributes to the weights' gradient.
struct WeightRow<'a> {
    g: &'a ConvGeometry,
    /// The image.
    x: &'a [f32],
    zeros: &'a [f32],
    p: usize,
    dy: &'a [f32],
    dw: &'a mut [f32],
}

impl Kernel for WeightRow<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        match self.g.stride {
            1 if self.g.has_blocks() => self.blocks::<S, 1, { BLOCK + 2 }>(simd),
            2 if self.g.has_blocks() => self.blocks::<S, 2, { 2 * BLOCK + 1 }>(simd),
            _ => self.taps(),
        }
    }
}

impl WeightRow<'_> {
    #[inline(always)]
    fn blocks<S: Simd, const STRIDE: usize, const COLUMNS: usize>(self, simd: S) {
        let WeightRow { g, x, zeros, p, dy, dw } = self;
        let channels = g.in_channels;
        for i in g.kernel_rows(p) {
            let dw = &mut dw[3 * i * channels..][..3 * channels];
            for (block, dy) in dy.chunks(BLOCK * channels).enumerate() {
                let columns = pixels(g, x, p * STRIDE + i - g.pad_top, block * BLOCK * STRIDE, zeros);
                let mut outputs = [zeros; BLOCK];
                for (output, dy) in outputs.iter_mut().zip(dy.chunks_exact(channels)) {
                    *output = dy;
                }
                WeightBlock::<STRIDE, COLUMNS> { channels, columns, outputs }.run(simd, dw);
            }
        }
    }

    #[inline(always)]
    fn taps(self) {
        let WeightRow { g, x, p, dy, dw, .. } = self;
        let gather = Gather::forward(g);
        let vertical = gather.taps(gather.vertical, p);
        for (q, dy) in dy.chunks_exact(g.in_channels).enumerate() {
            let horizontal = gather.taps(gather.horizontal, q);
            for (row, i) in (0..vertical.count).map(|k| vertical.at(k)) {
                for (column, j) in (0..horizontal.count).map(|k| horizontal.at(k)) {
                    let x = &x[(row * g.in_width + column) * g.in_channels..][..g.in_channels];
                    let dw = &mut dw[(i * g.kernel_width + j) * g.in_channels..][..g.in_channels];
                    for ((dw, x), dy) in dw.iter_mut().zip(x).zip(dy) {
                        *dw += x * dy;
                    }
                }
            }
        }
    }
}

/// The gradients of a few neighbouring outputs, and the inputs that one row of the kernel reads for
/// them.
struct WeightBlock<'a, const STRIDE: usize, const COLUMNS: usize> {
    channels: usize,
    columns: Pixels<'a, COLUMNS>,
    outputs: Pixels<'a, BLOCK>,
}

impl<const STRIDE: usize, const COLUMNS: usize> WeightBlock<'_, STRIDE, COLUMNS> {
    /// Adds to the gradient of the kernel's row.
    #[inline(always)]
    fn run<S: Simd>(&self, simd: S, dw: &mut [f32]) {
        let channels = self.channels;
        assert!(dw.len() == 3 * channels);
        assert!(self.columns.iter().chain(&self.outputs).all(|pixel| pixel.len() == channels));
        let whole = channels - channels % S::LANES;
        for c in (0..whole).step_by(S::LANES) {
            // SAFETY: the vector at c ends within `channels`, which all slices have been checked
            // against.
            unsafe { self.vector(simd, c, dw) };
        }
        for c in whole..channels {
            for j in 0..3 {
                for (q, dy) in self.outputs.iter().enumerate() {
                    dw[j * channels + c] += self.columns[q * STRIDE + j][c] * dy[c];
                }
            }
        }
    }

    /// # Safety
    /// `c + LANES` must be at most `channels`, and the slices as long as `run` checks.
    #[inline(always)]
    unsafe fn vector<S: Simd>(&self, simd: S, c: usize, dw: &mut [f32]) {
        // SAFETY: passed on from the caller.
        unsafe {
            let mut x = [simd.zero(); COLUMNS];
            for (x, pixel) in x.iter_mut().zip(&self.columns) {
                *x = simd.load(pixel.as_ptr().add(c));
            }
            let mut dy = [simd.zero(); BLOCK];
            for (dy, pixel) in dy.iter_mut().zip(&self.outputs) {
                *dy = simd.load(pixel.as_ptr().add(c));
            }
            for j in 0..3 {
                let dw = dw.as_mut_ptr().add(j * self.channels + c);
                let mut sum = simd.load(dw);
                for (q, dy) in dy.iter().enumerate() {
                    sum = simd.multiply_add(x[q * STRIDE + j], *dy, sum);
                }
                simd.store(dw, sum);
            }
        }
    }
}
