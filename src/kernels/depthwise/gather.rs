//! Sums over one tap of the kernel after the other: any kernel and stride, forward and to the
//! input.

use super::super::conv::ConvGeometry;
use crate::simd::{Kernel, Simd};

/// Along one dimension, which pixels meet which taps of the kernel: target `t` receives from the
/// source `first - k` (or `first + k`) through tap `tap + k step`, for k < count.
pub struct Taps {
    tap: usize,
    tap_step: usize,
    first: usize,
    backwards: bool,
    pub count: usize,
}

impl Taps {
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
    pub fn forward(g: &ConvGeometry) -> Gather {
        Gather {
            vertical: Extent { source: g.in_height, kernel: g.kernel_height, pad: g.pad_top },
            horizontal: Extent { source: g.in_width, kernel: g.kernel_width, pad: g.pad_left },
            stride: g.stride,
            channels: g.in_channels,
            backwards: false,
        }
    }

    pub fn input_gradient(g: &ConvGeometry) -> Gather {
        let mut gather = Gather { backwards: true, ..Gather::forward(g) };
        (gather.vertical.source, gather.horizontal.source) = (g.out_height, g.out_width);
        gather
    }

    #[inline(always)]
    pub fn taps(&self, extent: Extent, target: usize) -> Taps {
        let Extent { source, kernel, pad } = extent;
        if self.backwards {
            // Output p meets input y through tap y + pad - p stride.
            let last = target + pad;
            let skipped = (last / self.stride + 1).saturating_sub(source);
            let tap = last % self.stride + skipped * self.stride;
            let first = (last / self.stride).saturating_sub(skipped);
            let count = kernel.saturating_sub(tap).div_ceil(self.stride).min(first + 1);
            return Taps { tap, tap_step: self.stride, first, backwards: true, count };
        }
        let begin = target * self.stride;
        let tap = pad.saturating_sub(begin);
        let count = (source + pad).saturating_sub(begin).min(kernel).saturating_sub(tap);
        Taps { tap, tap_step: 1, first: (begin + tap).saturating_sub(pad), backwards: false, count }
    }
}

/// One row of targets of a [`Gather`].
pub struct TapRow<'a> {
    pub gather: Gather,
    /// The image of sources.
    pub from: &'a [f32],
    pub w: &'a [f32],
    /// Start of the sums, for every channel.
    pub start: &'a [f32],
    pub row: usize,
    pub to: &'a mut [f32],
}

impl Kernel for TapRow<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let TapRow { gather, from, w, start, row, to } = self;
        let channels = gather.channels;
        let vertical = gather.taps(gather.vertical, row);
        for (column, to) in to.chunks_exact_mut(channels).enumerate() {
            let horizontal = gather.taps(gather.horizontal, column);
            Pixel { gather: &gather, vertical: &vertical, horizontal, from, w, start }.run(simd, to);
        }
    }
}

/// One target of a [`Gather`].
struct Pixel<'a> {
    gather: &'a Gather,
    vertical: &'a Taps,
    horizontal: Taps,
    from: &'a [f32],
    w: &'a [f32],
    start: &'a [f32],
}

impl Pixel<'_> {
    #[inline(always)]
    fn run<S: Simd>(&self, simd: S, to: &mut [f32]) {
        let channels = self.gather.channels;
        assert!(self.start.len() == channels && to.len() == channels);
        assert!(channels <= self.from.len() && channels <= self.w.len());
        // The last places where so many channels fit: unlike `from + channels`, these cannot wrap
        // around.
        let (last_from, last_w) = (self.from.len() - channels, self.w.len() - channels);
        self.each_tap(|from, w| assert!(from <= last_from && w <= last_w));
        let whole = channels - channels % S::LANES;
        for c in (0..whole).step_by(S::LANES) {
            // SAFETY: the vector at c ends within `channels`, for which all operands have been
            // checked.
            unsafe { self.vector(simd, c, to) };
        }
        for (c, to) in to.iter_mut().enumerate().skip(whole) {
            *to = self.start[c];
            self.each_tap(|from, w| *to += self.from[from + c] * self.w[w + c]);
        }
    }

    /// # Safety
    /// `c + LANES` must be at most `channels`, and the slices as long as `run` checks.
    #[inline(always)]
    unsafe fn vector<S: Simd>(&self, simd: S, c: usize, to: &mut [f32]) {
        let (from, w) = (self.from.as_ptr().wrapping_add(c), self.w.as_ptr().wrapping_add(c));
        // SAFETY: passed on from the caller.
        unsafe {
            let mut sum = simd.load(self.start.as_ptr().add(c));
            for k in 0..self.vertical.count {
                for l in 0..self.horizontal.count {
                    let (source, tap) = self.at(k, l);
                    sum = simd.multiply_add(simd.load(from.add(source)), simd.load(w.add(tap)), sum);
                }
            }
            simd.store(to.as_mut_ptr().add(c), sum);
        }
    }

    /// Where the channels of tap (k, l)'s source and weights begin.
    #[inline(always)]
    fn at(&self, k: usize, l: usize) -> (usize, usize) {
        let Extent { source: width, kernel, .. } = self.gather.horizontal;
        let ((y, i), (x, j)) = (self.vertical.at(k), self.horizontal.at(l));
        ((y * width + x) * self.gather.channels, (i * kernel + j) * self.gather.channels)
    }

    #[inline(always)]
    fn each_tap(&self, mut visit: impl FnMut(usize, usize)) {
        for k in 0..self.vertical.count {
            for l in 0..self.horizontal.count {
                let (from, w) = self.at(k, l);
                visit(from, w);
            }
        }
    }
}
