//! Weights of a MobileNet from elsewhere: which model they are, under which names, and how they
//! were trained.
//!
//! Padding, epsilon, momentum, mean and std cannot be seen in the tensors, and a wrong one costs
//! points of accuracy in silence. They are taken from the file's metadata; else, from what the
//! makers of files of this layout use; an [`Attributes`] overrides either.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::names;
use super::spec::WIDTHS;
use super::{Architecture, PaddingStyle, Spec, Variant, check_shapes, mobilenet_v1, scaled};
use crate::data::CLASSES;
use crate::error::{Error, Result};
use crate::nn::Norm;
use crate::weights::{self, WeightsFile};

/// What a user says about a file's weights, against what it says itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Attributes {
    /// How convolutions are padded.
    pub padding: Option<PaddingStyle>,
    /// Batch normalisation's epsilon.
    pub epsilon: Option<f32>,
    /// Of each channel, pixels being 0 to 255.
    pub mean: Option<[f32; 3]>,
    /// As the mean.
    pub std: Option<[f32; 3]>,
}

impl Attributes {
    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        *self == Attributes::default()
    }

    /// These, and those of `other` where there are none here.
    pub fn or(self, other: Attributes) -> Attributes {
        Attributes {
            padding: self.padding.or(other.padding),
            epsilon: self.epsilon.or(other.epsilon),
            mean: self.mean.or(other.mean),
            std: self.std.or(other.std),
        }
    }
}

/// Weights under the engine's names, in PyTorch's layout, with what is known about them.
pub struct Pretrained {
    /// Its classes are numbers where the file names none.
    pub spec: Spec,
    pub file: WeightsFile,
    /// Whose names the tensors had in the file.
    pub layout: &'static str,
}

/// The tensors of the classifier.
pub const CLASSIFIER: [&str; 2] = ["classifier.weight", "classifier.bias"];

/// Mean and standard deviation of ImageNet's pixels, which most of PyTorch's models were trained
/// with.
const IMAGENET: ([f32; 3], [f32; 3]) = ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375]);
/// Pixels between -1 and 1, as TensorFlow's MobileNets and timm's of the first generation see them.
const CENTRED: ([f32; 3], [f32; 3]) = ([127.5; 3], [127.5; 3]);
/// Side of ImageNet's pictures.
const INPUT_SIZE: usize = 224;
/// The widths that are looked for.
const USUAL_WIDTHS: [f32; 12] = [1.0, 0.25, 0.35, 0.5, 0.75, 1.4, 1.25, 1.1, 1.2, 1.3, 1.5, 2.0];

impl Pretrained {
    /// Reads a safetensors file of MobileNet weights: the engine's own, or in timm's or
    /// torchvision's names.
    ///
    /// # Errors
    /// If it cannot be read, is of no known model, its tensors are not that model's, or its
    /// metadata makes no sense.
    pub fn open(path: &Path, attributes: &Attributes) -> Result<Pretrained> {
        Pretrained::of(weights::outline(path)?, path, attributes)?.check_outline(path)?;
        Pretrained::of(weights::load(path)?, path, attributes)
    }

    /// Checks names and shapes, of the classifier only if it is there: fine-tuning needs none.
    fn check_outline(mut self, path: &Path) -> Result<()> {
        let mut parameters = self.spec.parameters()?;
        if !self.has_classifier() {
            parameters.retain(|parameter| !CLASSIFIER.contains(&parameter.name.as_str()));
            self.file.tensors.retain(|name, _| !CLASSIFIER.contains(&name.as_str()));
        }
        check_shapes(&self.file, &parameters, path)
    }

    /// [`Pretrained::open`] for the content of a file; `path` is for messages.
    ///
    /// # Errors
    /// As for [`Pretrained::open`].
    pub fn of(mut file: WeightsFile, path: &Path, attributes: &Attributes) -> Result<Pretrained> {
        let prefix = names::prefix(file.tensors.keys());
        let tensors = std::mem::take(&mut file.tensors).into_iter();
        file.tensors = tensors.map(|(name, tensor)| (name[prefix..].to_string(), tensor)).collect();
        // Other tools have an entry of this name as well.
        let model = file.metadata.get("model").map(|name| name.parse::<Architecture>());
        let mut pretrained = match model.is_some_and(|known| known.is_ok()) {
            true => {
                Pretrained { spec: Spec::from_metadata(&file.metadata, path)?, file, layout: "this engine's" }
            }
            false => Pretrained::recognise(file, path)?,
        };
        let Spec { variant, norm, mean, std, .. } = &mut pretrained.spec;
        variant.padding = attributes.padding.unwrap_or(variant.padding);
        norm.epsilon = attributes.epsilon.unwrap_or(norm.epsilon);
        (*mean, *std) = (attributes.mean.unwrap_or(*mean), attributes.std.unwrap_or(*std));
        match pretrained.spec.nonsense() {
            Some(what) => Err(Error::file(path, format!("the {what} given for it makes no sense"))),
            None => Ok(pretrained),
        }
    }

    /// Whether the classifier is there too.
    pub fn has_classifier(&self) -> bool {
        CLASSIFIER.iter().all(|name| self.file.tensors.contains_key(*name))
    }

