//! How many images the classes have, and what is odd about that.

use std::collections::BTreeMap;

use crate::text::counted;

/// Among fewer images that are measured on one is more than five points of the accuracy.
const FEW: usize = 20;
/// Classes that differ by more than this are worth a word.
const IMBALANCE: usize = 10;

/// How many of these labels each of `classes` classes has: `[classes]`.
pub fn counts(labels: &[u32], classes: usize) -> Vec<usize> {
    let mut counts = vec![0; classes];
    for &label in labels {
        if let Some(count) = counts.get_mut(label as usize) {
            *count += 1;
        }
    }
    counts
}

/// Warnings about the images that are trained on, validated with and tested on, by their labels.
pub fn warnings(classes: &[String], train: &[u32], validation: &[u32], test: &[u32]) -> Vec<String> {
    let counts = counts(train, classes.len());
    let mut warnings: Vec<String> = alike(classes).into_iter().collect();
    let single: Vec<usize> = (0..classes.len()).filter(|&class| counts[class] == 1).collect();
    if let Some(&first) = single.first() {
        let class = &classes[first];
        let others = match single.len() {
            1 => String::new(),
            n => format!(" (and {} more)", n - 1),
        };
        warnings
            .push(format!("class {class}{others} has a single image to train on; none is held back from it"));
    }
    let by_count = |&class: &usize| counts[class];
    let (most, least) = ((0..classes.len()).max_by_key(by_count), (0..classes.len()).min_by_key(by_count));
    if let (Some(most), Some(least)) = (most, least)
        && counts[most] > IMBALANCE * counts[least]
    {
        warnings.push(format!(
            "class {} has {} training images and class {} has {}: an accuracy over all says little about small classes",
            classes[most], counts[most], classes[least], counts[least]
        ));
    }
    for (set, labels) in [("validation", validation), ("test", test)] {
        let n = labels.len();
        if (1..FEW).contains(&n) {
            let (images, points) = (counted(n, &format!("{set} image")), 100.0 / n as f64);
            warnings.push(format!("{images}: one is {points:.1} points of the {set} accuracy"));
        }
    }
    warnings
}

/// A warning where two classes can hardly be meant as two, as on another system their folders would
/// be one.
fn alike(classes: &[String]) -> Option<String> {
    let mut seen = BTreeMap::new();
    classes.iter().find_map(|class| {
        let other = seen.insert(class.trim().to_lowercase(), class)?;
        Some(format!("classes '{other}' and '{class}' differ in capitals or in spaces around them only"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_and_uneven_images_are_told() {
        let classes = ["a", "b", "c"].map(String::from);
        let labels = |counts: [usize; 3]| -> Vec<u32> {
            counts.iter().zip(0..).flat_map(|(&n, label)| vec![label; n]).collect()
        };
        let even = labels([50, 50, 50]);
        assert!(warnings(&classes, &even, &[0; 20], &[0; 20]).is_empty());
        assert!(warnings(&classes, &even, &[], &[]).is_empty());
        let few = warnings(&classes, &even, &[0; 18], &[0]);
        assert_eq!(
            few,
            [
                "18 validation images: one is 5.6 points of the validation accuracy",
                "1 test image: one is 100.0 points of the test accuracy"
            ]
        );
        let uneven = warnings(&classes, &labels([30, 1, 1]), &[0; 20], &[]);
        assert!(uneven[0].starts_with("class b (and 1 more) has a single image"), "{uneven:?}");
        let twice = ["Dog", "cat", "dog "].map(String::from);
        let alike = "classes 'Dog' and 'dog ' differ in capitals or in spaces around them only";
        assert_eq!(warnings(&twice, &even, &[0; 20], &[]), [alike]);
        assert!(uneven[1].starts_with("class a has 30 training images and class b has 1:"), "{uneven:?}");
    }
}
