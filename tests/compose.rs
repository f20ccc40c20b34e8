//! Layers composed of elementwise functions, reductions and products: they have gradients by
//! themselves, and give what PyTorch's own layers give: `tools/compose_goldens.py` writes the file.

mod common;

use std::path::Path;

use cifar_engine::error::{Error, Result};
use cifar_engine::exec::cpu::Cpu;
use cifar_engine::exec::{Data, Device};
use cifar_engine::grad::differentiate;
use cifar_engine::graph::{Graph, Value};
use cifar_engine::kernels::function::{Function, Of};
use cifar_engine::kernels::simd::Isa;
use cifar_engine::nn::compose::{average_pool, grouped_conv2d};
use cifar_engine::ops::conv::{Conv, Padding};
use cifar_engine::ops::linear::matmul::Matmul;
use cifar_engine::ops::map::binary::centred;
use cifar_engine::ops::map::expand::Expand;
use cifar_engine::ops::map::reduce::{Reduce, ReduceKind};
use cifar_engine::ops::movement::join::{Concat, Slice};
use cifar_engine::ops::reference::array;
use cifar_engine::selftest::check::{Values, interpret};
use cifar_engine::tensor::TensorType;
use cifar_engine::weights::{self, WeightsFile};
use common::gpu;
use ndarray::{Array2, ArrayD, indices};

/// `gamma (x - mean) / sqrt(variance + epsilon) + beta` over the last axis (Ba, Kiros and Hinton
/// 2016).
fn layer_norm(graph: &mut Graph, x: Value, gamma: Value, beta: Value, epsilon: Value) -> Result<Value> {
    let shape = graph.ty(x).shape.clone();
    let last = shape.dims().len() - 1..shape.dims().len();
    let (_, away) = centred(graph, x, last.clone())?;
    let squares = graph.map(Function::Square, away)?;
    let variance = graph.apply1(Reduce::new(ReduceKind::Mean, last.clone()), &[squares])?;
    let variance = graph.add(variance, epsilon)?;
    let inverse = graph.map(Function::Rsqrt, variance)?;
    let inverse = graph.apply1(Expand { shape, axes: last }, &[inverse])?;
    let normal = graph.mul(away, inverse)?;
    let scaled = graph.mul(normal, gamma)?;
    graph.add(scaled, beta)
}

/// A probability for each element of a row.
fn softmax(graph: &mut Graph, x: Value) -> Result<Value> {
    let shape = graph.ty(x).shape.clone();
    let last = shape.dims().len() - 1..shape.dims().len();
    let expand = Expand { shape, axes: last.clone() };
    let largest = graph.apply1(Reduce::new(ReduceKind::Max, last.clone()), &[x])?;
    let largest = graph.apply1(expand.clone(), &[largest])?;
    let below = graph.sub(x, largest)?;
    let powers = graph.map(Function::Exp, below)?;
    let total = graph.sum(powers, last)?;
    let total = graph.apply1(expand, &[total])?;
    graph.div(powers, total)
}

/// One head of scaled dot-product attention (Vaswani et al. 2017) of a sequence `[T, D]` to itself.
fn attention(graph: &mut Graph, x: Value, weights: [Value; 3]) -> Result<Value> {
    let depth = graph.dims(weights[0])[1] as f32;
    let [q, k, v] = weights.map(|w| graph.matmul(x, w));
    let (q, k, v) = (q?, k?, v?);
    let scores = graph.apply1(Matmul { b_transposed: true, ..Matmul::default() }, &[q, k])?;
    let scores = graph.scale(scores, 1.0 / depth.sqrt())?;
    let shares = softmax(graph, scores)?;
    graph.matmul(shares, v)
}

/// Squeeze and excitation (Hu et al. 2018): channels are weighted by what all pixels say, on a
/// residual branch.
fn squeeze_and_excitation(graph: &mut Graph, x: Value, weights: [Value; 3]) -> Result<Value> {
    let [conv, reduce, restore] = weights;
    let shape = graph.ty(x).shape.clone();
    let y = graph.apply1(Conv::new(1, Padding::Same, 1), &[x, conv])?;
    let mean = graph.mean(y, 1..3)?;
    let narrow = graph.matmul(mean, reduce)?;
    let narrow = graph.map(Function::Silu, narrow)?;
    let gate = graph.matmul(narrow, restore)?;
    let gate = graph.map(Function::Sigmoid, gate)?;
    let gate = graph.apply1(Expand { shape, axes: 1..3 }, &[gate])?;
    let weighted = graph.mul(y, gate)?;
    graph.add(x, weighted)
}

