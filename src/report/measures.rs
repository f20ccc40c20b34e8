//! Measures of a classifier beside its accuracy and its loss.

use ndarray::{ArrayView1, ArrayView2};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::analysis::Analysis;
use crate::models::Calibration;
use crate::ops::loss::softmax_cross_entropy::first_largest;

/// The places in which a label counts for [`Measures::top5_accuracy`].
const TOP: usize = 5;

/// Measures of the logits of a set of images. All are shares from 0 to 1, and none where the images
/// or the classes are too few for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Measures {
    /// Mean recall over the classes that have images: each class counts alike, however few images
    /// it has.
    pub balanced_accuracy: Option<f64>,
    /// Share of images with their label among the five largest logits; of more than five classes.
    pub top5_accuracy: Option<f64>,
    /// Area under the receiver operating characteristic, of a class against the rest, in the mean
    /// over the classes that have images and leave some: how probably an image of the class gets
    /// a higher probability of it than another image. Of two classes it is the usual one.
    pub auroc: Option<f64>,
    /// Expected calibration error of the softmax of the logits.
    pub calibration_error: Option<f64>,
    /// The same after the temperature.
    pub calibrated_error: Option<f64>,
    /// The temperature.
    pub temperature: f32,
    /// The probability below which a prediction is unsure.
    pub unsure_below: Option<f32>,
}

impl Measures {
    /// From `logits` `[images, classes]`; labels outside the classes are left out.
    pub fn of(logits: ArrayView2<f32>, labels: &[u32], calibration: Calibration) -> Measures {
        let plain = Analysis::of(logits, labels);
        let recalls: Vec<f64> = plain.classes.iter().filter_map(|class| class.recall).collect();
        let calibrated = Analysis::calibrated(logits, labels, calibration);
        Measures {
            balanced_accuracy: mean(&recalls),
            top5_accuracy: top5(logits, labels),
            auroc: auroc(logits, labels),
            calibration_error: plain.calibration_error(),
            calibrated_error: calibrated.calibration_error(),
            temperature: calibration.temperature,
            unsure_below: calibration.unsure_below,
        }
    }

    /// For people: `balanced accuracy 74.07 %, AUROC 0.912, calibration error 8.10 %, 3.20 % after
    /// temperature 1.31, unsure below 81.50 %`.
    pub fn line(&self) -> String {
        let percent = |share: f64| format!("{:.2} %", 100.0 * share);
        let named = |name: &str, share: Option<f64>| share.map(|share| format!("{name} {}", percent(share)));
        let calibrated = self.calibrated_error.filter(|_| self.temperature != 1.0);
        let after =
            calibrated.map(|error| format!("{} after temperature {:.3}", percent(error), self.temperature));
        let parts = [
            named("balanced accuracy", self.balanced_accuracy),
            named("top-5 accuracy", self.top5_accuracy),
            self.auroc.map(|area| format!("AUROC {area:.4}")),
            named("calibration error", self.calibration_error),
            after,
            named("unsure below", self.unsure_below.map(f64::from)),
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }

    /// [`Measures::entries`] for a table of several sets' figures: with the name of the set, where
    /// they are of its images.
    pub fn entries_of(&self, set: &str) -> Map<String, Value> {
        let of_weights = ["temperature", "unsure_below"];
        let named = |name: String| if of_weights.contains(&&*name) { name } else { format!("{set}_{name}") };
        self.entries().into_iter().map(|(name, value)| (named(name), value)).collect()
    }

    /// The measures by name, for tables of figures; null where there is none.
    pub fn entries(&self) -> Map<String, Value> {
        let value = serde_json::to_value(self);
        match value.unwrap_or(json!({})) {
            Value::Object(entries) => entries,
            _ => Map::new(),
        }
    }
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// Rows of the logits with a label that is one of the classes.
fn labelled<'a>(
    logits: ArrayView2<'a, f32>,
    labels: &'a [u32],
) -> impl Iterator<Item = (ArrayView1<'a, f32>, usize)> {
    let classes = logits.ncols();
    let rows = logits.into_outer_iter().zip(labels).map(|(row, label)| (row, *label as usize));
    rows.filter(move |(_, label)| *label < classes)
}

fn top5(logits: ArrayView2<f32>, labels: &[u32]) -> Option<f64> {
    if logits.ncols() <= TOP {
        return None;
    }
    let among = |(row, label): (ArrayView1<f32>, usize)| {
        let is_before = |(class, z): (usize, &f32)| *z > row[label] || *z == row[label] && class < label;
        f64::from(u8::from(row.iter().enumerate().filter(|place| is_before(*place)).count() < TOP))
    };
    mean(&labelled(logits, labels).map(among).collect::<Vec<_>>())
}

/// A row as the log-odds of its classes need it: how sure a class is against all others shows
/// beyond where its probability is 1, but for rounding.
struct Odds<'a> {
    row: ArrayView1<'a, f32>,
    largest: usize,
    /// Sum over all classes but the largest, of the exponential of their distance to it.
    rest: f64,
}

