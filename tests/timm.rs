//! MobileNets and ResNet-18 against timm: logits and activations of inference; logits, loss,
//! activations, every gradient and the running statistics of a training step, on every instruction
//! set. `tools/timm_goldens.py` writes the files; they are committed, and these tests fail without
//! them. Weights and images are seeded hashes, the same there and here. Then real weights, where
//! `CIFAR_ENGINE_TEST_WEIGHTS` says they are.

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cifar_engine::exec::Device;
use cifar_engine::exec::cpu::Cpu;
use std::any::Any;

use cifar_engine::exec::cpu::rules::RULES;
use cifar_engine::exec::plan::Plan;
use cifar_engine::grad::differentiate;
use cifar_engine::graph::rewrite::rewrite;
use cifar_engine::graph::{Graph, Node, Value};
use cifar_engine::kernels::simd::Isa;
use cifar_engine::models::LoadedModel;
use cifar_engine::models::mobilenet_v1::MOBILENET_V1;
use cifar_engine::models::mobilenet_v2::MOBILENET_V2;
use cifar_engine::models::pretrained::Attributes;
use cifar_engine::models::resnet18::RESNET18;
use cifar_engine::models::{Architecture, Calibration, PaddingStyle, Spec, Training, Variant, Views};
use cifar_engine::nn::{Builder, Mode, Norm, Parameter};
use cifar_engine::ops::Op;
use cifar_engine::ops::conv::{Conv, Output};
use cifar_engine::ops::loss::softmax_cross_entropy::SoftmaxCrossEntropy;
use cifar_engine::tensor::TensorType;
use cifar_engine::train::evaluate::EvalOptions;
use cifar_engine::train::plans;
use cifar_engine::train::settings::Settings;
use cifar_engine::weights::{self, layout};
use common::gpu;

const BATCH: usize = 2;
const SIZE: usize = 57;
const CLASSES: usize = 10;

/// How far a tensor may be off, relative to its largest magnitude: float32 rounding through fifty
/// layers there and back, with statistics of as few as eight numbers in the last of them.
const TOLERANCE: f64 = 1e-3;

/// The same for the logits of inference.
const LOGITS: f64 = 1e-4;

/// Magnitudes below this count as this: the shift of a linear bottleneck has no effect, because a
/// batch norm takes it away again, and a gradient of pure rounding.
const FLOOR: f64 = 0.05;

/// Tensors by name.
type Tensors = BTreeMap<String, Vec<f32>>;

/// What timm found, and the images it was given.
fn goldens(name: &str) -> (Tensors, Vec<f32>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/goldens/{name}.safetensors"));
    let file = weights::load(path).expect("run tools/timm_goldens.py");
    let images = images(&file.metadata["pictures"]);
    (file.tensors.into_iter().map(|(name, tensor)| (name, tensor.data)).collect(), images)
}

fn spec(name: &str) -> Spec {
    let (architecture, width, padding, epsilon): (&Architecture, _, _, _) = match name {
        "mobilenet_v1_same" => (&MOBILENET_V1, 0.25, PaddingStyle::Same, 1e-3),
        "mobilenet_v1_symmetric" => (&MOBILENET_V1, 0.25, PaddingStyle::Symmetric, 1e-5),
        "mobilenet_v2" => (&MOBILENET_V2, 0.35, PaddingStyle::Symmetric, 1e-5),
        _ => (&RESNET18, 1.0, PaddingStyle::Symmetric, 1e-5),
    };
    Spec {
        architecture,
        classes: (0..CLASSES).map(|class| class.to_string()).collect(),
        image_size: SIZE,
        variant: Variant { input_size: SIZE, width, padding },
        mean: [0.0; 3],
        std: [1.0; 3],
        norm: Norm { epsilon, momentum: 0.1 },
        views: Views::default(),
        calibration: Calibration::default(),
        data: "hashes".into(),
    }
}

