//! Depthwise convolutions and their two gradients, NHWC x HWC: every channel by itself.
//!
//! There are nine multiply-adds an element and no reuse across channels, so memory sets the pace. A vector
//! holds neighbouring channels. The 3x3 kernels of stride 1 and 2 compute blocks of [`BLOCK`] neighbouring
//! outputs, so that each input and each weight is loaded once a block; all others take one tap at a time. A
//! pixel outside the image is read from a row of zeros, so that no inner loop tests a border.

use std::ops::Range;

use super::batch_norm::Clamp;
use super::conv::add_partials;
use super::parallel;
use super::simd::{Isa, Kernel, Simd};

/// The geometry of a depthwise convolution. Bottom and right padding follow from the output's size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    pub batch: usize,
    pub in_height: usize,
    pub in_width: usize,
    pub channels: usize,
    pub kernel_height: usize,
    pub kernel_width: usize,
    pub stride: usize,
    pub pad_top: usize,
    pub pad_left: usize,
    pub out_height: usize,
    pub out_width: usize,
}

impl Geometry {
    /// Multiplications and additions of one pass in any direction.
    pub fn flops(&self) -> u64 {
        2 * (self.batch * self.out_height * self.out_width * self.weights()) as u64
    }

    fn weights(&self) -> usize {
        self.kernel_height * self.kernel_width * self.channels
    }

    fn in_row(&self) -> usize {
        self.in_width * self.channels
    }

