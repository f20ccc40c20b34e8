//! What the op tests share: an interpreter of graphs in f64, built from the ops' references.
#![allow(dead_code)] // each test binary uses a part

pub mod cnn;
pub mod gpu;
pub mod program;

use std::collections::HashMap;

use cifar_engine::graph::{Graph, Value};
use cifar_engine::ops::Types;
use cifar_engine::ops::case::Case;
use cifar_engine::tensor::TensorType;

/// The f64 values of a graph.
pub type Values = HashMap<Value, Vec<f64>>;

/// Computes every node of a graph by its op's reference.
pub fn evaluate(graph: &Graph, mut values: Values) -> Values {
    for node in graph.nodes() {
        let types = |of: &[Value]| -> Vec<TensorType> { of.iter().map(|&v| graph.ty(v).clone()).collect() };
        let types = Types { inputs: types(&node.inputs), outputs: types(&node.outputs) };
        let inputs: Vec<Vec<f64>> = node.inputs.iter().map(|v| values[v].clone()).collect();
        let outputs = node.op.reference(&types, &inputs);
        for ((value, output), ty) in node.outputs.iter().zip(outputs).zip(&types.outputs) {
            assert_eq!(output.len(), ty.len(), "{}: reference and shape rule disagree", node.op.name());
            values.insert(*value, output);
        }
    }
    values
}

/// The graph of a case alone: its inputs and its outputs.
pub fn graph_of(case: &Case) -> (Graph, Vec<Value>, Vec<Value>) {
    let mut graph = Graph::new();
    let inputs: Vec<Value> = case
        .inputs
        .iter()
        .enumerate()
        .map(|(i, (ty, _))| graph.input(&format!("in{i}"), ty.clone()))
        .collect();
    let outputs = graph.apply_shared(case.op.clone(), &inputs).unwrap();
    (graph, inputs, outputs)
}

/// The largest distance between two tensors, relative to the largest magnitude (at least 1).
pub fn distance(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let scale = expected.iter().fold(1.0f64, |a, b| a.max(b.abs()));
    let largest = found.iter().zip(expected).map(|(a, b)| if a == b { 0.0 } else { (a - b).abs() });
    largest.fold(0.0, |a: f64, b| if b.is_nan() { f64::INFINITY } else { a.max(b) }) / scale
}
