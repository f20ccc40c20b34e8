//! Parameters: tensors of a model that live on the device and in its file.

use super::Init;
use crate::graph::Value;
use crate::tensor::Shape;
use crate::weights::Layout;

/// A tensor of a model that lives on the device and in the weights file.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// Name of the state on the device and of the tensor in a file.
    pub name: String,
    /// The state in the graph.
    pub value: Value,
    /// Shape in the engine.
    pub shape: Shape,
    /// Order of its dimensions in a file.
    pub layout: Layout,
    /// Values that it begins with.
    pub init: Init,
    /// Its part in the model.
    pub role: Role,
    /// Whether it belongs to the layer that tells the classes ([`crate::nn::Builder::classifier`]).
    pub classifier: bool,
}

/// Role of a parameter in its model; trainings treat parameters by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Weights of a convolution or a dense layer.
    Weight,
    /// A number for each channel: a bias, or the scale or shift of a normalisation.
    Bias,
    /// The bias of a stem whose weights are fixed: it learns while a training begins, and then no
    /// more.
    StemBias,
    /// A parameter that no gradient moves: running statistics, and weights that stay as they begin.
    Fixed,
}

impl Parameter {
    /// Whether optimizers move it.
    pub fn trainable(&self) -> bool {
        self.role != Role::Fixed
    }
}
