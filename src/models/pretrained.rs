//! Weights from elsewhere: which model they are, under which names, and how they
//! were trained.
//!
//! Padding, epsilon, momentum, mean and std cannot be seen in the tensors, and a wrong one costs
//! points of accuracy in silence. They are taken from the file's metadata; else, from what the
//! makers of files of this layout use; an [`Attributes`] overrides either.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::spec::{WIDTHS, check_preparation};
use super::{Architecture, Calibration, PaddingStyle, Spec, Variant, Views, check_shapes};
use crate::data::CLASSES;
use crate::error::{Error, Result};
use crate::nn::{Norm, Parameter};
use crate::weights::{self, Tensor, WeightsFile, layout};

/// Facts that a user gives about a file's weights, against what it says itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Attributes {
    /// How convolutions are padded.
    pub padding: Option<PaddingStyle>,
    /// Batch normalisation's epsilon.
    pub epsilon: Option<f32>,
    /// Mean of each channel, pixels being 0 to 255.
    pub mean: Option<[f32; 3]>,
    /// Standard deviation of each channel, on the same scale.
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

/// Facts about the weights of a model that others publish.
#[derive(Debug)]
pub struct Published {
    /// The names that its layers go by.
    pub names: &'static [Names],
    /// Normalisation that its makers usually train with.
    pub pixels: Pixels,
    /// Tensors that the model does not have, and what has them: relatives that differ in layers.
    pub relatives: &'static [(&'static str, &'static str)],
    /// The Python expression that makes the model, for PyTorch to load weights under our names.
    pub in_pytorch: fn(&Spec) -> String,
}

/// How someone names the layers of a model.
#[derive(Debug)]
pub struct Names {
    /// As in `timm's`.
    pub whose: &'static str,
    /// Our name of a tensor of this name; none for a tensor that is unknown to them.
    pub ours: fn(&str) -> Option<String>,
}

impl Names {
    /// The engine's own, which it has from someone.
    pub const fn ours(whose: &'static str) -> Names {
        Names { whose, ours: |name| Some(name.to_string()) }
    }

    /// The tensors under our names; those that are unknown keep theirs, and so do those whose name
    /// another has already.
    fn rename(&self, tensors: BTreeMap<String, Tensor>) -> BTreeMap<String, Tensor> {
        let taken: BTreeSet<String> = tensors.keys().cloned().collect();
        let ours = |name: &str| (self.ours)(name).filter(|ours| !taken.contains(ours));
        tensors.into_iter().map(|(name, tensor)| (ours(&name).unwrap_or(name), tensor)).collect()
    }
}

/// Mean and standard deviation that pixels between 0 and 255 are normalised by.
#[derive(Clone, Copy, Debug)]
pub struct Pixels {
    /// Means of red, green and blue, which are taken away first.
    pub mean: [f32; 3],
    /// Standard deviations of red, green and blue, by which the rest is divided.
    pub std: [f32; 3],
}

/// Statistics of ImageNet's pixels: what most of PyTorch's models were trained with.
pub const IMAGENET: Pixels = Pixels { mean: [123.675, 116.28, 103.53], std: [58.395, 57.12, 57.375] };
/// Pixels between -1 and 1, as TensorFlow's MobileNets and timm's of the first generation see them.
pub const CENTRED: Pixels = Pixels { mean: [127.5; 3], std: [127.5; 3] };
/// Epsilon of PyTorch's batch normalisations, unless it is given.
pub(super) const TORCH_EPSILON: f32 = 1e-5;
/// Side of ImageNet's images.
const INPUT_SIZE: usize = 224;
/// The widths that are looked for.
const USUAL_WIDTHS: [f32; 12] = [1.0, 0.25, 0.35, 0.5, 0.75, 1.4, 1.25, 1.1, 1.2, 1.3, 1.5, 2.0];

