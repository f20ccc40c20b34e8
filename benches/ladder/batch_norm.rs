//! The ladder of batch normalisation in training, with the ReLU and the pooling that follow it:
//!
//! `y = max over windows of 2 x 2 of max(0, gamma (x - mean) / sqrt(variance + epsilon) + beta)`
//!
//! for every channel, with the mean and variance of all its pixels in the batch. All of it is bound
//! by memory: what a rung saves is passes.

use std::rc::Rc;
use std::sync::Arc;

use cifar_engine::kernels::parallel;
use cifar_engine::ops::Function;
use cifar_engine::ops::map::unary::Unary;
use cifar_engine::ops::norm::batch_norm::BatchNorm;
use cifar_engine::ops::pool::max_pool::MaxPool;

use super::engine::{Chain, Input};
use super::{Floats, Ladder, Scratch, Work, compiled, functions, larger, noise};

struct Norm {
    images: usize,
    height: usize,
    width: usize,
    channels: usize,
    /// `[N, H, W, C]`.
    x: Floats,
    gamma: Floats,
    beta: Floats,
}

const EPSILON: f32 = 1e-3;

/// The output of the second convolution of the CNN: 16.8 MB.
pub fn timed() -> Ladder {
    ladder([128, 32, 32, 32])
}

pub fn odd() -> Vec<Ladder> {
    vec![ladder([1, 2, 2, 1]), ladder([3, 6, 5, 7]), ladder([5, 15, 10, 35])]
}

fn ladder([images, height, width, channels]: [usize; 4]) -> Ladder {
    let dims = [images, height, width, channels];
    let x = noise(dims.iter().product(), 1).iter().map(|x| x + 0.25).collect();
    let norm =
        Norm { images, height, width, channels, x, gamma: noise(channels, 2), beta: noise(channels, 3) };
    let vector = |numbers| Input::floats(&[channels], numbers);
    let engine = Chain {
        inputs: vec![Input::floats(&dims, &norm.x), vector(&norm.gamma), vector(&norm.beta)],
        ops: vec![
            Arc::new(BatchNorm { epsilon: EPSILON, activation: None }),
            Arc::new(Unary { function: Function::Relu }),
            Arc::new(MaxPool::side_by_side(2)),
        ],
    };
    let mut rungs = functions(&Rc::new(norm), images * (height / 2) * (width / 2) * channels, RUNGS);
    rungs.push(engine.on_cpu("engine"));
    Ladder {
        title: format!("batch_norm: {images} images of {height} x {width}, {channels} channels"),
        cost: engine.cost(),
        exact: Box::new(move || engine.exact()),
        tolerance: 5e-5,
        rungs,
    }
}

const RUNGS: &[(&str, Work<Norm>)] = &[
    ("naive", naive),
    ("loop order", loop_order),
    ("vectors", vectors),
    ("ReLU fused", relu_fused),
    ("moments by blocks", moments_by_blocks),
    ("pooling fused", pooling_fused),
    ("threads", threads),
];

/// The formula, a channel at a time, in three passes; then ReLU, then the pooling. Of each cache
/// line, 16 channels, a pass uses one.
fn naive(b: &Norm, y: &mut [f32], [normal, _]: &mut Scratch) {
    let normal = normal.room(b.x.len());
    let count = (b.x.len() / b.channels) as f32;
    for c in 0..b.channels {
        let values = || b.x[c..].iter().step_by(b.channels);
        let mean = values().sum::<f32>() / count;
        let variance = values().map(|x| (x - mean) * (x - mean)).sum::<f32>() / count;
        let scale = b.gamma[c] / (variance + EPSILON).sqrt();
        for (y, x) in normal[c..].iter_mut().step_by(b.channels).zip(values()) {
            *y = (x - mean) * scale + b.beta[c];
        }
    }
    normal.iter_mut().for_each(|y| *y = y.max(0.0));
    pool(b, normal, y);
}

/// y = the largest of each window of x.
#[inline(always)]
fn pool(b: &Norm, x: &[f32], y: &mut [f32]) {
    each_window(
        b,
        x,
        y,
        #[inline(always)]
        |window, y| {
            for (c, y) in y.iter_mut().enumerate() {
                *y = larger(larger(window[0][c], window[1][c]), larger(window[2][c], window[3][c]));
            }
        },
    );
}

