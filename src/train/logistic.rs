//! The classifier that suits features best: logistic regression, found at once instead of in small
//! steps.
//!
//! Over features that are centred and scaled to a mean square of 1 an image, it minimises
//!
//! `mean cross-entropy + penalty / 2 |weights|^2`
//!
//! A plan on the device computes loss and gradient, `minimise` chooses where. How much to hold the
//! weights back is not known before: of several penalties the one is taken that does best on
//! images that were held out.

use std::collections::VecDeque;

use super::features::Features;
use super::plans::{self, Totals};
use crate::error::{Error, Result};
use crate::exec::{Device, PlanId};
use crate::ops::loss::softmax_cross_entropy::IGNORE;

/// Penalties to choose from, for a single image; more of them outweigh it. The strongest comes
/// first: the way to each is short from the one before.
const PENALTIES: [f64; 7] = [25.0, 5.0, 1.0, 0.2, 0.04, 0.008, 0.0016];

/// Every image is held out once, among so many parts; where there are more than [`FEW`], one part
/// of them is enough.
const PARTS: usize = 4;
const FEW: usize = 2000;

/// Weights `[depth, classes]` and bias `[classes]` of a classifier.
#[derive(Clone, Debug, PartialEq)]
pub struct Classifier {
    /// `[depth, classes]`, row-major.
    pub weight: Vec<f32>,
    /// `[classes]`.
    pub bias: Vec<f32>,
}

/// The classifier for these features, in whose loss classes have these weights, if any.
///
/// # Errors
/// If the device fails, or `keep_going` says no: [`Error::Interrupted`].
pub fn fit(
    device: &mut dyn Device,
    features: &Features,
    classes: usize,
    class_weights: &[f32],
    keep_going: &dyn Fn() -> bool,
) -> Result<Classifier> {
    let dims = (features.shape().len(), classes);
    fit_rows(device, features.rows()?, features.labels(), dims, class_weights, keep_going)
}

/// [`fit`] for `rows` `[copies, images, depth]` of images with these labels.
fn fit_rows(
    device: &mut dyn Device,
    mut rows: Vec<f32>,
    images: &[u32],
    (depth, classes): (usize, usize),
    class_weights: &[f32],
    keep_going: &dyn Fn() -> bool,
) -> Result<Classifier> {
    let scale = Standardisation::of(&rows, depth);
    scale.apply(&mut rows);
    let count = rows.len() / depth;
    let weighted = !class_weights.is_empty();
    let plan = device.load(&plans::classifier_loss([count, depth], classes, weighted)?)?;
    if weighted {
        device.write(plan, plans::CLASS_WEIGHTS, class_weights.into())?;
    }
    device.write(plan, "features", rows.as_slice().into())?;
    drop(rows);
    device.write(plan, "loss_gradient", [1.0f32].as_slice().into())?;
    let labels = images.repeat(count / images.len());
    let start = vec![0.0; (depth + 1) * classes];
    let mut problem = Problem { device, plan, depth, penalty: 0.0, keep_going };
    let best = problem.choose(&labels, images.len(), &start)?;
    problem.device.write(plan, "labels", labels.as_slice().into())?;
    problem.penalty = best;
    let found = minimise(start, |at| problem.loss(at))?;
    device.unload(plan)?;
    Ok(scale.undo(&found, classes))
}

/// Standardisation of features.
struct Standardisation {
    mean: Vec<f64>,
    factor: f64,
}

impl Standardisation {
    /// Takes away the mean of `rows`, and makes their mean square 1.
    fn of(rows: &[f32], depth: usize) -> Standardisation {
        let count = (rows.len() / depth) as f64;
        let mut mean = vec![0.0; depth];
        for row in rows.chunks_exact(depth) {
            mean.iter_mut().zip(row).for_each(|(sum, &x)| *sum += f64::from(x) / count);
        }
        let distance =
            |row: &[f32]| row.iter().zip(&mean).map(|(&x, m)| (f64::from(x) - m).powi(2)).sum::<f64>();
        let square = rows.chunks_exact(depth).map(distance).sum::<f64>() / count;
        Standardisation { mean, factor: if square > 0.0 { 1.0 / square.sqrt() } else { 1.0 } }
    }

