//! What the validation images show of a trained model's probabilities: the temperature that makes
//! them as right as they are sure, and below which a prediction is unsure.

use ndarray::{ArrayView1, ArrayView2};

use crate::models::Calibration;
use crate::report::analysis::Analysis;

/// Temperatures that are looked at, and the reverse of the last one.
const HIGHEST: f64 = 20.0;
/// Halvings of their range; more would only turn over the last bit.
const HALVINGS: usize = 60;
/// Share of predictions at least as sure as the threshold that must be right.
const RIGHT: f64 = 0.95;
/// Validation images that it takes: for a temperature, and to speak for the threshold.
pub const LEAST: usize = 20;

/// A calibration, and what is to be said about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Calibrated {
    /// The calibration.
    pub calibration: Calibration,
    /// Why a part of it is not known; empty if all of it is.
    pub notes: Vec<String>,
}

impl Calibrated {
    /// By the logits `[images, classes]` of validation images, and their labels.
    pub fn of(logits: ArrayView2<f32>, labels: &[u32]) -> Calibrated {
        let mut notes = Vec::new();
        if labels.is_empty() {
            notes.push(
                "no validation images: the temperature stays 1, and no prediction is marked as unsure".into(),
            );
            return Calibrated { calibration: Calibration::default(), notes };
        }
        if labels.len() < LEAST {
            let few = format!("{} of the {LEAST} validation images that it takes", labels.len());
            notes.push(format!("{few}: the temperature stays 1, and no prediction is marked as unsure"));
            return Calibrated { calibration: Calibration::default(), notes };
        }
        let fitted = temperature(logits, labels);
        if fitted.is_none() {
            let problem = "no temperature has the lowest loss on the validation images";
            notes.push(format!("{problem} (all are right, or too many wrong): it stays 1"));
        }
        let temperature = fitted.unwrap_or(1.0) as f32;
        let calibration = Calibration { temperature, unsure_below: None };
        let unsure_below = threshold(&Analysis::calibrated(logits, labels, calibration));
        if unsure_below.is_none() {
            notes.push(format!(
                "no prediction is marked as unsure: there are no {LEAST} validation images of which the model is \
                 surest and {:.0} % are right",
                100.0 * RIGHT
            ));
        }
        Calibrated { calibration: Calibration { unsure_below, ..calibration }, notes }
    }
}

/// The temperature with the lowest mean log loss. That is convex in the reverse of the temperature:
/// its slope crosses zero once, or nowhere within reach.
fn temperature(logits: ArrayView2<f32>, labels: &[u32]) -> Option<f64> {
    let slope = |reverse: f64| -> f64 {
        logits.outer_iter().zip(labels).map(|(row, label)| slope(row, *label as usize, reverse)).sum()
    };
    let (mut low, mut high) = (1.0 / HIGHEST, HIGHEST);
    if slope(low) >= 0.0 || slope(high) <= 0.0 {
        return None;
    }
    for _ in 0..HALVINGS {
        let middle = (low * high).sqrt();
        *(if slope(middle) < 0.0 { &mut low } else { &mut high }) = middle;
    }
    Some(1.0 / (low * high).sqrt())
}

/// The slope of a row's log loss by the reverse of the temperature: the mean logit, by its
/// probabilities, without the label's.
fn slope(row: ArrayView1<f32>, label: usize, reverse: f64) -> f64 {
    let largest = f64::from(row.fold(f32::NEG_INFINITY, |a, &b| a.max(b)));
    let (mut total, mut sum) = (0.0, 0.0);
    for &z in row {
        let z = f64::from(z) - largest;
        let power = (reverse * z).exp();
        (total, sum) = (total + power, sum + power * z);
    }
    sum / total - (f64::from(row[label]) - largest)
}

