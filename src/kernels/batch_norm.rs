//! Batch normalisation over the rows of `[rows, channels]`, with the activation that follows it.

use std::ops::Range;

use super::parallel;
use super::rows::{self, AddRows, BLOCK, LANES, add_parts, partials};
use super::simd::{Isa, Kernel, Simd};

/// The range an activation clamps to: `(0, inf)` for ReLU, `(0, 6)` for ReLU6, everything for none.
pub type Clamp = (f32, f32);

/// What changes nothing.
pub const NO_CLAMP: Clamp = (f32::NEG_INFINITY, f32::INFINITY);

/// Clamps what a kernel has just written.
pub struct ClampRow<'a> {
    pub clamp: Clamp,
    pub y: &'a mut [f32],
}

impl Kernel for ClampRow<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        self.y.iter_mut().for_each(|y| *y = y.clamp(self.clamp.0, self.clamp.1));
    }
}

/// Elements of a block's part of the moments: means, sums of squared deviations, the number of rows. Vectors begin where
/// cache lines do.
pub fn moments_part(channels: usize) -> usize {
    2 * channels + LANES
}

/// Scratch elements of [`moments`].
pub fn moments_scratch(rows: usize, channels: usize) -> usize {
    rows::scratch(rows, moments_part(channels), 1)
}

/// Mean and biased variance of every channel.
pub fn moments(isa: Isa, x: &[f32], mean: &mut [f32], variance: &mut [f32], scratch: &mut [f32]) {
    let channels = mean.len();
    let rows = x.len() / channels;
    let parts = partials(rows, moments_part(channels), scratch, |index, part| {
        block_moments(isa, rows::block(x, channels, index), channels, part);
    });
    merge_moments(parts, mean, variance);
}

/// The part of one block of rows.
pub fn block_moments(isa: Isa, x: &[f32], channels: usize, part: &mut [f32]) {
    let (partial, count) = part.split_at_mut(2 * channels);
    count[0] = (x.len() / channels) as f32;
    partial.fill(0.0);
    isa.run(BlockMoments { x, partial });
}

/// The moments of all blocks together, merged in order as in Chan, Golub and LeVeque, "Updating Formulae and a Pairwise
/// Algorithm for Computing Sample Variances" (1979), in f64: no cancellation, however far the mean lies from zero.
pub fn merge_moments(parts: &[f32], mean: &mut [f32], variance: &mut [f32]) {
    let channels = mean.len();
    let share = parallel::share(channels, LANES);
    let shares = mean.chunks_mut(share).zip(variance.chunks_mut(share)).enumerate();
    parallel::for_each(shares, &mut [], 0, |(index, (mean, variance)), _| {
        let lanes = mean.chunks_mut(LANES).zip(variance.chunks_mut(LANES)).enumerate();
        for (lanes, (mean, variance)) in lanes {
            merge_lanes(parts, channels, index * share + lanes * LANES, mean, variance);
        }
    });
}

/// The same of a few channels, from channel `first` on.
fn merge_lanes(parts: &[f32], channels: usize, first: usize, mean: &mut [f32], variance: &mut [f32]) {
    let (mut count, mut centers, mut squares) = (0.0f64, [0.0f64; LANES], [0.0f64; LANES]);
    for part in parts.chunks_exact(moments_part(channels)) {
        let more = f64::from(part[2 * channels]);
        let (share, both) = (more / (count + more), count * more / (count + more));
        let (means, deviations) = part[..2 * channels].split_at(channels);
        let at = first..first + mean.len();
        let values = means[at.clone()].iter().zip(&deviations[at]);
        for ((center, squares), (mean, deviations)) in centers.iter_mut().zip(&mut squares).zip(values) {
            let away = f64::from(*mean) - *center;
            *squares += f64::from(*deviations) + away * away * both;
            *center += away * share;
        }
        count += more;
    }
    for (mean, center) in mean.iter_mut().zip(centers) {
        *mean = center as f32;
    }
    for (variance, squares) in variance.iter_mut().zip(squares) {
        *variance = (squares / count) as f32;
    }
}

/// Mean and sum of squared deviations of one block.
struct BlockMoments<'a> {
    x: &'a [f32],
    partial: &'a mut [f32],
}

