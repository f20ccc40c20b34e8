//! What the op tests share: an interpreter of graphs in f64, built from the ops' references.
#![allow(dead_code)] // each test binary uses a part

pub mod cnn;
pub mod data;
pub mod gpu;
pub mod hooked;
pub mod mobilenet;
pub mod program;

use std::collections::HashMap;

use cifar_engine::graph::{Graph, Value};
use cifar_engine::ops::Types;
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
