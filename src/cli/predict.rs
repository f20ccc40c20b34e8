//! `cifar-engine predict`.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use clap::Args;
use serde_json::{Value, json};

use super::device::{DeviceOptions, Opened};
use super::options::{DataOptions, WeightsOptions, image_size, same_classes};
use super::stopped;
use crate::console;
use crate::data::Images;
use crate::data::picture::load_picture;
use crate::error::{Error, Result, printable};
use crate::models::Spec;
use crate::report::{Sample, samples};
use crate::train::evaluate::{BATCH_SIZE, Trained, probabilities};

#[derive(Args)]
#[command(after_help = "Examples:
  cifar-engine predict cat.jpg dog.png            with the newest weights in runs/
  cifar-engine predict photo.jpg --weights best.safetensors --json
  cifar-engine predict photo.jpg --weights mobilenetv1_100.safetensors --labels imagenet.txt
  cifar-engine predict --sample 7                 test picture 7, with its label, as sample-7.png")]
pub struct Predict {
    /// Pictures, png or jpeg, of any size.
    #[arg(required_unless_present = "sample", value_name = "IMAGE")]
    images: Vec<PathBuf>,

    /// The weights [default: the newest best.safetensors in runs/].
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,

    #[command(flatten)]
    attributes: WeightsOptions,

    /// Names of the classes, one a line, for weights that come without; a first line too many is skipped.
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,

    /// Side of the pictures in pixels [default: what the weights were trained with].
    #[arg(long, value_name = "PIXELS", value_parser = image_size)]
    image_size: Option<usize>,

    /// Take test picture N of the data set, and write it as a picture with both labels.
    #[arg(long, value_name = "N", conflicts_with = "images")]
    sample: Option<usize>,

    /// Where to write the sample's picture [default: sample-N.png].
    #[arg(long, value_name = "FILE", requires = "sample")]
    out: Option<PathBuf>,

    #[command(flatten)]
    data: DataOptions,

    /// Print the result as JSON.
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    device: DeviceOptions,
}

/// How many classes are named for a picture.
const TOP: usize = 5;

impl Predict {
    pub fn run(self) -> Result<()> {
        let path = match &self.weights {
            Some(path) => path.clone(),
            None => newest_weights()?,
        };
        let mut trained = Trained::open_as(&path, &self.attributes.attributes()?, self.image_size)?;
        if let Some(labels) = &self.labels {
            trained.spec.classes = read_labels(labels, trained.spec.classes.len())?;
        }
        let Spec { architecture, data, .. } = &trained.spec;
        console::info(format_args!("weights: {} ({architecture} on {data})", path.display()));
        match self.sample {
            Some(index) => self.predict_sample(index, &trained),
            None => self.predict_files(&trained),
        }
    }

    fn predict_files(&self, trained: &Trained) -> Result<()> {
        let spec = &trained.spec;
        let mut images = Images { size: spec.image_size, ..Images::default() };
        for image in &self.images {
            images.pixels.extend(load_picture(image, spec.image_size)?);
            images.labels.push(0);
        }
        let rows = self.probabilities(trained, &images)?;
        let top: Vec<Vec<(usize, f32)>> = rows.iter().map(|row| largest(row)).collect();
        if self.json {
            let entries =
                self.images.iter().zip(&top).map(
                    |(image, top)| json!({"image": image.to_string_lossy(), "predictions": predictions(top, &spec.classes)}),
                );
            return console::print(Value::Array(entries.collect()));
        }
        for (image, top) in self.images.iter().zip(&top) {
            console::print(image.display())?;
            print_top(top, &spec.classes)?;
        }
        Ok(())
    }

