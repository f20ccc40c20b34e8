//! Batch normalisation over the rows of `[rows, channels]`, with the activation that follows it.

use std::ops::Range;

use super::elementwise::AddTo;
use super::function::{Activation, Clamp, Function, Of, Slopes, Values, activate, beyond_clamp, clamp_of};
use super::parallel;
use super::rows::{self, AddRows, BLOCK, LANES, add_parts, partials};
use super::simd::{Isa, Kernel, Simd};

/// Elements of a block's part of the moments: means, sums of squared deviations, the number of
/// rows. Vectors begin where cache lines do.
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

/// The moments of all blocks together, merged in order as in Chan, Golub and LeVeque, "Updating
/// Formulae and a Pairwise Algorithm for Computing Sample Variances" (1979), in f64: no
/// cancellation, however far the mean lies from zero.
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

/// The function of x `activation(x * scale + shift)`, a scale and a shift for every channel.
#[derive(Clone, Copy)]
pub struct Affine<'a> {
    /// Factors `[C]`.
    pub scale: &'a [f32],
    /// Summands `[C]`.
    pub shift: &'a [f32],
    /// Function of the result.
    pub activation: Activation,
}

impl<'a> Affine<'a> {
    /// The same for these channels alone.
    pub fn channels(self, range: Range<usize>) -> Affine<'a> {
        Affine { scale: &self.scale[range.clone()], shift: &self.shift[range], ..self }
    }
}

/// `y = activation(x * scale + shift)`.
pub fn apply(isa: Isa, x: &[f32], affine: Affine, y: &mut [f32]) {
    let block = BLOCK * affine.scale.len();
    parallel::for_each(x.chunks(block).zip(y.chunks_mut(block)), &mut [], 0, |(x, y), _| {
        isa.run(Apply { x, affine, y });
    });
}

/// `y = activation(x * scale + shift + residual)`.
pub fn apply_and_add(isa: Isa, x: &[f32], affine: Affine, residual: &[f32], y: &mut [f32]) {
    let block = BLOCK * affine.scale.len();
    let blocks = x.chunks(block).zip(residual.chunks(block)).zip(y.chunks_mut(block));
    parallel::for_each(blocks, &mut [], 0, |((x, residual), y), _| {
        isa.run(Apply { x, affine: Affine { activation: None, ..affine }, y: &mut *y });
        isa.run(AddTo { y: &mut *y, x: residual });
        activate(isa, affine.activation, y);
    });
}

/// The same as [`apply`] of a few rows.
pub struct Apply<'a> {
    /// Rows of channels, `[R, C]`.
    pub x: &'a [f32],
    /// What becomes of each element.
    pub affine: Affine<'a>,
    /// The result, `[R, C]`.
    pub y: &'a mut [f32],
}

impl Kernel for Apply<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Affine { scale, shift, activation } = self.affine;
        let (channels, clamp) = (scale.len(), clamp_of(activation));
        for (x, y) in self.x.chunks_exact(channels).zip(self.y.chunks_exact_mut(channels)) {
            for (((y, x), scale), shift) in y.iter_mut().zip(x).zip(scale).zip(shift) {
                *y = (x * scale + shift).clamp(clamp.0, clamp.1);
            }
        }
        if let Some(function) = beyond_clamp(activation) {
            Values { function, y: self.y }.run(simd);
        }
    }
}

/// Operands of [`gradient_sums`] and [`gradient_apply`]: the forward pass's `y = activation(x *
/// scale + shift)` with the normalised `x_hat = (x - mean) * inv_std`, and the gradient of y.
#[derive(Clone, Copy)]
pub struct Backward<'a> {
    /// The input `[R, C]`, a row for each pixel.
    pub x: &'a [f32],
    /// The gradient of y, `[R, C]`.
    pub dy: &'a [f32],
    /// Means `[C]`.
    pub mean: &'a [f32],
    /// `1 / sqrt(variance + epsilon)`, `[C]`.
    pub inv_std: &'a [f32],
    /// `gamma inv_std`, `[C]`.
    pub scale: &'a [f32],
    /// `beta - mean scale`, `[C]`.
    pub shift: &'a [f32],
    /// Function that the forward pass applied.
    pub activation: Activation,
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

