//! Which images of a set are held back, for validation or for the test: a random choice that
//! depends on the seed only.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::kernels::rng::{self, Stream};

/// Share of the images of a class that is held back for the test where there is no test set.
const TEST_SHARE: f64 = 0.2;

/// The `n` images to set aside for validation, as rising indices into `labels`. The last image of a
/// class is never taken: another one takes its place, if there is one.
///
/// # Errors
/// If no image would be left.
pub fn validation(labels: &[u32], n: usize, seed: u32) -> Result<Vec<u32>> {
    let len = labels.len();
    if n >= len.max(1) {
        return Err(Error::Usage(format!(
            "cannot set {n} images aside for validation: there are {len} training images"
        )));
    }
    let order = rng::permutation(len, seed, Stream::Split, 0);
    let (first, others) = order.split_at(n);
    let label = |i: &u32| labels[*i as usize];
    let mut left: BTreeMap<u32, usize> = BTreeMap::new();
    others.iter().for_each(|i| *left.entry(label(i)).or_default() += 1);
    let mut taken = Vec::with_capacity(n);
    for i in first {
        match left.entry(label(i)).or_default() {
            none @ 0 => *none = 1,
            _ => taken.push(*i),
        }
    }
    for i in others {
        let left = left.entry(label(i)).or_default();
        if taken.len() < n && *left > 1 {
            *left -= 1;
            taken.push(*i);
        }
    }
    taken.sort_unstable();
    Ok(taken)
}

/// Which of the `len` images of a class are held back for the test: a fifth, at least one of two,
/// none of one. As rising indices.
pub(super) fn test(len: usize, seed: u32, class: usize) -> Vec<usize> {
    let share = (len as f64 * TEST_SHARE).round() as usize;
    let count = if len < 2 { 0 } else { share.max(1) };
    // Step 0 is the validation's.
    let order = rng::permutation(len, seed, Stream::Split, class as u32 + 1);
    let mut taken: Vec<usize> = order[..count].iter().map(|&i| i as usize).collect();
    taken.sort_unstable();
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_every_class_keeps_an_image_the_choice_is_the_plain_one() {
        let labels: Vec<u32> = (0..100).map(|i| i % 3).collect();
        let mut plain = rng::permutation(100, 5, Stream::Split, 0)[..30].to_vec();
        plain.sort_unstable();
        assert_eq!(validation(&labels, 30, 5).unwrap(), plain);
    }

    #[test]
    fn the_last_image_of_a_class_stays() {
        let labels: Vec<u32> = (0..20).map(|i| if i < 10 { i } else { 99 }).collect();
        for seed in 0..50 {
            let taken = validation(&labels, 9, seed).unwrap();
            assert_eq!(taken.len(), 9);
            assert!(taken.iter().all(|&i| labels[i as usize] == 99), "seed {seed}: {taken:?}");
            // Where there is no other image, there are fewer.
            assert_eq!(validation(&labels, 15, seed).unwrap().len(), 9);
        }
    }

    #[test]
    fn a_fifth_of_each_class_is_for_the_test() {
        let count = |len| test(len, 0, 0).len();
        assert_eq!([0, 1, 2, 3, 7, 8, 10, 100].map(count), [0, 0, 1, 1, 1, 2, 2, 20]);
        assert_eq!(test(100, 3, 1), test(100, 3, 1));
        assert_ne!(test(100, 3, 1), test(100, 4, 1));
        assert_ne!(test(100, 3, 1), test(100, 3, 2));
    }
}