/// timm's expression for a MobileNet: by the name that it has at this width, where it has one, else
/// by the function that makes all widths.
pub(super) fn in_timm(spec: &Spec, generation: u8, named: &[f32]) -> String {
    let Spec { variant: Variant { width, padding, .. }, norm, .. } = spec;
    let name = |width: f32| format!("'mobilenetv{generation}_{:03.0}'", 100.0 * width);
    let mut arguments = match named.contains(width) {
        true => vec![name(*width)],
        false => vec![name(1.0), width.to_string()],
    };
    arguments.push(format!("num_classes={}", spec.classes.len()));
    if norm.epsilon != TORCH_EPSILON {
        arguments.push(format!("bn_eps={}", norm.epsilon));
    }
    if *padding == PaddingStyle::Same {
        arguments.push("pad_type='same'".into());
    }
    let function = match named.contains(width) {
        true => "create_model".to_string(),
        false => format!("models.efficientnet._gen_mobilenet_v{generation}"),
    };
    format!("timm.{function}({})", arguments.join(", "))
}

/// Weights under the engine's names, in PyTorch's layout, with what is known about them.
pub struct Pretrained {
    /// Its classes are numbers where the file names none.
    pub spec: Spec,
    /// The tensors and their metadata.
    pub file: WeightsFile,
    /// Whose names the tensors had in the file.
    pub layout: &'static str,
}

impl Pretrained {
    /// Reads a safetensors file of weights: the engine's own, or of a model that others publish, in
    /// the names that are known of it.
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
        if !has_classifier(&parameters, &self.file) {
            for classifier in parameters.extract_if(.., |parameter| parameter.classifier) {
                self.file.tensors.remove(&classifier.name);
            }
        }
        check_shapes(&self.file, &parameters, path)
    }

    /// [`Pretrained::open`] for the content of a file; `path` is for messages.
    ///
    /// # Errors
    /// As for [`Pretrained::open`].
    pub fn of(mut file: WeightsFile, path: &Path, attributes: &Attributes) -> Result<Pretrained> {
        check_preparation(&file.metadata, path)?;
        let prefix = prefix(file.tensors.keys());
        let tensors = std::mem::take(&mut file.tensors).into_iter();
        file.tensors = tensors.map(|(name, tensor)| (name[prefix..].to_string(), tensor)).collect();
        // Other tools have an entry of this name as well.
        let model = file.metadata.get("model").map(|name| name.parse::<&Architecture>());
        let mut pretrained = match model.is_some_and(|known| known.is_ok()) {
            true => {
                Pretrained { spec: Spec::from_metadata(&file.metadata, path)?, file, layout: "this engine's" }
            }
            false => {
                checkpoint(&file, path)?;
                foreign_architecture(&file, path)?;
                Pretrained::recognise(file, path)?
            }
        };
        let Spec { architecture, variant, norm, mean, std, .. } = &mut pretrained.spec;
        if attributes.padding.is_some() && !architecture.has_variants {
            let problem =
                format!("the padding given for it has no effect: a {architecture} is padded one way");
            return Err(Error::file(path, problem));
        }
        variant.padding = attributes.padding.unwrap_or(variant.padding);
        norm.epsilon = attributes.epsilon.unwrap_or(norm.epsilon);
        (*mean, *std) = (attributes.mean.unwrap_or(*mean), attributes.std.unwrap_or(*std));
        match pretrained.spec.invalid_entry() {
            Some(what) => Err(Error::file(path, format!("the {what} given for it makes no sense"))),
            None => Ok(pretrained),
        }
    }

    /// Whether the classifier is there too.
    ///
    /// # Errors
    /// If the model cannot be built.
    pub fn has_classifier(&self) -> Result<bool> {
        Ok(has_classifier(&self.spec.parameters()?, &self.file))
    }

    /// Takes the file for that of the published model which has most of its tensors.
    fn recognise(mut file: WeightsFile, path: &Path) -> Result<Pretrained> {
        let unknown = |what: &str| Error::file(path, format!("{what}; {}", known_models()));
        let mut best: Option<Candidate> = None;
        for model in Architecture::all() {
            for candidate in Candidate::all(model, &file)? {
                if best.as_ref().is_none_or(|best| candidate.tensors > best.tensors) {
                    best = Some(candidate);
                }
            }
        }
        let Some(Candidate { model, published, names, tensors }) = best.filter(|best| best.tensors > 0)
        else {
            return Err(unknown("its tensors have the names of no known model"));
        };
        let has = |(tensor, _): &&(&str, &str)| file.tensors.contains_key(*tensor);
        if let Some((_, relative)) = published.relatives.iter().find(has) {
            return Err(unknown(&format!("it is a {relative}, which is not known here")));
        }
        if 2 * tensors < file.tensors.len() {
            return Err(unknown("its tensors have the names of no known model"));
        }
        file.tensors = names.rename(file.tensors);
        let width = width(model, &file)?
            .ok_or_else(|| unknown(&format!("its layers have the channels of no usual {model}")))?;
        let classes = classes(model, &file)?;
        let spec = spec(model, width, classes, published.pixels, &file)
            .map_err(|key| Error::file(path, format!("its metadata's '{key}' makes no sense")))?;
        Ok(Pretrained { spec, file, layout: names.whose })
    }
}

