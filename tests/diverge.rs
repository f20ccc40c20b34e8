//! A loss that stops being a number in the middle of a training costs nothing that was finished.

mod common;

use std::fs;

use cifar_engine::data::shapes;
use cifar_engine::error::Result;
use cifar_engine::exec::cpu::Cpu;
use cifar_engine::exec::{Data, Device, PlanId};
use cifar_engine::kernels::rng::{Stream, permutation};
use cifar_engine::kernels::simd::Isa;
use cifar_engine::models::Config;
use cifar_engine::nn::Parameter;
use cifar_engine::ops::conv::Padding;
use cifar_engine::prelude::op::*;
use cifar_engine::prelude::{Architecture, Builder, Graph, TensorType, Value};
use cifar_engine::report::{EpochMetrics, metrics};
use cifar_engine::train::divergence::Cause;
use cifar_engine::train::optimizers::OPTIMIZERS;
use cifar_engine::train::run_folder::RunFolder;
use cifar_engine::train::settings::Settings;
use cifar_engine::train::{self, Observer, StepProgress, plans};
use cifar_engine::weights;
use common::hooked::{Hook, Hooked};
use common::program::{Bench, QUICK, json};
use ndarray::{ArrayD, ArrayViewD};

/// Turns a weight into NaN at a step of the training.
struct Poison {
    /// The training's step counter.
    at: u32,
    /// Before the step runs, so that its loss shows it; else after, as an update that overflows
    /// would.
    before: bool,
    /// How many times it does so: a fault that is repeated, or one of the device.
    times: usize,
    step: u32,
}

impl Poison {
    fn poison(&mut self, cpu: &mut Cpu, plan: PlanId, before: bool) -> Result<()> {
        if self.step == self.at && self.before == before && self.times > 0 {
            self.times -= 1;
            let mut weights = cpu.read_state(plan, "conv3.weight")?;
            weights[17] = f32::NAN;
            cpu.write_state(plan, "conv3.weight", weights.as_slice().into())?;
        }
        Ok(())
    }
}

impl Hook<Cpu> for Poison {
    fn before(&mut self, cpu: &mut Cpu, plan: PlanId) -> Result<()> {
        self.poison(cpu, plan, true)
    }

    fn after(&mut self, cpu: &mut Cpu, plan: PlanId) -> Result<()> {
        self.poison(cpu, plan, false)
    }

    fn wrote(&mut self, input: &str, data: Data) {
        if let ("step", Data::U32(&[step])) = (input, data) {
            self.step = step;
        }
    }
}

struct Silent;

impl Observer for Silent {
    fn step(&mut self, _: &StepProgress) {}

    fn keep_going(&self) -> bool {
        true
    }

    fn epoch(&mut self, _: &EpochMetrics) {}
}

/// Trains for three epochs of four steps with a NaN at one of them; returns the error.
fn train_poisoned(run: &RunFolder, settings: &Settings, at: u32, before: bool, times: usize) -> String {
    let device = Cpu::new(2, Isa::detect()).unwrap();
    let mut device = Hooked { device, hook: Poison { at, before, times, step: 0 } };
    let data = shapes::sized(80, 20, 32, 0).unwrap();
    train::train(&mut device, settings, data, run, &mut Silent).unwrap_err().to_string()
}

