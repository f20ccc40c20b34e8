//! The models and recipes `fast` and `accurate` against PyTorch: steps in their published form, the
//! weights of the stem included (`tools/fast_goldens.py` writes the files); and a recipe by the
//! program, on images of other sizes too.

mod common;

use std::path::Path;

use cifar_engine::data::{Dataset, Images};
use cifar_engine::error::Error;
use cifar_engine::exec::cpu::Cpu;
use cifar_engine::exec::{Device, PlanId};
use cifar_engine::kernels::simd::Isa;
use cifar_engine::model::Model;
use cifar_engine::models::Spec;
use cifar_engine::nn::Parameter;
use cifar_engine::ops::augment::Augmentations;
use cifar_engine::train::plans::{self, ModelGraph, Totals};
use cifar_engine::train::settings::{ACCURATE, Choices, FAST, Recipe, Settings};
use cifar_engine::train::{self, Unobserved};
use cifar_engine::weights::{self, WeightsFile};
use common::gpu;
use common::program::{Bench, json};
use common::stopped::Stopped;

const STEPS: usize = 3;
const BATCH: usize = 16;
const SIDE: usize = 32;
/// As in the script: the rates of filters, biases and the head, and what each decay is times its
/// rate.
const RATES: [(&str, f32); 4] = [
    ("rate", 1.0 / 16.0),
    ("bias_rate", 1.0 / 128.0),
    ("stem_rate", 1.0 / 128.0),
    ("classifier_rate", 1.0 / 512.0),
];
const DECAY: f32 = 1.0 / 1024.0;

/// As in the script: convolutions of a block, and steps.
struct Form {
    convolutions: usize,
    steps: usize,
}

/// Of the largest value: float32 through a network and three steps of Newton and Schulz's iteration
/// in each of three steps.
const TOLERANCE: f64 = 2e-3;

fn numbers(len: usize, seed: usize) -> Vec<f32> {
    (0..len).map(|i| (((i * 7919 + seed * 104_729 + 17) % 1009) as f64 / 504.5 - 1.0) as f32).collect()
}

/// The images of the script.
fn images() -> Images {
    let pixel = |i: usize| {
        let (image, row, column, channel) =
            (i / (SIDE * SIDE * 3), i / (SIDE * 3) % SIDE, i / 3 % SIDE, i % 3);
        let slope = row * (3 + image % 5) + column * (2 + image % 7);
        ((slope + channel * (11 + image % 3) * 5 + i * 7919 % 61) % 256) as u8
    };
    let pixels: Vec<u8> = (0..STEPS * BATCH * SIDE * SIDE * 3).map(pixel).collect();
    let labels = (0..(STEPS * BATCH) as u32).map(|i| i % 10).collect();
    Images { pixels: pixels.into(), labels, size: SIDE, files: Vec::new() }
}

fn settings(recipe: &Recipe) -> Settings {
    Settings {
        batch_size: BATCH,
        augment: Augmentations::default(),
        weight_decay: DECAY * 512.0,
        bias_decay: DECAY * 128.0,
        ..recipe.settings()
    }
}

fn spec(settings: &Settings) -> Spec {
    let spec = train::bare_spec(settings.model, SIDE, 10);
    Spec { mean: [125.0; 3], std: [64.0; 3], norm: settings.norm, ..spec }
}

/// What the script gives a parameter; the stem's weights are those that images give.
fn initial(parameter: &Parameter, convolutions: usize, of_images: Vec<f32>) -> Vec<f32> {
    let (name, len) = (parameter.name.as_str(), parameter.shape.len());
    let scaled = |seed, factor: f64| -> Vec<f32> {
        numbers(len, seed).into_iter().map(|x| (f64::from(x) * factor) as f32).collect()
    };
    let of_block = |part: &str| {
        let (block, rest) = name.strip_prefix("block")?.split_once('.')?;
        let number = rest.strip_prefix(part)?.chars().next()?.to_digit(10)?;
        Some(convolutions * (block.parse::<usize>().ok()? - 1) + number as usize - 1)
    };
    match (name, of_block("conv"), of_block("norm")) {
        ("stem.bias", ..) => scaled(100, 0.25),
        ("head.weight", ..) => scaled(200, 1.0 / 256.0),
        (_, Some(seed), _) => {
            let fan_in: usize = parameter.shape.dims()[..3].iter().product();
            scaled(seed, 1.0 / (fan_in as f64).sqrt())
        }
        (_, _, Some(seed)) if name.ends_with(".bias") => scaled(50 + seed, 0.25),
        _ => of_images,
    }
}

/// Losses of the steps, and parameters after them.
fn train_on(device: &mut dyn Device, recipe: &Recipe, form: &Form) -> (Vec<f64>, Vec<(Parameter, Vec<f32>)>) {
    let (images, settings) = (images(), settings(recipe));
    let spec = spec(&settings);
    let ModelGraph { graph, parameters, .. } = plans::training(&spec, &settings, images.len()).unwrap();
    let plan: PlanId = device.load(&graph).unwrap();
    plans::upload(device, plan, "train", &images).unwrap();
    let values = plans::initial_values_for(&parameters, 0, &spec, &images).unwrap().into_iter();
    let values = parameters.iter().zip(values);
    let values: Vec<Vec<f32>> = values.map(|(p, v)| initial(p, form.convolutions, v)).collect();
    plans::write_parameters(device, plan, &parameters, &values).unwrap();
    device.write(plan, "loss_gradient", [1.0f32].as_slice().into()).unwrap();
    for (input, rate) in RATES {
        device.write(plan, input, [rate].as_slice().into()).unwrap();
    }
    device.record(plan, &["totals"]).unwrap();
    let mut losses = Vec::new();
    for step in 0..form.steps {
        let indices: Vec<u32> = (0..BATCH).map(|i| (step * BATCH + i) as u32).collect();
        device.write(plan, "indices", indices.as_slice().into()).unwrap();
        device.write(plan, "step", [step as u32].as_slice().into()).unwrap();
        device.run(plan).unwrap();
        device.collect(plan, true, &mut |totals| losses.push(Totals::from(totals).mean_loss())).unwrap();
    }
    let state = |parameter: Parameter| {
        let values = device.read_state(plan, &parameter.name).unwrap();
        (parameter, values)
    };
    (losses, parameters.into_iter().map(state).collect())
}