impl Kernel for BlockMoments<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let channels = self.partial.len() / 2;
        let (mean, squares) = self.partial.split_at_mut(channels);
        AddRows { x: self.x, sums: mean }.run(simd);
        let scale = channels as f32 / self.x.len() as f32;
        for value in mean.iter_mut() {
            *value *= scale;
        }
        for row in self.x.chunks_exact(channels) {
            for ((sum, mean), x) in squares.iter_mut().zip(mean.iter()).zip(row) {
                *sum += (x - mean) * (x - mean);
            }
        }
    }
}

/// What becomes of x: `clamp(x * scale + shift)`, a scale and a shift for every channel.
#[derive(Clone, Copy)]
pub struct Line<'a> {
    pub scale: &'a [f32],
    pub shift: &'a [f32],
    pub clamp: Clamp,
}

impl<'a> Line<'a> {
    /// Of these channels alone.
    pub fn channels(self, range: Range<usize>) -> Line<'a> {
        Line { scale: &self.scale[range.clone()], shift: &self.shift[range], ..self }
    }
}

/// `y = clamp(x * scale + shift)`.
pub fn apply(isa: Isa, x: &[f32], line: Line, y: &mut [f32]) {
    let block = BLOCK * line.scale.len();
    parallel::for_each(x.chunks(block).zip(y.chunks_mut(block)), &mut [], 0, |(x, y), _| {
        isa.run(Apply { x, line, y });
    });
}

/// The same of a few rows.
pub struct Apply<'a> {
    pub x: &'a [f32],
    pub line: Line<'a>,
    pub y: &'a mut [f32],
}

impl Kernel for Apply<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Line { scale, shift, clamp } = self.line;
        let channels = scale.len();
        for (x, y) in self.x.chunks_exact(channels).zip(self.y.chunks_exact_mut(channels)) {
            for (((y, x), scale), shift) in y.iter_mut().zip(x).zip(scale).zip(shift) {
                *y = (x * scale + shift).clamp(clamp.0, clamp.1);
            }
        }
    }
}

/// What [`gradient_sums`] and [`gradient_apply`] read: the forward pass's `y = clamp(x * scale + shift)`
/// with the normalised `x_hat = (x - mean) * inv_std`, and the gradient of y.
#[derive(Clone, Copy)]
pub struct Backward<'a> {
    pub x: &'a [f32],
    pub dy: &'a [f32],
    pub mean: &'a [f32],
    pub inv_std: &'a [f32],
    pub scale: &'a [f32],
    pub shift: &'a [f32],
    pub clamp: Clamp,
}

impl<'a> Backward<'a> {
    fn block(self, index: usize) -> Self {
        let channels = self.mean.len();
        Backward {
            x: rows::block(self.x, channels, index),
            dy: rows::block(self.dy, channels, index),
            ..self
        }
    }
}

/// The gradient that passes the clamp: computed exactly as the forward pass was, so that both agree on
/// every element.
#[inline(always)]
fn passed(x: f32, dy: f32, scale: f32, shift: f32, clamp: Clamp) -> f32 {
    let y = x * scale + shift;
    if y > clamp.0 && y < clamp.1 { dy } else { 0.0 }
}

/// `dgamma = sum dy x_hat` and `dbeta = sum dy` of every channel.
pub fn gradient_sums(isa: Isa, b: Backward, [dgamma, dbeta]: [&mut [f32]; 2], scratch: &mut [f32]) {
    let channels = dgamma.len();
    let parts = partials(b.x.len() / channels, 2 * channels, scratch, |index, part| {
        block_gradient_sums(isa, b.block(index), part);
    });
    totals(parts, dgamma, dbeta);
}

/// The sums of one block of rows: dgamma of all channels, then dbeta.
pub fn block_gradient_sums(isa: Isa, b: Backward, part: &mut [f32]) {
    part.fill(0.0);
    isa.run(BlockGradientSums { b, partial: part });
}

/// Adds up the blocks' parts of dgamma and dbeta, in order.
pub fn totals(parts: &[f32], dgamma: &mut [f32], dbeta: &mut [f32]) {
    let channels = dgamma.len();
    add_parts(parts, 2 * channels, 0, dgamma);
    add_parts(parts, 2 * channels, channels, dbeta);
}

