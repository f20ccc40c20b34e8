//! Batch normalisation, activation and max pooling over windows of 2x2 in one pass each way: the normalised
//! values are never stored, and the gradient finds each window's largest again.
//!
//! The gradient visits the rows of x in the blocks and the order of [`super::batch_norm`], so that a fused plan
//! gives the same bits as one that is not.

use super::batch_norm::{Backward, Clamp, GradientLine, Line, totals};
use super::parallel;
use super::rows::{BLOCK, partials};
use super::simd::{Isa, Kernel, Simd};

/// Elements of x that a work item of [`apply`] normalises, at least: enough that workers do not wait for each other to take
/// the next one.
const ITEM: usize = 1 << 14;

/// Of the images that are normalised; a last odd row or column lies in no window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    pub height: usize,
    pub width: usize,
}

/// `y [N, H/2, W/2, C]` = the largest `clamp(x * scale + shift)` of every window of `x [N, H, W, C]`.
pub fn apply(isa: Isa, size: Size, x: &[f32], line: Line, y: &mut [f32]) {
    let channels = line.scale.len();
    let (image, row) = (size.height * size.width * channels, 2 * size.width * channels);
    let out_row = size.width / 2 * channels;
    let blocks = parallel::row_blocks(y, size.height / 2 * out_row, out_row, ITEM.div_ceil(row));
    parallel::for_each(blocks, &mut [], 0, |(index, first, y), _| {
        let x = &x[index * image + first * row..];
        for (y, x) in y.chunks_exact_mut(out_row).zip(x.chunks_exact(row)) {
            isa.run(Apply { size, x, line, y });
        }
    });
}

/// One row of windows.
struct Apply<'a> {
    size: Size,
    x: &'a [f32],
    line: Line<'a>,
    y: &'a mut [f32],
}

impl Kernel for Apply<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Line { scale, shift, clamp } = self.line;
        let channels = scale.len();
        let shift = &shift[..channels];
        for (q, y) in self.y.chunks_exact_mut(channels).enumerate() {
            let taps = window(self.x, 2 * q, self.size.width, channels);
            for c in 0..channels {
                let value = |x: f32| (x * scale[c] + shift[c]).clamp(clamp.0, clamp.1);
                let mut largest = value(taps[0][c]);
                for tap in &taps[1..] {
                    let value = value(tap[c]);
                    // NaN wins, as in `super::pool`.
                    largest = if value > largest || value.is_nan() { value } else { largest };
                }
                y[c] = largest;
            }
        }
    }
}

/// The four pixels of the window whose first is `first`.
#[inline(always)]
fn window(x: &[f32], first: usize, width: usize, channels: usize) -> [&[f32]; 4] {
    [first, first + 1, first + width, first + width + 1].map(|pixel| &x[pixel * channels..][..channels])
}

/// A pixel of x, and the window it lies in: which of its four it is, the window's first pixel, and its number.
struct Pixel {
    index: usize,
    window: Option<(usize, usize, usize)>,
}

/// A range of pixels in order.
struct Pixels {
    size: Size,
    index: usize,
    end: usize,
    image: usize,
    row: usize,
    column: usize,
}

impl Pixels {
    #[inline(always)]
    fn new(size: Size, index: usize, count: usize) -> Pixels {
        let (row, column) = (index / size.width, index % size.width);
        Pixels { size, index, end: index + count, image: row / size.height, row: row % size.height, column }
    }
}

impl Iterator for Pixels {
    type Item = Pixel;
    #[inline(always)]
    fn next(&mut self) -> Option<Pixel> {
        if self.index == self.end {
            return None;
        }
        let Size { height, width } = self.size;
        let (index, row, column) = (self.index, self.row, self.column);
        let inside = row / 2 < height / 2 && column / 2 < width / 2;
        let window = inside.then(|| {
            let first = index - row % 2 * width - column % 2;
            (
                row % 2 * 2 + column % 2,
                first,
                (self.image * (height / 2) + row / 2) * (width / 2) + column / 2,
            )
        });
        self.index += 1;
        self.column += 1;
        if self.column == width {
            (self.column, self.row) = (0, row + 1);
        }
        if self.row == height {
            (self.row, self.image) = (0, self.image + 1);
        }
        Some(Pixel { index, window })
    }
}

/// The part of a window's dy that pixel `TAP` of its four receives: all of it, if it is the first largest and
/// passes the clamp.
#[inline(always)]
fn passed<const TAP: usize>(x: [f32; 4], dy: f32, scale: f32, shift: f32, clamp: Clamp) -> f32 {
    let line = x[TAP] * scale + shift;
    let mine = line.clamp(clamp.0, clamp.1);
    let mut passes = (line > clamp.0) & (line < clamp.1);
    for (tap, x) in x.into_iter().enumerate() {
        let other = (x * scale + shift).clamp(clamp.0, clamp.1);
        passes &= if tap < TAP { mine > other } else { tap == TAP || mine >= other };
    }
    if passes { dy } else { 0.0 }
}

