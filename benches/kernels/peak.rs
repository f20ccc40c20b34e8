//! What the machine can do at most: fused multiply-adds in registers, a large matrix product, a copy of
//! memory. The kernels' figures are read as shares of these, from the same run.

use cifar_engine::kernels::matmul::{self, Product};
use cifar_engine::kernels::simd::{Isa, Kernel, Simd};
use criterion::{Criterion, SamplingMode, Throughput};
use rayon::ThreadPoolBuilder;
use rayon::prelude::*;

/// Independent chains of multiply-adds: enough to cover the latency of two units.
const CHAINS: usize = 12;
const ROUNDS: usize = 1_000_000;
/// 256 MB, far beyond the caches.
const COPIED: usize = 64 << 20;
const SIDE: usize = 1536;

/// Multiply-adds that depend on registers alone; returns their number of operations.
struct MultiplyAdds;

impl Kernel for MultiplyAdds {
    type Output = u64;
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> u64 {
        let (a, b) = (simd.splat(std::hint::black_box(0.999)), simd.splat(std::hint::black_box(1e-3)));
        let mut sums = [simd.zero(); CHAINS];
        for _ in 0..ROUNDS {
            for sum in &mut sums {
                *sum = simd.multiply_add(*sum, a, b);
            }
        }
        std::hint::black_box(sums);
        (2 * CHAINS * ROUNDS * S::LANES) as u64
    }
}

pub fn bench(criterion: &mut Criterion, isa: Isa, threads: usize) {
    let pool = ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    let mut group = criterion.benchmark_group("peak");
    group.sampling_mode(SamplingMode::Flat);

    group.throughput(Throughput::Elements(threads as u64 * isa.run(MultiplyAdds)));
    group.bench_function("multiply-adds", |timer| {
        timer.iter(|| pool.broadcast(|_| isa.run(MultiplyAdds)));
    });

    let product = Product { m: SIDE, n: SIDE, k: SIDE, a_transposed: false, b_transposed: false };
    let (a, b) = (vec![0.5f32; SIDE * SIDE], vec![0.25f32; SIDE * SIDE]);
    let (mut c, mut scratch) = (vec![0.0f32; SIDE * SIDE], vec![0.0f32; matmul::scratch(isa, &product).0]);
    group.throughput(Throughput::Elements(2 * (SIDE * SIDE * SIDE) as u64));
    group.bench_function("matrix product", |timer| {
        timer.iter(|| pool.install(|| matmul::multiply(isa, &product, &a, &b, None, &mut c, &mut scratch)));
    });

    let from = vec![1.0f32; COPIED];
    let mut to = vec![0.0f32; COPIED];
    group.throughput(Throughput::Bytes(8 * COPIED as u64));
    group.bench_function("memory copy", |timer| {
        let chunk = 1 << 20;
        let copy = |to: &mut [f32]| {
            to.par_chunks_mut(chunk)
                .zip(from.par_chunks(chunk))
                .for_each(|(to, from)| to.copy_from_slice(from));
        };
        timer.iter(|| pool.install(|| copy(&mut to)));
    });
    group.finish();
}