/// A convolution in two groups beside an average of the pixels around, and some channels of both.
fn branches(graph: &mut Graph, x: Value, w: Value) -> Result<Value> {
    let y = grouped_conv2d(graph, x, w, 1, Padding::Same, 2)?;
    let y = graph.map(Function::Gelu, y)?;
    let mean = average_pool(graph, x, 3, 1, Padding::Symmetric(1))?;
    let both = graph.apply1(Concat { axis: 3 }, &[y, mean])?;
    graph.apply1(Slice { axis: 3, range: 2..9 }, &[both])
}

/// `-(1 - p)^2 ln p` of the labelled class (Lin et al. 2017), from probabilities and labels as 0
/// and 1.
fn focal_loss(graph: &mut Graph, logits: Value, labels: Value) -> Result<Value> {
    let p = softmax(graph, logits)?;
    let ln = graph.map(Function::Ln, p)?;
    let one = graph.scale(p, -1.0)?;
    let exp0 = graph.sub(p, p)?;
    let ones = graph.map(Function::Exp, exp0)?;
    let rest = graph.add(ones, one)?;
    let focus = graph.map(Function::Square, rest)?;
    let terms = graph.mul(focus, ln)?;
    let own = graph.mul(terms, labels)?;
    let per_row = graph.sum(own, 1..2)?;
    let mean = graph.mean(per_row, 0..1)?;
    graph.scale(mean, -1.0)
}

/// A composed layer, its inputs, and those whose gradients are checked.
struct Composed {
    graph: Graph,
    inputs: Vec<Value>,
    output: Value,
    wanted: Vec<Value>,
}

fn compose(
    shapes: &[&[usize]],
    wanted: usize,
    build: impl Fn(&mut Graph, &[Value]) -> Result<Value>,
) -> Composed {
    let mut graph = Graph::new();
    let input = |(i, dims): (usize, &&[usize])| graph.input(&format!("in{i}"), TensorType::f32(*dims));
    let inputs: Vec<Value> = shapes.iter().enumerate().map(input).collect();
    let output = build(&mut graph, &inputs).unwrap();
    let wanted = inputs[..wanted].to_vec();
    Composed { graph, inputs, output, wanted }
}

fn goldens() -> WeightsFile {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/compose.safetensors");
    weights::load(path).expect("run tools/compose_goldens.py")
}

/// Compares with what PyTorch gives, which is stored in f32.
fn compare<'a>(goldens: &WeightsFile, name: &str, found: impl IntoIterator<Item = &'a f64>) {
    let expected = &goldens.tensors[name].data;
    let found: Vec<f64> = found.into_iter().copied().collect();
    assert_eq!(found.len(), expected.len(), "{name}");
    for (found, expected) in found.iter().zip(expected) {
        let expected = f64::from(*expected);
        let apart = (found - expected).abs() / expected.abs().max(1.0);
        assert!(apart < 2e-6, "{name}: {found}, and PyTorch's {expected}");
    }
}

/// Numbers in [-1, 1), different for every input.
fn numbers(dims: &[usize], seed: usize) -> ArrayD<f64> {
    let number = |i: usize| ((i * 7919 + seed * 104_729 + 17) % 1009) as f64 / 504.5 - 1.0;
    array(dims, (0..dims.iter().product()).map(number).collect())
}

impl Composed {
    fn values(&self) -> Values {
        let value = |(i, &v): (usize, &Value)| (v, numbers(self.graph.dims(v), i));
        self.inputs.iter().enumerate().map(value).collect()
    }

    /// Differentiates it, and compares with central differences and with PyTorch; then CPU and GPU
    /// with the references.
    fn check(mut self, name: &str, given: &[(usize, ArrayD<f64>)]) {
        let mut feeds = self.values();
        given.iter().for_each(|(i, values)| drop(feeds.insert(self.inputs[*i], values.clone())));
        let seed = self.graph.input("seed", self.graph.ty(self.output).clone());
        self.inputs.push(seed);
        feeds.insert(seed, numbers(self.graph.dims(seed), 99));
        let forward = self.graph.clone();
        let gradients = differentiate(&mut self.graph, &[(self.output, seed)], &self.wanted).unwrap();
        let exact = interpret(&self.graph, feeds.clone()).unwrap();
        let objective = |feeds: Values| {
            let values = interpret(&forward, feeds).unwrap();
            (&values[&self.output] * &values[&seed]).sum()
        };
        for (&x, gradient) in self.wanted.iter().zip(&gradients) {
            let elements = indices(self.graph.dims(x)).into_iter();
            for at in elements.step_by(self.graph.ty(x).len().div_ceil(25)) {
                let moved = |by: f64| {
                    let mut feeds = feeds.clone();
                    feeds.get_mut(&x).unwrap()[&at] += by;
                    objective(feeds)
                };
                let (found, expected) = (exact[gradient][&at], (moved(1e-5) - moved(-1e-5)) / 2e-5);
                assert!(
                    (found - expected).abs() < 1e-6 * expected.abs().max(1.0),
                    "{name}: {found}, not {expected}"
                );
            }
        }
        let goldens = goldens();
        compare(&goldens, &format!("{name}.y"), &exact[&self.output]);
        for (i, gradient) in gradients.iter().enumerate() {
            compare(&goldens, &format!("{name}.d{i}"), &exact[gradient]);
        }
        self.graph.output("y", self.output);
        gradients.iter().enumerate().for_each(|(i, g)| self.graph.output(&format!("d{i}"), *g));
        self.run(&mut Cpu::new(2, Isa::detect()).unwrap(), name, &feeds, &exact);
        if let Some(mut gpu) = gpu::open() {
            self.run(&mut gpu, name, &feeds, &exact);
        }
    }

