//! A depthwise convolution and the pointwise one that follows it, in one pass.
//!
//! A worker computes a few rows of the depthwise output into its own scratch, small enough for the
//! L2 cache, and multiplies them with the pointwise weights from there. What lies between the two
//! is neither written to memory nor read from it.

use super::brgemm::Start;
use super::conv::ConvGeometry;
use super::depthwise::forward_rows;
use super::elementwise::AddTo;
use super::function::{Activation, activate};
use super::matmul::{self, Product, Right};
use super::parallel;
use super::simd::Isa;

/// The geometry of both convolutions.
#[derive(Clone, Copy, Debug)]
pub struct Separable {
    /// Geometry of the first convolution, whose groups are its channels.
    pub depthwise: ConvGeometry,
    /// Channels of y.
    pub out_channels: usize,
}

/// Pixels that a worker computes at a time, at most: as many rows as a matrix product takes, or
/// twice as many where that shares them out more evenly.
const PIXELS: usize = 98;

impl Separable {
    /// The pointwise convolution.
    fn product(&self) -> Product {
        let ConvGeometry { batch, out_height, out_width, in_channels, .. } = self.depthwise;
        let m = batch * out_height * out_width;
        Product { m, n: self.out_channels, k: in_channels, a_transposed: false, b_transposed: false }
    }

    /// Rows of pixels in a work item, at most.
    fn most_rows(&self, pixels: usize) -> usize {
        (pixels / self.depthwise.out_width).clamp(1, self.depthwise.out_height)
    }

    /// Rows of pixels in a work item: of several workers, the one with the most rows should have as
    /// few as possible.
    fn rows(&self) -> usize {
        let ConvGeometry { batch, out_height, .. } = self.depthwise;
        let workers = parallel::workers();
        if workers == 1 {
            return self.most_rows(PIXELS);
        }
        let most = |rows: &usize| (batch * out_height.div_ceil(*rows)).div_ceil(workers) * rows;
        (1..=self.most_rows(2 * PIXELS)).rev().min_by_key(most).unwrap_or(1)
    }
}

/// Elements of the pointwise weights in the form that the kernel reads.
pub fn prepared_len(isa: Isa, g: &Separable) -> usize {
    matmul::prepared_len(isa, &g.product())
}

/// Brings pointwise weights into that form.
pub fn prepare(isa: Isa, g: &Separable, w: &[f32], prepared: &mut [f32]) {
    matmul::prepare(isa, &g.product(), w, prepared);
}

/// Elements of scratch that [`forward`] needs: shared by all workers, and for each of them.
pub fn scratch(isa: Isa, g: &Separable) -> (usize, usize) {
    (g.depthwise.in_channels + prepared_len(isa, g), g.most_rows(2 * PIXELS) * g.depthwise.out_row())
}

/// Operands of [`forward`].
#[derive(Clone, Copy)]
pub struct Operands<'a> {
    /// `[N, H, W, C]`.
    pub x: &'a [f32],
    /// Weights and bias: `[KH, KW, C]` and `[C]`.
    pub depthwise: [&'a [f32]; 2],
    /// `[C, O]`.
    pub pointwise: Right<'a>,
    /// `[O]`.
    pub bias: &'a [f32],
    /// `[N, P, Q, O]`, if there is one.
    pub residual: Option<&'a [f32]>,
}

/// `y [N, P, Q, O] = activation_1(activation_0(x [N, H, W, C] * depthwise) pointwise + bias +
/// residual)`.
pub fn forward(
    isa: Isa,
    g: &Separable,
    operands: Operands,
    activations: [Activation; 2],
    y: &mut [f32],
    scratch: &mut [f32],
) {
    let (shared, each) = self::scratch(isa, g);
    let (shared, middle) = scratch.split_at_mut(shared);
    let (zeros, space) = shared.split_at_mut(g.depthwise.in_channels);
    zeros.fill(0.0);
    let packed = match operands.pointwise {
        Right::Packed(packed) => packed,
        Right::Plain(w) => {
            prepare(isa, g, w, space);
            &*space
        }
    };
    let [w, bias] = operands.depthwise;
    let depthwise = [operands.x, w, bias, &*zeros];
    let (k, n) = (g.depthwise.in_channels, g.out_channels);
    let row = g.depthwise.out_width * n;
    let items = parallel::row_blocks(y, g.depthwise.out_height * row, row, g.rows());
    parallel::for_each(items, middle, each, |(image, first, y), middle| {
        let middle = &mut middle[..y.len() / n * k];
        forward_rows(isa, &g.depthwise, depthwise, activations[0], image, first, middle);
        matmul::rows(isa, [middle, packed], [k, n], Start::Bias(operands.bias), y);
        if let Some(residual) = operands.residual {
            let from = (image * g.depthwise.out_height + first) * row;
            isa.run(AddTo { x: &residual[from..][..y.len()], y: &mut *y });
        }
        activate(isa, activations[1], y);
    });
}