    fn apply(&self, rows: &mut [f32]) {
        for row in rows.chunks_exact_mut(self.mean.len()) {
            row.iter_mut().zip(&self.mean).for_each(|(x, m)| *x = ((f64::from(*x) - m) * self.factor) as f32);
        }
    }

    /// The classifier of the features as they were, from that of the scaled ones: its weights, then
    /// its biases.
    fn undo(&self, found: &[f64], classes: usize) -> Classifier {
        let (weight, bias) = found.split_at(self.mean.len() * classes);
        let weight: Vec<f64> = weight.iter().map(|w| w * self.factor).collect();
        let mut bias = bias.to_vec();
        for (row, mean) in weight.chunks_exact(classes).zip(&self.mean) {
            bias.iter_mut().zip(row).for_each(|(b, w)| *b -= w * mean);
        }
        let single = |values: &[f64]| values.iter().map(|&value| value as f32).collect();
        Classifier { weight: single(&weight), bias: single(&bias) }
    }
}

/// The loss of a classifier on a device.
struct Problem<'a> {
    device: &'a mut dyn Device,
    plan: PlanId,
    depth: usize,
    penalty: f64,
    keep_going: &'a dyn Fn() -> bool,
}

impl Problem<'_> {
    /// The penalty that does best on what is held out.
    fn choose(&mut self, labels: &[u32], images: usize, start: &[f64]) -> Result<f64> {
        let mut folds = folds(labels, images, start);
        let mut losses: Vec<f64> = Vec::new();
        for penalty in PENALTIES {
            let mut loss = 0.0;
            for Fold { others, held, at } in &mut folds {
                self.penalty = penalty / images as f64;
                self.device.write(self.plan, "labels", others.as_slice().into())?;
                *at = minimise(std::mem::take(at), |at| self.loss(at))?;
                self.device.write(self.plan, "labels", held.as_slice().into())?;
                self.penalty = 0.0;
                loss += self.loss(at)?.0;
            }
            losses.push(loss);
            // The weaker the penalty, the longer the way, and the worse from here on.
            if rises_twice(&losses) {
                break;
            }
        }
        let best = (0..losses.len()).min_by(|&a, &b| losses[a].total_cmp(&losses[b])).unwrap_or(0);
        Ok(PENALTIES[best] / images as f64)
    }

    /// Loss and gradient.
    fn loss(&mut self, at: &[f64]) -> Result<(f64, Vec<f64>)> {
        if !(self.keep_going)() {
            return Err(Error::Interrupted);
        }
        let single: Vec<f32> = at.iter().map(|&value| value as f32).collect();
        let classes = at.len() / (self.depth + 1);
        let (weight, bias) = single.split_at(self.depth * classes);
        self.device.write(self.plan, "weight", weight.into())?;
        self.device.write(self.plan, "bias", bias.into())?;
        self.device.run(self.plan)?;
        let totals = Totals::from(self.device.read(self.plan, "totals")?.as_slice());
        let mut gradient = self.device.read(self.plan, "weight_gradient")?;
        gradient.extend(self.device.read(self.plan, "bias_gradient")?);
        let mut gradient: Vec<f64> = gradient.into_iter().map(f64::from).collect();
        let weights = &at[..self.depth * classes];
        gradient.iter_mut().zip(weights).for_each(|(g, w)| *g += self.penalty * w);
        Ok((totals.mean_loss() + 0.5 * self.penalty * dot(weights, weights), gradient))
    }
}

/// A part of the images that is held out, and the classifier of the others.
struct Fold {
    /// Labels of all rows, of which those that are held out have none.
    others: Vec<u32>,
    /// Those that are held out only.
    held: Vec<u32>,
    /// Weights and biases.
    at: Vec<f64>,
}