/// The largest distance, as a share of the largest value.
fn distance(found: &[f64], golden: &[f32]) -> f64 {
    assert_eq!(found.len(), golden.len());
    let largest = golden.iter().fold(0.0, |largest: f64, x| largest.max(f64::from(x.abs())));
    let pairs = found.iter().zip(golden).map(|(x, y)| (x - f64::from(*y)).abs());
    pairs.fold(0.0, |most: f64, x| if x.is_nan() { f64::INFINITY } else { most.max(x) }) / largest
}

fn check(device: &mut dyn Device, recipe: &Recipe, form: &Form) {
    let file = format!("tests/goldens/{}.safetensors", recipe.name);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    let WeightsFile { tensors: goldens, .. } = weights::load(&path).expect("run tools/fast_goldens.py");
    let (losses, parameters) = train_on(device, recipe, form);
    let golden = |name: &str| goldens[name].data.as_slice();
    assert!(distance(&losses, golden("losses")) < 1e-4, "{losses:?}, not {:?}", golden("losses"));
    let mut compared = 0;
    for (parameter, values) in parameters {
        let Some(golden) = goldens.get(&parameter.name) else { continue };
        let wide: Vec<f64> = values.into_iter().map(f64::from).collect();
        let (first, last) = golden.data.split_at(golden.data.len() - 1);
        let off = match parameter.name.as_str() {
            // All of it: the stem stays as it begins.
            "stem.weight" => distance(&wide, &golden.data),
            _ => {
                let norm = wide.iter().map(|x| x * x).sum::<f64>().sqrt();
                distance(&wide[..first.len()], first).max(distance(&[norm], last))
            }
        };
        assert!(off < TOLERANCE, "{recipe}, {}: off by {off:e}", parameter.name);
        compared += 1;
    }
    assert_eq!(compared, 2 + 3 * form.convolutions * 2 + 1);
}

fn cpu() -> Cpu {
    Cpu::new(2, Isa::detect()).unwrap()
}

#[test]
fn steps_are_those_of_pytorch() {
    let forms =
        [(&FAST, Form { convolutions: 2, steps: 3 }), (&ACCURATE, Form { convolutions: 3, steps: 2 })];
    for (recipe, form) in &forms {
        check(&mut cpu(), recipe, form);
    }
    // What the other is made of on a GPU is the same.
    let (recipe, form) = &forms[0];
    if let Some(mut gpu) = gpu::open() {
        check(&mut gpu, recipe, form);
    }
}

/// An epoch of two steps.
const TRAIN: &str = "train --data . --recipe fast --epochs 1 --batch-size 40 --validation 20";

#[test]
fn weights_remember_the_views() {
    let bench = Bench::small();
    bench.ok(&format!("{TRAIN} --out run"));
    let result = json(&bench.ok("evaluate run --json"));
    assert_eq!((&result["test_flip"], &result["test_shift"]), (&true.into(), &true.into()));
    let text = bench.ok("evaluate run");
    assert!(text.contains("averaged over six views"), "{text}");
    let three = bench.ok("evaluate run --test-flip=false");
    assert!(three.contains("averaged over three views"), "{three}");
    let one = bench.ok("evaluate run --test-flip=false --test-shift=false");
    assert!(!one.contains("averaged") && !one.contains("without"), "{one}");
}

/// The same bits on any number of threads, and after an interruption.
#[test]
fn the_recipe_is_repeatable() {
    let bench = Bench::small();
    let command = TRAIN.replace("--epochs 1", "--epochs 3 --seed 7");
    let weights = |run: &str| std::fs::read(bench.path(run).join("last.safetensors")).unwrap();
    bench.ok(&format!("{command} --threads 1 --out one"));
    bench.ok(&format!("{command} --threads 3 --out three"));
    assert!(weights("one") == weights("three"), "threads change bits");
    let folder = bench.path("stopped");
    let data = Dataset::open(&bench.path(".").to_string_lossy()).unwrap();
    let choices = Choices { recipe: Some(&FAST), ..Choices::default() };
    let choices = choices.epochs(3).seed(7).batch_size(40).validation(20);
    let stopped = Model::train_on(Box::new(cpu()), data.clone(), &choices, &folder, &mut Stopped(3));
    assert!(matches!(stopped.err(), Some(Error::Interrupted)));
    Model::train_on(Box::new(cpu()), data, &choices, &folder, &mut Unobserved).unwrap();
    assert!(weights("stopped") == weights("one"), "an interruption changes bits");
}

#[test]
fn images_of_other_sizes_are_taken_and_those_too_small_told() {
    let bench = Bench::small();
    for size in [9, 40] {
        bench.ok(&format!("{TRAIN} --image-size {size} --out run-{size}"));
    }
    let problem = ["this model is for images of 9 pixels and more, not 8"];
    bench.fails(2, &format!("{TRAIN} --image-size 8 --augment flip --out small"), &problem);
    bench.ok("summary resnet18 --image-size 17");
    bench.fails(2, "summary resnet18 --image-size 16", &["images of 17 pixels and more, not 16"]);
}
