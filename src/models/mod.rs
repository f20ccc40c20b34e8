//! The models. Each is one function that calls layers in order; to add another, write it beside
//! [`cnn::cnn`] and add it to [`Architecture`].

pub mod cnn;

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::data::{CLASSES, SIZES};
use crate::error::{Error, Result};
use crate::graph::Value;
use crate::nn::{Builder, Norm, Parameter};
use crate::weights::{self, Tensor, WeightsFile, layout};

/// Which model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Architecture {
    Cnn,
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Architecture::Cnn => "cnn",
        })
    }
}

impl FromStr for Architecture {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "cnn" => Ok(Architecture::Cnn),
            _ => Err(Error::Usage(format!("there is no model '{name}'; the models are: cnn"))),
        }
    }
}

/// What matters to a model in training only.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Training {
    /// Rate of the dropout before the classifier.
    pub dropout: f32,
    /// Whether the classifier's weights begin at zero. Random logits are at first worse than none, and the
    /// gradient they send back can switch off the layer before for good.
    pub zero_classifier: bool,
}

/// Everything needed to build a model and to feed it: what a weights file carries besides its tensors.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    pub architecture: Architecture,
    pub classes: Vec<String>,
    /// Side of the square input pictures, in pixels.
    pub image_size: usize,
    /// Per channel, in units of 0..255: a pixel enters as `(pixel - mean) / std`.
    pub mean: [f32; 3],
    pub std: [f32; 3],
    pub norm: Norm,
    /// Whether a prediction is the mean over a picture and its mirror image.
    pub test_flip: bool,
    /// Name of the data set it was trained on.
    pub data: String,
}

impl Spec {
    /// Adds the model to a graph: x `[N, size, size, 3]` to logits `[N, classes]`.
    ///
    /// # Errors
    /// If the image size does not suit the model.
    pub fn build(&self, builder: &mut Builder, x: Value, training: Training) -> Result<Value> {
        match self.architecture {
            Architecture::Cnn => cnn::cnn(builder, x, self.classes.len(), training),
        }
    }

    fn to_metadata(&self) -> BTreeMap<String, String> {
        let entries = [
            ("model", self.architecture.to_string()),
            ("classes", json(&self.classes)),
            ("image_size", self.image_size.to_string()),
            ("mean", json(&self.mean)),
            ("std", json(&self.std)),
            ("bn_epsilon", self.norm.epsilon.to_string()),
            ("bn_momentum", self.norm.momentum.to_string()),
            ("test_flip", self.test_flip.to_string()),
            ("data", self.data.clone()),
        ];
        entries.into_iter().map(|(key, value)| (key.to_string(), value)).collect()
    }

    /// Reads what [`save`] wrote into a file's metadata.
    ///
    /// # Errors
    /// If an entry is missing or makes no sense; `path` is for the message.
    pub fn from_metadata(metadata: &BTreeMap<String, String>, path: &Path) -> Result<Spec> {
        let entry = |key: &str| {
            let missing =
                || Error::file(path, format!("its metadata has no '{key}': not written by cifar-engine"));
            metadata.get(key).ok_or_else(missing)
        };
        let wrong = |key: &str| Error::file(path, format!("its metadata's '{key}' makes no sense"));
        fn parse<T: serde::de::DeserializeOwned>(text: &str) -> Option<T> {
            serde_json::from_str(text).ok()
        }
        let spec = Spec {
            architecture: entry("model")?.parse().map_err(|_| wrong("model"))?,
            classes: parse(entry("classes")?).ok_or_else(|| wrong("classes"))?,
            image_size: parse(entry("image_size")?).ok_or_else(|| wrong("image_size"))?,
            mean: parse(entry("mean")?).ok_or_else(|| wrong("mean"))?,
            std: parse(entry("std")?).ok_or_else(|| wrong("std"))?,
            norm: Norm {
                epsilon: parse(entry("bn_epsilon")?).ok_or_else(|| wrong("bn_epsilon"))?,
                momentum: parse(entry("bn_momentum")?).ok_or_else(|| wrong("bn_momentum"))?,
            },
            // Files from before it was known do not have it.
            test_flip: metadata.get("test_flip").is_some_and(|value| value == "true"),
            data: entry("data")?.clone(),
        };
        match spec.nonsense() {
            Some(key) => Err(wrong(key)),
            None => Ok(spec),
        }
    }
}

impl Spec {
    /// The metadata entry that makes no sense, if any: the file may come from anywhere.
    fn nonsense(&self) -> Option<&'static str> {
        let name_is_fine = |name: &String| name.len() <= 100 && !name.contains(char::is_control);
        let distinct: HashSet<&String> = self.classes.iter().collect();
        let pixels = -1e6..=1e6;
        let fine = [
            ("image_size", SIZES.contains(&self.image_size)),
            ("classes", CLASSES.contains(&self.classes.len())),
            ("classes", distinct.len() == self.classes.len() && self.classes.iter().all(name_is_fine)),
            ("mean", self.mean.iter().all(|mean| pixels.contains(mean))),
            ("std", self.std.iter().all(|std| (1e-3..=1e6).contains(std))),
            ("bn_epsilon", self.norm.epsilon > 0.0 && self.norm.epsilon.is_finite()),
            ("bn_momentum", (0.0..=1.0).contains(&self.norm.momentum)),
            ("data", name_is_fine(&self.data)),
        ];
        fine.into_iter().find(|(_, fine)| !fine).map(|(key, _)| key)
    }
}

/// JSON text of a list, which cannot fail to be written.
fn json<T: Serialize>(list: &[T]) -> String {
    serde_json::to_string(list).unwrap_or_default()
}

/// Writes a model; `values` are those of its parameters, in the engine's layout.
///
/// # Errors
/// If values do not fill their parameter or the file cannot be written.
pub fn save(path: &Path, spec: &Spec, parameters: &[Parameter], values: &[Vec<f32>]) -> Result<()> {
    let mut file = WeightsFile { metadata: spec.to_metadata(), ..WeightsFile::default() };
    for (parameter, values) in parameters.iter().zip(values) {
        let (shape, data) = layout::to_disk(parameter.layout, parameter.shape.dims(), values)?;
        file.tensors.insert(parameter.name.clone(), Tensor { shape, data });
    }
    weights::save(path, &file)
}

/// The values of every parameter, in the engine's layout and in the order of `parameters`.
///
/// # Errors
/// If a tensor is missing, unused or of another shape: lists them all.
pub fn values(file: &WeightsFile, parameters: &[Parameter], path: &Path) -> Result<Vec<Vec<f32>>> {
    let expected: Result<Vec<(String, Vec<usize>)>> = parameters
        .iter()
        .map(|p| Ok((p.name.clone(), layout::disk_shape(p.layout, p.shape.dims())?)))
        .collect();
    weights::match_names(&expected?, file, path)?;
    let value = |p: &Parameter| {
        let tensor = &file.tensors[&p.name];
        Ok(layout::from_disk(p.layout, &tensor.shape, &tensor.data)?.1)
    };
    parameters.iter().map(value).collect()
}
