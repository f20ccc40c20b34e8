//! The gradient of the weights.
//!
//! Every work item sums, over its share of the tiles, the products of one block of input channels
//! and one of output channels, so that its 36 matrices stay in the L2 cache; then it transforms
//! them back to 3x3. The shares are added in order: nothing depends on which worker took which.

use std::ops::Range;

use super::super::brgemm::{Block, Start, Sum, SumAxis};
use super::super::conv::{ConvGeometry, Scratch};
use super::super::input::Input;
use super::super::parallel;
use super::super::simd::{Isa, Kernel, Simd};
use super::transform::{G, TilePosition, transform_gradient, transform_input};
use super::{IN, LINE, OUT, POINTS, fits};

/// Tiles that are transformed and multiplied at a time: enough that loading and storing the sums
/// takes less time than the multiplications between.
const TILES: usize = 32;
/// Work items, if there are tiles for so many.
const ITEMS: usize = 16;

/// Channels on each side of a block. Every tile is transformed once for each block of the other
/// side, so wide layers have wide blocks: their sums, 2.4 MB, lie beyond a L2 cache of 1 MB, which
/// costs less time than the transforms that they save.
const NARROW: usize = 64;
const WIDE: usize = 128;

fn block_side(g: &ConvGeometry) -> usize {
    if g.in_channels.max(g.out_channels) >= 2 * WIDE { WIDE } else { NARROW }
}

/// The blocks of channels, and the shares of the tiles.
#[derive(Clone, Copy)]
struct Partition {
    /// Channels on each side of a block.
    side: usize,
    /// Blocks of input channels.
    inputs: usize,
    /// Blocks of output channels.
    outputs: usize,
    shares: usize,
    /// Tiles of an image.
    across: usize,
    down: usize,
    /// Tiles of all images.
    tiles: usize,
}

impl Partition {
    fn new(g: &ConvGeometry) -> Partition {
        let side = block_side(g);
        let (inputs, outputs) = (g.in_channels.div_ceil(side), g.out_channels.div_ceil(side));
        let (down, across) = (g.out_height.div_ceil(OUT), g.out_width.div_ceil(OUT));
        let tiles = g.batch * down * across;
        let shares = (ITEMS / (inputs * outputs)).clamp(1, tiles.div_ceil(TILES));
        Partition { side, inputs, outputs, shares, across, down, tiles }
    }
}

/// Distance between two points' matrices of x, or of dy, of blocks of so many channels.
const fn stride(side: usize) -> usize {
    TILES * side + LINE
}

/// Scratch of [`weight_gradient`].
pub fn weight_gradient_scratch(_: Isa, g: &ConvGeometry) -> Scratch {
    let cut = Partition::new(g);
    let (side, matrix) = (cut.side, cut.side * cut.side);
    let each = POINTS * (matrix + 2 * stride(side) + side);
    (cut.shares * cut.inputs * cut.outputs * 9 * matrix, each)
}

/// `dw [3, 3, I, O]` from `x [N, H, W, I]` and `dy [N, OH, OW, O]`.
pub fn weight_gradient(
    isa: Isa,
    g: &ConvGeometry,
    x: Input,
    dy: &[f32],
    dw: &mut [f32],
    scratch: &mut [f32],
) {
    assert!(fits(g) && g.is_countable());
    assert!(x.x.len() == g.batch * g.in_image() && dy.len() == g.batch * g.out_image());
    let (shared, each) = weight_gradient_scratch(isa, g);
    let (partials, scratch) = scratch.split_at_mut(shared);
    let cut = Partition::new(g);
    let items = partials.chunks_exact_mut(9 * cut.side * cut.side).enumerate();
    parallel::for_each(items, scratch, each, |(item, partial), scratch| match cut.side {
        WIDE => isa.run(Item::<WIDE> { g, cut, item, x, dy, partial, scratch }),
        _ => isa.run(Item::<NARROW> { g, cut, item, x, dy, partial, scratch }),
    });
    add_shares(g, cut, partials, dw);
}

