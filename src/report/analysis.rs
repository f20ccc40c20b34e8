//! Analysis of the logits of a test set: which classes are taken for which, and which images went
//! wrong worst.

use std::collections::BTreeMap;

use ndarray::{Array2, ArrayView1, ArrayView2};

use crate::models::Calibration;
use crate::ops::loss::softmax_cross_entropy::first_largest;

/// A image with its label and what was predicted for it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prediction {
    /// Number of the image in the set.
    pub index: usize,
    /// Number of its class.
    pub label: usize,
    /// Number of the class with the largest logit, the first of equals.
    pub predicted: usize,
    /// The model's probability for what it predicted, and for the label.
    pub probability: f32,
    /// The model's probability for the label.
    pub label_probability: f32,
}

impl Prediction {
    /// Whether the label was predicted.
    pub fn is_right(&self) -> bool {
        self.label == self.predicted
    }

    /// `-log` of the probability of the label: how wrong it is.
    pub fn loss(&self) -> f64 {
        // From 0 down, so that a probability of 1 gives 0 and not -0.
        0.0 - f64::from(self.label_probability).max(f64::from(f32::MIN_POSITIVE)).ln()
    }
}

/// How well a class is found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClassFigures {
    /// Images with this label.
    pub images: usize,
    /// Precision: of what is predicted as this class, the share that is; none where nothing is.
    pub precision: Option<f64>,
    /// Recall: of what is this class, the share that is predicted as it; none without images.
    pub recall: Option<f64>,
}

impl ClassFigures {
    /// The harmonic mean of precision and recall.
    pub fn f1(&self) -> Option<f64> {
        let (precision, recall) = (self.precision?, self.recall?);
        Some(if precision + recall > 0.0 { 2.0 * precision * recall / (precision + recall) } else { 0.0 })
    }
}

/// The analysis of a test set.
#[derive(Clone, Debug, PartialEq)]
pub struct Analysis {
    /// In the order of the images.
    pub predictions: Vec<Prediction>,
    /// By label.
    pub classes: Vec<ClassFigures>,
    /// Images by label and prediction, where there are any: of ten thousand classes a whole matrix
    /// would fill memory.
    counts: BTreeMap<(usize, usize), usize>,
}

impl Analysis {
    /// From `logits` `[images, classes]`; labels outside the classes are left out.
    pub fn of(logits: ArrayView2<f32>, labels: &[u32]) -> Analysis {
        Analysis::calibrated(logits, labels, Calibration::default())
    }

    /// [`Analysis::of`] with the probabilities of a calibrated model.
    pub fn calibrated(logits: ArrayView2<f32>, labels: &[u32], calibration: Calibration) -> Analysis {
        let classes = logits.ncols();
        let rows = logits.outer_iter().zip(labels).enumerate();
        let predictions: Vec<Prediction> = rows
            .filter(|(_, (_, label))| (**label as usize) < classes)
            .map(|(index, (logits, &label))| prediction(index, logits, label as usize, calibration))
            .collect();
        let mut counts = BTreeMap::new();
        predictions.iter().for_each(|p| *counts.entry((p.label, p.predicted)).or_default() += 1);
        Analysis { predictions, classes: figures(&counts, classes), counts }
    }

    /// The confusion matrix, `[label, predicted]`: images.
    pub fn confusion(&self) -> Array2<usize> {
        let mut matrix = Array2::zeros([self.classes.len(), self.classes.len()]);
        self.counts.iter().for_each(|(&place, &images)| matrix[place] = images);
        matrix
    }

    /// The wrong predictions, the worst first.
    pub fn mistakes(&self) -> Vec<Prediction> {
        let mut wrong: Vec<Prediction> = self.predictions.iter().filter(|p| !p.is_right()).copied().collect();
        wrong.sort_by(|a, b| b.loss().total_cmp(&a.loss()).then(a.index.cmp(&b.index)));
        wrong
    }

    /// At most so many predictions, as many of each class as of any other where it has them, spread
    /// evenly over the class; in the order of the images.
    pub fn spread(&self, most: usize) -> Vec<Prediction> {
        let mut classes: Vec<Vec<Prediction>> = vec![Vec::new(); self.classes.len()];
        self.predictions.iter().for_each(|p| classes[p.label].push(*p));
        classes.retain(|class| !class.is_empty());
        if classes.len() > most {
            classes = (0..most).map(|i| classes[i * classes.len() / most].clone()).collect();
        }
        let mut shares = vec![0; classes.len()];
        for _ in 0..most {
            let open = (0..classes.len()).filter(|&class| shares[class] < classes[class].len());
            open.min_by_key(|&class| shares[class]).into_iter().for_each(|class| shares[class] += 1);
        }
        let even = |(class, &share): (&Vec<Prediction>, &usize)| -> Vec<Prediction> {
            (0..share).map(|i| class[i * class.len() / share]).collect()
        };
        let mut spread: Vec<Prediction> = classes.iter().zip(&shares).flat_map(even).collect();
        spread.sort_by_key(|p| p.index);
        spread
    }

