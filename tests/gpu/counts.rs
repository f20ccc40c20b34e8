//! What a training step costs by count, whatever the GPU: launches, pipelines, and passes over the
//! tensors between layers.

use std::collections::HashSet;

use cifar_engine::exec::Device;
use cifar_engine::exec::gpu::RULES;
use cifar_engine::exec::plan::{Plan, Step};
use cifar_engine::graph::rewrite::{Rule, rewrite};
use cifar_engine::models::Architecture;
use cifar_engine::models::cnn::CNN;
use cifar_engine::models::mobilenet_v1::MOBILENET_V1;
use cifar_engine::ops::dispatch::{Dispatch, Operand};
use cifar_engine::tensor::TensorType;
use cifar_engine::train::optimizers::sgd::SGD;

use super::Training;
use super::common::gpu;
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
fn moved(step: &Step) -> usize {
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
        operands.into_iter().filter_map(of).filter(is_images).map(TensorType::bytes).sum::<usize>()
    };
    launches(step).into_iter().map(of_launch).sum()
}

fn plan_of(gpu: &dyn Device, model: &'static Architecture, batch: usize) -> Plan {
    gpu.plan(&Training::of(model, &SGD, batch).program().graph).unwrap()
}

/// Bytes that a plan says its steps read and write.
fn planned(plan: &Plan) -> u64 {
    plan.steps.iter().map(|step| step.op.cost(&step.types).bytes).sum()
}

#[test]
fn a_training_step_of_the_cnn_has_few_launches_and_passes() {
    let Some(gpu) = gpu::open() else { return };
    // Elements of what a first convolution of each stage writes, an image.
    let stages = 32 * 32 * 32 + 16 * 16 * 64 + 8 * 8 * 128;
    for batch in [128, 512] {
        let plan = plan_of(&gpu, &CNN, batch);
        let passes = |bytes: usize| bytes as f64 / (4 * batch * stages) as f64;
        println!(
            "{batch}: {} {} {} {}",
            joined(&plan),
            pipelines(&plan),
            passes(planned(&plan) as usize),
            passes(plan.steps.iter().map(moved).sum::<usize>())
        );
        let old: Vec<&Rule> = RULES
            .iter()
            .filter(|r| {
                !["normalised input", "gathered moments", "gathered gradient", "dropped mask"]
                    .contains(&r.name)
            })
            .copied()
            .collect();
        let mut graph = Training::of(&CNN, &SGD, batch).program().graph;
        rewrite(&mut graph, &old).unwrap();
        let plan = Plan::compile(&graph).unwrap();
        println!(
            "{batch}: {} {} {} {}",
            joined(&plan),
            pipelines(&plan),
            passes(planned(&plan) as usize),
            passes(plan.steps.iter().map(moved).sum::<usize>())
        );
    }
}

#[test]
fn a_training_step_of_mobilenet_moves_few_bytes() {
    let Some(gpu) = gpu::open() else { return };
    let plan = plan_of(&gpu, &MOBILENET_V1, 64);
    println!(
        "{} {} {} {}",
        joined(&plan),
        pipelines(&plan),
        planned(&plan),
        plan.steps.iter().map(moved).sum::<usize>()
    );
    let old: Vec<&Rule> = RULES
        .iter()
        .filter(|r| {
            !["normalised input", "gathered moments", "gathered gradient", "dropped mask"].contains(&r.name)
        })
        .copied()
        .collect();
    let mut graph = Training::of(&MOBILENET_V1, &SGD, 64).program().graph;
    rewrite(&mut graph, &old).unwrap();
    let plan = Plan::compile(&graph).unwrap();
    println!(
        "{} {} {} {}",
        joined(&plan),
        pipelines(&plan),
        planned(&plan),
        plan.steps.iter().map(moved).sum::<usize>()
    );
}
