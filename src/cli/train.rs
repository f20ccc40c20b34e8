//! `cifar-engine train`.

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use serde_json::json;

use super::options::{DataOptions, DeviceOptions, image_size};
use super::progress::{Display, duration};
use crate::console;
use crate::error::{Error, Result};
use crate::models::Architecture;
use crate::train::optimizer::Optimizer;
use crate::train::run_folder::RunFolder;
use crate::train::schedule::Schedule;
use crate::train::settings::{Augmentation, Recipe, Settings, usual_decay, usual_rate};
use crate::train::{self, Outcome};

#[derive(Args)]
#[command(after_help = "Examples:
  cifar-engine train                              CIFAR-10, 20 epochs, the default recipe
  cifar-engine train --data shapes --epochs 2     built-in pictures: no download, a minute
  cifar-engine train --recipe keras               the plain notebook's settings
  cifar-engine train --data pictures/ --image-size 64 --out runs/mine")]
pub struct Train {
    #[command(flatten)]
    data: DataOptions,

    /// Which model.
    #[arg(long, default_value = "cnn")]
    model: Architecture,

    /// Settings to begin with; every option below overrides one.
    #[arg(long, value_enum, default_value_t)]
    recipe: Recipe,

    /// Passes over the training pictures [default: 20].
    #[arg(long, value_name = "N")]
    epochs: Option<usize>,

    /// Pictures a step [default: 128].
    #[arg(long, value_name = "N")]
    batch_size: Option<usize>,

    /// Highest learning rate [default: 0.1 for sgd, 4e-3 for adam, 1e-3 for keras-adam].
    #[arg(long, value_name = "RATE", allow_negative_numbers = true)]
    lr: Option<f32>,

    /// How the rate moves [default: one-cycle].
    #[arg(long, value_enum)]
    schedule: Option<Schedule>,

    /// sgd, adam or keras-adam [default: sgd].
    #[arg(long, value_name = "NAME")]
    optimizer: Option<Optimizer>,

    /// Weight decay [default: 1e-3 for sgd, else 0].
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    weight_decay: Option<f32>,

    /// Share of the target spread over all classes [default: 0.1].
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    label_smoothing: Option<f32>,

    /// Dropout before the classifier [default: 0.3; 0.5 in the keras recipe].
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    dropout: Option<f32>,

    /// none, or a list such as flip,shift=4,cutout=8 [default: flip,shift=4].
    #[arg(long, value_name = "LIST")]
    augment: Option<Augmentation>,

    /// Side of the pictures in pixels [default: 32].
    #[arg(long, value_name = "PIXELS", value_parser = image_size)]
    image_size: Option<usize>,

    /// Pictures of the training set held back for validation; 0 for none [default: 5000, at most a tenth].
    #[arg(long, value_name = "N")]
    validation: Option<usize>,

    /// Decides everything that is random.
    #[arg(long, default_value_t = 0, value_name = "N")]
    seed: u32,

    /// Where to write the run [default: runs/MODEL-DATA-N].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// Print the result as JSON.
    #[arg(long)]
    json: bool,

    /// Print nothing but results, warnings and errors.
    #[arg(long, short)]
    quiet: bool,

    #[command(flatten)]
    device: DeviceOptions,
}

impl Train {
    pub fn run(self) -> Result<()> {
        let mut settings = self.settings();
        settings.check()?;
        let mut device = self.device.cpu()?;
        let data = self.data.load(self.image_size, self.quiet)?;
        settings.data = data.name.clone();
        // A tenth, so that small data sets of one's own train without further options.
        let largest = data.train.len() / 10;
        settings.validation = self.validation.unwrap_or(settings.validation.min(largest));
        settings.check_against(data.train.len())?;
        let run = RunFolder::create(self.out.clone(), &settings, &data.name)?;
        if !self.quiet {
            let (threads, isa) = (device.threads(), device.isa());
            let folder = run.path().display();
            console::note(format_args!("device: cpu, {threads} threads, {isa}; run folder: {folder}"));
        }
        let (name, classes) = (data.name.clone(), data.classes.clone());
        let mut display = Display::new(settings.epochs, self.quiet);
        let begin = Instant::now();
        let outcome = train::train(&mut device, &settings, data, &run, &mut display);
        display.finish();
        if let Err(Error::Interrupted) = outcome {
            console::note(format_args!("interrupted; the weights so far are in {}", run.last().display()));
        }
        self.report(&outcome?, &name, &classes, &run, begin.elapsed().as_secs_f64())
    }

    /// The recipe with every given option in place.
    fn settings(&self) -> Settings {
        let mut s = self.recipe.settings();
        if let Some(optimizer) = self.optimizer.filter(|optimizer| *optimizer != s.optimizer) {
            s.optimizer = optimizer;
            (s.rate, s.weight_decay) = (usual_rate(optimizer), usual_decay(optimizer));
        }
        s.model = self.model;
        s.seed = self.seed;
        s.epochs = self.epochs.unwrap_or(s.epochs);
        s.batch_size = self.batch_size.unwrap_or(s.batch_size);
        s.rate = self.lr.unwrap_or(s.rate);
        s.schedule = self.schedule.unwrap_or(s.schedule);
        s.weight_decay = self.weight_decay.unwrap_or(s.weight_decay);
        s.label_smoothing = self.label_smoothing.unwrap_or(s.label_smoothing);
        s.dropout = self.dropout.unwrap_or(s.dropout);
        s.augment = self.augment.unwrap_or(s.augment);
        s.image_size = self.image_size.unwrap_or(s.image_size);
        s
    }

    fn report(
        &self,
        outcome: &Outcome,
        data: &str,
        classes: &[String],
        run: &RunFolder,
        seconds: f64,
    ) -> Result<()> {
        let Outcome { history, test } = outcome;
        let folder = run.path().display();
        if self.json {
            let result = json!({
                "data": data,
                "epochs": history.len(),
                "test_accuracy": test.accuracy,
                "test_loss": test.loss,
                "per_class": super::evaluate::per_class(test, classes),
                "seconds": seconds,
                "run": run.path().to_string_lossy(),
            });
            return console::print(result);
        }
        console::print(format_args!(
            "{data}: test accuracy {:.2} %, loss {:.4}, after {} epochs in {}",
            100.0 * test.accuracy,
            test.loss,
            history.len(),
            duration(seconds)
        ))?;
        let files = "curves.png, metrics.csv, settings.toml, best.safetensors, last.safetensors";
        console::print(format_args!("{folder}: {files}"))?;
        // What was loaded, not what was asked for: auto may have fallen back.
        let source = if data == "shapes" { data } else { &self.data.data };
        let (source, weights) = (quoted(source), quoted(&run.best().to_string_lossy()));
        console::print(format_args!(
            "try: cifar-engine predict --sample 0 --data {source} --weights {weights}"
        ))
    }
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "._-/+=:@".contains(c);
    if word.chars().all(plain) { word.to_string() } else { format!("'{}'", word.replace('\'', "'\\''")) }
}
