//! Two images for one (mixup and CutMix).
//!
//! Each image of a batch is joined with another one of it, and the labels of both count by their
//! shares, which are drawn from a Beta distribution. There are two ways to join them, which one op
//! knows.

use std::sync::Arc;

use super::sine::quarter_sine;
use super::{Act, Augmentation, ValueForm, draw};
use crate::kernels::parallel;
use crate::kernels::rng::{self, Stream};
use crate::ops::loss::softmax_cross_entropy::IGNORE;
use crate::ops::*;

/// Mixup (Zhang et al. 2017): `share x + (1 - share) x'`.
pub const MIXUP: Augmentation = Augmentation {
    name: "mixup",
    value: ValueForm::UpTo(MOST_ALPHA),
    about: "blends it with another one of the batch, in shares of Beta(A, A) for A as given; both labels count by them",
    act: Act::Mix(|alpha, images| Arc::new(Mix { size: images.size, alpha, seed: images.seed, cut: false })),
    conflict: |_| None,
};

/// CutMix (Yun et al. 2019): a rectangle of another image.
pub const CUTMIX: Augmentation = Augmentation {
    name: "cutmix",
    value: ValueForm::UpTo(MOST_ALPHA),
    about: "puts a rectangle of another one into it, whose area is 1 less a number of Beta(A, A); both labels count by area",
    act: Act::Mix(|alpha, images| Arc::new(Mix { size: images.size, alpha, seed: images.seed, cut: true })),
    conflict: |all| all.has(&MIXUP).then_some("and mixup exclude each other"),
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
    /// Seed of the training.
    pub seed: u32,
    /// Whether a rectangle comes from the other image, instead of a share of every pixel. It is as
    /// wide for its height as the image, around any pixel, and what lies outside of the image is
    /// lost. Its edges may lie within pixels, which are shared then: so devices whose roots differ
    /// in the last digit see the same image.
    pub cut: bool,
}

/// The other image of a pair, and how they are joined.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Pair {
    other: usize,
    /// Share of the own label, 0 to 1.
    share: f32,
    /// Rows and columns of the rectangle, where they begin and end.
    cut: [[f32; 2]; 2],
}

impl Pair {
    /// The rectangle in the middle between two places, as far as it lies in an image.
    fn cut(self, size: f32, middle: [u32; 2]) -> Pair {
        let half = 0.5 * size * (1.0 - self.share).sqrt();
        let cut = middle.map(|bits| {
            let middle = rng::unit(bits) * size;
            [(middle - half).max(0.0), (middle + half).min(size)]
        });
        let [height, width] = cut.map(|[begin, end]| (end - begin) / size);
        Pair { share: 1.0 - height * width, cut, ..self }
    }

    /// How much of a pixel comes from the other image.
    fn weight(&self, row: usize, column: usize) -> f32 {
        let [rows, columns] = [(self.cut[0], row), (self.cut[1], column)].map(|([begin, end], place)| {
            let place = place as f32;
            (end.min(place + 1.0) - begin.max(place)).clamp(0.0, 1.0)
        });
        rows * columns
    }
}

/// A number of Beta(alpha, alpha), from two that are uniform: it is `(1 + t / sqrt(2 alpha + t²)) /
/// 2` for t of Student's distribution with `2 alpha` degrees of freedom, which Bailey's formula
/// (1994) gives. Nothing is rejected, so that another rounding is another last digit.
fn beta(alpha: f32, [first, second]: [u32; 2]) -> f32 {
    // Never 0.
    let [first, second] = [first, second].map(|bits| rng::unit(bits) + 0.5 / 16_777_216.0);
    let w = first.powf(1.0 / alpha);
    let sine = quarter_sine(second);
    let squared = (1.0 - w) * sine * sine;
    (squared / (w + squared)).sqrt()
}

impl Mix {
    fn pair(&self, step: u32, place: usize, labels: &[u32]) -> Pair {
        let batch = labels.len();
        // The same distance for the whole batch: everyone is the partner of one.
        let distance = 1 + rng::below(draw(self.seed, step, 0, 5)[0], (batch as u32 - 1).max(1)) as usize;
        let other = (place + distance) % batch;
        if labels[place] == IGNORE || labels[other] == IGNORE {
            return Pair { other: place, share: 1.0, cut: [[0.0; 2]; 2] };
        }
        let [first, second, row, column] = draw(self.seed, step, place, 4);
        let half = 0.5 * beta(self.alpha, [first, second]);
        let share = if second & 1 == 1 { 0.5 + half } else { 0.5 - half };
        let pair = Pair { other, share, cut: [[0.0; 2]; 2] };
        if self.cut { pair.cut(self.size as f32, [row, column]) } else { pair }
    }

