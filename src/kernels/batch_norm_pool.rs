//! Batch normalisation, activation and max pooling over windows of 2x2 in one pass each way.
//!
//! The normalised values are never stored, and the gradient finds each window's largest again.
//!
//! A work item is some rows of windows of one image. The vectors are explicit, because compilers
//! leave half of such a loop to scalar instructions, or all of it.

use super::batch_norm::{Affine, Backward, GradientAffine, totals};
use super::function::{Clamp, clamp_of};
use super::parallel;
use super::simd::{Isa, Kernel, Simd};

/// Elements of x in a work item, at least: enough that workers do not wait for each other to take
/// the next one.
const ITEM: usize = 1 << 14;

/// Size of the images that are normalised; a last odd row or column lies in no window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Rows of pixels.
    pub height: usize,
    /// Columns of pixels.
    pub width: usize,
}

impl Size {
    /// Elements of the two rows of x under a row of windows.
    fn two_rows(&self, channels: usize) -> usize {
        2 * self.width * channels
    }

    /// Elements of a row of windows.
    fn out_row(&self, channels: usize) -> usize {
        self.width / 2 * channels
    }

    /// Rows of windows in a work item.
    fn item_rows(&self, channels: usize) -> usize {
        ITEM.div_ceil(self.two_rows(channels))
    }
}

/// `y [N, H/2, W/2, C]` = the largest `clamp(x * scale + shift)` of every window of `x [N, H, W,
/// C]`.
pub fn apply(isa: Isa, size: Size, x: &[f32], affine: Affine, y: &mut [f32]) {
    let channels = affine.scale.len();
    let (image, two_rows, out_row) =
        (size.height * size.width * channels, size.two_rows(channels), size.out_row(channels));
    let blocks = parallel::row_blocks(y, size.height / 2 * out_row, out_row, size.item_rows(channels));
    parallel::for_each(blocks, &mut [], 0, |(index, first, y), _| {
        let x = &x[index * image + first * two_rows..];
        for (y, x) in y.chunks_exact_mut(out_row).zip(x.chunks_exact(two_rows)) {
            isa.run(PooledApply { size, x, affine, y });
        }
    });
}

/// One row of windows.
struct PooledApply<'a> {
    size: Size,
    x: &'a [f32],
    affine: Affine<'a>,
    y: &'a mut [f32],
}

impl Kernel for PooledApply<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Affine { scale, shift, activation } = self.affine;
        let clamp = clamp_of(activation);
        let channels = scale.len();
        for (q, y) in self.y.chunks_exact_mut(channels).enumerate() {
            let x = window(self.x, q, self.size.width, channels);
            for c in (0..channels).step_by(S::LANES) {
                let affine = Lanes::new(simd, scale, shift, clamp, c);
                let [first, others @ ..] = read(simd, x, c);
                let mut largest = affine.activated(simd, affine.of(simd, first));
                for x in others {
                    let value = affine.activated(simd, affine.of(simd, x));
                    // NaN wins, as in `super::pool`.
                    let larger = simd.select_gt(largest, value, largest, value);
                    largest = simd.where_at_least(largest, largest, larger, largest);
                }
                simd.write(&mut y[c..], largest);
            }
        }
    }
}

/// A vector of channels of the forward pass's scale and shift.
struct Lanes<S: Simd> {
    scale: S::Vector,
    shift: S::Vector,
    low: S::Vector,
    high: S::Vector,
}

impl<S: Simd> Lanes<S> {
    /// Coefficients of the channels from `c` on.
    #[inline(always)]
    fn new(simd: S, scale: &[f32], shift: &[f32], clamp: Clamp, c: usize) -> Self {
        let (low, high) = (simd.splat(clamp.0), simd.splat(clamp.1));
        Lanes { scale: simd.read(&scale[c..]), shift: simd.read(&shift[c..]), low, high }
    }

    /// `x * scale + shift`, rounded twice, as in [`super::batch_norm`] and on a GPU: which element
    /// is the largest, or passes the clamp, must not depend on who computes it.
    #[inline(always)]
    fn of(&self, simd: S, x: S::Vector) -> S::Vector {
        let product = simd.multiply_add(x, self.scale, simd.zero());
        simd.multiply_add(simd.splat(1.0), product, self.shift)
    }

    /// Its activation.
    #[inline(always)]
    fn activated(&self, simd: S, argument: S::Vector) -> S::Vector {
        simd.clamp(argument, self.low, self.high)
    }

