//! Max pooling, NHWC.

use std::ops::Range;

use super::parallel;
use super::simd::{Isa, Kernel, Simd};

/// The geometry of a pooling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolGeometry {
    /// Rows of x, in pixels.
    pub height: usize,
    /// Columns of x, in pixels.
    pub width: usize,
    /// Channels of x and y.
    pub channels: usize,
    /// Side of a window, in pixels.
    pub window: usize,
    /// Step of the window in pixels, in both directions.
    pub stride: usize,
    /// Pixels by which windows may reach over every border, at most half a window.
    pub padding: usize,
    /// Rows of y, in pixels.
    pub out_height: usize,
    /// Columns of y, in pixels.
    pub out_width: usize,
}

impl PoolGeometry {
    fn image(&self) -> usize {
        self.height * self.width * self.channels
    }

    fn out_image(&self) -> usize {
        self.out_height * self.out_width * self.channels
    }

    /// Where in an image the pixels of the window of output (p, q) begin, row by row; never none.
    #[inline(always)]
    fn pixels(&self, p: usize, q: usize) -> impl Iterator<Item = usize> {
        let (width, channels, columns) = (self.width, self.channels, self.inside(q, self.width));
        self.inside(p, self.height)
            .flat_map(move |row| columns.clone().map(move |column| (row * width + column) * channels))
    }

    /// The pixels of [`PoolGeometry::pixels`], each with its place in the window.
    #[inline(always)]
    fn places(&self, p: usize, q: usize) -> impl Iterator<Item = (u32, usize)> {
        let &PoolGeometry { width, channels, window, stride, padding, .. } = self;
        let columns = self.inside(q, width);
        self.inside(p, self.height).flat_map(move |row| {
            let first = (row + padding - p * stride) * window;
            columns.clone().map(move |column| {
                let place = first + column + padding - q * stride;
                (place as u32, (row * width + column) * channels)
            })
        })
    }

    /// Does the work of every window (p, q), sixteen channels at a time, then four: channels are a
    /// multiple of 4.
    #[inline(always)]
    fn blocks(&self, mut work: impl BlockWork) {
        for p in 0..self.out_height {
            for q in 0..self.out_width {
                let wide = self.channels / CHANNELS * CHANNELS;
                for channel in (0..wide).step_by(CHANNELS) {
                    work.block::<CHANNELS>(p, q, channel);
                }
                for channel in (wide..self.channels).step_by(4) {
                    work.block::<4>(p, q, channel);
                }
            }
        }
    }

    /// Pixels of window `number` along a dimension that lie inside the borders.
    #[inline(always)]
    fn inside(&self, number: usize, size: usize) -> Range<usize> {
        let first = number * self.stride;
        first.saturating_sub(self.padding)..(first + self.window - self.padding).min(size)
    }
}

/// `y` = the largest element of every window of `x`, channel by channel.
pub fn forward(isa: Isa, g: PoolGeometry, x: &[f32], y: &mut [f32]) {
    let images = x.chunks_exact(g.image()).zip(y.chunks_exact_mut(g.out_image()));
    parallel::for_each(images, &mut [], 0, |(x, y), _| isa.run(Forward { g, x, y }));
}

struct Forward<'a> {
    g: PoolGeometry,
    x: &'a [f32],
    y: &'a mut [f32],
}

impl Kernel for Forward<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let g = self.g;
        for p in 0..g.out_height {
            for q in 0..g.out_width {
                let y = &mut self.y[(p * g.out_width + q) * g.channels..][..g.channels];
                y.fill(f32::NEG_INFINITY);
                for at in g.pixels(p, q) {
                    let x = &self.x[at..][..g.channels];
                    for (y, &x) in y.iter_mut().zip(x) {
                        // NaN wins, so that a broken activation shows in the loss.
                        *y = if x > *y || x.is_nan() { x } else { *y };
                    }
                }
            }
        }
    }
}

/// `dx` = `dy` at the first largest element of every window, 0 elsewhere; where windows overlap,
/// the sum.
pub fn gradient(isa: Isa, g: PoolGeometry, x: &[f32], y: &[f32], dy: &[f32], dx: &mut [f32]) {
    let forward = x.chunks_exact(g.image()).zip(y.chunks_exact(g.out_image()));
    let backward = dy.chunks_exact(g.out_image()).zip(dx.chunks_exact_mut(g.image()));
    parallel::for_each(forward.zip(backward), &mut [], 0, |((x, y), (dy, dx)), _| {
        isa.run(Gradient { g, x, y, dy, dx });
    });
}

struct Gradient<'a> {
    g: PoolGeometry,
    x: &'a [f32],
    y: &'a [f32],
    dy: &'a [f32],
    dx: &'a mut [f32],
}

/// Channels treated at a time: what is left of their gradients stays in registers.
const CHANNELS: usize = 16;

