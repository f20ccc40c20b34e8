//! The models: each is one function that calls layers in order.
//!
//! An [`Architecture`] says what else is to be known about it. To add another, write it beside
//! [`cnn`] and add it to [`MODELS`]: options, files and fine-tuning find it there. README
//! names it, in a row.
//!
//! - [`Spec`]: everything needed to build a model and to feed it; travels in the weights file.
//! - [`pretrained`]: weights from elsewhere, which say less about themselves; [`manifest`] finds
//!   them.

mod architecture;
mod calibration;
pub mod cnn;
pub mod fast;
mod loaded;
pub mod manifest;
pub mod mobilenet_v1;
pub mod mobilenet_v2;
mod mobilenet_v2_names;
mod network;
pub mod pretrained;
pub mod resnet18;
pub mod resnet20;
mod spec;
mod views;

use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::graph::Value;
pub use crate::nn::Training;
use crate::nn::{Builder, Parameter};
use crate::ops::conv::Padding;
use crate::weights::{self, Tensor, WeightsFile, layout};
pub use architecture::{Architecture, Config};
pub use calibration::Calibration;
pub use loaded::LoadedModel;
pub use network::Network;
pub use spec::Spec;
pub use views::{View, Views};

/// All models.
pub static MODELS: &[&Architecture] = &[
    // In the order in which help and messages name them.
    &cnn::CNN,
    &fast::FAST,
    &fast::ACCURATE,
    &mobilenet_v1::MOBILENET_V1,
    &mobilenet_v2::MOBILENET_V2,
    &resnet20::RESNET20,
    &resnet18::RESNET18,
];

/// Differences between models of one architecture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Variant {
    /// Side of the images that the model sees, to which smaller ones are enlarged.
    pub input_size: usize,
    /// Multiplies the channels; 1 where [`Architecture::has_variants`] is not so.
    pub width: f32,
    /// Padding of convolutions; without effect where [`Architecture::has_variants`] is not so.
    pub padding: PaddingStyle,
}

impl Variant {
    /// Sees images as they are, in the usual width.
    pub fn plain(image_size: usize) -> Variant {
        Variant { input_size: image_size, width: 1.0, padding: PaddingStyle::Same }
    }
}

/// The two ways to pad a convolution so that stride 1 keeps the size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PaddingStyle {
    /// TensorFlow's and Keras's: at stride 2, an even size is padded at the bottom and right only.
    Same,
    /// PyTorch's: alike on all sides.
    Symmetric,
}

impl PaddingStyle {
    /// Name in files and options.
    pub fn name(self) -> &'static str {
        match self {
            PaddingStyle::Same => "same",
            PaddingStyle::Symmetric => "symmetric",
        }
    }

    /// All of them.
    pub const ALL: [PaddingStyle; 2] = [PaddingStyle::Same, PaddingStyle::Symmetric];

    /// The style of that name.
    pub fn named(name: &str) -> Option<PaddingStyle> {
        PaddingStyle::ALL.into_iter().find(|style| style.name() == name)
    }

    /// The padding of a kernel of this size.
    pub fn of_kernel(self, kernel: usize) -> Padding {
        match self {
            PaddingStyle::Same => Padding::Same,
            PaddingStyle::Symmetric => Padding::Symmetric(kernel / 2),
        }
    }
}

impl FromStr for PaddingStyle {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let names = PaddingStyle::ALL.map(PaddingStyle::name).join(", ");
        let unknown = || Error::Usage(format!("there is no padding '{name}'; there are: {names}"));
        PaddingStyle::named(name).ok_or_else(unknown)
    }
}

/// Channels of a MobileNet's layer at a width: the multiple of eight that is nearest, but never
/// less than nine tenths of the exact number.
pub(crate) fn scaled(channels: usize, width: f32) -> usize {
    let exact = channels as f32 * width;
    let rounded = (((exact + 4.0) / 8.0) as usize * 8).max(8);
    if (rounded as f32) < 0.9 * exact { rounded + 8 } else { rounded }
}

/// Checks that images are not too small for a model.
///
/// # Errors
/// A usage error that says so.
pub(crate) fn check_size(b: &Builder, images: Value, least: usize) -> Result<()> {
    let size = b.graph.dims(images)[1];
    if size < least {
        return Err(Error::Usage(format!("this model is for images of {least} pixels and more, not {size}")));
    }
    Ok(())
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
/// If a tensor is missing, unused or of another shape: lists them all. If a value is not finite, or
/// a variance negative.
pub fn values(file: &WeightsFile, parameters: &[Parameter], path: &Path) -> Result<Vec<Vec<f32>>> {
    check_shapes(file, parameters, path)?;
    let value = |p: &Parameter| {
        let tensor = &file.tensors[&p.name];
        // Where an activation behind it hides such a value, the result is wrong without a sign of
        // it.
        if !tensor.data.iter().all(|value| value.is_finite()) {
            let problem = format!(
                "its tensor {} has values that are not finite numbers: the weights are damaged, or their training diverged",
                p.name
            );
            return Err(Error::file(path, problem));
        }
        if p.name.ends_with("running_var") && tensor.data.iter().any(|variance| *variance < 0.0) {
            let problem = format!("its tensor {} has negative variances: the weights are damaged", p.name);
            return Err(Error::file(path, problem));
        }
        Ok(layout::from_disk(p.layout, &tensor.shape, &tensor.data)?.1)
    };
    parameters.iter().map(value).collect()
}

/// Checks that a file, whose tensors need no values, has exactly these parameters.
///
/// # Errors
/// If a tensor is missing, unused or of another shape: lists them all.
fn check_shapes(file: &WeightsFile, parameters: &[Parameter], path: &Path) -> Result<()> {
    let expected =
        parameters.iter().map(|p| Ok((p.name.clone(), layout::disk_shape(p.layout, p.shape.dims())?)));
    let expected: Result<Vec<(String, Vec<usize>)>> = expected.collect();
    weights::match_names(&expected?, file, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Channels of timm's and torchvision's models of these widths.
    #[test]
    fn scaled_channels_are_those_of_other_implementations() {
        let found = |width| [32, 16, 24, 96, 160, 1280].map(|channels| scaled(channels, width));
        assert_eq!(found(1.0), [32, 16, 24, 96, 160, 1280]);
        assert_eq!(found(1.4), [48, 24, 32, 136, 224, 1792]);
        assert_eq!(found(0.25), [8, 8, 8, 24, 40, 320]);
        assert_eq!(found(0.35), [16, 8, 8, 32, 56, 448]);
    }
}
