//! Counter-based random numbers.
//!
//! A value depends only on what it is for, never on what was drawn before it, so any thread, device
//! or resumed run draws the same.
//!
//! The generator is `pcg4d` of Jarzynski and Olano, "Hash Functions for GPU Rendering" (JCGT 9(3),
//! 2020): 32-bit integer arithmetic only, so that a shader can hold an identical twin.

/// Purpose that a number is drawn for; keeps the draws of one seed independent of each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Stream {
    /// Initial values of parameters.
    Init = 1,
    /// Order of the images in an epoch.
    Shuffle = 2,
    /// Images held back for validation.
    Split = 3,
    /// Augmentations of images.
    Augment = 4,
    /// Masks of dropout.
    Dropout = 5,
    /// Images of the built-in data set.
    Shapes = 6,
}

/// Four independent 32-bit hashes of a 4-word counter.
pub fn pcg4d(counter: [u32; 4]) -> [u32; 4] {
    let [mut x, mut y, mut z, mut w] = counter.map(|v| v.wrapping_mul(1_664_525).wrapping_add(1_013_904_223));
    for round in 0..2 {
        x = x.wrapping_add(y.wrapping_mul(w));
        y = y.wrapping_add(z.wrapping_mul(x));
        z = z.wrapping_add(x.wrapping_mul(y));
        w = w.wrapping_add(y.wrapping_mul(z));
        if round == 0 {
            [x, y, z, w] = [x, y, z, w].map(|v| v ^ (v >> 16));
        }
    }
    [x, y, z, w]
}

/// The four numbers at `(index, step)` of a stream.
pub fn draw(seed: u32, stream: Stream, step: u32, index: u32) -> [u32; 4] {
    pcg4d([index, step, stream as u32, seed])
}

/// Maps 32 random bits to [0, 1) with 24 bits of precision, exactly representable in f32.
pub fn unit(bits: u32) -> f32 {
    (bits >> 8) as f32 * (1.0 / 16_777_216.0)
}

/// Maps 32 random bits to `0..bound` by the high half of a product (bias below `bound` / 2^32).
pub fn below(bits: u32, bound: u32) -> u32 {
    ((u64::from(bits) * u64::from(bound)) >> 32) as u32
}

/// A permutation of `0..n` (Fisher-Yates, Durstenfeld 1964) that depends on `(seed, stream, step)`.
pub fn permutation(n: usize, seed: u32, stream: Stream, step: u32) -> Vec<u32> {
    let mut order: Vec<u32> = (0..n as u32).collect();
    for i in (1..n).rev() {
        let j = below(draw(seed, stream, step, i as u32)[0], i as u32 + 1);
        order.swap(i, j as usize);
    }
    order
}
