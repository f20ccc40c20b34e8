//! Bilinear enlargement, NHWC.

use super::parallel;
use super::simd::{Isa, Kernel, Simd};

/// Between which two pixels of a line of `size` the centre of pixel `out` of `out_size` lies, and
/// how far from the first to the second. Beyond the outermost centres there is nothing but the
/// outermost pixel.
#[inline(always)]
pub fn neighbours(out: usize, out_size: usize, size: usize) -> (usize, usize, f32) {
    let position = (out as f32 + 0.5) * (size as f32 / out_size as f32) - 0.5;
    let position = position.clamp(0.0, (size - 1) as f32);
    let first = position as usize;
    (first, (first + 1).min(size - 1), position - first as f32)
}

/// `y [N, P, Q, C]` from `x [N, H, W, C]`; sizes are `[H, W, C]` and `[P, Q, C]`.
pub fn bilinear(isa: Isa, x: &[f32], size: [usize; 3], y: &mut [f32], out_size: [usize; 3]) {
    let [height, width, channels] = size;
    let [rows, columns, _] = out_size;
    let image = height * width * channels;
    parallel::for_each(y.chunks_exact_mut(columns * channels).enumerate(), &mut [], 0, |(row, y), _| {
        let (above, below, down) = neighbours(row % rows, rows, height);
        let x = &x[row / rows * image..][..image];
        let [above, below] = [above, below].map(|row| &x[row * width * channels..][..width * channels]);
        isa.run(Row { above, below, down, width, channels, y });
    });
}

struct Row<'a> {
    above: &'a [f32],
    below: &'a [f32],
    down: f32,
    width: usize,
    channels: usize,
    y: &'a mut [f32],
}

impl Kernel for Row<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Row { above, below, down, width, channels, y } = self;
        let columns = y.len() / channels;
        for (column, y) in y.chunks_exact_mut(channels).enumerate() {
            let (left, right, across) = neighbours(column, columns, width);
            let (left, right) = (left * channels, right * channels);
            for (c, y) in y.iter_mut().enumerate() {
                let upper = above[left + c] + (above[right + c] - above[left + c]) * across;
                let lower = below[left + c] + (below[right + c] - below[left + c]) * across;
                *y = upper + (lower - upper) * down;
            }
        }
    }
}
