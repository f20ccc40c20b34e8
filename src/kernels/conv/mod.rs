//! Convolutions and their two gradients, NHWC x HWIO, as loops around [`super::brgemm`].
//!
//! Each image is copied once into a zero-padded scratch, small enough for the L2 cache, so that no
//! inner loop tests a border. In that copy a kernel row's columns and channels are contiguous,
//! which makes a 3x3 convolution of C channels a sum of three runs of length 3 C: long enough even
//! for the three channels of the first layer.
//!
//! That is the direct way. Convolutions of 3x3 with stride 1 and at least 16 channels on both sides
//! go Winograd's instead in all three directions, but for those of tiny images
//! ([`winograd::pays`]).

mod weight_gradient;

use std::ops::Range;

use super::brgemm::{Start, Strips, Sum, SumAxis, pack_columns, packed_len};
use super::function::{Activation, activate};
use super::input::Input;
use super::parallel::{self, Destination, OutputBlock};
use super::simd::{Isa, Kernel, Simd};
use super::{matmul, pointwise, winograd};
use matmul::Right;
pub use weight_gradient::{
    add_partials, weight_gradient, weight_gradient_affine_scratch, weight_gradient_scratch,
};

/// The geometry of a convolution. Bottom and right padding follow from the output's size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvGeometry {
    /// Number of images.
    pub batch: usize,
    /// Rows of x, in pixels.
    pub in_height: usize,
    /// Columns of x, in pixels.
    pub in_width: usize,
    /// Channels of x.
    pub in_channels: usize,
    /// Rows of a filter, in pixels.
    pub kernel_height: usize,
    /// Columns of a filter, in pixels.
    pub kernel_width: usize,
    /// Step of the window in pixels, in both directions.
    pub stride: usize,
    /// Rows of zeros above x.
    pub pad_top: usize,
    /// Columns of zeros to the left of x.
    pub pad_left: usize,
    /// Rows of y, in pixels.
    pub out_height: usize,
    /// Columns of y, in pixels.
    pub out_width: usize,
    /// Channels of y: filters.
    pub out_channels: usize,
    /// Channels are cut into so many groups, each convolved by itself.
    pub groups: usize,
}

impl ConvGeometry {
    /// Multiplications and additions of one pass in any direction.
    pub fn flops(&self) -> u64 {
        2 * (self.batch * self.out_height * self.out_width * self.weights()) as u64
    }

    pub(super) fn weights(&self) -> usize {
        self.kernel_height * self.kernel_width * self.in_channels / self.groups * self.out_channels
    }

    /// Whether every channel, of several, is convolved by itself, into one.
    pub fn is_depthwise(&self) -> bool {
        self.groups > 1 && self.groups == self.in_channels && self.groups == self.out_channels
    }

    /// Whether its tensors' sizes are numbers at all: a product that wraps around could pass for a
    /// small one.
    pub(super) fn is_countable(&self) -> bool {
        let kernel = [self.kernel_height, self.kernel_width, self.in_channels, self.out_channels];
        let input = [self.batch, self.in_height, self.in_width, self.in_channels];
        let output = [self.batch, self.out_height, self.out_width, self.out_channels];
        let counts = |sizes: [usize; 4]| sizes.into_iter().try_fold(1, usize::checked_mul).is_some();
        [kernel, input, output].into_iter().all(counts)
    }

    pub(super) fn in_image(&self) -> usize {
        self.in_height * self.in_width * self.in_channels
    }

    pub(super) fn out_image(&self) -> usize {
        self.out_height * self.out_width * self.out_channels
    }

    /// Geometry of the convolution with stride 1 that turns the output's gradient into the input's.
    pub(super) fn reversed(&self) -> ConvGeometry {
        ConvGeometry {
            in_height: self.out_height,
            in_width: self.out_width,
            in_channels: self.out_channels,
            pad_top: self.kernel_height - 1 - self.pad_top,
            pad_left: self.kernel_width - 1 - self.pad_left,
            out_height: self.in_height,
            out_width: self.in_width,
            out_channels: self.in_channels,
            ..*self
        }
    }

    /// The padded input that `rows` output rows read.
    fn padded_input(&self, rows: usize) -> Padded {
        Padded {
            height: (rows - 1) * self.stride + self.kernel_height,
            width: (self.out_width - 1) * self.stride + self.kernel_width,
            channels: self.in_channels,
        }
    }

    /// Output rows a work item of the forward pass computes: whole images in a large batch, fewer
    /// rows when there are too few images to keep many workers busy.
    fn forward_rows(&self) -> usize {
        let enough = |rows: &usize| self.batch * (self.out_height / rows) >= 16;
        let divisors = (1..=self.out_height).rev().filter(|rows| self.out_height.is_multiple_of(*rows));
        divisors.into_iter().find(enough).unwrap_or(1)
    }
}

