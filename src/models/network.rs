//! A model inside a graph.

use super::{Spec, Training};
use crate::data::CHANNELS;
use crate::error::{Error, Result};
use crate::graph::{Graph, Value};
use crate::nn::{Builder, Layer, Mode, Parameter, value_of};

/// A model inside a graph: for what is not its usual use, such as to differentiate by a layer.
pub struct Network {
    /// `[N, classes]`.
    pub logits: Value,
    /// Layers in order, each with its output.
    pub layers: Vec<Layer>,
    /// Parameters in the order of their layers.
    pub parameters: Vec<Parameter>,
}

impl Network {
    /// Adds a model, as it predicts by a single view, to a graph: `images` `[N, size, size, 3]`, of
    /// the size that it is given and scaled as [`Spec::scaled`] does.
    ///
    /// # Errors
    /// If `images` have another shape.
    pub fn of(spec: &Spec, graph: &mut Graph, images: Value) -> Result<Network> {
        graph.check_own(images, "the images of a model")?;
        let size = spec.image_size;
        match *graph.dims(images) {
            [_, height, width, CHANNELS] if [height, width] == [size; 2] => {}
            _ => {
                let problem = format!("takes images f32[N, {size}, {size}, 3], not {}", graph.ty(images));
                return Err(Error::op(format!("model '{}'", spec.architecture), problem));
            }
        }
        let images = spec.resized(graph, images)?;
        let mut builder = Builder::new(graph, Mode::Infer, spec.norm);
        let logits = spec.build(&mut builder, images, Training::default())?;
        let Builder { layers, parameters, .. } = builder;
        Ok(Network { logits, layers, parameters })
    }

    /// Output of the layer of this name.
    ///
    /// # Errors
    /// If there is none; names all.
    pub fn layer(&self, name: &str) -> Result<Value> {
        value_of(&self.layers, name)
    }
}