/// Adds up the shares' gradients, in order, the rows of one tap and one block of input channels at
/// a time.
fn add_shares(g: &ConvGeometry, cut: Partition, partials: &[f32], dw: &mut [f32]) {
    let side = cut.side;
    let blocks = dw.chunks_exact_mut(g.in_channels * g.out_channels).enumerate().flat_map(|(tap, dw)| {
        dw.chunks_mut(side * g.out_channels).enumerate().map(move |block| (tap, block))
    });
    parallel::for_each(blocks, &mut [], 0, |(tap, (inputs, dw)), _| {
        for (c, dw) in dw.chunks_exact_mut(g.out_channels).enumerate() {
            for (outputs, dw) in dw.chunks_mut(side).enumerate() {
                dw.fill(0.0);
                for share in 0..cut.shares {
                    let item = (share * cut.inputs + inputs) * cut.outputs + outputs;
                    let partial = &partials[((item * 9 + tap) * side + c) * side..];
                    for (sum, value) in dw.iter_mut().zip(partial) {
                        *sum += value;
                    }
                }
            }
        }
    });
}

/// One block of channels over one share of the tiles; SIDE is that of the partition, known to the
/// compiler: distances that it does not know cost a quarter more time.
struct Item<'a, const SIDE: usize> {
    g: &'a ConvGeometry,
    cut: Partition,
    item: usize,
    x: Input<'a>,
    dy: &'a [f32],
    partial: &'a mut [f32],
    scratch: &'a mut [f32],
}

impl<const SIDE: usize> Kernel for Item<'_, SIDE> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) {
        let Item { g, cut, item, .. } = self;
        let blocks = cut.inputs * cut.outputs;
        let (share, block) = (item / blocks, item % blocks);
        let (c, o) = (block / cut.outputs * SIDE, block % cut.outputs * SIDE);
        let (inputs, outputs) = (SIDE.min(g.in_channels - c), SIDE.min(g.out_channels - o));
        let (sums, rest) = std::mem::take(&mut self.scratch).split_at_mut(POINTS * SIDE * SIDE);
        let (v, rest) = rest.split_at_mut(POINTS * stride(SIDE));
        let (w, patch) = rest.split_at_mut(POINTS * stride(SIDE));
        let (begin, end) = (cut.tiles * share / cut.shares, cut.tiles * (share + 1) / cut.shares);
        let mut start = Start::Zero;
        for first in (begin..end).step_by(TILES) {
            let tiles = first..end.min(first + TILES);
            for (t, tile) in tiles.clone().enumerate() {
                self.transform_x(simd, tile, c..c + inputs, [&mut v[t * SIDE..], patch]);
                self.transform_dy(simd, tile, o..o + outputs, [&mut w[t * SIDE..], patch]);
            }
            multiply::<S, SIDE>(simd, [v, w], sums, [inputs, outputs, tiles.len()], start);
            start = Start::Current;
        }
        transform_back::<S, SIDE>(simd, sums, [inputs, outputs], self.partial);
    }
}

