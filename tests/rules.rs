//! The rewriting rules of the devices: each by itself on a graph of a few nodes, printed before and
//! after; and all of them on the models, in any order.

use cifar_engine::exec::cpu::rules::RULES;
use cifar_engine::exec::launches;
use cifar_engine::grad::differentiate;
use cifar_engine::graph::rewrite::{Rule, rewrite};
use cifar_engine::graph::{Graph, Source, Value};
use cifar_engine::kernels::rng::{self, Stream};
use cifar_engine::models;
use cifar_engine::ops::conv::{Conv, Padding, Pass};
use cifar_engine::ops::linear::matmul::Matmul;
use cifar_engine::ops::linear::sum_rows::SumRows;
use cifar_engine::ops::map::binary::{Binary, Function2};
use cifar_engine::ops::map::dropout::Dropout;
use cifar_engine::ops::map::unary::{Unary, UnaryGrad};
use cifar_engine::ops::movement::constant::Constant;
use cifar_engine::ops::norm::batch_norm::BatchNorm;
use cifar_engine::ops::norm::batch_norm_grad::BatchNormGrad;
use cifar_engine::ops::norm::batch_norm_infer::BatchNormInfer;
use cifar_engine::ops::norm::batch_norm_max_pool::POOL;
use cifar_engine::ops::norm::moments::Moments;
use cifar_engine::ops::optim::clip::{Clip, ClipFactor};
use cifar_engine::ops::optim::unscale::Unscale;
use cifar_engine::ops::pool::max_pool_grad::MaxPoolGrad;
use cifar_engine::ops::{Function, Op};
use cifar_engine::tensor::TensorType;
use cifar_engine::train::bare_spec;
use cifar_engine::train::plans;
use cifar_engine::train::settings::Settings;

const CHANNELS: usize = 8;
const X: [usize; 4] = [2, 6, 6, CHANNELS];
const ADD: Binary = Binary { function: Function2::Add };
const RELU: Unary = Unary { function: Function::Relu };
const NORM: BatchNorm = BatchNorm { epsilon: 1e-3, activation: None };
const NORM_GRAD: BatchNormGrad = BatchNormGrad { epsilon: 1e-3, activation: None };
const NORMALISE: BatchNormInfer = BatchNormInfer { epsilon: 1e-3, residual: false, activation: None };

/// A graph that is built value by value, each with a name for the printed form.
struct Sketch {
    graph: Graph,
    names: Vec<(Value, String)>,
}

impl Sketch {
    fn new() -> Sketch {
        Sketch { graph: Graph::new(), names: Vec::new() }
    }

    fn input(&mut self, name: &str, dims: &[usize]) -> Value {
        self.graph.input(name, TensorType::f32(dims))
    }

    /// Gamma, beta, mean and variance.
    fn vectors(&mut self) -> [Value; 4] {
        ["gamma", "beta", "mean", "var"].map(|name| self.input(name, &[CHANNELS]))
    }

    fn apply(&mut self, names: &[&str], op: impl Op, inputs: &[Value]) -> Vec<Value> {
        let outputs = self.graph.apply(op, inputs).unwrap();
        self.names.extend(outputs.iter().zip(names).map(|(value, name)| (*value, name.to_string())));
        outputs
    }

    fn apply1(&mut self, name: &str, op: impl Op, inputs: &[Value]) -> Value {
        self.apply(&[name], op, inputs)[0]
    }

    fn name(&self, value: Value) -> String {
        let known = self.names.iter().find(|(known, _)| *known == value).map(|(_, name)| name.clone());
        match self.graph.source(value) {
            Source::Node => known.unwrap_or_else(|| "new".into()),
            _ => self.graph.name(value).to_string(),
        }
    }

    fn print(&self) -> String {
        let names = |values: &[Value]| values.iter().map(|v| self.name(*v)).collect::<Vec<_>>().join(", ");
        let line = |node: &cifar_engine::graph::Node| {
            format!("{} = {:?}({})\n", names(&node.outputs), node.op, names(&node.inputs))
        };
        self.graph.nodes().iter().map(line).collect()
    }
}

