//! A training in shards: the step is that of the whole batch, of which each shard is normalised by
//! itself.

mod common;

use std::collections::BTreeMap;
use std::path::Path;

use cifar_engine::data::{Dataset, shapes};
use cifar_engine::exec::Device;
use cifar_engine::exec::cpu::Cpu;
use cifar_engine::graph::Source;
use cifar_engine::graph::cut::Halves;
use cifar_engine::kernels::simd::Isa;
use cifar_engine::ops::augment::Augmentations;
use cifar_engine::prelude::{Function, Graph, TensorType, Value};
use cifar_engine::train::optimizers::sgd::SGD;
use cifar_engine::train::run_folder::RunFolder;
use cifar_engine::train::schedules::CONSTANT;
use cifar_engine::train::settings::{PixelScaling, Settings};
use cifar_engine::train::{self, Unobserved, plans};
use cifar_engine::weights;
use common::mobilenet::write_weights;
use common::program::{Bench, QUICK, json};

/// A training of one step, of all images, in which nothing depends on what image is where.
fn settings(images: usize, shards: usize) -> Settings {
    Settings {
        epochs: 1,
        batch_size: images,
        shards,
        validation: 0,
        dropout: 0.0,
        augment: Augmentations::default(),
        normalise: PixelScaling::Unit,
        schedule: &CONSTANT,
        optimizer: &SGD,
        zero_classifier: false,
        test_flip: false,
        ..Settings::default()
    }
}

/// The weights after a training, by name.
fn trained(settings: &Settings, data: Dataset) -> BTreeMap<String, Vec<f32>> {
    let folder = tempfile::tempdir().unwrap();
    let run = RunFolder::create(Some(folder.path().join("run")), settings, "shapes").unwrap();
    let mut device = Cpu::new(2, Isa::detect()).unwrap();
    train::train(&mut device, settings, data, &run, &mut Unobserved).unwrap();
    values(&run.last())
}

fn values(path: &Path) -> BTreeMap<String, Vec<f32>> {
    let tensors = weights::load(path).unwrap().tensors;
    tensors.into_iter().map(|(name, tensor)| (name, tensor.data)).collect()
}

/// Without momentum of earlier steps, a step of SGD is linear in the gradient, and a running
/// statistic in that of the batch: so the step in shards is the mean of the steps that train on
/// each shard alone.
#[test]
fn a_step_in_shards_is_the_mean_of_the_steps_on_each() {
    let data = shapes::sized(32, 10, 16, 3).unwrap();
    let order = settings(32, 4).config(32).order(1);
    let whole = trained(&settings(32, 4), data.clone());
    let parts: Vec<_> = order
        .chunks_exact(8)
        .map(|part| trained(&settings(8, 1), Dataset { train: data.train.subset(part), ..data.clone() }))
        .collect();
    assert!(parts[0] != parts[1], "the shards are alike");
    for (name, found) in &whole {
        for (i, found) in found.iter().enumerate() {
            let mean = parts.iter().map(|part| f64::from(part[name][i])).sum::<f64>() / 4.0;
            let apart = (f64::from(*found) - mean).abs();
            assert!(apart < 1e-5 * mean.abs().max(0.1), "{name} at {i}: {found}, not {mean}");
        }
    }
}

/// Each shard has random numbers of its own: two that hold the same images are augmented
/// differently.
#[test]
fn shards_draw_their_own_random_numbers() {
    // One image throughout, so that nothing but random numbers tells shards apart.
    let data = shapes::sized(8, 10, 16, 3).unwrap();
    let twice = Dataset { train: data.train.subset(&[0; 8]), ..data };
    let augmented = |shards| Settings { augment: Settings::default().augment, ..settings(8, shards) };
    // A step on two shards with the same changes would be that on one of them.
    let half = Dataset { train: twice.train.subset(&[0; 4]), ..twice.clone() };
    let (whole, one) =
        (trained(&augmented(2), twice), trained(&Settings { batch_size: 4, ..augmented(1) }, half));
    let apart = |name: &str| {
        let pairs = whole[name].iter().zip(&one[name]);
        pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
    };
    assert!(apart("conv1.weight") > 1e-4, "{}", apart("conv1.weight"));
}

#[test]
fn a_step_in_shards_takes_less_memory() {
    let settings = |shards| Settings { batch_size: 64, shards, ..Settings::default() };
    let data = shapes::sized(64, 10, 32, 1).unwrap();
    let device = Cpu::new(1, Isa::detect()).unwrap();
    let bytes = |shards: usize| {
        let settings = settings(shards);
        let program = plans::training(&train::spec(&settings, &data).unwrap(), &settings, 64).unwrap();
        device.plan(&program.graph).unwrap().slot_bytes()
    };
    assert!(6 * bytes(8) < bytes(1), "{} and {}", bytes(8), bytes(1));
}

