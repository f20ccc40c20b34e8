//! Mistakes that somebody new to the library makes: each is one clear error, never a wrong number
//! and never a panic.

use cifar_engine::data::{Images, shapes};
use cifar_engine::error::Error;
use cifar_engine::exec::cpu::Cpu;
use cifar_engine::exec::plan::Plan;
use cifar_engine::exec::{Data, Device};
use cifar_engine::grad::differentiate;
use cifar_engine::graph::{Graph, Node, Value};
use cifar_engine::kernels::simd::Isa;
use cifar_engine::models::LoadedModel;
use cifar_engine::models::cnn::CNN;
use cifar_engine::models::fast::FAST;
use cifar_engine::models::pretrained::Attributes;
use cifar_engine::models::{self, Spec, Views};
use cifar_engine::nn::compose::average_pool;
use cifar_engine::ops::conv::{Conv, Padding};
use cifar_engine::ops::cpu_step::{CpuStep, CpuTarget};
use cifar_engine::ops::dispatch::Dispatches;
use cifar_engine::ops::linear::matmul::Matmul;
use cifar_engine::ops::map::binary::{Binary, Function2};
use cifar_engine::ops::map::unary::Unary;
use cifar_engine::ops::movement::join::{Concat, Slice};
use cifar_engine::ops::optim::moving_average::MovingAverage;
use cifar_engine::ops::pool::max_pool::MaxPool;
use cifar_engine::ops::{Function, Gradients, Inferred, Op, Types};
use cifar_engine::tensor::TensorType;
use cifar_engine::train::bare_spec;
use cifar_engine::train::evaluate::{EvalOptions, Evaluator};
use cifar_engine::train::plans;
use cifar_engine::weights;
use ndarray::{ArrayD, ArrayViewD};

const RELU: Unary = Unary { function: Function::Relu };

fn message<T>(outcome: Result<T, Error>) -> String {
    outcome.err().expect("a mistake went unnoticed").to_string()
}

fn cpu() -> Cpu {
    Cpu::new(1, Isa::detect()).unwrap()
}

/// y = relu(x) of six elements.
fn small() -> (Graph, Value, Value) {
    let mut graph = Graph::new();
    let x = graph.input("x", TensorType::f32([2, 3]));
    let y = graph.apply1(RELU, &[x]).unwrap();
    graph.output("y", y);
    (graph, x, y)
}

#[test]
fn integers_are_no_numbers() {
    let mut graph = Graph::new();
    graph.set_layer("here");
    let x = graph.input("x", TensorType::u32([4, 4]));
    let image = graph.input("image", TensorType::u32([1, 4, 4, 4]));
    let w = graph.input("w", TensorType::f32([3, 3, 4, 4]));
    let mut refused = |op: &dyn Fn(&mut Graph) -> Result<Value, Error>| {
        let message = message(op(&mut graph));
        assert!(message.contains("'here'") && message.contains("must be f32"), "{message}");
    };
    refused(&|g| g.add(x, x));
    refused(&|g| g.apply1(RELU, &[x]));
    refused(&|g| g.apply1(Matmul::default(), &[x, x]));
    refused(&|g| g.apply1(Unary { function: Function::Gelu }, &[x]));
    refused(&|g| g.apply1(Binary { function: Function2::Mul }, &[x, x]));
    refused(&|g| g.apply1(Conv::new(1, Padding::Same, 1), &[image, w]));
}

