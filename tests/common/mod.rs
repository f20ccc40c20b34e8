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
use cifar_engine::ops::reference::array;
use ndarray::{ArrayD, ArrayViewD};

/// The f64 values of a graph.
pub type Values = HashMap<Value, ArrayD<f64>>;

/// These numbers, as a value of a graph.
pub fn exact(graph: &Graph, value: Value, numbers: &[f32]) -> ArrayD<f64> {
    array(graph.dims(value), numbers.iter().map(|number| f64::from(*number)).collect())
}

/// Computes every node of a graph by its op's reference.
pub fn evaluate(graph: &Graph, mut values: Values) -> Values {
    for node in graph.nodes() {
        let inputs: Vec<ArrayViewD<f64>> = node.inputs.iter().map(|v| values[v].view()).collect();
        let outputs = node.op.reference(&inputs);
        assert_eq!(outputs.len(), node.outputs.len(), "{}", node.op.name());
        for (value, output) in node.outputs.iter().zip(outputs) {
            assert_eq!(
                output.shape(),
                graph.dims(*value),
                "{}: reference and shape rule disagree",
                node.op.name()
            );
            values.insert(*value, output);
        }
    }
    values
}