#[test]
fn the_program_trains_in_shards() {
    let bench = Bench::new();
    let train = format!("{QUICK} --shards 4 --optimizer adam --clip 1 --ema 0.9");
    bench.ok(&format!("{train} --threads 1 --out one"));
    bench.ok(&format!("{train} --threads 2 --out two"));
    assert_eq!(values(&bench.path("one/last.safetensors")), values(&bench.path("two/last.safetensors")));
    assert!(bench.ok("verify two --all").contains("2 epochs are the run's"));
    bench.ok(&format!("{QUICK} --out whole"));
    assert!(values(&bench.path("one/last.safetensors")) != values(&bench.path("whole/last.safetensors")));
    assert!(json(&bench.ok("evaluate two --json"))["accuracy"].is_number());
    bench.fails(1, "replay two --epoch 1 --step 1", &["a step in --shards cannot be run one op at a time"]);
    // A batch that is made smaller for the data fits the shards, too.
    bench.ok("train --data . --epochs 1 --batch-size 1024 --validation 40 --shards 16 --out smaller");
    let settings = std::fs::read_to_string(bench.path("smaller/settings.toml")).unwrap();
    assert!(settings.contains("batch_size = 272\n"), "{settings}");
    bench.fails(2, &format!("{QUICK} --shards 3"), &["--shards must be a power of two"]);
    bench.fails(
        2,
        &format!("{QUICK} --shards 64"),
        &["--batch-size 32 cannot be cut into 64 equal --shards"],
    );
}

#[test]
fn a_fine_tuning_in_shards_is_itself() {
    let bench = Bench::new();
    write_weights(&bench.path("pretrained.safetensors"));
    bench.ok("finetune --pretrained pretrained.safetensors --data . --image-size 32 --epochs 3 \
        --head-epochs 1 --unfreeze 2 --batch-size 32 --validation 40 --shards 2 --out run");
    assert!(bench.ok("verify run --all").contains("3 epochs are the run's"));
}

/// `w <- w * rate + relu(x + w)`, and an output `relu(x + w)`; the sum is the value.
fn cuttable() -> (Graph, [Value; 1]) {
    let mut graph = Graph::new();
    let ty = TensorType::f32([2]);
    let (x, rate) = (graph.input("x", ty.clone()), graph.input("rate", ty.clone()));
    let w = graph.state("w", ty).unwrap();
    let sum = graph.add(x, w).unwrap();
    let active = graph.map(Function::Relu, sum).unwrap();
    let scaled = graph.mul(w, rate).unwrap();
    let new = graph.add(scaled, active).unwrap();
    graph.update(w, new).unwrap();
    graph.output("active", active);
    (graph, [sum])
}

fn inputs(graph: &Graph) -> Vec<&str> {
    graph.values().filter(|&v| graph.source(v) == Source::Input).map(|v| graph.name(v)).collect()
}

#[test]
fn each_half_has_what_it_reads() {
    let (mut graph, [sum, ..]) = cuttable();
    graph.output("sum too", sum);
    let Halves { first, second } = graph.cut(&[("sum".into(), sum)]).unwrap();
    assert_eq!((inputs(&first), inputs(&second)), (vec!["x"], vec!["rate", "sum"]));
    assert_eq!((first.nodes().len(), second.nodes().len()), (2, 3));
    assert!(first.updates().is_empty() && second.updates().len() == 1);
    let outputs: Vec<&str> = first.outputs().iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(outputs, ["active", "sum too", "sum"]);
    assert_eq!(second.outputs().len(), 1);
    assert!(second.name(second.outputs()[0].1) == "sum" && first.has_state("w") && second.has_state("w"));
}

/// Outputs of a chain, of a state alone, and of what depends on nothing but a state.
#[test]
fn outputs_are_told_as_soon_as_they_are_computed() {
    let mut graph = Graph::new();
    let ty = TensorType::f32([3]);
    let (x, w) = (graph.input("x", ty.clone()), graph.state("w", ty).unwrap());
    let early = graph.map(Function::Exp, x).unwrap();
    let between = graph.map(Function::Exp, early).unwrap();
    let late = graph.add(between, w).unwrap();
    let of_state = graph.map(Function::Exp, w).unwrap();
    for (name, value) in [("late", late), ("early", early), ("of state", of_state)] {
        graph.output(name, value);
    }
    let names = ["late", "early", "of state"];
    let cpu: Box<dyn Device> = Box::new(Cpu::new(2, Isa::detect()).unwrap());
    for mut device in [cpu].into_iter().chain(common::gpu::open().map(|gpu| Box::new(gpu) as Box<dyn Device>))
    {
        let plan = device.load(&graph).unwrap();
        device.write(plan, "x", [1.0f32, 2.0, 3.0].as_slice().into()).unwrap();
        device.write_state(plan, "w", [0.5f32, 0.25, 0.125].as_slice().into()).unwrap();
        for run in 0..2 {
            let mut told = Vec::new();
            let mut tell = |number: usize, values: &[f32]| told.push((number, values.to_vec()));
            device.run_telling(plan, &names, &mut tell).unwrap();
            let order: Vec<usize> = told.iter().map(|(number, _)| *number).collect();
            let place = |number| order.iter().position(|&other| other == number).unwrap();
            // A GPU tells them in the order of the list, once all is done.
            let early_first = place(1) < place(0) || !device.name().starts_with("cpu");
            assert!(order.len() == 3 && early_first, "run {run}: {order:?}");
            for (number, values) in told {
                assert_eq!(values, device.read(plan, names[number]).unwrap(), "{}", names[number]);
            }
        }
        assert!(device.run_telling(plan, &["none"], &mut |_, _| ()).is_err());
    }
}

#[test]
fn only_what_is_computed_can_be_cut_at() {
    let (graph, _) = cuttable();
    let state = graph.updates()[0].0;
    let foreign = cuttable().1[0];
    for (value, problem) in [(state, "is not computed"), (foreign, "another graph")] {
        let error = graph.cut(&[("here".into(), value)]).unwrap_err().to_string();
        assert!(error.starts_with("here: ") && error.contains(problem), "{error}");
    }
}