    /// The part of a window's dy that each of its elements x receives: the first largest all of it,
    /// if it passes the clamp. Computed exactly as in the forward pass.
    #[inline(always)]
    fn route_max_grad(&self, simd: S, x: [S::Vector; 4], dy: S::Vector) -> [S::Vector; 4] {
        let (zero, mut arguments, mut values) = (simd.zero(), x, x);
        for tap in 0..4 {
            arguments[tap] = self.of(simd, x[tap]);
            values[tap] = self.activated(simd, arguments[tap]);
        }
        let mut routed = [dy; 4];
        for tap in 0..4 {
            let (argument, mine) = (arguments[tap], values[tap]);
            let mut g = simd.select_gt(argument, self.low, dy, zero);
            g = simd.select_gt(self.high, argument, g, zero);
            for (other, &value) in values.iter().enumerate() {
                if other < tap {
                    g = simd.select_gt(mine, value, g, zero);
                } else if other > tap {
                    g = simd.where_at_least(mine, value, g, zero);
                }
            }
            routed[tap] = g;
        }
        routed
    }
}

/// The vectors of a window's four pixels from channel `c` on.
#[inline(always)]
fn read<S: Simd>(simd: S, x: [&[f32]; 4], c: usize) -> [S::Vector; 4] {
    let [a, b, c, d] = [&x[0][c..], &x[1][c..], &x[2][c..], &x[3][c..]];
    [simd.read(a), simd.read(b), simd.read(c), simd.read(d)]
}

/// The four pixels of window `q` of two rows.
#[inline(always)]
fn window(x: &[f32], q: usize, width: usize, channels: usize) -> [&[f32]; 4] {
    let first = 2 * q;
    [first, first + 1, first + width, first + width + 1].map(|pixel| &x[pixel * channels..][..channels])
}

/// Parts of [`gradient_sums`], of a batch of so many images.
fn parts(size: Size, batch: usize, channels: usize) -> usize {
    batch * (size.height / 2).div_ceil(size.item_rows(channels))
}

/// Scratch elements of [`gradient_sums`].
pub fn gradient_scratch(size: Size, batch: usize, channels: usize) -> usize {
    parts(size, batch, channels) * 2 * channels
}

/// `dgamma = sum g x_hat` and `dbeta = sum g` of every channel, where g is the gradient before the
/// pooling; `b.dy` is that of the pooled values.
pub fn gradient_sums(
    isa: Isa,
    size: Size,
    b: Backward,
    [dgamma, dbeta]: [&mut [f32]; 2],
    scratch: &mut [f32],
) {
    let channels = dgamma.len();
    let (image, out_row) = (size.height * size.width * channels, size.out_row(channels));
    let blocks = b.dy.chunks_exact(size.height / 2 * out_row).enumerate().flat_map(|(index, dy)| {
        let rows = size.item_rows(channels);
        dy.chunks(rows * out_row).enumerate().map(move |(block, dy)| (index, block * rows, dy))
    });
    let parts = &mut scratch[..gradient_scratch(size, b.x.len() / image, channels)];
    let items = blocks.zip(parts.chunks_exact_mut(2 * channels));
    parallel::for_each(items, &mut [], 0, |((index, first, dy), part), _| {
        part.fill(0.0);
        let x = &b.x[index * image + first * size.two_rows(channels)..];
        isa.run(BlockSums { size, b: Backward { x, dy, ..b }, part });
    });
    totals(parts, dgamma, dbeta);
}

/// Some rows of windows.
struct BlockSums<'a> {
    size: Size,
    b: Backward<'a>,
    part: &'a mut [f32],
}

impl Kernel for BlockSums<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let BlockSums { size, b, part } = self;
        let channels = b.mean.len();
        let (dgamma, dbeta) = part.split_at_mut(channels);
        let rows = b.dy.chunks_exact(size.out_row(channels)).zip(b.x.chunks_exact(size.two_rows(channels)));
        for (dy, x) in rows {
            for (q, dy) in dy.chunks_exact(channels).enumerate() {
                let x = window(x, q, size.width, channels);
                for c in (0..channels).step_by(S::LANES) {
                    let affine = Lanes::new(simd, b.scale, b.shift, clamp_of(b.activation), c);
                    let x = read(simd, x, c);
                    let routed = affine.route_max_grad(simd, x, simd.read(&dy[c..]));
                    let [sum, product] = window_sums(simd, &b, c, x, routed);
                    let [dgamma, dbeta] = [&mut dgamma[c..], &mut dbeta[c..]];
                    simd.write(
                        dgamma,
                        simd.multiply_add(product, simd.read(&b.inv_std[c..]), simd.read(dgamma)),
                    );
                    simd.write(dbeta, simd.multiply_add(sum, simd.splat(1.0), simd.read(dbeta)));
                }
            }
        }
    }
}

/// Sums of g and of `g (x - mean)` over a window, for the vector of channels from `c` on.
#[inline(always)]
fn window_sums<S: Simd>(
    simd: S,
    b: &Backward,
    c: usize,
    x: [S::Vector; 4],
    routed: [S::Vector; 4],
) -> [S::Vector; 2] {
    let (mean, minus, one) = (simd.read(&b.mean[c..]), simd.splat(-1.0), simd.splat(1.0));
    let mut sums = [simd.zero(); 2];
    for (x, g) in x.into_iter().zip(routed) {
        let centered = simd.multiply_add(mean, minus, x);
        sums = [simd.multiply_add(g, one, sums[0]), simd.multiply_add(g, centered, sums[1])];
    }
    sums
}

