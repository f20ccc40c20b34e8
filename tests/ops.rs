//! Every op against its f64 reference on every instruction set and thread count and on a GPU, and
//! every gradient rule against finite differences, mid-graph.
//!
//! `CIFAR_ENGINE_OP=conv2d` leaves only the cases of one op.

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;

use cifar_engine::error::Result;
use cifar_engine::exec::Device;
use cifar_engine::exec::cpu::Cpu;
use cifar_engine::exec::probe::{distance, graph_of, run_case};
use cifar_engine::grad::differentiate;
use cifar_engine::graph::{Graph, Node, Value};
use cifar_engine::kernels::simd::Isa;
use cifar_engine::ops::add::Add;
use cifar_engine::ops::case::{Case, Fill};
use cifar_engine::ops::cpu_step::{CpuStep, CpuTarget};
use cifar_engine::ops::dispatch::Dispatches;
use cifar_engine::ops::map::unary::Unary;
use cifar_engine::ops::matmul::Matmul;
use cifar_engine::ops::tile::{TILES, Tile, Tiling};
use cifar_engine::ops::{self, Function, Gradients, Op, Types};
use cifar_engine::tensor::TensorType;
use common::gpu::{self, Altered, corrupted};
use common::{Values, evaluate};

/// f32 rounding through sums of up to a few hundred terms.
const CPU_TOLERANCE: f64 = 2e-5;
/// The same sums in another order, and elementary functions as the driver computes them.
const GPU_TOLERANCE: f64 = 2e-5;
/// Central differences in f64 with a step of 1e-5.
const GRADIENT_TOLERANCE: f64 = 1e-6;

/// The cases under test.
fn cases() -> Vec<Case> {
    let wanted = std::env::var("CIFAR_ENGINE_OP");
    let chosen = |case: &Case| wanted.as_ref().map_or(true, |name| name == case.op.name());
    let cases: Vec<Case> = ops::cases().into_iter().filter(chosen).collect();
    let names: BTreeSet<&str> = cases.iter().map(|case| case.op.name()).collect();
    let expected = if wanted.is_ok() { 1 } else { 27 };
    assert!(names.len() >= expected, "ops without cases; there are only {names:?}");
    cases
}

fn run_cpu(case: &Case, isa: Isa, threads: usize) -> Vec<Vec<f64>> {
    run_case(&mut Cpu::new(threads, isa).unwrap(), case, 1).unwrap()
}

fn reference(case: &Case) -> Vec<Vec<f64>> {
    let (graph, inputs, outputs) = graph_of(case).unwrap();
    let values = inputs.iter().enumerate().map(|(i, &v)| (v, case.values(i))).collect();
    let values = evaluate(&graph, values);
    outputs.iter().map(|v| values[v].clone()).collect()
}

/// Compares the outputs of a case with its reference.
fn compare(device: &str, case: &Case, found: &[Vec<f64>], tolerance: f64) -> std::result::Result<(), String> {
    for (i, (found, expected)) in found.iter().zip(&reference(case)).enumerate() {
        let distance = distance(found, expected);
        if distance > tolerance {
            return Err(format!("{device}: output {i} of {case:?} is off by {distance:e}"));
        }
    }
    Ok(())
}

fn check_cpu(case: &Case, isa: Isa) -> std::result::Result<(), String> {
    let found = run_cpu(case, isa, 2);
    compare(&isa.to_string(), case, &found, CPU_TOLERANCE)?;
    match run_cpu(case, isa, 1) == found && run_cpu(case, isa, 3) == found {
        true => Ok(()),
        false => Err(format!("{isa}: {case:?} depends on the number of threads")),
    }
}

/// The second run finds other values in its scratch and outputs than the first.
fn check_gpu(gpu: &mut dyn Device, case: &Case) -> std::result::Result<(), String> {
    if !case.has_shaders() {
        return Ok(());
    }
    let mut run = |runs| run_case(gpu, case, runs).map_err(|error| format!("gpu: {case:?}: {error}"));
    let found = run(1)?;
    compare("gpu", case, &found, GPU_TOLERANCE)?;
    match run(2)? == found {
        true => Ok(()),
        false => Err(format!("gpu: {case:?} depends on what the memory held before")),
    }
}