#[test]
fn a_value_of_another_graph_is_told() {
    let (mut graph, x, y) = small();
    let (mut other, foreign, _) = small();
    let told = "of another graph";
    assert!(message(graph.apply1(RELU, &[foreign])).contains(told));
    assert!(message(differentiate(&mut graph, &[(foreign, foreign)], &[x])).contains(told));
    assert!(message(differentiate(&mut graph, &[(y, y)], &[foreign])).contains(told));
    let state = graph.state("s", TensorType::f32([2, 3])).unwrap();
    assert!(message(graph.update(state, foreign)).contains(told));
    assert!(message(other.update(state, foreign)).contains(told));
    graph.output("foreign", foreign);
    assert!(message(Plan::compile(&graph)).contains(told));
    // Also one whose number this graph does not have.
    let (mut larger, mut last, _) = small();
    (0..20).for_each(|_| last = larger.apply1(RELU, &[last]).unwrap());
    let (mut graph, ..) = small();
    graph.output("foreign", last);
    assert!(message(cpu().load(&graph)).contains(told));
    // A clone is no other graph.
    let mut clone = small().0.clone();
    let value = clone.values().next().unwrap();
    clone.apply1(RELU, &[value]).unwrap();
}

#[test]
fn a_plan_of_another_device_is_told() {
    let (graph, ..) = small();
    let (mut first, mut second) = (cpu(), cpu());
    let (plan, _) = (first.load(&graph).unwrap(), second.load(&graph).unwrap());
    let told = "loaded on another device";
    assert!(message(second.run(plan)).contains(told));
    assert!(message(second.read(plan, "y")).contains(told));
    assert!(message(second.write(plan, "x", Data::F32(&[0.0; 6]))).contains(told));
    assert!(message(second.record(plan, &["y"])).contains(told));
    assert!(message(second.read_state(plan, "w")).contains(told));
    assert!(message(second.load_beside(plan, &graph)).contains(told));
    assert!(message(second.unload(plan)).contains(told));
}

#[test]
fn a_plan_that_was_unloaded_is_told() {
    let (graph, ..) = small();
    let mut device = cpu();
    let plan = device.load(&graph).unwrap();
    device.unload(plan).unwrap();
    // Another one does not take its place.
    device.load(&graph).unwrap();
    for told in [message(device.run(plan)), message(device.read(plan, "y")), message(device.unload(plan))] {
        assert_eq!(told, "plan: was unloaded");
    }
}

/// y = x + w, with the state w.
fn shifted() -> Graph {
    let mut graph = Graph::new();
    let x = graph.input("x", TensorType::f32([3]));
    let w = graph.state("w", TensorType::f32([3])).unwrap();
    let y = graph.add(x, w).unwrap();
    graph.output("y", y);
    graph
}

#[test]
fn states_are_a_models_own_and_no_zeros() {
    let mut device = cpu();
    let first = device.load(&shifted()).unwrap();
    device.write_state(first, "w", Data::F32(&[1.0, 2.0, 3.0])).unwrap();
    let [other, beside] = [device.load(&shifted()).unwrap(), device.load_beside(first, &shifted()).unwrap()];
    for plan in [other, beside] {
        device.write(plan, "x", Data::F32(&[10.0; 3])).unwrap();
    }
    let told = message(device.run(other));
    assert!(told.starts_with("w: is a state that nothing was written to"), "{told}");
    device.run(beside).unwrap();
    assert_eq!(device.read(beside, "y").unwrap(), [11.0, 12.0, 13.0]);
    // Nor of another type.
    let mut graph = Graph::new();
    let w = graph.state("w", TensorType::f32([4])).unwrap();
    graph.output("w", w);
    let told = message(device.load_beside(first, &graph));
    assert!(told.contains("w: is f32[3] on the device, not f32[4]"), "{told}");
    let told = message(device.write_state(first, "v", Data::F32(&[1.0])));
    assert!(told.contains("v: is no state of the plan"), "{told}");
}

#[test]
fn shapes_that_do_not_fit_are_told() {
    let mut graph = Graph::new();
    graph.set_layer("here");
    let [a, b] = [[2, 3], [4, 5]].map(|dims| graph.input("x", TensorType::f32(dims)));
    for told in [message(graph.apply1(Matmul::default(), &[a, b])), message(graph.add(a, b))] {
        assert!(told.contains("'here'") && told.contains("f32[2, 3], f32[4, 5]"), "{told}");
    }
    let (graph, ..) = small();
    let mut device = cpu();
    let plan = device.load(&graph).unwrap();
    assert!(message(device.write(plan, "x", Data::F32(&[0.0; 7]))).contains("7 values of F32"));
    assert!(message(device.write(plan, "x", Data::U32(&[0; 6]))).contains("6 values of U32"));
    assert!(message(device.write(plan, "z", Data::U32(&[0; 6]))).contains("z: is no input or output"));
}

