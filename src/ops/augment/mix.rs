//! Two images for one: each image of a batch is joined with another one of it, and the labels of both
//! count by their shares, which are drawn from a Beta distribution.

use std::sync::Arc;

use super::super::case::{Case, Fill};
use super::super::softmax_cross_entropy::IGNORE;
use super::super::*;
use super::{Act, Augmentation, Value, draw};
use crate::kernels::parallel;
use crate::kernels::rng::{self, Stream};

/// Mixup (Zhang et al. 2017): `share x + (1 - share) x'`.
pub const MIXUP: Augmentation = Augmentation {
    name: "mixup",
    value: Value::UpTo(MOST_ALPHA),
    about: "blends it with another one of the batch, in shares of Beta(A, A) for A as given; both labels count by them",
    act: Act::Mix(|alpha, images| Arc::new(Mix { size: images.size, alpha, seed: images.seed })),
    conflict: |_| None,
};

/// Beyond this all shares are next to 1/2.
const MOST_ALPHA: f32 = 10.0;

/// Inputs: x `[N, size, size, 3]`, labels `u32 [N]`, step `u32 [1]`. Outputs: the joint images, of
/// x's shape; the labels of the other images `u32 [N]`; the shares of the own ones `[N]`. An image
/// without a label, or whose partner has none, stays as it is.
#[derive(Clone, Copy, Debug)]
pub struct Mix {
    /// Side of an image in pixels.
    pub size: usize,
    /// Both parameters of the Beta distribution.
    pub alpha: f32,
    /// Of the training.
    pub seed: u32,
}

/// What an image is joined with, and how.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Pair {
    other: usize,
    /// Of the own label.
    share: f32,
}

/// A number of Beta(alpha, alpha), from two that are uniform: it is `(1 + t / sqrt(2 alpha + t²)) / 2`
/// for t of Student's distribution with `2 alpha` degrees of freedom, which Bailey's formula (1994)
/// gives. Nothing is rejected, so that another rounding is another last digit.
fn beta(alpha: f32, [first, second]: [u32; 2]) -> f32 {
    // Never 0.
    let [first, second] = [first, second].map(|bits| rng::unit(bits) + 0.5 / 16_777_216.0);
    let w = first.powf(1.0 / alpha);
    let sine = quarter_sine(second);
    let squared = (1.0 - w) * sine * sine;
    (squared / (w + squared)).sqrt()
}

/// The sine of so much of a right angle, by its series: the same on every device.
fn quarter_sine(part: f32) -> f32 {
    let z = part * std::f32::consts::FRAC_PI_2;
    let s = z * z;
    z * (1.0 - s / 6.0 * (1.0 - s / 20.0 * (1.0 - s / 42.0 * (1.0 - s / 72.0 * (1.0 - s / 110.0)))))
}

impl Mix {
    fn pair(&self, step: u32, place: usize, labels: &[u32]) -> Pair {
        let batch = labels.len();
        // The same distance for the whole batch: everyone is the partner of one.
        let distance = 1 + rng::below(draw(self.seed, step, 0, 5)[0], (batch as u32 - 1).max(1)) as usize;
        let other = (place + distance) % batch;
        if labels[place] == IGNORE || labels[other] == IGNORE {
            return Pair { other: place, share: 1.0 };
        }
        let [first, second, ..] = draw(self.seed, step, place, 4);
        let half = 0.5 * beta(self.alpha, [first, second]);
        Pair { other, share: if second & 1 == 1 { 0.5 + half } else { 0.5 - half } }
    }
}

