//! Convolutions and their two gradients, NHWC x HWIO, as loops around [`super::brgemm`].
//!
//! Each image is copied once into a zero-padded scratch, small enough for the L2 cache, so that no inner
//! loop tests a border. In that copy a kernel row's columns and channels are contiguous, which makes a
//! 3x3 convolution of C channels a sum of three runs of length 3 C: long enough even for the three
//! channels of the first layer.
//!
//! That is the direct way. Convolutions of 3x3 with stride 1 and at least 16 channels on both sides go
//! Winograd's instead ([`winograd::suits`]), in all three directions.

use super::batch_norm::{Clamp, ClampRow, NO_CLAMP};
use super::brgemm::{Axis, Block, Start, Strips, Sum, pack_columns, packed_len};
use super::parallel::{self, Output, Written};
use super::simd::{Isa, Kernel, Simd};
use super::{matmul, pointwise, winograd};
use matmul::Right;

/// The geometry of a convolution. Bottom and right padding follow from the output's size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    pub batch: usize,
    pub in_height: usize,
    pub in_width: usize,
    pub in_channels: usize,
    pub kernel_height: usize,
    pub kernel_width: usize,
    pub stride: usize,
    pub pad_top: usize,
    pub pad_left: usize,
    pub out_height: usize,
    pub out_width: usize,
    pub out_channels: usize,
}

impl Geometry {
    /// Multiplications and additions of one pass in any direction.
    pub fn flops(&self) -> u64 {
        2 * (self.batch * self.out_height * self.out_width * self.weights()) as u64
    }

    pub(super) fn weights(&self) -> usize {
        self.kernel_height * self.kernel_width * self.in_channels * self.out_channels
    }

    pub(super) fn in_image(&self) -> usize {
        self.in_height * self.in_width * self.in_channels
    }

    pub(super) fn out_image(&self) -> usize {
        self.out_height * self.out_width * self.out_channels
    }

