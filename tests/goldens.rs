//! The CNN against PyTorch: one step's every tensor, ten steps of Adam, and inference, from the
//! same weights and pictures, on every instruction set. `tools/torch_goldens.py` writes the file;
//! it is committed, and these tests fail without it.

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cifar_engine::exec::cpu::Cpu;
use cifar_engine::exec::cpu::rules::RULES;
use cifar_engine::exec::plan::Plan;
use cifar_engine::exec::{Device, PlanId};
use cifar_engine::graph::rewrite::rewrite;
use cifar_engine::kernels::simd::Isa;
use cifar_engine::models;
use cifar_engine::nn::{Norm, Parameter};
use cifar_engine::train::optimizers::adam::ADAM;
use cifar_engine::weights::{self, WeightsFile};
use common::cnn::{self, CLASSES, Network, Size};

const STEPS: usize = 10;
const SIZE: Size = Size {
    batch: 8,
    height: 16,
    width: 24,
    widths: [4, 6, 8],
    features: 16,
    dropout: 0.0,
    norm: Norm { epsilon: 1e-3, momentum: 0.1 },
    data: 0,
};

/// How far a tensor may be off, relative to its largest magnitude. One step is float32 rounding
/// through twenty layers there and back.
const ONE_STEP: f64 = 1e-5;
/// Adam divides by the gradient's own size, which magnifies the rounding of elements near zero.
const TEN_STEPS: f64 = 1e-5;
/// A bias before a batch norm has no effect and a gradient of pure rounding, which Adam takes at
/// its word: up to one rate a step, 0.01 in ten. Its values, and the means that move with it, are
/// about 0.5.
const WANDERING: f64 = 0.03;
/// The rate of Adam in the golden file.
const RATE: f32 = 1e-3;
/// Magnitudes below this count as this.
const FLOOR: f64 = 0.02;
/// The gradient of a bias before a batch norm is zero: what is found is the rounding of the sum of
/// thousands of terms that cancel.
const CANCELLED: f64 = 1e-4;

/// Tensors by name, in the engine's layout.
type Tensors = BTreeMap<String, Vec<f32>>;

fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/cnn.safetensors")
}

fn goldens() -> WeightsFile {
    weights::load(path()).expect("run tools/torch_goldens.py")
}

/// The tensors whose names begin with `prefix`, for exactly these parameters, as the engine lays
/// them out.
fn converted(goldens: &WeightsFile, prefix: &str, parameters: &[Parameter]) -> Tensors {
    let strip = |name: &String| name.strip_prefix(prefix)?.strip_prefix('.').map(String::from);
    let tensors = goldens.tensors.iter().filter_map(|(name, t)| Some((strip(name)?, t.clone())));
    let file = WeightsFile { tensors: tensors.collect(), ..WeightsFile::default() };
    let values = models::values(&file, parameters, &path()).unwrap();
    parameters.iter().map(|p| p.name.clone()).zip(values).collect()
}

fn plain(goldens: &WeightsFile, name: &str) -> Vec<f32> {
    goldens.tensors[name].data.clone()
}

/// Batch `step`: pictures `[N, H, W, C]` from PyTorch's `[N, C, H, W]`, and labels.
fn batch(goldens: &WeightsFile, step: usize) -> (Vec<f32>, Vec<u32>) {
    let Size { batch, height, width, .. } = SIZE;
    let image = 3 * height * width;
    let pictures = &goldens.tensors["pictures"].data[step * batch * image..][..batch * image];
    let mut x = Vec::with_capacity(pictures.len());
    for picture in pictures.chunks_exact(image) {
        for at in 0..height * width {
            x.extend((0..3).map(|c| picture[c * height * width + at]));
        }
    }
    let labels = &goldens.tensors["labels"].data[step * batch..][..batch];
    (x, labels.iter().map(|&label| label as u32).collect())
}

/// Loads a network's plan on a CPU, with the initial values of all its parameters.
fn start(goldens: &WeightsFile, network: &Network, isa: Isa) -> (Cpu, PlanId) {
    let mut cpu = Cpu::new(2, isa).unwrap();
    let plan = cpu.load_plan(Plan::compile(&network.graph).unwrap(), None).unwrap();
    for (name, values) in converted(goldens, "initial", &network.parameters) {
        cpu.write_state(plan, &name, values.as_slice().into()).unwrap();
    }
    (cpu, plan)
}

/// The training step, with its gradients as outputs, fused.
fn training() -> Network {
    let mut network = cnn::training(&SIZE, &ADAM);
    let names: Vec<String> = network.trainable().iter().map(|p| format!("gradient.{}", p.name)).collect();
    for (name, &gradient) in names.iter().zip(&network.gradients) {
        network.graph.output(name, gradient);
    }
    assert_eq!(rewrite(&mut network.graph, RULES).unwrap().len(), 41);
    network
}