    fn recognise(mut file: WeightsFile, path: &Path) -> Result<Pretrained> {
        let table = names::table(file.tensors.keys());
        if let Some(table) = table {
            let taken: BTreeSet<String> = file.tensors.keys().cloned().collect();
            let ours = |name: &str| names::ours(table, name).filter(|ours| !taken.contains(ours));
            let tensors = file.tensors.into_iter();
            file.tensors = tensors.map(|(name, tensor)| (ours(&name).unwrap_or(name), tensor)).collect();
        }
        let unknown = |what: &str| {
            let known = "known are MobileNet v1 in timm's names, v2 in timm's or torchvision's, and files \
                         that this program wrote; tools/pretrained.py converts others";
            Error::file(path, format!("{what}; {known}"))
        };
        if !file.tensors.contains_key("conv_stem.weight") {
            return Err(unknown("its tensors have the names of no known model"));
        }
        if let Some(what) = other_mobilenet(&file) {
            return Err(unknown(what));
        }
        let second = file.tensors.keys().any(|name| name.ends_with("conv_pwl.weight"));
        let architecture = if second { Architecture::MobilenetV2 } else { Architecture::MobilenetV1 };
        let width = width(architecture, &file)
            .ok_or_else(|| unknown(&format!("its layers have the channels of no usual {architecture}")))?;
        let layout = if table.is_some() { "torchvision's" } else { "timm's" };
        let usual = if second { IMAGENET } else { CENTRED };
        let spec = spec(architecture, width, usual, &file)
            .map_err(|key| Error::file(path, format!("its metadata's '{key}' makes no sense")))?;
        Ok(Pretrained { spec, file, layout })
    }
}

/// Relatives of the models that are here, which differ in layers.
fn other_mobilenet(file: &WeightsFile) -> Option<&'static str> {
    let has = |name: &str| file.tensors.contains_key(name);
    let second = has("blocks.6.0.conv_pwl.weight");
    if second && has("blocks.1.2.conv_pw.weight") {
        return Some(
            "it is a MobileNet v2 with more blocks (timm's mobilenetv2_110d or 120d), which is not known here",
        );
    }
    (!second && has("conv_head.weight")).then_some(
        "it is a MobileNet v1 with a larger head (timm's mobilenetv1_100h), which is not known here",
    )
}

/// The width at which the first and the last convolution have the file's channels.
fn width(architecture: Architecture, file: &WeightsFile) -> Option<f32> {
    let channels = |name: &str| file.tensors.get(name)?.shape.first().copied();
    let (last, at_one) = match architecture {
        Architecture::MobilenetV2 => ("blocks.6.0.conv_pwl.weight", 320),
        _ => ("blocks.4.1.conv_pw.weight", 1024),
    };
    let found = (channels("conv_stem.weight")?, channels(last)?);
    let stated = file.metadata.get("width").and_then(|width| width.parse().ok());
    let fits = |width: &f32| {
        WIDTHS.contains(width) && found == (scaled(mobilenet_v1::STEM, *width), scaled(at_one, *width))
    };
    stated.into_iter().chain(USUAL_WIDTHS).find(fits)
}

/// What metadata says, and what is usual where it is silent.
fn spec(
    architecture: Architecture,
    width: f32,
    usual: ([f32; 3], [f32; 3]),
    file: &WeightsFile,
) -> std::result::Result<Spec, &'static str> {
    let classes = file.tensors.get(CLASSIFIER[1]).map_or(1000, |bias| bias.shape.iter().product());
    if !CLASSES.contains(&classes) {
        return Err("classes");
    }
    let size = entry(&file.metadata, "input_size", |text| text.rsplit(',').next()?.trim().parse().ok())?;
    let padding = entry(&file.metadata, "padding", PaddingStyle::named)?;
    let spec = Spec {
        architecture,
        classes: (0..classes).map(|class| class.to_string()).collect(),
        image_size: size.unwrap_or(INPUT_SIZE),
        variant: Variant {
            input_size: size.unwrap_or(INPUT_SIZE),
            width,
            padding: padding.unwrap_or(PaddingStyle::Symmetric),
        },
        mean: entry(&file.metadata, "mean", channels)?.unwrap_or(usual.0),
        std: entry(&file.metadata, "std", channels)?.unwrap_or(usual.1),
        norm: Norm {
            epsilon: entry(&file.metadata, "bn_eps", |text| text.parse().ok())?.unwrap_or(1e-5),
            momentum: entry(&file.metadata, "bn_momentum", |text| text.parse().ok())?.unwrap_or(0.1),
        },
        test_flip: false,
        data: if classes == 1000 { "imagenet".into() } else { "unknown data".into() },
    };
    spec.nonsense().map_or(Ok(spec), Err)
}

/// An entry of the metadata; none if it is not there.
fn entry<T>(
    metadata: &BTreeMap<String, String>,
    key: &'static str,
    parse: impl Fn(&str) -> Option<T>,
) -> std::result::Result<Option<T>, &'static str> {
    metadata.get(key).map(|text| parse(text).ok_or(key)).transpose()
}

/// `0.485,0.456,0.406`, of pixels between 0 and 1.
fn channels(text: &str) -> Option<[f32; 3]> {
    let values: Option<Vec<f32>> = text.split(',').map(|value| value.trim().parse().ok()).collect();
    values?.try_into().ok().map(|values: [f32; 3]| values.map(|value| 255.0 * value))
}