/// Whether a file has all tensors of the classifier.
fn has_classifier(parameters: &[Parameter], file: &WeightsFile) -> bool {
    let mut classifier = parameters.iter().filter(|parameter| parameter.classifier);
    classifier.all(|parameter| file.tensors.contains_key(&parameter.name))
}

/// Kinds of files.
struct Candidate {
    model: &'static Architecture,
    published: &'static Published,
    names: &'static Names,
    /// How many of the file's tensors it has.
    tensors: usize,
}

impl Candidate {
    /// The model under each of the names that it goes by.
    fn all(model: &'static Architecture, file: &WeightsFile) -> Result<Vec<Candidate>> {
        let Some(published) = &model.published else { return Ok(Vec::new()) };
        let parameters = model.parameters(1, Variant::plain(model.usual_size))?;
        let known: BTreeSet<&str> = parameters.iter().map(|parameter| parameter.name.as_str()).collect();
        let is_known = |name: &String, names: &Names| {
            (names.ours)(name).is_some_and(|ours| known.contains(ours.as_str()))
        };
        let candidate = |names: &'static Names| {
            let tensors = file.tensors.keys().filter(|name| is_known(name, names)).count();
            Candidate { model, published, names, tensors }
        };
        Ok(published.names.iter().map(candidate).collect())
    }
}

/// Refuses a file of this engine that is no weights file, but a training's checkpoint.
fn checkpoint(file: &WeightsFile, path: &Path) -> Result<()> {
    match file.metadata.get("format").filter(|format| format.starts_with("cifar-engine checkpoint")) {
        None => Ok(()),
        Some(_) => Err(Error::file(
            path,
            "is a checkpoint, which `resume` goes on from; the weights are in best.safetensors and \
             last.safetensors of the run, and those that were kept after epochs in checkpoints/weights-*.safetensors",
        )),
    }
}

/// Refuses a file of this engine whose model another program added to it.
fn foreign_architecture(file: &WeightsFile, path: &Path) -> Result<()> {
    match file.metadata.get("model").filter(|_| file.metadata.contains_key("bn_epsilon")) {
        None => Ok(()),
        Some(name) => {
            let problem = format!("is of a model '{name}', which only the program that trained it knows");
            Err(Error::file(
                path,
                format!("{problem}; in a program of yours, `Architecture::register` makes it known"),
            ))
        }
    }
}

/// The models whose weights from elsewhere are known, for a message.
fn known_models() -> String {
    let known = Architecture::all();
    let known = known.iter().filter_map(|model| Some((model.name, model.published.as_ref()?)));
    let known = known.map(|(model, published)| {
        let mut whose: Vec<&str> = published.names.iter().map(|names| names.whose).collect();
        whose.dedup();
        format!("{model} in {} names", whose.join(" or "))
    });
    let known: Vec<String> = known.collect();
    format!(
        "known are {}, and files that this program wrote; tools/pretrained.py converts others",
        known.join(", ")
    )
}

