//! Updates of many states by one launch: how many launches are left, and that no bit changes.

use cifar_engine::exec::cpu::Cpu;
use cifar_engine::exec::plan::Plan;
use cifar_engine::exec::{Device, PlanId};
use cifar_engine::graph::{Graph, Value};
use cifar_engine::kernels::simd::Isa;
use cifar_engine::ops::optim::adam::{Adam, EpsilonForm};
use cifar_engine::ops::optim::moving_average::MovingAverage;
use cifar_engine::ops::optim::sgd::Sgd;
use cifar_engine::tensor::TensorType;
use cifar_engine::train::optimizers::OPTIMIZERS;
use cifar_engine::train::updates::clip;

use super::Training;
use super::common::gpu;
use super::training::load;

/// Lengths of the states: less than a vector, a block and a little more, and much more.
const LENGTHS: [usize; 6] = [1, 3, 256, 2000, 300, 300];

fn named(kind: &str, i: usize) -> String {
    format!("{kind}{i}")
}

fn state(graph: &mut Graph, kind: &str, i: usize) -> Value {
    graph.state(&named(kind, i), TensorType::f32([LENGTHS[i]])).unwrap()
}

/// Steps of two optimizers and an average of the first one's parameters, each with numbers of its
/// own.
fn updates() -> Graph {
    let mut graph = Graph::new();
    let rate = graph.input("rate", TensorType::f32([1]));
    let number = graph.input("step", TensorType::u32([1]));
    for (i, length) in LENGTHS.into_iter().enumerate() {
        let x = graph.input(&named("x", i), TensorType::f32([length]));
        let decay = 0.01 * i as f32;
        let [p, b, average] = ["p", "b", "average"].map(|kind| state(&mut graph, kind, i));
        let gradient = graph.mul(x, p).unwrap();
        let op = Sgd { momentum: 0.9, nesterov: true, decay };
        let new = graph.apply(op, &[p, b, gradient, rate]).unwrap();
        let op = MovingAverage { momentum: 0.25, scale: 1.0 + i as f32 };
        let averaged = graph.apply1(op, &[average, new[0]]).unwrap();
        let [q, m, v] = ["q", "m", "v"].map(|kind| state(&mut graph, kind, i));
        let gradient = graph.add(x, q).unwrap();
        let (beta1, beta2, epsilon) = (0.9, 0.999, 1e-8);
        let op = Adam { beta1, beta2, epsilon, epsilon_form: EpsilonForm::Torch, decay };
        let moved = graph.apply(op, &[q, m, v, gradient, rate, number]).unwrap();
        let news = [new[0], new[1], averaged, moved[0], moved[1], moved[2]];
        for (state, new) in [p, b, average, q, m, v].into_iter().zip(news) {
            graph.update(state, new).unwrap();
        }
    }
    graph
}

const KINDS: [&str; 6] = ["p", "b", "average", "q", "m", "v"];

/// A plan that has the states one by one, and changes none.
fn reader() -> Graph {
    let mut graph = Graph::new();
    for i in 0..LENGTHS.len() {
        for kind in KINDS {
            let value = state(&mut graph, kind, i);
            let copy = graph.scale(value, 2.0).unwrap();
            graph.output(&named(kind, i), copy);
        }
    }
    graph
}

/// All states after three steps.
fn three_steps(device: &mut dyn Device, plan: PlanId) -> Vec<Vec<f32>> {
    let numbers = |seed: usize, length: usize| -> Vec<f32> {
        (0..length).map(|i| ((i * 31 + seed * 17) % 23) as f32 / 23.0 - 0.4).collect()
    };
    for (i, length) in LENGTHS.into_iter().enumerate() {
        device.write(plan, &named("x", i), numbers(i, length).as_slice().into()).unwrap();
        for (k, kind) in KINDS.into_iter().enumerate() {
            let values: Vec<f32> = numbers(i + 7 * k, length).into_iter().map(f32::abs).collect();
            device.write_state(plan, &named(kind, i), values.as_slice().into()).unwrap();
        }
    }
    device.write(plan, "rate", [0.1f32].as_slice().into()).unwrap();
    for step in 0..3u32 {
        device.write(plan, "step", [step].as_slice().into()).unwrap();
        device.run(plan).unwrap();
    }
    let names = KINDS.into_iter().flat_map(|kind| (0..LENGTHS.len()).map(move |i| named(kind, i)));
    names.map(|name| device.read_state(plan, &name).unwrap()).collect()
}

#[test]
fn states_side_by_side_are_updated_by_one_launch_to_the_same_bits() {
    let Some(mut gpu) = gpu::open() else { return };
    let graph = updates();
    let joined = gpu.load(&graph).unwrap();
    // The gradients, and one launch of each kind.
    assert_eq!(gpu.launches(joined).unwrap(), Some(2 * LENGTHS.len() + 3));
    let apart = gpu.load(&reader()).unwrap();
    let apart = gpu.load_beside(apart, &graph).unwrap();
    assert_eq!(gpu.launches(apart).unwrap(), Some(5 * LENGTHS.len()));
    let found = three_steps(&mut gpu, joined);
    let bits = |values: &[Vec<f32>]| values.concat().into_iter().map(f32::to_bits).collect::<Vec<u32>>();
    assert_eq!(bits(&found), bits(&three_steps(&mut gpu, apart)));
    let mut cpu = Cpu::new(1, Isa::detect()).unwrap();
    let plan = cpu.load(&graph).unwrap();
    let expected = three_steps(&mut cpu, plan);
    let far = |(a, b): (&f32, &f32)| (a - b).abs() > 1e-5 * b.abs().max(1.0);
    assert!(!found.concat().iter().zip(&expected.concat()).any(far), "{found:?} {expected:?}");
}

