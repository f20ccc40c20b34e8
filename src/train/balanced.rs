//! The order of an epoch in which each class is drawn equally often, however many images it has.

use crate::kernels::rng::{self, Stream, draw, permutation};

/// As many images as there are, by their labels: an equal share of each class that has images, one
/// more of some where that does not come out even. A class's images all come before one comes
/// again. It depends on the seed and the epoch only.
pub fn order(labels: &[u32], seed: u32, epoch: u32) -> Vec<u32> {
    let mut classes: Vec<Vec<u32>> = Vec::new();
    for (image, &label) in (0..).zip(labels) {
        classes.resize(classes.len().max(label as usize + 1), Vec::new());
        classes[label as usize].push(image);
    }
    classes.retain(|images| !images.is_empty());
    let (count, len) = (classes.len().max(1), labels.len());
    // Every class has random numbers of its own, far from those of the whole epoch.
    let own_seed = |class: u32| draw(seed, Stream::Shuffle, epoch, u32::MAX - class)[0];
    let mut drawn = Vec::with_capacity(len);
    // Those that are drawn once more change from epoch to epoch.
    for (turn, class) in permutation(classes.len(), own_seed(0), Stream::Shuffle, epoch).iter().enumerate() {
        let images = &classes[*class as usize];
        let share = len / count + usize::from(turn < len % count);
        let rounds =
            (0..).flat_map(|round| permutation(images.len(), own_seed(class + 1), Stream::Shuffle, round));
        drawn.extend(rounds.take(share).map(|place| images[place as usize]));
    }
    let places = rng::permutation(len, seed, Stream::Shuffle, epoch);
    places.into_iter().map(|place| drawn[place as usize]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::balance::counts;

    /// 90, 9, 0 and 2 images.
    fn labels() -> Vec<u32> {
        (0..101)
            .map(|i| {
                if i < 90 {
                    0
                } else if i < 99 {
                    1
                } else {
                    3
                }
            })
            .collect()
    }

    #[test]
    fn every_class_is_drawn_equally_often() {
        let labels = labels();
        for epoch in 1..20 {
            let order = order(&labels, 7, epoch);
            let drawn: Vec<u32> = order.iter().map(|image| labels[*image as usize]).collect();
            let counts = counts(&drawn, 4);
            assert!(counts.iter().sum::<usize>() == 101 && counts[2] == 0, "{counts:?}");
            assert!([0, 1, 3].iter().all(|class| (33..=34).contains(&counts[*class])), "{counts:?}");
            // Of a class, no image comes twice more than another.
            let mut times = vec![0; 101];
            order.iter().for_each(|image| times[*image as usize] += 1);
            for range in [0..90, 90..99, 99..101] {
                let times = &times[range];
                assert!(times.iter().max().unwrap() - times.iter().min().unwrap() <= 1, "{times:?}");
            }
        }
    }

    #[test]
    fn it_depends_on_the_seed_and_the_epoch_alone() {
        let labels = labels();
        assert_eq!(order(&labels, 7, 3), order(&labels, 7, 3));
        assert_ne!(order(&labels, 7, 3), order(&labels, 8, 3));
        assert_ne!(order(&labels, 7, 3), order(&labels, 7, 4));
        // In the end every image of a large class is seen, and classes are mixed.
        let seen: std::collections::BTreeSet<u32> = (1..20).flat_map(|e| order(&labels, 7, e)).collect();
        assert_eq!(seen.len(), 101);
        let first: Vec<u32> = order(&labels, 7, 1).iter().map(|image| labels[*image as usize]).collect();
        assert!(first.windows(2).filter(|pair| pair[0] != pair[1]).count() > 40);
        assert!(order(&[], 7, 1).is_empty());
    }
}
