//! `cifar-engine evaluate`.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Map, Value, json};

use super::device::{DeviceOptions, Opened};
use super::options::{DataOptions, same_classes};
use super::stopped;
use crate::console;
use crate::error::Result;
use crate::train::evaluate::{BATCH_SIZE, Evaluation, Trained};

#[derive(Args)]
#[command(after_help = "Examples:
  cifar-engine evaluate runs/cnn-cifar10-1/best.safetensors
  cifar-engine evaluate best.safetensors --data pictures/ --json")]
pub struct Evaluate {
    /// The weights, as `train` writes them.
    weights: PathBuf,

    #[command(flatten)]
    data: DataOptions,

    /// Pictures a step.
    #[arg(long, default_value_t = BATCH_SIZE as u32, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    batch_size: u32,

    /// Print the result as JSON: accuracy, loss, per_class.
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    device: DeviceOptions,
}

impl Evaluate {
    pub fn run(self) -> Result<()> {
        let trained = Trained::open(&self.weights)?;
        let spec = &trained.spec;
        let Opened { mut device, name: device_name, .. } = self.device.open()?;
        console::info(format_args!("device: {device_name}"));
        let data = self.data.load(Some(spec.image_size))?;
        same_classes(&self.weights, &spec.classes, &data)?;
        let batch_size = self.batch_size as usize;
        let result = trained.evaluate(device.as_mut(), "test", &data.test, batch_size, || !stopped())?;
        if self.json {
            let per_class = per_class(&result, &spec.classes);
            let (accuracy, loss) = (result.accuracy, result.loss);
            let result =
                json!({"accuracy": accuracy, "loss": loss, "per_class": per_class, "data": data.name});
            return console::print(result);
        }
        let (name, accuracy) = (&data.name, 100.0 * result.accuracy);
        console::print(format_args!("{name}: test accuracy {accuracy:.2} %, loss {:.4}", result.loss))?;
        let width = spec.classes.iter().map(|class| class.chars().count()).max().unwrap_or(0);
        for (class, (correct, images)) in spec.classes.iter().zip(&result.per_class) {
            let share = match images {
                0 => "-".to_string(),
                _ => format!("{:.2} %", 100.0 * *correct as f64 / *images as f64),
            };
            console::print(format_args!("  {class:width$}  {share:>8}  ({correct} of {images})"))?;
        }
        Ok(())
    }
}

/// Accuracy by class name; null for a class without images.
pub fn per_class(result: &Evaluation, classes: &[String]) -> Map<String, Value> {
    let accuracy = |&(correct, images): &(usize, usize)| match images {
        0 => Value::Null,
        _ => json!(correct as f64 / images as f64),
    };
    classes.iter().cloned().zip(result.per_class.iter().map(accuracy)).collect()
}
