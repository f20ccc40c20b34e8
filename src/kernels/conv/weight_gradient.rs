//! The gradient of the weights.

use super::{ConvGeometry, Scratch};
use crate::brgemm::{Block, Start, Sum, SumAxis};
use crate::input::Input;
use crate::matmul::{self, Right};
use crate::rows::AddRows;
use crate::simd::{Isa, Kernel, Simd};
use crate::{parallel, pointwise, winograd};

/// The batch is cut into this many groups (or fewer), each summing its own gradient, which are then
/// added in order: the result does not depend on which worker took which group.
const GROUPS: usize = 16;

/// Images of a group that are summed in registers before a tile goes back to memory: enough for 256
/// pixels, so that loading and storing the tile stays under a tenth of the work.
fn images_at_once(g: &ConvGeometry) -> usize {
    256usize.div_ceil(g.out_height * g.out_width).min(g.batch.div_ceil(GROUPS))
}

/// Scratch of [`weight_gradient`].
pub fn weight_gradient_scratch(isa: Isa, g: &ConvGeometry) -> Scratch {
    if winograd::fits(g) {
        return winograd::weight_gradient_scratch(isa, g);
    }
    if let Some(product) = pointwise::weight_gradient(g) {
        return matmul::scratch(isa, &product);
    }
    let columns = g.out_channels.next_multiple_of(isa.tile_columns());
    let image = g.padded_input(g.out_height).len() + g.out_height * g.out_width * columns;
    (GROUPS.min(g.batch) * g.weights(), images_at_once(g) * image)
}

/// Additional scratch of each worker (`f32`s) in [`weight_gradient`], for an input that is
/// normalised as it is read.
pub fn weight_gradient_affine_scratch(g: &ConvGeometry) -> usize {
    pointwise::weight_gradient(g).map_or(0, |product| matmul::affine_scratch(&product))
}

/// `dw [KH, KW, I, O]` from `x [N, H, W, I]` and `dy [N, OH, OW, O]`.
pub fn weight_gradient(
    isa: Isa,
    g: &ConvGeometry,
    x: Input,
    dy: &[f32],
    dw: &mut [f32],
    scratch: &mut [f32],
) {
    if winograd::fits(g) {
        return winograd::weight_gradient(isa, g, x, dy, dw, scratch);
    }
    if let Some(product) = pointwise::weight_gradient(g) {
        return matmul::multiply(isa, &product, (x, Right::Plain(dy)), None, None, dw.into(), scratch);
    }
    let (shared, each) = weight_gradient_scratch(isa, g);
    let (partial, images) = scratch.split_at_mut(shared);
    let padded = g.padded_input(g.out_height);
    let groups = GROUPS.min(g.batch);
    let items = partial.chunks_exact_mut(g.weights()).enumerate();
    parallel::for_each(items, images, each, |(group, partial), images| {
        let (begin, end) = (g.batch * group / groups, g.batch * (group + 1) / groups);
        let mut start = Start::Zero;
        for first in (begin..end).step_by(images_at_once(g)) {
            let count = images_at_once(g).min(end - first);
            let dy = &dy[first * g.out_image()..][..count * g.out_image()];
            let (inputs, outputs) = images.split_at_mut(count * padded.len());
            for (image, to) in (first..).zip(inputs.chunks_exact_mut(padded.len())) {
                let corner = (g.pad_top as isize, g.pad_left);
                padded.fill([g.in_height, g.in_width], corner, to, |from, to| {
                    x.copy(isa, image * g.in_image() + from, to);
                });
            }
            isa.run(WeightRun { g, inputs, dy, start, outputs, partial });
            start = Start::Current;
        }
    });
    add_partials(isa, partial, dw);
}

/// The weight gradient of a few images.
struct WeightRun<'a> {
    g: &'a ConvGeometry,
    /// The padded images.
    inputs: &'a [f32],
    dy: &'a [f32],
    start: Start<'a>,
    /// For the gradients of the images' outputs, in rows of whole vectors.
    outputs: &'a mut [f32],
    partial: &'a mut [f32],
}

impl Kernel for WeightRun<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let (g, padded) = (self.g, self.g.padded_input(self.g.out_height));
        // A tile reads whole vectors of columns, so rows of odd length are copied apart.
        let width = 2 * S::LANES;
        let columns = g.out_channels.next_multiple_of(width);
        let dy = if columns == g.out_channels {
            self.dy
        } else {
            spread(self.dy, g.out_channels, columns, self.outputs)
        };
        let pixels = g.out_height * g.out_width;
        let sum = Sum {
            a: self.inputs,
            b: dy,
            a_row: 1,
            axes: [
                SumAxis { count: self.inputs.len() / padded.len(), a: padded.len(), b: pixels * columns },
                SumAxis { count: g.out_height, a: g.stride * padded.row(), b: g.out_width * columns },
                SumAxis { count: g.out_width, a: g.stride * g.in_channels, b: columns },
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

/// Elements of the gradient that are added up at a time.
const SUMS: usize = 8192;

/// `dw` = the sum of the groups' gradients, added in order.
pub fn add_partials(isa: Isa, partial: &[f32], dw: &mut [f32]) {
    let len = dw.len();
    parallel::for_each(dw.chunks_mut(SUMS).enumerate(), &mut [], 0, |(index, dw), _| {
        dw.fill(0.0);
        for partial in partial.chunks_exact(len) {
            let x = &partial[index * SUMS..][..dw.len()];
            isa.run(AddRows { x, sums: &mut *dw });
        }
    });
}