/// Applies the rule of this name; what is printed afterwards must be this, and something must be
/// saved unless the rule only prepares others.
fn check(rule: &str, mut sketch: Sketch, results: &[Value], expected: &str) {
    for (i, result) in results.iter().enumerate() {
        sketch.graph.output(&format!("result{i}"), *result);
    }
    let rule = RULES.iter().find(|known| known.name == rule).unwrap_or_else(|| panic!("no rule '{rule}'"));
    let before = sketch.print();
    let done = rewrite(&mut sketch.graph, &[rule]).unwrap();
    assert!(done.iter().all(|rewrite| rewrite.rule == rule.name));
    assert_eq!(sketch.print(), expected, "{} on\n{before}", rule.replaces);
    match expected == before {
        true => assert!(done.is_empty()),
        false => assert_eq!(done.len(), 1),
    }
}

fn conv() -> Conv {
    Conv::new(1, Padding::Same, 1)
}

fn input_grad() -> Conv {
    Conv { pass: Pass::InputGrad { x: X.into() }, ..conv() }
}

#[test]
fn zero_sum() {
    for own in [true, false] {
        let mut s = Sketch::new();
        let [x, other, dy] = ["x", "other", "dy"].map(|name| s.input(name, &X));
        let [gamma, beta, ..] = s.vectors();
        let moments = s.apply(&["m", "v"], Moments, &[if own { x } else { other }]);
        let inputs = [dy, x, gamma, beta, moments[0], moments[1]];
        let dx = s.apply(&["dx", "dgamma", "dbeta"], NORM_GRAD, &inputs)[0];
        let sum = s.apply1("sum", SumRows, &[dx]);
        let kept = "m, v = Moments(other)\n\
            dx, dgamma, dbeta = BatchNormGrad { epsilon: 0.001, activation: None }(dy, x, gamma, beta, m, v)\n\
            sum = SumRows(dx)\n";
        check(
            "zero sum",
            s,
            &[sum],
            if own { "sum = Constant { shape: [8], value: 0.0 }()\n" } else { kept },
        );
    }
}

#[test]
fn zeros_scaled() {
    type Make = fn(&mut Sketch, Value) -> Value;
    let clip: Make = |s, zeros| {
        let factor = s.input("factor", &[1]);
        s.apply1("y", Clip, &[zeros, factor])
    };
    let unscale: Make = |s, zeros| s.apply1("y", Unscale { scale: 4.0 }, &[zeros]);
    let factor: Make = |s, zeros| {
        let gradient = s.input("gradient", &[9]);
        s.apply1("y", ClipFactor { limit: 2.0 }, &[zeros, gradient])
    };
    let zeros = "y = Constant { shape: [8], value: 0.0 }()\n";
    let cases = [
        (clip, zeros, "Clip(c, factor)"),
        (unscale, zeros, "Unscale { scale: 4.0 }(c)"),
        (factor, "y = ClipFactor { limit: 2.0 }(gradient)\n", "ClipFactor { limit: 2.0 }(c, gradient)"),
    ];
    for (make, of_zeros, of_others) in cases {
        for (value, expected) in [
            (0.0, of_zeros.to_string()),
            (0.5, format!("c = Constant {{ shape: [8], value: 0.5 }}()\ny = {of_others}\n")),
        ] {
            let mut s = Sketch::new();
            let constant = s.apply1("c", Constant { shape: [8].into(), value }, &[]);
            let y = make(&mut s, constant);
            check("zeros scaled", s, &[y], &expected);
        }
    }
}

#[test]
fn activation() {
    for read_twice in [false, true] {
        let mut s = Sketch::new();
        let (x, w) = (s.input("x", &X), s.input("w", &[3, 3, 8, 8]));
        let y = s.apply1("y", conv(), &[x, w]);
        let z = s.apply1("z", RELU, &[y]);
        let kept = "y = Conv { stride: 1, padding: Same }(x, w)\nz = Unary { function: Relu }(y)\n";
        let joined = "z = Conv { stride: 1, padding: Same, activation: Relu }(x, w)\n";
        let results: &[Value] = if read_twice { &[y, z] } else { &[z] };
        check("activation", s, results, if read_twice { kept } else { joined });
    }
}