    /// (label, predicted, images) of the classes that are taken for others, the most frequent
    /// first.
    pub fn confused(&self) -> Vec<(usize, usize, usize)> {
        let wrong = self.counts.iter().filter(|((label, predicted), _)| label != predicted);
        let mut pairs: Vec<_> = wrong.map(|(&(label, predicted), &n)| (label, predicted, n)).collect();
        pairs.sort_by_key(|&(label, predicted, n)| (std::cmp::Reverse(n), label, predicted));
        pairs
    }
}

/// Predictions of which the model was about equally sure.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Bin {
    /// How many.
    pub images: usize,
    /// Mean probability of what was predicted.
    pub confidence: f64,
    /// Share that is right.
    pub accuracy: f64,
}

/// Bins of a [`Analysis::calibration`].
pub const BINS: usize = 15;

impl Analysis {
    /// Predictions by the model's probability for them, in bins of equal width.
    pub fn calibration(&self) -> [Bin; BINS] {
        let mut bins = [Bin::default(); BINS];
        for prediction in &self.predictions {
            let probability = f64::from(prediction.probability);
            let bin = &mut bins[((probability * BINS as f64) as usize).min(BINS - 1)];
            bin.images += 1;
            bin.confidence += probability;
            bin.accuracy += f64::from(u8::from(prediction.is_right()));
        }
        for bin in bins.iter_mut().filter(|bin| bin.images > 0) {
            bin.confidence /= bin.images as f64;
            bin.accuracy /= bin.images as f64;
        }
        bins
    }

    /// The expected calibration error (Naeini et al. 2015; Guo et al. 2017): by how much the
    /// model's probability for its prediction and its accuracy differ, in the mean over the images,
    /// from 0 to 1; none without images.
    pub fn calibration_error(&self) -> Option<f64> {
        let of = |bin: &Bin| bin.images as f64 * (bin.confidence - bin.accuracy).abs();
        let sum: f64 = self.calibration().iter().map(of).sum();
        let images = self.predictions.len();
        (images > 0).then(|| sum / images as f64)
    }
}

fn prediction(index: usize, logits: ArrayView1<f32>, label: usize, calibration: Calibration) -> Prediction {
    let predicted = first_largest(logits);
    let probabilities = calibration.probabilities(logits);
    let (probability, label_probability) = (probabilities[predicted], probabilities[label]);
    Prediction { index, label, predicted, probability, label_probability }
}

/// The figures of each class, from the images by label and prediction.
fn figures(counts: &BTreeMap<(usize, usize), usize>, classes: usize) -> Vec<ClassFigures> {
    let (mut labelled, mut predicted) = (vec![0; classes], vec![0; classes]);
    for (&(label, prediction), images) in counts {
        labelled[label] += images;
        predicted[prediction] += images;
    }
    let figures = |class: usize| {
        let right = counts.get(&(class, class)).map_or(0.0, |&images| images as f64);
        let share = |of: usize| (of > 0).then(|| right / of as f64);
        let (images, precision) = (labelled[class], share(predicted[class]));
        ClassFigures { images, precision, recall: share(images) }
    };
    (0..classes).map(figures).collect()
}

#[cfg(test)]
mod tests {
    use ndarray::{arr2, aview2};

    use super::*;

    /// Four images of class 0 (one taken for 1, one for 2), two of class 1, none of class 2.
    fn analysis() -> Analysis {
        let right = [3.0, 0.0, 0.0];
        let logits = [right, right, [1.0, 2.0, 0.0], [0.0, 1.0, 9.0], [0.0, 5.0, 0.0], [2.0, 2.0, 0.0]];
        Analysis::of(aview2(&logits), &[0, 0, 0, 0, 1, 1])
    }

