//! Cross-entropy of a softmax with integer labels and label smoothing s (Szegedy et al. 2016),
//! averaged over the rows whose label is not [`IGNORE`]:
//!
//! `loss = mean of -sum over c  t[c] log softmax(z)[c]`, with `t = (1 - s) onehot(label) + s / C`
//!
//! An image that is made of two has the labels of both: `onehot(label)` is then
//! `share onehot(label) + (1 - share) onehot(other)`.
//!
//! Where classes have weights, a row counts by that of its label: it multiplies the row's loss, of
//! two labels each the part of its own. The mean is over the rows, not over their weights.

use super::softmax_cross_entropy_grad::SoftmaxCrossEntropyGrad;
use crate::ops::cpu_step::CpuArgs;
use crate::ops::*;
use ndarray::{Array1, Array2, ArrayView2, Ix1};

/// The label of a row that does not count: padding of a last, incomplete batch.
pub const IGNORE: u32 = u32::MAX;

/// Inputs: logits z `[N, C]`, labels `u32 [N]`, for images made of two, the other labels
/// `u32 [N]` and the shares of the first `[N]`, and where classes have weights, these `[C]`.
/// Outputs: the loss `[1]`, and `[3]`: the loss summed
/// over rows, how many rows have their largest logit (the first of equals) at the label, of two at
/// that of the larger share, how many count.
#[derive(Clone, Copy, Debug)]
pub struct SoftmaxCrossEntropy {
    /// In [0, 1).
    pub smoothing: f32,
}

/// The shape rule shared with the gradient, for logits, labels, and others and shares if there are
/// any.
pub(crate) fn check(inputs: &[&TensorType]) -> std::result::Result<(), String> {
    let &[rows, classes] = inputs[0].dims() else {
        return Err("logits must be [N, C]".into());
    };
    let labels = TensorType::u32([rows]);
    require(rows > 0 && classes > 0 && inputs[1] == &labels, "labels must be u32[N], one a row")?;
    let Extras { pairs, weights } = Extras::of(inputs.len() - 2);
    let fit = weights.is_none_or(|place| inputs[2 + place] == &TensorType::f32([classes]));
    require(fit, "weights must be f32[C], one a class")?;
    match inputs[2..] {
        [others, shares, ..] if pairs => require(
            others == &labels && shares == &TensorType::f32([rows]),
            "others must be u32[N] and shares f32[N], one a row",
        ),
        [] | [_] => Ok(()),
        _ => Err("others and shares go together".into()),
    }
}

/// The inputs behind logits and labels.
#[derive(Clone, Copy)]
pub(crate) struct Extras {
    /// Whether rows have two labels.
    pub pairs: bool,
    /// The place of the classes' weights among these inputs.
    pub weights: Option<usize>,
}

impl Extras {
    /// Other labels, shares and weights; empty where there are none. The labels are input `labels`.
    pub fn inputs<'a>(self, args: &CpuArgs<'a>, labels: usize) -> (&'a [u32], &'a [f32], &'a [f32]) {
        let (others, shares) = match self.pairs {
            true => (args.input_u32(labels + 1), args.inputs[labels + 2]),
            false => (&[][..], &[][..]),
        };
        (others, shares, self.weights.map_or(&[], |place| args.inputs[labels + 1 + place]))
    }

    /// Of so many inputs behind the labels.
    pub fn of(count: usize) -> Extras {
        Extras { pairs: count == 2 || count == 3, weights: (count % 2 == 1).then(|| count - 1) }
    }

    /// The places of others, shares and weights for a shader whose labels are input `labels`; for
    /// one that is not there, and not read, that of the labels or the logits.
    pub fn places(self, labels: usize) -> [usize; 3] {
        let [others, shares] = if self.pairs { [labels + 1, labels + 2] } else { [labels, labels - 1] };
        [others, shares, self.weights.map_or(labels - 1, |place| labels + 1 + place)]
    }
}

/// The weight of a class, where classes have some.
pub(crate) fn weight(weights: &[f32], class: u32) -> f32 {
    weights.get(class as usize).copied().unwrap_or(1.0)
}

/// The labels of a row, and the share of the first; where images are not made of two, its label
/// twice.
pub(crate) fn targets<'a>(
    labels: &'a [u32],
    others: &'a [u32],
    shares: &'a [f32],
) -> impl Iterator<Item = ([u32; 2], f32)> + 'a {
    let pair = |(row, &label): (usize, &u32)| {
        let share = shares.get(row).copied().unwrap_or(1.0);
        ([label, others.get(row).copied().unwrap_or(label)], share)
    };
    labels.iter().enumerate().map(pair)
}