#[test]
fn cpu_matches_the_reference_on_every_instruction_set() {
    for case in cases() {
        for isa in Isa::available() {
            check_cpu(&case, isa).unwrap();
        }
    }
}

#[test]
fn gpu_matches_the_reference() {
    let Some(mut gpu) = gpu::open() else { return };
    for case in cases() {
        check_gpu(&mut gpu, &case).unwrap();
    }
}

/// The same variance, as a difference of squares.
const CANCELLING: &str = "a.squares + b.squares + a.mean * a.mean * a.count + b.mean * b.mean * b.count
    - (a.mean + away * share) * (a.mean + away * share) * count";
/// Of every op: a text in one of its shaders, and an error to put in its place.
const ERRORS: &[(&str, &str, &str)] = &[
    ("adam", "(1.0 - BETA1) * g", "BETA1 * g"),
    ("adam", "if x < -0.5", "if x < 0.5"), // without the polynomial, the first steps lose digits
    ("adam", "x / 2.0", "x / 3.0"),
    ("adam", "1.0 - exp(x)", "exp(x)"),
    ("adam", "KERAS)", "!KERAS)"),
    ("add", "+=", "-="),
    ("add", "i < LENGTH", "i < 256"),
    ("augment", "v >> vec4(16u)", "v >> vec4(15u)"),
    ("augment", "f32(SIZE) - 1.0 - at", "at"),
    ("augment", "(at + 0.5) * side", "at * side"),
    ("augment", "1.0 / area", "1.0"),
    ("augment", "1.0 - fract(at)", "1.0"),
    ("augment", "last - abs(last - abs(at))", "abs(at)"),
    ("augment", "step[0] / EPOCH_STEPS", "step[0]"),
    ("augment", "image_constant(indices[n])", "image_constant(n)"),
    ("augment", "2u * SHIFT + 1u", "2u * SHIFT + 2u"),
    ("augment", "byte % 4u", "byte % 2u"),
    ("augment", "IGNORE, labels", "0u, labels"),
    ("augment", "|| !known", ""),
    ("batch", "byte % 4u", "byte % 2u"),
    ("batch_norm", "away * away *", "0.0 * away *"),
    ("batch_norm", "a.squares + b.squares + away * away * (a.count * share)", CANCELLING),
    ("batch_norm", "select(zero, x_d - mean, has_d)", "x_d - mean"),
    ("batch_norm", "SPAN, ROWS - block * SPAN", "SPAN, SPAN"),
    ("batch_norm", "block += 256u", "block += 512u"),
    ("batch_norm", "group.x * LANES", "0u * LANES"),
    ("batch_norm", "own.squares / own.count", "own.squares"),
    ("batch_norm", "- mean[column] * scale", ""),
    ("batch_norm_grad", "through(dy[at], normalise", "through(dy[at], -normalise"),
    ("batch_norm_grad", "slope_at(value_at(x))", "slope_at(x + 3.0)"),
    ("batch_norm_grad", "more < rows.end", "true"),
    ("batch_norm_grad", "- mean[column] * slope", ""),
    ("batch_norm_grad", "block += 256u", "block += 512u"),
    ("batch_norm_grad", "/ f32(ROWS)", ""),
    ("batch_norm_max_pool", "value > largest", "value < largest"),
    ("batch_norm_max_pool", "tap / 2u * WIDTH", "tap / 2u"),
    ("batch_norm_max_pool_grad", "mine > value, Bools(before)", "mine > value, Bools(!before)"),
    ("batch_norm_max_pool_grad", "& Bools(inside)", ""),
    ("batch_norm_max_pool_grad", "(through(Value(1.0), own) > Value(0.0))", "Bools(true)"),
    ("batch_norm_infer", "variance + EPSILON", "variance"),
    ("batch_norm_infer", "value += residual[i]", "value -= residual[i]"),
    ("batch_norm_infer", "return value_at(x);", "return x;"),
    ("batch_norm_infer", "- mean[column] * scale", ""),
    ("clip", "inverseSqrt(squares[0])", "1.0 / squares[0]"),
    ("clip", "> LIMIT * LIMIT", "> LIMIT"),
    ("clip", "i < LENGTH", "i < 256"),
    ("colour", "turn * (1u + order / 3u)", "turn"),
    ("colour", "kind == CONTRAST", "false"),
    ("colour", "0.587", "0.5"),
    ("colour", "unit(numbers)[kind]", "unit(numbers)[turn]"),
    ("colour", "vec3(255.0)", "vec3(300.0)"),
    ("conv2d", "source.y.x + i", "source.y.x + j"),
    ("conv2d", "z += beside", "z -= beside"),
    ("conv2d", "kept_vectors[at] = z", "kept_vectors[at] = value"),
    ("conv2d", "kept[at] = z", "kept[at] = result"),
    ("conv2d_input_grad", "return z * slope_at(beside);", "return z;"),
    ("conv2d_input_grad", "beside = other_vectors[at]", "beside = other_vectors[0]"),
    ("conv2d_input_grad", "other[places.y]", "other[places.x]"),
    ("conv2d", "pixels % OUT_WIDTH * STRIDE", "pixels % OUT_WIDTH"),
    ("conv2d_input_grad", "source.x.z - j", "source.x.z - i"),
    ("conv2d_input_grad", "FIRST_X + row", "row"),
    ("conv2d_weight_grad", "source.x + x.w", "source.x + y.w"),
    ("conv2d_weight_grad", "% KERNEL_WIDTH - PAD_LEFT", "% KERNEL_WIDTH"),
    ("concat", "row * ROW_TO + TO", "row * ROW_TO"),
    ("constant", "vec4<f32>(VALUE)", "vec4<f32>(1.0)"),
    ("copy", "= x[i]", "= x[i] ^ vec4(1u << 20u)"),
    ("grouped_conv2d", "z += shift", "z -= shift"),
    ("grouped_conv2d", "kept[at] = z", "kept[at] = sum"),
    ("grouped_conv2d_input_grad", "return z * slope_at(beside);", "return z;"),
    ("grouped_conv2d", "at + j - first +", "at + j +"),
    ("grouped_conv2d", "window.b, window.c, window.d, next", "window.c, window.b, window.d, next"),
    ("grouped_conv2d_input_grad", "(from_top - i) / STRIDE", "from_top / STRIDE"),
    ("grouped_conv2d_input_grad", "four / STRIDE * (4u * STRIDE)", "four / STRIDE * 4u"),
    ("grouped_conv2d_weight_grad", "j + 1u, column, local", "j, column, local"),
    ("grouped_conv2d_weight_grad", "group.z / across", "0u"),
    ("cutmix", "place + 1.0", "place"),
    ("cutmix", "share = 1.0 - sides.x", "share = 1.0 + sides.x"),
    ("cutmix", "unit(numbers).zw", "unit(numbers).wz"),
    ("cutout", "number % 2u", "0u"),
    ("cutout", "row < SIZE &&", ""),
    ("cutout", "- SIDE / 2u + i % SIDE", "+ i % SIDE"),
    ("dropout", "v.y += v.z * v.x", "v.y += v.z"),
    ("dropout", "step[0], i)", "step[0], i / 4u)"),
    ("dropout", "chance < vec4(RATE)", "chance < vec4(0.4)"),
    ("fold_batch_norm", "old - mean[column]", "old + mean[column]"),
    ("fold_batch_norm", "bias[column], HAS_BIAS", "bias[column], !HAS_BIAS"),
    ("global_average_pool", "2u * rows.step", "rows.step"),
    ("global_average_pool", "/ f32(SPAN)", ""),
    ("global_average_pool_grad", "i % COLUMNS", "0u"),
    ("matmul", "depths < vec4<u32>(DEPTH)", "depths < vec4<u32>(SLICE)"),
    ("matmul", "depths.y * ROWS", "depths.x * ROWS"),
    ("matmul", "number * DEPTH * COLUMNS", "0u"),
    ("matmul", "line_of(row, slice) + column", "line_of(row, 0u) + column"),
    ("max_pool", "value > largest", "value < largest"),
    ("max_pool", "clamp(window * STRIDE + i, PADDING, PADDING + size - 1u) - PADDING", "window * STRIDE + i"),
    ("max_pool_grad", "tap < before", "tap + 1u < before"),
    ("max_pool_grad", "p <= min(h / STRIDE", "p < min(h / STRIDE"),
    ("max_pool_grad", "row < HEIGHT && pixel < WIDTH", "true"),
    ("max_pool_grad", "% HEIGHT + PADDING", "% HEIGHT"),
    ("mixup", "distance) % BATCH", "distance + 1u) % BATCH"),
    ("mixup", "1.0 / ALPHA", "ALPHA"),
    ("mixup", "s / 20.0", "s / 10.0"),
    ("mixup", "|| labels[other] == IGNORE", ""),
    ("moments", "away * share", "away"),
    ("moving_average", "SCALE * x[i]", "x[i]"),
    ("relu", "case 10u: { return max(x, Value(0.0));", "case 10u: { return x;"),
    ("resize", "+ 0.5) *", ") *"),
    ("resize", "rows.share", "columns.share"),
    ("sgd", "NESTEROV)", "!NESTEROV)"),
    ("slice", "row * ROW_FROM + FROM", "row * ROW_FROM"),
    ("softmax_cross_entropy", "largest_at[b] < largest_at[a]", "true"),
    ("softmax_cross_entropy", "label == IGNORE", "false"),
    ("softmax_cross_entropy", "SMOOTHING * log_mean", "SMOOTHING * log_own"),
    ("softmax_cross_entropy", "shares[row] < 0.5", "false"),
    ("softmax_cross_entropy", "(1.0 - shares[row]) * log_other", "log_other"),
    ("softmax_cross_entropy", "row += 256u", "row += 512u"),
    ("softmax_cross_entropy", "c += LANES", "c += 2u * LANES"),
    ("softmax_cross_entropy_grad", "f32(labels[other] != IGNORE)", "1.0"),
    ("softmax_cross_entropy_grad", "f32(c == others[row])", "0.0"),
    ("softmax_cross_entropy_grad", "0.0, label == IGNORE", "0.0, false"),
    ("softmax_cross_entropy_grad", "half >= 256u / LANES", "half > 256u / LANES"),
    ("sum_rows", "tree[local] += tree[local + half]", "tree[local] = tree[local + half]"),
    ("sum_rows", "row < rows.end)", "true)"),
    ("sum_rows", "block += 256u", "block += 512u"),
    ("sum_squares", "x[i] * x[i]", "x[i]"),
    ("sum_squares", "i += GROUPS * 256u", "i += LENGTH"),
    ("sum_squares", "i < GROUPS", "i < 1u"),
    // Elementwise functions and what goes with them.
    ("abs", "return abs(x);", "return x;"),
    ("add_broadcast", "return x + y;", "return x - y;"),
    ("div", "return x / y;", "return x * y;"),
    ("equal", "default: { return f32(x == y);", "default: { return f32(x != y);"),
    ("erf", "1.421413741", "1.4"),
    ("exp", "case 2u: { return exp(x);", "case 2u: { return exp(-x);"),
    ("expand", "i % AFTER", "0u"),
    ("gelu", "0.70710678", "0.7"),
    ("gelu_tanh", "0.044715 *", "0.04 *"),
    ("hard_swish", "clamp(x + 3.0", "clamp(x + 2.0"),
    ("less", "0.5 * f32(x == y)", "f32(x == y)"),
    ("ln", "return log(x);", "return log2(x);"),
    ("max", "return select(x, y, y > x);", "return x;"),
    ("min", "return select(x, y, y < x);", "return x;"),
    ("mul", "return x * y;", "return x;"),
    ("mul", "i % COLUMNS", "i / COLUMNS"),
    ("neg", "return -x;", "return x;"),
    ("reduce_max", "element > total", "element < total"),
    ("reduce_mean", "KIND == 1u)", "KIND == 9u)"),
    ("reduce_sum", "total += element", "total = element"),
    ("reduce_sum", "output % AFTER", "0u"),
    (
        "relu6",
        "case 11u: { return clamp(x, Value(0.0), Value(6.0));",
        "case 11u: { return clamp(x, Value(0.0), Value(5.0));",
    ),
    ("rsqrt", "return 1.0 / sqrt(x);", "return sqrt(x);"),
    ("scale", "FACTOR * y[i]", "y[i]"),
    ("sigmoid", "1.0 / (1.0 + exp(-x))", "1.0 / (1.0 + exp(x))"),
    ("silu", "return x * sigmoid_of(x);", "return sigmoid_of(x);"),
    ("sqrt", "case 4u: { return sqrt(x);", "case 4u: { return x;"),
    ("square", "case 6u: { return x * x;", "case 6u: { return x;"),
    ("sub", "return x - y;", "return y - x;"),
    ("tanh", "Value(15.0)", "Value(1.0)"),
    // Their derivatives.
    ("abs_grad", "return sign(v);", "return v;"),
    ("erf_grad", "1.12837917", "1.1"),
    ("exp_grad", "case 2u: { return v;", "case 2u: { return -v;"),
    ("gelu_grad", "0.39894228", "0.4"),
    ("gelu_tanh_grad", "0.134145", "0.13"),
    ("hard_swish_grad", "(2.0 * v + 3.0)", "(v + 3.0)"),
    ("ln_grad", "case 3u: { return 1.0 / v;", "case 3u: { return v;"),
    ("neg_grad", "return Value(-1.0);", "return Value(1.0);"),
    ("relu_grad", "case 10u: { return indicator(v > Value(0.0));", "case 10u: { return indicator(v > v);"),
    ("relu6_grad", "(v < Value(6.0))", "(v < Value(5.0))"),
    ("rsqrt_grad", "-0.5 * v * v * v", "0.5 * v * v * v"),
    ("sigmoid_grad", "return v * (1.0 - v);", "return v;"),
    ("silu_grad", "s + v * s * (1.0 - s)", "s + v * s"),
    ("sqrt_grad", "return 0.5 / v;", "return 1.0 / v;"),
    ("square_grad", "return v + v;", "return v;"),
    ("tanh_grad", "return 1.0 - v * v;", "return 1.0 - v;"),
];