#[test]
fn activation_of_a_product() {
    let mut s = Sketch::new();
    let (x, w, b) = (s.input("x", &[4, 6]), s.input("w", &[6, 5]), s.input("b", &[5]));
    let y = s.apply1("y", Matmul::default(), &[x, w, b]);
    let z = s.apply1("z", RELU, &[y]);
    let expected =
        "z = Matmul { a_transposed: false, b_transposed: false, activation: Some(Relu) }(x, w, b)\n";
    check("activation", s, &[z], expected);
}

#[test]
fn dropped_mask() {
    for other_seed in [0, 1] {
        let mut s = Sketch::new();
        let [x, dz] = ["x", "dz"].map(|name| s.input(name, &[4, 6]));
        let step = s.graph.input("step", TensorType::u32([1]));
        let y = s.apply1("y", RELU, &[x]);
        let dropout = Dropout { rate: 0.5, seed: 0 };
        let z = s.apply1("z", dropout, &[y, step]);
        let dy = s.apply1("dy", Dropout { seed: other_seed, ..dropout }, &[dz, step]);
        let dx = s.apply1("dx", UnaryGrad { function: Function::Relu }, &[dy, y]);
        let kept = s.print();
        let told = kept.replace("(dy, y)", "(dy, z)");
        check("dropped mask", s, &[z, dx], if other_seed == 0 { &told } else { &kept });
    }
}

#[test]
fn activation_of_a_normalisation() {
    let mut s = Sketch::new();
    let (x, [gamma, beta, mean, var]) = (s.input("x", &X), s.vectors());
    let y = s.apply1("y", NORMALISE, &[x, gamma, beta, mean, var]);
    let z = s.apply1("z", RELU, &[y]);
    let expected =
        "z = BatchNormInfer { epsilon: 0.001, activation: Some(Relu) }(x, gamma, beta, mean, var)\n";
    check("activation", s, &[z], expected);
}

#[test]
fn activation_grad() {
    for function in [Function::Relu, Function::Relu6] {
        let mut s = Sketch::new();
        let ([x, dz], [gamma, beta, mean, var]) = (["x", "dz"].map(|name| s.input(name, &X)), s.vectors());
        let norm = BatchNormInfer { activation: Some(Function::Relu), ..NORMALISE };
        let z = s.apply1("z", norm, &[x, gamma, beta, mean, var]);
        let dy = s.apply1("dy", UnaryGrad { function }, &[dz, z]);
        let dx = s.apply(&["dx", "dgamma", "dbeta"], NORM_GRAD, &[dy, x, gamma, beta, mean, var])[0];
        let joined = "dx, dgamma, dbeta = \
            BatchNormGrad { epsilon: 0.001, activation: Some(Relu) }(dz, x, gamma, beta, mean, var)\n";
        let kept = "z = BatchNormInfer { epsilon: 0.001, activation: Some(Relu) }(x, gamma, beta, mean, var)\n\
            dy = UnaryGrad { function: Relu6 }(dz, z)\n\
            dx, dgamma, dbeta = \
            BatchNormGrad { epsilon: 0.001, activation: None }(dy, x, gamma, beta, mean, var)\n";
        let same = function == Function::Relu;
        check("activation's gradient", s, &[dx], if same { joined } else { kept });
    }
}