/// The gradient that passes the clamp: computed exactly as the forward pass was, so that both agree
/// on every element.
#[inline(always)]
fn clamp_grad(x: f32, dy: f32, scale: f32, shift: f32, clamp: Clamp) -> f32 {
    let y = x * scale + shift;
    if y > clamp.0 && y < clamp.1 { dy } else { 0.0 }
}

/// Channels for which the gradient through a function is worked out at a time.
const CHUNK: usize = 256;

/// `g = g f'(x * scale + shift)` of at most [`CHUNK`] channels.
#[inline(always)]
fn through<S: Simd>(simd: S, function: Function, x: &[f32], [scale, shift]: [&[f32]; 2], g: &mut [f32]) {
    let mut argument = [0.0; CHUNK];
    let v = &mut argument[..g.len()];
    for (((v, x), scale), shift) in v.iter_mut().zip(x).zip(scale).zip(shift) {
        *v = x * scale + shift;
    }
    if function.slope_of() == Of::Y {
        Values { function, y: v }.run(simd);
    }
    Slopes { function, dy: g, v }.run(simd);
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
    fn run<S: Simd>(self, simd: S) {
        let b = self.b;
        if let Some(function) = beyond_clamp(b.activation) {
            return sums_through(simd, function, b, self.partial);
        }
        let (channels, clamp) = (b.mean.len(), clamp_of(b.activation));
        let (dgamma, dbeta) = self.partial.split_at_mut(channels);
        let dbeta = &mut dbeta[..channels];
        let [mean, inv_std, scale, shift] = [b.mean, b.inv_std, b.scale, b.shift].map(|v| &v[..channels]);
        for (x, dy) in b.x.chunks_exact(channels).zip(b.dy.chunks_exact(channels)) {
            for c in 0..channels {
                let dy = clamp_grad(x[c], dy[c], scale[c], shift[c], clamp);
                dgamma[c] += dy * ((x[c] - mean[c]) * inv_std[c]);
                dbeta[c] += dy;
            }
        }
    }
}

/// The sums behind an activation that is no clamp.
#[inline(always)]
fn sums_through<S: Simd>(simd: S, function: Function, b: Backward, partial: &mut [f32]) {
    let channels = b.mean.len();
    let (dgamma, dbeta) = partial.split_at_mut(channels);
    for (x, dy) in b.x.chunks_exact(channels).zip(b.dy.chunks_exact(channels)) {
        for from in (0..channels).step_by(CHUNK) {
            let part = from..(from + CHUNK).min(channels);
            let mut space = [0.0; CHUNK];
            let g = &mut space[..part.len()];
            g.copy_from_slice(&dy[part.clone()]);
            through(simd, function, &x[part.clone()], [&b.scale[part.clone()], &b.shift[part.clone()]], g);
            let sums = dgamma[part.clone()].iter_mut().zip(&mut dbeta[part.clone()]);
            let normal = x[part.clone()].iter().zip(&b.mean[part.clone()]).zip(&b.inv_std[part]);
            for (((dgamma, dbeta), g), ((x, mean), inv_std)) in sums.zip(&*g).zip(normal) {
                *dgamma += g * ((x - mean) * inv_std);
                *dbeta += g;
            }
        }
    }
}

/// `dx = scale (dy - mean(dy) - x_hat mean(dy x_hat))`, evaluated as `scale dy + slope x + offset`.
/// Where `b.dy` is empty, dx holds dy.
pub fn gradient_apply(isa: Isa, b: Backward, [slope, offset]: [&[f32]; 2], dx: &mut [f32]) {
    let channels = slope.len();
    let block = BLOCK * channels;
    let affine = GradientAffine::new(&b, [slope, offset]);
    parallel::for_each(
        dx.chunks_mut(block).zip(b.x.chunks(block)).enumerate(),
        &mut [],
        0,
        |(i, (dx, x)), _| {
            let dy = (!b.dy.is_empty()).then(|| rows::block(b.dy, channels, i));
            isa.run(GradientApply { affine, x, dy, dx });
        },
    );
}