/// `dgamma = sum g x_hat` and `dbeta = sum g` of every channel, where g is the gradient before the pooling;
/// `b.dy` is that of the pooled values.
pub fn gradient_sums(
    isa: Isa,
    size: Size,
    b: Backward,
    [dgamma, dbeta]: [&mut [f32]; 2],
    scratch: &mut [f32],
) {
    let channels = dgamma.len();
    let rows = b.x.len() / channels;
    let parts = partials(rows, 2 * channels, scratch, |index, partial| {
        let pixels = Pixels::new(size, index * BLOCK, BLOCK.min(rows - index * BLOCK));
        isa.run(BlockSums { size, b, pixels, partial });
    });
    totals(parts, dgamma, dbeta);
}

struct BlockSums<'a> {
    size: Size,
    b: Backward<'a>,
    pixels: Pixels,
    partial: &'a mut [f32],
}

impl Kernel for BlockSums<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let channels = self.b.mean.len();
        let (dgamma, dbeta) = self.partial.split_at_mut(channels);
        for pixel in self.pixels {
            let Some((tap, first, number)) = pixel.window else { continue };
            let x = window(self.b.x, first, self.size.width, channels);
            let dy = &self.b.dy[number * channels..][..channels];
            match tap {
                0 => add::<0>(&self.b, x, dy, dgamma, dbeta),
                1 => add::<1>(&self.b, x, dy, dgamma, dbeta),
                2 => add::<2>(&self.b, x, dy, dgamma, dbeta),
                _ => add::<3>(&self.b, x, dy, dgamma, dbeta),
            }
        }
    }
}

#[inline(always)]
fn add<const TAP: usize>(b: &Backward, x: [&[f32]; 4], dy: &[f32], dgamma: &mut [f32], dbeta: &mut [f32]) {
    let channels = dy.len();
    let (dgamma, dbeta) = (&mut dgamma[..channels], &mut dbeta[..channels]);
    let [mean, inv_std, scale, shift] = [b.mean, b.inv_std, b.scale, b.shift].map(|v| &v[..channels]);
    let x = x.map(|x| &x[..channels]);
    for c in 0..channels {
        let window = [x[0][c], x[1][c], x[2][c], x[3][c]];
        let g = passed::<TAP>(window, dy[c], scale[c], shift[c], b.clamp);
        dgamma[c] += g * ((window[TAP] - mean[c]) * inv_std[c]);
        dbeta[c] += g;
    }
}

/// As [`super::batch_norm::gradient_apply`], of g.
pub fn gradient_apply(isa: Isa, size: Size, b: Backward, line: [&[f32]; 2], dx: &mut [f32]) {
    let channels = b.mean.len();
    let line = GradientLine::new(&b, line);
    parallel::for_each(dx.chunks_mut(BLOCK * channels).enumerate(), &mut [], 0, |(index, dx), _| {
        let pixels = Pixels::new(size, index * BLOCK, dx.len() / channels);
        isa.run(BlockApply { size, b, pixels, line, dx });
    });
}

struct BlockApply<'a> {
    size: Size,
    b: Backward<'a>,
    pixels: Pixels,
    line: GradientLine<'a>,
    dx: &'a mut [f32],
}

impl Kernel for BlockApply<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let BlockApply { size, b, line, .. } = self;
        let channels = b.mean.len();
        for (pixel, dx) in self.pixels.zip(self.dx.chunks_exact_mut(channels)) {
            let Some((tap, first, number)) = pixel.window else {
                let x = &b.x[pixel.index * channels..][..channels];
                for c in 0..channels {
                    dx[c] = line.at(c, x[c], 0.0);
                }
                continue;
            };
            let x = window(b.x, first, size.width, channels);
            let dy = &b.dy[number * channels..][..channels];
            match tap {
                0 => put::<0>(&line, x, dy, dx),
                1 => put::<1>(&line, x, dy, dx),
                2 => put::<2>(&line, x, dy, dx),
                _ => put::<3>(&line, x, dy, dx),
            }
        }
    }
}

#[inline(always)]
fn put<const TAP: usize>(line: &GradientLine, x: [&[f32]; 4], dy: &[f32], dx: &mut [f32]) {
    let channels = dy.len();
    let (line, x, dx) = (line.cut(channels), x.map(|x| &x[..channels]), &mut dx[..channels]);
    for c in 0..channels {
        let window = [x[0][c], x[1][c], x[2][c], x[3][c]];
        let g = passed::<TAP>(window, dy[c], line.scale[c], line.shift[c], line.clamp);
        dx[c] = line.at(c, window[TAP], g);
    }
}