/// A product computed in given tiles: with vectors, or transposed, without them, in slices of the
/// depth.
fn tiled(tile: Tile, plain: bool) -> Case {
    let (rows, columns, depth) =
        (tile.rows + 5, tile.columns + if plain { 12 } else { 7 }, if plain { 40 } else { 37 });
    let matmul = Matmul { a_transposed: !plain, b_transposed: !plain };
    let (a, b) = if plain { ([rows, depth], [depth, columns]) } else { ([depth, rows], [columns, depth]) };
    let tiling = Tiling { tile, slice: if plain { 48 } else { 16 } };
    let work = move |types: &Types| matmul.tiled(types).dispatches(tiling);
    let inputs = [&a[..], &b, &[columns]].map(|dims| (TensorType::f32(dims), Fill::Uniform(-1.0, 1.0)));
    let op = Arc::new(Altered { op: Arc::new(matmul), work });
    Case { op, inputs: inputs.to_vec(), differentiable: Vec::new() }
}

/// Which tile a product gets depends on its size, and most cases are small.
#[test]
fn every_tile_matches_the_reference() {
    let Some(mut gpu) = gpu::open() else { return };
    for tile in TILES {
        for plain in [true, false] {
            check_gpu(&mut gpu, &tiled(tile, plain)).unwrap_or_else(|error| panic!("{tile:?}: {error}"));
        }
    }
    for (plain, from, to) in [
        (true, "left, right);", "left, left);"),
        (true, "third < blocks { next_3", "false { next_3"),
        (false, "slice += WAYS", "slice += 2u * WAYS"),
    ] {
        let case = |tile: &Tile| tiled(*tile, plain);
        let noticed = TILES.iter().map(case).any(|case| {
            let case = Case { op: corrupted(case.op.clone(), from, to), ..case };
            check_gpu(&mut gpu, &case).is_err_and(|error| error.contains("off by"))
        });
        assert!(noticed, "{from}");
    }
}