#[test]
fn a_nan_names_epoch_and_step_and_keeps_the_last_good_weights() {
    // Steps are counted from 0: step 9 is the second of epoch 3, and step 11 its last, after which
    // no loss of a training step can show what the update did; with a validation set the validation
    // would.
    for (validation, at, before, place) in [
        (16, 9, true, "epoch 3, step 2"),
        (16, 11, false, "epoch 3, step 4"),
        (0, 14, false, "epoch 3, step 5"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings { epochs: 3, batch_size: 16, validation, ..Settings::default() };
        let run = RunFolder::create(Some(folder.path().join("run")), &settings, "shapes").unwrap();
        let error = train_poisoned(&run, &settings, at, before, usize::MAX);
        assert!(error.contains(place) && error.contains("the weights of epoch 2"), "{error}");
        let kept = weights::load(run.last()).unwrap();
        assert!(kept.tensors.values().all(|tensor| tensor.data.iter().all(|value| value.is_finite())));
        assert_eq!(metrics::read_csv(run.path().join("metrics.csv")).unwrap().len(), 2);
        // Found again from the checkpoint: the first to read the weight.
        let found = RunFolder::divergence(run.path()).unwrap().unwrap();
        let Cause::Step(culprit) = &found.cause else { panic!("{:?}", found.cause) };
        assert_eq!((culprit.op.as_str(), culprit.layer.as_str()), ("conv2d", "conv3"));
        let weight = culprit.inputs.iter().find(|input| input.what == "conv3.weight").unwrap();
        let first = weight.first.as_ref().unwrap();
        assert_eq!((weight.not_finite, first.value.as_str()), (1, "NaN"));
        assert_eq!(first.place, [0, 0, 0, 17]);
        assert!(error.contains("conv2d 'conv3'") && error.contains("gave NaN"), "{error}");
        let steps: Vec<usize> = found.norms.iter().map(|norms| norms.step).collect();
        assert_eq!(steps.last(), Some(&found.step));
        assert!(steps.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{steps:?}");
        assert_eq!(steps.len(), found.step.min(4));
        let last = found.norms.last().unwrap().gradients.iter();
        assert!(last.clone().any(|(name, norm)| name == "conv3.weight" && norm.is_none()), "{last:?}");
        assert!(found.norms[0].gradients.iter().all(|(_, norm)| norm.is_some()));
    }
}

#[test]
fn what_does_not_happen_again_is_the_devices_fault() {
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings { epochs: 3, batch_size: 16, validation: 0, ..Settings::default() };
    let run = RunFolder::create(Some(folder.path().join("run")), &settings, "shapes").unwrap();
    let error = train_poisoned(&run, &settings, 12, true, 1);
    assert!(error.contains("the device is at fault"), "{error}");
    let found = RunFolder::divergence(run.path()).unwrap().unwrap();
    assert_eq!((found.cause, found.epoch, found.norms.len()), (Cause::NotRepeated, 3, 0));
}

/// Passes on x, but for one element in a step of the training.
#[derive(Clone, Copy, Debug)]
struct Spike(f32);

impl Op for Spike {
    fn name(&self) -> &'static str {
        "spike"
    }

    fn output_types(&self, inputs: &[&TensorType]) -> Inferred {
        Ok(vec![inputs[0].clone()])
    }

    fn gradient(&self, _: &mut Graph, _: &Node, grads: &[Option<Value>], _: &[bool]) -> Gradients {
        Ok(vec![grads[0], None])
    }

    fn reference(&self, inputs: &[ArrayViewD<f64>]) -> Vec<ArrayD<f64>> {
        vec![inputs[0].to_owned()]
    }

    fn cpu(&self, types: &Types, _: CpuTarget) -> CpuStep {
        let (dims, value) = (types.inputs[0].dims().to_vec(), self.0);
        CpuStep::new(move |args| {
            let [x, step] = args.inputs_from(0);
            let y = args.output().0;
            y.copy_from_slice(x);
            if step[0].to_bits() == 6 && dims[0] == 16 {
                let at = [3, 2, 1, 5].iter().zip(&dims).fold(0, |at, (i, size)| at * size + i);
                y[at] = value;
            }
        })
    }

    fn gpu(&self, _: &Types) -> Dispatches {
        unreachable!("runs on a CPU")
    }
}

/// A convolution, and a spike.
fn conv_and_spike(b: &mut Builder, images: Value, value: f32) -> Result<Value> {
    let x = b.conv2d("conv", images, 8, 3, 1, Padding::Same)?;
    let Some(step) = b.graph.input_named("step") else { return Ok(x) };
    b.layer("spiked", "spike", |b| b.graph.apply1(Spike(value), &[x, step]))
}

fn spiked(b: &mut Builder, images: Value, config: &Config) -> Result<Value> {
    let x = conv_and_spike(b, images, f32::INFINITY)?;
    let x = b.unit("average", x, |b, x| b.global_average_pool("average", x))?;
    b.classifier("fc", x, config.classes, config.training)
}

static SPIKED: Architecture = Architecture::new("spiked", spiked);

/// A spike that is finite, but not its square.
fn spread(b: &mut Builder, images: Value, config: &Config) -> Result<Value> {
    let x = conv_and_spike(b, images, 1e30)?;
    let x = b.batch_norm("bn", x)?;
    let x = b.unit("average", x, |b, x| b.global_average_pool("average", x))?;
    b.classifier("fc", x, config.classes, config.training)
}

static SPREAD: Architecture = Architecture::new("spread", spread);

#[test]
fn a_variance_that_is_infinite_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let settings =
        Settings { model: &SPREAD, epochs: 3, batch_size: 16, validation: 16, ..Settings::default() };
    let run = RunFolder::create(Some(folder.path().join("run")), &settings, "shapes").unwrap();
    let data = shapes::sized(80, 20, 32, 0).unwrap();
    let mut device = Cpu::new(2, Isa::detect()).unwrap();
    let error = train::train(&mut device, &settings, data, &run, &mut Silent).unwrap_err().to_string();
    assert!(error.contains("'bn'") && error.contains("gave +inf at [5] of f32[8], variance"), "{error}");
}