/// Numbers in [0, 1): FNV-1a of the name seeds one 32-bit hash an element.
fn uniform(name: &str, count: usize) -> Vec<f64> {
    let fnv = |seed: u32, byte: u8| (seed ^ u32::from(byte)).wrapping_mul(16_777_619);
    let seed = name.bytes().fold(2_166_136_261, fnv);
    let element = |i: u32| {
        let mut x = i.wrapping_mul(2_654_435_761).wrapping_add(seed);
        x = (x ^ x >> 16).wrapping_mul(0x7FEB_352D);
        x = (x ^ x >> 15).wrapping_mul(0x846C_A68B);
        f64::from((x ^ x >> 16) >> 8) / f64::from(1 << 24)
    };
    (0..count as u32).map(element).collect()
}

/// A parameter's initial values, in the engine's layout.
fn initial(p: &Parameter) -> Vec<f32> {
    let shape = layout::disk_shape(p.layout, p.shape.dims()).unwrap();
    let positive = p.name.ends_with("running_var") || p.name.ends_with("weight");
    let bound = (6.0 / shape[1..].iter().product::<usize>() as f64).sqrt();
    let value = |u: f64| match (shape.len() > 1, positive) {
        (true, _) => (2.0 * u - 1.0) * bound,
        (false, true) => 0.5 + u,
        (false, false) => u - 0.5,
    };
    let values: Vec<f32> = uniform(&p.name, p.shape.len()).into_iter().map(|u| value(u) as f32).collect();
    layout::from_disk(p.layout, &shape, &values).unwrap().1
}

/// Values as the golden file keeps them: in PyTorch's layout, and of a large tensor only some.
fn kept(p: &Parameter, values: &[f32]) -> Vec<f32> {
    some(&layout::to_disk(p.layout, p.shape.dims(), values).unwrap().1)
}

fn some(values: &[f32]) -> Vec<f32> {
    values.iter().step_by((values.len() / 256).max(1)).copied().collect()
}

/// Images `[N, H, W, C]` from PyTorch's `[N, C, H, W]`.
fn images(name: &str) -> Vec<f32> {
    let planes: Vec<f32> =
        uniform(name, BATCH * 3 * SIZE * SIZE).iter().map(|u| (2.0 * u - 1.0) as f32).collect();
    let pixels = SIZE * SIZE;
    let at = |i: usize| planes[(i / 3 / pixels * 3 + i % 3) * pixels + i / 3 % pixels];
    (0..planes.len()).map(at).collect()
}

/// A model in a graph, with the names of its outputs.
struct Network {
    graph: Graph,
    parameters: Vec<Parameter>,
    outputs: Vec<String>,
}

impl Network {
    fn build(spec: &Spec, train: bool, goldens: &Tensors) -> Network {
        let mut graph = Graph::new();
        let x = graph.input("x", TensorType::f32([BATCH, SIZE, SIZE, 3]));
        let step = graph.input("step", TensorType::u32([1]));
        let mode = if train { Mode::Train { step, seed: 0 } } else { Mode::Infer };
        let mut builder = Builder::new(&mut graph, mode, spec.norm);
        let logits = spec.build(&mut builder, x, Training::default()).unwrap();
        let parameters = builder.parameters;
        let prefix = if train { "train" } else { "eval" };
        let mut outputs = vec![(format!("{prefix}.logits"), logits)];
        for name in goldens.keys().filter(|name| is_block(name)) {
            let Some(block) = name.strip_prefix(&format!("{prefix}.")) else { continue };
            let block = format!("{block}.");
            let is_image = |node: &&Node| graph.dims(node.outputs[0]).len() == 4;
            let mut nodes = graph.nodes().iter().filter(|node| node.layer.starts_with(&block));
            outputs.push((name.clone(), nodes.rfind(is_image).unwrap().outputs[0]));
        }
        if train {
            outputs.extend(backward(&mut graph, logits, &parameters));
        }
        outputs.iter().for_each(|(name, value)| graph.output(name, *value));
        assert!(rewrite(&mut graph, RULES).unwrap().len() > 20);
        Network { graph, parameters, outputs: outputs.into_iter().map(|(name, _)| name).collect() }
    }

