//! What the cases of `ops.rs` cannot hold: values that are not finite, and a data set larger than a
//! binding.

mod common;

use std::sync::Arc;

use cifar_engine::exec::Device;
use cifar_engine::exec::cpu::Cpu;
use cifar_engine::exec::plan::Plan;
use cifar_engine::graph::Graph;
use cifar_engine::kernels::simd::Isa;
use cifar_engine::ops::augment::Augment;
use cifar_engine::ops::dispatch::PIECE_BYTES;
use cifar_engine::ops::loss::softmax_cross_entropy::SoftmaxCrossEntropy;
use cifar_engine::ops::map::unary::Unary;
use cifar_engine::ops::norm::batch_norm::BatchNorm;
use cifar_engine::ops::norm::batch_norm_infer::BatchNormInfer;
use cifar_engine::ops::optim::clip::ClipFactor;
use cifar_engine::ops::pool::max_pool::MaxPool;
use cifar_engine::ops::{Function, Op};
use cifar_engine::tensor::{DType, TensorType};
use common::gpu::{self, corrupted};

fn cpu() -> Cpu {
    Cpu::new(2, Isa::detect()).unwrap()
}

/// The outputs of an op on a device, from the words of its inputs.
fn run(device: &mut dyn Device, op: &Arc<dyn Op>, inputs: &[(TensorType, Vec<u32>)]) -> Vec<Vec<f32>> {
    let mut graph = Graph::new();
    let named = |i| format!("in{i}");
    let values: Vec<_> =
        inputs.iter().enumerate().map(|(i, (ty, _))| graph.input(&named(i), ty.clone())).collect();
    let outputs = graph.apply_shared(op.clone(), &values).unwrap();
    for (i, &value) in outputs.iter().enumerate() {
        graph.output(&format!("out{i}"), value);
    }
    let plan = device.load_plan(Plan::compile(&graph).unwrap(), None).unwrap();
    for (i, (ty, words)) in inputs.iter().enumerate() {
        let floats: Vec<f32> = words.iter().map(|word| f32::from_bits(*word)).collect();
        let data = if ty.dtype == DType::F32 { floats.as_slice().into() } else { words.as_slice().into() };
        device.write(plan, &named(i), data).unwrap();
    }
    device.run(plan).unwrap();
    (0..outputs.len()).map(|i| device.read(plan, &format!("out{i}")).unwrap()).collect()
}

fn floats(dims: &[usize], value: impl Fn(usize) -> f32) -> (TensorType, Vec<u32>) {
    let ty = TensorType::f32(dims);
    let words = (0..ty.len()).map(|i| value(i).to_bits()).collect();
    (ty, words)
}

/// One NaN in 37: it comes to every place of a vector and of a window.
fn with_holes(i: usize) -> f32 {
    if i % 37 == 5 { f32::NAN } else { (i % 13) as f32 - 6.0 }
}

type Inputs = Vec<(TensorType, Vec<u32>)>;

/// Every op between a convolution and the loss whose arithmetic could lose a NaN.
fn operations() -> Vec<(Arc<dyn Op>, Inputs)> {
    let x = |dims: &[usize]| floats(dims, with_holes);
    let channels = |value: f32| floats(&[4], |_| value);
    let mut list: Vec<(Arc<dyn Op>, Inputs)> = Vec::new();
    for activation in [None, Some(Function::Relu), Some(Function::Relu6)] {
        if let Some(function) = activation {
            list.push((Arc::new(Unary { function }), vec![x(&[4, 9, 36])]));
            list.push((Arc::new(Unary { function }), vec![x(&[3, 101])]));
        }
        let norm = vec![x(&[300, 4]), channels(1.0), channels(0.5)];
        list.push((Arc::new(BatchNorm { epsilon: 1e-3, activation }), norm.clone()));
        let stored = norm.into_iter().chain([channels(0.1), channels(2.0)]).collect();
        list.push((Arc::new(BatchNormInfer { epsilon: 1e-3, residual: false, activation }), stored));
    }
    for channels in [3, 4] {
        list.push((Arc::new(MaxPool::side_by_side(2)), vec![x(&[2, 8, 8, channels])]));
    }
    list.push((Arc::new(ClipFactor { limit: 1.0 }), vec![floats(&[300], |_| 1.0), x(&[100])]));
    let labels = |label| (TensorType::u32([12]), vec![label; 12]);
    list.push((Arc::new(SoftmaxCrossEntropy { smoothing: 0.1 }), vec![x(&[12, 10]), labels(3)]));
    list
}

/// Where NaN stands in the outputs.
fn broken_places(outputs: &[Vec<f32>]) -> Vec<Vec<bool>> {
    outputs.iter().map(|values| values.iter().map(|v| v.is_nan()).collect()).collect()
}