/// Along a dimension: the part of an input of `size` that part of the output needs, if any, and the
/// padding in front of it.
pub fn needed(
    part: &Range<usize>,
    [size, before]: [usize; 2],
    kernel: usize,
    stride: usize,
) -> Option<(Range<usize>, usize)> {
    let (first, last) = (part.start * stride, part.end.checked_sub(1)? * stride);
    let input = first.saturating_sub(before)..(last + kernel).saturating_sub(before).min(size);
    (!input.is_empty()).then_some((input, before.saturating_sub(first)))
}

/// A zero-padded image in scratch.
#[derive(Clone, Copy)]
struct Padded {
    height: usize,
    width: usize,
    channels: usize,
}

impl Padded {
    fn len(&self) -> usize {
        self.height * self.width * self.channels
    }

    fn row(&self) -> usize {
        self.width * self.channels
    }

    /// Has `copy` write the pixels of an image of the given size, from an element of it on; `top`
    /// may be negative where only a lower part is wanted.
    fn fill(
        &self,
        [height, width]: [usize; 2],
        (top, left): (isize, usize),
        to: &mut [f32],
        copy: impl Fn(usize, &mut [f32]),
    ) {
        let row = width * self.channels;
        let (begin, end) = (left * self.channels, ((left + width) * self.channels).min(self.row()));
        for (y, to) in to[..self.len()].chunks_exact_mut(self.row()).enumerate() {
            let from = y as isize - top;
            if from < 0 || from >= height as isize || begin >= end {
                to.fill(0.0);
                continue;
            }
            to[..begin].fill(0.0);
            copy(from as usize * row, &mut to[begin..end]);
            to[end..].fill(0.0);
        }
    }
}

/// Scratch elements: shared by all workers, and for each of them.
pub type Scratch = (usize, usize);

/// Elements of the form of the weights that [`forward`] would rather have; 0 if there is none.
pub fn prepared_len(isa: Isa, g: &ConvGeometry) -> usize {
    pointwise::forward(g).map_or(0, |product| matmul::prepared_len(isa, &product))
}

/// Brings weights into that form.
pub fn prepare(isa: Isa, g: &ConvGeometry, w: &[f32], prepared: &mut [f32]) {
    if let Some(product) = pointwise::forward(g) {
        matmul::prepare(isa, &product, w, prepared);
    }
}

/// Scratch of [`forward`].
pub fn forward_scratch(isa: Isa, g: &ConvGeometry) -> Scratch {
    if winograd::pays(g) {
        return winograd::forward_scratch(isa, g);
    }
    if let Some(product) = pointwise::forward(g) {
        return matmul::scratch(isa, &product);
    }
    let depth = g.kernel_height * g.kernel_width * g.in_channels;
    (packed_len(isa, depth, g.out_channels), g.padded_input(g.forward_rows()).len())
}

/// Blocks of rows of the output that an epilogue of [`forward`] gets to see.
pub fn forward_blocks(g: &ConvGeometry) -> usize {
    if winograd::pays(g) {
        return winograd::forward_blocks(g);
    }
    let direct = g.batch * g.out_height / g.forward_rows();
    pointwise::forward(g).map_or(direct, |product| product.blocks())
}

/// The same of [`input_gradient`].
pub fn input_gradient_blocks(g: &ConvGeometry) -> usize {
    if winograd::pays(g) {
        return winograd::forward_blocks(&g.reversed());
    }
    pointwise::input_gradient(g).map_or(g.batch, |product| product.blocks())
}

/// Additional scratch of each worker (`f32`s) in [`forward`], for an input that is normalised as it
/// is read.
pub fn forward_affine_scratch(g: &ConvGeometry) -> usize {
    pointwise::forward(g).map_or(0, |product| matmul::affine_scratch(&product))
}

