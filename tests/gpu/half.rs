//! Half precision: every shader that can store its operands so, and trainings whose activations
//! and gradients are.

use std::collections::HashSet;

use cifar_engine::exec::gpu::Gpu;
use cifar_engine::exec::gpu::adapter::{Adapter, Choice};
use cifar_engine::exec::plan::{IoBinding, Location, Plan, Step};
use cifar_engine::exec::stepwise::{Stepwise, Values};
use cifar_engine::exec::{Device, Precision};
use cifar_engine::models::cnn::CNN;
use cifar_engine::models::mobilenet_v1::MOBILENET_V1;
use cifar_engine::ops::dispatch::Operand;
use cifar_engine::ops::reference::array;
use cifar_engine::selftest::case::{Case, to_words};
use cifar_engine::selftest::cases;
use cifar_engine::selftest::probe::{farthest, graph_of};
use cifar_engine::tensor::{DType, TensorType};
use cifar_engine::train::optimizers::sgd::SGD;
use half::f16;
use ndarray::{ArrayD, ArrayViewD};

use super::checks::paths;
use super::common::gpu;
use super::training::{load, loss_scale, losses};
use super::{Training, parity};

/// Of the largest value, at least 1: what is stored is rounded to 11 bits, by a 2048th part;
/// colours of images are changed three times in their place, and rounded each time.
const TOLERANCE: f64 = 3.0 / 2048.0;

/// The GPU under test, storing in half precision; says so if it cannot, or there is none.
pub fn open() -> Option<Gpu> {
    let adapter = Adapter::choose(&Choice::Any);
    match adapter.and_then(|adapter| Gpu::open_with(&adapter, Precision::F16, true)) {
        Ok(gpu) => Some(gpu),
        Err(error) => {
            println!("nothing is tested in half precision: {error}");
            None
        }
    }
}

/// Where the operands of a step lie, with their types.
fn operands(step: &Step) -> impl Iterator<Item = (Location, &TensorType)> {
    let inputs = step.inputs.iter().zip(&step.types.inputs);
    inputs.chain(step.outputs.iter().zip(&step.types.outputs)).map(|(location, ty)| (*location, ty))
}

/// The places of a plan that every shader which touches them can hold in half precision.
fn storable(plan: &Plan) -> HashSet<Location> {
    let numbers =
        |step| operands(step).filter(|(_, ty)| ty.dtype == DType::F32).map(|(location, _)| location);
    let mut found: HashSet<Location> = plan.steps.iter().flat_map(numbers).collect();
    // A copy is one of bits.
    for step in plan.steps.iter().filter(|step| step.op.name() != "copy") {
        for dispatch in step.op.gpu(&step.types).list {
            let may_be = dispatch.shader.may_be_halves();
            for (_, operand) in dispatch.bindings.iter().enumerate().filter(|(i, _)| !may_be.has(*i)) {
                match *operand {
                    Operand::Input(of) | Operand::InputPiece(of, _) => found.remove(&step.inputs[of]),
                    Operand::Output(of) | Operand::OutputInput(of) => found.remove(&step.outputs[of]),
                    _ => continue,
                };
            }
        }
    }
    for step in plan.steps.iter().rev().filter(|step| step.op.name() == "copy") {
        if !found.contains(&step.outputs[0]) {
            found.remove(&step.inputs[0]);
        }
    }
    found
}

/// The same plan with these places in half precision. The host writes and reads the words of
/// those that are inputs and outputs.
fn in_halves(mut plan: Plan, halves: &HashSet<Location>) -> Plan {
    let store = |location: &Location, ty: &mut TensorType| {
        if halves.contains(location) {
            ty.dtype = DType::F16;
        }
    };
    for step in &mut plan.steps {
        step.inputs.iter().zip(&mut step.types.inputs).for_each(|(at, ty)| store(at, ty));
        step.outputs.iter().zip(&mut step.types.outputs).for_each(|(at, ty)| store(at, ty));
    }
    let as_words = |binding: &mut IoBinding| {
        store(&binding.location, &mut binding.ty);
        if binding.ty.dtype == DType::F16 {
            binding.ty = TensorType::u32([binding.ty.words()]);
        }
    };
    plan.inputs.iter_mut().for_each(as_words);
    plan.outputs.iter_mut().for_each(as_words);
    plan
}