struct BlockGradientSums<'a> {
    b: Backward<'a>,
    partial: &'a mut [f32],
}

impl Kernel for BlockGradientSums<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let b = self.b;
        let channels = b.mean.len();
        let (dgamma, dbeta) = self.partial.split_at_mut(channels);
        let dbeta = &mut dbeta[..channels];
        let [mean, inv_std, scale, shift] = [b.mean, b.inv_std, b.scale, b.shift].map(|v| &v[..channels]);
        for (x, dy) in b.x.chunks_exact(channels).zip(b.dy.chunks_exact(channels)) {
            for c in 0..channels {
                let dy = passed(x[c], dy[c], scale[c], shift[c], b.clamp);
                dgamma[c] += dy * ((x[c] - mean[c]) * inv_std[c]);
                dbeta[c] += dy;
            }
        }
    }
}

/// `dx = scale (dy - mean(dy) - x_hat mean(dy x_hat))`, evaluated as `scale dy + slope x + offset`. Where `b.dy` is
/// empty, dx holds dy.
pub fn gradient_apply(isa: Isa, b: Backward, [slope, offset]: [&[f32]; 2], dx: &mut [f32]) {
    let channels = slope.len();
    let block = BLOCK * channels;
    let line = GradientLine::new(&b, [slope, offset]);
    parallel::for_each(
        dx.chunks_mut(block).zip(b.x.chunks(block)).enumerate(),
        &mut [],
        0,
        |(i, (dx, x)), _| {
            let dy = (!b.dy.is_empty()).then(|| rows::block(b.dy, channels, i));
            isa.run(GradientApply { line, x, dy, dx });
        },
    );
}

/// What dx is computed with: vectors of one length, the number of channels.
#[derive(Clone, Copy)]
pub struct GradientLine<'a> {
    pub scale: &'a [f32],
    pub shift: &'a [f32],
    pub clamp: Clamp,
    pub slope: &'a [f32],
    pub offset: &'a [f32],
}

impl<'a> GradientLine<'a> {
    pub fn new(b: &Backward<'a>, [slope, offset]: [&'a [f32]; 2]) -> Self {
        GradientLine { scale: b.scale, shift: b.shift, clamp: b.clamp, slope, offset }
    }

    /// The same, of lengths that the compiler sees to be `channels`: no element needs a check.
    #[inline(always)]
    pub fn cut(self, channels: usize) -> Self {
        let GradientLine { scale, shift, clamp, slope, offset } = self;
        let [scale, shift, slope, offset] = [scale, shift, slope, offset].map(|v| &v[..channels]);
        GradientLine { scale, shift, clamp, slope, offset }
    }

    /// dx from x and from the gradient that passed the clamp.
    #[inline(always)]
    pub fn at(&self, c: usize, x: f32, g: f32) -> f32 {
        self.scale[c] * g + (self.slope[c] * x + self.offset[c])
    }
}

struct GradientApply<'a> {
    line: GradientLine<'a>,
    x: &'a [f32],
    dy: Option<&'a [f32]>,
    dx: &'a mut [f32],
}

impl Kernel for GradientApply<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let GradientApply { line, x, dy, dx } = self;
        let channels = line.scale.len();
        let rows = dx.chunks_exact_mut(channels).zip(x.chunks_exact(channels));
        match dy {
            Some(dy) => {
                for ((dx, x), dy) in rows.zip(dy.chunks_exact(channels)) {
                    gradient_row(line, x, dx, |c, _| dy[c]);
                }
            }
            None => rows.for_each(|(dx, x)| gradient_row(line, x, dx, |_, held| held)),
        }
    }
}

/// One row of dx; `dy` is told the channel and what dx holds there.
#[inline(always)]
fn gradient_row(line: GradientLine, x: &[f32], dx: &mut [f32], dy: impl Fn(usize, f32) -> f32) {
    let channels = dx.len();
    let (line, x) = (line.cut(channels), &x[..channels]);
    for c in 0..channels {
        let g = passed(x[c], dy(c, dx[c]), line.scale[c], line.shift[c], line.clamp);
        dx[c] = line.at(c, x[c], g);
    }
}
