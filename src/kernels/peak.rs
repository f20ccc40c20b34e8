//! Peak rates of the machine: the bounds that a kernel's time is compared with.

use std::hint::black_box;
use std::time::Instant;

use super::parallel;
use super::simd::{Isa, Kernel, Simd};

/// Independent chains of multiply-adds: enough to cover the latency of two units.
const CHAINS: usize = 12;
const ROUNDS: usize = 1_000_000;

/// Multiply-adds that depend on registers alone; returns their number of operations.
pub struct MultiplyAdds;

impl Kernel for MultiplyAdds {
    type Output = u64;
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> u64 {
        let (a, b) = (simd.splat(black_box(0.999)), simd.splat(black_box(1e-3)));
        let mut sums = [simd.zero(); CHAINS];
        for _ in 0..ROUNDS {
            for sum in &mut sums {
                *sum = simd.multiply_add(*sum, a, b);
            }
        }
        black_box(sums);
        (2 * CHAINS * ROUNDS * S::LANES) as u64
    }
}

/// Copies memory, on all threads of the pool it is called in.
pub fn copy(from: &[f32], to: &mut [f32]) {
    let chunk = 1 << 20;
    let chunks = to.chunks_mut(chunk).zip(from.chunks(chunk));
    parallel::for_each(chunks, &mut [], 0, |(to, from), _| to.copy_from_slice(from));
}

/// The two limits of a device.
#[derive(Clone, Copy, Debug)]
pub struct Peak {
    /// Multiplications and additions a second.
    pub flops: f64,
    /// Bytes a second, read and written.
    pub bytes: f64,
}

/// Elements that [`Peak::measure`] copies: 128 MB, beyond any cache.
const COPIED: usize = 32 << 20;
/// Number of runs, of which the fastest counts.
const RUNS: usize = 5;

/// Which of the two limits a time follows from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// That of multiplications and additions.
    Arithmetic,
    /// That of bytes.
    Memory,
}

impl Bound {
    /// Its name: `arithmetic` or `memory`.
    pub fn name(self) -> &'static str {
        match self {
            Bound::Arithmetic => "arithmetic",
            Bound::Memory => "memory",
        }
    }
}

impl Peak {
    /// The shortest time in seconds that the limits allow for so much work.
    pub fn floor(&self, flops: u64, bytes: u64) -> f64 {
        (flops as f64 / self.flops).max(bytes as f64 / self.bytes)
    }

    /// Which limit that time follows from.
    pub fn bound(&self, flops: u64, bytes: u64) -> Bound {
        match flops as f64 / self.flops > bytes as f64 / self.bytes {
            true => Bound::Arithmetic,
            false => Bound::Memory,
        }
    }

    /// Measures the pool it is called in: half a second.
    pub fn measure(isa: Isa) -> Peak {
        let fastest = |run: &mut dyn FnMut() -> f64| (0..RUNS).map(|_| run()).fold(0.0, f64::max);
        let flops = fastest(&mut || {
            let begin = Instant::now();
            let done: u64 = rayon::broadcast(|_| isa.run(MultiplyAdds)).into_iter().sum();
            done as f64 / begin.elapsed().as_secs_f64()
        });
        let (from, mut to) = (vec![1.0f32; COPIED], vec![0.0f32; COPIED]);
        let bytes = fastest(&mut || {
            let begin = Instant::now();
            copy(&from, &mut to);
            (8 * COPIED) as f64 / begin.elapsed().as_secs_f64()
        });
        Peak { flops, bytes }
    }
}