/// Whether a case of an op fails, when one text in its shaders has been replaced by another.
fn is_noticed(gpu: &mut dyn Device, name: &str, from: &'static str, to: &'static str) -> bool {
    let cases = ops::cases().into_iter().filter(|case| case.op.name() == name && case.has_shaders());
    cases.into_iter().any(|case| {
        let case = Case { op: corrupted(case.op.clone(), from, to), ..case };
        check_gpu(gpu, &case).is_err_and(|error| error.contains("off by"))
    })
}

#[test]
fn the_check_notices_a_corrupted_shader() {
    let Some(mut gpu) = gpu::open() else { return };
    let planted: BTreeSet<&str> = ERRORS.iter().map(|(name, ..)| *name).collect();
    for case in cases().iter().filter(|case| case.has_shaders()) {
        let name = case.op.name();
        assert!(planted.contains(name), "no error is planted into {name}");
    }
    let missed: Vec<_> =
        ERRORS.iter().filter(|(name, from, to)| !is_noticed(&mut gpu, name, from, to)).collect();
    assert!(missed.is_empty(), "not noticed: {missed:?}");
}

/// Puts the op between two additions, so that its inputs are computed and the gradient that reaches
/// it is neither 1 nor uniform, and compares the differentiated graph with central differences.
fn check_gradient(case: &Case) -> std::result::Result<(), String> {
    let mut graph = Graph::new();
    let mut feeds = Values::new();
    let (mut leaves, mut inputs) = (Vec::new(), Vec::new());
    for (i, (ty, _)) in case.inputs.iter().enumerate() {
        let leaf = graph.input(&format!("in{i}"), ty.clone());
        let double = case.differentiable.contains(&i);
        inputs.push(if double { graph.apply1(Add, &[leaf, leaf]).unwrap() } else { leaf });
        let halve = if double { 0.5 } else { 1.0 };
        feeds.insert(leaf, case.values(i).iter().map(|v| v * halve).collect());
        leaves.push(leaf);
    }
    let y = graph.apply_shared(case.op.clone(), &inputs).unwrap()[0];
    let loss = graph.apply1(Add, &[y, y]).unwrap();
    let seed = graph.input("seed", graph.ty(y).clone());
    feeds.insert(seed, (0..graph.ty(y).len()).map(|i| ((i * 37 + 11) % 17) as f64 / 8.0 - 1.1).collect());
    let forward = graph.clone();

    let wanted: Vec<Value> = case.differentiable.iter().map(|&i| leaves[i]).collect();
    let gradients = differentiate(&mut graph, &[(loss, seed)], &wanted).map_err(|e| e.to_string())?;
    let values = evaluate(&graph, feeds.clone());
    let objective = |feeds: Values| {
        let values = evaluate(&forward, feeds);
        values[&loss].iter().zip(&values[&seed]).map(|(y, dy)| y * dy).sum::<f64>()
    };
    for (&leaf, gradient) in wanted.iter().zip(gradients) {
        let analytic = &values[&gradient];
        let numeric = |i: usize| {
            let moved = |by: f64| {
                let mut feeds = feeds.clone();
                feeds.get_mut(&leaf).unwrap()[i] += by;
                objective(feeds)
            };
            (moved(1e-5) - moved(-1e-5)) / 2e-5
        };
        // At most 40 elements, spread over the tensor.
        let some: Vec<usize> = (0..analytic.len()).step_by(analytic.len().div_ceil(40)).collect();
        let found: Vec<f64> = some.iter().map(|&i| analytic[i]).collect();
        let expected: Vec<f64> = some.iter().map(|&i| numeric(i)).collect();
        let distance = distance(&found, &expected);
        if distance > GRADIENT_TOLERANCE {
            return Err(format!("the gradient of {case:?} with respect to {leaf:?} is off by {distance:e}"));
        }
    }
    Ok(())
}