impl Op for Mix {
    fn name(&self) -> &'static str {
        "mixup"
    }

    fn output_types(&self, inputs: &[&TensorType]) -> Inferred {
        let [x, labels, step] = expect(inputs)?;
        require(x.dims().get(1..) == Some(&[self.size, self.size, 3]), "x must be [N, size, size, 3]")?;
        require(labels == &TensorType::u32([x.dims()[0]]), "labels must be u32[N]")?;
        require(step == &TensorType::u32([1]), "step must be u32[1]")?;
        Ok(vec![x.clone(), labels.clone(), TensorType::f32([x.dims()[0]])])
    }

    fn cpu(&self, _: &Types, _: CpuTarget) -> CpuStep {
        let op = *self;
        let image = 3 * self.size * self.size;
        CpuStep::new(move |args| {
            let (x, labels, step) = (args.inputs[0], args.input_u32(1), args.input_u32(2)[0]);
            let ([y, others, shares], _) = args.outputs();
            let others: &mut [u32] = bytemuck::cast_slice_mut(others);
            for (n, (label, share)) in others.iter_mut().zip(shares).enumerate() {
                let pair = op.pair(step, n, labels);
                (*label, *share) = (labels[pair.other], pair.share);
            }
            parallel::for_each(y.chunks_exact_mut(image).enumerate(), &mut [], 0, |(n, y), _| {
                let Pair { other, share } = op.pair(step, n, labels);
                let both = x[n * image..].iter().zip(&x[other * image..]);
                y.iter_mut().zip(both).for_each(|(y, (own, other))| *y = other + share * (own - other));
            });
        })
    }

    fn gpu(&self, types: &Types) -> Dispatches {
        use Operand::{Input, Output};
        let constants = [
            ("SIZE", self.size as f64),
            ("BATCH", types.inputs[1].len() as f64),
            ("ALPHA", f64::from(self.alpha)),
            ("SEED", f64::from(self.seed)),
            ("STREAM", f64::from(Stream::Augment as u32)),
        ];
        let bindings = vec![Input(0), Input(1), Input(2), Output(0), Output(1), Output(2)];
        let shader = shader!("mix", "index", "rng", "augment");
        each_value(shader, types.outputs[0].len(), &constants, bindings)
    }

    fn reference(&self, _: &Types, inputs: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let labels: Vec<u32> = inputs[1].iter().map(|&label| label as u32).collect();
        let image = 3 * self.size * self.size;
        let pairs: Vec<Pair> =
            (0..labels.len()).map(|n| self.pair(inputs[2][0] as u32, n, &labels)).collect();
        let element = |(i, own): (usize, &f64)| {
            let Pair { other, share } = pairs[i / image];
            let share = f64::from(share);
            share * own + (1.0 - share) * inputs[0][other * image + i % image]
        };
        let others = pairs.iter().map(|pair| f64::from(labels[pair.other])).collect();
        let shares = pairs.iter().map(|pair| f64::from(pair.share)).collect();
        vec![inputs[0].iter().enumerate().map(element).collect(), others, shares]
    }
}

/// Test cases of this op.
pub fn cases() -> Vec<Case> {
    let case = |batch, size, alpha| {
        let inputs = vec![
            (TensorType::f32([batch, size, size, 3]), Fill::Uniform(-2.0, 2.0)),
            (TensorType::u32([batch]), Fill::Labels(10)),
            (TensorType::u32([1]), Fill::Constant(11.0)),
        ];
        Case::new(Mix { size, alpha, seed: 3 }, inputs)
    };
    // The last has no other image to join with.
    vec![case(20, 8, 0.2), case(7, 9, 1.0), case(1, 8, 1.0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mean, variance and fourth moment of the shares are those of Beta(A, A).
    #[test]
    fn shares_are_beta_distributed() {
        for alpha in [0.2, 1.0, 4.0] {
            let op = Mix { size: 8, alpha, seed: 1 };
            let labels = vec![0; 50_000];
            let shares: Vec<f64> =
                (0..labels.len()).map(|n| f64::from(op.pair(1, n, &labels).share) - 0.5).collect();
            let moment = |k: i32| shares.iter().map(|share| share.powi(k)).sum::<f64>() / 50_000.0;
            let a = f64::from(alpha);
            let (variance, fourth) =
                (1.0 / (4.0 * (2.0 * a + 1.0)), 3.0 / (16.0 * (2.0 * a + 1.0) * (2.0 * a + 3.0)));
            assert!(moment(1).abs() < 0.01, "{alpha}: {}", moment(1));
            assert!((moment(2) / variance - 1.0).abs() < 0.03, "{alpha}: {}", moment(2));
            assert!((moment(4) / fourth - 1.0).abs() < 0.05, "{alpha}: {}", moment(4));
        }
    }

    #[test]
    fn everyone_has_one_partner_and_empty_places_have_none() {
        let op = Mix { size: 8, alpha: 1.0, seed: 1 };
        let mut labels = vec![3; 9];
        for step in 0..20 {
            let mut others: Vec<usize> = (0..9).map(|n| op.pair(step, n, &labels).other).collect();
            assert!(others.iter().enumerate().all(|(n, other)| n != *other), "{others:?}");
            others.sort_unstable();
            assert!(others.into_iter().eq(0..9));
        }
        labels[4] = IGNORE;
        let alone = (0..9).filter(|&n| op.pair(0, n, &labels) == Pair { other: n, share: 1.0 });
        assert_eq!(alone.count(), 2);
    }
}