    fn out_row(&self) -> usize {
        self.out_width * self.channels
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

    /// The stride 1 convolution of the output's gradient with the mirrored kernel that gives the input's, if
    /// it has blocks.
    fn mirrored(&self) -> Option<Geometry> {
        let simple = self.has_blocks() && self.stride == 1 && self.pad_top <= 2 && self.pad_left <= 2;
        simple.then(|| Geometry {
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

/// Neighbouring outputs that are computed together: with three weights and the nine inputs that they read at
/// stride 2, sixteen registers, all that AVX2 has.
const BLOCK: usize = 4;

/// An item of work is about this many elements of the output, in whole rows.
const ITEM: usize = 1 << 14;

/// Rows of `image` elements in runs of about [`ITEM`] elements: (image, first row, the rows).
fn items(y: &mut [f32], image: usize, row: usize) -> impl Iterator<Item = (usize, usize, &mut [f32])> + Send {
    let rows = (ITEM / row).max(1);
    y.chunks_exact_mut(image).enumerate().flat_map(move |(index, image)| {
        image.chunks_mut(rows * row).enumerate().map(move |(item, y)| (index, item * rows, y))
    })
}

/// Scratch elements of [`forward`].
pub fn forward_scratch(g: &Geometry) -> usize {
    g.channels
}

/// `y [N, P, Q, C] = clamp(x [N, H, W, C] * w [KH, KW, C] + bias [C])`.
pub fn forward(
    isa: Isa,
    g: &Geometry,
    [x, w]: [&[f32]; 2],
    bias: Option<&[f32]>,
    clamp: Clamp,
    y: &mut [f32],
    scratch: &mut [f32],
) {
    let zeros = &mut scratch[..g.channels];
    zeros.fill(0.0);
    let zeros = &*zeros;
    let image = g.in_height * g.in_row();
    let start = bias.unwrap_or(zeros);
    parallel::for_each(items(y, g.out_height * g.out_row(), g.out_row()), &mut [], 0, |(n, first, y), _| {
        let x = &x[n * image..][..image];
        for (row, y) in y.chunks_exact_mut(g.out_row()).enumerate() {
            let p = first + row;
            if g.has_blocks() {
                isa.run(BlockRow { g, x, w, start, zeros, p, y });
            } else {
                isa.run(TapRow { gather: Gather::forward(g), from: x, w, start, row: p, to: y });
            }
            if clamp != NO_CLAMP {
                isa.run(ClampRow { clamp, y });
            }
        }
    });
}

/// What changes nothing.
const NO_CLAMP: Clamp = (f32::NEG_INFINITY, f32::INFINITY);

struct ClampRow<'a> {
    clamp: Clamp,
    y: &'a mut [f32],
}

impl Kernel for ClampRow<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        self.y.iter_mut().for_each(|y| *y = y.clamp(self.clamp.0, self.clamp.1));
    }
}

/// Scratch elements of [`input_gradient`].
pub fn input_gradient_scratch(g: &Geometry) -> usize {
    g.channels + g.weights()
}

/// `dx [N, H, W, C]` from `dy [N, P, Q, C]` and `w [KH, KW, C]`.
pub fn input_gradient(isa: Isa, g: &Geometry, dy: &[f32], w: &[f32], dx: &mut [f32], scratch: &mut [f32]) {
    if let Some(mirrored) = g.mirrored() {
        let (flipped, rest) = scratch.split_at_mut(g.weights());
        for (to, from) in flipped.chunks_exact_mut(g.channels).zip(w.chunks_exact(g.channels).rev()) {
            to.copy_from_slice(from);
        }
        return forward(isa, &mirrored, [dy, flipped], None, NO_CLAMP, dx, rest);
    }
    let zeros = &mut scratch[..g.channels];
    zeros.fill(0.0);
    let (start, image) = (&*zeros, g.out_height * g.out_row());
    let gather = Gather::input_gradient(g);
    parallel::for_each(items(dx, g.in_height * g.in_row(), g.in_row()), &mut [], 0, |(n, first, dx), _| {
        let from = &dy[n * image..][..image];
        for (row, to) in dx.chunks_exact_mut(g.in_row()).enumerate() {
            isa.run(TapRow { gather, from, w, start, row: first + row, to });
        }
    });
}

/// One output row of a 3x3 convolution, in blocks.
struct BlockRow<'a> {
    g: &'a Geometry,
    /// The image.
    x: &'a [f32],
    w: &'a [f32],
    /// What the sums begin with, for every channel.
    start: &'a [f32],
    zeros: &'a [f32],
    p: usize,
    y: &'a mut [f32],
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

/// The pixels of input row `row` that a block reads whose first output's window begins, but for the padding,
/// at column `first`.
#[inline(always)]
fn pixels<'a, const COLUMNS: usize>(
    g: &Geometry,
    x: &'a [f32],
    row: usize,
    first: usize,
    zeros: &'a [f32],
) -> [&'a [f32]; COLUMNS] {
    let x = &x[row * g.in_row()..][..g.in_row()];
    std::array::from_fn(|column| match (first + column).checked_sub(g.pad_left) {
        Some(at) if at < g.in_width => &x[at * g.channels..][..g.channels],
        _ => zeros,
    })
}

/// The first `lanes` elements of `from`, which may be fewer than a vector holds.
#[inline(always)]
fn load<S: Simd>(simd: S, from: &[f32], lanes: usize) -> S::Vector {
    assert!(lanes <= from.len() && lanes <= S::LANES);
    if lanes == S::LANES {
        // SAFETY: `from` has at least `LANES` elements.
        return unsafe { simd.load(from.as_ptr()) };
    }
    let mut padded = [0.0; MOST_LANES];
    padded[..lanes].copy_from_slice(&from[..lanes]);
    // SAFETY: `LANES` is at most `MOST_LANES`, the length of the array.
    unsafe { simd.load(padded.as_ptr()) }
}

/// Stores the first `lanes` elements of a vector.
#[inline(always)]
fn store<S: Simd>(simd: S, to: &mut [f32], lanes: usize, value: S::Vector) {
    assert!(lanes <= to.len() && lanes <= S::LANES);
    if lanes == S::LANES {
        // SAFETY: `to` has at least `LANES` elements.
        return unsafe { simd.store(to.as_mut_ptr(), value) };
    }
    let mut padded = [0.0; MOST_LANES];
    // SAFETY: `LANES` is at most `MOST_LANES`, the length of the array.
    unsafe { simd.store(padded.as_mut_ptr(), value) };
    to[..lanes].copy_from_slice(&padded[..lanes]);
}

/// Neighbouring outputs, and the inputs that one row of a 3x3 kernel reads for them.
struct WeightBlock<'a, const STRIDE: usize, const COLUMNS: usize> {
    columns: [&'a [f32]; COLUMNS],
    outputs: [&'a [f32]; BLOCK],
}

impl<const STRIDE: usize, const COLUMNS: usize> WeightBlock<'_, STRIDE, COLUMNS> {
    /// Adds to `lanes` channels from `c` on of the kernel row's gradient.
    #[inline(always)]
    fn run<S: Simd>(&self, simd: S, channels: usize, c: usize, lanes: usize, dw: &mut [f32]) {
        let x = self.columns.map(|column| load(simd, &column[c..], lanes));
        let dy = self.outputs.map(|dy| load(simd, &dy[c..], lanes));
        for (j, dw) in dw.chunks_exact_mut(channels).enumerate() {
            let mut sum = load(simd, &dw[c..], lanes);
            for (q, dy) in dy.iter().enumerate() {
                sum = simd.multiply_add(x[q * STRIDE + j], *dy, sum);
            }
            store(simd, &mut dw[c..], lanes, sum);
        }
    }
}

/// The widest vector's.
const MOST_LANES: usize = 16;

/// Along one dimension, which pixels meet which taps of the kernel: target `t` receives from the source
/// `first - k` (or `first + k`) through tap `tap + k step`, for k < count.
struct Line {
    tap: usize,
    tap_step: usize,
    first: usize,
    backwards: bool,
    count: usize,
}

impl Line {
    #[inline(always)]
    fn at(&self, k: usize) -> (usize, usize) {
        let source = if self.backwards { self.first - k } else { self.first + k };
        (source, self.tap + k * self.tap_step)
    }
}

/// Along one dimension: sizes, kernel and padding.
#[derive(Clone, Copy)]
struct Extent {
    source: usize,
    kernel: usize,
    pad: usize,
}

/// A sum over taps, for any kernel and stride, in either direction.
#[derive(Clone, Copy)]
struct Gather {
    vertical: Extent,
    horizontal: Extent,
    stride: usize,
    channels: usize,
    /// From the output's gradient to the input's, not from input to output.
    backwards: bool,
}

impl Gather {
    fn forward(g: &Geometry) -> Gather {
        Gather {
            vertical: Extent { source: g.in_height, kernel: g.kernel_height, pad: g.pad_top },
            horizontal: Extent { source: g.in_width, kernel: g.kernel_width, pad: g.pad_left },
            stride: g.stride,
            channels: g.channels,
            backwards: false,
        }
    }