/// Runs training step `step` and returns the loss.
fn train(goldens: &WeightsFile, cpu: &mut Cpu, plan: PlanId, step: usize) -> f32 {
    let (x, labels) = batch(goldens, step);
    cpu.write(plan, "x", x.as_slice().into()).unwrap();
    cpu.write(plan, "labels", labels.as_slice().into()).unwrap();
    cpu.write(plan, "step", [step as u32].as_slice().into()).unwrap();
    cpu.write(plan, "rate", [RATE].as_slice().into()).unwrap();
    cpu.write(plan, "one", [1.0f32].as_slice().into()).unwrap();
    cpu.run(plan).unwrap();
    cpu.read(plan, "loss").unwrap()[0]
}

/// The gradients, logits, loss and running statistics of the first step.
fn first_step(goldens: &WeightsFile, network: &Network, isa: Isa) -> Tensors {
    let (mut cpu, plan) = start(goldens, network, isa);
    let mut found = Tensors::from([("loss".into(), vec![train(goldens, &mut cpu, plan, 0)])]);
    found.insert("logits".into(), cpu.read(plan, "logits").unwrap());
    for parameter in &network.parameters {
        let (name, values) = match parameter.trainable() {
            true => {
                let name = format!("gradient.{}", parameter.name);
                let values = cpu.read(plan, &name).unwrap();
                (name, values)
            }
            false => (parameter.name.clone(), cpu.read_state(plan, &parameter.name).unwrap()),
        };
        found.insert(name, values);
    }
    found
}

fn expected_first_step(goldens: &WeightsFile, network: &Network) -> Tensors {
    let (trained, stored): (Vec<Parameter>, Vec<Parameter>) =
        network.parameters.iter().cloned().partition(|p| p.trainable());
    let mut expected = converted(goldens, "after1", &stored);
    let gradients = converted(goldens, "gradient", &trained);
    expected.extend(gradients.into_iter().map(|(name, values)| (format!("gradient.{name}"), values)));
    expected.insert("loss".into(), vec![plain(goldens, "losses")[0]]);
    expected.insert("logits".into(), plain(goldens, "logits"));
    expected
}

/// The largest difference, relative to the tensor's largest magnitude.
fn error(found: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let scale = expected.iter().fold(FLOOR, |scale, v| scale.max(f64::from(v.abs())));
    let differences = found.iter().zip(expected).map(|(a, b)| f64::from((a - b).abs()));
    differences.fold(0.0, |a: f64, b| if b.is_nan() { f64::INFINITY } else { a.max(b) }) / scale
}

/// Compares tensors of the same names; returns the largest error, or every tensor that is off.
fn compare(
    found: &Tensors,
    expected: &Tensors,
    tolerance: impl Fn(&str) -> f64,
) -> Result<(f64, String), String> {
    assert!(found.keys().eq(expected.keys()), "{:?} but {:?}", found.keys(), expected.keys());
    let errors: Vec<(f64, &String)> =
        found.iter().map(|(name, found)| (error(found, &expected[name]), name)).collect();
    let wrong = errors.iter().filter(|(error, name)| *error > tolerance(name));
    let wrong: Vec<String> = wrong.map(|(error, name)| format!("{name} is off by {error:e}")).collect();
    let largest = errors.iter().max_by(|a, b| a.0.total_cmp(&b.0)).unwrap();
    if wrong.is_empty() { Ok((largest.0, largest.1.clone())) } else { Err(wrong.join("\n")) }
}

/// Whether the parameter is a bias before a batch norm.
fn idle(name: &str) -> bool {
    name.contains("conv") && name.ends_with("bias")
}

/// Whether [`WANDERING`] applies.
fn wanders(name: &str) -> bool {
    name.ends_with("running_mean") || idle(name)
}

/// The tensors that neither cancel nor wander.
fn firm(tensors: &Tensors) -> Tensors {
    let firm = tensors.iter().filter(|(name, _)| !wanders(name));
    firm.map(|(name, values)| (name.clone(), values.clone())).collect()
}

fn one_step(name: &str) -> f64 {
    if idle(name) { CANCELLED } else { ONE_STEP }
}

