//! Notes on how to read the curves of a training.

/// Shown beside the curves.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reading {
    /// Reasons why the training loss is larger than the validation loss; none where there is none.
    pub loss: Option<String>,
    /// The first epoch of a second stage.
    pub second_stage: Option<usize>,
}

impl Reading {
    /// For a training with label smoothing, dropout, and augmentation or not, on so many classes.
    /// The validation has none of them.
    pub fn of(smoothing: f32, dropout: f32, augmented: bool, classes: usize) -> Reading {
        let mut parts = Vec::new();
        if smoothing > 0.0 {
            let floor = least_loss(f64::from(smoothing), classes);
            parts.push(format!("label smoothing {smoothing} (never below {floor:.2})"));
        }
        if dropout > 0.0 {
            parts.push(format!("dropout {dropout}"));
        }
        if augmented {
            parts.push("augmentation".to_string());
        }
        let (last, rest) = (parts.pop(), parts.join(", "));
        let list = last.map(|last| if rest.is_empty() { last } else { format!("{rest} and {last}") });
        let loss = list.map(|list| format!("the training loss is with {list}, the validation loss without"));
        Reading { loss, second_stage: None }
    }
}

#[cfg(feature = "plots")]
/// A sentence that begins with a capital letter.
pub(super) fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}

/// The cross-entropy of a model that predicts the smoothed targets exactly: their entropy.
fn least_loss(smoothing: f64, classes: usize) -> f64 {
    let other = smoothing / classes as f64;
    let label = 1.0 - smoothing + other;
    let entropy = |p: f64| if p > 0.0 { -p * p.ln() } else { 0.0 };
    entropy(label) + (classes as f64 - 1.0) * entropy(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_training_loss_holds_is_said() {
        let loss = |smoothing, dropout, augmented| Reading::of(smoothing, dropout, augmented, 10).loss;
        assert_eq!(loss(0.0, 0.0, false), None);
        let all = "the training loss is with label smoothing 0.1 (never below 0.50), dropout 0.3 and augmentation, \
                   the validation loss without";
        assert_eq!(loss(0.1, 0.3, true).unwrap(), all);
        assert_eq!(
            loss(0.0, 0.5, false).unwrap(),
            "the training loss is with dropout 0.5, the validation loss without"
        );
    }

    /// Against the op, at the targets themselves.
    #[test]
    fn the_least_loss_is_that_of_the_smoothed_targets() {
        let (smoothing, classes) = (0.2f64, 4);
        let targets: Vec<f64> = [0.85, 0.05, 0.05, 0.05].to_vec();
        let loss: f64 = targets.iter().map(|p| -p * p.ln()).sum();
        assert!((least_loss(smoothing, classes) - loss).abs() < 1e-12);
        assert_eq!(least_loss(0.0, 10), 0.0);
    }
}
