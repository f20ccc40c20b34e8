//! Warnings from the figures of a finished training, where it would otherwise look like any other.

use ndarray::Array2;

use super::evaluate::Evaluation;
use super::score::best_epoch;
use super::settings::Settings;
use super::settings::class_weights::ClassWeights;
use crate::data::Images;
use crate::ops::augment::FLIP;
use crate::ops::loss::softmax_cross_entropy::first_largest;
use crate::report::EpochMetrics;

/// A sample of the training images to judge by.
pub struct TrainingSample {
    /// Some of them, from all over the set.
    pub images: Images,
    /// The share of the class that is drawn most often: what guessing reaches.
    largest_share: f64,
    /// How many training images there are.
    pub all: usize,
}

/// Images of a sample.
const MOST_SAMPLED: usize = 512;
/// Of what guessing gets wrong, the share that is learnt by whoever gets it right, however few the
/// images are.
const LEARNT: f64 = 0.1;
/// So many classes are still looked at pair by pair.
const MOST_CLASSES: usize = 1000;
/// A pair of classes with fewer test images shows nothing: of 40, one that is told apart three
/// times in four looks as near to a half in one of 80 sets, of 24 in one of 18.
const LEAST_OF_PAIR: usize = 40;

impl TrainingSample {
    /// A sample of images of so many classes.
    pub fn of(images: &Images, settings: &Settings, classes: usize) -> TrainingSample {
        let all = images.len();
        let indices: Vec<u32> = (0..all as u32).step_by(all.div_ceil(MOST_SAMPLED).max(1)).collect();
        let counts = images.counts(classes);
        // Whoever is made to care for all classes alike guesses no longer the most frequent one.
        let alike = settings.balanced || settings.class_weights != ClassWeights::default();
        let largest_share = match alike {
            true => 1.0 / counts.iter().filter(|count| **count > 0).count().max(1) as f64,
            false => counts.into_iter().max().unwrap_or(0) as f64 / all.max(1) as f64,
        };
        TrainingSample { images: images.subset(&indices), largest_share, all }
    }

    /// Whether the last epoch's training accuracy is what guessing reaches.
    pub fn at_chance(&self, history: &[EpochMetrics]) -> Option<String> {
        let last = history.last()?;
        let share = self.largest_share;
        let noise = 3.0 * (share * (1.0 - share) / self.all as f64).sqrt();
        let learnt = LEARNT * (1.0 - share);
        (last.train_accuracy <= share + noise.min(learnt)).then(|| {
            format!(
                "the training ended at chance: {:.1} % of the training images were right in its last epoch, and {:.1} % \
                 are if one class is all that is ever said; try a lower `rate`, more `epochs` or another `batch_size`",
                100.0 * last.train_accuracy,
                100.0 * share
            )
        })
    }

    /// Whether it may be that [`Self::lag`] has something to say: hardly, where the best epoch knew
    /// about as many of the validation images, which it never saw.
    pub fn may_lag(&self, history: &[EpochMetrics]) -> bool {
        let best = best_epoch(history).checked_sub(1).and_then(|best| history.get(best));
        let accuracy = best.and_then(|epoch| epoch.validation_accuracy);
        accuracy.is_none_or(|accuracy| self.lag(history, accuracy).is_some())
    }

    /// Whether the finished model knows the sample much worse than it knew the images while it was
    /// trained; `accuracy` is that on the sample.
    pub fn lag(&self, history: &[EpochMetrics], accuracy: f64) -> Option<String> {
        let trained = history.get(best_epoch(history).checked_sub(1)?)?.train_accuracy;
        let noise = 3.0 * (0.25 / self.images.len() as f64).sqrt();
        (accuracy < trained - noise.max(0.2)).then(|| {
            format!(
                "in training {:.1} % of the images were right, but of the same images the finished model knows only \
                 {:.1} %: the running statistics of batch normalisation lag behind; train for more steps (`epochs`, a \
                 smaller `batch_size`)",
                100.0 * trained,
                100.0 * accuracy
            )
        })
    }
}

