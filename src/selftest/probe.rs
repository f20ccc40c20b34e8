//! Runs the ops' test cases on a device: for the tests, and for `cifar-engine doctor`.

use ndarray::ArrayD;

use crate::error::Result;
use crate::exec::plan::Plan;
use crate::exec::{Data, Device};
use crate::graph::{Graph, Value};
use crate::ops::reference::array;
use crate::selftest::case::{Case, to_words};
use crate::tensor::{DType, TensorType};

/// The graph of a case alone: inputs `in0`, `in1`, .., outputs `out0`, `out1`, ..
///
/// # Errors
/// If the op rejects the case's inputs.
pub fn graph_of(case: &Case) -> Result<(Graph, Vec<Value>, Vec<Value>)> {
    let mut graph = Graph::new();
    graph.set_layer("case");
    let input = |(i, (ty, _)): (usize, &(TensorType, _))| graph.input(&format!("in{i}"), ty.clone());
    let inputs: Vec<Value> = case.inputs.iter().enumerate().map(input).collect();
    let outputs = graph.apply_shared(case.op.clone(), &inputs)?;
    for (i, &output) in outputs.iter().enumerate() {
        graph.output(&format!("out{i}"), output);
    }
    Ok((graph, inputs, outputs))
}

/// Runs a case `runs` times, each time from the same inputs, and returns the outputs of the last;
/// integers as their values.
///
/// # Errors
/// If the device fails.
pub fn run_case(device: &mut dyn Device, case: &Case, runs: usize) -> Result<Vec<ArrayD<f64>>> {
    let (graph, _, outputs) = graph_of(case)?;
    let plan = device.load_plan(Plan::compile(&graph)?, None)?;
    for _ in 0..runs {
        for (i, (ty, _)) in case.inputs.iter().enumerate() {
            let words = to_words(&case.values(i), ty.dtype);
            let floats: Vec<f32> = words.iter().map(|&word| f32::from_bits(word)).collect();
            let data = if ty.dtype == DType::F32 { Data::F32(&floats) } else { Data::U32(&words) };
            device.write(plan, &format!("in{i}"), data)?;
        }
        device.run(plan)?;
    }
    let read = |(i, &output): (usize, &Value)| {
        let values = device.read(plan, &format!("out{i}"))?;
        let ty = graph.ty(output);
        let is_f32 = ty.dtype == DType::F32;
        let value = |v: &f32| if is_f32 { f64::from(*v) } else { f64::from(v.to_bits()) };
        Ok(array(ty.dims(), values.iter().map(value).collect()))
    };
    let found = outputs.iter().enumerate().map(read).collect();
    device.unload(plan)?;
    found
}

/// The largest distance between two tensors, relative to the largest magnitude (at least 1);
/// infinite where a value is no number, or, of integers, which may be bits, another one.
///
/// # Panics
/// If they have different shapes.
pub fn distance(dtype: DType, found: &ArrayD<f64>, expected: &ArrayD<f64>) -> f64 {
    assert_eq!(found.shape(), expected.shape());
    let scale = expected.iter().fold(1.0f64, |a, b| a.max(b.abs()));
    let apart = |(a, b): (&f64, &f64)| match dtype {
        _ if a == b => 0.0,
        DType::F32 => (a - b).abs(),
        DType::U32 | DType::F16 => f64::INFINITY,
    };
    let largest = found.iter().zip(expected).map(apart);
    largest.fold(0.0, |a: f64, b| if b.is_nan() { f64::INFINITY } else { a.max(b) }) / scale
}

/// The largest distance of the outputs of a case from what they should be.
///
/// # Panics
/// If they have different shapes.
pub fn farthest(case: &Case, found: &[ArrayD<f64>], expected: &[ArrayD<f64>]) -> f64 {
    let types = case.types().outputs;
    let pairs = types.iter().zip(found).zip(expected);
    pairs.map(|((ty, found), expected)| distance(ty.dtype, found, expected)).fold(0.0, f64::max)
}
