//! Weights that whiten the patches of images (Jordan 2024, arXiv 2404.00498).
//!
//! What they put out of a data set's patches is uncorrelated and, but for directions in which these
//! hardly vary, of one variance. From "94% on CIFAR-10 in 3.29 Seconds on a Single GPU".
//!
//! With the eigenvalues `l` and eigenvectors `v` of the patches' second moments, the filters are
//! `v / sqrt(l + 5e-4)`, that of the largest eigenvalue first, and then their negatives, so that
//! both signs pass an activation.

use crate::data::{CHANNELS, Images};
use crate::error::Result;

/// Images as a model sees them: a pixel enters as `(pixel - mean) / std`.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// Those to learn from.
    pub images: &'a Images,
    /// Of each channel, in units of 0..255.
    pub mean: [f32; CHANNELS],
    /// As for the mean.
    pub std: [f32; CHANNELS],
}

/// What is added to a variance, which may be zero.
const EPSILON: f64 = 5e-4;

/// So many pixels are enough, of the first images: 5000 of 32 x 32.
const MOST_PIXELS: usize = 5000 * 32 * 32;

/// Turns of all pairs of axes until an eigenvalue is found; a few suffice.
const MOST_SWEEPS: usize = 50;

/// How many filters there are for squares of so many pixels a side.
pub fn filter_count(kernel: usize) -> usize {
    2 * kernel * kernel * CHANNELS
}

/// The filters for images, `[kernel, kernel, CHANNELS, filters]`.
///
/// # Errors
/// If the images cannot be read.
pub fn filters(seen: Seen, kernel: usize) -> Result<Vec<f32>> {
    moments(seen, kernel).map(filters_of)
}

/// The filters for patches that are white already.
pub fn filters_of_white(kernel: usize) -> Vec<f32> {
    filters_of(identity(kernel * kernel * CHANNELS))
}

/// A square matrix, by rows.
type Matrix = Vec<Vec<f64>>;

fn filters_of(moments: Matrix) -> Vec<f32> {
    let depth = moments.len();
    let mut weights = vec![0.0; depth * 2 * depth];
    for (filter, (value, vector)) in eigen(moments).into_iter().enumerate() {
        for (row, x) in weights.chunks_exact_mut(2 * depth).zip(vector) {
            row[filter] = (x / (value + EPSILON).sqrt()) as f32;
            row[depth + filter] = -row[filter];
        }
    }
    weights
}

/// The mean of `p p'` over all patches p of the first images, as a convolution sees them.
fn moments(seen: Seen, kernel: usize) -> Result<Matrix> {
    let Seen { images, mean, std } = seen;
    let (size, depth) = (images.size, kernel * kernel * CHANNELS);
    let (mut sums, mut patch) = (vec![vec![0.0; depth]; depth], vec![0.0; depth]);
    let used = images.len().min((MOST_PIXELS / (size * size)).max(1));
    for number in 0..used {
        let image = images.image(number)?;
        let image = image.iter().enumerate();
        let image =
            image.map(|(i, &pixel)| f64::from((f32::from(pixel) - mean[i % CHANNELS]) / std[i % CHANNELS]));
        let image: Vec<f64> = image.collect();
        for (top, left) in
            (0..=size - kernel).flat_map(|top| (0..=size - kernel).map(move |left| (top, left)))
        {
            for (row, part) in patch.chunks_exact_mut(kernel * CHANNELS).enumerate() {
                part.copy_from_slice(&image[((top + row) * size + left) * CHANNELS..][..kernel * CHANNELS]);
            }
            for (sums, x) in sums.iter_mut().zip(&patch) {
                sums.iter_mut().zip(&patch).for_each(|(sum, y)| *sum += x * y);
            }
        }
    }
    let count = (used * (size - kernel + 1).pow(2)) as f64;
    sums.iter_mut().flatten().for_each(|sum| *sum /= count);
    Ok(sums)
}

/// Eigenvalues, falling, and eigenvectors of length 1 of a symmetric matrix, each with its largest
/// element above zero. Jacobi's method: turns by pairs of axes, each of which makes an element
/// beside the diagonal zero (Golub and Van Loan, "Matrix Computations", section 8.5).
fn eigen(mut a: Matrix) -> Vec<(f64, Vec<f64>)> {
    let n = a.len();
    let mut vectors = identity(n);
    for _ in 0..MOST_SWEEPS {
        let mut turned = false;
        for (p, q) in (0..n).flat_map(|p| (p + 1..n).map(move |q| (p, q))) {
            // Where it adds nothing to what is on the diagonal, it is zero.
            if a[p][p] + a[p][q].abs() != a[p][p] || a[q][q] + a[p][q].abs() != a[q][q] {
                turn(&mut a, &mut vectors, p, q);
                turned = true;
            }
        }
        if !turned {
            break;
        }
    }
    let mut found: Vec<(f64, Vec<f64>)> = (0..n).map(|i| (a[i][i], signed(vectors[i].clone()))).collect();
    found.sort_by(|(one, _), (other, _)| other.total_cmp(one));
    found
}