#[test]
fn an_infinite_activation_is_named_with_its_image() {
    let folder = tempfile::tempdir().unwrap();
    let settings =
        Settings { model: &SPIKED, epochs: 3, batch_size: 16, validation: 16, ..Settings::default() };
    let run = RunFolder::create(Some(folder.path().join("run")), &settings, "shapes").unwrap();
    let data = shapes::sized(80, 20, 32, 0).unwrap();
    let mut device = Cpu::new(2, Isa::detect()).unwrap();
    let error = train::train(&mut device, &settings, data, &run, &mut Silent).unwrap_err().to_string();
    assert!(error.contains("spike 'spiked'") && error.contains("gave +inf at [3, 2, 1, 5]"), "{error}");
    let found = RunFolder::divergence(run.path()).unwrap().unwrap();
    // Step 6, from 0, is the third of the second epoch.
    assert_eq!((found.epoch, found.step), (2, 3));
    let Cause::Step(culprit) = found.cause else { panic!("{:?}", found.cause) };
    let order = permutation(64, settings.seed, Stream::Shuffle, 2);
    assert_eq!(culprit.image, Some(order[2 * 16 + 3]));
    assert_eq!((culprit.output.not_finite, culprit.inputs.len()), (1, 1));
    assert_eq!(culprit.inputs[0].not_finite, 0);
    assert!(culprit.inputs[0].what.contains("conv2d 'conv'"), "{:?}", culprit.inputs);
}

/// A rate that no training survives; and one that harms nothing.
#[test]
fn the_program_tells_why() {
    let bench = Bench::new();
    let of_loss = "the loss is not a finite number";
    for (model, options, said) in [
        ("cnn", "--lr 1e9", of_loss),
        ("cnn", "--lr 3e6 --optimizer muon --clip 1", of_loss),
        ("cnn", "--lr 3e6", "is not finite after 3 steps"),
        ("fast", "--lr 1e30", of_loss),
        ("fast", "--lr 1e9", "is not finite after 3 steps"),
    ] {
        let train =
            format!("train --data . --epochs 2 --batch-size 32 --model {model} {options} --out {model}");
        bench.fails(1, &train, &[said, "(step ", "of the plan) gave", "`why-nan`", "try a lower --lr"]);
        let shown = bench.ok(&format!("why-nan {model}"));
        let found = json(&bench.ok(&format!("why-nan {model} --json")))["divergence"].clone();
        let (kind, step) = (&found["cause"]["kind"], found["step"].as_u64().unwrap());
        assert!(kind == "step" && (2..8).contains(&step), "{found}");
        let (op, layer) = (found["cause"]["op"].as_str().unwrap(), found["cause"]["layer"].as_str().unwrap());
        assert!(
            shown.contains(&format!("{op} '{layer}'")) && shown.contains("norm of the gradient"),
            "{shown}"
        );
        // The first such value is made of others, and in the plan that the run has.
        let inputs = found["cause"]["inputs"].as_array().unwrap();
        assert!(inputs.iter().all(|input| input["not_finite"] == 0), "{train}: {found}");
        let plan = json(&bench.ok(&format!("plan ./{model} --json")))["plan"].clone();
        let culprit = &plan["steps"][found["cause"]["plan_step"].as_u64().unwrap() as usize];
        assert!(culprit["op"] == op && culprit["layer"] == layer, "{train}: {culprit}");
        fs::remove_dir_all(bench.path(model)).unwrap();
    }
    bench.ok(&format!("{QUICK} --out good"));
    assert!(bench.ok("why-nan good").contains("has not diverged"));
    assert!(json(&bench.ok("why-nan good --json"))["divergence"].is_null());
    assert!(!bench.path("good/divergence.json").exists());
    bench.fails(1, "why-nan .", &["is not a run folder"]);
    fs::write(bench.path("good/divergence.json"), "{").unwrap();
    bench.fails(1, "why-nan good", &["divergence.json", "damaged"]);
}

