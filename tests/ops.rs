//! Every op against its f64 reference on every instruction set and thread count and on a GPU, and
//! every gradient rule against finite differences, mid-graph.
//!
//! `CIFAR_ENGINE_OP=conv2d` leaves only the cases of one op.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cifar_engine::error::Result;
use cifar_engine::exec::Device;
use cifar_engine::exec::cpu::Cpu;
use cifar_engine::grad::differentiate;
use cifar_engine::graph::{Graph, Node, Value};
use cifar_engine::kernels::simd::Isa;
use cifar_engine::ops::cpu_step::{CpuArgs, CpuStep, CpuTarget, with_inputs};
use cifar_engine::ops::dispatch::Dispatches;
use cifar_engine::ops::linear::matmul::Matmul;
use cifar_engine::ops::linear::sum_rows::SumRows;
use cifar_engine::ops::linear::tile::{TILES, TileShape, Tiling};
use cifar_engine::ops::map::unary::Unary;
use cifar_engine::ops::{Axis, Function, Gradients, Op, Types};
use cifar_engine::selftest::case::{Case, Fill};
use cifar_engine::selftest::cases;
use cifar_engine::selftest::check::{self, GRADIENT_TOLERANCE, TOLERANCE, reference};
use cifar_engine::selftest::probe::{distance, run_case};
use cifar_engine::tensor::{DType, TensorType};
use common::gpu::{self, Altered, corrupted, littered};
use ndarray::{ArrayD, ArrayViewD};

/// What bands of rows are computed for.
const BANDS: CpuTarget = CpuTarget { isa: Isa::Portable, threads: 2 };

/// The cases under test.
fn cases() -> Vec<Case> {
    let wanted = std::env::var("CIFAR_ENGINE_OP");
    let chosen = |case: &Case| wanted.as_ref().map_or(true, |name| name == case.op.name());
    cases::all().into_iter().filter(chosen).collect()
}

/// The types that implement [`Op`] in a folder, by the text of its files.
fn implementors(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let names = |path: PathBuf| {
        if path.is_dir() {
            return implementors(&path);
        }
        implementors_in(&fs::read_to_string(&path).unwrap())
    };
    entries.flat_map(names).collect()
}

/// The types that implement [`Op`] in a file.
fn implementors_in(text: &str) -> BTreeSet<String> {
    let name = |line: &str| Some(line.strip_prefix("impl Op for ")?.strip_suffix(" {")?.to_string());
    text.lines().filter_map(name).collect()
}

#[test]
fn every_op_has_cases() {
    // A view of its input: there is nothing to run.
    let view = "Reshape".to_string();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/ops");
    let name = |case: Case| format!("{:?}", case.op).split([' ', '(']).next().unwrap().to_string();
    let with_cases: BTreeSet<String> = cases::all().into_iter().map(name).chain([view]).collect();
    let implementors = implementors(&folder);
    assert_eq!(with_cases, implementors);
    // One more would be noticed.
    let more = implementors_in("impl Op for Unheard {\n    fn name(&self)");
    assert!(more.len() == 1 && !with_cases.is_superset(&more));
}

fn run_cpu(case: &Case, isa: Isa, threads: usize) -> Vec<ArrayD<f64>> {
    run_case(&mut Cpu::new(threads, isa).unwrap(), case, 1).unwrap()
}

/// Compares the outputs of a case with its reference.
fn compare(
    device: &str,
    case: &Case,
    found: &[ArrayD<f64>],
    tolerance: f64,
) -> std::result::Result<(), String> {
    let types = case.types().outputs;
    for (i, (found, expected)) in found.iter().zip(&reference(case).unwrap()).enumerate() {
        let distance = distance(types[i].dtype, found, expected);
        if distance > tolerance {
            return Err(format!("{device}: output {i} of {case:?} is off by {distance:e}"));
        }
    }
    Ok(())
}