#[test]
fn gradients_that_do_not_exist_are_told() {
    let (mut graph, x, y) = small();
    let apart = graph.state("apart", TensorType::f32([2, 3])).unwrap();
    let told = message(differentiate(&mut graph, &[(y, x)], &[apart]));
    assert!(told.contains("apart: does not influence the loss"), "{told}");
    let moved = graph.apply1(MovingAverage { momentum: 0.1, scale: 1.0 }, &[apart, y]).unwrap();
    let told = message(differentiate(&mut graph, &[(moved, x)], &[x]));
    assert!(told.contains("moving_average") && told.contains("has no gradient"), "{told}");
    // Pooling cannot be differentiated twice.
    let image = graph.input("image", TensorType::f32([1, 4, 4, 1]));
    let pooled = graph.apply1(MaxPool::side_by_side(2), &[image]).unwrap();
    let seed = graph.input("seed", TensorType::f32([1, 2, 2, 1]));
    let dx = differentiate(&mut graph, &[(pooled, seed)], &[image]).unwrap()[0];
    let told = message(differentiate(&mut graph, &[(dx, image)], &[seed]));
    assert!(told.contains("max_pool_grad") && told.contains("has no gradient"), "{told}");
}

#[test]
fn what_is_no_state_is_not_updated() {
    let (mut graph, x, y) = small();
    assert!(message(graph.update(x, y)).contains("x: cannot be updated"));
    let state = graph.state("s", TensorType::f32([3])).unwrap();
    assert!(message(graph.update(state, y)).contains("s: cannot be updated from a f32[2, 3]"));
}

#[test]
fn weights_of_another_model_are_told() {
    let path = std::path::Path::new("built-in weights");
    let file = weights::parse(include_bytes!("../weights/fast-cifar10.safetensors"), path).unwrap();
    let parameters = plans::evaluation(&bare_spec(&FAST, 32, 3), "test", 1, 1).unwrap().parameters;
    let told = message(models::values(&file, &parameters, path));
    assert!(told.contains("built-in weights") && told.contains("head.weight"), "{told}");
}

/// Of three classes, and images of 32 pixels.
fn spec() -> Spec {
    bare_spec(&CNN, 32, 3)
}

#[test]
fn a_label_of_no_class_is_told() {
    let mut images = Images::black(4, 32);
    images.labels[2] = 7;
    let told = message(Evaluator::new(&mut cpu(), None, &spec(), "test", &images, 4));
    assert!(told.contains("image 2 has the label 7, but there are 3 classes"), "{told}");
    let mut data = shapes::sized(8, 4, 32, 0).unwrap();
    data.test.labels[3] = 12;
    assert!(message(data.check_labels()).contains("image 3 has the label 12"));
}

#[test]
fn more_images_than_a_predictor_takes_are_told() {
    let trained = LoadedModel::built_in(&Attributes::default(), None).unwrap();
    let mut device = cpu();
    let predictor =
        trained.predictor(&mut device, EvalOptions { batch_size: 1, views: Views::default() }).unwrap();
    for images in [Images::black(2, 32), Images::black(1, 16)] {
        let told = message(predictor.predict(&mut device, &images));
        assert!(told.contains("were given to a predictor of 1 of 32"), "{told}");
    }
    assert_eq!(predictor.predict(&mut device, &Images::black(1, 32)).unwrap().len(), 1);
}

