//! The ladder of the loss: `mean of -log softmax(z)[label]` over rows of logits.

use std::rc::Rc;

use cifar_engine::kernels::parallel;
use cifar_engine::kernels::real::Real;
use cifar_engine::ops::loss::softmax_cross_entropy::SoftmaxCrossEntropy;
use cifar_engine::tensor::TensorType;

use super::engine::{Chain, Input};
use super::{Floats, Ladder, Scratch, Work, compiled, functions, larger, noise};

struct Loss {
    classes: usize,
    /// `[N, C]`.
    logits: Floats,
    labels: Vec<u32>,
}

/// A batch of 1024 images of ImageNet's 1000 classes: 4 MB.
pub fn timed() -> Ladder {
    ladder(1024, 1000)
}

pub fn odd() -> Vec<Ladder> {
    vec![ladder(1, 2), ladder(5, 10), ladder(37, 53)]
}

fn ladder(rows: usize, classes: usize) -> Ladder {
    let logits = noise(rows * classes, 1).iter().map(|z| 8.0 * z).collect();
    let labels: Vec<u32> = (0..rows).map(|row| (row * 7 % classes) as u32).collect();
    let loss = Loss { classes, logits, labels };
    let words = Input { ty: TensorType::u32([rows]), words: loss.labels.clone() };
    let op = SoftmaxCrossEntropy { smoothing: 0.0 };
    let engine = Chain::of(op, vec![Input::floats(&[rows, classes], &loss.logits), words]);
    let mut rungs = functions(&Rc::new(loss), 1, RUNGS);
    rungs.push(engine.on_cpu("engine"));
    Ladder {
        title: format!("cross_entropy: {rows} rows of {classes} classes"),
        cost: engine.cost(),
        exact: Box::new(move || engine.exact()),
        tolerance: 1e-6,
        rungs,
    }
}

const RUNGS: &[(&str, Work<Loss>)] =
    &[("naive", naive), ("log-sum-exp", log_sum_exp), ("vectors", vectors), ("threads", threads)];

/// The formula: the softmax of every row in memory, then the logarithm of what stands at the label.
/// The largest logit is taken out, so that no power is infinite.
fn naive(l: &Loss, y: &mut [f32], [softmax, _]: &mut Scratch) {
    let softmax = softmax.room(l.logits.len());
    for (p, z) in softmax.chunks_exact_mut(l.classes).zip(l.logits.chunks_exact(l.classes)) {
        let largest = z.iter().copied().fold(f32::NEG_INFINITY, larger);
        for (p, z) in p.iter_mut().zip(z) {
            *p = (z - largest).exp();
        }
        let total: f32 = p.iter().sum();
        p.iter_mut().for_each(|p| *p /= total);
    }
    let rows = softmax.chunks_exact(l.classes).zip(&l.labels);
    y[0] = mean(rows.map(|(p, &label)| -p[label as usize].ln()));
}

/// Of numbers by the thousand, in f64.
fn mean(losses: impl ExactSizeIterator<Item = f32>) -> f32 {
    let count = losses.len() as f64;
    (losses.map(f64::from).sum::<f64>() / count) as f32
}

/// `log(sum of exp(z)) - z[label]`, which is the same: no softmax, no division, nothing to store.
fn log_sum_exp(l: &Loss, y: &mut [f32], _: &mut Scratch) {
    let rows = l.logits.chunks_exact(l.classes).zip(&l.labels);
    y[0] = mean(rows.map(|(z, &label)| {
        let largest = z.iter().copied().fold(f32::NEG_INFINITY, larger);
        let total: f32 = z.iter().map(|z| (z - largest).exp()).sum();
        total.ln() + largest - z[label as usize]
    }));
}

/// An exponential function that is a polynomial instead of a call, and a sum and a largest that do
/// not wait for each element before: all three become vectors.
fn vectors(l: &Loss, y: &mut [f32], [losses, powers]: &mut Scratch) {
    let losses = losses.room(l.labels.len());
    let powers = powers.room(l.classes);
    row_losses(&l.logits, &l.labels, powers, losses);
    y[0] = mean(losses.iter().copied());
}

/// The losses of some rows; `powers` has room for those of a row.
fn row_losses(logits: &[f32], labels: &[u32], powers: &mut [f32], losses: &mut [f32]) {
    compiled(
        #[inline(always)]
        || {
            for ((loss, z), label) in losses.iter_mut().zip(logits.chunks_exact(powers.len())).zip(labels) {
                let largest = by_lanes(z, f32::NEG_INFINITY, larger);
                for (power, z) in powers.iter_mut().zip(z) {
                    *power = Real::exp(z - largest);
                }
                let total = by_lanes(
                    powers,
                    0.0,
                    #[inline(always)]
                    |sum, power| sum + power,
                );
                *loss = total.ln() + largest - z[*label as usize];
            }
        },
    );
}

/// So many elements are joined side by side.
const LANES: usize = 16;

/// Joins all elements, every 64th with each other first.
#[inline(always)]
fn by_lanes(x: &[f32], empty: f32, join: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [empty; LANES];
    for x in x.chunks(LANES) {
        for (lane, x) in lanes.iter_mut().zip(x) {
            *lane = join(*lane, *x);
        }
    }
    lanes.into_iter().fold(empty, join)
}

/// Rows that a thread takes at a time.
const SHARE: usize = 32;

/// Rows are shared out between the cores; their losses are added in order.
fn threads(l: &Loss, y: &mut [f32], [losses, powers]: &mut Scratch) {
    let losses = losses.room(l.labels.len());
    let powers = powers.room(parallel::workers() * l.classes);
    let shares = losses.chunks_mut(SHARE).zip(l.logits.chunks(SHARE * l.classes)).zip(l.labels.chunks(SHARE));
    parallel::for_each(shares, powers, l.classes, |((losses, z), labels), powers| {
        row_losses(z, labels, powers, losses);
    });
    y[0] = mean(losses.iter().copied());
}