/// The lowest probability of a prediction such that of those which are no less sure, [`RIGHT`] are
/// right, and [`LEAST`] of them are there.
fn threshold(analysis: &Analysis) -> Option<f32> {
    let mut order: Vec<(f32, bool)> =
        analysis.predictions.iter().map(|p| (p.probability, p.is_right())).collect();
    order.sort_by(|a, b| b.0.total_cmp(&a.0));
    let (mut all, mut right, mut found) = (0, 0, None);
    for equals in order.chunk_by(|a, b| a.0 == b.0) {
        all += equals.len();
        right += equals.iter().filter(|(_, right)| *right).count();
        if all >= LEAST && right as f64 >= RIGHT * all as f64 {
            found = Some(equals[0].0);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;

    use super::*;
    use crate::kernels::rng::{self, Stream};

    /// Images whose labels are drawn by the softmax of their logits, which are then multiplied by
    /// `factor`.
    fn drawn(images: usize, factor: f32) -> (Array2<f32>, Vec<u32>) {
        let unit = |i: usize, c: usize| rng::unit(rng::draw(11, Stream::Init, i as u32, c as u32)[0]);
        let logits = Array2::from_shape_fn([images, 4], |(i, c)| 5.0 * unit(i, c));
        let label = |(i, row): (usize, ArrayView1<f32>)| {
            let mut left = unit(i, 9);
            let shares = Calibration::default().probabilities(row);
            let place = shares.iter().position(|share| {
                left -= share;
                left < 0.0
            });
            place.unwrap_or(3) as u32
        };
        let labels = logits.outer_iter().enumerate().map(label).collect();
        (logits * factor, labels)
    }

    fn loss(logits: &Array2<f32>, labels: &[u32], temperature: f32) -> f64 {
        let calibration = Calibration { temperature, unsure_below: None };
        let of = |(row, label): (ArrayView1<f32>, &u32)| {
            -f64::from(calibration.probabilities(row)[*label as usize]).ln()
        };
        logits.outer_iter().zip(labels).map(of).sum::<f64>() / labels.len() as f64
    }

    #[test]
    fn the_temperature_undoes_what_made_the_model_too_sure() {
        for factor in [0.5, 1.0, 3.0] {
            let (logits, labels) = drawn(4000, factor);
            let found = Calibrated::of(logits.view(), &labels).calibration.temperature;
            assert!((found / factor - 1.0).abs() < 0.1, "{factor}: {found}");
            // No temperature beside it has a lower loss.
            let lowest = loss(&logits, &labels, found);
            for other in [0.7, 0.9, 0.98, 1.02, 1.1, 1.5] {
                assert!(loss(&logits, &labels, found * other) > lowest, "{factor}: {other}");
            }
        }
    }

    #[test]
    fn predictions_above_the_threshold_are_right_as_often_as_is_said() {
        let (logits, labels) = drawn(4000, 1.0);
        let Calibrated { calibration, notes } = Calibrated::of(logits.view(), &labels);
        assert_eq!(notes, [""; 0]);
        let least = calibration.unsure_below.unwrap();
        let share = |least: f32| {
            let sure = Analysis::calibrated(logits.view(), &labels, calibration).predictions;
            let sure: Vec<bool> =
                sure.iter().filter(|p| p.probability >= least).map(|p| p.is_right()).collect();
            sure.iter().filter(|right| **right).count() as f64 / sure.len() as f64
        };
        assert!(share(least) >= RIGHT && share(least - 0.05) < RIGHT, "{least}: {}", share(least));
        assert_eq!(calibration.is_unsure(least), Some(false));
        assert_eq!(calibration.is_unsure(least - 1e-3), Some(true));
    }

    #[test]
    fn what_cannot_be_found_is_said() {
        let none = Calibrated::of(Array2::zeros([0, 3]).view(), &[]);
        assert!(none.calibration == Calibration::default() && none.notes[0].contains("stays 1"));
        // All are right: the surer the better, without end.
        let right = Array2::from_shape_fn([30, 3], |(i, c)| f32::from(u8::from(i % 3 == c)));
        let labels: Vec<u32> = (0..30).map(|i| i % 3).collect();
        let found = Calibrated::of(right.view(), &labels);
        assert!(found.calibration.temperature == 1.0 && found.notes.len() == 1, "{found:?}");
        assert!(found.calibration.unsure_below.is_some());
        let few = Calibrated::of(right.slice_move(ndarray::s![..19, ..]).view(), &labels[..19]);
        assert!(few.calibration == Calibration::default(), "{few:?}");
        assert!(few.notes.len() == 1 && few.notes[0].starts_with("19 of the 20"), "{few:?}");
    }
}
