//! Decisions by the history of the epochs' figures: which weights are best, when to stop, when to
//! lower the rate.
//!
//! Nothing of it is saved in a checkpoint, for it follows from the history that is.

use crate::report::{EpochMetrics, metrics};

/// The epoch (from 1) whose weights are kept ([`metrics::best`]); 0 without epochs. Without a
/// validation set nothing tells which epoch was best, and the last one stands in.
pub fn best_epoch(history: &[EpochMetrics]) -> usize {
    metrics::best(history).map_or(history.len(), |row| row.epoch)
}

/// The best validation accuracy, 0 to 1.
pub fn best_accuracy(history: &[EpochMetrics]) -> Option<f64> {
    history.iter().filter_map(|row| row.validation_accuracy).reduce(f64::max)
}

/// For each epoch, whether its validation accuracy was better than all before it.
fn improvements(history: &[EpochMetrics]) -> impl Iterator<Item = bool> {
    let mut best = f64::NEG_INFINITY;
    history.iter().map(move |row| {
        let score = row.validation_accuracy.unwrap_or(f64::NEG_INFINITY);
        let better = score > best;
        best = best.max(score);
        better
    })
}

/// Epochs since the last one that was better than all before it.
pub fn stale_epochs(history: &[EpochMetrics]) -> usize {
    improvements(history).fold(0, |stale, better| if better { 0 } else { stale + 1 })
}

/// How often there were `patience` epochs in a row without improvement, counted anew after each
/// time.
pub fn plateaus(history: &[EpochMetrics], patience: usize) -> i32 {
    let (mut waited, mut found) = (0, 0);
    for better in improvements(history) {
        waited = if better { 0 } else { waited + 1 };
        if waited == patience {
            (waited, found) = (0, found + 1);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(accuracies: &[f64]) -> Vec<EpochMetrics> {
        let row = |(i, &accuracy): (usize, &f64)| EpochMetrics {
            epoch: i + 1,
            train_loss: 1.0,
            train_accuracy: 0.5,
            validation_loss: Some(1.0),
            validation_accuracy: (accuracy >= 0.0).then_some(accuracy),
            rate: 0.1,
            images_per_s: 1.0,
            seconds: 1.0,
            validation_images: 1000,
            proof: None,
        };
        accuracies.iter().enumerate().map(row).collect()
    }

    #[test]
    fn the_loss_decides_between_equals() {
        let mut rows = history(&[0.1, 0.7, 0.7, 0.7, 0.6]);
        for (row, loss) in rows.iter_mut().zip([0.1, 0.5, 0.4, 0.4, 0.2]) {
            row.validation_loss = Some(loss);
        }
        assert_eq!(best_epoch(&rows), 3);
        assert_eq!(best_epoch(&rows[..2]), 2);
        rows[4].validation_accuracy = Some(0.8);
        assert_eq!(best_epoch(&rows), 5);
    }

    /// The accuracy of few images is chance: a model that is surely wrong can have the better one.
    #[test]
    fn the_loss_alone_decides_where_few_images_were_validated() {
        let mut rows = history(&[0.3, 0.4, 0.6]);
        for (row, loss) in rows.iter_mut().zip([1.1, 0.9, 1e4]) {
            row.validation_loss = Some(loss);
        }
        let best = |rows: &mut [EpochMetrics], images| {
            rows.iter_mut().for_each(|row| row.validation_images = images);
            best_epoch(rows)
        };
        assert_eq!([1, 24, 249].map(|images| best(&mut rows, images)), [2, 2, 2]);
        // 0: of a run whose checkpoint does not say.
        assert_eq!([0, 250, 5000].map(|images| best(&mut rows, images)), [3, 3, 3]);
        // Sure of all of them: a little surer is no better.
        rows[0].validation_loss = Some(0.902);
        assert_eq!(best(&mut rows, 24), 1);
    }

    #[test]
    fn the_first_of_the_best_counts() {
        assert_eq!(best_epoch(&history(&[0.1, 0.7, 0.3, 0.7])), 2);
        assert_eq!(best_epoch(&history(&[-1.0, -1.0, -1.0])), 3);
        assert_eq!(best_epoch(&[]), 0);
        assert_eq!(best_accuracy(&history(&[0.1, 0.7, 0.3])), Some(0.7));
        assert_eq!(best_accuracy(&history(&[-1.0])), None);
    }

    #[test]
    fn epochs_without_improvement_are_counted() {
        let flat = history(&[0.1, 0.5, 0.5, 0.4, 0.5, 0.3, 0.6, 0.6]);
        let stale: Vec<usize> = (0..=8).map(|n| stale_epochs(&flat[..n])).collect();
        assert_eq!(stale, [0, 0, 0, 1, 2, 3, 4, 0, 1]);
        let plateaus: Vec<i32> = (0..=8).map(|n| plateaus(&flat[..n], 2)).collect();
        assert_eq!(plateaus, [0, 0, 0, 0, 1, 1, 2, 2, 2]);
    }
}