/// The parts that take turns in being held out, but for those that leave nothing on either side.
fn folds(labels: &[u32], images: usize, start: &[f64]) -> Vec<Fold> {
    let parts = parts(&labels[..images]);
    let keep = |wanted: &dyn Fn(usize) -> bool| -> Vec<u32> {
        let label = |(row, &label)| if wanted(parts[row % images]) { label } else { IGNORE };
        labels.iter().enumerate().map(label).collect()
    };
    let fold =
        |part| Fold { others: keep(&|of| of != part), held: keep(&|of| of == part), at: start.to_vec() };
    let known = |labels: &[u32]| labels.iter().any(|label| *label != IGNORE);
    let folds = (0..if images <= FEW { PARTS } else { 1 }).map(fold);
    folds.filter(|fold| known(&fold.others) && known(&fold.held)).collect()
}

/// Whether each of the last two is larger than the one before.
fn rises_twice(losses: &[f64]) -> bool {
    losses.last_chunk::<3>().is_some_and(|[a, b, c]| a < b && b < c)
}

/// For each image, in which part it is held out: those of a class take turns.
fn parts(labels: &[u32]) -> Vec<usize> {
    let mut seen = std::collections::HashMap::new();
    let turn = |&label: &u32| {
        let count = seen.entry(label).or_insert(0);
        *count += 1;
        (*count - 1) % PARTS
    };
    labels.iter().map(turn).collect()
}

/// Steps at most, and how many of the last ones are remembered.
const STEPS: usize = 200;
const MEMORY: usize = 10;
/// It is at the lowest point where the gradient's norm is below this; f32 sums are not more exact
/// by much.
const FLAT: f64 = 1e-4;

/// Goes from `at` to where a convex function is lowest, by L-BFGS (Liu and Nocedal 1989): the last
/// steps and the changes of the gradient over them stand in for the second derivative.
fn minimise(mut at: Vec<f64>, mut f: impl FnMut(&[f64]) -> Result<(f64, Vec<f64>)>) -> Result<Vec<f64>> {
    let (mut value, mut gradient) = f(&at)?;
    let mut memory: VecDeque<(Vec<f64>, Vec<f64>)> = VecDeque::new();
    for _ in 0..STEPS {
        if dot(&gradient, &gradient).sqrt() < FLAT {
            break;
        }
        let direction = newton_like(&memory, &gradient);
        let slope = dot(&direction, &gradient);
        // Halved until the value falls by a part of what the slope promises (Armijo 1966).
        let mut next = None;
        for halvings in 0..30 {
            let length = 0.5f64.powi(halvings);
            let there: Vec<f64> = at.iter().zip(&direction).map(|(x, d)| x + length * d).collect();
            let (lower, new) = f(&there)?;
            if lower <= value + 1e-4 * length * slope {
                next = Some((there, lower, new));
                break;
            }
        }
        // Rounding hides what is left.
        let Some((there, lower, new)) = next else { break };
        let step = difference(&there, &at);
        let change = difference(&new, &gradient);
        if dot(&step, &change) > 0.0 {
            memory.push_back((step, change));
            memory.drain(..memory.len().saturating_sub(MEMORY));
        }
        (at, value, gradient) = (there, lower, new);
    }
    Ok(at)
}