/// Calls `work` with the channels of the four pixels of every window of x, and with those of y.
#[inline(always)]
fn each_window(b: &Norm, x: &[f32], y: &mut [f32], work: impl Fn([&[f32]; 4], &mut [f32])) {
    let (row, pixel) = (b.width * b.channels, b.channels);
    let (across, down) = (b.width / 2, b.height / 2);
    for (number, y) in y.chunks_exact_mut(pixel).enumerate() {
        let (image, p, q) = (number / (across * down), number / across % down, number % across);
        let first = (image * b.height + 2 * p) * row + 2 * q * pixel;
        let at = |from: usize| &x[from..][..pixel];
        work([at(first), at(first + pixel), at(first + row), at(first + row + pixel)], y);
    }
}

/// The channels innermost: all of them in one pass, along memory.
fn loop_order(b: &Norm, y: &mut [f32], scratch: &mut Scratch) {
    five_passes(b, y, scratch);
}

#[inline(always)]
fn five_passes(b: &Norm, y: &mut [f32], [normal, vectors]: &mut Scratch) {
    let normal = normal.room(b.x.len());
    let vectors = vectors.room(2 * b.channels);
    let (scale, shift) = vectors.split_at_mut(b.channels);
    moments(&b.x, [scale, shift]);
    to_affine(b, [scale, shift]);
    for (y, x) in normal.chunks_exact_mut(b.channels).zip(b.x.chunks_exact(b.channels)) {
        for (((y, x), scale), shift) in y.iter_mut().zip(x).zip(&*scale).zip(&*shift) {
            *y = x * scale + shift;
        }
    }
    normal.iter_mut().for_each(|y| *y = y.max(0.0));
    pool(b, normal, y);
}

/// Mean and variance of rows of channels, in two passes.
#[inline(always)]
fn moments(x: &[f32], [mean, variance]: [&mut [f32]; 2]) {
    let channels = mean.len();
    let share = channels as f32 / x.len() as f32;
    mean.fill(0.0);
    for row in x.chunks_exact(channels) {
        mean.iter_mut().zip(row).for_each(|(mean, x)| *mean += x);
    }
    mean.iter_mut().for_each(|mean| *mean *= share);
    variance.fill(0.0);
    for row in x.chunks_exact(channels) {
        for ((variance, x), mean) in variance.iter_mut().zip(row).zip(&*mean) {
            *variance += (x - mean) * (x - mean);
        }
    }
    variance.iter_mut().for_each(|variance| *variance *= share);
}

/// Turns mean and variance into the factor and the summand that normalise a channel.
fn to_affine(b: &Norm, [mean, variance]: [&mut [f32]; 2]) {
    for (c, (mean, variance)) in mean.iter_mut().zip(variance).enumerate() {
        let scale = b.gamma[c] / (*variance + EPSILON).sqrt();
        (*mean, *variance) = (scale, b.beta[c] - *mean * scale);
    }
}

/// The same loops, compiled for the vectors that this processor has.
fn vectors(b: &Norm, y: &mut [f32], scratch: &mut Scratch) {
    compiled(
        #[inline(always)]
        || five_passes(b, y, scratch),
    );
}

/// ReLU as a value is normalised: a pass less.
fn relu_fused(b: &Norm, y: &mut [f32], [normal, vectors]: &mut Scratch) {
    compiled(
        #[inline(always)]
        || {
            let normal = normal.room(b.x.len());
            let vectors = vectors.room(2 * b.channels);
            let (scale, shift) = vectors.split_at_mut(b.channels);
            moments(&b.x, [scale, shift]);
            to_affine(b, [scale, shift]);
            normalise(b, [scale, shift], normal);
            pool(b, normal, y);
        },
    );
}

/// `y = max(0, x scale + shift)`.
#[inline(always)]
fn normalise(b: &Norm, [scale, shift]: [&[f32]; 2], y: &mut [f32]) {
    for (y, x) in y.chunks_exact_mut(b.channels).zip(b.x.chunks_exact(b.channels)) {
        for (((y, x), scale), shift) in y.iter_mut().zip(x).zip(scale).zip(shift) {
            *y = (x * scale + shift).max(0.0);
        }
    }
}

/// Rows of a block: 32 KB of 32 channels, which the second pass finds in the L1 cache.
const BLOCK: usize = 256;