impl Kernel for Gradient<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let g = self.g;
        self.dx.fill(0.0);
        for p in 0..g.out_height {
            for q in 0..g.out_width {
                for channel in (0..g.channels).step_by(CHANNELS) {
                    let count = CHANNELS.min(g.channels - channel);
                    let out = (p * g.out_width + q) * g.channels + channel;
                    let y = &self.y[out..][..count];
                    let mut left = [0.0; CHANNELS];
                    left[..count].copy_from_slice(&self.dy[out..][..count]);
                    for at in g.pixels(p, q).map(|at| at + channel) {
                        give(&self.x[at..][..count], y, &mut left[..count], &mut self.dx[at..][..count]);
                    }
                }
            }
        }
    }
}

/// Where x is the maximum y, moves what is left of the gradient to it.
#[inline(always)]
fn give(x: &[f32], y: &[f32], left: &mut [f32], dx: &mut [f32]) {
    for (((x, y), left), dx) in x.iter().zip(y).zip(left).zip(dx) {
        let here = if x == y { *left } else { 0.0 };
        *dx += here;
        *left -= here;
    }
}

/// [`forward`], and the place in its window of each largest element, the first of equal ones: a
/// byte each, in y's order.
pub fn forward_places(isa: Isa, g: PoolGeometry, x: &[f32], y: &mut [f32], places: &mut [u8]) {
    let outputs = y.chunks_exact_mut(g.out_image()).zip(places.chunks_exact_mut(g.out_image()));
    let images = x.chunks_exact(g.image()).zip(outputs);
    parallel::for_each(images, &mut [], 0, |(x, (y, places)), _| isa.run(ForwardPlaces { g, x, y, places }));
}

struct ForwardPlaces<'a> {
    g: PoolGeometry,
    x: &'a [f32],
    y: &'a mut [f32],
    places: &'a mut [u8],
}

/// The work on neighbouring channels of a window, as many as vectors are sure to hold.
trait BlockWork {
    /// Works on channels `channel .. channel + N` of window (p, q).
    fn block<const N: usize>(&mut self, p: usize, q: usize, channel: usize);
}

impl Kernel for ForwardPlaces<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let g = self.g;
        g.blocks(self);
    }
}

impl BlockWork for ForwardPlaces<'_> {
    #[inline(always)]
    fn block<const N: usize>(&mut self, p: usize, q: usize, channel: usize) {
        let g = self.g;
        let mut places = g.places(p, q);
        let (mut largest, mut found) = ([f32::NEG_INFINITY; N], [0u32; N]);
        // The first of all, so that windows of nothing but -infinity have a place inside.
        if let Some((place, at)) = places.next() {
            largest.copy_from_slice(&self.x[at + channel..][..N]);
            found.fill(place);
        }
        for (place, at) in places {
            let x = &self.x[at + channel..][..N];
            for i in 0..N {
                // NaN wins, so that a broken activation shows in the loss.
                let larger = (x[i] > largest[i]) | x[i].is_nan();
                largest[i] = if larger { x[i] } else { largest[i] };
                found[i] = if larger { place } else { found[i] };
            }
        }
        let out = (p * g.out_width + q) * g.channels + channel;
        self.y[out..][..N].copy_from_slice(&largest);
        self.places[out..][..N].copy_from_slice(&found.map(|place| place as u8));
    }
}

/// `dx` = `dy` at the place of every window, 0 elsewhere; where windows overlap, the sum.
pub fn gradient_of_places(isa: Isa, g: PoolGeometry, places: &[u8], dy: &[f32], dx: &mut [f32]) {
    let windows = places.chunks_exact(g.out_image()).zip(dy.chunks_exact(g.out_image()));
    let images = windows.zip(dx.chunks_exact_mut(g.image()));
    parallel::for_each(images, &mut [], 0, |((places, dy), dx), _| {
        isa.run(GradientOfPlaces { g, places, dy, dx });
    });
}

struct GradientOfPlaces<'a> {
    g: PoolGeometry,
    places: &'a [u8],
    dy: &'a [f32],
    dx: &'a mut [f32],
}

impl Kernel for GradientOfPlaces<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        self.dx.fill(0.0);
        let g = self.g;
        g.blocks(self);
    }
}

impl BlockWork for GradientOfPlaces<'_> {
    #[inline(always)]
    fn block<const N: usize>(&mut self, p: usize, q: usize, channel: usize) {
        let g = self.g;
        let out = (p * g.out_width + q) * g.channels + channel;
        let (bytes, dy) = (&self.places[out..][..N], &self.dy[out..][..N]);
        let own: [u32; N] = std::array::from_fn(|i| u32::from(bytes[i]));
        let dy: [f32; N] = std::array::from_fn(|i| dy[i]);
        for (place, at) in g.places(p, q) {
            let dx = &mut self.dx[at + channel..][..N];
            let sums: [f32; N] = std::array::from_fn(|i| dx[i] + if own[i] == place { dy[i] } else { 0.0 });
            dx.copy_from_slice(&sums);
        }
    }
}