fn check_cpu(case: &Case, isa: Isa) -> std::result::Result<(), String> {
    let found = run_cpu(case, isa, 2);
    compare(&isa.to_string(), case, &found, TOLERANCE)?;
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
    compare("gpu", case, &found, TOLERANCE)?;
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

/// An error that a shader's file says is to be planted into the line below, for an op whose cases
/// must notice it: `//~ OP: TEXT => OTHER TEXT`.
struct Planted {
    file: String,
    op: String,
    /// The line as it is, and with the error.
    from: &'static str,
    to: &'static str,
}

/// All errors of all shaders.
fn planted() -> Vec<Planted> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("shaders");
    let folders = [root.clone(), root.join("include")];
    let files = folders.iter().flat_map(|folder| fs::read_dir(folder).unwrap());
    let files = files.map(|file| file.unwrap().path());
    let shaders = files.filter(|path| path.extension().is_some_and(|extension| extension == "wgsl"));
    shaders.flat_map(|path| planted_in(&path)).collect()
}

fn planted_in(path: &Path) -> Vec<Planted> {
    let file = path.file_name().unwrap().to_string_lossy().into_owned();
    let text: &'static str = fs::read_to_string(path).unwrap().leak();
    let lines: Vec<&'static str> = text.lines().map(str::trim).collect();
    let marks = lines.iter().enumerate().filter_map(|(i, line)| Some((i, line.strip_prefix("//~ ")?)));
    let error = |(i, mark): (usize, &str)| {
        let parts = mark.split_once(": ").and_then(|(op, change)| Some((op, change.split_once(" =>")?)));
        let (op, (text, other)) = parts.unwrap_or_else(|| panic!("{file}: what is '{mark}'?"));
        let from = lines[i..].iter().find(|line| !line.starts_with("//")).unwrap();
        assert!(from.contains(text), "{file}: '{text}' is not in the line below");
        let to = from.replace(text, other.trim()).leak();
        Planted { file: file.clone(), op: op.to_string(), from, to }
    };
    marks.map(error).collect()
}

/// A product computed in given tiles: with vectors, or transposed, without them, in slices of the
/// depth.
fn tiled(tile: TileShape, plain: bool) -> Case {
    let (rows, columns, depth) =
        (tile.rows + 5, tile.columns + if plain { 12 } else { 7 }, if plain { 40 } else { 37 });
    let matmul = Matmul { a_transposed: !plain, b_transposed: !plain, ..Matmul::default() };
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
        (true, "third < blocks { put", "false { put"),
        (false, "slice += WAYS", "slice += 2u * WAYS"),
    ] {
        let case = |tile: &TileShape| tiled(*tile, plain);
        let noticed = TILES.iter().map(case).any(|case| {
            let case = Case { op: corrupted(case.op.clone(), from, to), ..case };
            check_gpu(&mut gpu, &case).is_err_and(|error| error.contains("off by"))
        });
        assert!(noticed, "{from}");
    }
}

/// Whether a case of an op fails, when one text in its shaders has been replaced by another; not
/// every case needs to run the shader that has it. First come those that do something by it that
/// the cases before them do not, and of these those of few launches, each of which is compiled.
fn is_noticed(gpu: &mut dyn Device, name: &str, from: &'static str, to: &'static str) -> bool {
    let mut known = BTreeSet::new();
    let mut has_it = |case: &Case| {
        let list = case.op.gpu(&case.types()).list;
        let mut with_it = list.iter().filter(|dispatch| dispatch.shader.text().contains(from)).peekable();
        with_it.peek()?;
        let parts = ["BIAS", "OTHER", "KEPT", "GATHER", "SCALED"];
        let of_parts =
            with_it.flat_map(|dispatch| &dispatch.constants).filter(|(name, _)| parts.contains(name));
        Some(known.insert(format!("{:?}", of_parts.collect::<Vec<_>>())))
    };
    let mut cases: Vec<Case> = cases::all().into_iter().filter(|case| case.op.name() == name).collect();
    cases.sort_by_key(|case| case.op.gpu(&case.types()).list.len());
    let cases: Vec<(bool, Case)> =
        cases.into_iter().filter_map(|case| Some((has_it(&case)?, case))).collect();
    let (new, known): (Vec<_>, Vec<_>) = cases.into_iter().partition(|(is_new, _)| *is_new);
    new.into_iter().chain(known).any(|(_, case)| {
        let case = Case { op: corrupted(case.op.clone(), from, to), ..case };
        check_gpu(gpu, &case).is_err_and(|error| error.contains("off by"))
    })
}