impl<const SIDE: usize> Item<'_, SIDE> {
    /// The image that a tile is in, and its first pixel.
    #[inline(always)]
    fn tile(&self, tile: usize) -> (usize, (isize, isize)) {
        let Partition { across, down, .. } = self.cut;
        let (i, j) = (tile / across % down, tile % across);
        (tile / (across * down), ((i * OUT) as isize, (j * OUT) as isize))
    }

    #[inline(always)]
    fn transform_x<S: Simd>(
        &self,
        simd: S,
        tile: usize,
        channels: Range<usize>,
        [v, patch]: [&mut [f32]; 2],
    ) {
        let (g, stride) = (self.g, stride(SIDE));
        let (image, (top, left)) = self.tile(tile);
        let image = Input { x: &self.x.x[image * g.in_image()..][..g.in_image()], ..self.x };
        let at = (top - g.pad_top as isize, left - g.pad_left as isize);
        let place = TilePosition::new(IN, at, (g.in_height, g.in_width), g.in_channels);
        let tile = place.source(simd, image, channels.clone(), patch);
        for c in (0..channels.len()).step_by(S::LANES) {
            let to = &mut v[c..][..(POINTS - 1) * stride + S::LANES];
            let tile = tile.channels::<S>(c, channels.len());
            // SAFETY: `to` holds the vectors of 36 points.
            unsafe { transform_input(simd, &tile, to.as_mut_ptr(), stride) };
        }
    }

    #[inline(always)]
    fn transform_dy<S: Simd>(
        &self,
        simd: S,
        tile: usize,
        channels: Range<usize>,
        [w, patch]: [&mut [f32]; 2],
    ) {
        let (g, stride) = (self.g, stride(SIDE));
        let (image, at) = self.tile(tile);
        let image = self.dy[image * g.out_image()..][..g.out_image()].into();
        let place = TilePosition::new(OUT, at, (g.out_height, g.out_width), g.out_channels);
        let tile = place.source(simd, image, channels.clone(), patch);
        for c in (0..channels.len()).step_by(S::LANES) {
            let to = &mut w[c..][..(POINTS - 1) * stride + S::LANES];
            let tile = tile.channels::<S>(c, channels.len());
            // SAFETY: as in `transform_x`.
            unsafe { transform_gradient(simd, &tile, to.as_mut_ptr(), stride) };
        }
    }
}

/// Adds, for every point, the product of the transformed x, transposed, and the transformed dy to
/// the sums.
#[inline(always)]
fn multiply<S: Simd, const SIDE: usize>(
    simd: S,
    [v, w]: [&[f32]; 2],
    sums: &mut [f32],
    [inputs, outputs, tiles]: [usize; 3],
    start: Start,
) {
    for (point, sums) in sums.chunks_exact_mut(SIDE * SIDE).enumerate() {
        let inner = SumAxis { count: tiles, a: SIDE, b: SIDE };
        let sum = Sum {
            a: &v[point * stride(SIDE)..],
            b: &w[point * stride(SIDE)..],
            a_row: 1,
            axes: [SumAxis::ONE, SumAxis::ONE, inner],
        };
        let outputs = outputs.next_multiple_of(S::LANES);
        for from in (0..outputs).step_by(2 * S::LANES) {
            let columns = (2 * S::LANES).min(outputs - from);
            let block = Block { c: &mut sums[from..], row: SIDE, rows: inputs, columns };
            sum.add_to(simd, 0, from, start, block);
        }
    }
}

/// `dw = G^T sums G`, `[3, 3, I, O]` of the block.
#[inline(always)]
fn transform_back<S: Simd, const SIDE: usize>(
    simd: S,
    sums: &[f32],
    [inputs, outputs]: [usize; 2],
    dw: &mut [f32],
) {
    let matrix = SIDE * SIDE;
    for at in (0..inputs).flat_map(|c| (0..outputs).step_by(S::LANES).map(move |o| c * SIDE + o)) {
        let mut dw_here = [simd.zero(); 9];
        for (i, row) in G.iter().enumerate() {
            let mut half = [simd.zero(); 3];
            for (j, column) in G.iter().enumerate() {
                let from = &sums[(i * IN + j) * matrix + at..][..S::LANES];
                // SAFETY: the slice holds a vector.
                let sum = unsafe { simd.load(from.as_ptr()) };
                for (half, factor) in half.iter_mut().zip(column) {
                    *half = simd.multiply_add(simd.splat(*factor), sum, *half);
                }
            }
            for (tap, value) in dw_here.iter_mut().enumerate() {
                *value = simd.multiply_add(simd.splat(row[tap / 3]), half[tap % 3], *value);
            }
        }
        for (tap, value) in dw_here.into_iter().enumerate() {
            let to = &mut dw[tap * matrix + at..][..S::LANES];
            // SAFETY: the slice holds a vector.
            unsafe { simd.store(to.as_mut_ptr(), value) };
        }
    }
}
