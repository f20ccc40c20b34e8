//! A training on the GPU beside the same training on the CPU, and its memory.

use cifar_engine::exec::cpu::Cpu;
use cifar_engine::exec::plan::{IoBinding, Plan};
use cifar_engine::exec::{Device, PlanId};
use cifar_engine::graph::Graph;
use cifar_engine::kernels::simd::Isa;
use cifar_engine::ops::augment::{AUGMENTATIONS, Augmentations, SHIFT};
use cifar_engine::tensor::TensorType;
use cifar_engine::train::evaluate::Evaluator;
use cifar_engine::train::optimizers::sgd::SGD;
use cifar_engine::train::plans::{self, ImageSet, ModelGraph, Totals};

use super::common::gpu;
use super::{IMAGES, Training, steps};

const STEPS: usize = 50;
const RATE: f32 = 0.002;
/// Largest distance of the losses of a step. Rounding differs in the last digits, and training
/// multiplies such differences from step to step: the losses of two instruction sets of the CPU
/// come to lie 8e-3 apart in the same steps. What is wrong by more than rounding is seen long
/// before.
const LOSS_TOLERANCE: f64 = 0.03;
/// Pixels go through the same few operations, of which the GPU may fuse two.
const PIXEL_TOLERANCE: f32 = 1e-5;

/// Loads the training plan and makes it ready for its first step.
pub fn load(device: &mut dyn Device, training: &Training) -> PlanId {
    let plan = device.plan(&training.program().graph).unwrap();
    load_plan(device, training, plan)
}

/// The same, for a plan that was made of the training's.
pub fn load_plan(device: &mut dyn Device, training: &Training, plan: Plan) -> PlanId {
    let program = training.program();
    let inputs = plan.inputs.clone();
    let plan = device.load_plan(plan, None).unwrap();
    training.prepare(device, plan, &program.parameters);
    make_ready(device, plan, &inputs, loss_scale(training));
    plan
}

/// What a training multiplies its loss by.
pub fn loss_scale(training: &Training) -> f32 {
    training.settings.precision.loss_scale(training.settings.batch_size)
}

/// Writes the inputs that all steps share.
fn make_ready(device: &mut dyn Device, plan: PlanId, inputs: &[IoBinding], loss_scale: f32) {
    for rate in inputs.iter().filter(|input| input.name.ends_with("rate")) {
        device.write(plan, &rate.name, [RATE].as_slice().into()).unwrap();
    }
    device.write(plan, "loss_gradient", [loss_scale].as_slice().into()).unwrap();
    device.record(plan, &["totals"]).unwrap();
}

/// Starts a step.
pub fn start(device: &mut dyn Device, plan: PlanId, training: &Training, step: usize) {
    device.write(plan, "indices", training.indices(step).as_slice().into()).unwrap();
    device.write(plan, "step", [step as u32].as_slice().into()).unwrap();
    device.run(plan).unwrap();
}

/// The losses of the first steps.
pub fn losses(device: &mut dyn Device, training: &Training, steps: usize) -> Vec<f64> {
    let plan = load(device, training);
    run(device, plan, training, steps)
}

/// The losses of the first steps of a plan that is ready for them.
pub fn run(device: &mut dyn Device, plan: PlanId, training: &Training, steps: usize) -> Vec<f64> {
    let mut losses = Vec::new();
    for step in 0..steps {
        start(device, plan, training, step);
        let all = step + 1 == steps;
        device.collect(plan, all, &mut |totals| losses.push(Totals::from(totals).mean_loss())).unwrap();
    }
    losses
}

#[test]
fn fifty_steps_of_training_keep_to_the_cpu() {
    let Some(mut gpu) = gpu::open() else { return };
    let training = Training::new(&SGD, 16);
    let expected = losses(&mut Cpu::new(0, Isa::detect()).unwrap(), &training, STEPS);
    let found = losses(&mut gpu, &training, STEPS);
    assert_eq!(found.len(), STEPS);
    let distances: Vec<f64> = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).collect();
    let largest = distances.iter().fold(0.0, |a: f64, b| a.max(*b));
    println!("losses {:.4} to {:.4}, at most {largest:e} apart", expected[0], expected[STEPS - 1]);
    assert!(largest < LOSS_TOLERANCE, "{distances:?}");
    // It has learnt: the curves do not agree because nothing moves.
    assert!(expected[STEPS - 1] < expected[0] - 5.0 * LOSS_TOLERANCE, "{expected:?}");
}