fn rounded(values: &ArrayD<f64>) -> ArrayD<f64> {
    values.mapv(|value| f16::from_f64(value).to_f64())
}

/// Words with two halves each.
fn packed(values: &ArrayD<f64>) -> Vec<u32> {
    let halves: Vec<u16> = values.iter().map(|&value| f16::from_f64(value).to_bits()).collect();
    let word = |pair: &[u16]| u32::from(pair[0]) | pair.get(1).map_or(0, |&high| u32::from(high) << 16);
    halves.chunks(2).map(word).collect()
}

fn unpacked(words: &[f32], len: usize) -> Vec<f64> {
    let halves = words.iter().map(|word| word.to_bits()).flat_map(|word| [word as u16, (word >> 16) as u16]);
    halves.take(len).map(|bits| f16::from_bits(bits).to_f64()).collect()
}

/// How far the outputs of a case are from the reference for inputs that are rounded, if something
/// of it can be stored in half precision.
fn distance_in_halves(gpu: &mut Gpu, case: &Case) -> Option<f64> {
    let plan = Plan::compile(&graph_of(case).unwrap().0).unwrap();
    let halves = storable(&plan);
    if halves.is_empty() {
        return None;
    }
    let is_half = |binding: &IoBinding| halves.contains(&binding.location);
    let [of_inputs, of_outputs] =
        [&plan.inputs, &plan.outputs].map(|all| all.iter().map(is_half).collect::<Vec<bool>>());
    let id = gpu.load_plan(in_halves(plan, &halves), None).unwrap();
    let mut inputs = Vec::new();
    for (i, (ty, _)) in case.inputs.iter().enumerate() {
        let values = case.values(i);
        let words = if of_inputs[i] { packed(&values) } else { to_words(&values, ty.dtype) };
        let floats: Vec<f32> = words.iter().copied().map(f32::from_bits).collect();
        let dtype = if of_inputs[i] { DType::U32 } else { ty.dtype };
        super::write(dtype, &floats, &mut |data| gpu.write(id, &format!("in{i}"), data).unwrap());
        inputs.push(if of_inputs[i] { rounded(&values) } else { values });
    }
    gpu.run(id).unwrap();
    let read = |(i, ty): (usize, &TensorType)| {
        let words = gpu.read(id, &format!("out{i}")).unwrap();
        let value = |word: &f32| match ty.dtype {
            DType::F32 => f64::from(*word),
            _ => f64::from(word.to_bits()),
        };
        let values = match of_outputs[i] {
            true => unpacked(&words, ty.len()),
            false => words.iter().map(value).collect(),
        };
        array(ty.dims(), values)
    };
    let found: Vec<ArrayD<f64>> = case.types().outputs.iter().enumerate().map(read).collect();
    gpu.unload(id).unwrap();
    let views: Vec<ArrayViewD<f64>> = inputs.iter().map(|values| values.view()).collect();
    Some(farthest(case, &found, &case.op.reference(&views)))
}

#[test]
fn every_shader_computes_the_same_of_halves() {
    let Some(mut gpu) = open() else { return };
    let mut largest: Vec<(f64, String)> = Vec::new();
    let mut known = HashSet::new();
    for case in cases::all().iter().filter(|case| case.has_shaders()) {
        if paths(case, false).into_iter().filter(|path| known.insert(path.clone())).count() == 0 {
            continue;
        }
        if let Some(distance) = distance_in_halves(&mut gpu, case) {
            largest.push((distance, format!("{case:?}")));
        }
    }
    largest.sort_by(|a, b| b.0.total_cmp(&a.0));
    largest.iter().take(5).for_each(|(distance, case)| println!("{distance:e} {case}"));
    println!("{} cases", largest.len());
    assert!(largest.len() > 50, "hardly any shader stores halves");
    let wrong: Vec<_> = largest.iter().filter(|(distance, _)| *distance > TOLERANCE).collect();
    assert!(wrong.is_empty(), "{} cases are off by more: {wrong:#?}", wrong.len());
}

/// The losses of a training in half precision and in single.
fn both(training: &mut Training, steps: usize) -> Option<[Vec<f64>; 2]> {
    let (mut half, mut single) = (open()?, gpu::open()?);
    let expected = losses(&mut single, training, steps);
    training.settings.precision = Precision::F16;
    Some([losses(&mut half, training, steps), expected])
}