impl<'a> Odds<'a> {
    fn new(row: ArrayView1<'a, f32>) -> Odds<'a> {
        let largest = first_largest(row);
        let power = |z: &f32| f64::from(z - row[largest]).exp();
        let others = row.iter().enumerate().filter(|(class, _)| *class != largest);
        Odds { row, largest, rest: others.map(|(_, z)| power(z)).sum() }
    }

    /// No more exact than the logits are: what differs by the order of a sum is equal.
    fn of(&self, class: usize) -> f32 {
        if class == self.largest {
            return -self.rest.ln() as f32;
        }
        let z = f64::from(self.row[class] - self.row[self.largest]);
        (z - (1.0 + self.rest - z.exp()).ln()) as f32
    }
}

fn auroc(logits: ArrayView2<f32>, labels: &[u32]) -> Option<f64> {
    let rows: Vec<(Odds, usize)> =
        labelled(logits, labels).map(|(row, label)| (Odds::new(row), label)).collect();
    let classes: std::collections::BTreeSet<usize> = rows.iter().map(|(_, label)| *label).collect();
    let area =
        |class: &usize| area(rows.iter().map(|(odds, label)| (odds.of(*class), label == class)).collect());
    mean(&classes.iter().filter_map(area).collect::<Vec<_>>())
}

/// The area under the curve of scores, each with whether it is of the class: the share of pairs of
/// one that is and one that is not in which the first has the higher score, half of those with
/// equal scores (Mann and Whitney 1947).
fn area(mut scores: Vec<(f32, bool)>) -> Option<f64> {
    scores.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (mut below, mut pairs) = (0.0, 0.0);
    for equals in scores.chunk_by(|a, b| a.0 == b.0) {
        let own = equals.iter().filter(|(_, own)| *own).count() as f64;
        let others = equals.len() as f64 - own;
        pairs += own * (below + 0.5 * others);
        below += others;
    }
    let own = scores.len() as f64 - below;
    (own > 0.0 && below > 0.0).then(|| pairs / (own * below))
}

#[cfg(test)]
mod tests {
    use ndarray::{Array2, arr2};

    use super::*;
    use crate::kernels::rng::{self, Stream};

    /// Logits with a little knowledge of the labels, some of them equal, of unequal classes.
    fn some(images: usize, classes: usize) -> (Array2<f32>, Vec<u32>) {
        let draw = |i: usize, c: usize| rng::draw(3, Stream::Init, i as u32, c as u32)[0];
        let label = |i: usize| rng::below(draw(i, 999), 2 * classes as u32).min(classes as u32 - 1);
        let labels: Vec<u32> = (0..images).map(label).collect();
        let logits = Array2::from_shape_fn([images, classes], |(i, c)| {
            (rng::unit(draw(i, c)) * 8.0).floor() + f32::from(u8::from(labels[i] as usize == c))
        });
        (logits, labels)
    }

    fn softmax(row: ArrayView1<f32>, temperature: f64) -> Vec<f64> {
        let powers: Vec<f64> = row.iter().map(|z| (f64::from(*z) / temperature).exp()).collect();
        powers.iter().map(|power| power / powers.iter().sum::<f64>()).collect()
    }

    /// Every pair of images is looked at.
    fn naive_auroc(logits: &Array2<f32>, labels: &[u32]) -> f64 {
        let p: Vec<Vec<f64>> = logits.outer_iter().map(|row| softmax(row, 1.0)).collect();
        let mut areas = Vec::new();
        let places = |class: usize, own: bool| -> Vec<usize> {
            (0..labels.len()).filter(|i| (labels[*i] as usize == class) == own).collect()
        };
        for (class, _) in logits.columns().into_iter().enumerate() {
            let (mut won, mut pairs) = (0.0, 0.0);
            for i in places(class, true) {
                for j in places(class, false) {
                    let apart = p[i][class] - p[j][class];
                    won += if apart.abs() < 1e-12 { 0.5 } else { f64::from(u8::from(apart > 0.0)) };
                    pairs += 1.0;
                }
            }
            if pairs > 0.0 {
                areas.push(won / pairs);
            }
        }
        areas.iter().sum::<f64>() / areas.len() as f64
    }

