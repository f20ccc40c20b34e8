//! Labels that are likely wrong, by confident learning (Northcutt, Jiang and Chuang 2021).
//!
//! Of each class, the mean probability that its own images get of it is how sure the model is of
//! the class. An image whose model says another class than its label, and is at least as sure of it
//! as of that class's own images, is likely one of that class. The probabilities must be of images
//! that the model was not trained on.

use super::analysis::Analysis;

/// An image whose label is likely wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Suspect {
    /// Place of the image in its analysis.
    pub place: usize,
    /// Number of the analysis that it is of.
    pub set: usize,
    /// By how much the prediction is more probable than the label.
    pub margin: f32,
}

/// The images with likely wrong labels in several sets, the most likely first.
pub fn suspects(sets: &[&Analysis]) -> Vec<Suspect> {
    let classes = sets.iter().map(|set| set.classes.len()).max().unwrap_or(0);
    let mut sums = vec![(0.0f64, 0usize); classes];
    for prediction in sets.iter().flat_map(|set| &set.predictions) {
        let (sum, count) = &mut sums[prediction.label];
        (*sum, *count) = (*sum + f64::from(prediction.label_probability), *count + 1);
    }
    let mut found = Vec::new();
    for (set, analysis) in sets.iter().enumerate() {
        for (place, p) in analysis.predictions.iter().enumerate().filter(|(_, p)| !p.is_right()) {
            let (sum, count) = sums[p.predicted];
            if count > 0 && f64::from(p.probability) >= sum / count as f64 {
                found.push(Suspect { place, set, margin: p.probability - p.label_probability });
            }
        }
    }
    found.sort_by(|a, b| b.margin.total_cmp(&a.margin).then((a.set, a.place).cmp(&(b.set, b.place))));
    found
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;

    use super::*;
    use crate::kernels::rng::{self, Stream};
    use crate::models::Calibration;

    #[test]
    fn suspects_are_those_of_the_definition() {
        let unit = |i: usize, c: usize| rng::unit(rng::draw(5, Stream::Init, i as u32, c as u32)[0]);
        let labels: Vec<u32> = (0..120).map(|i| (3.0 * unit(i, 7)) as u32).collect();
        let logits = Array2::from_shape_fn([120, 4], |(i, c)| {
            4.0 * unit(i, c) + f32::from(u8::from(labels[i] as usize == c))
        });
        let of = |rows: std::ops::Range<usize>| {
            Analysis::of(logits.slice(ndarray::s![rows.clone(), ..]), &labels[rows])
        };
        let found = suspects(&[&of(0..50), &of(50..120)]);
        let mut found: Vec<usize> = found.iter().map(|s| s.place + 50 * s.set).collect();
        found.sort_unstable();
        // As the paper has it: a threshold a class, and among the classes that reach theirs.
        let p: Vec<Vec<f32>> =
            logits.outer_iter().map(|row| Calibration::default().probabilities(row)).collect();
        let threshold = |class: usize| {
            let own: Vec<f32> =
                (0..120).filter(|i| labels[*i] as usize == class).map(|i| p[i][class]).collect();
            if own.is_empty() { f32::INFINITY } else { own.iter().sum::<f32>() / own.len() as f32 }
        };
        let expected = (0..120).filter(|&i| {
            let best = (0..4).max_by(|a, b| p[i][*a].total_cmp(&p[i][*b])).unwrap();
            best != labels[i] as usize && p[i][best] >= threshold(best)
        });
        assert_eq!(found, expected.collect::<Vec<_>>());
        assert!(found.len() > 5);
    }

    #[test]
    fn planted_labels_are_found_the_surest_first() {
        // The later an image, the surer the model.
        let logits = Array2::from_shape_fn([40, 2], |(i, c)| {
            (3.0 + 0.01 * i as f32) * f32::from(u8::from(i % 2 == c))
        });
        let mut labels: Vec<u32> = (0..40).map(|i| i % 2).collect();
        assert!(suspects(&[&Analysis::of(logits.view(), &labels)]).is_empty());
        (labels[31], labels[37]) = (0, 0);
        let found = suspects(&[&Analysis::of(logits.view(), &labels)]);
        assert_eq!(found.iter().map(|s| s.place).collect::<Vec<_>>(), [37, 31]);
    }
}