#[test]
fn nan_stays_where_it_is_on_the_cpu() {
    let Some(mut gpu) = gpu::open() else { return };
    for (op, inputs) in operations() {
        let expected = broken_places(&run(&mut cpu(), &op, &inputs));
        assert!(expected.iter().flatten().any(|broken| *broken), "{op:?}");
        assert_eq!(broken_places(&run(&mut gpu, &op, &inputs)), expected, "{op:?}");
    }
}

/// A host must learn that a training has diverged.
#[test]
fn the_loss_shows_infinite_logits_and_labels_that_do_not_exist() {
    let Some(mut gpu) = gpu::open() else { return };
    let op: Arc<dyn Op> = Arc::new(SoftmaxCrossEntropy { smoothing: 0.0 });
    let inputs = |value: f32, label: u32| {
        let logits = floats(&[12, 10], |i| if i == 47 { value } else { 0.5 });
        [logits, (TensorType::u32([12]), vec![label; 12])]
    };
    let mut loss = |value, label| run(&mut gpu, &op, &inputs(value, label));
    assert_eq!(loss(0.5, 9)[1][1..], [0.0, 12.0]);
    assert!((loss(0.5, 9)[0][0] - 10.0f32.ln()).abs() < 1e-6);
    for (value, label) in [(f32::INFINITY, 3), (f32::NEG_INFINITY, 3), (f32::NAN, 3), (0.5, 10)] {
        let outputs = loss(value, label);
        assert!(outputs[0][0].is_nan() && outputs[1][0].is_nan(), "{value} {label}: {outputs:?}");
    }
    let blind = corrupted(op.clone(), "sums.z > 0.0 ||", "");
    assert!(run(&mut gpu, &blind, &inputs(f32::NEG_INFINITY, 3))[0][0].is_finite());
}

#[test]
fn the_check_notices_a_shader_that_loses_nan() {
    let Some(mut gpu) = gpu::open() else { return };
    for (op, inputs) in operations() {
        let (from, to) = match op.name() {
            "max_pool" => ("| is_nan(value)", "& !is_nan(value)"),
            "clip_factor" => ("sum, is_nan(sum))", "1.0, is_nan(sum))"),
            "softmax_cross_entropy" => ("NAN_BITS, broken", "0u, broken"),
            _ => ("x, is_nan(x))", "Value(0.0), is_nan(x))"),
        };
        // Without an activation, a value passes unseen.
        if !format!("{op:?}").contains("activation: None") {
            let expected = broken_places(&run(&mut cpu(), &op, &inputs));
            let op = corrupted(op, from, to);
            assert_ne!(broken_places(&run(&mut gpu, &op, &inputs)), expected, "{}", op.name());
        }
    }
}

/// The first image, those around the end of the first piece (one of them lies in both), the last.
#[test]
fn a_data_set_may_be_larger_than_a_binding() {
    let Some(mut gpu) = gpu::open() else { return };
    let (size, record) = (32, Augment::record(32));
    let border = (PIECE_BYTES / 4 / record) as u32;
    let images = border as usize + 10;
    let op = Augment {
        size,
        mean: [120.0; 3],
        std: [60.0; 3],
        changes: "flip,shift=2".parse().unwrap(),
        seed: 3,
        epoch_steps: 1,
        by_place: false,
    };
    let words = (0..images * record).map(|i| (i as u32).wrapping_mul(2_654_435_761)).collect();
    let indices = vec![0, border - 1, border, border + 1, images as u32 - 1, images as u32];
    let inputs = [
        (TensorType::u32([images, record]), words),
        (TensorType::u32([images]), (0..images as u32).collect()),
        (TensorType::u32([indices.len()]), indices),
        (TensorType::u32([1]), vec![7]),
    ];
    let op: Arc<dyn Op> = Arc::new(op);
    let expected = run(&mut cpu(), &op, &inputs);
    let distance = |found: &[Vec<f32>]| {
        let distances = found[0].iter().zip(&expected[0]).map(|(a, b)| (a - b).abs());
        distances.fold(0.0, f32::max)
    };
    let found = run(&mut gpu, &op, &inputs);
    let bits = |labels: &[f32]| labels.iter().map(|label| label.to_bits()).collect::<Vec<u32>>();
    assert_eq!(bits(&found[1]), bits(&expected[1]));
    assert!(distance(&found) < 1e-6, "off by {}", distance(&found));
    let whole = "image + RECORD <= BEFORE || image >= BEFORE + PIECE";
    for (from, to) in [(whole, "image < BEFORE || image >= BEFORE + PIECE"), ("word - BEFORE", "word")] {
        let corrupted = corrupted(op.clone(), from, to);
        assert!(distance(&run(&mut gpu, &corrupted, &inputs)) > 1e-3, "{from}");
    }
}