/// The launches of a plan, were each step's its own.
pub fn separate(plan: &Plan) -> usize {
    plan.steps[plan.constants..].iter().map(|step| step.op.gpu(&step.types).list.len()).sum()
}

#[test]
fn a_training_step_has_one_launch_for_all_updates_of_a_kind() {
    let Some(mut gpu) = gpu::open() else { return };
    for optimizer in OPTIMIZERS {
        let training = Training::new(optimizer, 16);
        let plan = gpu.plan(&training.program().graph).unwrap();
        let count = |op: &str| plan.steps.iter().filter(|step| step.op.name() == op).count();
        let kinds = ["sgd", "adam", "moving_average"].map(count);
        let spared: usize = kinds.iter().map(|count| count.saturating_sub(1)).sum();
        let id = load(&mut gpu, &training);
        let launches = gpu.launches(id).unwrap().unwrap();
        println!("{optimizer}: {launches} launches, {} without", separate(&plan));
        // Half of Lion's averages are no updates, and the others have weights of their own.
        let trained = training.program().parameters.iter().filter(|p| p.trainable()).count();
        let others = if optimizer.name == "lion" { trained + 1 } else { 0 };
        assert_eq!(launches, separate(&plan) - spared + others, "{optimizer}");
        gpu.unload(id).unwrap();
    }
}

/// A step of plain descent with gradients that are clipped together.
fn clipped(limit: f32) -> Graph {
    let mut graph = Graph::new();
    let rate = graph.input("rate", TensorType::f32([1]));
    let gradient = |i: usize| {
        let x = graph.input(&named("x", i), TensorType::f32([LENGTHS[i]]));
        graph.mul(x, x).unwrap()
    };
    let gradients: Vec<Value> = (0..LENGTHS.len()).map(gradient).collect();
    for (i, gradient) in clip(&mut graph, &gradients, limit).unwrap().into_iter().enumerate() {
        let [p, b] = ["p", "b"].map(|kind| state(&mut graph, kind, i));
        let op = Sgd { momentum: 0.0, nesterov: false, decay: 0.0 };
        let new = graph.apply(op, &[p, b, gradient, rate]).unwrap();
        graph.update(p, new[0]).unwrap();
        graph.update(b, new[1]).unwrap();
    }
    graph
}

/// The norms of gradients that lie side by side, by what one step at a rate of 1 takes from zeros.
#[test]
fn gradients_are_clipped_by_three_launches() {
    let Some(mut gpu) = gpu::open() else { return };
    let value = |i: usize, k: usize| ((i * 31 + k * 17) % 23) as f32 / 23.0 - 0.4;
    let squares: Vec<Vec<f32>> =
        (0..LENGTHS.len()).map(|i| (0..LENGTHS[i]).map(|k| value(i, k) * value(i, k)).collect()).collect();
    let norm = squares.concat().iter().map(|g| f64::from(g * g)).sum::<f64>().sqrt();
    for limit in [0.5, 1e3f32] {
        let plan = gpu.load(&clipped(limit)).unwrap();
        assert_eq!(gpu.launches(plan).unwrap(), Some(LENGTHS.len() + 3 + 1), "limit {limit}");
        for (i, length) in LENGTHS.into_iter().enumerate() {
            let values: Vec<f32> = (0..length).map(|k| value(i, k)).collect();
            gpu.write(plan, &named("x", i), values.as_slice().into()).unwrap();
        }
        gpu.write(plan, "rate", [1.0f32].as_slice().into()).unwrap();
        gpu.run(plan).unwrap();
        let factor = (f64::from(limit) / norm).min(1.0);
        for (i, squares) in squares.iter().enumerate() {
            let moved = gpu.read_state(plan, &named("p", i)).unwrap();
            let far = |(p, g): (&f32, &f32)| (f64::from(*p) + factor * f64::from(*g)).abs() > 1e-6;
            assert!(!moved.iter().zip(squares).any(far), "limit {limit}: {moved:?}");
        }
        gpu.unload(plan).unwrap();
    }
}

/// A plan whose one step reads a state of a training and writes another one: where the training
/// was loaded first, these lie in one buffer.
#[test]
fn a_step_between_states_that_lie_side_by_side_is_refused() {
    let Some(mut gpu) = gpu::open() else { return };
    let mut between = Graph::new();
    let [from, to] = [4, 5].map(|i| state(&mut between, "p", i));
    let op = MovingAverage { momentum: 0.5, scale: 1.0 };
    let moved = between.apply1(op, &[to, from]).unwrap();
    between.update(to, moved).unwrap();
    let training = gpu.load(&updates()).unwrap();
    let error = gpu.load_beside(training, &between).unwrap_err().to_string();
    assert!(error.contains("moving_average") && error.contains("side by side"), "{error}");
    let first = gpu.load(&between).unwrap();
    let training = gpu.load_beside(first, &updates()).unwrap();
    three_steps(&mut gpu, training);
    gpu.run(first).unwrap();
}
