//! Architectures: what the program knows about a model.

use super::pretrained::Published;
use super::{MODELS, Training, Variant};
use crate::data::{CHANNELS, DEFAULT_SIZE};
use crate::error::Result;
use crate::graph::{Graph, Value};
use crate::nn::{Builder, Mode, Norm, Parameter};
use crate::registry::registry;
use crate::tensor::TensorType;

/// A model: everything that options, files and fine-tuning ask about it. Those of the program are
/// in [`MODELS`]; its name stands for it in options and files.
#[derive(Debug)]
pub struct Architecture {
    /// In options, files and titles.
    pub name: &'static str,
    /// Adds the model to a graph: x `[N, H, W, 3]` to logits `[N, classes]`. Every layer lies in a
    /// [`Builder::unit`]; the last unit is the [`Builder::classifier`].
    pub build: fn(&mut Builder, Value, &Config) -> Result<Value>,
    /// Side in pixels of the images that it is at home with: the default of `finetune`, `bench` and
    /// `summary`.
    pub usual_size: usize,
    /// Whether weights suit images of one size only, because a dense layer sees every pixel.
    pub one_size: bool,
    /// Whether there are narrower and wider ones, and both ways to pad; see [`Variant`].
    pub has_variants: bool,
    /// Weights of it that others publish; none if there are none, or none that are known here.
    pub published: Option<Published>,
}

/// Settings that a model is built by: classes, variant, and what its training needs.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Number of classes.
    pub classes: usize,
    /// Width, padding and size of the images.
    pub variant: Variant,
    /// What matters in training only.
    pub training: Training,
}

/// For questions whose answer depends on neither.
const ANY_NORM: Norm = Norm { epsilon: 1e-5, momentum: 0.1 };

impl Architecture {
    /// A model of a program's own: at home with CIFAR-10's images, for images of any size, in one
    /// variant, published by nobody. A `static` of it that differs takes the rest by
    /// `..Architecture::new(..)`; [`Architecture::register`] makes its name known.
    pub const fn new(
        name: &'static str,
        build: fn(&mut Builder, Value, &Config) -> Result<Value>,
    ) -> Architecture {
        let (usual_size, one_size, has_variants) = (DEFAULT_SIZE, false, false);
        Architecture { name, build, usual_size, one_size, has_variants, published: None }
    }

    /// The names of the units that it can be cut into, the last one being the classifier.
    ///
    /// # Errors
    /// If the model has layers that lie in no unit.
    pub fn units(&self) -> Result<Vec<String>> {
        let config =
            Config { classes: 1, variant: Variant::plain(self.usual_size), training: Training::default() };
        let mut graph = Graph::new();
        let x = images(&mut graph, config.variant.input_size);
        let mut builder = Builder::new(&mut graph, Mode::Infer, ANY_NORM).only(0..0);
        (self.build)(&mut builder, x, &config)?;
        Ok(builder.units)
    }

    /// The parameters of a model of it.
    ///
    /// # Errors
    /// If the image size does not suit the model.
    pub(super) fn parameters(&self, classes: usize, variant: Variant) -> Result<Vec<Parameter>> {
        let mut graph = Graph::new();
        let x = images(&mut graph, variant.input_size);
        let mut builder = Builder::new(&mut graph, Mode::Infer, ANY_NORM);
        (self.build)(&mut builder, x, &Config { classes, variant, training: Training::default() })?;
        Ok(builder.parameters)
    }
}

/// One image of this size, as the input `x`.
fn images(graph: &mut Graph, size: usize) -> Value {
    graph.input("x", TensorType::f32([1, size, size, CHANNELS]))
}

registry!(Architecture, "model", MODELS);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_say_what_is_true_of_them() {
        for &model in MODELS {
            assert_eq!(model.name.parse::<&Architecture>().unwrap(), model);
            let units = model.units().unwrap();
            let parameters = |size, width| {
                let variant = Variant { width, ..Variant::plain(size) };
                model.parameters(3, variant).unwrap()
            };
            let plain = parameters(model.usual_size, 1.0);
            let (classifier, rest): (Vec<_>, Vec<_>) = plain.iter().partition(|p| p.classifier);
            let classifier: Vec<&str> = classifier.iter().map(|p| p.name.as_str()).collect();
            let last = units.last().unwrap();
            let tensors = [format!("{last}.weight"), format!("{last}.bias")];
            assert!(classifier == tensors || classifier == tensors[..1], "{model}: {classifier:?}");
            assert!(units.len() > 3 && rest.len() > units.len(), "{model}: {units:?}");
            let shapes =
                |parameters: &[Parameter]| parameters.iter().map(|p| p.shape.clone()).collect::<Vec<_>>();
            let larger = parameters(model.usual_size + 16, 1.0);
            assert_eq!(shapes(&plain) != shapes(&larger), model.one_size, "{model}");
            let wider = parameters(model.usual_size, 2.0);
            assert_eq!(shapes(&plain) != shapes(&wider), model.has_variants, "{model}");
        }
    }

    #[test]
    fn names_are_read_and_unknown_ones_told_with_those_that_are_known() {
        let names: std::collections::HashSet<&str> = Architecture::names().collect();
        assert_eq!(names.len(), MODELS.len());
        let message = "vgg".parse::<&Architecture>().unwrap_err().to_string();
        assert!(message.contains("'vgg'") && names.iter().all(|name| message.contains(name)), "{message}");
    }

    #[test]
    fn parts_of_a_model_are_the_whole() {
        for &model in MODELS {
            let all = model.parameters(3, Variant::plain(32)).unwrap();
            let mut graph = Graph::new();
            let mut x = images(&mut graph, 32);
            let config = Config { classes: 3, variant: Variant::plain(32), training: Training::default() };
            let mut found = Vec::new();
            for unit in 0..model.units().unwrap().len() {
                let mut builder = Builder::new(&mut graph, Mode::Infer, ANY_NORM).only(unit..unit + 1);
                x = (model.build)(&mut builder, x, &config).unwrap();
                found.extend(builder.parameters.into_iter().map(|p| p.name));
            }
            assert!(all.iter().map(|p| &p.name).eq(&found), "{model}");
            assert_eq!(graph.dims(x), [1, 3]);
        }
    }

    #[test]
    fn a_layer_outside_of_units_is_told() {
        let build = |b: &mut Builder, x: Value, _: &Config| b.flatten("flat", x);
        let model = Architecture { usual_size: 8, ..Architecture::new("loose", build) };
        assert_eq!(model.parameters(2, Variant::plain(8)).unwrap().len(), 0);
        let message = model.units().unwrap_err().to_string();
        assert!(message.contains("layer 'flat' lies in no unit"), "{message}");
    }
}
