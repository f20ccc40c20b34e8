//! Images that are there twice: the same pixels, or hardly different ones.
//!
//! An image's fingerprint is a difference hash (64 bits: in an 8 x 9 grid of its mean grey values,
//! which of two neighbours in a row is lighter) and an 8 x 8 grid of those means. Two images are
//! alike if their hashes differ in few bits and their means by little; so a scaled, re-compressed
//! or slightly cut copy is found, a mirrored or turned one is not.

use std::collections::HashMap;

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::watch::{ImageProgress, Watch};
use super::{CHANNELS, Images};
use crate::error::Result;

/// Bits of 64 in which the hashes of images that are alike may differ.
const BITS: u32 = 6;
/// Levels of 255 by which their mean grey values may differ, in the mean.
const LEVELS: u32 = 6;
/// Rows and columns of the grid of means.
const GRID: usize = 8;

/// An image that is there a second time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Double {
    /// The number of the first one that is like it.
    pub first: usize,
    /// Its own number.
    pub second: usize,
    /// Whether the two have the same pixels; else they are alike.
    pub same: bool,
}

/// The images of some sets, counted through all of them, that are the same as one before them, or
/// alike; of several before it the first that is the same, or else the first that is most alike.
///
/// # Errors
/// If images cannot be read; [`Error::Interrupted`](crate::error::Error::Interrupted) where the
/// work is to stop.
pub fn doubles(sets: &[&Images], watch: &dyn Watch) -> Result<Vec<Double>> {
    let images: Vec<(&Images, usize)> =
        sets.iter().flat_map(|set| (0..set.len()).map(move |i| (*set, i))).collect();
    let progress = ImageProgress::new(watch, "looking at", images.len());
    let print = |(set, i): &(&Images, usize)| {
        progress.one()?;
        Ok(Fingerprint::of(&set.image(*i)?, set.size))
    };
    let prints: Vec<Fingerprint> = images.par_iter().map(print).collect::<Result<_>>()?;
    let mut seen = HashMap::new();
    let same: Vec<Option<usize>> = (0..images.len())
        .map(|number| match *seen.entry(prints[number].digest).or_insert(number) {
            first if first < number => Some(first),
            _ => None,
        })
        .collect();
    let progress = ImageProgress::new(watch, "comparing", images.len());
    let double = |second: usize| {
        progress.one()?;
        if let Some(first) = same[second] {
            return Ok(Some(Double { first, second, same: true }));
        }
        let alike = (0..second).filter_map(|first| Some((prints[first].distance(&prints[second])?, first)));
        Ok(alike.min().map(|(_, first)| Double { first, second, same: false }))
    };
    let found: Result<Vec<Option<Double>>> = (0..images.len()).into_par_iter().map(double).collect();
    Ok(found?.into_iter().flatten().collect())
}

struct Fingerprint {
    /// SHA-256 of the pixels: no two images share one.
    digest: [u8; 32],
    hash: u64,
    means: [u8; GRID * GRID],
}

impl Fingerprint {
    fn of(pixels: &[u8], size: usize) -> Fingerprint {
        let grid = means(pixels, size, GRID + 1);
        let lighter = |place: usize| {
            let (row, column) = (place / GRID, place % GRID);
            u64::from(grid[row * (GRID + 1) + column] < grid[row * (GRID + 1) + column + 1]) << place
        };
        let hash = (0..GRID * GRID).map(lighter).sum();
        let means = means(pixels, size, GRID);
        let digest = Sha256::digest(pixels).into();
        Fingerprint { digest, hash, means: std::array::from_fn(|place| means[place]) }
    }

    /// How far apart two images are that are alike.
    fn distance(&self, other: &Fingerprint) -> Option<u32> {
        let bits = (self.hash ^ other.hash).count_ones();
        if bits > BITS {
            return None;
        }
        let pairs = self.means.iter().zip(&other.means);
        let levels: u32 = pairs.map(|(a, b)| u32::from(a.abs_diff(*b))).sum();
        let cells = self.means.len() as u32;
        (levels <= LEVELS * cells).then_some(bits * cells + levels)
    }
}

/// Mean grey values of [`GRID`] rows and so many columns of cells that cover the image.
fn means(pixels: &[u8], size: usize, columns: usize) -> Vec<u8> {
    // A cell has a pixel at least, of an image of 8 x 8 too.
    let part = |cell: usize, cells: usize| {
        let first = cell * size / cells;
        first..((cell + 1) * size / cells).max(first + 1)
    };
    let mean = |row: usize, column: usize| {
        let (rows, columns) = (part(row, GRID), part(column, columns));
        let count = (rows.len() * columns.len() * CHANNELS) as u32;
        let lines =
            rows.map(|y| &pixels[(y * size + columns.start) * CHANNELS..][..columns.len() * CHANNELS]);
        (lines.flatten().map(|byte| u32::from(*byte)).sum::<u32>() / count) as u8
    };
    (0..GRID).flat_map(|row| (0..columns).map(move |column| (row, column))).map(|(r, c)| mean(r, c)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::image_file::resize_square;
    use crate::data::shapes;
    use crate::data::watch::Unwatched;

    fn find(images: &[Vec<u8>], size: usize) -> Vec<Double> {
        let set = |images: &[Vec<u8>]| {
            let (pixels, labels) = (images.concat().into(), vec![0; images.len()]);
            Images { pixels, labels, size, files: Vec::new() }
        };
        let (first, second) = images.split_at(images.len() / 2);
        doubles(&[&set(first), &set(second)], &Unwatched).unwrap()
    }

    #[test]
    fn copies_are_found_and_other_images_are_not() {
        let images = shapes::sized(40, 1, 64, 3).unwrap().train;
        let mut all: Vec<Vec<u8>> = (0..40).map(|i| images.image(i).unwrap().into_owned()).collect();
        assert_eq!(find(&all, 64), []);
        all.push(all[7].clone());
        all.push(resize_square(&resize_square(&all[9], 64, 48).unwrap(), 48, 64).unwrap());
        all.push(all[11].iter().map(|byte| byte.saturating_add(3)).collect());
        let found = find(&all, 64);
        let expected = [(7, 40, true), (9, 41, false), (11, 42, false)];
        assert_eq!(found, expected.map(|(first, second, same)| Double { first, second, same }));
    }

    #[test]
    fn the_smallest_images_have_fingerprints() {
        let grey = |level: u8| vec![level; 8 * 8 * CHANNELS];
        let found = find(&[grey(10), grey(200), grey(14), grey(10)], 8);
        assert_eq!(
            found.iter().map(|d| (d.first, d.second, d.same)).collect::<Vec<_>>(),
            [(0, 2, false), (0, 3, true)]
        );
    }
}