#[test]
fn gradients_match_finite_differences_mid_graph() {
    for case in cases().into_iter().filter(|case| !case.differentiable.is_empty()) {
        check_gradient(&case).unwrap();
    }
}

/// ReLU with one thing wrong.
#[derive(Debug)]
struct Broken {
    gradient: bool,
    kernel: bool,
    threads: bool,
}

impl Op for Broken {
    fn name(&self) -> &'static str {
        "broken"
    }

    fn output_types(&self, inputs: &[&TensorType]) -> std::result::Result<Vec<TensorType>, String> {
        Ok(vec![inputs[0].clone()])
    }

    fn gradient(
        &self,
        graph: &mut Graph,
        node: &Node,
        grads: &[Option<Value>],
        needed: &[bool],
    ) -> Gradients {
        if self.gradient {
            // Passes dy on as if the slope were 1 everywhere.
            return Ok(vec![grads[0]]);
        }
        Unary { function: Function::Relu }.gradient(graph, node, grads, needed)
    }

    fn cpu(&self, _: &Types, target: CpuTarget) -> CpuStep {
        let off = if self.kernel { 1e-3 } else { 0.0 };
        let factor = if self.threads { 1.0 + 1e-6 * target.threads as f32 } else { 1.0 };
        CpuStep::new(move |args| {
            let x = args.inputs[0];
            let (y, _) = args.output();
            y.iter_mut().zip(x).for_each(|(y, x)| *y = factor * x.max(0.0));
            y[0] += off;
        })
    }

    /// Runs on the CPU only.
    fn gpu(&self, _: &Types) -> Dispatches {
        Dispatches::default()
    }

    fn reference(&self, types: &Types, inputs: &[Vec<f64>]) -> Vec<Vec<f64>> {
        Unary { function: Function::Relu }.reference(types, inputs)
    }
}