#[test]
fn the_check_notices_a_corrupted_shader() {
    let Some(mut gpu) = gpu::open() else { return };
    let planted = planted();
    let ops: BTreeSet<&str> = planted.iter().map(|error| error.op.as_str()).collect();
    let cases = cases();
    for case in cases.iter().filter(|case| case.has_shaders()) {
        let name = case.op.name();
        assert!(ops.contains(name), "no error is planted into {name}");
        for dispatch in case.op.gpu(&case.types()).list {
            let file = format!("{}.wgsl", dispatch.shader.name);
            assert!(planted.iter().any(|error| error.file == file), "no error is planted into {file}");
        }
    }
    let tested: BTreeSet<&str> = cases.iter().map(|case| case.op.name()).collect();
    let is_missed = |error: &&Planted| {
        tested.contains(&*error.op) && !is_noticed(&mut gpu, &error.op, error.from, error.to)
    };
    let missed =
        planted.iter().filter(is_missed).map(|error| format!("{}, {}: {}", error.file, error.op, error.to));
    let missed: Vec<String> = missed.collect();
    assert!(missed.is_empty(), "not noticed: {missed:?}");
}

/// The driver does not clear the memory that a workgroup shares (`exec/gpu/pipelines.rs`).
#[test]
fn no_shader_reads_what_its_workgroup_did_not_write() {
    let Some(mut gpu) = gpu::open() else { return };
    let shares = |case: &Case| {
        case.op.gpu(&case.types()).list.iter().any(|work| work.shader.text().contains("var<workgroup>"))
    };
    let cases: Vec<Case> = cases().into_iter().filter(shares).collect();
    for case in &cases {
        let case = Case { op: littered(case.op.clone()), ..case.clone() };
        check_gpu(&mut gpu, &case).unwrap();
    }
    // A sum that leaves out zeros is right in memory that begins with zeros, and wrong in rubbish.
    let mut skips_zeros = |case: &&Case| {
        let (store, skip) = ("tree[local] = value;", "if any(value != Value()) { tree[local] = value; }");
        let op = littered(corrupted(case.op.clone(), store, skip));
        check_gpu(&mut gpu, &Case { op, ..(*case).clone() }).is_err_and(|error| error.contains("off by"))
    };
    let all = cases::all();
    assert!(all.iter().filter(|case| case.op.name() == "sum_rows").any(|case| skips_zeros(&case)));
}

/// The op's first output for these inputs.
fn output(op: &dyn Op, types: &Types, inputs: &[&[f32]]) -> Vec<f32> {
    let work = op.cpu(types, BANDS);
    let mut y = vec![f32::NAN; types.outputs[0].len()];
    let mut scratch = vec![f32::NAN; work.scratch];
    with_inputs(inputs.iter().copied(), |inputs| {
        let mut args = CpuArgs { inputs, outputs: Default::default(), packed: &[], scratch: &mut scratch };
        args.outputs[0] = &mut y;
        (work.run)(&mut args);
    });
    y
}

/// Of a case with its batch cut down to one image: every band of one, two or three rows has the
/// bits of the whole; `None` if the op has no bands.
fn check_rows(case: &Case) -> Option<()> {
    let mut inputs: Vec<TensorType> = case.inputs.iter().map(|(ty, _)| ty.clone()).collect();
    let dims = inputs[0].dims().to_vec();
    inputs[0] = TensorType { shape: [1, dims[1], dims[2], dims[3]].into(), dtype: DType::F32 };
    let outputs = case.op.output_types(&inputs.iter().collect::<Vec<_>>()).ok()?;
    let types = Types { inputs, outputs };
    let own = |(i, ty): (usize, &TensorType)| {
        case.values(i).iter().take(ty.len()).map(|value| *value as f32).collect()
    };
    let values: Vec<Vec<f32>> = types.inputs.iter().enumerate().map(own).collect();
    let mut slices: Vec<&[f32]> = values.iter().map(Vec::as_slice).collect();
    case.op.tile(&types, Axis::Rows, 0..1)?;
    let whole = output(&*case.op, &types, &slices);
    let height = types.outputs[0].dims()[1];
    let (in_row, out_row) = (types.inputs[0].len() / dims[1], whole.len() / height);
    for (first, count) in (0..height).flat_map(|first| [(first, 1), (first, 2), (first, 3)]) {
        let rows = first..(first + count).min(height);
        let expected = &whole[rows.start * out_row..rows.end * out_row];
        let tile = case.op.tile(&types, Axis::Rows, rows.clone())?;
        slices[0] = &values[0][tile.input.start * in_row..tile.input.end * in_row];
        let found = output(&*tile.op, &tile.types, &slices);
        assert!(found == expected, "rows {rows:?} of {:?} {types:?}", case.op);
    }
    Some(())
}