/// Mean and variance of a block of rows at a time, both while it is in the cache: x comes from
/// memory once for the two.
fn moments_by_blocks(b: &Norm, y: &mut [f32], [normal, vectors]: &mut Scratch) {
    compiled(
        #[inline(always)]
        || {
            let normal = normal.room(b.x.len());
            let vectors = vectors.room(4 * b.channels);
            let (all, part) = vectors.split_at_mut(2 * b.channels);
            let (mean, variance) = all.split_at_mut(b.channels);
            merged_moments(b, [mean, variance], part);
            to_affine(b, [mean, variance]);
            normalise(b, [mean, variance], normal);
            pool(b, normal, y);
        },
    );
}

#[inline(always)]
fn merged_moments(b: &Norm, [mean, variance]: [&mut [f32]; 2], part: &mut [f32]) {
    let (block_mean, block_variance) = part.split_at_mut(b.channels);
    let mut rows = 0;
    for x in b.x.chunks(BLOCK * b.channels) {
        moments(x, [block_mean, block_variance]);
        rows += x.len() / b.channels;
        merge([mean, variance], [block_mean, block_variance], (x.len() / b.channels) as f32 / rows as f32);
    }
}

/// Adds a part, which is this share of the whole, to mean and variance, by the formula of Chan,
/// Golub and LeVeque (1979): nothing large is subtracted from something large.
#[inline(always)]
fn merge([mean, variance]: [&mut [f32]; 2], [part_mean, part_variance]: [&[f32]; 2], share: f32) {
    for c in 0..mean.len() {
        // What the first part meets is old, or was never written.
        let (m, v) = if share < 1.0 { (mean[c], variance[c]) } else { (0.0, 0.0) };
        let away = part_mean[c] - m;
        mean[c] = m + share * away;
        variance[c] = (1.0 - share) * v + share * (part_variance[c] + (1.0 - share) * away * away);
    }
}

/// The largest of a window as its pixels are normalised: what is normalised is never stored.
fn pooling_fused(b: &Norm, y: &mut [f32], [_, vectors]: &mut Scratch) {
    compiled(
        #[inline(always)]
        || {
            let vectors = vectors.room(4 * b.channels);
            let (all, part) = vectors.split_at_mut(2 * b.channels);
            let (mean, variance) = all.split_at_mut(b.channels);
            merged_moments(b, [mean, variance], part);
            to_affine(b, [mean, variance]);
            normalise_and_pool(b, &b.x, [mean, variance], y);
        },
    );
}

#[inline(always)]
fn normalise_and_pool(b: &Norm, x: &[f32], [scale, shift]: [&[f32]; 2], y: &mut [f32]) {
    each_window(
        b,
        x,
        y,
        #[inline(always)]
        |window, y| {
            for (c, y) in y.iter_mut().enumerate() {
                let value = |x: f32| (x * scale[c] + shift[c]).max(0.0);
                let [first, second, third, fourth] = window.map(|x| value(x[c]));
                *y = larger(larger(first, second), larger(third, fourth));
            }
        },
    );
}

/// Blocks of rows, then images, by whichever core is free; the blocks' moments are merged in order.
fn threads(b: &Norm, y: &mut [f32], [parts, vectors]: &mut Scratch) {
    let (channels, count) = (b.channels, b.x.len() / b.channels);
    let parts = parts.room(count.div_ceil(BLOCK) * 2 * channels);
    let vectors = vectors.room(2 * channels);
    let blocks = parts.chunks_exact_mut(2 * channels).zip(b.x.chunks(BLOCK * channels));
    parallel::for_each(blocks, &mut [], 0, |(part, x), _| {
        compiled(
            #[inline(always)]
            || moments(x, part.split_at_mut(channels).into()),
        );
    });
    let (mean, variance) = vectors.split_at_mut(channels);
    for (number, part) in parts.chunks_exact(2 * channels).enumerate() {
        let rows = count.min((number + 1) * BLOCK);
        let own = rows - number * BLOCK;
        merge([mean, variance], part.split_at(channels).into(), own as f32 / rows as f32);
    }
    to_affine(b, [mean, variance]);
    let affine = [&*mean, &*variance];
    let images = y.chunks_exact_mut(y.len() / b.images).zip(b.x.chunks_exact(b.x.len() / b.images));
    parallel::for_each(images, &mut [], 0, |(y, x), _| {
        compiled(
            #[inline(always)]
            || normalise_and_pool(b, x, affine, y),
        );
    });
}