    /// A training step that keeps the stored statistics, fused or as it is written.
    fn tuning(spec: &Spec, is_fused: bool) -> Network {
        let mut graph = Graph::new();
        let x = graph.input("x", TensorType::f32([BATCH, SIZE, SIZE, 3]));
        let step = graph.input("step", TensorType::u32([1]));
        let mut builder = Builder::new(&mut graph, Mode::Tune { step, seed: 0 }, spec.norm);
        let logits = spec.build(&mut builder, x, Training::default()).unwrap();
        let parameters = builder.parameters;
        let outputs = backward(&mut graph, logits, &parameters);
        outputs.iter().for_each(|(name, value)| graph.output(name, *value));
        assert!(!is_fused || rewrite(&mut graph, RULES).unwrap().len() > 20);
        Network { graph, parameters, outputs: outputs.into_iter().map(|(name, _)| name).collect() }
    }

    /// Runs it once, and returns everything that the golden file has.
    fn run(&self, images: &[f32], isa: Isa) -> Tensors {
        let mut cpu = Cpu::new(2, isa).unwrap();
        let plan = cpu.load_plan(Plan::compile(&self.graph).unwrap(), None).unwrap();
        for parameter in &self.parameters {
            cpu.write_state(plan, &parameter.name, initial(parameter).as_slice().into()).unwrap();
        }
        cpu.write(plan, "x", images.into()).unwrap();
        let train = self.outputs.iter().any(|name| name == "train.loss");
        if train {
            cpu.write(plan, "labels", [3u32, 7].as_slice().into()).unwrap();
            cpu.write(plan, "step", [0u32].as_slice().into()).unwrap();
            cpu.write(plan, "one", [1.0f32].as_slice().into()).unwrap();
        }
        cpu.run(plan).unwrap();
        let mut found = Tensors::new();
        for name in &self.outputs {
            let values = cpu.read(plan, name).unwrap();
            let parameter =
                name.strip_prefix("gradient.").map(|p| self.parameters.iter().find(|q| q.name == p));
            let values = match parameter.flatten() {
                Some(parameter) => kept(parameter, &values),
                None if is_block(name) => some(&values),
                None => values,
            };
            found.insert(name.clone(), values);
        }
        for p in self.parameters.iter().filter(|p| train && !p.trainable()) {
            found.insert(format!("after.{}", p.name), kept(p, &cpu.read_state(plan, &p.name).unwrap()));
        }
        found
    }
}

/// Whether a golden tensor is the output of a block.
fn is_block(name: &str) -> bool {
    let block = name.strip_prefix("eval.").or(name.strip_prefix("train.")).unwrap_or_default();
    block.starts_with("blocks.") || block.starts_with("layer")
}

/// Adds loss and gradients; returns their names and values.
fn backward(graph: &mut Graph, logits: Value, parameters: &[Parameter]) -> Vec<(String, Value)> {
    let labels = graph.input("labels", TensorType::u32([BATCH]));
    let one = graph.input("one", TensorType::f32([1]));
    let loss = graph.apply(SoftmaxCrossEntropy { smoothing: 0.1 }, &[logits, labels]).unwrap()[0];
    let trained: Vec<&Parameter> = parameters.iter().filter(|p| p.trainable()).collect();
    let values: Vec<Value> = trained.iter().map(|p| p.value).collect();
    let gradients = differentiate(graph, &[(loss, one)], &values).unwrap();
    let named = trained.iter().zip(gradients).map(|(p, gradient)| (format!("gradient.{}", p.name), gradient));
    std::iter::once(("train.loss".to_string(), loss)).chain(named).collect()
}

/// The largest error, relative to the tensor's largest magnitude, and the tensor's name.
fn worst(found: &Tensors, expected: &Tensors) -> (f64, String) {
    let error = |(name, found): (&String, &Vec<f32>)| {
        let expected = &expected[name];
        assert_eq!(found.len(), expected.len(), "{name}");
        let scale = expected.iter().fold(FLOOR, |scale, v| scale.max(f64::from(v.abs())));
        let differences = found.iter().zip(expected).map(|(a, b)| f64::from((a - b).abs()));
        let largest = differences.fold(0.0, |a: f64, b| if b.is_nan() { f64::INFINITY } else { a.max(b) });
        (largest / scale, name.clone())
    };
    found.iter().map(error).max_by(|a, b| a.0.total_cmp(&b.0)).unwrap()
}