#[test]
fn an_input_that_nobody_wrote_is_no_zero() {
    let (graph, ..) = small();
    let mut device = cpu();
    let plan = device.load(&graph).unwrap();
    let told = message(device.run(plan));
    assert!(told.contains("x: is an input that nothing was written to"), "{told}");
    assert!(message(device.write(plan, "x", Data::F32(&[1.0; 5]))).contains("5 values"));
    assert!(device.run(plan).is_err(), "what was refused was not written");
    device.write(plan, "x", Data::F32(&[1.0; 6])).unwrap();
    device.run(plan).unwrap();
}

#[test]
fn names_that_two_things_have_are_told() {
    let mut graph = Graph::new();
    let [a, b] = [0, 1].map(|_| graph.input("x", TensorType::f32([3])));
    let y = graph.apply1(Binary { function: Function2::Add }, &[a, b]).unwrap();
    graph.output("y", y);
    assert!(message(Plan::compile(&graph)).contains("x: is the name of two inputs"));
    let (mut graph, x, _) = small();
    let z = graph.apply1(Unary { function: Function::Neg }, &[x]).unwrap();
    graph.output("y", z);
    assert!(message(Plan::compile(&graph)).contains("y: is the name of two outputs"));
}

#[test]
fn a_gradient_of_another_shape_is_no_seed() {
    let (mut graph, x, y) = small();
    let one = graph.input("one", TensorType::f32([1]));
    let told = message(differentiate(&mut graph, &[(y, one)], &[x]));
    assert!(told.contains("f32[2, 3]") && told.contains("f32[1]"), "{told}");
}

#[test]
fn an_instruction_set_that_is_not_there_is_told() {
    let missing = if cfg!(target_arch = "x86_64") { Isa::Neon } else { Isa::Avx2 };
    assert!(message(Cpu::new(1, missing)).contains("does not have the instruction set"));
}

#[test]
fn integers_are_not_read_as_numbers() {
    let mut graph = Graph::new();
    let state = graph.state("labels", TensorType::u32([3])).unwrap();
    let copy = graph.apply1(cifar_engine::ops::movement::copy::Copy, &[state]).unwrap();
    graph.update(state, copy).unwrap();
    let mut device = cpu();
    let plan = device.load(&graph).unwrap();
    assert!(message(device.read_state(plan, "labels")).contains("cannot be read as F32"));
}

#[test]
fn operands_that_do_not_fit_are_named() {
    let mut graph = Graph::new();
    let x = graph.input("x", TensorType::f32([2, 3]));
    for dims in [vec![2], vec![3, 2], vec![2, 1]] {
        let y = graph.input("y", TensorType::f32(&dims[..]));
        let told = message(graph.apply1(Binary { function: Function2::Sub }, &[x, y]));
        assert!(told.contains("f32[2, 3]") && told.contains("must have one shape"), "{told}");
    }
    assert_eq!(Binary { function: Function2::Sub }.name(), "sub");
}

#[test]
fn an_input_that_is_handed_on_is_none_that_nobody_reads() {
    let mut graph = Graph::new();
    let x = graph.input("x", TensorType::f32([2]));
    graph.output("y", x);
    let mut device = cpu();
    let plan = device.load(&graph).unwrap();
    assert!(message(device.run(plan)).contains("x: is an input that nothing was written to"));
    device.write(plan, "x", Data::F32(&[1.0, 2.0])).unwrap();
    device.run(plan).unwrap();
    assert_eq!(device.read(plan, "y").unwrap(), [1.0, 2.0]);
}

#[test]
fn a_plan_without_steps_that_does_not_fit_is_told() {
    let mut graph = Graph::new();
    let state = graph.state("w", TensorType::f32([1 << 39])).unwrap();
    graph.output("y", state);
    let told = message(cpu().load(&graph));
    assert!(told.contains("plan: is a plan that needs") && told.contains("more than is free"), "{told}");
}

