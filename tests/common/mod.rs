//! What the tests share.
#![allow(dead_code)] // each test binary uses a part

pub mod browser;
pub mod cnn;
pub mod data;
pub mod gpu;
pub mod hooked;
pub mod mobilenet;
pub mod program;
pub mod stopped;
pub mod team;

use cifar_engine::graph::{Graph, Value};
use cifar_engine::ops::reference::array;
use ndarray::ArrayD;

/// These numbers, as a value of a graph.
pub fn exact(graph: &Graph, value: Value, numbers: &[f32]) -> ArrayD<f64> {
    array(graph.dims(value), numbers.iter().map(|number| f64::from(*number)).collect())
}