/// `y [N, OH, OW, O] = activation(x [N, H, W, I] * w [KH, KW, I, O] + bias [O])`; `prepared` is
/// what
/// [`prepare`] made of w, or empty.
pub fn forward(
    isa: Isa,
    g: &ConvGeometry,
    (x, [w, prepared]): (Input, [&[f32]; 2]),
    bias: Option<&[f32]>,
    activation: Activation,
    out: Destination,
    scratch: &mut [f32],
) {
    if winograd::pays(g) {
        return winograd::forward(isa, g, (x, w), bias, activation, out, scratch);
    }
    if let Some(product) = pointwise::forward(g) {
        return matmul::multiply(isa, &product, (x, Right::of(w, prepared)), bias, activation, out, scratch);
    }
    let (shared, each) = forward_scratch(isa, g);
    let (packed, padded) = scratch.split_at_mut(shared);
    let depth = g.kernel_height * g.kernel_width * g.in_channels;
    pack_columns(isa, depth, g.out_channels, packed, |k, j| w[k * g.out_channels + j]);
    let rows = g.forward_rows();
    let blocks = g.out_height / rows;
    let product = Direct {
        packed,
        start: bias.map_or(Start::Zero, Start::Bias),
        padded: g.padded_input(rows),
        kernel_height: g.kernel_height,
        kernel_width: g.kernel_width,
        in_step: g.stride,
        rows,
        pixels: g.out_width,
        out_row: g.out_width * g.out_channels,
        out_pixel: g.out_channels,
        columns: g.out_channels,
    };
    let block = g.out_image() / blocks;
    let items = out.epilogue.with(out.y.chunks_exact_mut(block).enumerate());
    parallel::for_each(items, padded, each, |((item, y), finish), padded| {
        let (image, first) = (item / blocks, item % blocks * rows);
        let top = g.pad_top as isize - (first * g.stride) as isize;
        product.padded.fill([g.in_height, g.in_width], (top, g.pad_left), padded, |from, to| {
            x.copy(isa, image * g.in_image() + from, to);
        });
        isa.run(DirectRun { direct: &product, image: padded, from: 0, y: &mut *y });
        activate(isa, activation, y);
        finish(OutputBlock { from: item * block, rows: y });
    });
}

/// A convolution from a padded image to an output whose pixels may lie apart.
struct Direct<'a> {
    packed: &'a [f32],
    start: Start<'a>,
    padded: Padded,
    kernel_height: usize,
    kernel_width: usize,
    in_step: usize,
    rows: usize,
    pixels: usize,
    out_row: usize,
    out_pixel: usize,
    columns: usize,
}

struct DirectRun<'a> {
    direct: &'a Direct<'a>,
    image: &'a [f32],
    from: usize,
    y: &'a mut [f32],
}

impl Kernel for DirectRun<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let d = self.direct;
        let width = 2 * S::LANES;
        let run = d.kernel_width * d.padded.channels;
        let sum = Sum {
            a: self.image,
            b: d.packed,
            a_row: d.in_step * d.padded.channels,
            axes: [
                SumAxis::ONE,
                SumAxis { count: d.kernel_height, a: d.padded.row(), b: run * width },
                SumAxis { count: run, a: 1, b: width },
            ],
        };
        let strip = d.kernel_height * run * width;
        for row in 0..d.rows {
            let a_from = self.from + row * d.in_step * d.padded.row();
            let c = &mut self.y[row * d.out_row..];
            let (rows, columns) = (d.pixels, d.columns);
            Strips { sum, a_from, strip, start: d.start, c, c_row: d.out_pixel, rows, columns }.run(simd);
        }
    }
}

/// One residue of the input's position modulo the stride, along one dimension: the inputs at
/// `first`, `first + stride`, ... receive from the kernel positions `residue`, `residue + stride`,
/// ..., so that together they are a convolution of stride 1 over the output's gradient.
#[derive(Clone, Copy)]
struct StridePhase {
    residue: usize,
    taps: usize,
    first: usize,
    count: usize,
    /// Where the first of them begins to read in the padded gradient.
    from: usize,
}

/// Padding in front of the output's gradient that the widest phase needs.
fn gradient_pad(kernel: usize, stride: usize) -> usize {
    kernel.div_ceil(stride) - 1
}

fn phase(residue: usize, kernel: usize, stride: usize, pad: usize, size: usize) -> StridePhase {
    let taps = kernel.saturating_sub(residue).div_ceil(stride);
    let skipped = pad.saturating_sub(residue).div_ceil(stride);
    let first = skipped * stride + residue - pad;
    let count = size.saturating_sub(first).div_ceil(stride);
    let from = (skipped + gradient_pad(kernel, stride) + 1).saturating_sub(taps.max(1));
    StridePhase { residue, taps, first, count, from }
}

fn padded_gradient(g: &ConvGeometry) -> Padded {
    let extent = |size: usize, kernel, pad| (size - 1 + pad) / g.stride + gradient_pad(kernel, g.stride) + 1;
    Padded {
        height: extent(g.in_height, g.kernel_height, g.pad_top),
        width: extent(g.in_width, g.kernel_width, g.pad_left),
        channels: g.out_channels,
    }
}