    #[test]
    fn classes_are_counted() {
        let found = analysis();
        assert_eq!(found.confusion(), arr2(&[[2, 1, 1], [1, 1, 0], [0, 0, 0]]));
        let class = |images, precision, recall| ClassFigures { images, precision, recall };
        let expected =
            [class(4, Some(2.0 / 3.0), Some(0.5)), class(2, Some(0.5), Some(0.5)), class(0, Some(0.0), None)];
        assert_eq!(found.classes, expected);
        assert!((found.classes[0].f1().unwrap() - 4.0 / 7.0).abs() < 1e-12);
        assert_eq!((found.classes[1].f1(), found.classes[2].f1()), (Some(0.5), None));
        assert_eq!(class(1, Some(0.0), Some(0.0)).f1(), Some(0.0));
    }

    #[test]
    fn calibration_is_worked_out_on_paper() {
        // Sure to 0.5 (both logits equal: right and wrong), and to e / (e + 1) = 0.731 (right).
        let found = Analysis::of(aview2(&[[1.0, 1.0], [1.0, 1.0], [1.0, 0.0]]), &[0, 1, 0]);
        let bins = found.calibration();
        assert_eq!((bins[7].images, bins[7].confidence, bins[7].accuracy), (2, 0.5, 0.5));
        assert_eq!((bins[10].images, bins[10].accuracy), (1, 1.0));
        assert_eq!(bins.iter().map(|bin| bin.images).sum::<usize>(), 3);
        let error = (1.0 - 1.0f64.exp() / (1.0f64.exp() + 1.0)) / 3.0;
        assert!((found.calibration_error().unwrap() - error).abs() < 1e-7);
        assert_eq!(Analysis::of(Array2::zeros([0, 2]).view(), &[]).calibration_error(), None);
        // A probability of 1 is in the last bin.
        assert_eq!(Analysis::of(aview2(&[[99.0, 0.0]]), &[0]).calibration()[BINS - 1].images, 1);
    }

    #[test]
    fn the_worst_comes_first() {
        let mistakes = analysis().mistakes();
        assert_eq!(mistakes.iter().map(|p| p.index).collect::<Vec<_>>(), [3, 2, 5]);
        assert!((mistakes[0].loss() - (1.0 + 1f64.exp() + 9f64.exp()).ln()).abs() < 1e-5);
        assert!(
            (f64::from(mistakes[1].probability) - 1.0 / (1.0 + (-1f64).exp() + (-2f64).exp())).abs() < 1e-6
        );
        assert_eq!(analysis().confused(), [(0, 1, 1), (0, 2, 1), (1, 0, 1)]);
    }

    #[test]
    fn the_spread_reaches_over_the_whole_set() {
        let at = |most| analysis().spread(most).iter().map(|p| p.index).collect::<Vec<_>>();
        assert_eq!((at(3), at(6), at(100)), (vec![0, 2, 4], vec![0, 1, 2, 3, 4, 5], vec![0, 1, 2, 3, 4, 5]));
        assert!(Analysis::of(Array2::zeros([0, 2]).view(), &[]).spread(5).is_empty());
    }

    /// Labels that come round and round, as those of the built-in images do, must not meet the
    /// stride of the spread.
    #[test]
    fn every_class_is_shown() {
        for (images, classes, most) in [(2000, 10, 24), (2000, 24, 24), (2000, 100, 24), (90, 3, 24)] {
            let labels: Vec<u32> = (0..images).map(|i| i % classes).collect();
            let logits = Array2::zeros([images as usize, classes as usize]);
            let shown = Analysis::of(logits.view(), &labels).spread(most);
            let seen: std::collections::BTreeSet<usize> = shown.iter().map(|p| p.label).collect();
            assert_eq!((shown.len(), seen.len()), (most, most.min(classes as usize)));
            assert!(shown.is_sorted_by_key(|p| p.index));
        }
    }

    #[test]
    fn hopeless_logits_have_a_finite_loss() {
        let found = Analysis::of(aview2(&[[200.0, -200.0]]), &[1]);
        assert!(found.mistakes()[0].loss().is_finite());
    }

    /// As a matrix these would be 320 GB.
    #[test]
    fn very_many_classes_take_no_more_than_there_are_images() {
        const CLASSES: usize = 200_000;
        let mut logits = Array2::zeros([2, CLASSES]);
        (logits[[0, 7]], logits[[1, 9]]) = (1.0, 1.0);
        let found = Analysis::of(logits.view(), &[7, 199_999]);
        assert_eq!(found.confused(), [(199_999, 9, 1)]);
        assert_eq!((found.classes[7].recall, found.classes[9].precision), (Some(1.0), Some(0.0)));
    }
}
