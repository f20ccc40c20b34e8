//! `cifar-engine evaluate`.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Map, Value, json};

use super::options::{DataOptions, DeviceOptions, same_classes};
use super::stopped;
use crate::error::Result;
use crate::models::{self, Spec};
use crate::train::evaluate::{BATCH_SIZE, Evaluation, Evaluator};
use crate::train::plans::write_parameters;
use crate::weights;

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

    /// Print nothing but results, warnings and errors.
    #[arg(long, short)]
    quiet: bool,

    #[command(flatten)]
    device: DeviceOptions,
}

impl Evaluate {
    pub fn run(self) -> Result<()> {
        let file = weights::load(&self.weights)?;
        let spec = Spec::from_metadata(&file.metadata, &self.weights)?;
        let mut device = self.device.cpu()?;
        let data = self.data.load(Some(spec.image_size), self.quiet)?;
        same_classes(&self.weights, &spec.classes, &data)?;
        let evaluator = Evaluator::new(&mut device, &spec, "test", &data.test, self.batch_size as usize)?;
        let values = models::values(&file, &evaluator.parameters, &self.weights)?;
        write_parameters(&mut device, &evaluator.parameters, &values)?;
        let result = evaluator.run(&mut device, || !stopped())?;
        if self.json {
            let per_class = per_class(&result, &spec.classes);
            let (accuracy, loss) = (result.accuracy, result.loss);
            println!(
                "{}",
                json!({"accuracy": accuracy, "loss": loss, "per_class": per_class, "data": data.name})
            );
            return Ok(());
        }
        println!("{}: test accuracy {:.2} %, loss {:.4}", data.name, 100.0 * result.accuracy, result.loss);
        let width = spec.classes.iter().map(|class| class.chars().count()).max().unwrap_or(0);
        for (class, (correct, images)) in spec.classes.iter().zip(&result.per_class) {
            let share = 100.0 * *correct as f64 / (*images).max(1) as f64;
            println!("  {class:width$}  {share:6.2} %  ({correct} of {images})");
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