/// Pairs of classes that are told apart no better than by chance, though hardly taken for others,
/// by a model that knows the rest, in a training that flips images: they may be mirror images of
/// each other.
pub fn mirrored(settings: &Settings, classes: &[String], test: &Evaluation, labels: &[u32]) -> Vec<String> {
    let count = classes.len();
    if !settings.augment.has(&FLIP) || count > MOST_CLASSES {
        return Vec::new();
    }
    let mut matrix = Array2::<usize>::zeros([count, count]);
    for (logits, &label) in test.logits.outer_iter().zip(labels) {
        matrix[[label as usize, first_largest(logits)]] += 1;
    }
    let cell = |from: usize, to: usize| matrix[[from, to]] as f64;
    let all = |class: usize| matrix.row(class).sum() as f64;
    let right = test.accuracy * labels.len() as f64;
    let suspicious = |a: usize, b: usize| {
        // Of a model that knows little, a pair that it does not tell apart says nothing.
        let pair_aside = right + cell(a, b) + cell(b, a);
        let knows = pair_aside >= 0.5 * labels.len() as f64;
        let within = [cell(a, a) + cell(a, b), cell(b, b) + cell(b, a)];
        let pair = within[0] + within[1];
        let known = within[0] >= 0.8 * all(a) && within[1] >= 0.8 * all(b);
        let share = (cell(a, a) + cell(b, b)) / pair;
        knows && known && pair >= LEAST_OF_PAIR as f64 && (share - 0.5).abs() <= (0.25 / pair).sqrt()
    };
    let augment = settings.augment.with(&FLIP, 0.0);
    let pairs = (0..count).flat_map(|a| (a + 1..count).map(move |b| (a, b)));
    let text = |(a, b): (usize, usize)| {
        format!(
            "{} and {} are told apart no better than by chance, and the training flips images: if one is the mirror \
             image of the other, train with `augment` {augment}",
            classes[a], classes[b]
        )
    };
    pairs.filter(|&(a, b)| all(a) > 0.0 && all(b) > 0.0 && suspicious(a, b)).map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::Axis;

    use crate::train::settings::KERAS;

    fn history(train_accuracy: f64) -> Vec<EpochMetrics> {
        let (train_loss, rate, images_per_s, seconds) = (1.0, 0.1, 1.0, 1.0);
        let (validation_loss, validation_accuracy) = (None, None);
        vec![EpochMetrics {
            epoch: 1,
            train_loss,
            train_accuracy,
            validation_loss,
            validation_accuracy,
            rate,
            images_per_s,
            seconds,
            validation_images: 0,
            proof: None,
        }]
    }

    /// Three classes, of which the first has half of the images.
    fn sample() -> TrainingSample {
        let mut images = Images::black(1000, 8);
        images.labels = (0..1000).map(|i| [0, 1, 0, 2][i % 4]).collect();
        TrainingSample::of(&images, &Settings::default(), 3)
    }

    #[test]
    fn chance_is_a_class_of_all_where_all_count_alike() {
        let labels: Vec<u32> = [[0; 80].as_slice(), &[1; 10], &[2; 10]].concat();
        let mut images = Images::black(labels.len(), 8);
        images.labels = labels;
        let share = |settings: Settings| TrainingSample::of(&images, &settings, 3).largest_share;
        assert_eq!(share(Settings::default()), 0.8);
        assert_eq!(share(Settings { balanced: true, ..Settings::default() }), 1.0 / 3.0);
        assert_eq!(share(Settings { class_weights: ClassWeights::Auto, ..Settings::default() }), 1.0 / 3.0);
    }

    #[test]
    fn chance_is_the_most_frequent_class() {
        assert_eq!(sample().images.len(), 500);
        assert!(sample().at_chance(&history(0.34)).unwrap().contains("50.0 %"));
        assert!(sample().at_chance(&history(0.53)).is_some());
        assert!(sample().at_chance(&history(0.6)).is_none());
        assert!(sample().at_chance(&[]).is_none());
    }

    /// Three standard deviations of 72 images are 17 points.
    #[test]
    fn few_images_are_learnt_too() {
        let mut images = Images::black(72, 8);
        images.labels = (0..72).map(|i| u32::from(i >= 40)).collect();
        let few = TrainingSample::of(&images, &Settings::default(), 2);
        assert!(few.at_chance(&history(0.708)).is_none());
        assert!(few.at_chance(&history(0.58)).unwrap().contains("55.6 %"));
    }

    #[test]
    fn statistics_that_lag_are_told() {
        assert!(sample().lag(&history(0.92), 0.2).unwrap().contains("statistics"));
        assert!(sample().lag(&history(0.92), 0.8).is_none());
        assert!(sample().lag(&history(0.2), 0.9).is_none());
        assert!(sample().lag(&[], 0.0).is_none());
        let validated = |accuracy| {
            let mut history = history(0.92);
            history[0].validation_accuracy = accuracy;
            sample().may_lag(&history)
        };
        assert_eq!([None, Some(0.2), Some(0.8)].map(validated), [true, true, false]);
    }

    /// What a model says that takes image `i`, of class `i % classes`, for `taken(i)`; and the
    /// labels.
    fn judged(classes: usize, taken: impl Fn(usize) -> usize) -> (Evaluation, Vec<u32>) {
        let labels: Vec<u32> = (0..120).map(|i| i % classes as u32).collect();
        let logits = Array2::from_shape_fn([120, classes], |(i, class)| f32::from(taken(i) == class));
        (Evaluation::of(logits, &labels), labels)
    }

    fn pairs(taken: impl Fn(usize) -> usize, settings: &Settings) -> Vec<String> {
        let (test, labels) = judged(3, taken);
        mirrored(settings, &["left", "right", "up"].map(String::from), &test, &labels)
    }

    #[test]
    fn classes_that_mirror_each_other_are_named() {
        let flips = Settings::default();
        let by_chance = |i: usize| if i % 3 == 2 { 2 } else { i / 6 % 2 };
        let found = pairs(by_chance, &flips);
        assert!(found.len() == 1 && found[0].starts_with("left and right are"), "{found:?}");
        assert!(found[0].ends_with("`augment` shift=4"), "{found:?}");
        assert_eq!(pairs(|i| if i % 3 == 2 { 2 } else { 0 }, &flips).len(), 1, "all taken for one");
        assert_eq!(pairs(|i| i % 3, &flips).len(), 0, "all right");
        assert_eq!(pairs(|i| i / 3 % 3, &flips).len(), 0, "nothing is known");
        let of_five = |others: usize| {
            let test = judged(5, |i| if i % 5 < 2 { 0 } else { i % 5 - others });
            mirrored(&flips, &["left", "right", "up", "down", "in"].map(String::from), &test.0, &test.1).len()
        };
        assert_eq!((of_five(0), of_five(1)), (1, 0), "of a model that knows nothing else it says nothing");
        assert_eq!(pairs(by_chance, &KERAS.settings()).len(), 0, "no flips");
        // As many images of a pair as a small folder has.
        let (mut test, labels) = judged(5, |i| if i % 5 < 2 { 0 } else { i % 5 });
        test.logits.slice_axis_inplace(Axis(0), (..60).into());
        let names = ["left", "right", "up", "down", "in"].map(String::from);
        assert!(mirrored(&flips, &names, &test, &labels[..60]).is_empty(), "24 images show nothing");
    }
}
