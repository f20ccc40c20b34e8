//! Every kernel of the CNN at its real shapes: each different node of the training and inference graphs at
//! batch 128, as a plan of one step on the CPU, beside the machine's own peaks. `benches/README.md` tells how
//! to read it.

#[path = "../../tests/common/cnn.rs"]
#[allow(dead_code)] // the tests use more of it
mod cnn;
mod peak;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use cifar_engine::exec::cpu::Cpu;
use cifar_engine::exec::{Data, Device, PlanId};
use cifar_engine::graph::fuse::fuse;
use cifar_engine::graph::plan::{Plan, Step};
use cifar_engine::graph::{Graph, Value};
use cifar_engine::kernels::simd::Isa;
use cifar_engine::ops::{Op, Types};
use cifar_engine::tensor::{DType, TensorType};
use cifar_engine::train::optimizer::Optimizer;
use cnn::{CLASSES, Size};
use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};

const BATCH: usize = 128;
/// Images on the device: more than a cache holds, as the real data set.
const IMAGES: usize = 10_000;
/// Parameters and statistics whose steps move less than this take no time in a run, and are left out.
const SMALLEST_BYTES: usize = 200_000;

/// A node by itself.
struct Bench {
    /// With the op's name, unique: states and inputs are called after it.
    name: String,
    op: Arc<dyn Op>,
    types: Types,
}

impl Bench {
    fn bytes(&self) -> usize {
        match self.op.name() {
            // It reads a batch of the data set, not all of it.
            "augment" => BATCH * self.types.inputs[0].dims()[1] * 4 + self.types.outputs[0].bytes(),
            _ => self.types.inputs.iter().chain(&self.types.outputs).map(TensorType::bytes).sum(),
        }
    }

    fn throughput(&self) -> Throughput {
        match self.op.flops(&self.types) {
            0 => Throughput::Bytes(self.bytes() as u64),
            flops => Throughput::Elements(flops),
        }
    }

    /// A plan of this one step. What the op replaces is a state, so that no copy comes along.
    fn load(&self, cpu: &mut Cpu) -> PlanId {
        let replaced = |i: usize| self.op.in_place().iter().any(|pair| pair.1 == i);
        let mut graph = Graph::new();
        let mut operand = |(i, ty): (usize, &TensorType)| {
            let name = format!("{} {} {i}", self.op.name(), self.name);
            if replaced(i) { graph.state(&name, ty.clone()).unwrap() } else { graph.input(&name, ty.clone()) }
        };
        let inputs: Vec<Value> = self.types.inputs.iter().enumerate().map(&mut operand).collect();
        let outputs = graph.apply_shared(self.op.clone(), &inputs).unwrap();
        for (i, &output) in outputs.iter().enumerate() {
            match self.op.in_place().iter().find(|pair| pair.0 == i) {
                Some(&(_, input)) => graph.update(inputs[input], output).unwrap(),
                None => graph.output(&format!("out{i}"), output),
            }
        }
        let plan = Plan::compile(&graph).unwrap();
        assert_eq!(plan.steps.len(), 1, "{} needs a copy", self.name);
        let id = cpu.load(plan).unwrap();
        for (i, ty) in self.types.inputs.iter().enumerate() {
            let (name, words) = (format!("{} {} {i}", self.op.name(), self.name), self.fill(i, ty));
            let floats: Vec<f32> = words.iter().map(|&word| f32::from_bits(word)).collect();
            let data = if ty.dtype == DType::F32 { Data::F32(&floats) } else { Data::U32(&words) };
            if replaced(i) {
                cpu.write_state(&name, data).unwrap()
            } else {
                cpu.write(id, &name, data).unwrap()
            }
        }
        id
    }

    /// Numbers in [0, 1), which suit variances and second moments too, centred where the op's speed could
    /// depend on signs; small integers for labels, indices and steps, bits for pictures.
    fn fill(&self, input: usize, ty: &TensorType) -> Vec<u32> {
        let bits =
            |i: usize| (i as u32).wrapping_add(1).wrapping_mul(2_654_435_761) ^ (input as u32 * 0x9E37);
        let unit = |i: usize| (bits(i) >> 8) as f32 / (1 << 24) as f32;
        let signed = ty.dims().len() > 1 && !self.op.name().starts_with("adam");
        let word = |i: usize| match (ty.dtype, self.op.name(), input) {
            (DType::F32, ..) => (unit(i) - if signed { 0.5 } else { 0.0 }).to_bits(),
            (DType::U32, "augment", 0) => bits(i),
            (DType::U32, "augment", 2) => bits(i) % IMAGES as u32,
            (DType::U32, ..) => bits(i) % CLASSES as u32,
        };
        (0..ty.len()).map(word).collect()
    }
}

/// The layer, and for a matrix product which of the three it is.
fn name(step: &Step) -> String {
    let attributes = format!("{:?}", step.op);
    let form = [("a_transposed: true", "weight gradient"), ("b_transposed: true", "input gradient")];
    let form = form.into_iter().find(|(attribute, _)| attributes.contains(attribute)).map(|(_, form)| form);
    [Some(step.layer.as_str()), form].into_iter().flatten().collect::<Vec<_>>().join(" ")
}

/// The different nodes of the fused graphs, in the order of their ops.
fn benches() -> Vec<Bench> {
    let size = Size { data: IMAGES, ..Size::full(BATCH) };
    let graphs =
        [cnn::training(&size, Optimizer::Adam), cnn::training(&size, Optimizer::Sgd), cnn::inference(&size)];
    let mut known = HashSet::new();
    let mut benches = Vec::new();
    for mut network in graphs {
        fuse(&mut network.graph);
        let plan = Plan::compile(&network.graph).unwrap();
        for step in plan.steps {
            let bench = Bench { name: name(&step), op: step.op, types: step.types };
            let new = known.insert(format!("{:?} {:?}", bench.op, bench.types));
            let small = bench.bytes() < SMALLEST_BYTES;
            let counts =
                !small || !["adam", "sgd", "moving_average", "sum_rows", "copy"].contains(&bench.op.name());
            if new && counts {
                benches.push(bench);
            }
        }
    }
    benches.sort_by_key(|bench| bench.op.name());
    benches
}

fn kernels(criterion: &mut Criterion) {
    let name = std::env::var("CIFAR_ENGINE_ISA");
    let isa: Isa = name.map_or_else(|_| Isa::detect(), |name| name.parse().unwrap());
    let mut cpu = Cpu::new(0, isa).unwrap();
    println!("instruction set {isa}, {} threads, batch {BATCH}", cpu.threads());
    peak::bench(criterion, isa, cpu.threads());
    for bench in benches() {
        let mut group = criterion.benchmark_group(bench.op.name());
        group.sampling_mode(SamplingMode::Flat).throughput(bench.throughput());
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