/// Everything that the engine computes for a golden file.
fn computed(spec: &Spec, goldens: &Tensors, images: &[f32], isa: Isa) -> Tensors {
    let mut found = Network::build(spec, false, goldens).run(images, isa);
    found.extend(Network::build(spec, true, goldens).run(images, isa));
    found
}

#[test]
fn every_tensor_is_timms() {
    for (name, tensors) in [
        ("mobilenet_v1_same", 83 + 54 + 11),
        ("mobilenet_v1_symmetric", 83 + 54 + 11),
        ("mobilenet_v2", 158 + 104 + 11),
        ("resnet18", 62 + 40 + 11),
    ] {
        let ((goldens, images), spec) = (goldens(name), spec(name));
        assert_eq!(goldens.len(), tensors, "{name}");
        for isa in Isa::available() {
            let found = computed(&spec, &goldens, &images, isa);
            assert!(found.keys().eq(goldens.keys()), "{name}");
            let (error, tensor) = worst(&found, &goldens);
            println!("{name}, {isa}: at most {error:.1e} ({tensor})");
            assert!(error < TOLERANCE, "{name}, {isa}: {tensor} is off by {error:e}");
            let logits = Tensors::from([("eval.logits".to_string(), found["eval.logits"].clone())]);
            let (error, _) = worst(&logits, &goldens);
            assert!(error < LOGITS, "{name}, {isa}: the logits are off by {error:e}");
        }
    }
}

/// Loss, every gradient, and the statistics, which stay.
#[test]
fn fusion_changes_nothing_where_statistics_are_stored() {
    for name in ["mobilenet_v1_same", "mobilenet_v2"] {
        let ((_, images), spec) = (goldens(name), spec(name));
        for isa in Isa::available() {
            let [fused, plain] = [true, false].map(|is_fused| Network::tuning(&spec, is_fused));
            let (found, expected) = (fused.run(&images, isa), plain.run(&images, isa));
            let (error, tensor) = worst(&found, &expected);
            assert!(error < 1e-4, "{name}, {isa}: {tensor} is off by {error:e}");
            for p in fused.parameters.iter().filter(|p| !p.trainable()) {
                assert_eq!(found[&format!("after.{}", p.name)], kept(p, &initial(p)), "{}", p.name);
            }
        }
    }
}

/// What a file may be silent about is noticed: padding, epsilon; and a change to any one tensor.
#[test]
fn planted_errors_are_noticed() {
    let name = "mobilenet_v1_same";
    let ((goldens, images), right) = (goldens(name), spec(name));
    let mut padded = right.clone();
    padded.variant.padding = PaddingStyle::Symmetric;
    let mut rounded = right.clone();
    rounded.norm.epsilon = 1e-5;
    for wrong in [padded, rounded] {
        let eval = Network::build(&wrong, false, &goldens).run(&images, Isa::detect());
        assert!(worst(&eval, &goldens).0 > 2.0 * TOLERANCE);
    }
    let found = computed(&right, &goldens, &images, Isa::detect());
    for name in found.keys() {
        let mut wrong = found.clone();
        let values = wrong.get_mut(name).unwrap();
        let largest = values.iter().fold(0.0f32, |a, b| a.max(b.abs())).max(FLOOR as f32);
        values[0] += 2e-3 * largest;
        assert_eq!(&worst(&wrong, &goldens).1, name);
    }
}

/// Where real weights are; the test is passed over, loudly, without them.
fn real(variable: &str) -> Option<PathBuf> {
    let folder = std::env::var_os(variable).filter(|folder| !folder.is_empty()).map(PathBuf::from);
    if folder.is_none() {
        eprintln!(
            "NOT TESTED: real weights; set CIFAR_ENGINE_TEST_WEIGHTS and CIFAR_ENGINE_TEST_PHOTOS (tests/README.md)"
        );
    }
    folder
}