/// Turns the axes p and q of a symmetric matrix such that its element between them becomes zero;
/// `vectors` has the axes in its rows.
fn turn(a: &mut Matrix, vectors: &mut Matrix, p: usize, q: usize) {
    let tangent_of_half = (a[q][q] - a[p][p]) / (2.0 * a[p][q]);
    let t = tangent_of_half.signum() / (tangent_of_half.abs() + tangent_of_half.hypot(1.0));
    let c = 1.0 / (t * t + 1.0).sqrt();
    let s = t * c;
    let turned = |x: f64, y: f64| (c * x - s * y, s * x + c * y);
    for row in a.iter_mut() {
        (row[p], row[q]) = turned(row[p], row[q]);
    }
    for rows in [a, vectors] {
        let (before, from_q) = rows.split_at_mut(q);
        for (x, y) in before[p].iter_mut().zip(&mut from_q[0]) {
            (*x, *y) = turned(*x, *y);
        }
    }
}

/// This vector or its opposite: that whose largest element is above zero.
fn signed(vector: Vec<f64>) -> Vec<f64> {
    let largest =
        vector.iter().fold(0.0, |largest: f64, x| if x.abs() > largest.abs() { *x } else { largest });
    let sign = if largest < 0.0 { -1.0 } else { 1.0 };
    vector.into_iter().map(|x| sign * x).collect()
}

fn identity(n: usize) -> Matrix {
    (0..n).map(|i| (0..n).map(|j| f64::from(u8::from(i == j))).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::shapes;

    #[test]
    fn eigenvectors_are_those_of_the_matrix() {
        let n = 12;
        let number = |i: usize| (i * 7919 % 1009) as f64 / 504.5 - 1.0;
        let half: Matrix = (0..n).map(|i| (0..n).map(|j| number(i * n + j)).collect()).collect();
        let dot = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>();
        let matrix: Matrix =
            half.iter().map(|row| half.iter().map(|column| dot(row, column)).collect()).collect();
        let found = eigen(matrix.clone());
        for (i, (value, vector)) in found.iter().enumerate() {
            for (row, x) in matrix.iter().zip(vector) {
                assert!((dot(row, vector) - value * x).abs() < 1e-12, "{value}");
            }
            for (j, (_, other)) in found.iter().enumerate() {
                assert!((dot(vector, other) - f64::from(u8::from(i == j))).abs() < 1e-13);
            }
            assert!(i == 0 || *value < found[i - 1].0);
            let largest = vector.iter().map(|x| x.abs()).fold(0.0, f64::max);
            assert!(vector.contains(&largest), "the sign of {vector:?}");
        }
        let diagonal = eigen(vec![vec![1.0, 0.0], vec![0.0, 2.0]]);
        assert_eq!(diagonal, [(2.0, vec![0.0, 1.0]), (1.0, vec![1.0, 0.0])]);
        assert_eq!(eigen(vec![vec![0.0; 2]; 2]).len(), 2);
    }

    /// What the filters put out of the patches that they are of has their variances as its second
    /// moments, `l / (l + epsilon)`, and no correlations.
    #[test]
    fn patches_become_white() {
        let images = shapes::sized(20, 1, 32, 1).unwrap().train;
        let seen = Seen { images: &images, mean: [120.0, 125.0, 130.0], std: [60.0, 65.0, 70.0] };
        let (moments, weights) = (moments(seen, 2).unwrap(), filters(seen, 2).unwrap());
        let (depth, count) = (12, filter_count(2));
        let out = |a: usize, b: usize| -> f64 {
            let pairs = (0..depth).flat_map(|i| (0..depth).map(move |j| (i, j)));
            pairs
                .map(|(i, j)| {
                    f64::from(weights[i * count + a]) * moments[i][j] * f64::from(weights[j * count + b])
                })
                .sum()
        };
        for a in 0..depth {
            for b in 0..a {
                assert!(out(a, b).abs() < 1e-4, "{a} and {b}: {}", out(a, b));
            }
            assert!((0.0..1.0001).contains(&out(a, a)), "{a}: {}", out(a, a));
            assert!((0..depth).all(|i| weights[i * count + depth + a] == -weights[i * count + a]));
        }
        assert!(out(0, 0) > 0.99);
    }
}
