//! The first contact with a device: what it computes wrongly stops it, the faster one is taken,
//! verdicts are kept.

mod common;

use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cifar_engine::data::{self, Dataset};
use cifar_engine::error::{Error, Result};
use cifar_engine::exec::contact::{self, Identity, Trial, Verdicts};
use cifar_engine::exec::cpu::Cpu;
use cifar_engine::exec::gpu::adapter::{Adapter, Choice};
use cifar_engine::exec::{Device, PlanId};
use cifar_engine::graph::Graph;
use cifar_engine::kernels::simd::Isa;
use cifar_engine::models::mobilenet_v1::MOBILENET_V1;
use cifar_engine::models::pretrained::{Attributes, Pretrained};
use cifar_engine::models::{Architecture, LoadedModel};
use cifar_engine::ops::linear::matmul::Matmul;
use cifar_engine::tensor::TensorType;
use cifar_engine::train::optimizers::Optimizer;
use cifar_engine::train::run_folder::RunFolder;
use cifar_engine::train::settings::Settings;
use cifar_engine::train::settings::finetune::{Blocks, Finetune};
use cifar_engine::train::{self, Unobserved, first_contact};
use common::gpu::{self, corrupted};
use common::hooked::{Hook, Hooked};
use common::mobilenet::write_weights;
use common::program::Bench;

fn cpu() -> Cpu {
    Cpu::new(0, Isa::detect()).unwrap()
}

fn shapes(images: usize) -> Dataset {
    data::shapes::sized(images, 10, 32, 1).unwrap()
}

/// The trial of a training from scratch.
fn trial(model: &str, optimizer: &str) -> Trial {
    let model: &'static Architecture = model.parse().unwrap();
    let optimizer: &'static Optimizer = optimizer.parse().unwrap();
    let settings = Settings { model, optimizer, batch_size: 32, ..Settings::default() };
    let mut trials = first_contact::training(&settings, &shapes(40)).unwrap();
    assert_eq!((trials.len(), trials[0].images), (1, 32));
    trials.remove(0)
}

/// Verdicts on a device of this driver, in a folder.
fn verdicts(folder: &Path, driver: &str) -> Verdicts {
    let identity = Identity { device: "gpu, X (vulkan)".into(), driver: driver.into(), cpu: "cpu".into() };
    Verdicts { identity, folder: Some(folder.join("contacts")) }
}