/// ImageNet's classes 285 and 967, on the CPU and on a GPU.
#[test]
fn real_weights_know_a_cat_and_an_espresso() {
    let (Some(weights), Some(photos)) = (real("CIFAR_ENGINE_TEST_WEIGHTS"), real("CIFAR_ENGINE_TEST_PHOTOS"))
    else {
        return;
    };
    let path = weights.join("mobilenetv1_100_in1k.safetensors");
    let wrong = Attributes { mean: Some([0.0; 3]), ..Attributes::default() };
    let mut gpu = gpu::open();
    for (photo, class, least) in [("chelsea.png", 285, 0.85), ("coffee.png", 967, 0.95)] {
        let probability = |device: &mut dyn Device, attributes: &Attributes| {
            let trained = LoadedModel::open_as(&path, attributes, Some(224)).unwrap();
            let pixels = cifar_engine::data::image_file::load_image(&photos.join(photo), 224).unwrap();
            let images = cifar_engine::data::Images {
                pixels: pixels.into(),
                labels: vec![0],
                size: 224,
                ..Default::default()
            };
            let options = EvalOptions { batch_size: 1, views: Views::default() };
            let result = trained.evaluate(device, photo, &images, options, |_, _| true).unwrap();
            Calibration::default().probabilities(result.logits.row(0))[class]
        };
        let mut cpu = Cpu::new(2, Isa::detect()).unwrap();
        let found = probability(&mut cpu, &Attributes::default());
        println!("{photo}: {found:.3}");
        assert!(found > least, "{photo}: {found}");
        let misled = probability(&mut Cpu::new(2, Isa::detect()).unwrap(), &wrong);
        assert!(misled < found - 0.05, "{photo} is recognised whatever the pixels");
        if let Some(gpu) = &mut gpu {
            let same = probability(gpu, &Attributes::default());
            println!("{photo}, on a GPU: {same:.6} beside {found:.6}");
            assert!((same - found).abs() < 1e-3, "{photo}: {same} on a GPU, {found} on the CPU");
        }
    }
}

/// The op as a convolution.
fn conv_of(op: &dyn Op) -> Option<&Conv> {
    (op as &dyn Any).downcast_ref()
}

/// In inference the normalisations are folded once, and every depthwise convolution is one step
/// with the pointwise one after it.
#[test]
fn inference_is_fused() {
    for (name, blocks, convolutions) in [("mobilenet_v1_same", 13, 1), ("mobilenet_v2", 17, 18)] {
        let program = plans::evaluation(&spec(name), "test", 1, 1).unwrap();
        let plan = Cpu::new(1, Isa::detect()).unwrap().plan(&program.graph).unwrap();
        let count = |name: &str| plan.steps.iter().filter(|step| step.op.name() == name).count();
        assert_eq!([count("separable_conv2d"), count("conv2d")], [blocks, convolutions], "{name}");
        assert_eq!([count("grouped_conv2d"), count("batch_norm_infer")], [0, 0], "{name}");
        assert_eq!(plan.constants, count("fold_batch_norm"), "{name}");
        assert_eq!(plan.constants, 2 * blocks + convolutions, "{name}");
    }
}

/// In training every normalisation gets its statistics from the convolution before it and is done
/// by what reads it, and its gradient is one step with that of the convolution after it. Not where
/// it gets its own from the end of the network; nor, in v2, where its output is a term of one of
/// the ten sums, or goes into one besides: that makes 10 more, and 5 for the last sum of a stage.
#[test]
fn training_is_fused() {
    for (name, norms, alone) in [("mobilenet_v1_same", 27, 1), ("mobilenet_v2", 52, 16)] {
        let settings = Settings { batch_size: 8, ..Settings::default() };
        let program = plans::training(&spec(name), &settings, 16).unwrap();
        let plan = Cpu::new(1, Isa::detect()).unwrap().plan(&program.graph).unwrap();
        let count = |name: &str| plan.steps.iter().filter(|step| step.op.name() == name).count();
        let convs: Vec<&Conv> = plan.steps.iter().filter_map(|step| conv_of(&*step.op)).collect();
        let convs_with = |wanted: &dyn Fn(&Conv) -> bool| convs.iter().filter(|conv| wanted(conv)).count();
        let gathered = convs_with(&|conv| conv.output == Output::Moments);
        assert_eq!([gathered, count("batch_norm") + count("moments")], [norms, 0], "{name}");
        let normalised = convs_with(&|conv| conv.input.is_some());
        assert_eq!([normalised, count("batch_norm_infer")], [2 * (norms - alone), alone], "{name}");
        let through = convs_with(&|conv| matches!(conv.output, Output::NormGrad(_)));
        assert_eq!([through, count("batch_norm_grad")], [norms - alone, alone], "{name}");
    }
}

