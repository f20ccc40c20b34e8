//! The description of a model, in addition to its tensors, and how that is kept in a weights file.

use std::collections::{BTreeMap, HashSet};
use std::ops::RangeInclusive;
use std::path::Path;

use ndarray::{Array4, ArrayView4, Axis};
use serde::Serialize;

use super::{Architecture, Calibration, Config, PaddingStyle, Training, Variant, Views};
use crate::data::image_file::{CROP, FILTER};
use crate::data::{CLASSES, SIZES, check_class_name};
use crate::error::{Error, Result, printable};
use crate::graph::{Graph, Value};
use crate::nn::{Builder, Norm, Parameter};
use crate::ops::pool::resize::Resize;

/// Width multipliers a model may have; what lies outside is damage or a typing error.
pub(super) const WIDTHS: RangeInclusive<f32> = 0.05..=4.0;

/// Everything needed to build a model and to feed it: what a weights file carries in addition to
/// its tensors.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// The model, a row of the list of architectures.
    pub architecture: &'static Architecture,
    /// Names of the classes, in the order of the logits.
    pub classes: Vec<String>,
    /// Side of the square images it is given, in pixels.
    pub image_size: usize,
    /// Width and padding of the model, where it has several.
    pub variant: Variant,
    /// Per channel, in units of 0..255: a pixel enters as `(pixel - mean) / std`.
    pub mean: [f32; 3],
    /// As for the mean.
    pub std: [f32; 3],
    /// Constants of its batch normalisations.
    pub norm: Norm,
    /// How predictions look at an image.
    pub views: Views,
    /// How far its probabilities are to be believed.
    pub calibration: Calibration,
    /// Name of the data set it was trained on.
    pub data: String,
}

impl Spec {
    /// Adds the model, or the units of it that the builder is told to build ([`Builder::only`]), to
    /// a graph: x `[N, size, size, 3]` to logits `[N, classes]`. The images have the variant's
    /// input size.
    ///
    /// # Errors
    /// If the image size does not suit the model.
    pub fn build(&self, builder: &mut Builder, x: Value, training: Training) -> Result<Value> {
        let config = Config { classes: self.classes.len(), variant: self.variant, training };
        let y = (self.architecture.build)(builder, x, &config)?;
        let wanted = &[builder.graph.dims(x)[0], config.classes];
        if builder.builds_last() && builder.graph.dims(y) != wanted {
            let found = builder.graph.ty(y);
            let problem = format!("ends in {found}, but {wanted:?} are a logit for each of its classes");
            return Err(Error::op(format!("model '{}'", self.architecture), problem));
        }
        Ok(y)
    }

    /// Images `[N, H, W, 3]` of the size that the model sees.
    ///
    /// # Errors
    /// None but those of [`Graph::apply`].
    pub fn resized(&self, graph: &mut Graph, images: Value) -> Result<Value> {
        let size = self.variant.input_size;
        if size == self.image_size {
            return Ok(images);
        }
        graph.set_layer("resize");
        graph.apply1(Resize { height: size, width: size }, &[images])
    }

    /// Images `[N, size, size, 3]` of 8-bit red, green and blue, as the model takes them: each
    /// channel scaled as in its training.
    pub fn scaled(&self, images: ArrayView4<u8>) -> Array4<f32> {
        let mut scaled = images.mapv(f32::from);
        for (c, mut channel) in scaled.axis_iter_mut(Axis(3)).enumerate() {
            channel.mapv_inplace(|value| (value - self.mean[c]) / self.std[c]);
        }
        scaled
    }

    /// The Python expression that makes the model in PyTorch, for weights under the engine's names;
    /// none where neither timm nor torchvision has it.
    pub fn in_pytorch(&self) -> Option<String> {
        Some((self.architecture.published.as_ref()?.in_pytorch)(self))
    }

    /// The model's parameters, as a file must have them.
    ///
    /// # Errors
    /// As for [`Spec::build`].
    pub(super) fn parameters(&self) -> Result<Vec<Parameter>> {
        self.architecture.parameters(self.classes.len(), self.variant)
    }

    pub(super) fn to_metadata(&self) -> BTreeMap<String, String> {
        let Variant { input_size, width, padding } = self.variant;
        let mut entries = vec![
            ("model", self.architecture.to_string()),
            ("classes", json(&self.classes)),
            ("image_size", self.image_size.to_string()),
            ("crop", CROP.to_string()),
            ("filter", FILTER.to_string()),
            ("mean", json(&self.mean)),
            ("std", json(&self.std)),
            ("bn_epsilon", self.norm.epsilon.to_string()),
            ("bn_momentum", self.norm.momentum.to_string()),
            ("test_flip", self.views.flip.to_string()),
            ("data", self.data.clone()),
        ];
        if self.architecture.has_variants || input_size != self.image_size {
            entries.push(("input_size", input_size.to_string()));
        }
        if self.architecture.has_variants {
            entries.extend([("width", width.to_string()), ("padding", padding.name().to_string())]);
        }
        if self.views.shift {
            entries.push(("test_shift", "true".to_string()));
        }
        entries.extend(self.calibration.entries());
        entries.into_iter().map(|(key, value)| (key.to_string(), value)).collect()
    }