/// The convolution has two outputs: what its activation makes and what the gradient needs.
#[test]
fn kept_activation() {
    for function in [Function::Gelu, Function::Tanh] {
        let mut s = Sketch::new();
        let (x, w, dy) = (s.input("x", &X), s.input("w", &[3, 3, 8, 8]), s.input("dy", &X));
        let z = s.apply1("z", conv(), &[x, w]);
        let y = s.apply1("y", Unary { function }, &[z]);
        let other = if function == Function::Gelu { function } else { Function::Silu };
        let dz = s.apply1("dz", UnaryGrad { function: other }, &[dy, z]);
        let joined = "y, z = Conv { stride: 1, padding: Same, activation: Gelu, output: Kept }(x, w)\n\
            dz = UnaryGrad { function: Gelu }(dy, z)\n";
        let kept = "z = Conv { stride: 1, padding: Same }(x, w)\n\
            y = Unary { function: Tanh }(z)\n\
            dz = UnaryGrad { function: Silu }(dy, z)\n";
        check("kept activation", s, &[y, dz], if function == other { joined } else { kept });
    }
}

#[test]
fn slope() {
    for before_a_norm in [false, true] {
        let mut s = Sketch::new();
        let ([v, dz], w) = (["v", "dz"].map(|name| s.input(name, &X)), s.input("w", &[3, 3, 8, 8]));
        let dy = s.apply1("dy", input_grad(), &[dz, w]);
        let dv = s.apply1("dv", UnaryGrad { function: Function::Gelu }, &[dy, v]);
        let [gamma, beta, mean, var] = s.vectors();
        let joined = "dv = Conv { pass: InputGrad { x: [2, 6, 6, 8] }, stride: 1, padding: Same, \
            output: Slope(Gelu) }(dz, w, v)\n";
        let kept = "dy = Conv { pass: InputGrad { x: [2, 6, 6, 8] }, stride: 1, padding: Same }(dz, w)\n\
            dv = UnaryGrad { function: Gelu }(dy, v)\n\
            dx, dgamma, dbeta = \
            BatchNormGrad { epsilon: 0.001, activation: None }(dv, v, gamma, beta, mean, var)\n";
        if before_a_norm {
            let dx = s.apply(&["dx", "dgamma", "dbeta"], NORM_GRAD, &[dv, v, gamma, beta, mean, var])[0];
            check("slope", s, &[dx], kept);
        } else {
            check("slope", s, &[dv], joined);
        }
    }
}

#[test]
fn residual() {
    for norm in [false, true] {
        let mut s = Sketch::new();
        let ([x, r], w) = (["x", "r"].map(|name| s.input(name, &X)), s.input("w", &[3, 3, 8, 8]));
        let [gamma, beta, mean, var] = s.vectors();
        let y = match norm {
            true => s.apply1("y", NORMALISE, &[x, gamma, beta, mean, var]),
            false => s.apply1("y", conv(), &[x, w]),
        };
        let z = s.apply1("z", ADD, &[r, y]);
        let expected = match norm {
            true => {
                "z = BatchNormInfer { epsilon: 0.001, residual: true, activation: None }\
                (x, gamma, beta, mean, var, r)\n"
            }
            false => "z = Conv { stride: 1, padding: Same, residual: true }(x, w, r)\n",
        };
        check("residual", s, &[z], expected);
    }
}

/// Of two sums that could be joined the first is, and one that is needed by itself is not.
#[test]
fn residual_of_two_convolutions() {
    let mut s = Sketch::new();
    let ([x, r], w) = (["x", "r"].map(|name| s.input(name, &X)), s.input("w", &[3, 3, 8, 8]));
    let [a, b] = ["a", "b"].map(|name| s.apply1(name, conv(), &[x, w]));
    let sum = s.apply1("sum", ADD, &[a, b]);
    let more = s.apply1("more", ADD, &[b, r]);
    let expected = "b = Conv { stride: 1, padding: Same }(x, w)\n\
        sum = Conv { stride: 1, padding: Same, residual: true }(x, w, b)\n\
        more = Binary { function: Add }(b, r)\n";
    check("residual", s, &[sum, more], expected);
}

