//! Weights with the model that they are of.

use std::path::{Path, PathBuf};

use super::pretrained::{Attributes, Pretrained};
use super::{Network, Spec, values};
use crate::data::{CHANNELS, SIZES};
use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::nn::Parameter;
use crate::tensor::TensorType;
use crate::weights::{self, WeightsFile};

/// The weights that are built into the program: see `weights/README.md`.
const BUILT_IN: &[u8] = include_bytes!("../../weights/fast-cifar10.safetensors");

/// A weights file whose tensors are those of the model that its metadata describes.
pub struct LoadedModel {
    /// The file, for messages.
    pub path: PathBuf,
    /// The model that the file is of.
    pub spec: Spec,
    /// How many of its numbers were trained; running statistics were not.
    pub trained_parameters: usize,
    file: WeightsFile,
}

impl LoadedModel {
    /// Reads a file and checks it, before anything of the size it claims is allocated.
    ///
    /// # Errors
    /// If it cannot be read, is damaged, or its tensors do not fit its model.
    pub fn open(path: &Path) -> Result<LoadedModel> {
        LoadedModel::open_as(path, &Attributes::default(), None)
    }

    /// [`LoadedModel::open`], with what the user knows better than the file, and for images of
    /// another size.
    ///
    /// # Errors
    /// As for [`LoadedModel::open`].
    pub fn open_as(path: &Path, attributes: &Attributes, image_size: Option<usize>) -> Result<LoadedModel> {
        LoadedModel::checked(Pretrained::open(path, attributes)?, path, image_size)
    }

    /// The weights that are built into the program.
    ///
    /// # Errors
    /// If the attributes do not suit them.
    pub fn built_in(attributes: &Attributes, image_size: Option<usize>) -> Result<LoadedModel> {
        let path = Path::new("built-in weights");
        let pretrained = Pretrained::of(weights::parse(BUILT_IN, path)?, path, attributes)?;
        LoadedModel::checked(pretrained, path, image_size)
    }

    fn checked(pretrained: Pretrained, path: &Path, image_size: Option<usize>) -> Result<LoadedModel> {
        let Pretrained { spec, file, .. } = pretrained;
        let model = LoadedModel { path: path.to_path_buf(), spec, file, trained_parameters: 0 };
        match image_size {
            Some(size) => model.sized(size),
            None => model.with_its_tensors(),
        }
    }

    /// The model for images of this size, which it then sees as they are.
    ///
    /// # Errors
    /// If it does not suit images of this size.
    pub fn sized(mut self, image_size: usize) -> Result<LoadedModel> {
        if !SIZES.contains(&image_size) {
            let (least, most) = (SIZES.start(), SIZES.end());
            let problem = format!("images have {least} to {most} pixels a side, not {image_size}");
            return Err(Error::Usage(problem));
        }
        (self.spec.image_size, self.spec.variant.input_size) = (image_size, image_size);
        self.with_its_tensors()
    }

    /// Checks that the file's tensors are the model's, and counts their numbers.
    fn with_its_tensors(self) -> Result<LoadedModel> {
        let parameters = self.parameters()?;
        self.values(&parameters)?;
        let trained = parameters.iter().filter(|parameter| parameter.trainable());
        let trained_parameters = trained.map(|parameter| parameter.shape.len()).sum();
        Ok(LoadedModel { trained_parameters, ..self })
    }

    /// The parameters of the model, in the order of its layers.
    ///
    /// # Errors
    /// If the image size does not suit the model.
    pub fn parameters(&self) -> Result<Vec<Parameter>> {
        let size = self.spec.image_size;
        let mut graph = Graph::new();
        let images = graph.input("images", TensorType::f32([1, size, size, CHANNELS]));
        Ok(Network::of(&self.spec, &mut graph, images)?.parameters)
    }

    /// The weights as PyTorch loads them: under the names that timm or torchvision gives them,
    /// where one of them has the model ([`Spec::in_pytorch`], which is in the metadata), else
    /// under the engine's own; the engine reads them as its own.
    pub fn for_pytorch(&self) -> WeightsFile {
        let mut metadata = self.spec.to_metadata();
        metadata.extend(self.spec.in_pytorch().map(|expression| ("pytorch".to_string(), expression)));
        WeightsFile { tensors: self.file.tensors.clone(), metadata }
    }

    /// The values of these parameters of the model.
    ///
    /// # Errors
    /// If they are not the whole model's.
    pub fn values(&self, parameters: &[Parameter]) -> Result<Vec<Vec<f32>>> {
        values(&self.file, parameters, &self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_weights_are_whole() {
        let trained = LoadedModel::built_in(&Attributes::default(), None).unwrap();
        assert_eq!(trained.spec.classes, crate::data::cifar10::CLASSES);
        assert_eq!((trained.spec.architecture.name, trained.spec.views.list().len()), ("fast", 6));
    }
}