/// Coefficients of dx: vectors of one length, the number of channels.
#[derive(Clone, Copy)]
pub struct GradientAffine<'a> {
    /// `gamma inv_std`.
    pub scale: &'a [f32],
    /// `beta - mean scale`.
    pub shift: &'a [f32],
    /// Function that the forward pass applied.
    pub activation: Activation,
    /// Factor of x.
    pub slope: &'a [f32],
    /// Summand.
    pub offset: &'a [f32],
}

impl<'a> GradientAffine<'a> {
    /// Coefficients of a backward pass, with slope and offset `[C]` of dx over x.
    pub fn new(b: &Backward<'a>, [slope, offset]: [&'a [f32]; 2]) -> Self {
        GradientAffine { scale: b.scale, shift: b.shift, activation: b.activation, slope, offset }
    }

    /// The same, of lengths that the compiler sees to be `channels`: no element needs a check.
    #[inline(always)]
    pub fn cut(self, channels: usize) -> Self {
        let GradientAffine { scale, shift, activation, slope, offset } = self;
        let [scale, shift, slope, offset] = [scale, shift, slope, offset].map(|v| &v[..channels]);
        GradientAffine { scale, shift, activation, slope, offset }
    }

    /// dx from x and from the gradient that passed the activation.
    #[inline(always)]
    pub fn at(&self, c: usize, x: f32, g: f32) -> f32 {
        self.scale[c] * g + (self.slope[c] * x + self.offset[c])
    }
}

struct GradientApply<'a> {
    affine: GradientAffine<'a>,
    x: &'a [f32],
    dy: Option<&'a [f32]>,
    dx: &'a mut [f32],
}

impl Kernel for GradientApply<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let GradientApply { affine, x, dy, dx } = self;
        if let Some(function) = beyond_clamp(affine.activation) {
            if let Some(dy) = dy {
                dx.copy_from_slice(dy);
            }
            return apply_through(simd, function, affine, x, dx);
        }
        let channels = affine.scale.len();
        let rows = dx.chunks_exact_mut(channels).zip(x.chunks_exact(channels));
        match dy {
            Some(dy) => {
                for ((dx, x), dy) in rows.zip(dy.chunks_exact(channels)) {
                    gradient_row(affine, x, dx, |c, _| dy[c]);
                }
            }
            None => {
                for (dx, x) in rows {
                    gradient_row(affine, x, dx, |_, held| held);
                }
            }
        }
    }
}

/// [`GradientApply`] behind an activation that is no clamp, of dx that holds dy.
#[inline(always)]
fn apply_through<S: Simd>(simd: S, function: Function, affine: GradientAffine, x: &[f32], dx: &mut [f32]) {
    let channels = affine.scale.len();
    for (dx, x) in dx.chunks_exact_mut(channels).zip(x.chunks_exact(channels)) {
        let vectors = affine.scale.chunks(CHUNK).zip(affine.shift.chunks(CHUNK));
        for ((g, x), (scale, shift)) in dx.chunks_mut(CHUNK).zip(x.chunks(CHUNK)).zip(vectors) {
            through(simd, function, x, [scale, shift], g);
        }
        gradient_row(GradientAffine { activation: None, ..affine }, x, dx, |_, held| held);
    }
}

/// One row of dx; `dy` is given the channel and what dx holds there.
#[inline(always)]
fn gradient_row(affine: GradientAffine, x: &[f32], dx: &mut [f32], dy: impl Fn(usize, f32) -> f32) {
    let (channels, clamp) = (dx.len(), clamp_of(affine.activation));
    let (affine, x) = (affine.cut(channels), &x[..channels]);
    for c in 0..channels {
        let g = clamp_grad(x[c], dy(c, dx[c]), affine.scale[c], affine.shift[c], clamp);
        dx[c] = affine.at(c, x[c], g);
    }
}