/// The constants of the shaders of both passes, and their workgroups.
pub(crate) fn softmax(
    logits: &TensorType,
    smoothing: f32,
    extras: Extras,
) -> (Vec<(&'static str, f64)>, [u32; 3]) {
    let classes = logits.shape.last();
    let rows = logits.len() / classes;
    // So many invocations share a row.
    let lanes = classes.next_power_of_two().min(GROUP);
    let named = [("ROWS", rows), ("CLASSES", classes), ("LANES", lanes)];
    let mut constants = named.map(|(name, value)| (name, value as f64)).to_vec();
    let (mixed, weighted) = (f64::from(extras.pairs), f64::from(extras.weights.is_some()));
    constants.extend([("SMOOTHING", f64::from(smoothing)), ("MIXED", mixed), ("WEIGHTED", weighted)]);
    (constants, [rows.div_ceil(GROUP / lanes) as u32, 1, 1])
}

/// The targets of a loss, as its references know them.
pub(crate) struct Targets {
    labels: Array1<f64>,
    others: Array1<f64>,
    /// Shares of the labels, 0 to 1, `[N]`.
    shares: Array1<f64>,
    /// Of the classes; none where all count alike.
    weights: Option<Array1<f64>>,
}

impl Targets {
    /// Targets from the inputs behind the logits; where images are not made of two, each label
    /// counts twice.
    pub fn new(inputs: &[ArrayViewD<f64>]) -> Targets {
        let Extras { pairs, weights } = Extras::of(inputs.len() - 1);
        let vector = |place: usize| view::<Ix1>(&inputs[place]).to_owned();
        let labels = vector(0);
        let (others, shares) = match pairs {
            true => (vector(1), vector(2)),
            false => (labels.clone(), Array1::ones(labels.len())),
        };
        Targets { labels, others, shares, weights: weights.map(|place| vector(1 + place)) }
    }

    /// The weight of a row's label, by its share, and of its other one.
    fn weights(&self, n: usize) -> [f64; 2] {
        let of = |label: f64| {
            self.weights.as_ref().map_or(1.0, |weights| weights.get(label as usize).copied().unwrap_or(1.0))
        };
        [self.shares[n] * of(self.labels[n]), (1.0 - self.shares[n]) * of(self.others[n])]
    }

    /// What a row counts, `[N]`.
    pub fn row_weights(&self) -> Array1<f64> {
        (0..self.labels.len()).map(|n| self.weights(n).iter().sum()).collect()
    }

    /// 1 for each row that counts, else 0.
    pub fn counts(&self) -> Array1<f64> {
        self.labels.mapv(|label| f64::from(label != f64::from(IGNORE)))
    }

    /// The label of the larger share.
    fn main(&self, n: usize) -> f64 {
        if self.shares[n] < 0.5 { self.others[n] } else { self.labels[n] }
    }

    /// t of the formula, times the weights of the classes, `[N, C]`.
    pub fn t(&self, classes: usize, smoothing: f32) -> Array2<f64> {
        let s = f64::from(smoothing);
        Array2::from_shape_fn([self.labels.len(), classes], |(n, c)| {
            let onehot = |label: f64| f64::from(c as f64 == label);
            let [own, other] = self.weights(n);
            let both = own * onehot(self.labels[n]) + other * onehot(self.others[n]);
            (1.0 - s) * both + (own + other) * s / classes as f64
        })
    }
}

/// The softmax of every row, `[N, C]`.
pub(crate) fn softmax_of(z: &ArrayView2<f64>) -> Array2<f64> {
    let powers = z.exp();
    let totals = powers.sum_axis(ndarray::Axis(1)).insert_axis(ndarray::Axis(1));
    powers / totals
}

impl Op for SoftmaxCrossEntropy {
    fn name(&self) -> &'static str {
        "softmax_cross_entropy"
    }

    fn output_types(&self, inputs: &[&TensorType]) -> Inferred {
        require(inputs.len() >= 2, "takes logits and labels")?;
        check(inputs)?;
        Ok(vec![TensorType::f32([1]), TensorType::f32([3])])
    }

    fn gradient(&self, graph: &mut Graph, node: &Node, grads: &[Option<Value>], _: &[bool]) -> Gradients {
        let [Some(dloss), None] = grads[..] else {
            return Err(Error::op(
                format!("softmax_cross_entropy '{}'", node.layer),
                "only the loss has a gradient",
            ));
        };
        let op = SoftmaxCrossEntropyGrad { smoothing: self.smoothing };
        let dz = graph.apply1(op, &[&[dloss], &node.inputs[..]].concat())?;
        Ok([vec![Some(dz)], vec![None; node.inputs.len() - 1]].concat())
    }

    fn cpu(&self, types: &Types, _: CpuTarget) -> CpuStep {
        let (classes, smoothing) = (types.inputs[0].shape.last(), f64::from(self.smoothing));
        let extras = Extras::of(types.inputs.len() - 2);
        CpuStep::new(move |args| {
            let (logits, labels) = (args.inputs[0], args.input_u32(1));
            let (others, shares, weights) = extras.inputs(args, 1);
            let ([loss, totals], _) = args.outputs();
            let rows = logits.chunks_exact(classes).zip(targets(labels, others, shares));
            // A few thousand logits: one thread, in f64.
            let (mut sum, mut correct, mut count) = (0.0f64, 0u32, 0u32);
            for (z, ([label, other], share)) in rows.filter(|(_, (labels, _))| labels[0] != IGNORE) {
                let share = f64::from(share);
                let row_loss =
                    |label: u32| f64::from(weight(weights, label)) * row_loss(z, label as usize, smoothing);
                sum += share * row_loss(label);
                if share < 1.0 {
                    sum += (1.0 - share) * row_loss(other);
                }
                let main = if share < 0.5 { other } else { label };
                correct += u32::from(first_largest(z) == main as usize);
                count += 1;
            }
            loss[0] = (sum / f64::from(count)) as f32;
            totals.copy_from_slice(&[sum as f32, correct as f32, count as f32]);
        })
    }

    fn gpu(&self, types: &Types) -> Dispatches {
        use Operand::{Input, Output, Scratch};
        let rows = types.inputs[1].len();
        let extras = Extras::of(types.inputs.len() - 2);
        let (constants, groups) = softmax(&types.inputs[0], self.smoothing, extras);
        let [others, shares, weights] = extras.places(1);
        let stage = |entry, bindings, groups| Dispatch {
            shader: shader!("softmax_cross_entropy"),
            entry,
            constants: constants.clone(),
            bindings,
            groups,
        };
        let list = vec![
            stage(
                "main",
                vec![Input(0), Input(1), Input(others), Input(shares), Scratch(0), Input(weights)],
                groups,
            ),
            stage("total", vec![Scratch(0), Output(0), Output(1)], [1; 3]),
        ];
        Dispatches { scratch: vec![4 * rows], list }
    }

    fn reference(&self, inputs: &[ArrayViewD<f64>]) -> Vec<ArrayD<f64>> {
        let z = view::<Ix2>(&inputs[0]);
        let targets = Targets::new(&inputs[1..]);
        let counts = targets.counts();
        let log_p = softmax_of(&z).ln();
        let loss =
            (-(targets.t(z.ncols(), self.smoothing) * log_p).sum_axis(ndarray::Axis(1)) * &counts).sum();
        let right = |n: usize| {
            let largest = z.row(n).fold(f64::NEG_INFINITY, |a, &b| a.max(b));
            let found = z.row(n).iter().position(|z| *z == largest);
            counts[n] * f64::from(found == Some(targets.main(n) as usize))
        };
        let correct = (0..counts.len()).map(right).sum();
        vec![vector([loss / counts.sum()]), vector([loss, correct, counts.sum()])]
    }
}

/// `-sum t log softmax(z)`; the largest logit is taken out first, so that no exponential overflows.
fn row_loss(z: &[f32], label: usize, smoothing: f64) -> f64 {
    let largest = z.iter().fold(f32::NEG_INFINITY, |a, &b| a.max(b));
    let total: f64 = z.iter().map(|z| f64::from(z - largest).exp()).sum();
    let log = |z: f32| f64::from(z - largest) - total.ln();
    let mean = z.iter().map(|&z| log(z)).sum::<f64>() / z.len() as f64;
    // A label outside the classes (a broken data set) must show: the loss becomes NaN.
    let own = z.get(label).map_or(f64::NAN, |&z| log(z));
    -((1.0 - smoothing) * own + if smoothing > 0.0 { smoothing * mean } else { 0.0 })
}

/// The index of the largest element, the first of equals.
pub fn first_largest<'a>(z: impl IntoIterator<Item = &'a f32>) -> usize {
    let largest = z.into_iter().enumerate().reduce(|best, next| if next.1 > best.1 { next } else { best });
    largest.map_or(0, |(place, _)| place)
}
