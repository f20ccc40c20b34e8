//! What the machine can do at most: fused multiply-adds in registers, a large matrix product, a
//! copy of memory. The kernels' figures are read as shares of these, from the same run.

use cifar_engine::kernels::matmul::{self, Product, Right};
use cifar_engine::kernels::peak::{MultiplyAdds, copy};
use cifar_engine::kernels::simd::Isa;
use criterion::{Criterion, SamplingMode, Throughput};
use rayon::ThreadPoolBuilder;

/// 256 MB, far beyond the caches.
const COPIED: usize = 64 << 20;
const SIDE: usize = 1536;

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
        timer.iter(|| {
            pool.install(|| {
                matmul::multiply(
                    isa,
                    &product,
                    (a.as_slice().into(), Right::Plain(&b)),
                    None,
                    None,
                    c.as_mut_slice().into(),
                    &mut scratch,
                )
            })
        });
    });

    let from = vec![1.0f32; COPIED];
    let mut to = vec![0.0f32; COPIED];
    group.throughput(Throughput::Bytes(8 * COPIED as u64));
    group.bench_function("memory copy", |timer| {
        timer.iter(|| pool.install(|| copy(&from, &mut to)));
    });
    group.finish();
}
