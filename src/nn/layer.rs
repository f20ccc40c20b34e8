//! Layers as a table of a model lists them, and how their outputs are found.

use crate::error::{Error, Result};
use crate::graph::Value;
use crate::tensor::Shape;

/// A line of the model's table.
#[derive(Clone, Debug)]
pub struct Layer {
    /// Name that the model gives it, such as `blocks.2.1.conv1`; no other layer has it.
    pub name: String,
    /// Kind of layer, as tables name it: `conv2d`, `relu`.
    pub kind: &'static str,
    /// Side and stride of its window in pixels, where it has one.
    pub window: Option<(usize, usize)>,
    /// With the batch as first dimension.
    pub output: Shape,
    /// Output of the layer, in the graph that it was built in.
    pub value: Value,
    /// How many numbers it has, running statistics included.
    pub parameters: usize,
}

/// Output of the layer of this name: to be read by the host ([`crate::graph::Graph::output`]), or
/// to be differentiated by.
///
/// # Errors
/// If there is no such layer; names all.
pub fn value_of(layers: &[Layer], name: &str) -> Result<Value> {
    let layer = layers.iter().find(|layer| layer.name == name);
    layer.map(|layer| layer.value).ok_or_else(|| {
        let names: Vec<&str> = layers.iter().map(|layer| layer.name.as_str()).collect();
        Error::op(name, format!("is no layer of the model; there are: {}", names.join(", ")))
    })
}
