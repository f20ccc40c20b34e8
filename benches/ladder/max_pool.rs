//! The ladder of max pooling: windows of 3 x 3, two pixels apart, which reach over the borders by
//! one.

use std::rc::Rc;

use cifar_engine::kernels::parallel;
use cifar_engine::kernels::simd::{Isa, Kernel, Simd};
use cifar_engine::ops::pool::max_pool::MaxPool;

use super::engine::{Chain, Input};
use super::{Floats, Ladder, Scratch, Work, compiled, functions, larger, noise};

struct Pool {
    images: usize,
    height: usize,
    width: usize,
    channels: usize,
    /// `[N, H, W, C]`.
    x: Floats,
}

const WINDOW: MaxPool = MaxPool { window: 3, stride: 2, padding: 1 };

/// The pooling of ResNet: 25.7 MB.
pub fn timed() -> Ladder {
    ladder([8, 112, 112, 64])
}

pub fn odd() -> Vec<Ladder> {
    vec![ladder([1, 1, 1, 1]), ladder([2, 5, 4, 3]), ladder([3, 8, 11, 35])]
}

fn ladder([images, height, width, channels]: [usize; 4]) -> Ladder {
    let dims = [images, height, width, channels];
    let pool = Pool { images, height, width, channels, x: noise(dims.iter().product(), 1) };
    let engine = Chain::of(WINDOW, vec![Input::floats(&dims, &pool.x)]);
    let mut rungs =
        functions(&Rc::new(pool), images * height.div_ceil(2) * width.div_ceil(2) * channels, RUNGS);
    rungs.push(engine.on_cpu("engine"));
    Ladder {
        title: format!("max_pool: {images} images of {height} x {width}, {channels} channels"),
        cost: engine.cost(),
        exact: Box::new(move || engine.exact()),
        tolerance: 0.0,
        rungs,
    }
}

const RUNGS: &[(&str, Work<Pool>)] = &[
    ("naive", naive),
    ("loop order", loop_order),
    ("vectors", vectors),
    ("registers", registers),
    ("threads", threads),
];

/// The pixels of window `number` along a dimension that lie inside the image.
fn inside(number: usize, size: usize) -> std::ops::Range<usize> {
    (2 * number).saturating_sub(1)..(2 * number + 2).min(size)
}

/// The formula: for each element of y the elements of its window.
fn naive(g: &Pool, y: &mut [f32], _: &mut Scratch) {
    let Pool { height, width, channels, .. } = *g;
    let (x, down, across) = (&*g.x, height.div_ceil(2), width.div_ceil(2));
    for (at, y) in y.iter_mut().enumerate() {
        let (pixel, c) = (at / channels, at % channels);
        let (image, p, q) = (pixel / (down * across), pixel / across % down, pixel % across);
        *y = f32::NEG_INFINITY;
        for i in inside(p, height) {
            for j in inside(q, width) {
                *y = larger(*y, x[((image * height + i) * width + j) * channels + c]);
            }
        }
    }
}

/// The channels innermost: a border is looked for once for all of them, and the compiler makes
/// vectors of them.
fn loop_order(g: &Pool, y: &mut [f32], _: &mut Scratch) {
    let images = g.x.chunks_exact(g.height * g.width * g.channels);
    for (x, y) in images.zip(y.chunks_exact_mut(y.len() / g.images)) {
        each_pixel(g, x, y);
    }
}

/// One image.
#[inline(always)]
fn each_pixel(g: &Pool, x: &[f32], y: &mut [f32]) {
    for (pixel, y) in y.chunks_exact_mut(g.channels).enumerate() {
        let (p, q) = (pixel / g.width.div_ceil(2), pixel % g.width.div_ceil(2));
        y.fill(f32::NEG_INFINITY);
        for i in inside(p, g.height) {
            for j in inside(q, g.width) {
                let x = &x[(i * g.width + j) * g.channels..][..g.channels];
                y.iter_mut().zip(x).for_each(|(y, x)| *y = larger(*y, *x));
            }
        }
    }
}

/// The same loops, compiled for the vectors that this processor has.
fn vectors(g: &Pool, y: &mut [f32], _: &mut Scratch) {
    let images = g.x.chunks_exact(g.height * g.width * g.channels);
    for (x, y) in images.zip(y.chunks_exact_mut(y.len() / g.images)) {
        compiled(
            #[inline(always)]
            || each_pixel(g, x, y),
        );
    }
}

/// A vector of channels at a time: its largest stays in a register over the window.
fn registers(g: &Pool, y: &mut [f32], _: &mut Scratch) {
    let images = g.x.chunks_exact(g.height * g.width * g.channels);
    for (x, y) in images.zip(y.chunks_exact_mut(y.len() / g.images)) {
        Isa::detect().run(Image { g, x, y });
    }
}

struct Image<'a> {
    g: &'a Pool,
    x: &'a [f32],
    y: &'a mut [f32],
}

impl Kernel for Image<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Image { g: Pool { height, width, channels, .. }, x, y } = self;
        for (pixel, y) in y.chunks_exact_mut(*channels).enumerate() {
            let (p, q) = (pixel / width.div_ceil(2), pixel % width.div_ceil(2));
            for c in (0..*channels).step_by(S::LANES) {
                let lanes = c..(c + S::LANES).min(*channels);
                let mut largest = simd.splat(f32::NEG_INFINITY);
                for i in inside(p, *height) {
                    for j in inside(q, *width) {
                        let value = simd.read(&x[(i * width + j) * channels..][lanes.clone()]);
                        // A NaN is not below the largest, and replaces it; it stays, too.
                        let or_nan = simd.where_at_least(largest, value, largest, value);
                        largest = simd.where_at_least(largest, largest, or_nan, largest);
                    }
                }
                simd.write(&mut y[lanes], largest);
            }
        }
    }
}

/// Each image by whichever core is free.
fn threads(g: &Pool, y: &mut [f32], _: &mut Scratch) {
    let images = g.x.chunks_exact(g.height * g.width * g.channels);
    let images = images.zip(y.chunks_exact_mut(y.len() / g.images));
    parallel::for_each(images, &mut [], 0, |(x, y), _| Isa::detect().run(Image { g, x, y }));
}