/// As those of a set that lies in a file do, while steps are still under way.
#[test]
fn images_that_come_with_their_batch_give_the_same_bits() {
    let Some(mut gpu) = gpu::open() else { return };
    let mut training = Training::new(&SGD, 8);
    training.settings.augment = "flip=alternate,shift=4,cutmix=1".parse().unwrap();
    let expected = losses(&mut gpu, &training, 4);
    let set = ImageSet { count: IMAGES, by_batch: true };
    let ModelGraph { graph, parameters, .. } =
        plans::training(&training.spec, &training.settings, set).unwrap();
    let plan = gpu.plan(&graph).unwrap();
    let inputs = plan.inputs.clone();
    let plan = gpu.load_plan(plan, None).unwrap();
    let values = plans::initial_values(&parameters, training.settings.seed);
    plans::write_parameters(&mut gpu, plan, &parameters, &values).unwrap();
    make_ready(&mut gpu, plan, &inputs, loss_scale(&training));
    let mut found = Vec::new();
    for step in 0..4 {
        let batch = training.images.subset(&training.indices(step));
        let pixels = batch.pixels.bytes().unwrap();
        gpu.write(plan, "images", bytemuck::cast_slice::<u8, u32>(&pixels).into()).unwrap();
        gpu.write(plan, "labels", batch.labels.as_slice().into()).unwrap();
        start(&mut gpu, plan, &training, step);
        gpu.collect(plan, step == 3, &mut |totals| found.push(Totals::from(totals).mean_loss())).unwrap();
    }
    assert_eq!(found, expected);
}

#[test]
fn both_devices_see_the_same_batches() {
    let Some(mut gpu) = gpu::open() else { return };
    let training = Training::new(&SGD, 16);
    let plan = gpu.plan(&training.program().graph).unwrap();
    let step = plan.steps.iter().find(|step| step.op.name() == "augment").unwrap();
    let mut cpu = Cpu::new(0, Isa::detect()).unwrap();
    let ids =
        [cpu.load_plan(steps::alone(step), None).unwrap(), gpu.load_plan(steps::alone(step), None).unwrap()];
    let words = |words: &[u32]| words.iter().map(|&word| f32::from_bits(word)).collect::<Vec<f32>>();
    let pixels = training.images.pixels.bytes().unwrap();
    let pixels: &[u32] = bytemuck::cast_slice(&pixels);
    let mut known: Option<Vec<f32>> = None;
    for number in 0..STEPS {
        let (indices, count) = (words(&training.indices(number)), words(&[number as u32]));
        let inputs = [words(pixels), words(&training.images.labels), indices, count];
        let expected = steps::run(&mut cpu, ids[0], step, &inputs);
        let found = steps::run(&mut gpu, ids[1], step, &inputs);
        let apart = found[0].iter().zip(&expected[0]).map(|(a, b)| (a - b).abs());
        assert!(apart.fold(0.0, f32::max) < PIXEL_TOLERANCE, "the images of step {number} differ");
        let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<u32>>();
        assert_eq!(bits(&found[1]), bits(&expected[1]), "the labels of step {number} differ");
        assert_ne!(known.as_ref(), Some(&found[0]), "steps see the same batch");
        known = Some(found[0].clone());
    }
}

/// The loss of a first step, for which it counts what the augmentation makes of images and labels.
fn first_loss(device: &mut dyn Device, changes: Augmentations) -> f64 {
    let mut training = Training::new(&SGD, 8);
    training.settings.augment = changes;
    // Or every image would have the same loss.
    training.settings.zero_classifier = false;
    let plan = load(device, &training);
    start(device, plan, &training, 3);
    let mut loss = f64::NAN;
    device.collect(plan, true, &mut |totals| loss = Totals::from(totals).mean_loss()).unwrap();
    loss
}