#[test]
fn a_training_in_half_precision_keeps_to_one_in_single() {
    const STEPS: usize = 20;
    let Some([found, expected]) = both(&mut Training::new(&SGD, 16), STEPS) else { return };
    let apart = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    println!("losses {:.4} to {:.4}, at most {apart:e} apart", expected[0], expected[STEPS - 1]);
    assert!(apart < 0.002, "{found:?} {expected:?}");
    assert!(apart > 0.0, "nothing is stored in half precision");
    assert!(expected[STEPS - 1] < expected[0] - 0.02, "it has not learnt: {expected:?}");
}

/// One launch unscales all gradients, and three clip them.
#[test]
fn gradients_are_unscaled_and_clipped_by_few_launches() {
    let (Some(mut half), Some(mut single)) = (open(), gpu::open()) else { return };
    let mut training = Training::new(&SGD, 4);
    let mut launches = |gpu: &mut Gpu, clip: f32| {
        training.settings.clip = clip;
        training.settings.precision = gpu.precision();
        let plan = load(gpu, &training);
        gpu.launches(plan).unwrap().unwrap()
    };
    let plain = launches(&mut single, 0.0);
    assert_eq!(launches(&mut single, 1.0), plain + 3);
    assert_eq!(launches(&mut half, 0.0), plain + 1);
    assert_eq!(launches(&mut half, 1.0), plain + 1 + 3);
}

/// The first step of a training in half precision: whether parameters are finite after it, and
/// what its steps stored in half precision before the first update.
fn first_step(gpu: &mut Gpu, training: &Training) -> (bool, Vec<Vec<f32>>) {
    let program = training.program();
    let plan = gpu.plan(&program.graph).unwrap();
    let stepwise = Stepwise::load(gpu, &plan, None).unwrap();
    training.prepare(gpu, stepwise.id(), &program.parameters);
    for input in plan.inputs.iter().filter(|input| input.name.ends_with("rate")) {
        stepwise.write(gpu, &input.name, [0.01f32].as_slice().into()).unwrap();
    }
    stepwise.write(gpu, "loss_gradient", [loss_scale(training)].as_slice().into()).unwrap();
    stepwise.write(gpu, "indices", training.indices(0).as_slice().into()).unwrap();
    stepwise.write(gpu, "step", [0u32].as_slice().into()).unwrap();
    let mut halves = Vec::new();
    for number in 0..stepwise.steps().len() {
        stepwise.run(gpu, number).unwrap();
        let step = &stepwise.steps()[number];
        for (&location, ty) in step.outputs.iter().zip(&step.types.outputs) {
            if ty.dtype == DType::F16 {
                let Values::F32(values) = stepwise.read(gpu, location, ty).unwrap() else { panic!("{ty}") };
                assert_eq!(values.len(), ty.len());
                halves.push(values);
            }
        }
    }
    let finite = |name: &str| gpu.read_state(stepwise.id(), name).unwrap().iter().all(|v| v.is_finite());
    let all_finite = program.parameters.iter().all(|parameter| finite(&parameter.name));
    stepwise.unload(gpu).unwrap();
    (all_finite, halves)
}

/// Gradients of activations lie in the range of halves that keep all their digits, with room above
/// and below; so the scale is one that no model here needs to change.
#[test]
fn the_scale_of_the_loss_keeps_gradients_in_range() {
    let Some(mut gpu) = open() else { return };
    for model in [&CNN, &MOBILENET_V1] {
        let mut training = parity::training(model, &SGD);
        training.settings.precision = Precision::F16;
        let (is_finite, halves) = first_step(&mut gpu, &training);
        let largest = halves.iter().flatten().fold(0.0f32, |most, value| most.max(value.abs()));
        let subnormal = |value: &&f32| **value != 0.0 && value.abs() < f32::from(f16::MIN_POSITIVE);
        let (all, small) =
            (halves.iter().flatten().count(), halves.iter().flatten().filter(subnormal).count());
        println!(
            "{}: {all} values, the largest {largest}, {small} below the smallest normal half",
            model.name
        );
        assert!(is_finite && largest < 65504.0 / 16.0, "{}: {largest}", model.name);
        assert!(small < all / 100, "{}: {small} of {all}", model.name);
    }
}