/// Inference of a batch, and its parameters.
fn inference(spec: &Spec, batch: usize) -> (Plan, Vec<Parameter>) {
    let mut graph = Graph::new();
    let x = graph.input("x", TensorType::f32([batch, spec.image_size, spec.image_size, 3]));
    let mut builder = Builder::new(&mut graph, Mode::Infer, spec.norm);
    let logits = spec.build(&mut builder, x, Training::default()).unwrap();
    let parameters = builder.parameters;
    graph.output("logits", logits);
    rewrite(&mut graph, RULES).unwrap();
    (Plan::compile(&graph).unwrap(), parameters)
}

/// The bits of the logits of these images, a batch at a time.
fn bits(spec: &Spec, images: &[f32], batch: usize, threads: usize) -> Vec<u32> {
    let (plan, parameters) = inference(spec, batch);
    let mut cpu = Cpu::new(threads, Isa::detect()).unwrap();
    let plan = cpu.load_plan(plan, None).unwrap();
    for parameter in &parameters {
        cpu.write_state(plan, &parameter.name, initial(parameter).as_slice().into()).unwrap();
    }
    let mut found = Vec::new();
    for images in images.chunks_exact(batch * spec.image_size * spec.image_size * 3) {
        cpu.write(plan, "x", images.into()).unwrap();
        cpu.run(plan).unwrap();
        found.extend(cpu.read(plan, "logits").unwrap().into_iter().map(f32::to_bits));
    }
    found
}

/// With threads that share a batch out evenly, each takes its images through the network by
/// itself. With five, twelve images go through it step by step, and so does a single one.
#[test]
fn images_by_themselves_give_the_bits_of_a_batch() {
    const IMAGES: usize = 12;
    let images: Vec<f32> =
        uniform("pictures", IMAGES * SIZE * SIZE * 3).into_iter().map(|u| 2.0 * u as f32 - 1.0).collect();
    for name in ["mobilenet_v1_same", "mobilenet_v2"] {
        let spec = spec(name);
        let (plan, _) = inference(&spec, IMAGES);
        let bytes = |threads| Cpu::new(threads, Isa::detect()).unwrap().planned_bytes(&plan);
        assert!(bytes(2) < bytes(5), "{name}: no step is run image by image");
        let expected = bits(&spec, &images, IMAGES, 5);
        assert!(expected[..CLASSES] != expected[CLASSES..2 * CLASSES], "{name}: all images look the same");
        for (batch, threads) in [(1, 2), (2, 2), (IMAGES, 1), (IMAGES, 2), (IMAGES, 3)] {
            let found = bits(&spec, &images, batch, threads);
            assert!(found == expected, "{name}: batches of {batch} and {threads} threads");
        }
    }
}

/// A single image that is large goes through the first layers in bands of rows; of two images,
/// three threads together take every step for all rows.
#[test]
fn bands_of_rows_give_the_bits_of_a_whole_image() {
    const LARGE: usize = 225;
    let images: Vec<f32> =
        uniform("pictures", 2 * LARGE * LARGE * 3).into_iter().map(|u| 2.0 * u as f32 - 1.0).collect();
    for name in ["mobilenet_v1_same", "mobilenet_v1_symmetric", "mobilenet_v2"] {
        let variant = Variant { input_size: LARGE, width: 1.0, ..spec(name).variant };
        let spec = Spec { image_size: LARGE, variant, ..spec(name) };
        let expected = bits(&spec, &images, 2, 3);
        assert!(expected[..CLASSES] != expected[CLASSES..], "{name}: both images look the same");
        for threads in [1, 2, 5] {
            assert!(bits(&spec, &images, 1, threads) == expected, "{name}: {threads} threads");
        }
    }
}