#[test]
fn windows_outside_of_an_image_are_told() {
    let mut graph = Graph::new();
    let x = graph.input("x", TensorType::f32([1, 4, 4, 2]));
    for padding in [2, 100, usize::MAX] {
        let told = message(average_pool(&mut graph, x, 2, 1, Padding::Symmetric(padding)));
        assert!(told.contains("is not below a kernel of 2"), "{told}");
    }
    for stride in [5, 524_288, usize::MAX] {
        let told = message(average_pool(&mut graph, x, 2, stride, Padding::Same));
        assert!(told.contains("larger than 4, kernel and size"), "{told}");
    }
}

#[test]
fn tensors_without_elements_are_told() {
    let mut graph = Graph::new();
    graph.set_layer("branch");
    let x = graph.input("x", TensorType::f32([2, 0, 3]));
    for outcome in [
        graph.apply1(Concat { axis: 0 }, &[x, x]),
        graph.apply1(Slice { axis: 0, range: 0..1 }, &[x]),
        graph.apply1(RELU, &[x]),
    ] {
        let told = message(outcome);
        assert!(told.contains("'branch'") && told.contains("f32[2, 0, 3] has no elements"), "{told}");
    }
    assert!(message(graph.state("w", TensorType::f32([0]))).contains("w: f32[0] has no elements"));
}

#[test]
fn sizes_that_would_wrap_are_refused_and_the_layer_is_named() {
    let mut graph = Graph::new();
    graph.set_layer("stem");
    let huge = 5_000_000_000;
    for dims in [vec![1, huge, huge, 3], vec![huge, huge, huge], vec![0, huge, huge], vec![1 << 40, 2]] {
        let x = graph.input("x", TensorType::f32(&dims[..]));
        let error = graph.add(x, x).unwrap_err().to_string();
        assert!(error.contains("'stem'") && error.contains("too large"), "{error}");
        let error = graph.state("w", TensorType::f32(&dims[..])).unwrap_err().to_string();
        assert!(error.starts_with("w: ") && error.contains("too large"), "{error}");
    }
    // Harmless inputs, an absurd output.
    let x = graph.input("x", TensorType::f32([huge, 1]));
    let w = graph.state("v", TensorType::f32([1, huge])).unwrap();
    let error = graph.apply(Matmul::default(), &[x, w]).unwrap_err().to_string();
    assert!(error.contains("'stem'") && error.contains("too large"), "{error}");
    let x = graph.input("x", TensorType::f32([1 << 40]));
    graph.add(x, x).unwrap();
}

#[test]
fn layers_refuse_what_they_cannot_take() {
    use cifar_engine::nn::{Builder, Mode, Norm};
    use cifar_engine::weights::Layout;

    let mut large = Graph::new();
    let mut foreign = large.input("a", TensorType::f32([1, 4, 4, 3]));
    for i in 0..9 {
        foreign = large.input(&format!("b{i}"), TensorType::f32([1, 4, 4, 3]));
    }
    let mut graph = Graph::new();
    let x = graph.input("x", TensorType::f32([1, 4, 4, 3]));
    let (scalar, empty) = (graph.input("s", TensorType::f32([])), graph.input("e", TensorType::f32([0, 3])));
    let mut b = Builder::new(&mut graph, Mode::Infer, Norm::default());
    let message = |result: cifar_engine::error::Result<Value>| result.unwrap_err().to_string();
    let another = "is a value of another graph";
    assert!(message(b.conv2d("c", foreign, 2, 3, 1, Padding::Same)).contains(another));
    assert!(message(b.dense("d", foreign, 2, Layout::Dense)).contains(another));
    assert!(message(b.batch_norm("n", foreign)).contains(another));
    assert!(message(b.flatten("f", foreign)).contains(another));
    assert!(message(b.flatten("s", scalar)).contains("takes no f32[]"));
    assert!(message(b.flatten("e", empty)).contains("takes no f32[0, 3]"));
    b.relu("twice", x).unwrap();
    assert_eq!(message(b.relu("twice", x)), "twice: is the name of two layers of the model");
}