    fn input_gradient(g: &Geometry) -> Gather {
        let mut gather = Gather { backwards: true, ..Gather::forward(g) };
        (gather.vertical.source, gather.horizontal.source) = (g.out_height, g.out_width);
        gather
    }

    #[inline(always)]
    fn line(&self, extent: Extent, target: usize) -> Line {
        let Extent { source, kernel, pad } = extent;
        if self.backwards {
            // Output p meets input y through tap y + pad - p stride.
            let last = target + pad;
            let skipped = (last / self.stride + 1).saturating_sub(source);
            let tap = last % self.stride + skipped * self.stride;
            let first = (last / self.stride).saturating_sub(skipped);
            let count = kernel.saturating_sub(tap).div_ceil(self.stride).min(first + 1);
            return Line { tap, tap_step: self.stride, first, backwards: true, count };
        }
        let begin = target * self.stride;
        let tap = pad.saturating_sub(begin);
        let count = (source + pad).saturating_sub(begin).min(kernel).saturating_sub(tap);
        Line { tap, tap_step: 1, first: (begin + tap).saturating_sub(pad), backwards: false, count }
    }
}

/// One row of targets of a [`Gather`].
struct TapRow<'a> {
    gather: Gather,
    /// The image of sources.
    from: &'a [f32],
    w: &'a [f32],
    /// What the sums begin with, for every channel.
    start: &'a [f32],
    row: usize,
    to: &'a mut [f32],
}