    /// How much of a pixel of an image comes from the other one.
    fn weight(&self, pair: &Pair, row: usize, column: usize) -> f32 {
        if self.cut { pair.weight(row, column) } else { 1.0 - pair.share }
    }
}

impl Op for Mix {
    fn name(&self) -> &'static str {
        if self.cut { "cutmix" } else { "mixup" }
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
                let pair = op.pair(step, n, labels);
                let both = x[n * image..].chunks_exact(3).zip(x[pair.other * image..].chunks_exact(3));
                for (at, (y, (own, other))) in y.chunks_exact_mut(3).zip(both).enumerate() {
                    let weight = op.weight(&pair, at / op.size, at % op.size);
                    (0..3).for_each(|c| y[c] = own[c] + weight * (other[c] - own[c]));
                }
            });
        })
    }

    fn gpu(&self, types: &Types) -> Dispatches {
        use Operand::{Input, Output};
        let constants = [
            ("SIZE", self.size as f64),
            ("BATCH", types.inputs[1].len() as f64),
            ("ALPHA", f64::from(self.alpha)),
            ("CUT", f64::from(self.cut)),
            ("SEED", f64::from(self.seed)),
            ("STREAM", f64::from(Stream::Augment as u32)),
        ];
        let bindings = vec![Input(0), Input(1), Input(2), Output(0), Output(1), Output(2)];
        let shader = shader!("mix");
        each_value(shader, types.outputs[0].len(), &constants, bindings)
    }

    fn reference(&self, inputs: &[ArrayViewD<f64>]) -> Vec<ArrayD<f64>> {
        let [x, labels, step] = operands(inputs);
        let x = view::<Ix4>(x);
        let labels: Vec<u32> = labels.iter().map(|&label| label as u32).collect();
        let pairs = Array::from_shape_fn(labels.len(), |n| self.pair(single(step) as u32, n, &labels));
        let joint = Array4::from_shape_fn(x.raw_dim(), |(n, row, column, c)| {
            let weight = f64::from(self.weight(&pairs[n], row, column));
            (1.0 - weight) * x[[n, row, column, c]] + weight * x[[pairs[n].other, row, column, c]]
        });
        let others = pairs.map(|pair| f64::from(labels[pair.other]));
        let shares = pairs.map(|pair| f64::from(pair.share));
        vec![joint.into_dyn(), others.into_dyn(), shares.into_dyn()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mean, variance and fourth moment of the shares are those of Beta(A, A).
    #[test]
    fn shares_are_beta_distributed() {
        for alpha in [0.2, 1.0, 4.0] {
            let op = Mix { size: 8, alpha, seed: 1, cut: false };
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

    /// The share of pixels from the other image is the share that the own label loses.
    #[test]
    fn the_area_of_the_rectangle_is_the_share_of_the_other_label() {
        let op = Mix { size: 16, alpha: 1.0, seed: 2, cut: true };
        let labels = vec![0; 300];
        let mut mean = 0.0;
        for n in 0..labels.len() {
            let pair = op.pair(4, n, &labels);
            let area: f32 = (0..256).map(|at| op.weight(&pair, at / 16, at % 16)).sum::<f32>() / 256.0;
            assert!((area - (1.0 - pair.share)).abs() < 1e-5, "{pair:?}: {area}");
            mean += area / labels.len() as f32;
        }
        // Of 1/2 in the mean, a part lies outside.
        assert!((0.2..0.45).contains(&mean), "{mean}");
    }

    #[test]
    fn everyone_has_one_partner_and_empty_places_have_none() {
        let op = Mix { size: 8, alpha: 1.0, seed: 1, cut: false };
        let mut labels = vec![3; 9];
        for step in 0..20 {
            let mut others: Vec<usize> = (0..9).map(|n| op.pair(step, n, &labels).other).collect();
            assert!(others.iter().enumerate().all(|(n, other)| n != *other), "{others:?}");
            others.sort_unstable();
            assert!(others.into_iter().eq(0..9));
        }
        labels[4] = IGNORE;
        let alone = (0..9).filter(|&n| op.pair(0, n, &labels).share == 1.0);
        assert_eq!(alone.count(), 2);
    }
}
