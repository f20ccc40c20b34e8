//! Shaders without run-time checks compute what those with them do, to the last bit.

use std::sync::Arc;

use cifar_engine::exec::Device;
use cifar_engine::models::cnn::CNN;
use cifar_engine::models::fast::FAST;
use cifar_engine::models::mobilenet_v1::MOBILENET_V1;
use cifar_engine::selftest::case::Case;
use cifar_engine::selftest::cases;
use cifar_engine::selftest::probe::run_case;
use cifar_engine::train::optimizers::sgd::SGD;

use super::common::gpu::{self, corrupted};
use super::parity::training;
use super::training::losses;

/// The bits of what a case comes to.
fn bits(device: &mut dyn Device, case: &Case) -> Vec<u64> {
    let outputs = run_case(device, case, 1).unwrap();
    outputs.iter().flatten().map(|number| number.to_bits()).collect()
}

#[test]
fn no_case_of_any_op_needs_a_check() {
    let Some((mut checked, mut plain)) = gpu::open_with(true).zip(gpu::open_with(false)) else { return };
    let cases: Vec<Case> = cases::all().into_iter().filter(Case::has_shaders).collect();
    for case in &cases {
        assert!(bits(&mut checked, case) == bits(&mut plain, case), "{case:?}");
    }
    // One that reads past the end of its array is not the same without.
    let outside = |case: &Case| {
        let op = corrupted(case.op.clone(), "result = totals[local]", "result = totals[local + 256u]");
        Case { op: Arc::clone(&op), ..case.clone() }
    };
    let mut sums = cases.iter().filter(|case| case.op.name() == "reduce_sum").map(outside);
    assert!(sums.any(|case| bits(&mut checked, &case) != bits(&mut plain, &case)));
}

#[test]
fn no_training_needs_a_check() {
    let Some((mut checked, mut plain)) = gpu::open_with(true).zip(gpu::open_with(false)) else { return };
    for model in [&CNN, &FAST, &MOBILENET_V1] {
        let training = training(model, &SGD);
        let (expected, found) = (losses(&mut checked, &training, 2), losses(&mut plain, &training, 2));
        assert_eq!(expected, found, "{}", model.name);
    }
}
