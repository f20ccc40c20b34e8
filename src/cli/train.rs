//! `cifar-engine train`: trains a model from scratch.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::contact::ContactOptions;
use super::device::{DeviceOptions, OpenDevice};
use super::evaluate::headline;
use super::loading::{announce, load_training, tell_scaling};
use super::options::AboutOptions;
use super::progress::Display;
use super::resume::{check_begun_by, reopened, tell_interrupted};
use super::team::{self, together, with_shards};
use crate::console;
use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::team::Team;
use crate::text::{counted, duration};
use crate::train::about::About;
use crate::train::run_folder::RunFolder;
use crate::train::settings::choices::reusable_source;
use crate::train::settings::{Choices, Settings};
use crate::train::{self, Outcome, first_contact};

#[derive(Args)]
#[command(after_help = "Examples:
  cifar-engine train                            CIFAR-10, the default recipe
  cifar-engine train --data shapes --epochs 2   built-in images: no download
  cifar-engine train --recipe keras             the plain notebook's settings
  cifar-engine train --data images/ --image-size 64 --out runs/mine
  cifar-engine train --resume runs/mine         go on where it was interrupted
  cifar-engine train --config runs/mine/settings.toml --seed 1

Settings also come from environment variables (CIFAR_ENGINE_EPOCHS is --epochs),
which options win over, and from a file (--config, with the names of
settings.toml), which both win over.")]
pub struct Train {
    #[command(flatten)]
    choices: Choices,

    /// Take settings from a file, such as the settings.toml of a run.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Go on with an interrupted run, with its settings.
    #[arg(long, value_name = "RUN", conflicts_with_all = ["out", "config", "recipe"])]
    resume: Option<PathBuf>,

    /// Where to write the run [default: runs/MODEL-DATA-N].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    #[command(flatten)]
    about: AboutOptions,

    /// Print the result as JSON.
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    device: DeviceOptions,

    #[command(flatten)]
    contact: ContactOptions,
}

impl Train {
    /// The command that goes on with a run.
    pub fn resuming(
        run: PathBuf,
        choices: Choices,
        (about, json, device, contact): (AboutOptions, bool, DeviceOptions, ContactOptions),
    ) -> Train {
        let (config, out) = (None, None);
        Train { choices, config, resume: Some(run), out, about, json, device, contact }
    }

    pub fn run(self) -> Result<()> {
        together("train", |team| self.run_in(team))
    }

    /// [`Train::run`] by the processes of a team.
    pub fn run_in(self, team: &Team) -> Result<()> {
        let about = self.about.given()?;
        let (run, settings, data) = match &self.resume {
            Some(path) => self.open(reopened(team, path)?)?,
            None => self.create(team)?,
        };
        about.write(run.path())?;
        let device = self.device.in_precision(settings.precision)?;
        let OpenDevice { mut device, name: device_name, .. } =
            self.contact.open(&device, || first_contact::training(&settings, &data))?;
        console::info(format_args!("device: {device_name}; run folder: {}", run.path().display()));
        team::tell(team, &settings)?;
        let (name, classes) = (data.name.clone(), data.classes.clone());
        let mut display = Display::new(settings.epochs);
        let outcome = train::train(device.as_mut(), &settings, data, &run, &mut display);
        display.finish();
        if let Err(Error::Interrupted) = outcome {
            tell_interrupted(&run);
        }
        Report { outcome: &outcome?, data: &name, source: &settings.data, classes: &classes, run: &run }
            .print(self.json)
    }

    /// A new run, by the given choices.
    fn create(&self, team: &Team) -> Result<(RunFolder, Settings, Dataset)> {
        let choices = with_shards(self.choices.with_file(self.config.as_deref())?, team);
        let mut settings = choices.settings();
        settings.check()?;
        self.device.in_precision(settings.precision)?;
        team.check_shards(settings.shards)?;
        let data = load_training(&settings, self.device.threads, None)?;
        if choices.image_size.is_none() {
            tell_scaling(&data, settings.image_size);
        }
        let notes = choices.resolve(&mut settings, &data)?;
        notes.iter().for_each(|note| console::info(format_args!("note: {note}")));
        settings.check_against(data.training_len(settings.validation))?;
        announce(&data, &settings)?;
        let new = || RunFolder::create(self.out.clone(), &settings, &data.name);
        let run = RunFolder::of_team(team, new)?;
        Ok((run, settings, data))
    }

    /// A run that was begun before; what is chosen now must be what was chosen then.
    pub(super) fn open(
        &self,
        (run, settings): (RunFolder, Settings),
    ) -> Result<(RunFolder, Settings, Dataset)> {
        check_begun_by("train", run.path())?;
        let wanted = self.choices.apply_to(&settings);
        wanted.check()?;
        wanted.check_resumes(&settings)?;
        let data = load_training(&wanted, self.device.threads, Some(run.path()))?;
        announce(&data, &wanted)?;
        let wanted = Settings { data: reusable_source(&wanted.data, &data), ..wanted };
        Ok((run, wanted, data))
    }
}

/// Summary of a training for the user.
pub struct Report<'a> {
    pub outcome: &'a Outcome,
    /// The data set's name, and where it is from.
    pub data: &'a str,
    pub source: &'a str,
    pub classes: &'a [String],
    pub run: &'a RunFolder,
}

impl Report<'_> {
    pub fn print(&self, as_json: bool) -> Result<()> {
        let Report { outcome: Outcome { history, set, test, measures }, data, source, classes, run } = *self;
        let seconds: f64 = history.iter().map(|row| row.seconds).sum();
        let folder = run.path().display();
        if as_json {
            let mut result = json!({
                "data": data,
                "epochs": history.len(),
                "per_class": super::evaluate::per_class(test, classes),
                "seconds": seconds,
                "run": run.path().to_string_lossy(),
            });
            About::read(run.path())?.entries().into_iter().for_each(|(name, value)| result[name] = value);
            result[format!("{set}_accuracy")] = json!(test.accuracy);
            result[format!("{set}_loss")] = json!(test.loss);
            let plain = test.plain_accuracy.unwrap_or(test.accuracy);
            result[format!("{set}_accuracy_without_flip")] = json!(plain);
            measures.entries_of(set).into_iter().for_each(|(name, value)| result[name] = value);
            return console::print_json(&result);
        }
        console::print(format_args!(
            "{data}: {}, after {} in {}",
            headline(set, test),
            counted(history.len(), "epoch"),
            duration(seconds)
        ))?;
        console::print(measures.line())?;
        let files = "report.html, curves.png, metrics.csv, settings.toml, best.safetensors and more";
        console::print(format_args!("{folder}: {files}"))?;
        let (source, weights) = (quoted(source), quoted(&run.best().to_string_lossy()));
        console::print(format_args!(
            "try: cifar-engine predict --sample 0 --data {source} --weights {weights}"
        ))
    }
}

/// A word as a shell takes it.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "._-/+=:@".contains(c);
    if word.chars().all(plain) { word.to_string() } else { format!("'{}'", word.replace('\'', "'\\''")) }
}
