//! What the plans of the CNN must look like. Losing an optimisation silently is a bug, so it has a
//! test.

use std::any::Any;
use std::collections::BTreeMap;

use cifar_engine::exec::cpu::Cpu;
use cifar_engine::exec::cpu::rules::RULES;
use cifar_engine::exec::plan::Plan;
use cifar_engine::exec::{Data, Device, PlanId};
use cifar_engine::graph::rewrite::rewrite;
use cifar_engine::kernels::simd::Isa;
use cifar_engine::ops::conv::{Conv, Output};
use cifar_engine::ops::{Function, Op};
use cifar_engine::train::optimizers::adam::ADAM;
use cifar_engine::train::optimizers::keras_adam::KERAS_ADAM;
use cifar_engine::train::optimizers::sgd::SGD;

use super::symbolic;
use crate::common::cnn::{self, CLASSES, Network, Size};

fn plan(network: &Network) -> Plan {
    let plan = Plan::compile(&network.graph).unwrap();
    symbolic::check(&network.graph, &plan).unwrap();
    plan
}

fn fused(mut network: Network) -> Network {
    rewrite(&mut network.graph, RULES).unwrap();
    network
}

/// An op's name, and what was fused into it.
fn label(op: &dyn Op) -> String {
    let attributes = format!("{op:?}");
    let activation =
        ["None", "Some(Relu)"].into_iter().find(|a| attributes.contains(&format!("activation: {a} ")));
    let Some(conv) = (op as &dyn Any).downcast_ref::<Conv>() else {
        return [Some(op.name()), activation].into_iter().flatten().collect::<Vec<_>>().join(" ");
    };
    let output = match conv.output {
        Output::Values => None,
        Output::Kept => Some("kept"),
        Output::Slope(_) => Some("slope"),
        Output::Moments => Some("moments"),
        Output::NormGrad(_) => Some("norm_grad"),
    };
    let relu = (conv.activation == Some(Function::Relu)).then_some("Relu");
    let parts = [Some(op.name()), conv.input.map(|_| "normalised"), output, relu];
    parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

/// How many steps there are of every op with the same fused into it.
fn census(plan: &Plan) -> BTreeMap<String, usize> {
    let mut census = BTreeMap::new();
    plan.steps.iter().for_each(|step| *census.entry(label(&*step.op)).or_insert(0) += 1);
    census
}

#[test]
fn fusion_and_in_place_work_in_the_training_plan() {
    for optimizer in [&SGD, &ADAM, &KERAS_ADAM] {
        let plan = plan(&fused(cnn::training(&Size { data: 500, ..Size::full(16) }, optimizer)));
        let update = if *optimizer == SGD { "sgd" } else { "adam" };
        let expected = [
            ("augment", 1),
            ("batch_norm_max_pool Some(Relu)", 3),
            ("batch_norm_max_pool_grad Some(Relu)", 3),
            // The second convolution of each block, and the gradient of its weights, normalise what
            // they read.
            ("conv2d moments", 3),
            ("conv2d normalised moments", 3),
            ("conv2d_weight_grad", 3),
            ("conv2d_weight_grad normalised", 3),
            ("conv2d_input_grad", 2),
            ("conv2d_input_grad norm_grad", 3),
            // What these normalise by.
            ("scale_shift", 3),
            ("dropout", 2),
            ("matmul None", 1 + 2 + 2),
            ("matmul Some(Relu)", 1),
            ("moving_average", 12),
            // It reads what dropout has overwritten.
            ("relu_grad", 1),
            ("softmax_cross_entropy", 1),
            ("softmax_cross_entropy_grad", 1),
            ("sum_rows", 2),
            // Instead of the sums for the biases that a normalisation takes away.
            ("constant", 6),
            (update, 28),
        ];
        let expected = expected.into_iter().map(|(name, count)| (name.to_string(), count)).collect();
        assert_eq!(census(&plan), expected);
    }
}

#[test]
fn unfused_plans_have_the_steps_that_fusion_removes() {
    let census = census(&plan(&cnn::training(&Size::narrow(4), &ADAM)));
    assert_eq!([census["batch_norm None"], census["relu"], census["relu_grad"]], [6, 7, 7]);
}

/// Bytes that a run's steps read and write.
fn traffic(plan: &Plan) -> usize {
    plan.steps.iter().map(|step| step.op.cost(&step.types).bytes as usize).sum()
}

/// Fusion saves passes over memory. The peak it leaves as it was: the unfused ReLU works in place,
/// and what its gradient reads is kept for the next convolution's gradient anyway.
#[test]
fn fusion_saves_traffic_and_costs_no_memory() {
    let network = || cnn::training(&Size::full(128), &ADAM);
    let (before, after) = (plan(&network()), plan(&fused(network())));
    assert_eq!(before.steps.len() - after.steps.len(), 23);
    assert!(after.slot_bytes() <= before.slot_bytes());
    let saved = traffic(&before) - traffic(&after);
    println!("fusion saves {saved} of {} bytes; slots {}", traffic(&before), after.slot_bytes());
    let normalised = 4 * 128 * 2 * (32 * 32 * 32 + 16 * 16 * 64 + 8 * 8 * 128);
    // Per activation, reading and writing once forward, and backward dy, y and the write of dx; per
    // bias, reading dx.
    let activations = 5 * normalised + normalised;
    // Of the half that is pooled: forward two, and backward three and a quarter.
    let pooled = normalised / 2 * 21 / 4;
    // Of the other half: what lies between a convolution's gradient and that of the normalisation
    // before it, and what two convolutions normalise as they read it.
    let between = normalised / 2 * (2 + 2);
    // Statistics, gathered by the convolution, are read once more; of the convolutions that
    // normalise, scales and shifts are written and read twice, besides.
    let vectors = 4 * (32 + 64 + 128);
    let statistics = 2 * vectors + (2 + 4 + 3 * 2 - 4) * vectors;
    // Of the dense layer: its ReLU joins the product, and dropout may overwrite what comes of it.
    let dense = 4 * 4 * 128 * 128;
    assert_eq!(saved, activations + pooled + between + dense - statistics);
}

#[test]
fn inference_needs_two_activations_and_a_little() {
    let batch = 128;
    let network = fused(cnn::inference(&Size::full(batch)));
    let plan = plan(&network);
    let types = plan.steps.iter().flat_map(|step| &step.types.outputs);
    let largest = types.map(|ty| ty.bytes()).max().unwrap();
    assert_eq!(largest, 4 * batch * 32 * 32 * 32);
    let pinned = 4 * batch * (32 * 32 * 3 + CLASSES);
    // First-fit decreasing finds no room in the two for the first pooling's output, a quarter of
    // the largest. The folded weights and biases stay from run to run.
    let folded = |(i, o): (usize, usize)| 4 * (3 * 3 * i * o + o);
    let folded: usize =
        [(3, 32), (32, 32), (32, 64), (64, 64), (64, 128), (128, 128)].map(folded).iter().sum();
    let bound = 2 * largest + largest / 4 + folded + pinned;
    assert!(plan.slot_bytes() <= bound, "{} bytes, {bound} allowed", plan.slot_bytes());
}

#[test]
fn convolutions_take_up_the_normalisation_in_inference() {
    let plan = plan(&fused(cnn::inference(&Size::full(16))));
    let expected = [
        ("conv2d Relu", 6),
        ("fold_batch_norm", 6),
        ("matmul None", 1),
        ("matmul Some(Relu)", 1),
        ("max_pool", 3),
    ];
    let expected = expected.into_iter().map(|(name, count)| (name.to_string(), count)).collect();
    assert_eq!(census(&plan), expected);
    // The weights are folded once.
    assert!(plan.steps[..plan.constants].iter().all(|step| step.op.name() == "fold_batch_norm"));
    assert_eq!(plan.constants, 6);
}

/// Deterministic numbers in [-1, 1).
fn numbers(len: usize, seed: u32) -> Vec<f32> {
    let bits = |i: usize| (i as u32).wrapping_add(seed << 16).wrapping_mul(2_654_435_761) >> 8;
    (0..len).map(|i| bits(i) as f32 / (1 << 23) as f32 - 1.0).collect()
}

/// A few training steps; returns every output, step by step, and then the parameters.
fn trained(network: &Network, size: &Size, isa: Isa, threads: usize) -> Vec<f32> {
    let mut cpu = Cpu::new(threads, isa).unwrap();
    let plan = cpu.load_plan(plan(network), None).unwrap();
    for (index, parameter) in network.parameters.iter().enumerate() {
        let values = match parameter.name.ends_with("running_var") {
            true => vec![1.0; parameter.shape.len()],
            false => numbers(parameter.shape.len(), index as u32),
        };
        cpu.write_state(plan, &parameter.name, Data::F32(&values)).unwrap();
    }
    let mut found = Vec::new();
    for step in 0..3 {
        feed(&mut cpu, plan, size, step);
        cpu.run(plan).unwrap();
        for output in ["loss", "totals", "logits"] {
            found.extend(cpu.read(plan, output).unwrap());
        }
    }
    for parameter in &network.parameters {
        found.extend(cpu.read_state(plan, &parameter.name).unwrap());
    }
    assert!(found.iter().all(|value| value.is_finite()));
    found
}

fn feed(cpu: &mut Cpu, plan: PlanId, size: &Size, step: u32) {
    let x = numbers(size.batch * size.height * size.width * 3, 100 + step);
    let labels: Vec<u32> = (0..size.batch as u32).map(|n| (n + step) % CLASSES as u32).collect();
    cpu.write(plan, "x", Data::F32(&x)).unwrap();
    cpu.write(plan, "labels", Data::U32(&labels)).unwrap();
    cpu.write(plan, "step", Data::U32(&[step])).unwrap();
    cpu.write(plan, "rate", Data::F32(&[0.01])).unwrap();
    cpu.write(plan, "one", Data::F32(&[1.0])).unwrap();
}

/// Fused, a convolution's statistics are summed in other blocks: the first step may differ in the
/// last digits, and later ones by what an optimizer makes of that. Threads change nothing.
#[test]
fn fusion_changes_nothing_but_rounding_and_threads_change_nothing() {
    let size = Size::narrow(12);
    let network = || cnn::training(&size, &ADAM);
    let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<u32>>();
    for isa in Isa::available() {
        let fused = |threads| trained(&fused(network()), &size, isa, threads);
        let (unfused, two) = (trained(&network(), &size, isa, 2), fused(2));
        for threads in [1, 3] {
            assert!(bits(&fused(threads)) == bits(&two), "{isa}: {threads} threads change the result");
        }
        let first_step = 2 + size.batch * CLASSES;
        for (i, (a, b)) in two.iter().zip(&unfused).take(first_step).enumerate() {
            assert!((a - b).abs() <= 1e-5 * b.abs().max(1.0), "{isa}: output {i} is {a} when fused, not {b}");
        }
    }
}