/// Takes down the moments after the first step.
#[derive(Default)]
struct Moments {
    names: Vec<String>,
    norms: Vec<f64>,
    poison: Option<Poison>,
}

impl Hook<Cpu> for Moments {
    fn before(&mut self, cpu: &mut Cpu, plan: PlanId) -> Result<()> {
        self.poison.as_mut().map_or(Ok(()), |poison| poison.poison(cpu, plan, true))
    }

    fn after(&mut self, cpu: &mut Cpu, plan: PlanId) -> Result<()> {
        if self.norms.is_empty() {
            let norm = |name: &String| {
                let values = cpu.read_state(plan, name).unwrap();
                values.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt()
            };
            self.norms = self.names.iter().map(norm).collect();
        }
        Ok(())
    }

    fn wrote(&mut self, input: &str, data: Data) {
        if let Some(poison) = &mut self.poison {
            poison.wrote(input, data);
        }
    }
}

/// In the first step, the moment of every optimizer is its share of the gradient.
#[test]
fn the_norms_are_those_of_the_gradients() {
    for &optimizer in OPTIMIZERS {
        let folder = tempfile::tempdir().unwrap();
        let settings =
            Settings { optimizer, epochs: 1, batch_size: 16, validation: 16, ..Settings::default() };
        let settings = Settings { weight_decay: 0.0, zero_classifier: false, ..settings };
        let run = RunFolder::create(Some(folder.path().join("run")), &settings, "shapes").unwrap();
        let data = shapes::sized(80, 20, 32, 0).unwrap();
        let spec = train::spec(&settings, &data).unwrap();
        let program = plans::training(&spec, &settings, 64).unwrap();
        let trained: Vec<&Parameter> = program.parameters.iter().filter(|p| p.trainable()).collect();
        let names = trained.iter().map(|parameter| optimizer.moment_of(parameter)).collect();
        let poison = Some(Poison { at: 1, before: true, times: usize::MAX, step: 0 });
        let hook = Moments { names, norms: Vec::new(), poison };
        let mut device = Hooked { device: Cpu::new(2, Isa::detect()).unwrap(), hook };
        train::train(&mut device, &settings, data, &run, &mut Silent).unwrap_err();
        let found = RunFolder::divergence(run.path()).unwrap().unwrap();
        let norms = &found.norms[0];
        assert_eq!(
            (found.step, norms.step, norms.gradients.len()),
            (2, 1, trained.len()),
            "{}",
            optimizer.name
        );
        let mut shares = Vec::new();
        for (parameter, moment) in trained.iter().zip(&device.hook.norms) {
            let (_, norm) = norms.gradients.iter().find(|(name, _)| *name == parameter.name).unwrap();
            // A bias before a normalisation has none but rounding.
            if norm.unwrap() > 1e-4 {
                shares.push(moment / norm.unwrap());
            }
        }
        let first = shares[0];
        assert!(shares.len() > 10, "{}: {shares:?}", optimizer.name);
        assert!(
            shares.iter().all(|share| (share / first - 1.0).abs() < 1e-4),
            "{}: {shares:?}",
            optimizer.name
        );
    }
}
