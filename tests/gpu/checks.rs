//! Shaders run without run-time checks. They need none: no index of theirs is outside of its array.

use std::sync::Arc;

use cifar_engine::exec::Device;
use cifar_engine::exec::plan::Plan;
use cifar_engine::models::cnn::CNN;
use cifar_engine::models::fast::FAST;
use cifar_engine::models::mobilenet_v1::MOBILENET_V1;
use cifar_engine::selftest::case::{Case, to_words};
use cifar_engine::selftest::cases;
use cifar_engine::selftest::probe::{graph_of, run_case};
use cifar_engine::train::optimizers::sgd::SGD;

use super::common::gpu::{self, corrupted};
use super::outside::counted;
use super::parity::training;
use super::training::{load_plan, losses, run};
use super::write;

/// The bits of what a case comes to.
fn bits(device: &mut dyn Device, case: &Case) -> Vec<Vec<u32>> {
    let outputs = run_case(device, case, 1).unwrap();
    outputs.iter().zip(&case.types().outputs).map(|(values, ty)| to_words(values, ty.dtype)).collect()
}

/// The same by shaders that count, what they accessed outside, and their number of indices.
fn counted_bits(device: &mut dyn Device, case: &Case) -> (Vec<Vec<u32>>, Vec<String>, usize) {
    let (plan, sites) = counted(Plan::compile(&graph_of(case).unwrap().0).unwrap());
    let id = device.load_plan(plan, None).unwrap();
    for (i, (ty, _)) in case.inputs.iter().enumerate() {
        let words = to_words(&case.values(i), ty.dtype);
        let values: Vec<f32> = words.into_iter().map(f32::from_bits).collect();
        write(ty.dtype, &values, &mut |data| device.write(id, &format!("in{i}"), data).unwrap());
    }
    device.run(id).unwrap();
    let read = |i| device.read(id, &format!("out{i}")).unwrap().into_iter().map(f32::to_bits).collect();
    let found = (0..case.types().outputs.len()).map(read).collect();
    let outside = sites.outside(device, id);
    device.unload(id).unwrap();
    (found, outside, sites.len())
}

#[test]
fn no_case_of_any_op_needs_a_check() {
    let Some(mut gpu) = gpu::open_with(false) else { return };
    let mut indices = 0;
    for case in cases::all().iter().filter(|case| case.has_shaders()) {
        let (expected, outside, count) = counted_bits(&mut gpu, case);
        assert!(outside.is_empty(), "{case:?}: {outside:#?}");
        assert!(expected == bits(&mut gpu, case), "{case:?}");
        indices += count;
    }
    println!("{indices} indices are inside");
}

#[test]
fn no_training_needs_a_check() {
    let Some(mut gpu) = gpu::open_with(false) else { return };
    for model in [&CNN, &FAST, &MOBILENET_V1] {
        let training = training(model, &SGD);
        let (plan, sites) = counted(gpu.plan(&training.program().graph).unwrap());
        let plan = load_plan(&mut gpu, &training, plan);
        let expected = run(&mut gpu, plan, &training, 2);
        let outside = sites.outside(&gpu, plan);
        assert!(outside.is_empty(), "{}: {outside:#?}", model.name);
        assert_eq!(expected, losses(&mut gpu, &training, 2), "{}", model.name);
        println!("{}: {} indices are inside", model.name, sites.len());
    }
}

/// An index past the end of a workgroup's array, of a buffer that is read or written, or of an
/// array of an invocation's own. The value that is read is used nowhere in the second.
#[test]
fn an_index_outside_is_counted() {
    let Some(mut gpu) = gpu::open_with(false) else { return };
    let errors = [
        ("reduce_sum", "result = totals[local]", "result = totals[local + 256u]", "totals[local + 256u]"),
        ("moving_average", "let scale", "_ = x[i + arrayLength(&x)]; let scale", "x[i + arrayLength(&x)]"),
        ("moving_average", "average[i] +=", "average[i + 1u] +=", "average[i + 1u]"),
        ("moving_average", "let scale", "var two = vec2(0.0); two[i] = 1.0; let scale", "two[i]"),
    ];
    for (op, from, to, index) in errors {
        let case = cases::all().into_iter().find(|case| case.op.name() == op).unwrap();
        let (_, outside, _) = counted_bits(&mut gpu, &case);
        assert!(outside.is_empty(), "{outside:?}");
        let wrong = Case { op: corrupted(Arc::clone(&case.op), from, to), ..case };
        let (_, outside, _) = counted_bits(&mut gpu, &wrong);
        assert!(outside.len() == 1 && outside[0].contains(index), "{index}: {outside:?}");
    }
}