#[test]
fn a_band_of_rows_has_the_bits_of_the_whole() {
    for name in ["conv2d", "grouped_conv2d", "separable_conv2d"] {
        let splits = |case: &Case| case.op.cpu(&case.types(), BANDS).splits;
        let cases = cases::all().into_iter().filter(|case| case.op.name() == name && splits(case));
        let checked = cases.filter_map(|case| check_rows(&case)).count();
        assert!(checked >= 10, "{name}: {checked} cases have bands");
    }
}

fn check_gradient(case: &Case) -> std::result::Result<(), String> {
    match check::gradient(case).unwrap() {
        distance if distance > GRADIENT_TOLERANCE => {
            Err(format!("the gradient of {case:?} is off by {distance:e}"))
        }
        _ => Ok(()),
    }
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

    fn reference(&self, inputs: &[ArrayViewD<f64>]) -> Vec<ArrayD<f64>> {
        Unary { function: Function::Relu }.reference(inputs)
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

/// What an op of a program's own may get wrong, each an error of its check.
#[test]
fn the_check_of_an_own_op_says_what_is_wrong() {
    #[derive(Debug)]
    enum Wrong {
        Shape,
        Count,
        Gradient,
        NoNumber,
    }

    impl Op for Wrong {
        fn name(&self) -> &'static str {
            "wrong"
        }

        fn output_types(&self, inputs: &[&TensorType]) -> std::result::Result<Vec<TensorType>, String> {
            Ok(vec![inputs[0].clone()])
        }

        fn gradient(&self, graph: &mut Graph, _: &Node, _: &[Option<Value>], _: &[bool]) -> Gradients {
            Ok(vec![Some(graph.constant(1.0, [7])?)])
        }

        fn reference(&self, inputs: &[ArrayViewD<f64>]) -> Vec<ArrayD<f64>> {
            match self {
                Wrong::Shape => vec![ArrayD::zeros(vec![1])],
                Wrong::Count => Vec::new(),
                Wrong::Gradient | Wrong::NoNumber => vec![inputs[0].to_owned()],
            }
        }

        fn cpu(&self, _: &Types, _: CpuTarget) -> CpuStep {
            let no_number = matches!(self, Wrong::NoNumber);
            CpuStep::new(move |args| {
                let x = args.inputs[0];
                args.output().0.copy_from_slice(x);
                args.output().0[0] = if no_number { f32::NAN } else { x[0] };
            })
        }

        fn gpu(&self, _: &Types) -> Dispatches {
            Dispatches::default()
        }
    }

    let mut cpu = Cpu::new(1, Isa::Portable).unwrap();
    for (op, part, asked) in [
        (Wrong::Shape, "reference of other outputs", 0),
        (Wrong::Count, "reference of other outputs", 0),
        (Wrong::Gradient, "has a gradient f32[7] of its input f32[3, 7]", 0),
        (Wrong::NoNumber, "off by inf", 0),
        (Wrong::Gradient, "has not the inputs", 5),
    ] {
        let case = Case::new(op, vec![(TensorType::f32([3, 7]), Fill::AwayFromZero)]);
        let message = check::check(&mut cpu, &case.differentiable(&[asked])).unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
    }
}

/// What has no gradient says so, and what does not matter to the loss is not silently zero.
#[test]
fn differentiate_refuses_what_it_cannot_do() {
    let mut graph = Graph::new();
    let x = graph.input("x", TensorType::f32([4, 3]));
    let other = graph.input("other", TensorType::f32([2]));
    let y = graph.apply1(SumRows, &[x]).unwrap();
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
    let message = graph.add(a, b).unwrap_err().to_string();
    assert_eq!(
        message,
        "add 'block3': the two must have one shape, or one be a vector along the other's last axis or a single value (inputs f32[4, 3], f32[3, 4])"
    );
}