    /// Images bin by bin.
    fn naive_error(logits: &Array2<f32>, labels: &[u32], temperature: f64) -> f64 {
        let mut error = 0.0;
        for bin in 0..15 {
            let (low, high) = (bin as f64 / 15.0, (bin + 1) as f64 / 15.0);
            let (mut confidence, mut right) = (0.0, 0.0);
            for (row, label) in logits.outer_iter().zip(labels) {
                let p = softmax(row, temperature);
                let best = (0..p.len()).rev().max_by(|a, b| p[*a].total_cmp(&p[*b])).unwrap();
                if p[best] >= low && (p[best] < high || bin == 14) {
                    confidence += p[best];
                    right += f64::from(u8::from(best == *label as usize));
                }
            }
            error += (confidence - right).abs() / labels.len() as f64;
        }
        error
    }

    /// Temperature of [`against`].
    const TEMPERATURE: f64 = 2.5;

    /// Compares a measure of several sets with its naive reference.
    fn against(measure: fn(&Measures) -> Option<f64>, naive: impl Fn(&Array2<f32>, &[u32]) -> Option<f64>) {
        for (images, classes) in [(200, 2), (300, 3), (400, 9)] {
            let (logits, labels) = some(images, classes);
            let calibration = Calibration { temperature: TEMPERATURE as f32, ..Calibration::default() };
            let found = measure(&Measures::of(logits.view(), &labels, calibration));
            let expected = naive(&logits, &labels);
            let near = found.zip(expected).is_some_and(|(found, expected)| (found - expected).abs() < 1e-6);
            assert!(near || found.is_none() && expected.is_none(), "{classes}: {found:?} {expected:?}");
        }
    }

    #[test]
    fn the_auroc_is_the_share_of_pairs_in_order() {
        against(|m| m.auroc, |logits, labels| Some(naive_auroc(logits, labels)));
    }

    #[test]
    fn calibration_errors_are_summed_bin_by_bin() {
        against(|m| m.calibration_error, |logits, labels| Some(naive_error(logits, labels, 1.0)));
    }

    #[test]
    fn after_the_temperature_so_are_they() {
        against(|m| m.calibrated_error, |logits, labels| Some(naive_error(logits, labels, TEMPERATURE)));
    }

    #[test]
    fn balanced_accuracy_is_the_mean_recall() {
        against(
            |m| m.balanced_accuracy,
            |logits, labels| {
                let classes = logits.ncols();
                let recall = |class: usize| {
                    let own = logits.outer_iter().zip(labels).filter(|(_, label)| **label as usize == class);
                    let right: Vec<bool> = own.map(|(row, _)| first_largest(row) == class).collect();
                    right.iter().filter(|right| **right).count() as f64 / right.len() as f64
                };
                Some((0..classes).map(recall).sum::<f64>() / classes as f64)
            },
        );
    }

    #[test]
    fn top5_accuracy_is_that_of_sorted_logits() {
        against(
            |m| m.top5_accuracy,
            |logits, labels| {
                let is_among = |(row, label): &(ArrayView1<f32>, &u32)| {
                    let mut order: Vec<usize> = (0..row.len()).collect();
                    order.sort_by(|a, b| row[*b].total_cmp(&row[*a]).then(a.cmp(b)));
                    order.iter().take(5).any(|class| *class == **label as usize)
                };
                let among = logits.outer_iter().zip(labels).filter(is_among).count();
                (logits.ncols() > 5).then(|| among as f64 / labels.len() as f64)
            },
        );
    }

    #[test]
    fn what_cannot_be_measured_is_none() {
        let none = Measures::of(Array2::zeros([0, 3]).view(), &[], Calibration::default());
        assert_eq!(none, Measures { temperature: 1.0, ..Measures::default() });
        // One class only, and another without images.
        let found = Measures::of(arr2(&[[1.0, 0.0], [0.0, 1.0]]).view(), &[0, 0], Calibration::default());
        assert_eq!((found.balanced_accuracy, found.auroc), (Some(0.5), None));
        assert!(!found.line().contains("AUROC") && found.line().starts_with("balanced accuracy 50.00 %"));
        assert!(found.entries()["auroc"].is_null());
    }

    /// Probabilities that round to 1 still have an order.
    #[test]
    fn certain_images_are_told_apart() {
        let logits = arr2(&[[60.0, 0.0], [50.0, 0.0], [40.0, 0.0]]);
        assert_eq!(auroc(logits.view(), &[0, 1, 1]), Some(1.0));
        assert_eq!(auroc(logits.view(), &[1, 0, 1]), Some(0.5));
    }
}
