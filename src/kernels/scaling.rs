//! Images of bytes, scaled: weighted sums of rows, then of columns.
//!
//! A sum goes from pixel to pixel in this order, in `f32` and without fused multiply-adds, so that
//! every instruction set gives the same bytes.

use super::simd::{Isa, Kernel, Simd};

/// Channels of a pixel.
const CHANNELS: usize = 3;

/// By how much a pixel counts at a distance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// A triangle as wide as two pixels of the smaller image: a mean of what each covers.
    Triangle,
    /// Catmull and Rom's cubic, which keeps edges.
    CatmullRom,
}

impl Filter {
    /// Distance from which on nothing counts.
    fn reach(self) -> f32 {
        match self {
            Filter::Triangle => 1.0,
            Filter::CatmullRom => 2.0,
        }
    }

    fn at(self, distance: f32) -> f32 {
        let x = distance.abs();
        match self {
            Filter::Triangle if x < 1.0 => 1.0 - x,
            Filter::CatmullRom if x < 1.0 => (9.0 * (x * x * x) - 15.0 * (x * x) + 6.0) / 6.0,
            Filter::CatmullRom if x < 2.0 => (-3.0 * (x * x * x) + 15.0 * (x * x) - 24.0 * x + 12.0) / 6.0,
            _ => 0.0,
        }
    }
}

/// What a pixel of a scaled line is: the sum of the pixels from `first` on by these weights.
struct Taps {
    first: usize,
    weights: Vec<f32>,
}

/// The sums that scale a line of `from` pixels to `to`.
fn taps(from: usize, to: usize, filter: Filter) -> Vec<Taps> {
    let ratio = from as f32 / to as f32;
    let wide = ratio.max(1.0);
    let reach = filter.reach() * wide;
    let tap = |out: usize| {
        let centre = (out as f32 + 0.5) * ratio;
        let first = ((centre - reach).floor().max(0.0) as usize).min(from - 1);
        let end = ((centre + reach).ceil() as usize).clamp(first + 1, from);
        let weights = (first..end).map(|pixel| filter.at((pixel as f32 - (centre - 0.5)) / wide));
        let weights: Vec<f32> = weights.collect();
        let sum: f32 = weights.iter().sum();
        Taps { first, weights: weights.iter().map(|weight| weight / sum).collect() }
    };
    (0..to).map(tap).collect()
}

/// An image `[from, from, 3]` scaled to `[to, to, 3]`.
///
/// # Panics
/// If `pixels` does not hold as many bytes, or a side is 0.
pub fn square(isa: Isa, pixels: &[u8], from: usize, to: usize, filter: Filter) -> Vec<u8> {
    assert!(from > 0 && to > 0 && pixels.len() == from * from * CHANNELS);
    let taps = taps(from, to, filter);
    let row = from * CHANNELS;
    let mut rows = vec![0.0; to * row];
    for (taps, sums) in taps.iter().zip(rows.chunks_exact_mut(row)) {
        isa.run(Sums { rows: &pixels[taps.first * row..], weights: &taps.weights, sums });
    }
    // Columns as rows, so that their sums are vectors too.
    let mut columns = vec![0.0; rows.len()];
    transpose(&rows, (to, row), &mut columns, to, |value| value);
    let side = CHANNELS * to; // numbers of a column of pixels, and bytes of a row
    let mut scaled = vec![0; side * to];
    // A few columns at a time, which stay in the cache.
    let mut sums = vec![0.0; SIDE * side];
    for (number, taps) in taps.chunks(SIDE).enumerate() {
        let sums = &mut sums[..taps.len() * side];
        sums.fill(0.0);
        for (taps, sums) in taps.iter().zip(sums.chunks_exact_mut(side)) {
            isa.run(Sums { rows: &columns[taps.first * side..], weights: &taps.weights, sums });
        }
        let to_the_right = &mut scaled[number * SIDE * CHANNELS..];
        transpose(sums, (taps.len() * CHANNELS, to), to_the_right, side, to_byte);
    }
    scaled
}

/// Side of the squares of a matrix that are turned one after the other, so that both stay in the
/// cache, and pixels whose columns are summed up together.
const SIDE: usize = 16;

/// Sums of rows as long as `sums`, each times its weight.
struct Sums<'a, T> {
    rows: &'a [T],
    weights: &'a [f32],
    sums: &'a mut [f32],
}

impl<T: Copy + Into<f32>> Kernel for Sums<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Sums { rows, weights, sums } = self;
        for (row, weight) in rows.chunks_exact(sums.len()).zip(weights) {
            for (sum, value) in sums.iter_mut().zip(row) {
                *sum += (*value).into() * weight;
            }
        }
    }
}

/// A matrix `[rows, columns]` as `[columns, rows]`, in rows that begin `stride` apart.
fn transpose<T>(
    values: &[f32],
    (rows, columns): (usize, usize),
    turned: &mut [T],
    stride: usize,
    as_output: impl Fn(f32) -> T,
) {
    for top in (0..rows).step_by(SIDE) {
        for left in (0..columns).step_by(SIDE) {
            for column in left..(left + SIDE).min(columns) {
                for row in top..(top + SIDE).min(rows) {
                    turned[column * stride + row] = as_output(values[row * columns + column]);
                }
            }
        }
    }
}

/// The nearest byte; of halves the larger.
fn to_byte(value: f32) -> u8 {
    let value = value.clamp(0.0, 255.0);
    let whole = value as u8;
    whole + u8::from(value - f32::from(whole) >= 0.5)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng;

    fn noise(side: usize) -> Vec<u8> {
        (0..side * side * CHANNELS).map(|i| rng::pcg4d([7, i as u32, 0, 0])[0] as u8).collect()
    }

    #[test]
    fn every_instruction_set_gives_the_same_bytes() {
        for (from, to) in [(7, 7), (1, 5), (32, 96), (97, 96), (201, 33), (45, 1)] {
            for filter in [Filter::Triangle, Filter::CatmullRom] {
                let pixels = noise(from);
                let scaled = |isa| square(isa, &pixels, from, to, filter);
                let plain = scaled(Isa::Portable);
                for isa in Isa::available() {
                    assert_eq!(scaled(isa), plain, "{isa}: {from} to {to}");
                }
            }
        }
    }

    #[test]
    fn a_half_is_a_mean_and_an_even_image_stays_even() {
        // Of four pixels in a line, weights of a triangle: 1, 3, 3, 1 eighths in the middle.
        let line = |values: [u8; 4]| [values; 4].concat().iter().flat_map(|v| [*v; 3]).collect::<Vec<u8>>();
        let scaled = square(Isa::Portable, &line([80, 80, 0, 0]), 4, 2, Filter::Triangle);
        // 3/7 and 3/7 of the left and 1/7 of the third pixel: there is no pixel further left.
        assert_eq!([scaled[0], scaled[3]], [69, 11]);
        for (filter, to) in [(Filter::Triangle, 3), (Filter::CatmullRom, 9)] {
            assert!(square(Isa::detect(), &line([200; 4]), 4, to, filter).iter().all(|byte| *byte == 200));
        }
    }

    #[test]
    fn bytes_are_the_nearest() {
        let cases = [(-3.0, 0), (0.49999997, 0), (0.5, 1), (254.49, 254), (254.5, 255), (300.0, 255)];
        for (value, byte) in cases {
            assert_eq!(to_byte(value), byte, "{value}");
        }
    }
}