/// The direction that is Newton's for a second derivative as the memory suggests.
fn newton_like(memory: &VecDeque<(Vec<f64>, Vec<f64>)>, gradient: &[f64]) -> Vec<f64> {
    let mut direction: Vec<f64> = gradient.iter().map(|g| -g).collect();
    let mut shares = Vec::new();
    for (step, change) in memory.iter().rev() {
        let share = dot(step, &direction) / dot(step, change);
        add(&mut direction, -share, change);
        shares.push(share);
    }
    // The first step has a length of one at most.
    let size = match memory.back() {
        Some((step, change)) => dot(step, change) / dot(change, change),
        None => 1.0 / dot(gradient, gradient).sqrt().max(1.0),
    };
    direction.iter_mut().for_each(|d| *d *= size);
    for ((step, change), share) in memory.iter().zip(shares.into_iter().rev()) {
        let back = dot(change, &direction) / dot(step, change);
        add(&mut direction, share - back, step);
    }
    direction
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn add(to: &mut [f64], factor: f64, what: &[f64]) {
    to.iter_mut().zip(what).for_each(|(to, what)| *to += factor * what);
}

fn difference(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a - b).collect()
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;

    use super::*;
    use crate::exec::cpu::Cpu;
    use crate::kernels::rng::{self, Stream};
    use crate::kernels::simd::Isa;
    use crate::train::evaluate::Evaluation;

    #[test]
    fn the_lowest_point_is_found() {
        // A narrow valley: curvatures from 1 to 10^4.
        let f = |x: &[f64]| {
            let curvature = |i: usize| 10f64.powf(4.0 * i as f64 / 9.0);
            let value = x.iter().enumerate().map(|(i, x)| 0.5 * curvature(i) * (x - 1.0).powi(2)).sum();
            Ok((value, x.iter().enumerate().map(|(i, x)| curvature(i) * (x - 1.0)).collect()))
        };
        let found = minimise(vec![0.0; 10], f).unwrap();
        assert!(found.iter().all(|x| (x - 1.0).abs() < 1e-3), "{found:?}");
    }

    /// Features that tell nothing: what is learnt from them must not be believed.
    #[test]
    fn chance_is_not_learnt() {
        let (depth, classes, count) = (64, 3, 60);
        let labels: Vec<u32> = (0..count as u32).map(|i| i % classes as u32).collect();
        let noise = |place: u32| -> Vec<f32> {
            let value = |i: u32| rng::unit(rng::draw(7, Stream::Init, place, i)[0]) - 0.5;
            (0..(count * depth) as u32).map(value).collect()
        };
        let mut device = Cpu::new(1, Isa::detect()).unwrap();
        let found = fit_rows(&mut device, noise(0), &labels, (depth, classes), &[], &|| true).unwrap();
        let logits: Vec<f32> = noise(1).chunks(depth).flat_map(|row| scores(&found, row)).collect();
        let logits = Array2::from_shape_vec([count, classes], logits).unwrap();
        let loss = Evaluation::of(logits, &labels).loss;
        assert!(loss < 3f64.ln() + 0.02, "{loss}");
    }

    fn scores(classifier: &Classifier, row: &[f32]) -> Vec<f32> {
        let mut scores = classifier.bias.clone();
        for (x, weights) in row.iter().zip(classifier.weight.chunks(scores.len())) {
            scores.iter_mut().zip(weights).for_each(|(score, w)| *score += x * w);
        }
        scores
    }

    #[test]
    fn what_got_worse_twice_is_not_gone_on_with() {
        assert!(rises_twice(&[3.0, 1.0, 2.0, 3.0]));
        for losses in [&[1.0, 2.0][..], &[1.0, 2.0, 1.5], &[2.0, 1.0, 1.0, 2.0], &[0.0; 3]] {
            assert!(!rises_twice(losses), "{losses:?}");
        }
    }

    #[test]
    fn images_of_a_class_take_turns() {
        assert_eq!(parts(&[0, 0, 1, 0, 0, 0, 1]), [0, 1, 0, 2, 3, 0, 1]);
    }

    #[test]
    fn scaling_is_undone() {
        let rows = [1.0f32, 4.0, 3.0, 2.0, 5.0, 0.0];
        let scale = Standardisation::of(&rows, 2);
        let mut scaled = rows;
        scale.apply(&mut scaled);
        let square = scaled.iter().map(|x| x * x).sum::<f32>() / 3.0;
        assert!((square - 1.0).abs() < 1e-6 && scaled.iter().sum::<f32>().abs() < 1e-6, "{scaled:?}");
        let found = [0.5, -1.0, 0.25, 2.0, 0.125, -0.5];
        let Classifier { weight, bias } = scale.undo(&found, 2);
        let logits = |row: &[f32], w: &dyn Fn(usize) -> f32, b: &dyn Fn(usize) -> f32| {
            [0, 1].map(|c| row[0] * w(c) + row[1] * w(2 + c) + b(c))
        };
        for (before, after) in rows.chunks(2).zip(scaled.chunks(2)) {
            let plain = logits(before, &|i| weight[i], &|c| bias[c]);
            let other = logits(after, &|i| found[i] as f32, &|c| found[4 + c] as f32);
            assert!(plain.iter().zip(other).all(|(a, b)| (a - b).abs() < 1e-5), "{plain:?} {other:?}");
        }
    }
}
