//! Options that several subcommands share.

use clap::Args;

use super::values::{known, read};
use crate::data;
use crate::error::{Error, Result};
use crate::models::pretrained::Attributes;
use crate::models::{PaddingStyle, Views};
use crate::train::about::About;

/// How predictions look at an image.
#[derive(Args, Clone, Debug)]
pub struct ViewOptions {
    /// Predict the mean over an image and its mirror image [default: as the weights were trained].
    #[arg(long, value_name = "true|false", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub test_flip: Option<bool>,

    /// Predict the mean over an image, at half the weight, and what it is one pixel up and to the
    /// left, and down and to the right [default: as the weights were trained].
    #[arg(long, value_name = "true|false", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub test_shift: Option<bool>,
}

impl ViewOptions {
    /// The views of a model that usually has these.
    pub fn or(&self, usual: Views) -> Views {
        Views { flip: self.test_flip.unwrap_or(usual.flip), shift: self.test_shift.unwrap_or(usual.shift) }
    }
}

/// What weights from elsewhere may not say about themselves.
#[derive(Args, Clone, Debug, Default)]
pub struct WeightsOptions {
    /// How the weights' convolutions are padded: same (TensorFlow, Keras) or symmetric (PyTorch)
    /// [default: what the file says, else symmetric].
    #[arg(long, value_name = "STYLE",
        value_parser = known(PaddingStyle::ALL.map(PaddingStyle::name), read::<PaddingStyle>))]
    pub padding: Option<PaddingStyle>,

    /// Batch normalisation's epsilon [default: what the file says, else 1e-5; Keras has 1e-3].
    #[arg(long, value_name = "X")]
    pub bn_epsilon: Option<f32>,

    /// Mean of each channel that the weights were trained with, of pixels between 0 and 1 [default:
    /// what the file says, else its makers' usual].
    #[arg(long, value_name = "R,G,B", value_delimiter = ',', num_args = 1)]
    pub mean: Option<Vec<f32>>,

    /// Standard deviation of each channel, as the mean.
    #[arg(long, value_name = "R,G,B", value_delimiter = ',', num_args = 1)]
    pub std: Option<Vec<f32>>,
}

impl WeightsOptions {
    /// # Errors
    /// If a value makes no sense.
    pub fn attributes(&self) -> Result<Attributes> {
        let channels = |name: &str, values: &Option<Vec<f32>>, low: f32| {
            let channels = values.clone().map(<[f32; 3]>::try_from).transpose();
            let fine = |v: &[f32; 3]| v.iter().all(|value| (low..=100.0).contains(value));
            match channels {
                Ok(None) => Ok(None),
                Ok(Some(values)) if fine(&values) => Ok(Some(values.map(|value| 255.0 * value))),
                _ => {
                    Err(Error::Usage(format!("{name} takes three numbers from {low} to 100, as 0.5,0.5,0.5")))
                }
            }
        };
        let epsilon = self.bn_epsilon;
        if epsilon.is_some_and(|epsilon| !(1e-12..=1.0).contains(&epsilon)) {
            return Err(Error::Usage("--bn-epsilon must lie between 1e-12 and 1".into()));
        }
        Ok(Attributes {
            padding: self.padding,
            epsilon,
            mean: channels("--mean", &self.mean, 0.0)?,
            std: channels("--std", &self.std, 1e-3)?,
        })
    }
}

/// What people say about a run.
#[derive(Args, Clone, Debug, Default)]
pub struct AboutOptions {
    /// What the run is called in `compare` and its report; its folder is not named after it.
    #[arg(long, value_name = "TEXT")]
    pub name: Option<String>,

    /// A word that `compare --tag` finds the run by; several times for several.
    #[arg(long = "tag", value_name = "TEXT")]
    pub tags: Vec<String>,

    /// What is to be remembered about the run.
    #[arg(long, value_name = "TEXT")]
    pub note: Option<String>,
}

impl AboutOptions {
    /// # Errors
    /// If a text is too long, or has lines where it may not.
    pub fn given(&self) -> Result<About> {
        About::given(self.name.clone(), self.tags.clone(), self.note.clone())
    }
}

/// A number that a file of settings can hold.
pub fn count(text: &str) -> std::result::Result<usize, String> {
    const MOST: u64 = i64::MAX as u64;
    let number = text.parse().ok().filter(|number| *number as u64 <= MOST);
    number.ok_or_else(|| format!("must be a whole number, no larger than {MOST}"))
}

/// `--image-size`: a size that images can have.
pub fn image_size(text: &str) -> std::result::Result<usize, String> {
    let size = text.parse().ok().filter(|size| data::SIZES.contains(size));
    size.ok_or_else(|| format!("must lie between {} and {}", data::SIZES.start(), data::SIZES.end()))
}