impl Kernel for TapRow<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let TapRow { gather, from, w, start, row, to } = self;
        let (channels, width, kernel) = (gather.channels, gather.horizontal.source, gather.horizontal.kernel);
        let vertical = gather.line(gather.vertical, row);
        for (column, to) in to.chunks_exact_mut(channels).enumerate() {
            let horizontal = gather.line(gather.horizontal, column);
            to.copy_from_slice(start);
            for (y, i) in (0..vertical.count).map(|k| vertical.at(k)) {
                for (x, j) in (0..horizontal.count).map(|k| horizontal.at(k)) {
                    let from = &from[(y * width + x) * channels..][..channels];
                    let w = &w[(i * kernel + j) * channels..][..channels];
                    for ((to, from), w) in to.iter_mut().zip(from).zip(w) {
                        *to += from * w;
                    }
                }
            }
        }
    }
}

/// The batch is cut into this many groups (or fewer), each summing its own gradient, which are then added in
/// order: the result does not depend on which worker took which group.
const GROUPS: usize = 16;

/// Scratch elements of [`weight_gradient`].
pub fn weight_gradient_scratch(g: &Geometry) -> usize {
    g.channels + GROUPS.min(g.batch) * g.weights()
}

/// `dw [KH, KW, C]` from `x [N, H, W, C]` and `dy [N, P, Q, C]`.
pub fn weight_gradient(isa: Isa, g: &Geometry, x: &[f32], dy: &[f32], dw: &mut [f32], scratch: &mut [f32]) {
    let groups = GROUPS.min(g.batch);
    let (zeros, partial) = scratch.split_at_mut(g.channels);
    let partial = &mut partial[..groups * g.weights()];
    zeros.fill(0.0);
    let zeros = &*zeros;
    let (image, out_image) = (g.in_height * g.in_row(), g.out_height * g.out_row());
    parallel::for_each(partial.chunks_exact_mut(g.weights()).enumerate(), &mut [], 0, |(group, dw), _| {
        dw.fill(0.0);
        for n in g.batch * group / groups..g.batch * (group + 1) / groups {
            let (x, dy) = (&x[n * image..][..image], &dy[n * out_image..][..out_image]);
            for (p, dy) in dy.chunks_exact(g.out_row()).enumerate() {
                isa.run(WeightRow { g, x, zeros, p, dy, dw });
            }
        }
    });
    add_partials(isa, partial, dw);
}

/// Adds what one output row contributes to the weights' gradient.
struct WeightRow<'a> {
    g: &'a Geometry,
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
        for i in g.kernel_rows(p) {
            let dw = &mut dw[3 * i * g.channels..][..3 * g.channels];
            for (block, dy) in dy.chunks(BLOCK * g.channels).enumerate() {
                let columns: [&[f32]; COLUMNS] =
                    pixels(g, x, p * STRIDE + i - g.pad_top, block * BLOCK * STRIDE, zeros);
                let outputs: [&[f32]; BLOCK] = std::array::from_fn(|q| {
                    dy.get(q * g.channels..).filter(|dy| !dy.is_empty()).unwrap_or(zeros)
                });
                let block = WeightBlock::<STRIDE, COLUMNS> { columns, outputs };
                let whole = g.channels - g.channels % S::LANES;
                for c in (0..whole).step_by(S::LANES) {
                    block.run(simd, g.channels, c, S::LANES, dw);
                }
                if whole < g.channels {
                    block.run(simd, g.channels, whole, g.channels - whole, dw);
                }
            }
        }
    }

    #[inline(always)]
    fn taps(self) {
        let WeightRow { g, x, p, dy, dw, .. } = self;
        let gather = Gather::forward(g);
        let vertical = gather.line(gather.vertical, p);
        for (q, dy) in dy.chunks_exact(g.channels).enumerate() {
            let horizontal = gather.line(gather.horizontal, q);
            for (row, i) in (0..vertical.count).map(|k| vertical.at(k)) {
                for (column, j) in (0..horizontal.count).map(|k| horizontal.at(k)) {
                    let x = &x[(row * g.in_width + column) * g.channels..][..g.channels];
                    let dw = &mut dw[(i * g.kernel_width + j) * g.channels..][..g.channels];
                    for ((dw, x), dy) in dw.iter_mut().zip(x).zip(dy) {
                        *dw += x * dy;
                    }
                }
            }
        }
    }
}