/// The input gradient, as [`super::batch_norm::gradient_apply`] computes it from g.
pub fn gradient_apply(isa: Isa, size: Size, b: Backward, slope_and_offset: [&[f32]; 2], dx: &mut [f32]) {
    let channels = b.mean.len();
    let affine = GradientAffine::new(&b, slope_and_offset);
    let (image, row) = (size.height * size.width * channels, size.width * channels);
    let out_image = size.height / 2 * size.out_row(channels);
    // Whole rows of windows, but for a last odd row of the image.
    let blocks = parallel::row_blocks(dx, image, row, 2 * size.item_rows(channels));
    parallel::for_each(blocks, &mut [], 0, |(index, first, dx), _| {
        let x = &b.x[index * image + first * row..][..dx.len()];
        let dy = &b.dy[index * out_image + first / 2 * size.out_row(channels)..];
        isa.run(BlockApply { size, x, dy, affine, dx });
    });
}

/// Some rows of x.
struct BlockApply<'a> {
    size: Size,
    x: &'a [f32],
    dy: &'a [f32],
    affine: GradientAffine<'a>,
    dx: &'a mut [f32],
}

impl Kernel for BlockApply<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let BlockApply { size, x, dy, affine, dx } = self;
        let (width, channels) = (size.width, affine.scale.len());
        let mut dys = dy.chunks_exact(channels);
        let two_rows = size.two_rows(channels);
        for (x, dx) in x.chunks(two_rows).zip(dx.chunks_mut(two_rows)) {
            if dx.len() < two_rows {
                no_window(affine, x, dx);
                continue;
            }
            let (upper, lower) = dx.split_at_mut(width * channels);
            let windows = upper.chunks_exact_mut(2 * channels).zip(lower.chunks_exact_mut(2 * channels));
            for ((q, (upper, lower)), dy) in windows.enumerate().zip(&mut dys) {
                write_window_grad(simd, affine, window(x, q, width, channels), dy, [upper, lower]);
            }
            if width % 2 == 1 {
                for (from, dx) in [(width - 1, upper), (2 * width - 1, lower)] {
                    no_window(affine, &x[from * channels..][..channels], &mut dx[(width - 1) * channels..]);
                }
            }
        }
    }
}

/// Pixels without a window, which receive no dy.
#[inline(always)]
fn no_window(affine: GradientAffine, x: &[f32], dx: &mut [f32]) {
    let channels = affine.scale.len();
    for (x, dx) in x.chunks_exact(channels).zip(dx.chunks_exact_mut(channels)) {
        let (affine, x) = (affine.cut(dx.len()), &x[..dx.len()]);
        for c in 0..dx.len() {
            dx[c] = affine.at(c, x[c], 0.0);
        }
    }
}

/// dx of a window: two pixels of each row.
#[inline(always)]
fn write_window_grad<S: Simd>(
    simd: S,
    affine: GradientAffine,
    x: [&[f32]; 4],
    dy: &[f32],
    [upper, lower]: [&mut [f32]; 2],
) {
    let channels = dy.len();
    let [(a, b), (c, d)] = [upper, lower].map(|row| row.split_at_mut(channels));
    let mut dx = [a, b, c, d];
    for c in (0..channels).step_by(S::LANES) {
        let x = read(simd, x, c);
        let forward = Lanes::new(simd, affine.scale, affine.shift, clamp_of(affine.activation), c);
        let routed = forward.route_max_grad(simd, x, simd.read(&dy[c..]));
        let (slope, offset) = (simd.read(&affine.slope[c..]), simd.read(&affine.offset[c..]));
        for ((x, g), dx) in x.into_iter().zip(routed).zip(&mut dx) {
            let away = simd.multiply_add(slope, x, offset);
            simd.write(&mut dx[c..], simd.multiply_add(forward.scale, g, away));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::function::Function;

    /// Outputs of one window of 3 channels.
    fn pooled(isa: Isa, x: &[f32; 12]) -> [f32; 3] {
        let affine = Affine { scale: &[1.0; 3], shift: &[0.0; 3], activation: Some(Function::Relu6) };
        let mut y = [0.0; 3];
        apply(isa, Size { height: 2, width: 2 }, x, affine, &mut y);
        y
    }

    #[test]
    fn nan_wins_wherever_it_is() {
        for isa in Isa::available() {
            let x = std::array::from_fn(|i| i as f32 * 0.5);
            assert_eq!(pooled(isa, &x), [4.5, 5.0, 5.5]);
            for at in [1, 4, 7, 10] {
                let mut x = x;
                x[at] = f32::NAN;
                let y = pooled(isa, &x);
                assert!(y[1].is_nan() && [y[0], y[2]] == [4.5, 5.5], "{isa}: NaN at {at}: {y:?}");
            }
        }
    }
}
