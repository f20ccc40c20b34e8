//! `cifar-engine evaluate`: measures the accuracy of trained weights.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Map, Value, json};

use super::contact::ContactOptions;
use super::device::{DeviceOptions, OpenDevice};
use super::loading::{DataOptions, Tried};
use super::options::ViewOptions;
use super::{progress, stopped};
use crate::console;
use crate::data::DataSource;
use crate::error::{Error, Result};
use crate::files::advice;
use crate::models::LoadedModel;
use crate::report::{Measures, Reading, RunReport};
use crate::train::evaluate::{BATCH_SIZE, EvalOptions, Evaluation};
use crate::train::{first_contact, run_folder};

#[derive(Args)]
#[command(after_help = "Examples:
  cifar-engine evaluate runs/cnn-cifar10-1    on that run's own test images
  cifar-engine evaluate best.safetensors --data pictures/ --report report/
  cifar-engine evaluate best.safetensors --data pictures/ --json")]
pub struct Evaluate {
    /// The weights, as `train` writes them, or a run folder, for its best ones.
    weights: PathBuf,

    #[command(flatten)]
    data: DataOptions,

    #[command(flatten)]
    views: ViewOptions,

    /// Images a step.
    #[arg(long, default_value_t = BATCH_SIZE as u32, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    batch_size: u32,

    /// Write a report into this folder: report.html, confusion matrix, figures by class, mistakes.
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,

    /// Print the result as JSON: accuracy, loss, measures beside them, per_class.
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    device: DeviceOptions,

    #[command(flatten)]
    contact: ContactOptions,
}

impl Evaluate {
    pub fn run(self) -> Result<()> {
        let tried = Tried::at(&self.weights)?;
        let trained = LoadedModel::open(&tried.weights)?;
        let spec = &trained.spec;
        let batch_size = self.batch_size as usize;
        let trials = || first_contact::evaluation(&trained, batch_size);
        let OpenDevice { mut device, name: device_name, .. } = self.contact.open(&self.device, trials)?;
        console::info(format_args!("device: {device_name}"));
        if let Some(folder) = &self.report {
            prepare(folder, &tried.source(spec, &self.data)?)?;
        }
        let data = tried.load(spec, &self.data, self.device.threads)?;
        let (set, images) = data.measured();
        let views = self.views.or(spec.views);
        let options = EvalOptions { batch_size, views };
        let bar = progress::bar(set, 0);
        let goes_on = |done: usize, of: usize| {
            bar.set_length(of as u64);
            bar.set_position(done as u64);
            !stopped()
        };
        let result = trained.evaluate(device.as_mut(), set, images, options, goes_on);
        bar.finish_and_clear();
        let result = result?;
        if let Some(folder) = &self.report {
            RunReport {
                title: &format!("{} on {}, evaluated on {}", spec.architecture, spec.data, data.name),
                facts: &[
                    ("weights".to_string(), self.weights.display().to_string()),
                    ("device".to_string(), device.name()),
                ],
                classes: &spec.classes,
                history: &[],
                reading: Reading::default(),
                accuracy: result.accuracy,
                plain_accuracy: result.plain_accuracy,
                loss: result.loss,
                logits: result.logits.view(),
                calibration: spec.calibration,
                images,
                validation: None,
                folder: data.folder.as_deref(),
                set,
                parameters: trained.trained_parameters,
                settings: "",
                inside: "",
            }
            .write(folder)?;
            console::info(format_args!("report: {}", folder.join("report.html").display()));
        }
        let measures = Measures::of(result.logits.view(), &images.labels, spec.calibration);
        if self.json {
            let per_class = per_class(&result, &spec.classes);
            let (accuracy, plain, loss) = (result.accuracy, result.plain_accuracy, result.loss);
            let mut result = json!({"accuracy": accuracy, "loss": loss, "data": data.name, "images": set});
            (result["test_flip"], result["test_shift"]) = (json!(views.flip), json!(views.shift));
            result["accuracy_without_flip"] = json!(plain.unwrap_or(accuracy));
            measures.entries().into_iter().for_each(|(name, value)| result[name] = value);
            result["per_class"] = per_class.into();
            return console::print_json(&result);
        }
        console::print(format_args!("{}: {}", data.name, headline(set, &result)))?;
        console::print(measures.line())?;
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

/// Makes the folder of a report, unless it is that of a run, whose own report it would replace, or
/// has images of the data in it, or lies among them.
fn prepare(folder: &Path, data: &DataSource) -> Result<()> {
    if folder.exists() && !folder.is_dir() {
        return Err(Error::file(folder, "is not a folder; choose another with --report"));
    }
    if run_folder::settings_in(folder)?.is_some() {
        let problem = "is a run, whose own report this one would replace";
        return Err(Error::file(folder, format!("{problem}; choose another folder with --report")));
    }
    data.check_apart(folder)?;
    fs::create_dir_all(folder)
        .map_err(|error| Error::file(folder, format!("cannot be created: {}", advice(&error))))
}

/// Accuracy and loss, and what was done to get them.
pub fn headline(set: &str, result: &Evaluation) -> String {
    let (accuracy, loss) = (100.0 * result.accuracy, result.loss);
    match (result.plain_accuracy, result.views.told()) {
        (Some(plain), Some(views)) => {
            let plain = format!("({views}; {:.2} % without)", 100.0 * plain);
            format!("{set} accuracy {accuracy:.2} % {plain}, loss {loss:.4}")
        }
        _ => format!("{set} accuracy {accuracy:.2} %, loss {loss:.4}"),
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
