//! The real training plan, one step after the other: the GPU gets what the CPU computed so far, so
//! that errors do not add up and the first step that differs is the one that is wrong.

use std::collections::HashMap;

use cifar_engine::exec::cpu::Cpu;
use cifar_engine::exec::gpu::Gpu;
use cifar_engine::exec::plan::{Location, Plan, Step};
use cifar_engine::exec::stepwise::Stepwise;
use cifar_engine::exec::{Device, PlanId};
use cifar_engine::kernels::simd::Isa;
use cifar_engine::models::Architecture;
use cifar_engine::models::cnn::CNN;
use cifar_engine::models::fast::FAST;
use cifar_engine::models::mobilenet_v1::MOBILENET_V1;
use cifar_engine::models::mobilenet_v2::MOBILENET_V2;
use cifar_engine::models::resnet18::RESNET18;
use cifar_engine::models::resnet20::RESNET20;
use cifar_engine::tensor::DType;
use cifar_engine::train::optimizers::Optimizer;
use cifar_engine::train::optimizers::adam::ADAM;
use cifar_engine::train::optimizers::sgd::SGD;

use super::common::gpu::{self, corrupted};
use super::{Training, steps};

/// Of the largest value: sums of up to some ten thousand terms, in another order, that may cancel
/// in part.
const TOLERANCE: f32 = 1e-4;

/// The trainings that are compared: of the CNN and of the MobileNets. A classifier of zeros, as the
/// recipe has it, would send no gradient back in the first step.
pub fn training(model: &'static Architecture, optimizer: &'static Optimizer) -> Training {
    let mut training = match model.has_variants {
        true => Training::narrow(model, optimizer, 8),
        // Software GPUs take long for eleven million weights.
        false => Training::of(model, optimizer, if *model == RESNET18 { 2 } else { 4 }),
    };
    training.settings.zero_classifier = false;
    training
}

/// Whether an input is the rate of a group of parameters.
fn is_rate(input: &str) -> bool {
    input.ends_with("rate")
}

/// What a state holds, numbers as their bits.
fn state_bits(device: &dyn Device, plan: PlanId, name: &str) -> impl Iterator<Item = u32> + use<> {
    let numbers =
        device.read_state(plan, name).map(|numbers| numbers.into_iter().map(f32::to_bits).collect());
    numbers.or_else(|_| device.read_state_u32(plan, name)).unwrap().into_iter()
}

/// The contents of a plan's memory before its first step; integers as the bits of floats.
fn memory(training: &Training, plan: &Plan) -> HashMap<Location, Vec<f32>> {
    let mut cpu = Cpu::new(0, Isa::detect()).unwrap();
    let program = training.program();
    let id = cpu.load_plan(plan.clone(), None).unwrap();
    training.prepare(&mut cpu, id, &program.parameters);
    let state = |(i, (name, _)): (usize, &(String, _))| {
        (Location::State(i), state_bits(&cpu, id, name).map(f32::from_bits).collect())
    };
    let mut memory: HashMap<Location, Vec<f32>> = plan.states.iter().enumerate().map(state).collect();
    for binding in &plan.inputs {
        let values = match binding.name.as_str() {
            "indices" => training.indices(0).into_iter().map(f32::from_bits).collect(),
            "step" => vec![f32::from_bits(3)],
            name if is_rate(name) => vec![0.01],
            "loss_gradient" => vec![1.0],
            name => panic!("what is {name}?"),
        };
        memory.insert(binding.location, values);
    }
    memory
}