/// Prefixes that training tools put before every name: PyTorch's parallel models and its compiler,
/// Lightning.
const PREFIXES: [&str; 4] = ["module.", "_orig_mod.", "model.", "state_dict."];

/// How much of every name is prefixes of tools.
fn prefix<'a>(mut names: impl Iterator<Item = &'a String> + Clone) -> usize {
    let Some(first) = names.next() else { return 0 };
    let mut end = 0;
    while let Some(prefix) = PREFIXES.iter().find(|prefix| first[end..].starts_with(**prefix)) {
        end += prefix.len();
    }
    if names.all(|name| name.starts_with(&first[..end])) { end } else { 0 }
}

/// The width at which most of the file's tensors have the model's shapes; none where that is less
/// than half of those that are the model's.
fn width(model: &Architecture, file: &WeightsFile) -> Result<Option<f32>> {
    let stated = file.metadata.get("width").and_then(|width| width.parse().ok());
    let mut widths: Vec<f32> = stated.into_iter().chain(USUAL_WIDTHS).collect();
    widths.retain(|width| WIDTHS.contains(width));
    if !model.has_variants {
        widths = vec![1.0];
    }
    let mut best = (0, None);
    for width in widths {
        let (known, fitting) = shapes_at(model, width, file)?;
        if fitting > best.0 && 2 * fitting >= known {
            best = (fitting, Some(width));
        }
    }
    Ok(best.1)
}

/// How many of a file's tensors are the model's, and how many of these have its shapes at this
/// width; not counting the classifier, whose classes are not known.
fn shapes_at(model: &Architecture, width: f32, file: &WeightsFile) -> Result<(usize, usize)> {
    let variant = Variant { width, ..Variant::plain(model.usual_size) };
    let (mut known, mut fitting) = (0, 0);
    for parameter in model.parameters(1, variant)?.iter().filter(|parameter| !parameter.classifier) {
        let Some(tensor) = file.tensors.get(&parameter.name) else { continue };
        known += 1;
        let shape = layout::disk_shape(parameter.layout, parameter.shape.dims())?;
        fitting += usize::from(tensor.shape == shape);
    }
    Ok((known, fitting))
}

/// How many classes a file's classifier tells; ImageNet's number where there is none.
fn classes(model: &Architecture, file: &WeightsFile) -> Result<usize> {
    let parameters = model.parameters(1, Variant::plain(model.usual_size))?;
    let bias = parameters.iter().rfind(|parameter| parameter.classifier);
    let tensor = bias.and_then(|bias| file.tensors.get(&bias.name));
    Ok(tensor.map_or(1000, |bias| bias.shape.iter().product()))
}

/// Description by the metadata, and by what is usual where it is silent.
fn spec(
    architecture: &'static Architecture,
    width: f32,
    classes: usize,
    usual: Pixels,
    file: &WeightsFile,
) -> std::result::Result<Spec, &'static str> {
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
        mean: entry(&file.metadata, "mean", channels)?.unwrap_or(usual.mean),
        std: entry(&file.metadata, "std", channels)?.unwrap_or(usual.std),
        norm: Norm {
            epsilon: entry(&file.metadata, "bn_eps", |text| text.parse().ok())?.unwrap_or(TORCH_EPSILON),
            momentum: entry(&file.metadata, "bn_momentum", |text| text.parse().ok())?.unwrap_or(0.1),
        },
        views: Views::default(),
        calibration: Calibration::default(),
        data: if classes == 1000 { "imagenet".into() } else { "unknown data".into() },
    };
    spec.invalid_entry().map_or(Ok(spec), Err)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_of_tools_are_found_before_all_names_or_none() {
        let found =
            |names: &[&str]| prefix(names.iter().map(|name| name.to_string()).collect::<Vec<_>>().iter());
        assert_eq!(found(&["module.a", "module.b"]), 7);
        assert_eq!(found(&["module._orig_mod.a", "module._orig_mod.b"]), 17);
        assert_eq!(found(&["model.a", "b"]), 0);
        assert_eq!(found(&["a", "model.a"]), 0);
        assert_eq!(found(&[]), 0);
    }
}