/// A slope that is one of the argument: the normalised values, which nothing needs to keep.
#[test]
fn activation_grad_of_the_argument() {
    let mut s = Sketch::new();
    let ([x, dz], [gamma, beta, mean, var]) = (["x", "dz"].map(|name| s.input(name, &X)), s.vectors());
    let y = s.apply1("y", NORMALISE, &[x, gamma, beta, mean, var]);
    let z = s.apply1("z", Unary { function: Function::Gelu }, &[y]);
    let dy = s.apply1("dy", UnaryGrad { function: Function::Gelu }, &[dz, y]);
    let dx = s.apply(&["dx", "dgamma", "dbeta"], NORM_GRAD, &[dy, x, gamma, beta, mean, var])[0];
    let expected = "y = BatchNormInfer { epsilon: 0.001, activation: None }(x, gamma, beta, mean, var)\n\
        z = Unary { function: Gelu }(y)\n\
        dx, dgamma, dbeta = \
        BatchNormGrad { epsilon: 0.001, activation: Some(Gelu) }(dz, x, gamma, beta, mean, var)\n";
    check("activation's gradient", s, &[z, dx], expected);
}

#[test]
fn statistics() {
    let mut s = Sketch::new();
    let (x, [gamma, beta, ..]) = (s.input("x", &X), s.vectors());
    let outputs = s.apply(&["y", "m", "v"], NORM, &[x, gamma, beta]);
    let expected = "m, v = Moments(x)\n\
        y = BatchNormInfer { epsilon: 0.001, activation: None }(x, gamma, beta, m, v)\n";
    check("statistics", s, &outputs, expected);
}

#[test]
fn pooling_and_its_gradient() {
    let mut s = Sketch::new();
    let (x, dp) = (s.input("x", &X), s.input("dp", &[2, 3, 3, 8]));
    let [gamma, beta, ..] = s.vectors();
    let m = s.apply(&["m", "v"], Moments, &[x]);
    let inputs = [x, gamma, beta, m[0], m[1]];
    let y = s.apply1("y", NORMALISE, &inputs);
    let p = s.apply1("p", POOL, &[y]);
    let dy = s.apply1("dy", MaxPoolGrad { pool: POOL }, &[y, p, dp]);
    let dx = s.apply(&["dx", "dgamma", "dbeta"], NORM_GRAD, &[&[dy], &inputs[..]].concat())[0];
    let norm = "norm: Normalise { epsilon: 0.001, activation: None }";
    let expected = format!(
        "m, v = Moments(x)\n\
         p = BatchNormMaxPool {{ {norm} }}(x, gamma, beta, m, v)\n\
         dx, dgamma, dbeta = BatchNormMaxPoolGrad {{ {norm} }}(dp, x, gamma, beta, m, v)\n"
    );
    check("pooling", s, &[p, dx], &expected);
}

#[test]
fn pooling_of_stored_statistics_waits_for_the_fold() {
    let mut s = Sketch::new();
    let (x, [gamma, beta, mean, var]) = (s.input("x", &X), s.vectors());
    let y = s.apply1("y", NORMALISE, &[x, gamma, beta, mean, var]);
    let p = s.apply1("p", POOL, &[y]);
    let kept = s.print();
    check("pooling", s, &[p], &kept);
}

#[test]
fn places_and_their_gradient() {
    let mut s = Sketch::new();
    let (x, dy) = (s.input("x", &X), s.input("dy", &[2, 3, 3, CHANNELS]));
    let w = s.input("w", &[3, 3, CHANNELS, CHANNELS]);
    let c = s.apply1("c", Conv::new(1, Padding::Same, 1), &[x, w]);
    let y = s.apply1("y", POOL, &[c]);
    let dc = s.apply1("dc", MaxPoolGrad { pool: POOL }, &[c, y, dy]);
    let conv = "Conv { stride: 1, padding: Same }";
    let pool = "pool: MaxPool { window: 2, stride: 2, padding: 0 }";
    let expected = format!(
        "c = {conv}(x, w)\n\
         y, new = MaxPoolPlaces {{ {pool} }}(c)\n\
         dc = MaxPoolPlacesGrad {{ {pool}, height: 6, width: 6 }}(new, dy)\n"
    );
    check("places", s, &[y, dc], &expected);
}

