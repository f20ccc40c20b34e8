//! What a plan does not compute in every run follows the states all the same, whoever writes them,
//! on every device.

mod common;

use cifar_engine::exec::cpu::Cpu;
use cifar_engine::exec::plan::Plan;
use cifar_engine::exec::{Data, Device, PlanId};
use cifar_engine::graph::{Graph, Source};
use cifar_engine::kernels::simd::Isa;
use cifar_engine::ops::Function;
use cifar_engine::ops::conv::{Conv, Padding};
use cifar_engine::ops::map::unary::Unary;
use cifar_engine::selftest::check::{Values, interpret};
use cifar_engine::tensor::TensorType;
use common::exact;

/// A convolution whose pointwise weights are twice the state `w`.
fn convolution() -> Graph {
    let mut graph = Graph::new();
    let x = graph.input("x", TensorType::f32([2, 5, 6, 8]));
    let shapes: [(&str, &[usize]); 4] =
        [("d", &[3, 3, 1, 8]), ("b", &[8]), ("w", &[1, 1, 8, 20]), ("c", &[20])];
    let [d, b, w, c] = shapes.map(|(name, dims)| graph.state(name, TensorType::f32(dims)).unwrap());
    let twice = graph.add(w, w).unwrap();
    let z = graph.apply1(Conv::new(1, Padding::Same, 8).with_bias(), &[x, d, b]).unwrap();
    let z = graph.apply1(Unary { function: Function::Relu6 }, &[z]).unwrap();
    let y = graph.apply1(Conv::new(1, Padding::Same, 1).with_bias(), &[z, twice, c]).unwrap();
    graph.output("y", y);
    graph
}

/// `w` becomes 2 w.
fn doubling() -> Graph {
    let mut graph = Graph::new();
    let w = graph.state("w", TensorType::f32([1, 1, 8, 20])).unwrap();
    let twice = graph.add(w, w).unwrap();
    graph.update(w, twice).unwrap();
    graph
}

fn numbers(len: usize, seed: usize) -> Vec<f32> {
    (0..len).map(|i| ((i * 37 + seed * 11) % 17) as f32 / 8.0 - 1.0).collect()
}

/// Runs the convolution and compares it with the definition.
fn check(device: &mut dyn Device, plan: PlanId, graph: &Graph, given: &Values, when: &str) {
    device.run(plan).unwrap();
    let expected = interpret(graph, given.clone()).unwrap();
    let found = device.read(plan, "y").unwrap();
    for (found, expected) in found.iter().zip(&expected[&graph.outputs()[0].1]) {
        assert!((f64::from(*found) - expected).abs() < 1e-4, "{when}: {found}, not {expected}");
    }
}

fn constants_follow_the_states(device: &mut dyn Device) {
    let graph = convolution();
    let plan = device.plan(&graph).unwrap();
    assert_eq!(plan.constants, 1);
    let plan = device.load_plan(plan, None).unwrap();
    let double = device.load_plan(Plan::compile(&doubling()).unwrap(), Some(plan)).unwrap();
    let mut given = Values::new();
    for (seed, value) in graph.values().filter(|&v| graph.source(v) != Source::Node).enumerate() {
        let values = numbers(graph.ty(value).len(), seed);
        match graph.source(value) {
            Source::Input => device.write(plan, "x", Data::F32(&values)).unwrap(),
            _ => device.write_state(plan, graph.name(value), Data::F32(&values)).unwrap(),
        }
        given.insert(value, exact(&graph, value, &values));
    }
    check(device, plan, &graph, &given, "first run");
    check(device, plan, &graph, &given, "second run");

    let w = graph.values().find(|&v| graph.name(v) == "w").unwrap();
    let values = numbers(160, 9);
    device.write_state(plan, "w", Data::F32(&values)).unwrap();
    given.insert(w, exact(&graph, w, &values));
    check(device, plan, &graph, &given, "after the host wrote the weights");

    device.run(double).unwrap();
    given.entry(w).and_modify(|w| *w *= 2.0);
    check(device, plan, &graph, &given, "after another plan wrote the weights");
}

#[test]
fn on_the_cpu() {
    for isa in Isa::available() {
        constants_follow_the_states(&mut Cpu::new(2, isa).unwrap());
    }
}

#[test]
fn on_a_gpu() {
    let Some(mut gpu) = common::gpu::open() else { return };
    constants_follow_the_states(&mut gpu);
}