    fn predict_sample(&self, index: usize, trained: &Trained) -> Result<()> {
        let spec = &trained.spec;
        let data = self.data.load(Some(spec.image_size))?;
        same_classes(&trained.path, &spec.classes, &data)?;
        if index >= data.test.len() {
            let last = data.test.len() - 1;
            return Err(Error::Usage(format!(
                "there is no test picture {index}; they are numbered 0 to {last}"
            )));
        }
        let image = data.test.subset(&[index as u32]);
        let row = self.probabilities(trained, &image)?.remove(0);
        let top = largest(&row);
        let (predicted, probability) = (spec.classes[top[0].0].as_str(), top[0].1);
        let label = spec.classes[image.labels[0] as usize].as_str();
        let out = self.out.clone().unwrap_or_else(|| PathBuf::from(format!("sample-{index}.png")));
        let sample =
            Sample { pixels: &image.pixels, size: image.size, predicted, probability, label: Some(label) };
        samples::draw(&out, &[sample], 1)?;
        if self.json {
            let predictions = predictions(&top, &spec.classes);
            let result =
                json!({"sample": index, "predicted": predicted, "label": label, "predictions": predictions});
            return console::print(result);
        }
        console::print(format_args!("predicted label: {predicted}"))?;
        console::print(format_args!("original label:  {label}"))?;
        print_top(&top, &spec.classes)?;
        console::print(format_args!("picture: {}", out.display()))
    }

    /// A row of class probabilities for each image.
    fn probabilities(&self, trained: &Trained, images: &Images) -> Result<Vec<Vec<f32>>> {
        let Opened { mut device, name, .. } = self.device.open()?;
        console::info(format_args!("device: {name}"));
        let result = trained.evaluate(device.as_mut(), "pictures", images, BATCH_SIZE, || !stopped())?;
        Ok(result.logits.chunks_exact(trained.spec.classes.len()).map(probabilities).collect())
    }
}

/// The lines of a file, as many as there are classes. Lists made for TensorFlow begin with one for the
/// background, which other models do not have.
fn read_labels(path: &Path, classes: usize) -> Result<Vec<String>> {
    const MOST: u64 = 4 << 20;
    let wrong = |problem: String| Error::file(path, problem);
    let file = File::open(path).map_err(|error| wrong(format!("cannot be opened: {error}")))?;
    let mut text = String::new();
    let read = file.take(MOST).read_to_string(&mut text);
    read.map_err(|error| wrong(format!("cannot be read as text: {error}")))?;
    let lines: Vec<String> = text.lines().map(|line| printable(line.trim()).into_owned()).collect();
    match lines.len().checked_sub(classes) {
        Some(extra @ 0..=1) => Ok(lines[extra..].to_vec()),
        _ => Err(wrong(format!("has {} lines, but the model has {classes} classes", lines.len()))),
    }
}

/// The most probable classes, most probable first.
fn largest(row: &[f32]) -> Vec<(usize, f32)> {
    let mut ranked: Vec<(usize, f32)> = row.iter().copied().enumerate().collect();
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
    ranked.truncate(TOP);
    ranked
}

fn predictions(top: &[(usize, f32)], classes: &[String]) -> Value {
    let entry =
        |&(class, probability): &(usize, f32)| json!({"class": classes[class], "probability": probability});
    Value::Array(top.iter().map(entry).collect())
}

fn print_top(top: &[(usize, f32)], classes: &[String]) -> Result<()> {
    let mut lines = top.iter();
    lines
        .try_for_each(|&(class, p)| console::print(format_args!("  {:6.2} %  {}", 100.0 * p, classes[class])))
}

/// The newest `runs/*/best.safetensors`.
fn newest_weights() -> Result<PathBuf> {
    let runs = match fs::read_dir("runs") {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(Error::file(
                "runs",
                format!("cannot be read: {error}; name the weights with --weights"),
            ));
        }
        runs => runs.into_iter().flatten().flatten(),
    };
    let files = runs.map(|entry| entry.path().join("best.safetensors"));
    let dated = files.filter_map(|path| {
        let time = fs::metadata(&path).and_then(|metadata| metadata.modified()).ok()?;
        Some((time, path))
    });
    let newest = dated.max_by_key(|(time, _): &(SystemTime, PathBuf)| *time).map(|(_, path)| path);
    let missing =
        "there are no weights in runs/; train some with 'cifar-engine train', or name a file with --weights";
    newest.ok_or_else(|| Error::Failed(missing.into()))
}