    /// Reads what [`save`](super::save) wrote into a file's metadata.
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
        // Files from before it was known do not have it.
        let switch = |key: &str| match metadata.get(key).map(|value| value.trim().to_lowercase()).as_deref() {
            Some("true") => Ok(true),
            Some("false") | None => Ok(false),
            Some(_) => Err(wrong(key)),
        };
        fn parse<T: serde::de::DeserializeOwned>(text: &str) -> Option<T> {
            serde_json::from_str(text).ok()
        }
        let architecture: &Architecture = entry("model")?.parse().map_err(|_| wrong("model"))?;
        let image_size = parse(entry("image_size")?).ok_or_else(|| wrong("image_size"))?;
        let mut variant = Variant::plain(image_size);
        if architecture.has_variants || metadata.contains_key("input_size") {
            variant.input_size = parse(entry("input_size")?).ok_or_else(|| wrong("input_size"))?;
        }
        if architecture.has_variants {
            variant.width = parse(entry("width")?).ok_or_else(|| wrong("width"))?;
            variant.padding = PaddingStyle::named(entry("padding")?).ok_or_else(|| wrong("padding"))?;
        }
        let spec = Spec {
            architecture,
            classes: parse(entry("classes")?).ok_or_else(|| wrong("classes"))?,
            image_size,
            variant,
            mean: parse(entry("mean")?).ok_or_else(|| wrong("mean"))?,
            std: parse(entry("std")?).ok_or_else(|| wrong("std"))?,
            norm: Norm {
                epsilon: parse(entry("bn_epsilon")?).ok_or_else(|| wrong("bn_epsilon"))?,
                momentum: parse(entry("bn_momentum")?).ok_or_else(|| wrong("bn_momentum"))?,
            },
            views: Views { flip: switch("test_flip")?, shift: switch("test_shift")? },
            calibration: Calibration::read(metadata).map_err(wrong)?,
            data: entry("data")?.clone(),
        };
        match spec.invalid_entry() {
            Some(key) => Err(wrong(key)),
            None => Ok(spec),
        }
    }
}

impl Spec {
    /// Whether weights with this description can be read again: to be asked before the training
    /// that writes them.
    ///
    /// # Errors
    /// A usage error that names what makes no sense.
    pub fn check(&self) -> Result<()> {
        match self.invalid_entry() {
            None => Ok(()),
            Some("classes") => Err(Error::Usage(self.class_problem())),
            Some(key) => Err(Error::Usage(format!(
                "the model's {key} make no sense: weights that say so would be refused when they are read"
            ))),
        }
    }

    /// What is wrong with the names of the classes, where something is.
    fn class_problem(&self) -> String {
        let (count, least, most) = (self.classes.len(), CLASSES.start(), CLASSES.end());
        if !CLASSES.contains(&count) {
            return format!("a model has {least} to {most} classes, not {count}");
        }
        let mut seen = HashSet::new();
        let twice = self.classes.iter().find(|name| !seen.insert(*name));
        let unfit = self.classes.iter().find_map(|name| check_class_name(name).err());
        let twice = twice.map(|name| format!("two classes are called {}", printable(name)));
        twice.or(unfit).unwrap_or_default()
    }

    /// The metadata entry that makes no sense, if any: the file may come from anywhere.
    pub(super) fn invalid_entry(&self) -> Option<&'static str> {
        let name_is_fine = |name: &String| check_class_name(name).is_ok();
        let distinct: HashSet<&String> = self.classes.iter().collect();
        let pixels = -1e6..=1e6;
        let fine = [
            ("image_size", SIZES.contains(&self.image_size)),
            ("input_size", (self.image_size..=*SIZES.end()).contains(&self.variant.input_size)),
            ("width", WIDTHS.contains(&self.variant.width)),
            ("classes", CLASSES.contains(&self.classes.len())),
            ("classes", distinct.len() == self.classes.len() && self.classes.iter().all(name_is_fine)),
            ("mean", self.mean.iter().all(|mean| pixels.contains(mean))),
            ("std", self.std.iter().all(|std| (1e-3..=1e6).contains(std))),
            ("bn_epsilon", self.norm.epsilon > 0.0 && self.norm.epsilon.is_finite()),
            ("bn_momentum", (0.0..=1.0).contains(&self.norm.momentum)),
            ("data", name_is_fine(&self.data)),
            ("temperature", (1e-3..=1e3).contains(&self.calibration.temperature)),
            ("unsure_below", self.calibration.unsure_below.is_none_or(|least| (0.0..=1.0).contains(&least))),
        ];
        fine.into_iter().find(|(_, fine)| !fine).map(|(key, _)| key)
    }
}

/// Checks that images are prepared here as a file's metadata ask for, if they do: images cut or
/// scaled in another way would cost accuracy in silence.
///
/// # Errors
/// If they ask for another crop or filter; `path` is for the message.
pub(super) fn check_preparation(metadata: &BTreeMap<String, String>, path: &Path) -> Result<()> {
    for (key, known) in [("crop", CROP), ("filter", FILTER)] {
        if let Some(other) = metadata.get(key).filter(|asked| *asked != known) {
            let problem = format!("its metadata's '{key}' is '{}'; known is {known}", printable(other));
            return Err(Error::file(path, problem));
        }
    }
    Ok(())
}

/// JSON text of a list, which cannot fail to be written.
fn json<T: Serialize>(list: &[T]) -> String {
    serde_json::to_string(list).unwrap_or_default()
}
