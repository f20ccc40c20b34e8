//! The planner and fusion: random graphs against a symbolic execution and the f64 interpreter, and
//! what the CNN's plans must look like.

#[path = "../common/mod.rs"]
mod common;

mod cnn;
mod random;
mod symbolic;

use cifar_engine::exec::cpu::Cpu;
use cifar_engine::exec::cpu::rules::RULES;
use cifar_engine::exec::plan::{IoBinding, Location, Plan, Step};
use cifar_engine::exec::{Data, Device};
use cifar_engine::graph::rewrite::rewrite;
use cifar_engine::graph::{Graph, Node, Source, Value};
use cifar_engine::kernels::simd::Isa;
use cifar_engine::ops::conv::{Conv, Padding};
use cifar_engine::ops::linear::sum_rows::SumRows;
use cifar_engine::ops::map::unary::Unary;
use cifar_engine::ops::movement::copy::Copy;
use cifar_engine::ops::movement::reshape::Reshape;
use cifar_engine::ops::norm::batch_norm::BatchNorm;
use cifar_engine::ops::norm::batch_norm_grad::BatchNormGrad;
use cifar_engine::ops::optim::moving_average::MovingAverage;
use cifar_engine::ops::{Alias, Function, Types};
use cifar_engine::selftest::check::{Values, interpret};
use cifar_engine::tensor::TensorType;
use common::exact;
use ndarray::ArrayD;
use proptest::prelude::*;

/// Small whole numbers, different in every element and value.
fn start_values(graph: &Graph) -> Values {
    let given = graph.values().filter(|&v| graph.source(v) != Source::Node).enumerate();
    let number = |value: usize, i: usize| ((i * 5 + value * 3 + i * value) % 7) as f32 - 3.0;
    let numbers = |at: usize, v| (0..graph.ty(v).len()).map(|i| number(at, i)).collect::<Vec<f32>>();
    given.map(|(at, v)| (v, exact(graph, v, &numbers(at, v)))).collect()
}