/// What a sum over rows adds up: it may cancel down to the rounding of these. So do the gradient of
/// gamma before a depthwise convolution and a batch norm, which undo any scale; and the mean of
/// what a linear layer makes of channels whose means are 0.
/// Where a convolution gathers the sums, they are of its first output, or of what that was made of.
fn terms<'a>(step: &Step, output: usize, inputs: &'a [Vec<f32>], outputs: &'a [Vec<f32>]) -> &'a [f32] {
    match (step.op.name(), output) {
        ("conv2d" | "grouped_conv2d", 1) | ("conv2d_input_grad", 1 | 2) => &outputs[0],
        ("moments", 0) => &inputs[0],
        ("batch_norm_grad" | "batch_norm_max_pool_grad", 1 | 2) => &inputs[0],
        _ => &[],
    }
}

/// The distance between two results, relative to the largest value or term.
fn difference(found: &[f32], expected: &[f32], terms: &[f32]) -> f32 {
    let scale = expected.iter().chain(terms).fold(f32::MIN_POSITIVE, |a, b| a.max(b.abs()));
    let largest = found.iter().zip(expected).map(|(a, b)| if a == b { 0.0 } else { (a - b).abs() });
    largest.fold(0.0f32, |a, b| if b.is_nan() { f32::INFINITY } else { a.max(b) }) / scale
}

/// Runs the steps of a plan on both devices; names the first that differs.
fn compare(training: &Training, plan: &Plan, gpu: &mut Gpu) -> std::result::Result<(), String> {
    let mut cpu = Cpu::new(0, Isa::detect()).unwrap();
    let mut memory = memory(training, plan);
    for (index, step) in plan.steps.iter().enumerate() {
        let single = steps::alone(step);
        let ids = [cpu.load_plan(single.clone(), None).unwrap(), gpu.load_plan(single, None).unwrap()];
        let input = |(location, ty): (&Location, &cifar_engine::tensor::TensorType)| {
            memory[location][..ty.len()].to_vec()
        };
        let inputs: Vec<Vec<f32>> = step.inputs.iter().zip(&step.types.inputs).map(input).collect();
        let expected = steps::run(&mut cpu, ids[0], step, &inputs);
        let found = steps::run(gpu, ids[1], step, &inputs);
        for (i, (found, value)) in found.iter().zip(&expected).enumerate() {
            let name = || format!("step {index}, {} '{}', output {i}", step.op.name(), step.layer);
            if step.types.outputs[i].dtype == DType::U32 {
                let same = found.iter().map(|v| v.to_bits()).eq(value.iter().map(|v| v.to_bits()));
                assert!(same, "{} differs", name());
                continue;
            }
            let difference = difference(found, value, terms(step, i, &inputs, &expected));
            if difference > TOLERANCE {
                return Err(format!("{} is off by {difference:e}", name()));
            }
        }
        for (location, values) in step.outputs.iter().zip(expected) {
            memory.insert(*location, values);
        }
    }
    Ok(())
}

#[test]
fn every_step_of_a_training_agrees_with_the_cpu() {
    let trainings: [(&Architecture, _); 6] = [
        (&FAST, ["conv2d_input_grad", "batch_norm_grad", "max_pool_grad"]),
        (&CNN, ["conv2d_weight_grad", "batch_norm_max_pool_grad", "dropout"]),
        (&MOBILENET_V1, ["resize", "grouped_conv2d_weight_grad", "reduce_mean"]),
        (&MOBILENET_V2, ["moments", "batch_norm_grad", "conv2d_input_grad"]),
        (&RESNET20, ["batch_norm_infer", "relu_grad", "conv2d_weight_grad"]),
        (&RESNET18, ["max_pool", "max_pool_grad", "batch_norm_infer"]),
    ];
    for (model, kinds) in trainings {
        let Some(mut gpu) = gpu::open() else { return };
        let training = training(model, &SGD);
        let plan = gpu.plan(&training.program().graph).unwrap();
        let compared = |kind: &&str| plan.steps.iter().any(|step| step.op.name() == *kind);
        assert!(kinds.iter().all(compared), "{model} has not all of {kinds:?}");
        compare(&training, &plan, &mut gpu).unwrap_or_else(|error| panic!("{model}: {error}"));
        println!("{model}: {} steps agree", plan.steps.len());
    }
}

