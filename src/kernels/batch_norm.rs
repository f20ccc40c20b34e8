//! Batch normalisation over the rows of `[rows, channels]`, with the activation that follows it.

use super::parallel;
use super::rows::{self, AddRows, BLOCK, partials};
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

/// Mean and biased variance of every channel. Each block's own mean and squared deviations are merged as in
/// Chan, Golub and LeVeque, "Updating Formulae and a Pairwise Algorithm for Computing Sample Variances"
/// (1979), in f64: no cancellation, however far the mean lies from zero.
pub fn moments(isa: Isa, x: &[f32], mean: &mut [f32], variance: &mut [f32], scratch: &mut [f32]) {
    let channels = mean.len();
    let rows = x.len() / channels;
    let parts = partials(rows, 2 * channels, scratch, |index, partial| {
        isa.run(BlockMoments { x: rows::block(x, channels, index), partial });
    });
    for channel in 0..channels {
        let (mut count, mut center, mut squares) = (0.0f64, 0.0f64, 0.0f64);
        for (index, part) in parts.chunks_exact(2 * channels).enumerate() {
            let more = BLOCK.min(rows - index * BLOCK) as f64;
            let away = f64::from(part[channel]) - center;
            let total = count + more;
            squares += f64::from(part[channels + channel]) + away * away * count * more / total;
            center += away * more / total;
            count = total;
        }
        mean[channel] = center as f32;
        variance[channel] = (squares / count) as f32;
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

/// `y = clamp(x * scale + shift)`, a scale and a shift for every channel.
pub fn apply(isa: Isa, x: &[f32], scale: &[f32], shift: &[f32], clamp: Clamp, y: &mut [f32]) {
    let block = BLOCK * scale.len();
    parallel::for_each(x.chunks(block).zip(y.chunks_mut(block)), &mut [], 0, |(x, y), _| {
        isa.run(Apply { x, scale, shift, clamp, y });
    });
}

struct Apply<'a> {
    x: &'a [f32],
    scale: &'a [f32],
    shift: &'a [f32],
    clamp: Clamp,
    y: &'a mut [f32],
}

impl Kernel for Apply<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let channels = self.scale.len();
        for (x, y) in self.x.chunks_exact(channels).zip(self.y.chunks_exact_mut(channels)) {
            for (((y, x), scale), shift) in y.iter_mut().zip(x).zip(self.scale).zip(self.shift) {
                *y = (x * scale + shift).clamp(self.clamp.0, self.clamp.1);
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
    let parts = partials(b.x.len() / channels, 2 * channels, scratch, |index, partial| {
        isa.run(BlockGradientSums { b: b.block(index), partial });
    });
    totals(parts, dgamma, dbeta);
}

/// Adds up the blocks' partial dgamma and dbeta, in order.
pub(super) fn totals(parts: &[f32], dgamma: &mut [f32], dbeta: &mut [f32]) {
    let channels = dgamma.len();
    let total =
        |at: usize| parts.iter().skip(at).step_by(2 * channels).map(|&part| f64::from(part)).sum::<f64>();
    for channel in 0..channels {
        dgamma[channel] = total(channel) as f32;
        dbeta[channel] = total(channels + channel) as f32;
    }
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

/// `dx = scale (dy - mean(dy) - x_hat mean(dy x_hat))`, evaluated as `scale dy + slope x + offset`.
pub fn gradient_apply(isa: Isa, b: Backward, [slope, offset]: [&[f32]; 2], dx: &mut [f32]) {
    let block = BLOCK * slope.len();
    parallel::for_each(dx.chunks_mut(block).enumerate(), &mut [], 0, |(index, dx), _| {
        isa.run(GradientApply { b: b.block(index), slope, offset, dx });
    });
}

struct GradientApply<'a> {
    b: Backward<'a>,
    slope: &'a [f32],
    offset: &'a [f32],
    dx: &'a mut [f32],
}

impl Kernel for GradientApply<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let b = self.b;
        let channels = self.slope.len();
        let [scale, shift, slope, offset] =
            [b.scale, b.shift, self.slope, self.offset].map(|v| &v[..channels]);
        let rows = b.x.chunks_exact(channels).zip(b.dy.chunks_exact(channels));
        for (dx, (x, dy)) in self.dx.chunks_exact_mut(channels).zip(rows) {
            for c in 0..channels {
                let dy = passed(x[c], dy[c], scale[c], shift[c], b.clamp);
                dx[c] = scale[c] * dy + (slope[c] * x[c] + offset[c]);
            }
        }
    }
}
