//! The settings that fine-tuning has in addition to those of any training.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::checks::{positive, usage};
use super::setting::settings;
use super::{Setting, Settings, Usual, ValueKind};
use crate::error::{Error, Result};
use crate::models::mobilenet_v1::MOBILENET_V1;
use crate::models::pretrained::Attributes;

/// A number of blocks before the classifier; in files and options also `all`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Blocks(pub usize);

impl Blocks {
    /// More than any model has: all.
    pub const ALL: Blocks = Blocks(u16::MAX as usize);
}

impl fmt::Display for Blocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Blocks::ALL { f.write_str("all") } else { self.0.fmt(f) }
    }
}

impl FromStr for Blocks {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let number = || text.parse::<i64>().ok().and_then(|number| usize::try_from(number).ok());
        let blocks = if text == "all" { Some(Blocks::ALL) } else { number().map(Blocks) };
        blocks.ok_or_else(|| Error::Usage("must be a number of blocks, or all".into()))
    }
}

impl Serialize for Blocks {
    fn serialize<S: Serializer>(&self, file: S) -> std::result::Result<S::Ok, S::Error> {
        if *self == Blocks::ALL { file.serialize_str("all") } else { self.0.serialize(file) }
    }
}

impl<'de> Deserialize<'de> for Blocks {
    fn deserialize<D: Deserializer<'de>>(file: D) -> std::result::Result<Self, D::Error> {
        let number = match toml::Value::deserialize(file)? {
            toml::Value::Integer(number) => usize::try_from(number).ok().map(Blocks),
            toml::Value::String(text) => (text == "all").then_some(Blocks::ALL),
            _ => None,
        };
        number.ok_or_else(|| serde::de::Error::custom("unfreeze must be a number of blocks, or \"all\""))
    }
}

settings! {
    /// Settings of fine-tuning in addition to those of any training. There the epochs are those of
    /// both stages, and the rate is the second stage's. The defaults are those for many images; see
    /// [`crate::train::finetune_defaults`].
    struct Finetune {
        /// Facts about the weights in addition to what their file says.
        #[serde(default, skip_serializing_if = "Attributes::is_empty")]
        attributes: Attributes = Attributes::default(),
    }

    /// A choice for each of [`Finetune`]'s settings, under the same names.
    struct FinetuneChoices {
        /// `--padding` and others, which `predict` has too.
        #[serde(skip_serializing_if = "Attributes::is_empty")]
        pub attributes: Attributes,
    }

    /// Everything that is to be known about them: a row each.
    static FINETUNE_SETTINGS;

    /// The weights to begin with: a safetensors file in timm's or torchvision's names, or auto for
    /// ImageNet's, cached or downloaded.
    pretrained: String = String::new(), {
        kind: ValueKind::Path,
        value_name: "auto|PATH",
        heading: "Model",
        usual: Usual::Told("auto"),
    }

    /// Side of the images that the model sees, in pixels: the `--image-size` that `train` has too.
    input_size: usize = MOBILENET_V1.usual_size, {
        check: |s| of(s, |own| {
            let size = own.input_size;
            usage((32..=512).contains(&size), format!("`image_size` must lie in 32 to 512, not {size}"))
        }),
    }

    /// Blocks before the classifier that are trained too, from the last, or all; 0 for the
    /// classifier only.
    unfreeze: Blocks = Blocks::ALL, {
        kind: ValueKind::Blocks,
        value_name: "N|all",
        check: |s| of(s, |own| {
            let idle = own.unfreeze == Blocks(0) && own.head_epochs < s.epochs;
            usage(!idle, "with `unfreeze` 0 all epochs are `head_epochs`".into())
        }),
    }

    /// Epochs of the first stage, in which only the classifier is trained.
    head_epochs: usize = 3, {
        kind: ValueKind::Count,
        value_name: "N",
        usual: Usual::Told(
            "a quarter, at most 3, or 5 for up to 10,000 training images; all for the classifier alone",
        ),
        check: |s| of(s, |own| {
            let (head, epochs) = (own.head_epochs, s.epochs);
            usage(head <= epochs, format!("`head_epochs` {head} are more than `epochs` {epochs}"))
        }),
    }

    /// Highest rate of these epochs.
    #[serde(alias = "head_lr")]
    head_rate: f32 = 2e-3, {
        option: Some("head-lr"),
        kind: ValueKind::Number,
        value_name: "RATE",
        usual: Usual::OfRecipe("; 1e-4 for up to 10,000 training images"),
        check: |s| of(s, |own| positive("`head_rate`", own.head_rate)),
    }

    /// Rate of the blocks, as a share of the classifier's.
    #[serde(alias = "backbone_lr")]
    backbone: f32 = 0.5, {
        option: Some("backbone-lr"),
        kind: ValueKind::Number,
        value_name: "SHARE",
        usual: Usual::OfRecipe("; 1 for up to 2,000 training images"),
        check: |s| of(s, |own| {
            let share = own.backbone;
            usage((0.0..=1.0).contains(&share), format!("`backbone` must lie in [0, 1], not {share}"))
        }),
    }

    /// Whether the classifier begins as the logistic regression that suits what the frozen layers
    /// put out.
    #[serde(default)]
    fit_head: bool = false, {
        kind: ValueKind::Switch,
        value_name: "true|false",
        usual: Usual::Told("up to 10,000 training images"),
    }

    /// Whether batch normalisation keeps its stored statistics where it is trained, too.
    #[serde(default)]
    frozen_statistics: bool = false, {
        kind: ValueKind::Switch,
        value_name: "true|false",
        usual: Usual::Told("up to 2,000 training images"),
    }
}

/// Checks what a fine-tuning has; other trainings have nothing to check here.
fn of(settings: &Settings, check: impl FnOnce(&Finetune) -> Result<()>) -> Result<()> {
    settings.finetune.as_ref().map_or(Ok(()), check)
}