#[test]
fn every_augmentation_reaches_the_loss_and_alike_on_both_devices() {
    let Some(mut gpu) = gpu::open() else { return };
    let mut cpu = Cpu::new(0, Isa::detect()).unwrap();
    // Without a shift there is nothing beyond the border.
    let shifted = Augmentations::default().with(&SHIFT, 4.0);
    let without = first_loss(&mut cpu, shifted);
    for augmentation in AUGMENTATIONS {
        for value in augmentation.value.examples() {
            let changes = shifted.with(augmentation, value);
            let [found, expected] = [first_loss(&mut gpu, changes), first_loss(&mut cpu, changes)];
            assert!((found - expected).abs() < 1e-4, "{changes}: {found} on the GPU, {expected}");
            assert!((expected - without).abs() > 1e-4, "{changes} changes nothing: {expected}");
        }
    }
}

/// Buffers and bytes after each of three epochs, with everything that an epoch does.
#[test]
fn memory_is_flat_over_three_epochs() {
    let Some(mut gpu) = gpu::open() else { return };
    let training = Training::new(&SGD, 4);
    let plan = load(&mut gpu, &training);
    let parameters = training.program().parameters;
    let few = training.images.subset(&[1, 2, 3, 4, 5, 6, 7]);
    let validation = Evaluator::new(&mut gpu, Some(plan), &training.spec, "validation", &few, 4).unwrap();
    let mut allocated = Vec::new();
    for epoch in 0..3 {
        for step in 0..4 {
            start(&mut gpu, plan, &training, 4 * epoch + step);
            gpu.collect(plan, step == 3, &mut |_| ()).unwrap();
        }
        validation.run(&mut gpu, |_, _| true).unwrap();
        for parameter in &parameters {
            gpu.read_state(plan, &parameter.name).unwrap();
        }
        gpu.wait().unwrap();
        allocated.push(gpu.allocated());
    }
    println!("buffers and bytes after each epoch: {allocated:?}");
    assert!(allocated.iter().all(|epoch| *epoch == allocated[0]), "{allocated:?}");
    // The measure sees what it is to see.
    load(&mut gpu, &Training::new(&SGD, 2));
    assert!(allocated[0].is_none() || gpu.allocated() > allocated[0]);
}

/// Every run's values arrive, once and in order, however late they are asked for.
fn check_records(device: &mut dyn Device, every: usize) {
    let mut graph = Graph::new();
    let x = graph.input("x", TensorType::f32([3]));
    let double = graph.add(x, x).unwrap();
    let four = graph.add(double, double).unwrap();
    graph.output("double", double);
    graph.output("four", four);
    let plan = device.load_plan(Plan::compile(&graph).unwrap(), None).unwrap();
    device.record(plan, &["four", "double"]).unwrap();
    let mut found = Vec::new();
    for run in 0..40 {
        device.write(plan, "x", [run as f32; 3].as_slice().into()).unwrap();
        device.run(plan).unwrap();
        if run % every == 0 {
            device.collect(plan, false, &mut |values| found.push(values.to_vec())).unwrap();
        }
    }
    device.collect(plan, true, &mut |values| found.push(values.to_vec())).unwrap();
    let expected = (0..40).map(|run| run as f32).map(|x| [[4.0 * x; 3], [2.0 * x; 3]].concat());
    assert_eq!(found, expected.collect::<Vec<_>>());
    device.collect(plan, true, &mut |_| panic!("a run came twice")).unwrap();
    assert!(device.record(plan, &["five"]).unwrap_err().to_string().contains("five"));
}

#[test]
fn records_of_every_run_arrive_once_and_in_order() {
    for every in [1, 3, 100] {
        check_records(&mut Cpu::new(2, Isa::detect()).unwrap(), every);
        if let Some(mut gpu) = gpu::open() {
            check_records(&mut gpu, every);
        }
    }
}