#[test]
fn the_first_step_matches_pytorch() {
    let (goldens, network) = (goldens(), training());
    let expected = expected_first_step(&goldens, &network);
    assert_eq!(expected.len(), 2 + 28 + 12);
    for isa in Isa::available() {
        let found = first_step(&goldens, &network, isa);
        compare(&found, &expected, one_step).unwrap();
        let (largest, name) = compare(&firm(&found), &firm(&expected), |_| ONE_STEP).unwrap();
        println!("{isa}: at most {largest:.1e} ({name})");
    }
}

#[test]
fn ten_steps_of_adam_match_pytorch() {
    let (goldens, network) = (goldens(), training());
    let expected_losses = Tensors::from([("losses".into(), plain(&goldens, "losses"))]);
    assert_eq!(expected_losses["losses"].len(), STEPS);
    let expected = converted(&goldens, "after10", &network.parameters);
    let first = plain(&goldens, "losses")[0];
    assert!(expected_losses["losses"][STEPS - 1] != first, "a curve that stands still shows nothing");
    for isa in Isa::available() {
        let (mut cpu, plan) = start(&goldens, &network, isa);
        let losses: Vec<f32> = (0..STEPS).map(|step| train(&goldens, &mut cpu, plan, step)).collect();
        let losses = Tensors::from([("losses".into(), losses)]);
        let read = |p: &Parameter| (p.name.clone(), cpu.read_state(plan, &p.name).unwrap());
        let found: Tensors = network.parameters.iter().map(read).collect();

        let (loss, _) = compare(&losses, &expected_losses, |_| ONE_STEP).unwrap();
        compare(&found, &expected, |name| if wanders(name) { WANDERING } else { TEN_STEPS }).unwrap();
        let (largest, name) = compare(&firm(&found), &firm(&expected), |_| TEN_STEPS).unwrap();
        println!("{isa}: losses {loss:.1e}, parameters at most {largest:.1e} ({name})");
    }
}

fn inference_logits(goldens: &WeightsFile, isa: Isa) -> Vec<f32> {
    let mut network = cnn::inference(&SIZE);
    assert_eq!(rewrite(&mut network.graph, RULES).unwrap().len(), 13);
    let (mut cpu, plan) = start(goldens, &network, isa);
    cpu.write(plan, "x", batch(goldens, 0).0.as_slice().into()).unwrap();
    cpu.run(plan).unwrap();
    cpu.read(plan, "logits").unwrap()
}

#[test]
fn inference_matches_pytorch() {
    let goldens = goldens();
    let expected = plain(&goldens, "eval_logits");
    assert_eq!(expected.len(), SIZE.batch * CLASSES);
    for isa in Isa::available() {
        let error = error(&inference_logits(&goldens, isa), &expected);
        println!("{isa}: {error:.1e}");
        assert!(error < ONE_STEP, "{isa}: off by {error:e}");
    }
}

/// The comparison sees what it is there to see.
#[test]
fn planted_errors_are_noticed() {
    let (goldens, network) = (goldens(), training());
    let expected = expected_first_step(&goldens, &network);
    let right = first_step(&goldens, &network, Isa::detect());
    let noticed = |plant: &dyn Fn(&mut Tensors)| {
        let mut found = right.clone();
        plant(&mut found);
        compare(&found, &expected, one_step).unwrap_err()
    };
    let names = right.keys().filter(|name| !idle(name));
    for name in names {
        let scaled = noticed(&|t| t.get_mut(name).unwrap().iter_mut().for_each(|v| *v *= 1.001));
        assert!(scaled.starts_with(name.as_str()) && scaled.lines().count() == 1, "{name}: {scaled}");
    }
    let swapped = noticed(&|t| {
        let [a, b] = ["gradient.bn3.weight", "gradient.bn3.bias"].map(|name| t[name].clone());
        t.extend([("gradient.bn3.weight".into(), b), ("gradient.bn3.bias".into(), a)]);
    });
    assert_eq!(swapped.lines().count(), 2);
    let nan = noticed(&|t| t.get_mut("logits").unwrap()[3] = f32::NAN);
    assert!(nan.contains("logits"));
}

/// A dense layer after the flattening read as an ordinary one: the rows of its weights in PyTorch's
/// order.
#[test]
fn a_forgotten_conversion_is_noticed() {
    let goldens = goldens();
    let mut network = cnn::inference(&SIZE);
    let fc1 = network.parameters.iter_mut().find(|p| p.name == "fc1.weight").unwrap();
    fc1.layout = weights::Layout::Dense;
    let (mut cpu, plan) = start(&goldens, &network, Isa::detect());
    cpu.write(plan, "x", batch(&goldens, 0).0.as_slice().into()).unwrap();
    cpu.run(plan).unwrap();
    assert!(error(&cpu.read(plan, "logits").unwrap(), &plain(&goldens, "eval_logits")) > 1e-2);
}