/// The convolution's output is kept anyway: places would be more memory, not less.
#[test]
fn places_wait_for_nobody_else_to_read() {
    let mut s = Sketch::new();
    let (x, dy) = (s.input("x", &X), s.input("dy", &[2, 3, 3, CHANNELS]));
    let w = s.input("w", &[3, 3, CHANNELS, CHANNELS]);
    let c = s.apply1("c", Conv::new(1, Padding::Same, 1), &[x, w]);
    let y = s.apply1("y", POOL, &[c]);
    let dc = s.apply1("dc", MaxPoolGrad { pool: POOL }, &[c, y, dy]);
    let kept = s.print();
    check("places", s, &[y, dc, c], &kept);
}

#[test]
fn fold() {
    let mut s = Sketch::new();
    let (x, w, b) = (s.input("x", &X), s.input("w", &[3, 3, 8, 8]), s.input("b", &[8]));
    let [gamma, beta, mean, var] = s.vectors();
    let y = s.apply1("y", conv().with_bias(), &[x, w, b]);
    let z = s.apply1("z", NORMALISE, &[y, gamma, beta, mean, var]);
    let expected = "new, new = FoldBatchNorm { epsilon: 0.001 }(w, gamma, beta, mean, var, b)\n\
        z = Conv { stride: 1, padding: Same, bias: true }(x, new, new)\n";
    check("fold", s, &[z], expected);
}

#[test]
fn gathered_moments() {
    let mut s = Sketch::new();
    let (x, w) = (s.input("x", &X), s.input("w", &[3, 3, 8, 8]));
    let y = s.apply1("y", conv(), &[x, w]);
    let m = s.apply(&["m", "v"], Moments, &[y]);
    let expected = "y, m, v = Conv { stride: 1, padding: Same, output: Moments }(x, w)\n";
    check("gathered moments", s, &[y, m[0], m[1]], expected);
}

#[test]
fn normalised_input() {
    for read_otherwise in [false, true] {
        let mut s = Sketch::new();
        let (x, w, b) = (s.input("x", &X), s.input("w", &[3, 3, 8, 8]), s.input("b", &[8]));
        let [gamma, beta, mean, var] = s.vectors();
        let y = s.apply1("y", NORMALISE, &[x, gamma, beta, mean, var]);
        let z = s.apply1("z", conv().with_bias(), &[y, w, b]);
        let p = s.apply1("p", POOL, &[y]);
        let (kept, results) = (s.print(), if read_otherwise { vec![z, p] } else { vec![z] });
        let joined = "new = ScaleShift { epsilon: 0.001 }(gamma, beta, mean, var)\n\
            z = Conv { stride: 1, padding: Same, bias: true, input: Scaled { activation: None } }(x, w, b, new)\n";
        check("normalised input", s, &results, if read_otherwise { &kept } else { joined });
    }
}

#[test]
fn gathered_gradient() {
    let mut s = Sketch::new();
    let ([dz, x], w) = (["dz", "x"].map(|name| s.input(name, &X)), s.input("w", &[1, 1, 8, 8]));
    let [gamma, beta, mean, var] = s.vectors();
    let dy = s.apply1("dy", input_grad(), &[dz, w]);
    let dx = s.apply(&["dx", "dgamma", "dbeta"], NORM_GRAD, &[dy, x, gamma, beta, mean, var])[0];
    let expected = "new = ScaleShift { epsilon: 0.001 }(gamma, beta, mean, var)\n\
        dx, dgamma, dbeta = Conv { pass: InputGrad { x: [2, 6, 6, 8] }, stride: 1, padding: Same, \
        output: NormGrad(Normalise { epsilon: 0.001, activation: None }) }(dz, w, x, new, mean, var)\n";
    check("gathered gradient", s, &[dx], expected);
}