#[test]
fn the_checks_notice_a_wrong_kernel_a_wrong_gradient_and_a_dependence_on_threads() {
    let case = |gradient, kernel, threads| {
        let op = Arc::new(Broken { gradient, kernel, threads });
        let inputs = vec![(TensorType::f32([3, 7]), Fill::AwayFromZero)];
        Case { op, inputs, differentiable: vec![0] }
    };
    let isa = Isa::detect();
    assert!(
        check_cpu(&case(false, false, false), isa).is_ok()
            && check_gradient(&case(false, false, false)).is_ok()
    );
    assert!(check_cpu(&case(false, true, false), isa).unwrap_err().contains("off by"));
    assert!(check_cpu(&case(false, false, true), isa).unwrap_err().contains("threads"));
    assert!(check_gradient(&case(true, false, false)).unwrap_err().contains("gradient"));
}

/// What has no gradient says so, and what does not matter to the loss is not silently zero.
#[test]
fn differentiate_refuses_what_it_cannot_do() {
    let mut graph = Graph::new();
    let x = graph.input("x", TensorType::f32([4, 3]));
    let other = graph.input("other", TensorType::f32([2]));
    let y = graph.apply1(ops::sum_rows::SumRows, &[x]).unwrap();
    let seed = graph.input("seed", TensorType::f32([3]));
    let error = |result: Result<Vec<Value>>| result.unwrap_err().to_string();
    assert!(error(differentiate(&mut graph, &[(y, seed)], &[x])).contains("has no gradient"));
    assert!(error(differentiate(&mut graph, &[(y, seed)], &[other])).contains("does not influence"));
}

#[test]
fn a_shape_error_names_the_op_the_layer_and_the_shapes() {
    let mut graph = Graph::new();
    graph.set_layer("block3");
    let a = graph.input("a", TensorType::f32([4, 3]));
    let b = graph.input("b", TensorType::f32([3, 4]));
    let message = graph.apply(Add, &[a, b]).unwrap_err().to_string();
    assert_eq!(message, "add 'block3': the two inputs must have one shape (inputs f32[4, 3], f32[3, 4])");
}