/// Runs a graph's plan on the CPU and its nodes in f64, twice in a row, so that the second run sees
/// the updated states, and compares every output and state. All values are whole numbers that f32
/// holds exactly, so nothing less than equality will do.
fn check_numbers(graph: &Graph, plan: &Plan) -> Result<(), String> {
    let single = |values: &ArrayD<f64>| -> Vec<f32> { values.iter().map(|&v| v as f32).collect() };
    let mut cpu = Cpu::new(2, Isa::detect()).unwrap();
    let id = cpu.load_plan(plan.clone(), None).unwrap();
    let mut given = start_values(graph);
    for (&value, values) in &given {
        let values = single(values);
        match graph.source(value) {
            Source::Input => cpu.write(id, graph.name(value), Data::F32(&values)).unwrap(),
            _ => cpu.write_state(id, graph.name(value), Data::F32(&values)).unwrap(),
        }
    }
    for run in 0..2 {
        // Inputs are written once: a run must leave them alone.
        cpu.run(id).unwrap();
        let values = interpret(graph, given.clone()).unwrap();
        for (name, value) in graph.outputs() {
            if cpu.read(id, name).unwrap() != single(&values[value]) {
                return Err(format!("run {run}: output {name} differs"));
            }
        }
        for (state, value) in graph.updates() {
            given.insert(*state, values[value].clone());
        }
        for (&value, values) in given.iter().filter(|(v, _)| graph.source(**v) == Source::State) {
            if cpu.read_state(id, graph.name(value)).unwrap() != single(values) {
                return Err(format!("run {run}: state {} differs", graph.name(value)));
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_two_live_values_overlap(recipe in random::recipe()) {
        let graph = random::build(&recipe);
        let plan = Plan::compile(&graph).unwrap();
        let context = |problem: String| TestCaseError::fail(format!("{problem}\n{graph}\n{plan}"));
        symbolic::check(&graph, &plan).map_err(context)?;
        check_numbers(&graph, &plan).map_err(context)?;
    }
}

/// The generator reaches what the planner must get right; a proof over trivial graphs proves
/// nothing.
#[test]
fn random_graphs_are_not_trivial() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let (mut copies, mut in_place, mut shared, mut views, mut dead, mut constant) = (0, 0, 0, 0, 0, 0);
    for _ in 0..300 {
        let graph = random::build(&random::recipe().new_tree(&mut runner).unwrap().current());
        let plan = Plan::compile(&graph).unwrap();
        let mut live = graph.clone();
        live.remove_dead_nodes();
        let is_view = |v: &Value| {
            graph.nodes().iter().any(|n| n.outputs.contains(v) && matches!(n.op.alias(), Alias::View(_)))
        };
        let count = |name: &str| plan.steps.iter().filter(|step| step.op.name() == name).count();
        let written_slots =
            plan.steps.iter().flat_map(|s| &s.outputs).filter(|p| matches!(p, Location::Slot(_)));
        copies += usize::from(count("copy") > 0);
        in_place += usize::from(plan.steps.iter().any(|s| s.op.alias().overwritten().count() > 0));
        shared += usize::from(written_slots.count() > plan.slots.len());
        views += usize::from(graph.outputs().iter().any(|(_, v)| is_view(v)));
        constant += usize::from(plan.constants > 0);
        dead += usize::from(live.nodes().len() < graph.nodes().len());
    }
    let reached = [copies, in_place, shared, views, dead, constant];
    assert!(reached.iter().all(|&graphs| graphs > 30), "{reached:?} of 300");
}

fn relu(graph: &mut Graph, x: Value) -> Value {
    graph.apply1(Unary { function: Function::Relu }, &[x]).unwrap()
}

/// A value that was in a state before the run, and is read after it, moves out of the state's way.
#[test]
fn old_values_of_states_survive_their_update() {
    let ty = || TensorType::f32([2, 3]);
    let mut graph = Graph::new();
    let (a, b) = (graph.state("a", ty()).unwrap(), graph.state("b", ty()).unwrap());
    let view = |graph: &mut Graph, x| graph.apply1(Reshape { shape: [2, 3].into() }, &[x]).unwrap();
    let (old_a, old_b) = (view(&mut graph, a), view(&mut graph, b));
    // The two states change places, and the host reads one as it was.
    graph.update(a, old_b).unwrap();
    graph.update(b, old_a).unwrap();
    graph.output("old a", old_a);
    let plan = Plan::compile(&graph).unwrap();
    symbolic::check(&graph, &plan).unwrap();
    check_numbers(&graph, &plan).unwrap();
}

#[test]
fn an_update_in_place_costs_no_copy_unless_the_old_value_is_read_later() {
    let ops = |late: bool| -> Vec<&str> {
        let ty = || TensorType::f32([4]);
        let mut graph = Graph::new();
        let average = graph.state("average", ty()).unwrap();
        let x = graph.input("x", ty());
        let new = graph.apply1(MovingAverage { momentum: 0.5, scale: 1.0 }, &[average, x]).unwrap();
        graph.update(average, new).unwrap();
        if late {
            let sum = graph.apply1(SumRows, &[average]).unwrap();
            graph.output("sum", sum);
        }
        Plan::compile(&graph).unwrap().steps.iter().map(|step| step.op.name()).collect()
    };
    assert_eq!(ops(false), ["moving_average"]);
    assert_eq!(ops(true), ["copy", "moving_average", "sum_rows", "copy"]);
}

#[test]
fn dead_nodes_vanish() {
    let mut graph = Graph::new();
    let x = graph.input("x", TensorType::f32([3, 4]));
    let y = relu(&mut graph, x);
    let unused = graph.add(y, x).unwrap();
    graph.apply1(SumRows, &[unused]).unwrap();
    graph.output("y", y);
    let plan = Plan::compile(&graph).unwrap();
    let names: Vec<&str> = plan.steps.iter().map(|step| step.op.name()).collect();
    assert_eq!(names, ["copy", "relu"], "the input may not be overwritten, the rest is dead");
    assert_eq!(plan.slots.len(), 2);
}

/// The sum of the gradient that a normalisation passes on is zero only with the moments of what was
/// normalised.
#[test]
fn a_sum_is_left_out_only_where_it_is_zero() {
    let ops = |own_moments: bool| -> Vec<&str> {
        let mut graph = Graph::new();
        let [x, other, dy] = ["x", "other", "dy"].map(|name| graph.input(name, TensorType::f32([6, 4])));
        let [gamma, beta] = ["gamma", "beta"].map(|name| graph.input(name, TensorType::f32([4])));
        let activation = None;
        let of = if own_moments { x } else { other };
        let moments = graph.apply(BatchNorm { epsilon: 1e-3, activation }, &[of, gamma, beta]).unwrap();
        let inputs = [dy, x, gamma, beta, moments[1], moments[2]];
        let gradients = graph.apply(BatchNormGrad { epsilon: 1e-3, activation }, &inputs).unwrap();
        let sum = graph.apply1(SumRows, &[gradients[0]]).unwrap();
        graph.output("sum", sum);
        rewrite(&mut graph, RULES).unwrap();
        Plan::compile(&graph).unwrap().steps.iter().map(|step| step.op.name()).collect()
    };
    assert_eq!(ops(true), ["constant"]);
    assert_eq!(ops(false), ["moments", "batch_norm_grad", "sum_rows"]);
}

/// The CPU may take each of two images through a plan by itself, but not half of the weights with
/// it, even if they are computed there and have two rows.
#[test]
fn weights_with_as_many_rows_as_there_are_images_are_not_shared_out() {
    let mut graph = Graph::new();
    let x = graph.input("x", TensorType::f32([2, 4, 4, 3]));
    let w = graph.input("w", TensorType::f32([2, 1, 3, 4]));
    let twice = graph.add(w, w).unwrap();
    let conv = Conv::new(1, Padding::Symmetric(0), 1);
    let y = graph.apply1(conv, &[x, twice]).unwrap();
    let y = relu(&mut graph, y);
    graph.output("y", y);
    check_numbers(&graph, &Plan::compile(&graph).unwrap()).unwrap();
}

/// An op that works in place on the first of two operands.
const MIX: MovingAverage = MovingAverage { momentum: 0.5, scale: 3.0 };

/// `double = 2 x`, `y = relu of a copy of x` and `sum = (double + 3 y) / 2`, as a plan whose slots
/// the caller chooses.
fn by_hand(doubled: usize, copied: usize) -> (Graph, Plan) {
    // A single image, so to speak: of several, the CPU would compute each in memory of its own.
    let ty = TensorType::f32([1, 6]);
    let mut graph = Graph::new();
    let x = graph.input("x", ty.clone());
    let first = graph.apply1(Copy, &[x]).unwrap();
    let double = graph.apply1(MIX, &[first, x]).unwrap();
    let second = graph.apply1(Copy, &[x]).unwrap();
    let y = relu(&mut graph, second);
    let sum = graph.apply1(MIX, &[double, y]).unwrap();
    graph.output("sum", sum);
    let slot = Location::Slot;
    let operands: [(&[Location], Location); 5] = [
        (&[slot(0)], slot(doubled)),
        (&[slot(doubled), slot(0)], slot(doubled)),
        (&[slot(0)], slot(copied)),
        (&[slot(copied)], slot(copied)),
        (&[slot(doubled), slot(copied)], slot(doubled)),
    ];
    let step = |((inputs, output), node): ((&[Location], Location), &Node)| Step {
        op: node.op.clone(),
        types: Types { inputs: vec![ty.clone(); inputs.len()], outputs: vec![ty.clone()] },
        inputs: inputs.to_vec(),
        outputs: vec![output],
        layer: String::new(),
    };
    let binding = |name: &str, location| IoBinding { name: name.into(), ty: ty.clone(), location };
    let plan = Plan {
        steps: operands.into_iter().zip(graph.nodes()).map(step).collect(),
        constants: 0,
        slots: vec![6; 3],
        states: Vec::new(),
        inputs: vec![binding("x", slot(0))],
        outputs: vec![binding("sum", slot(doubled))],
    };
    (graph, plan)
}

#[test]
fn the_checkers_notice_planted_bugs() {
    let (graph, right) = by_hand(1, 2);
    symbolic::check(&graph, &right).unwrap();
    check_numbers(&graph, &right).unwrap();

    // Two values that live at the same time, in one slot.
    let (_, shared) = by_hand(1, 1);
    assert!(symbolic::check(&graph, &shared).is_err());
    let broken = |plant: &dyn Fn(&mut Plan)| {
        let mut plan = right.clone();
        plant(&mut plan);
        symbolic::check(&graph, &plan).unwrap_err()
    };
    // Another value lands on the doubled one before the sum reads it.
    assert!(broken(&|plan| plan.steps.insert(4, plan.steps[0].clone())).contains("output sum"));
    // A step that depends on an input is taken for a constant one.
    assert!(broken(&|plan| plan.constants = 1).contains("output sum"));
    // ReLU in the input's slot: right once, wrong when the input is not written again.
    let over_input = |plan: &mut Plan| {
        plan.steps.remove(2);
        (plan.steps[2].inputs[0], plan.steps[2].outputs[0]) = (Location::Slot(0), Location::Slot(0));
        plan.steps[3].inputs[1] = Location::Slot(0);
    };
    assert!(broken(&over_input).contains("input x"));
    let mut plan = right.clone();
    over_input(&mut plan);
    assert!(check_numbers(&graph, &plan).unwrap_err().contains("run 1"));
    assert!(broken(&|plan| plan.steps.swap(2, 3)).contains("wrote nothing"));
    assert!(broken(&|plan| plan.slots[1] = 5).contains("too small"));
    assert!(broken(&|plan| plan.outputs[0].location = Location::Slot(2)).contains("output sum"));
    assert!(broken(&|plan| plan.steps[1].outputs[0] = Location::Slot(2)).contains("in place"));
    assert!(broken(&|plan| plan.steps[4].inputs[1] = Location::Slot(1)).contains("overwrites"));
}
