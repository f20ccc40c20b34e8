//! What a training step costs by count, whatever the GPU: launches, pipelines, and passes over the
//! tensors between layers.

use std::collections::HashSet;

use cifar_engine::exec::Precision;
use cifar_engine::exec::gpu::store_halves;
use cifar_engine::exec::launches::RULES;
use cifar_engine::exec::plan::{Plan, Step};
use cifar_engine::graph::rewrite::{Rule, rewrite};
use cifar_engine::models::Architecture;
use cifar_engine::models::cnn::CNN;
use cifar_engine::models::mobilenet_v1::MOBILENET_V1;
use cifar_engine::ops::dispatch::{Dispatch, Operand};
use cifar_engine::tensor::TensorType;
use cifar_engine::train::settings::Settings;
use cifar_engine::train::{bare_spec, plans};

use super::joint::separate;

/// The launches of a run, if what may be joined is: of all steps of a kind the first.
pub fn joined(plan: &Plan) -> usize {
    let kinds = ["sgd", "adam", "moving_average"];
    let count = |kind: &str| plan.steps.iter().filter(|step| step.op.name() == kind).count();
    separate(plan) - kinds.into_iter().map(|kind| count(kind).saturating_sub(1)).sum::<usize>()
}

fn launches(step: &Step) -> Vec<Dispatch> {
    step.op.gpu(&step.types).list
}

/// What is compiled for a plan.
fn pipelines(plan: &Plan) -> usize {
    let key = |dispatch: Dispatch| {
        let access: Vec<bool> = dispatch.bindings.iter().map(|operand| operand.is_written()).collect();
        (dispatch.shader, dispatch.entry, format!("{:?}", dispatch.constants), access)
    };
    plan.steps.iter().flat_map(launches).map(key).collect::<HashSet<_>>().len()
}

/// Bytes of images and of what layers make of them that a step's launches read and write: each
/// launch those that it is bound to.
fn moved(step: &Step) -> u64 {
    let is_images = |ty: &&TensorType| ty.dims().len() == 4 && ty.dims()[0] > 7;
    let of = |operand: Operand| match operand {
        Operand::Input(i) => step.types.inputs.get(i),
        Operand::Output(i) | Operand::OutputInput(i) => step.types.outputs.get(i),
        _ => None,
    };
    let of_launch = |dispatch: Dispatch| {
        // Without a bias, partial sums are bound to an input that they do not read.
        let adds = dispatch.shader.name == "partial_sums";
        let operands = dispatch.bindings.iter().copied().filter(|op| !(adds && *op == Operand::Input(0)));
        let operands: HashSet<Operand> = operands.collect();
        operands.into_iter().filter_map(of).filter(is_images).map(|ty| ty.bytes() as u64).sum::<u64>()
    };
    launches(step).into_iter().map(of_launch).sum()
}

/// The plan of a training step, and as it was before convolutions normalised what they read and
/// gathered the sums of normalisations.
fn plans_of(model: &'static Architecture, batch: usize) -> [Plan; 2] {
    let spec = bare_spec(model, model.usual_size, 10);
    let settings = Settings { batch_size: batch, model, ..Settings::default() };
    let saving = ["normalised input", "gathered moments", "gathered gradient"];
    let without: Vec<&Rule> = RULES.iter().filter(|rule| !saving.contains(&rule.name)).copied().collect();
    [RULES, &without].map(|rules| {
        let mut graph = plans::training(&spec, &settings, batch).unwrap().graph;
        rewrite(&mut graph, rules).unwrap();
        Plan::compile(&graph).unwrap()
    })
}

/// Bytes that a plan says its steps read and write.
fn planned(plan: &Plan) -> u64 {
    plan.steps.iter().map(|step| step.op.cost(&step.types).bytes).sum()
}

/// The bytes as so many passes over what the first convolution of each of the CNN's stages writes.
fn passes(bytes: u64, batch: usize) -> f64 {
    let stages = 32 * 32 * 32 + 16 * 16 * 64 + 8 * 8 * 128;
    (100.0 * bytes as f64 / (4 * batch * stages) as f64).round() / 100.0
}

#[test]
fn a_training_step_of_the_cnn_has_few_launches_and_passes() {
    for (batch, now, before) in [
        (128, (75, 62, 14.77, 17.27), (82, 73, 20.49, 22.98)),
        (512, (73, 60, 14.04, 16.98), (82, 72, 20.04, 22.98)),
    ] {
        let counts = plans_of(&CNN, batch).map(|plan| {
            let moved = plan.steps.iter().map(moved).sum();
            let passes = [planned(&plan), moved].map(|bytes| passes(bytes, batch));
            (joined(&plan), pipelines(&plan), passes[0], passes[1])
        });
        assert_eq!(counts, [now, before], "batch {batch}");
    }
}

#[test]
fn a_training_step_of_mobilenet_moves_few_bytes() {
    let counts = plans_of(&MOBILENET_V1, 64).map(|plan| {
        let moved: u64 = plan.steps.iter().map(moved).sum();
        (joined(&plan), pipelines(&plan), planned(&plan) / 1_000_000, moved / 1_000_000)
    });
    assert_eq!(counts, [(288, 123, 2196, 2562), (303, 136, 2953, 3319)]);
}

/// The plan of a training step with its activations and their gradients in this precision.
fn stored_in(precision: Precision, model: &'static Architecture, batch_size: usize) -> Plan {
    let spec = bare_spec(model, model.usual_size, 10);
    let settings = Settings { batch_size, model, precision, ..Settings::default() };
    let mut graph = plans::training(&spec, &settings, batch_size).unwrap().graph;
    rewrite(&mut graph, RULES).unwrap();
    if precision == Precision::F16 {
        store_halves(&mut graph);
    }
    Plan::compile(&graph).unwrap()
}

/// MB that a training step reads and writes by plan, that its launches do of images and
/// activations, and of slots.
fn megabytes(precision: Precision, model: &'static Architecture, batch: usize) -> [u64; 3] {
    let plan = stored_in(precision, model, batch);
    let moved: u64 = plan.steps.iter().map(moved).sum();
    [planned(&plan), moved, plan.slot_bytes() as u64].map(|bytes| bytes / 1_000_000)
}

#[test]
fn half_precision_halves_what_a_training_step_moves() {
    let of = |model, batch| [Precision::F32, Precision::F16].map(|p| megabytes(p, model, batch));
    assert_eq!(of(&CNN, 128), [[433, 506, 85], [230, 253, 43]]);
    assert_eq!(of(&CNN, 512), [[1648, 1994, 339], [838, 997, 170]]);
    assert_eq!(of(&MOBILENET_V1, 64), [[2196, 2562, 321], [1178, 1281, 164]]);
}