    fn run(&self, device: &mut dyn Device, name: &str, feeds: &Values, exact: &Values) {
        let plan = device.load(&self.graph).unwrap();
        for &input in &self.inputs {
            let values: Vec<f32> = feeds[&input].iter().map(|v| *v as f32).collect();
            device.write(plan, self.graph.name(input), Data::F32(&values)).unwrap();
        }
        device.run(plan).unwrap();
        for (output, value) in self.graph.outputs() {
            let found = device.read(plan, output).unwrap();
            let scale = exact[value].iter().fold(1.0f64, |a, b| a.max(b.abs()));
            for (found, expected) in found.iter().zip(&exact[value]) {
                let apart = (f64::from(*found) - expected).abs();
                assert!(apart < 2e-5 * scale, "{name}, {output}, {}: {found}, not {expected}", device.name());
            }
        }
    }
}

#[test]
fn a_layer_normalisation() {
    let layer = compose(&[&[2, 3, 7], &[7], &[7], &[1]], 3, |g, v| layer_norm(g, v[0], v[1], v[2], v[3]));
    layer.check("layer_norm", &[(3, array(&[1], vec![1e-5]))]);
}

#[test]
fn attention_of_a_sequence_to_itself() {
    let shapes: [&[usize]; 4] = [&[5, 6], &[6, 4], &[6, 4], &[6, 4]];
    let layer = compose(&shapes, 4, |g, v| attention(g, v[0], [v[1], v[2], v[3]]));
    layer.check("attention", &[]);
}

#[test]
fn squeeze_and_excitation_on_a_residual_branch() {
    let shapes: [&[usize]; 4] = [&[2, 5, 4, 8], &[3, 3, 8, 8], &[8, 3], &[3, 8]];
    let layer = compose(&shapes, 4, |g, v| squeeze_and_excitation(g, v[0], [v[1], v[2], v[3]]));
    layer.check("squeeze_and_excitation", &[]);
}

#[test]
fn branches_that_are_cut_and_joined() {
    let layer = compose(&[&[2, 6, 5, 8], &[3, 3, 4, 6]], 2, |g, v| branches(g, v[0], v[1]));
    layer.check("branches", &[]);
}

/// As many groups as a concatenation has no inputs for, and one output channel too many.
#[test]
fn groups_of_every_number() {
    let grouped = |groups, outputs| {
        let mut graph = Graph::new();
        let x = graph.input("x", TensorType::f32([1, 3, 3, 32]));
        let w = graph.input("w", TensorType::f32([1, 1, 32 / groups, outputs]));
        let y = grouped_conv2d(&mut graph, x, w, 1, Padding::Same, groups)?;
        Ok::<_, Error>(graph.dims(y).to_vec())
    };
    for groups in [1, 2, 16, 32] {
        assert_eq!(grouped(groups, 64).unwrap(), [1, 3, 3, 64]);
    }
    assert_eq!(grouped(32, 32).unwrap(), [1, 3, 3, 32]);
    assert!(grouped(16, 33).unwrap_err().to_string().contains("groups"));
}

#[test]
fn a_focal_loss() {
    let loss = compose(&[&[4, 5], &[4, 5]], 1, |g, v| focal_loss(g, v[0], v[1]));
    let labels = Array2::from_shape_fn([4, 5], |(row, c)| f64::from(c == 2 * row % 5));
    loss.check("focal_loss", &[(1, labels.into_dyn())]);
}

#[test]
fn functions_and_their_slopes_are_those_of_pytorch() {
    let goldens = goldens();
    for function in Function::ALL {
        let name = |part: &str| format!("functions.{}.{part}", function.name());
        let x = goldens.tensors.get(&name("x"));
        let x = x.unwrap_or_else(|| panic!("no {}: add it to tools/compose_goldens.py", function.name()));
        let x: Vec<f64> = x.data.iter().map(|x| f64::from(*x)).collect();
        let y: Vec<f64> = x.iter().map(|x| function.value(*x)).collect();
        let of = if function.slope_of() == Of::X { &x } else { &y };
        compare(&goldens, &name("y"), &y);
        compare(&goldens, &name("slope"), &of.iter().map(|v| function.slope(*v)).collect::<Vec<f64>>());
    }
}
