//! Depthwise convolutions and their two gradients, NHWC x HWC: every channel by itself.
//!
//! There are nine multiply-adds an element and no reuse across channels, so memory sets the pace. A
//! vector holds neighbouring channels. The 3x3 kernels of stride 1 and 2 compute blocks of
//! neighbouring outputs, so that each input and each weight is loaded once a block; all others take
//! one tap at a time. A pixel outside the image is read from a row of zeros, so that no inner loop
//! tests a border; a block that touches no border finds its pixels at fixed distances.

mod block;
mod gather;
mod weights;

use std::ops::Range;

use super::conv::{ConvGeometry, needed};
use super::function::{Activation, activate};
use super::input::Input;
use super::parallel::{self, Destination, OutputBlock};
use super::simd::Isa;
use block::BlockRow;
use gather::{Gather, TapRow};
pub use weights::{weight_gradient, weight_gradient_affine_scratch, weight_gradient_scratch};

impl ConvGeometry {
    pub(super) fn in_row(&self) -> usize {
        self.in_width * self.in_channels
    }

    pub(super) fn out_row(&self) -> usize {
        self.out_width * self.in_channels
    }

    /// The kernel rows that meet the image in output row `p`.
    fn kernel_rows(&self, p: usize) -> Range<usize> {
        let first = p * self.stride;
        let end = (self.in_height + self.pad_top).saturating_sub(first).min(self.kernel_height);
        self.pad_top.saturating_sub(first).min(end)..end
    }

    /// Whether there is a kernel for blocks of outputs.
    fn has_blocks(&self) -> bool {
        self.kernel_height == 3 && self.kernel_width == 3 && self.stride <= 2
    }

    /// The stride 1 convolution of the output's gradient with the mirrored kernel that gives the
    /// input's, if it has blocks.
    fn mirrored(&self) -> Option<ConvGeometry> {
        let simple = self.has_blocks() && self.stride == 1 && self.pad_top <= 2 && self.pad_left <= 2;
        simple.then(|| ConvGeometry {
            in_height: self.out_height,
            in_width: self.out_width,
            out_height: self.in_height,
            out_width: self.in_width,
            pad_top: 2 - self.pad_top,
            pad_left: 2 - self.pad_left,
            ..*self
        })
    }
}

/// An item of work is about this many elements of the output, in whole rows.
const ITEM: usize = 1 << 15;

/// Images of `image` elements in runs of about [`ITEM`] elements: (image, first row, the rows).
fn items(y: &mut [f32], image: usize, row: usize) -> impl Iterator<Item = (usize, usize, &mut [f32])> + Send {
    parallel::row_blocks(y, image, row, item_rows(row))
}

fn item_rows(row: usize) -> usize {
    (ITEM / row).max(1)
}

/// Blocks of rows of the output that an epilogue gets to see.
pub fn forward_blocks(g: &ConvGeometry) -> usize {
    g.batch * g.out_height.div_ceil(item_rows(g.out_row()))
}

/// The same of the input's gradient.
pub fn input_gradient_blocks(g: &ConvGeometry) -> usize {
    g.batch * g.in_height.div_ceil(item_rows(g.in_row()))
}

/// Scratch elements of [`forward`].
pub fn forward_scratch(g: &ConvGeometry) -> usize {
    g.in_channels
}

/// Additional scratch of each worker (`f32`s) in [`forward`], for an input that is normalised as it
/// is read: the rows that an item needs.
pub fn forward_affine_scratch(g: &ConvGeometry) -> usize {
    let rows = (item_rows(g.out_row()) - 1) * g.stride + g.kernel_height;
    rows.min(g.in_height) * g.in_row()
}

/// `y [N, P, Q, C] = activation(x [N, H, W, C] * w [KH, KW, C] + bias [C])`.
pub fn forward(
    isa: Isa,
    g: &ConvGeometry,
    (x, w): (Input, &[f32]),
    bias: Option<&[f32]>,
    activation: Activation,
    Destination { y, epilogue }: Destination,
    scratch: &mut [f32],
) {
    let (zeros, workers) = scratch.split_at_mut(g.in_channels);
    zeros.fill(0.0);
    let zeros = &*zeros;
    let start = bias.unwrap_or(zeros);
    let items = epilogue.with(items(y, g.out_height * g.out_row(), g.out_row()));
    let each = x.affine.map_or(0, |_| forward_affine_scratch(g));
    parallel::for_each(items, workers, each, |((n, first, y), finish), own| {
        let rows = first..first + y.len() / g.out_row();
        let needed = needed(&rows, [g.in_height, g.pad_top], g.kernel_height, g.stride);
        let (input, pad_top) = needed.unwrap_or_default();
        let band = ConvGeometry { in_height: input.len(), pad_top, ..*g };
        let image = n * g.in_height;
        let input = (image + input.start) * g.in_row()..(image + input.end) * g.in_row();
        let x = x.read(isa, input, own);
        forward_rows(isa, &band, [x, w, start, zeros], activation, 0, 0, y);
        finish(OutputBlock { from: (n * g.out_height + first) * g.out_row(), rows: y });
    });
}

/// The rows of image `n` of the output from row `first` on, as many as fit `y`. Beside x and w it
/// takes what the sums begin with, and zeros, one of each a channel.
pub(super) fn forward_rows(
    isa: Isa,
    g: &ConvGeometry,
    [x, w, start, zeros]: [&[f32]; 4],
    activation: Activation,
    n: usize,
    first: usize,
    y: &mut [f32],
) {
    let image = g.in_height * g.in_row();
    let x = &x[n * image..][..image];
    for (row, y) in y.chunks_exact_mut(g.out_row()).enumerate() {
        let p = first + row;
        if g.has_blocks() {
            isa.run(BlockRow { g, x, w, start, zeros, p, y });
        } else {
            isa.run(TapRow { gather: Gather::forward(g), from: x, w, start, row: p, to: y });
        }
        activate(isa, activation, y);
    }
}

/// Scratch elements of [`input_gradient`].
pub fn input_gradient_scratch(g: &ConvGeometry) -> usize {
    g.in_channels + g.weights()
}

/// `dx [N, H, W, C]` from `dy [N, P, Q, C]` and `w [KH, KW, C]`.
pub fn input_gradient(
    isa: Isa,
    g: &ConvGeometry,
    dy: &[f32],
    w: &[f32],
    dx: Destination,
    scratch: &mut [f32],
) {
    if let Some(mirrored) = g.mirrored() {
        let (flipped, rest) = scratch.split_at_mut(g.weights());
        for (to, from) in flipped.chunks_exact_mut(g.in_channels).zip(w.chunks_exact(g.in_channels).rev()) {
            to.copy_from_slice(from);
        }
        return forward(isa, &mirrored, (dy.into(), flipped), None, None, dx, rest);
    }
    let zeros = &mut scratch[..g.in_channels];
    zeros.fill(0.0);
    let (start, image) = (&*zeros, g.out_height * g.out_row());
    let gather = Gather::input_gradient(g);
    let items = dx.epilogue.with(items(dx.y, g.in_height * g.in_row(), g.in_row()));
    parallel::for_each(items, &mut [], 0, |((n, first, dx), finish), _| {
        let from = &dy[n * image..][..image];
        for (row, to) in dx.chunks_exact_mut(g.in_row()).enumerate() {
            isa.run(TapRow { gather, from, w, start, row: first + row, to });
        }
        finish(OutputBlock { from: (n * g.in_height + first) * g.in_row(), rows: dx });
    });
}
