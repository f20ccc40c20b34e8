//! Every GPU kernel at its real shapes: each different step of the models' training and inference
//! plans, as a plan of one step, beside what the GPU does at most in the same run.
//! `benches/README.md` tells how to read it.

#[path = "../kernels/steps.rs"]
mod steps;

use std::sync::Arc;
use std::time::Instant;

use cifar_engine::exec::Device;
use cifar_engine::exec::gpu::Gpu;
use cifar_engine::exec::gpu::adapter::{Adapter, Choice};
use cifar_engine::exec::plan::Plan;
use cifar_engine::models::Architecture;
use cifar_engine::ops::linear::matmul::Matmul;
use cifar_engine::ops::movement::copy::Copy;
use cifar_engine::ops::{Op, Types};
use cifar_engine::tensor::TensorType;
use cifar_engine::train::bare_spec;
use cifar_engine::train::optimizers::adam::ADAM;
use cifar_engine::train::optimizers::sgd::SGD;
use cifar_engine::train::plans;
use cifar_engine::train::settings::Settings;
use steps::{Bench, CLASSES, different_steps};

/// How much work is measured: a software adapter would take hours for what a GPU does.
struct Scale {
    /// Side of the matrices whose product is the peak.
    side: usize,
    /// Values that are copied.
    copied: usize,
    models: &'static [Model],
    /// Most runs of a step, and the time after which there are no more.
    runs: usize,
    seconds: f64,
}

/// A model to take the steps from.
struct Model {
    name: &'static str,
    /// Side of its images in pixels.
    image_size: usize,
    /// Images a step.
    batch_size: usize,
    /// Images on the device.
    images: usize,
}

const REAL: Scale = Scale {
    side: 4096,
    copied: 32 << 20,
    models: &[
        Model { name: "cnn", image_size: 32, batch_size: 512, images: 10_000 },
        Model { name: "mobilenet-v1", image_size: 224, batch_size: 32, images: 1000 },
    ],
    runs: 50,
    seconds: 0.5,
};

const SOFTWARE: Scale = Scale {
    side: 512,
    copied: 4 << 20,
    models: &[
        Model { name: "cnn", image_size: 32, batch_size: 8, images: 1000 },
        Model { name: "mobilenet-v1", image_size: 64, batch_size: 2, images: 100 },
    ],
    runs: 3,
    seconds: 0.2,
};

/// The plans of a model.
fn programs(gpu: &Gpu, model: &Model) -> Vec<Plan> {
    let Model { name, image_size, batch_size, images } = *model;
    let model: &Architecture = name.parse().unwrap();
    let spec = bare_spec(model, image_size, CLASSES);
    let training = |optimizer| {
        let settings = Settings { model, batch_size, optimizer, ..Settings::default() };
        gpu.plan(&plans::training(&spec, &settings, images).unwrap().graph).unwrap()
    };
    let inference = plans::evaluation(&spec, "test", images, batch_size).unwrap();
    let inference = gpu.plan(&inference.graph).unwrap();
    vec![training(&ADAM), training(&SGD), inference]
}

/// Median seconds of a step, after one run that is not counted.
fn time(gpu: &mut Gpu, bench: &Bench, scale: &Scale) -> f64 {
    let plan = bench.load(gpu);
    let mut run = || {
        let mut seconds = 0.0;
        gpu.profile(plan, &mut |_, _, step| seconds += step).unwrap();
        seconds
    };
    run();
    let begin = Instant::now();
    let mut times = vec![run()];
    while times.len() < scale.runs && begin.elapsed().as_secs_f64() < scale.seconds {
        times.push(run());
    }
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// What the GPU does at most: operations and bytes a second.
struct Peak {
    flops: f64,
    bytes: f64,
}

fn peak(gpu: &mut Gpu, scale: &Scale) -> Peak {
    let matrix = || TensorType::f32([scale.side, scale.side]);
    let product = Matmul::default();
    let product =
        peak_bench(format!("{0} x {0} x {0}", scale.side), Arc::new(product), vec![matrix(), matrix()]);
    let copied = TensorType::f32([scale.copied]);
    let copy = peak_bench(format!("{} MiB", scale.copied >> 18), Arc::new(Copy), vec![copied]);
    let flops = product.op.cost(&product.types).flops as f64 / time(gpu, &product, scale);
    let bytes = copy.bytes() as f64 / time(gpu, &copy, scale);
    println!(
        "peak: matrix product {} {:.1} GFLOP/s, copy of {} {:.1} GB/s",
        product.name,
        flops / 1e9,
        copy.name,
        bytes / 1e9
    );
    Peak { flops, bytes }
}

fn peak_bench(name: String, op: Arc<dyn Op>, inputs: Vec<TensorType>) -> Bench {
    let outputs = op.output_types(&inputs.iter().collect::<Vec<_>>()).unwrap();
    Bench { name, op, types: Types { inputs, outputs } }
}

/// One line: the rate that bounds the step, and its share of the peak.
fn report(bench: &Bench, seconds: f64, peak: &Peak) {
    let (rate, unit, most) = match bench.op.cost(&bench.types).flops {
        0 => (bench.bytes() as f64 / seconds, "GB/s", peak.bytes),
        flops => (flops as f64 / seconds, "GFLOP/s", peak.flops),
    };
    let (name, share) = (format!("{} {}", bench.op.name(), bench.name), 100.0 * rate / most);
    println!("{name:<60} {:>10.3} ms {:>10.1} {unit:<8} {share:>5.0} %", seconds * 1e3, rate / 1e9);
}

fn main() {
    // As with other benches: what has a word of the command line in its name.
    let filters: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let adapter = match Adapter::choose(&Choice::Any) {
        Ok(adapter) => adapter,
        Err(error) => return println!("nothing is measured: {error}"),
    };
    let scale = if adapter.is_software() { SOFTWARE } else { REAL };
    println!("{} ({})", adapter.name(), adapter.description().driver);
    let peak = peak(&mut Gpu::open(&adapter).unwrap(), &scale);
    for model in scale.models {
        println!("{}, {1} x {1} pixels, batch {2}", model.name, model.image_size, model.batch_size);
        for bench in different_steps(programs(&Gpu::open(&adapter).unwrap(), model)) {
            let name = format!("{} {}", bench.op.name(), bench.name);
            if filters.is_empty() || filters.iter().any(|filter| name.contains(filter)) {
                // A device of its own, so that memory is given back.
                let seconds = time(&mut Gpu::open(&adapter).unwrap(), &bench, &scale);
                report(&bench, seconds, &peak);
            }
        }
    }
}