#[test]
fn separable() {
    for joined_later in [false, true] {
        let mut s = Sketch::new();
        let (x, w, b) = (s.input("x", &X), s.input("w", &[3, 3, 1, 8]), s.input("b", &[8]));
        let (v, c) = (s.input("v", &[1, 1, 8, 5]), s.input("c", &[5]));
        let depthwise = Conv { activation: Some(Function::Relu6), ..Conv::new(2, Padding::Same, 8) };
        let y = s.apply1("y", depthwise.with_bias(), &[x, w, b]);
        let z = s.apply1("z", conv().with_bias(), &[y, v, c]);
        let a = s.apply1("a", RELU, &[z]);
        let kept = s.print();
        let separable = "z = SeparableConv2d { stride: 2, padding: Same, activations: [Some(Relu6), None], \
            residual: false }(x, w, b, v, c)\n";
        let result = if joined_later { a } else { z };
        check("separable", s, &[result], if joined_later { &kept } else { separable });
    }
}

/// What the rules leave of a graph, without the numbers of its values.
fn outcome(graph: &Graph, rules: &[&Rule]) -> Vec<String> {
    let mut graph = graph.clone();
    rewrite(&mut graph, rules).unwrap();
    let mut lines: Vec<String> = graph
        .nodes()
        .iter()
        .map(|node| format!("{} {:?} {:?}", node.layer, node.op, graph.types(node)))
        .collect();
    lines.sort();
    lines
}

/// A training step of convolutions with activations and no normalisation, as no model has them.
fn convolutions_alone() -> Graph {
    let mut graph = Graph::new();
    let x = graph.input("x", TensorType::f32(X));
    let [w, v] = ["w", "v"].map(|name| graph.input(name, TensorType::f32([3, 3, 8, 8])));
    let mut y = x;
    for weights in [w, v] {
        y = graph.apply1(conv(), &[y, weights]).unwrap();
        y = graph.apply1(Unary { function: Function::Gelu }, &[y]).unwrap();
    }
    let dy = graph.input("dy", TensorType::f32(X));
    let gradients = differentiate(&mut graph, &[(y, dy)], &[w, v]).unwrap();
    gradients.into_iter().zip(["dw", "dv"]).for_each(|(gradient, name)| graph.output(name, gradient));
    graph
}

/// The graphs of every model: a training step, one with stored statistics, an evaluation.
fn graphs() -> Vec<(String, Graph)> {
    let mut graphs = Vec::new();
    for model in models::MODELS {
        let spec = bare_spec(model, model.usual_size, 10);
        let settings = Settings { batch_size: 4, clip: 1.0, model, ..Settings::default() };
        let training = plans::training(&spec, &settings, 16).unwrap().graph;
        let evaluation = plans::evaluation(&spec, "test", 16, 4).unwrap().graph;
        graphs.extend([(format!("{model} training"), training), (format!("{model} evaluation"), evaluation)]);
    }
    graphs.push(("convolutions alone".into(), convolutions_alone()));
    graphs
}

#[test]
fn the_order_of_the_rules_does_not_matter() {
    for (name, graph) in graphs() {
        for (device, rules) in [("cpu", RULES), ("gpu", launches::RULES)] {
            let expected = outcome(&graph, rules);
            for turn in 0..6 {
                let order = rng::permutation(rules.len(), turn, Stream::Init, 0);
                let shuffled: Vec<&Rule> = order.iter().map(|&i| rules[i as usize]).collect();
                let names: Vec<&str> = shuffled.iter().map(|rule| rule.name).collect();
                assert!(outcome(&graph, &shuffled) == expected, "{name}, {device}: {names:?}");
            }
        }
    }
}

#[test]
fn every_rule_of_a_device_has_a_name_of_its_own_and_fits_some_model() {
    for rules in [RULES, launches::RULES] {
        let mut names: Vec<&str> = rules.iter().map(|rule| rule.name).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), rules.len());
        for rule in rules {
            assert!(rule.replaces.contains(" => "), "{}", rule.replaces);
            let fits = graphs().into_iter().any(|(_, mut graph)| {
                rewrite(&mut graph, rules).unwrap().iter().any(|done| done.rule == rule.name)
            });
            assert!(fits, "{}: fits nowhere", rule.name);
        }
    }
}
