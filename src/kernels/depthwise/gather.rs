//! Sums over one tap of the kernel after the other: any kernel and stride, forward and to the input.

use super::Geometry;
use crate::kernels::simd::{Kernel, Simd};

/// Along one dimension, which pixels meet which taps of the kernel: target `t` receives from the source
/// `first - k` (or `first + k`) through tap `tap + k step`, for k < count.
pub struct Line {
    tap: usize,
    tap_step: usize,
    first: usize,
    backwards: bool,
    pub count: usize,
}

impl Line {
    #[inline(always)]
    pub fn at(&self, k: usize) -> (usize, usize) {
        let source = if self.backwards { self.first - k } else { self.first + k };
        (source, self.tap + k * self.tap_step)
    }
}

/// Along one dimension: sizes, kernel and padding.
#[derive(Clone, Copy)]
pub struct Extent {
    source: usize,
    kernel: usize,
    pad: usize,
}

/// A sum over taps, for any kernel and stride, in either direction.
#[derive(Clone, Copy)]
pub struct Gather {
    pub vertical: Extent,
    pub horizontal: Extent,
    stride: usize,
    channels: usize,
    /// From the output's gradient to the input's, not from input to output.
    backwards: bool,
}

impl Gather {
    pub fn forward(g: &Geometry) -> Gather {
        Gather {
            vertical: Extent { source: g.in_height, kernel: g.kernel_height, pad: g.pad_top },
            horizontal: Extent { source: g.in_width, kernel: g.kernel_width, pad: g.pad_left },
            stride: g.stride,
            channels: g.channels,
            backwards: false,
        }
    }

    pub fn input_gradient(g: &Geometry) -> Gather {
        let mut gather = Gather { backwards: true, ..Gather::forward(g) };
        (gather.vertical.source, gather.horizontal.source) = (g.out_height, g.out_width);
        gather
    }

    #[inline(always)]
    pub fn line(&self, extent: Extent, target: usize) -> Line {
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
pub struct TapRow<'a> {
    pub gather: Gather,
    /// The image of sources.
    pub from: &'a [f32],
    pub w: &'a [f32],
    /// What the sums begin with, for every channel.
    pub start: &'a [f32],
    pub row: usize,
    pub to: &'a mut [f32],
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
