//! Shaders run without run-time checks. They need none: no index of theirs is outside of its array.

use std::collections::HashSet;
use std::sync::Arc;

use cifar_engine::exec::Device;
use cifar_engine::exec::plan::Plan;
use cifar_engine::models::cnn::CNN;
use cifar_engine::models::mobilenet_v1::MOBILENET_V1;
use cifar_engine::ops::dispatch::{Dispatch, INCLUDES};
use cifar_engine::ops::linear::other_tiles::Product;
use cifar_engine::ops::reference::array;
use cifar_engine::selftest::case::{Case, to_words};
use cifar_engine::selftest::cases;
use cifar_engine::selftest::check::{TOLERANCE, reference};
use cifar_engine::selftest::probe::{farthest, graph_of};
use cifar_engine::tensor::{DType, TensorType};
use cifar_engine::train::optimizers::sgd::SGD;

use super::common::gpu::{self, corrupted};
use super::outside::counted;
use super::parity::training;
use super::training::{load_plan, losses, run};
use super::write;
use ndarray::ArrayD;

/// What a case comes to by shaders that count, integers as their values; what they accessed
/// outside, and their number of indices.
fn counted_outputs(device: &mut dyn Device, case: &Case) -> (Vec<ArrayD<f64>>, Vec<String>, usize) {
    let (plan, sites) = counted(Plan::compile(&graph_of(case).unwrap().0).unwrap());
    let id = device.load_plan(plan, None).unwrap();
    for (i, (ty, _)) in case.inputs.iter().enumerate() {
        let words = to_words(&case.values(i), ty.dtype);
        let values: Vec<f32> = words.into_iter().map(f32::from_bits).collect();
        write(ty.dtype, &values, &mut |data| device.write(id, &format!("in{i}"), data).unwrap());
    }
    device.run(id).unwrap();
    let read = |(i, ty): (usize, &TensorType)| {
        let value = |v: f32| if ty.dtype == DType::F32 { f64::from(v) } else { f64::from(v.to_bits()) };
        let values = device.read(id, &format!("out{i}")).unwrap();
        array(ty.dims(), values.into_iter().map(value).collect())
    };
    let found = case.types().outputs.iter().enumerate().map(read).collect();
    let outside = sites.outside(device, id);
    device.unload(id).unwrap();
    (found, outside, sites.len())
}

/// What an index of a case may depend on, of each launch: shapes and constants; and whether there
/// is a bias, a residual, .., by itself, as each has an index of its own. Functions of a value have
/// none. Each size of a product is a shader of its own, which takes a driver seconds to compile:
/// unless `all_sizes` are wanted, what differs by numbers of 2 and more is one.
pub fn paths(case: &Case, all_sizes: bool) -> Vec<String> {
    let shapes: Vec<&[usize]> = case.inputs.iter().take(2).map(|(ty, _)| ty.dims()).collect();
    let functions = ["FUNCTION", "SLOPE_OF_VALUE", "CUT"];
    let parts = ["BIAS", "OTHER", "KEPT", "GATHER", "SCALED"];
    let vectors = ["A_VECTORS", "B_VECTORS"];
    let tile = ["TILE_ROWS", "TILE_COLUMNS"];
    let keys = |dispatch: &Dispatch| {
        let named = |names: &[&str]| -> Vec<&(&str, f64)> {
            dispatch.constants.iter().filter(|(name, _)| names.contains(name)).collect()
        };
        let merges_sizes = !all_sizes && Product::of(dispatch).is_some();
        let others = dispatch.constants.iter();
        let others = others.filter(|(name, _)| !functions.contains(name) && !parts.contains(name));
        let others = others.map(|(name, value)| match merges_sizes && !tile.contains(name) {
            true => (name, value.min(2.0)),
            false => (name, *value),
        });
        let shader = format!("{} {:?} {}", dispatch.shader.name, dispatch.shader.chosen, dispatch.entry);
        let numbers: Vec<_> = dispatch.bindings.iter().filter_map(|operand| operand.numbers()).collect();
        let sizes = if merges_sizes { String::new() } else { format!("{numbers:?} {shapes:?}") };
        let of_shape = format!("{shader} {:?} {sizes}", others.collect::<Vec<_>>());
        let of_part =
            |(name, value): &(&str, f64)| format!("{shader} {:?} {name} {}", named(&vectors), *value != 0.0);
        named(&parts).into_iter().map(of_part).chain([of_shape]).collect::<Vec<_>>()
    };
    case.op.gpu(&case.types()).list.iter().flat_map(keys).collect()
}

/// Runs a case for each path. The shaders that count compute what the op should, so that they are
/// those that are meant.
fn check_cases(all_sizes: bool) {
    let Some(mut gpu) = gpu::open_with(false) else { return };
    for name in ["function", "scaled"] {
        let (_, text) = INCLUDES.iter().find(|(known, _)| *known == name).unwrap();
        assert!(!text.contains('['), "{name} has an index: its cases are not to be left out");
    }
    let (mut indices, mut known) = (0, HashSet::new());
    let mut cases: Vec<Case> = cases::all().into_iter().filter(Case::has_shaders).collect();
    // A part is tried on what takes fewest launches, each of which is compiled.
    cases.sort_by_key(|case| case.op.gpu(&case.types()).list.len());
    for case in &cases {
        if paths(case, all_sizes).into_iter().filter(|path| known.insert(path.clone())).count() == 0 {
            continue;
        }
        let (found, outside, count) = counted_outputs(&mut gpu, case);
        assert!(outside.is_empty(), "{case:?}: {outside:#?}");
        let apart = farthest(case, &found, &reference(case).unwrap());
        assert!(apart <= TOLERANCE, "{case:?} is off by {apart:e}");
        indices += count;
    }
    println!("{indices} indices are inside");
}

#[test]
fn no_case_of_any_op_needs_a_check() {
    check_cases(false);
}

#[test]
#[ignore = "takes minutes: products of every size"]
fn no_size_of_any_op_needs_a_check() {
    check_cases(true);
}

#[test]
fn no_training_needs_a_check() {
    let Some(mut gpu) = gpu::open_with(false) else { return };
    for model in [&CNN, &MOBILENET_V1] {
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
        let (_, outside, _) = counted_outputs(&mut gpu, &case);
        assert!(outside.is_empty(), "{outside:?}");
        let wrong = Case { op: corrupted(Arc::clone(&case.op), from, to), ..case };
        let (_, outside, _) = counted_outputs(&mut gpu, &wrong);
        assert!(outside.len() == 1 && outside[0].contains(index), "{index}: {outside:?}");
    }
}