    /// Of the convolution with stride 1 that turns the output's gradient into the input's.
    pub(super) fn reversed(&self) -> Geometry {
        Geometry {
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

    /// Output rows a work item of the forward pass computes: whole images in a large batch, fewer rows
    /// when there are too few images to keep many workers busy.
    fn forward_rows(&self) -> usize {
        let enough = |rows: &usize| self.batch * (self.out_height / rows) >= 16;
        let divisors = (1..=self.out_height).rev().filter(|rows| self.out_height.is_multiple_of(*rows));
        divisors.into_iter().find(enough).unwrap_or(1)
    }
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

    /// Copies an image of the given size in; `top` may be negative where only a lower part is wanted.
    fn fill(&self, image: &[f32], height: usize, width: usize, top: isize, left: usize, to: &mut [f32]) {
        let row = width * self.channels;
        let (begin, end) = (left * self.channels, ((left + width) * self.channels).min(self.row()));
        for (y, to) in to[..self.len()].chunks_exact_mut(self.row()).enumerate() {
            let from = y as isize - top;
            if from < 0 || from >= height as isize || begin >= end {
                to.fill(0.0);
                continue;
            }
            to[..begin].fill(0.0);
            to[begin..end].copy_from_slice(&image[from as usize * row..][..end - begin]);
            to[end..].fill(0.0);
        }
    }
}

/// Scratch elements: shared by all workers, and for each of them.
pub type Scratch = (usize, usize);

/// Elements of the form of the weights that [`forward`] would rather have; 0 if there is none.
pub fn prepared_len(isa: Isa, g: &Geometry) -> usize {
    pointwise::forward(g).map_or(0, |product| matmul::prepared_len(isa, &product))
}

/// Brings weights into that form.
pub fn prepare(isa: Isa, g: &Geometry, w: &[f32], prepared: &mut [f32]) {
    if let Some(product) = pointwise::forward(g) {
        matmul::prepare(isa, &product, w, prepared);
    }
}

/// Scratch of [`forward`].
pub fn forward_scratch(isa: Isa, g: &Geometry) -> Scratch {
    if winograd::suits(g) {
        return winograd::forward_scratch(isa, g);
    }
    if let Some(product) = pointwise::forward(g) {
        return matmul::scratch(isa, &product);
    }
    let depth = g.kernel_height * g.kernel_width * g.in_channels;
    (packed_len(isa, depth, g.out_channels), g.padded_input(g.forward_rows()).len())
}

/// Blocks of rows of the output that an epilogue of [`forward`] gets to see; 0 where it has none.
pub fn forward_blocks(g: &Geometry) -> usize {
    if winograd::suits(g) {
        return 0;
    }
    let direct = g.batch * g.out_height / g.forward_rows();
    pointwise::forward(g).map_or(direct, |product| product.blocks())
}

/// The same of [`input_gradient`].
pub fn input_gradient_blocks(g: &Geometry) -> usize {
    let product = pointwise::input_gradient(g).filter(|_| !winograd::suits(g));
    product.map_or(0, |product| product.blocks())
}

/// `y [N, OH, OW, O] = clamp(x [N, H, W, I] * w [KH, KW, I, O] + bias [O])`; `prepared` is what [`prepare`] made of w,
/// or empty.
pub fn forward(
    isa: Isa,
    g: &Geometry,
    [x, w, prepared]: [&[f32]; 3],
    bias: Option<&[f32]>,
    clamp: Clamp,
    out: Output,
    scratch: &mut [f32],
) {
    if winograd::suits(g) {
        return winograd::forward(isa, g, [x, w], bias, clamp, out.y, scratch);
    }
    if let Some(product) = pointwise::forward(g) {
        return matmul::multiply(isa, &product, (x, Right::of(w, prepared)), bias, clamp, out, scratch);
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
    let items = out.y.chunks_exact_mut(block).enumerate().zip(out.epilogue.blocks());
    parallel::for_each(items, padded, each, |((item, y), finish), padded| {
        let (image, first) = (item / blocks, item % blocks * rows);
        let top = g.pad_top as isize - (first * g.stride) as isize;
        let image = &x[image * g.in_image()..][..g.in_image()];
        product.padded.fill(image, g.in_height, g.in_width, top, g.pad_left, padded);
        isa.run(DirectRun { direct: &product, image: padded, from: 0, y: &mut *y });
        if clamp != NO_CLAMP {
            isa.run(ClampRow { clamp, y: &mut *y });
        }
        finish(Written { from: item * block, rows: y });
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
                Axis::ONE,
                Axis { count: d.kernel_height, a: d.padded.row(), b: run * width },
                Axis { count: run, a: 1, b: width },
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

/// One residue of the input's position modulo the stride, along one dimension: the inputs at `first`,
/// `first + stride`, ... receive from the kernel positions `residue`, `residue + stride`, ..., so that
/// together they are a convolution of stride 1 over the output's gradient.
#[derive(Clone, Copy)]
struct Phase {
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

fn phase(residue: usize, kernel: usize, stride: usize, pad: usize, size: usize) -> Phase {
    let taps = kernel.saturating_sub(residue).div_ceil(stride);
    let skipped = pad.saturating_sub(residue).div_ceil(stride);
    let first = skipped * stride + residue - pad;
    let count = size.saturating_sub(first).div_ceil(stride);
    let from = (skipped + gradient_pad(kernel, stride) + 1).saturating_sub(taps.max(1));
    Phase { residue, taps, first, count, from }
}

fn padded_gradient(g: &Geometry) -> Padded {
    let extent = |size: usize, kernel, pad| (size - 1 + pad) / g.stride + gradient_pad(kernel, g.stride) + 1;
    Padded {
        height: extent(g.in_height, g.kernel_height, g.pad_top),
        width: extent(g.in_width, g.kernel_width, g.pad_left),
        channels: g.out_channels,
    }
}

/// Scratch of [`input_gradient`].
pub fn input_gradient_scratch(isa: Isa, g: &Geometry) -> Scratch {
    if winograd::suits(g) {
        return winograd::input_gradient_scratch(isa, g);
    }
    if let Some(product) = pointwise::input_gradient(g) {
        return matmul::scratch(isa, &product);
    }
    let depth = g.kernel_height * g.kernel_width * g.out_channels;
    (packed_len(isa, depth, g.in_channels), padded_gradient(g).len())
}

/// `dx [N, H, W, I]` from `dy [N, OH, OW, O]` and `w [KH, KW, I, O]`.
pub fn input_gradient(isa: Isa, g: &Geometry, dy: &[f32], w: &[f32], dx: Output, scratch: &mut [f32]) {
    if winograd::suits(g) {
        return winograd::input_gradient(isa, g, dy, w, dx.y, scratch);
    }
    if let Some(product) = pointwise::input_gradient(g) {
        return matmul::multiply(isa, &product, (dy, Right::Plain(w)), None, NO_CLAMP, dx, scratch);
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
    let images = dx.y.chunks_exact_mut(g.in_image()).enumerate();
    parallel::for_each(images, padded, each, |(image, dx), padded| {
        let dy = &dy[image * g.out_image()..][..g.out_image()];
        shape.fill(dy, g.out_height, g.out_width, top as isize, left, padded);
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
    });
}

fn each_phase(g: &Geometry, mut visit: impl FnMut(Phase, Phase)) {
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
    g: &Geometry,
    w: &[f32],
    vertical: Phase,
    horizontal: Phase,
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
    g: &Geometry,
    padded: Padded,
    vertical: Phase,
    horizontal: Phase,
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

/// The batch is cut into this many groups (or fewer), each summing its own gradient, which are then
/// added in order: the result does not depend on which worker took which group.
const GROUPS: usize = 16;

/// Images of a group that are summed in registers before a tile goes back to memory: enough for 256
/// pixels, so that loading and storing the tile stays under a tenth of the work.
fn images_at_once(g: &Geometry) -> usize {
    256usize.div_ceil(g.out_height * g.out_width).min(g.batch.div_ceil(GROUPS))
}

/// Scratch of [`weight_gradient`].
pub fn weight_gradient_scratch(isa: Isa, g: &Geometry) -> Scratch {
    if winograd::suits(g) {
        return winograd::weight_gradient_scratch(isa, g);
    }
    if let Some(product) = pointwise::weight_gradient(g) {
        return matmul::scratch(isa, &product);
    }
    let columns = g.out_channels.next_multiple_of(isa.tile_columns());
    let image = g.padded_input(g.out_height).len() + g.out_height * g.out_width * columns;
    (GROUPS.min(g.batch) * g.weights(), images_at_once(g) * image)
}

/// `dw [KH, KW, I, O]` from `x [N, H, W, I]` and `dy [N, OH, OW, O]`.
pub fn weight_gradient(isa: Isa, g: &Geometry, x: &[f32], dy: &[f32], dw: &mut [f32], scratch: &mut [f32]) {
    if winograd::suits(g) {
        return winograd::weight_gradient(isa, g, x, dy, dw, scratch);
    }
    if let Some(product) = pointwise::weight_gradient(g) {
        return matmul::multiply(isa, &product, (x, Right::Plain(dy)), None, NO_CLAMP, dw.into(), scratch);
    }
    let (shared, each) = weight_gradient_scratch(isa, g);
    let (partial, images) = scratch.split_at_mut(shared);
    let groups = GROUPS.min(g.batch);
    let items = partial.chunks_exact_mut(g.weights()).enumerate();
    parallel::for_each(items, images, each, |(group, partial), images| {
        let (begin, end) = (g.batch * group / groups, g.batch * (group + 1) / groups);
        let mut start = Start::Zero;
        for first in (begin..end).step_by(images_at_once(g)) {
            let count = images_at_once(g).min(end - first);
            let x = &x[first * g.in_image()..][..count * g.in_image()];
            let dy = &dy[first * g.out_image()..][..count * g.out_image()];
            isa.run(WeightRun { g, count, x, dy, start, images, partial });
            start = Start::Current;
        }
    });
    add_partials(isa, partial, dw);
}

/// The weight gradient of a few images.
struct WeightRun<'a> {
    g: &'a Geometry,
    count: usize,
    x: &'a [f32],
    dy: &'a [f32],
    start: Start<'a>,
    images: &'a mut [f32],
    partial: &'a mut [f32],
}

impl Kernel for WeightRun<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let g = self.g;
        let padded = g.padded_input(g.out_height);
        let (inputs, outputs) = self.images.split_at_mut(self.count * padded.len());
        for (to, x) in inputs.chunks_exact_mut(padded.len()).zip(self.x.chunks_exact(g.in_image())) {
            padded.fill(x, g.in_height, g.in_width, g.pad_top as isize, g.pad_left, to);
        }
        // A tile reads whole vectors of columns, so rows of odd length are copied apart.
        let width = 2 * S::LANES;
        let columns = g.out_channels.next_multiple_of(width);
        let dy = if columns == g.out_channels {
            self.dy
        } else {
            spread(self.dy, g.out_channels, columns, outputs)
        };
        let pixels = g.out_height * g.out_width;
        let sum = Sum {
            a: inputs,
            b: dy,
            a_row: 1,
            axes: [
                Axis { count: self.count, a: padded.len(), b: pixels * columns },
                Axis { count: g.out_height, a: g.stride * padded.row(), b: g.out_width * columns },
                Axis { count: g.out_width, a: g.stride * g.in_channels, b: columns },
            ],
        };
        let rows = g.kernel_width * g.in_channels;
        for down in 0..g.kernel_height {
            let dw = &mut self.partial[down * rows * g.out_channels..][..rows * g.out_channels];
            for from in (0..g.out_channels).step_by(width) {
                let columns = width.min(g.out_channels - from);
                let block = Block { c: &mut dw[from..], row: g.out_channels, rows, columns };
                sum.add_to(simd, down * padded.row(), from, self.start, block);
            }
        }
    }
}

/// Copies rows of `from` elements to rows of `to` elements; what lies between is never used.
#[inline(always)]
fn spread<'a>(rows: &[f32], from: usize, to: usize, out: &'a mut [f32]) -> &'a [f32] {
    for (row, out) in rows.chunks_exact(from).zip(out.chunks_exact_mut(to)) {
        out[..from].copy_from_slice(row);
    }
    out
}

/// `dw` = the sum of the groups' gradients, added in order.
pub fn add_partials(isa: Isa, partial: &[f32], dw: &mut [f32]) {
    isa.run(AddPartials { partial, dw });
}

struct AddPartials<'a> {
    partial: &'a [f32],
    dw: &'a mut [f32],
}

impl Kernel for AddPartials<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let mut partials = self.partial.chunks_exact(self.dw.len());
        if let Some(first) = partials.next() {
            self.dw.copy_from_slice(first);
        }
        for partial in partials {
            for (sum, value) in self.dw.iter_mut().zip(partial) {
                *sum += value;
            }
        }
    }
}