/// Changes a state after each run.
struct Spoiled(&'static str, Change);

type Change = fn(&mut [f32]);

impl Hook<Cpu> for Spoiled {
    fn before(&mut self, _: &mut Cpu, _: PlanId) -> Result<()> {
        Ok(())
    }

    fn after(&mut self, cpu: &mut Cpu, plan: PlanId) -> Result<()> {
        let mut values = cpu.read_state(plan, self.0)?;
        (self.1)(&mut values);
        cpu.write_state(plan, self.0, values.as_slice().into())
    }
}

/// Takes its time before each run, and counts them.
#[derive(Clone, Default)]
struct Slow(Duration, Arc<AtomicUsize>);

impl Hook<Cpu> for Slow {
    fn before(&mut self, _: &mut Cpu, _: PlanId) -> Result<()> {
        std::thread::sleep(self.0);
        self.1.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// With the models and optimizers in which rounding does most.
#[test]
fn a_gpu_that_is_right_passes() {
    let Some(mut gpu) = gpu::open() else { return };
    for (model, optimizer) in [("cnn", "adam"), ("fast", "muon"), ("mobilenet-v2", "lion")] {
        let verdict = contact::compare(&mut gpu, &mut cpu(), &trial(model, optimizer)).unwrap();
        assert!(verdict.is_ok(), "{model}, {optimizer}: {verdict:?}");
    }
}

#[test]
fn a_wrong_device_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let (trial, verdicts) = (trial("cnn", "sgd"), verdicts(folder.path(), "Y 1.2"));
    let spoilt: [(&str, Change, &str); 4] = [
        ("conv2.weight", |values| values.fill(0.0), "conv2.weight is off by "),
        (
            "momentum.conv1.weight",
            |values| values.iter_mut().for_each(|v| *v *= 1.1),
            "momentum.conv1.weight is",
        ),
        ("momentum.conv3.weight", |values| values[7] = f32::NAN, "momentum.conv3.weight has values"),
        ("bn1.running_var", |values| values[0] = f32::INFINITY, "bn1.running_var has values"),
    ];
    for (state, change, part) in spoilt {
        let mut device = Hooked { device: cpu(), hook: Spoiled(state, change) };
        let error = verdicts.examine(&mut device, &mut cpu(), &trial).unwrap_err().to_string();
        for part in ["gpu, X (vulkan) (driver Y 1.2)", part, "`cifar-engine doctor` with the same `device`"] {
            assert!(error.contains(part), "{error}");
        }
    }
    assert!(verdicts.known(&trial).is_none(), "what is wrong is not kept");
    let mut right = Hooked { device: cpu(), hook: Spoiled("conv1.weight", |_| ()) };
    verdicts.examine(&mut right, &mut cpu(), &trial).unwrap();
}

/// A product on a GPU, by this op.
fn product(op: Arc<dyn cifar_engine::ops::Op>) -> Trial {
    let mut graph = Graph::new();
    let x = graph.input("x", TensorType::f32([8, 16]));
    let w = graph.state("w", TensorType::f32([16, 4])).unwrap();
    let y = graph.apply_shared(op, &[x, w]).unwrap()[0];
    graph.output("y", y);
    let fill = |device: &mut dyn Device, plan: PlanId| {
        let values = |len: usize| (0..len).map(|i| (i % 7) as f32 - 2.0).collect::<Vec<f32>>();
        device.write(plan, "x", values(128).as_slice().into())?;
        device.write_state(plan, "w", values(64).as_slice().into())
    };
    Trial { graph, images: 8, parameters: Vec::new(), fill: Box::new(fill) }
}

#[test]
fn a_corrupted_shader_is_found() {
    let Some(mut gpu) = gpu::open() else { return };
    let op: Arc<dyn cifar_engine::ops::Op> = Arc::new(Matmul::default());
    contact::compare(&mut gpu, &mut cpu(), &product(op.clone())).unwrap().unwrap();
    let wrong = product(corrupted(op, "fma(", "-fma("));
    let found = contact::compare(&mut gpu, &mut cpu(), &wrong).unwrap().unwrap_err();
    assert_eq!(found.tensor, "y");
    // That a driver does not compile is not that it computes wrongly: another interface may.
    let wrong = product(corrupted(Arc::new(Matmul::default()), "fma(", "no_function("));
    let error = contact::compare(&mut gpu, &mut cpu(), &wrong).unwrap_err();
    assert!(matches!(&error, Error::Uncompiled(text) if text.contains("no_function")), "{error}");
}

/// The device that is slow is twice as fast as it sleeps, at most.
#[test]
fn a_slow_device_is_passed_over() {
    let trial = trial("cnn", "sgd");
    let slow = || Hooked { device: cpu(), hook: Slow(Duration::from_millis(500), Arc::default()) };
    let verdict = contact::compare(&mut slow(), &mut cpu(), &trial).unwrap().unwrap();
    assert!(verdict.favours_cpu(), "{verdict:?}");
    let verdict = contact::compare(&mut cpu(), &mut slow(), &trial).unwrap().unwrap();
    assert!(!verdict.favours_cpu(), "{verdict:?}");
}

#[test]
fn a_verdict_is_found_once() {
    let folder = tempfile::tempdir().unwrap();
    let runs = Arc::new(AtomicUsize::new(0));
    let mut device = Hooked { device: cpu(), hook: Slow(Duration::ZERO, runs.clone()) };
    let mut ran = |verdicts: &Verdicts, trial: &Trial| {
        let before = runs.load(Ordering::Relaxed);
        let verdict = verdicts.examine(&mut device, &mut cpu(), trial).unwrap();
        (runs.load(Ordering::Relaxed) > before, verdict)
    };
    let (sgd, adam) = (trial("cnn", "sgd"), trial("cnn", "adam"));
    let here = verdicts(folder.path(), "Y 1.2");
    let (first, verdict) = ran(&here, &sgd);
    assert!(first);
    assert_eq!(ran(&here, &sgd), (false, verdict), "the same, to the last digit");
    assert!(ran(&verdicts(folder.path(), "Y 1.3"), &sgd).0, "another driver");
    assert!(ran(&here, &adam).0, "another plan");
    let nowhere = Verdicts { folder: None, ..verdicts(folder.path(), "Y 1.2") };
    assert!(ran(&nowhere, &sgd).0 && ran(&nowhere, &sgd).0);
    let files =
        || std::fs::read_dir(folder.path().join("contacts")).unwrap().map(|file| file.unwrap().path());
    assert_eq!(files().count(), 3);
    // One file under another's name, or half of it, is no verdict.
    let paths: Vec<_> = files().collect();
    let text = std::fs::read_to_string(&paths[0]).unwrap();
    for path in &paths[1..] {
        std::fs::write(path, &text).unwrap();
    }
    std::fs::write(&paths[0], &text[..text.len() / 2]).unwrap();
    for (verdicts, trial) in [(&here, &sgd), (&here, &adam), (&verdicts(folder.path(), "Y 1.3"), &sgd)] {
        assert!(ran(verdicts, trial).0);
        assert!(!ran(verdicts, trial).0, "it is written anew");
    }
}

#[test]
fn a_finetuning_tries_its_frozen_layers_and_every_stage() {
    let folder = tempfile::tempdir().unwrap();
    let weights = folder.path().join("pretrained.safetensors");
    write_weights(&weights);
    let pretrained = Pretrained::open(&weights, &Attributes::default()).unwrap();
    let trials = |unfreeze, head_epochs| {
        let path = weights.to_string_lossy().into_owned();
        let (unfreeze, input_size) = (Blocks(unfreeze), 40);
        let finetune =
            Finetune { pretrained: path, input_size, unfreeze, head_epochs, ..Finetune::default() };
        let settings =
            Settings { model: &MOBILENET_V1, epochs: 4, finetune: Some(finetune), ..Settings::default() };
        first_contact::finetuning(&settings, &pretrained, &shapes(40)).unwrap()
    };
    let all = usize::MAX;
    for (unfreeze, head_epochs, count) in [(0, 4, 2), (2, 2, 4), (all, 2, 3), (all, 0, 1)] {
        let trials = trials(unfreeze, head_epochs);
        assert_eq!(trials.len(), count, "{unfreeze} {head_epochs}");
        for trial in trials {
            contact::compare(&mut cpu(), &mut cpu(), &trial).unwrap().unwrap();
            let mut spoilt = Hooked { device: cpu(), hook: Spoiled("classifier.weight", |v| v.fill(9.0)) };
            let is_trained = trial.parameters.iter().any(|name| name == "classifier.weight");
            if is_trained {
                assert!(contact::compare(&mut spoilt, &mut cpu(), &trial).unwrap().is_err());
            }
        }
    }
}

/// The weights of a training of two steps on a GPU, after a first contact or without one.
fn trained(device: &mut dyn Device, checked: bool) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let model: &'static Architecture = "mobilenet-v1".parse().unwrap();
    let settings = Settings { model, batch_size: 8, epochs: 1, validation: 0, ..Settings::default() };
    if checked {
        let trial = first_contact::training(&settings, &shapes(16)).unwrap().remove(0);
        contact::compare(device, &mut cpu(), &trial).unwrap().unwrap();
    }
    let run = RunFolder::create(Some(folder.path().join("run")), &settings, "shapes").unwrap();
    train::train(device, &settings, shapes(16), &run, &mut Unobserved).unwrap();
    std::fs::read(run.last()).unwrap()
}

#[test]
fn a_first_contact_changes_no_bit() {
    if let Some(mut gpu) = gpu::open() {
        assert!(trained(&mut gpu, false) == trained(&mut gpu, true));
    }
    assert!(trained(&mut cpu(), false) == trained(&mut cpu(), true));
}

fn program(folder: &Path, command: &str) -> Output {
    run(env!("CARGO_BIN_EXE_cifar-engine").as_ref(), folder, command)
}

fn run(program: &Path, folder: &Path, command: &str) -> Output {
    let mut program = Command::new(program);
    program.args(command.split_whitespace()).current_dir(folder).env_remove("CIFAR_ENGINE_DEVICE");
    program.env("CIFAR_ENGINE_CACHE", folder.join("cache")).env("CIFAR_ENGINE_OFFLINE", "1").output().unwrap()
}

#[test]
fn the_program_compares_once_unless_it_is_not_to() {
    if Adapter::choose(&Choice::Any).is_err() {
        return println!("there is no GPU");
    }
    let bench = Bench::new();
    let folder = &bench.dir;
    let command = "predict --sample 0 --data . --json --weights builtin --device gpu";
    let said = |command: &str| {
        let output = program(folder.path(), command);
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{text}");
        (text.contains("comparing a step on the GPU"), output.stdout)
    };
    let kept = || std::fs::read_dir(folder.path().join("cache/contacts")).map_or(0, |files| files.count());
    let (compared, without) = said(&format!("{command} --no-check"));
    assert_eq!((compared, kept()), (false, 0));
    assert_eq!(said(command), (true, without.clone()));
    assert_eq!(kept(), 1);
    assert_eq!(said(command), (false, without));
    let trial =
        first_contact::evaluation(&LoadedModel::built_in(&Attributes::default(), None).unwrap(), 5).unwrap();
    assert_eq!(trial[0].images, 8, "few trials serve all numbers of images");
}

/// A copy of the program in whose shader of SGD a sign is wrong: a GPU that computes with it does
/// what a driver's wrong compiler makes of the right one.
#[cfg(target_os = "linux")]
#[test]
fn the_program_does_not_train_on_a_gpu_that_computes_wrongly() {
    if Adapter::choose(&Choice::Any).is_err() {
        return println!("there is no GPU");
    }
    let bench = Bench::new();
    let wrong = bench.path("wrong");
    let mut bytes = std::fs::read(env!("CARGO_BIN_EXE_cifar-engine")).unwrap();
    let (right, sign) = (b"MOMENTUM * b[i] + g;", 16);
    let places: Vec<usize> =
        bytes.windows(right.len()).enumerate().filter(|(_, part)| part == right).map(|(at, _)| at).collect();
    assert!(!places.is_empty());
    places.iter().for_each(|at| bytes[at + sign] = b'-');
    std::fs::copy(env!("CARGO_BIN_EXE_cifar-engine"), &wrong).unwrap();
    std::fs::write(&wrong, bytes).unwrap();
    let command = "train --data . --epochs 1 --batch-size 32 --validation 40 --optimizer sgd --device";
    let output = run(&wrong, bench.dir.path(), &format!("{command} gpu --out wrong-run"));
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{message}");
    let error = message.lines().last().unwrap();
    assert!(
        error.contains("does not compute what the CPU does: after one step conv1.weight is off by "),
        "{message}"
    );
    assert!(!bench.path("wrong-run").join("metrics.csv").exists());
    // On the CPU, which has no part in it, the same program trains.
    let output = run(&wrong, bench.dir.path(), &format!("{command} cpu --out right-run"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