#[test]
fn a_name_is_an_input_or_a_state() {
    let mut graph = Graph::new();
    let w = graph.state("w", TensorType::f32([2])).unwrap();
    let x = graph.input("w", TensorType::f32([2]));
    let y = graph.add(w, x).unwrap();
    graph.output("y", y);
    let message = Plan::compile(&graph).unwrap_err().to_string();
    assert_eq!(message, "w: is the name of an input and of a state of the graph");
}

/// y = all inputs and outputs that a CPU's steps have no room for; its gradient rule says nothing
/// of its second input.
#[derive(Clone, Debug)]
struct Wide {
    outputs: usize,
}

impl Op for Wide {
    fn name(&self) -> &'static str {
        "wide"
    }

    fn output_types(&self, inputs: &[&TensorType]) -> Inferred {
        Ok(vec![inputs[0].clone(); self.outputs])
    }

    fn gradient(&self, _: &mut Graph, _: &Node, grads: &[Option<Value>], _: &[bool]) -> Gradients {
        Ok(vec![grads[0]])
    }

    fn cpu(&self, _: &Types, _: CpuTarget) -> CpuStep {
        CpuStep::new(|_| ())
    }

    fn gpu(&self, _: &Types) -> Dispatches {
        unreachable!("no GPU is asked")
    }

    fn reference(&self, inputs: &[ArrayViewD<f64>]) -> Vec<ArrayD<f64>> {
        vec![inputs[0].to_owned(); self.outputs]
    }
}

#[test]
fn an_op_with_too_many_outputs_or_too_few_gradients_is_told() {
    let mut graph = Graph::new();
    let x = graph.input("x", TensorType::f32([1]));
    graph.apply(Wide { outputs: 1 }, &[x; 13]).unwrap();
    let problem = message(graph.apply(Wide { outputs: 5 }, &[x]));
    assert!(problem.starts_with("wide: has more than 4 outputs"), "{problem}");
    graph.set_layer("here");
    let y = graph.apply1(Wide { outputs: 1 }, &[x, x]).unwrap();
    let problem = message(differentiate(&mut graph, &[(y, x)], &[x]));
    assert_eq!(problem, "wide 'here': has 2 inputs, but its gradient rule gives 1 gradients");
}

#[test]
fn a_value_without_a_name_is_told_by_its_op_and_layer() {
    let (mut graph, x, y) = small();
    graph.set_layer("aside");
    let aside = graph.apply1(RELU, &[x]).unwrap();
    let problem = message(differentiate(&mut graph, &[(y, x)], &[aside]));
    assert_eq!(problem, "relu 'aside': does not influence the loss, so it has no gradient");
}

#[test]
fn an_output_of_another_graph_is_printed_as_such_and_told() {
    let (mut graph, ..) = small();
    let (_, _, foreign) = small();
    graph.output("foreign", foreign);
    assert!(graph.to_string().contains("output foreign = a value of another graph"), "{graph}");
    assert!(message(Plan::compile(&graph)).contains("is a value of another graph"));
    graph.remove_dead_nodes();
    assert_eq!(graph.nodes().len(), 1);
    let absurd = graph.input("absurd", TensorType::f32([usize::MAX, usize::MAX]));
    let mut other = Graph::new();
    let x = other.input("absurd", TensorType::f32([usize::MAX, usize::MAX]));
    other.output("y", x);
    assert!(message(cpu().plan(&other)).contains("absurd"), "{absurd:?}");
    let problem = message(average_pool(&mut graph, foreign, 2, 2, Padding::Same));
    assert!(problem.contains("another graph"), "{problem}");
}

#[test]
fn a_part_of_the_images_has_every_class() {
    for most in [10, 30, 999, 1000] {
        let part = shapes::sized(2000, 10, 16, 0).unwrap().train.part(most);
        let counts = part.counts(10);
        let (least, largest) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
        assert!(part.len() == most && largest - least <= 1, "{most}: {counts:?}");
    }
}
