//! Every kernel of the CNN at its real shapes: each different node of the training and inference
//! graphs at batch 128, as a plan of one step on the CPU, beside the machine's own peaks.
//! `benches/README.md` tells how to read it.

#[path = "../../tests/common/cnn.rs"]
#[allow(dead_code)] // the tests use more of it
mod cnn;
mod peak;
mod steps;

use std::time::Duration;

use cifar_engine::exec::Device;
use cifar_engine::exec::cpu::Cpu;
use cifar_engine::exec::cpu::rules::RULES;
use cifar_engine::exec::plan::Plan;
use cifar_engine::graph::rewrite::rewrite;
use cifar_engine::kernels::simd::Isa;
use cifar_engine::train::optimizers::adam::ADAM;
use cifar_engine::train::optimizers::sgd::SGD;
use cnn::Size;
use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use steps::{Bench, different_steps};

const BATCH: usize = 128;
/// Images on the device: more than a cache holds, as the real data set.
const IMAGES: usize = 10_000;

fn throughput(bench: &Bench) -> Throughput {
    match bench.op.cost(&bench.types).flops {
        0 => Throughput::Bytes(bench.bytes() as u64),
        flops => Throughput::Elements(flops),
    }
}

/// The different nodes of the fused graphs.
fn benches() -> Vec<Bench> {
    let size = Size { data: IMAGES, ..Size::full(BATCH) };
    let graphs = [cnn::training(&size, &ADAM), cnn::training(&size, &SGD), cnn::inference(&size)];
    let plan = |mut network: cnn::Network| {
        rewrite(&mut network.graph, RULES).unwrap();
        Plan::compile(&network.graph).unwrap()
    };
    different_steps(graphs.into_iter().map(plan).collect())
}

fn kernels(criterion: &mut Criterion) {
    let name = std::env::var("CIFAR_ENGINE_ISA");
    let isa: Isa = name.map_or_else(|_| Isa::detect(), |name| name.parse().unwrap());
    let mut cpu = Cpu::new(0, isa).unwrap();
    println!("instruction set {isa}, {} threads, batch {BATCH}", cpu.threads());
    peak::bench(criterion, isa, cpu.threads());
    for bench in benches() {
        let mut group = criterion.benchmark_group(bench.op.name());
        group.sampling_mode(SamplingMode::Flat).throughput(throughput(&bench));
        // Loaded when its turn comes, so that a filter on the command line costs nothing.
        let mut plan = None;
        group.bench_function(&bench.name, |timer| {
            let plan = *plan.get_or_insert_with(|| bench.load(&mut cpu));
            timer.iter(|| cpu.run(plan).unwrap());
        });
    }
}

criterion_group! {
    name = all;
    config = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_millis(700))
        .without_plots();
    targets = kernels
}
criterion_main!(all);