/// Corrupts the shader of a plan's `nth` step of a kind: the message names this step, and none
/// before it.
fn check_named(model: &'static Architecture, kind: &str, nth: usize, from: &'static str, to: &'static str) {
    let Some(mut gpu) = gpu::open() else { return };
    let training = training(model, &SGD);
    let mut plan = gpu.plan(&training.program().graph).unwrap();
    let mut steps = plan.steps.iter_mut().enumerate().filter(|(_, step)| step.op.name() == kind);
    let (index, step) = steps.nth(nth).unwrap();
    let name = format!("step {index}, {kind} '{}', output 0", step.layer);
    step.op = corrupted(step.op.clone(), from, to);
    let error = compare(&training, &plan, &mut gpu).unwrap_err();
    assert!(error.contains(&name) && error.contains("off by"), "{error}, planted in {name}");
}

#[test]
fn the_first_wrong_step_is_named() {
    check_named(&CNN, "batch_norm_max_pool", 1, "- mean[out.column] * scale", "+ mean[out.column] * scale");
}

#[test]
fn a_wrong_depthwise_convolution_is_named() {
    let v1 = &MOBILENET_V1;
    check_named(v1, "grouped_conv2d", 3, "at + j - first + 3u", "at + j - first + 2u");
    check_named(
        v1,
        "grouped_conv2d_input_grad",
        3,
        "(from_top - i) / STRIDE;",
        "(from_top - i) / STRIDE + 1u;",
    );
    check_named(v1, "grouped_conv2d_weight_grad", 3, "height + 2u, at", "height + 1u, at");
}

/// How the steps of a plan are given to the GPU.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    /// All at once.
    Whole,
    /// A submission for each, without waiting for one.
    Submissions,
    /// One after the other has ended.
    OneByOne,
}

/// All memory of a plan after some runs, as bits.
fn bits_after(gpu: &mut Gpu, training: &Training, way: Way) -> Vec<Vec<u32>> {
    gpu.set_submission_seconds(if way == Way::Submissions { 0.0 } else { f64::INFINITY });
    let program = training.program();
    let plan = gpu.plan(&program.graph).unwrap();
    let stepwise = Stepwise::load(gpu, &plan, None).unwrap();
    let id = stepwise.id();
    training.prepare(gpu, id, &program.parameters);
    gpu.write(id, "loss_gradient", [1.0f32].as_slice().into()).unwrap();
    for rate in plan.inputs.iter().filter(|input| is_rate(&input.name)) {
        gpu.write(id, &rate.name, [0.01f32].as_slice().into()).unwrap();
    }
    for step in 0..2 {
        gpu.write(id, "indices", training.indices(step).as_slice().into()).unwrap();
        gpu.write(id, "step", [step as u32].as_slice().into()).unwrap();
        if way != Way::OneByOne {
            gpu.run(id).unwrap();
            continue;
        }
        for number in 0..stepwise.steps().len() {
            stepwise.run(gpu, number).unwrap();
            gpu.wait().unwrap();
        }
    }
    let bits = stepwise.states().iter().map(|(name, _)| state_bits(gpu, id, name).collect()).collect();
    stepwise.unload(gpu).unwrap();
    bits
}

/// A barrier that is missing between two dispatches would show.
#[test]
fn one_submission_gives_the_bits_of_one_step_at_a_time() {
    // Every kind of step is in one of them; all models take a software GPU minutes.
    for model in [&CNN, &FAST, &MOBILENET_V2] {
        let (Some(mut gpu), training) = (gpu::open(), training(model, &ADAM)) else { return };
        let mut after = |way| bits_after(&mut gpu, &training, way);
        let whole = after(Way::Whole);
        assert!(whole == after(Way::OneByOne), "{model}: batched execution changes bits");
        assert!(whole == after(Way::Submissions), "{model}: submissions change bits");
    }
}