/// Scratch of [`input_gradient`].
pub fn input_gradient_scratch(isa: Isa, g: &ConvGeometry) -> Scratch {
    if winograd::pays(g) {
        return winograd::input_gradient_scratch(isa, g);
    }
    if let Some(product) = pointwise::input_gradient(g) {
        return matmul::scratch(isa, &product);
    }
    let depth = g.kernel_height * g.kernel_width * g.out_channels;
    (packed_len(isa, depth, g.in_channels), padded_gradient(g).len())
}

/// `dx [N, H, W, I]` from `dy [N, OH, OW, O]` and `w [KH, KW, I, O]`.
pub fn input_gradient(
    isa: Isa,
    g: &ConvGeometry,
    dy: &[f32],
    w: &[f32],
    dx: Destination,
    scratch: &mut [f32],
) {
    if winograd::pays(g) {
        return winograd::input_gradient(isa, g, dy, w, dx, scratch);
    }
    if let Some(product) = pointwise::input_gradient(g) {
        return matmul::multiply(isa, &product, (dy.into(), Right::Plain(w)), None, None, dx, scratch);
    }
    let (shared, each) = input_gradient_scratch(isa, g);
    let (packed, padded) = scratch.split_at_mut(shared);
    let mut at = 0;
    each_phase(g, |vertical, horizontal| {
        at += pack_phase(isa, g, w, vertical, horizontal, &mut packed[at..])
    });
    let packed = &*packed;
    let shape = padded_gradient(g);
    let (top, left) = (gradient_pad(g.kernel_height, g.stride), gradient_pad(g.kernel_width, g.stride));
    let images = dx.epilogue.with(dx.y.chunks_exact_mut(g.in_image()).enumerate());
    parallel::for_each(images, padded, each, |((image, dx), finish), padded| {
        let dy = &dy[image * g.out_image()..][..g.out_image()];
        shape.fill([g.out_height, g.out_width], (top as isize, left), padded, |from, to| {
            to.copy_from_slice(&dy[from..from + to.len()]);
        });
        let mut at = 0;
        each_phase(g, |vertical, horizontal| {
            let len = packed_len(isa, vertical.taps * horizontal.taps * g.out_channels, g.in_channels);
            if vertical.count > 0 && horizontal.count > 0 {
                let direct = phase_product(g, shape, vertical, horizontal, &packed[at..at + len]);
                let from = vertical.from * shape.row() + horizontal.from * shape.channels;
                let y = &mut dx[(vertical.first * g.in_width + horizontal.first) * g.in_channels..];
                isa.run(DirectRun { direct: &direct, image: padded, from, y });
            }
            at += len;
        });
        finish(OutputBlock { from: image * g.in_image(), rows: dx });
    });
}

fn each_phase(g: &ConvGeometry, mut visit: impl FnMut(StridePhase, StridePhase)) {
    for vertical in 0..g.stride {
        for horizontal in 0..g.stride {
            visit(
                phase(vertical, g.kernel_height, g.stride, g.pad_top, g.in_height),
                phase(horizontal, g.kernel_width, g.stride, g.pad_left, g.in_width),
            );
        }
    }
}

/// Packs the flipped, transposed part of the kernel that a phase uses; returns its length.
fn pack_phase(
    isa: Isa,
    g: &ConvGeometry,
    w: &[f32],
    vertical: StridePhase,
    horizontal: StridePhase,
    packed: &mut [f32],
) -> usize {
    let depth = vertical.taps * horizontal.taps * g.out_channels;
    let len = packed_len(isa, depth, g.in_channels);
    if len > 0 {
        pack_columns(isa, depth, g.in_channels, &mut packed[..len], |k, i| {
            let (tap, o) = (k / g.out_channels, k % g.out_channels);
            let down = vertical.residue + (vertical.taps - 1 - tap / horizontal.taps) * g.stride;
            let across = horizontal.residue + (horizontal.taps - 1 - tap % horizontal.taps) * g.stride;
            w[((down * g.kernel_width + across) * g.in_channels + i) * g.out_channels + o]
        });
    }
    len
}

fn phase_product<'a>(
    g: &ConvGeometry,
    padded: Padded,
    vertical: StridePhase,
    horizontal: StridePhase,
    packed: &'a [f32],
) -> Direct<'a> {
    Direct {
        packed,
        start: Start::Zero,
        padded,
        kernel_height: vertical.taps,
        kernel_width: horizontal.taps,
        in_step: 1,
        rows: vertical.count,
        pixels: horizontal.count,
        out_row: g.stride * g.in_width * g.in_channels,
        out_pixel: g.stride * g.in_channels,
        columns: g.in_channels,
    }
}
