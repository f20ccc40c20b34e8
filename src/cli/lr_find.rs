//! `cifar-engine lr-find`: searches for a learning rate.

use std::path::{Path, PathBuf};

use clap::{Args, Command};
use serde_json::json;

use super::contact::ContactOptions;
use super::device::{DeviceOptions, OpenDevice};
use super::loading::{announce, load_training};
use super::{progress, stopped};
use crate::console;
use crate::error::{Error, Result};
use crate::report::csv;
use crate::report::{Trial, rates};
use crate::train::first_contact;
use crate::train::lr_find::{find, suggest};
use crate::train::settings::Choices;

/// Find a learning rate: train a few steps at rates that rise, and see where the loss is lowest.
///
/// Suggested is the rate at which the smoothed loss is lowest: a schedule that only passes its
/// highest rate can take it. With --schedule constant it is a tenth of that.
#[derive(Args)]
#[command(after_help = "Examples:
  cifar-engine lr-find                            for the default recipe
  cifar-engine lr-find --optimizer adam --data pictures/ --out adam.png
  cifar-engine train --lr \"$(cifar-engine lr-find --json -q | jq .suggested)\"")]
pub struct LrFind {
    #[command(flatten)]
    choices: Choices,

    /// Take settings from a file, such as the settings.toml of a run.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// The first rate.
    #[arg(long, default_value_t = 1e-5, value_name = "RATE")]
    from: f32,

    /// The last rate, unless the loss explodes before.
    #[arg(long, default_value_t = 10.0, value_name = "RATE")]
    to: f32,

    /// Steps from the first rate to the last.
    #[arg(long, default_value_t = 120, value_name = "N", value_parser = clap::value_parser!(u16).range(10..))]
    steps: u16,

    /// Where to write the picture; the figures go into a .csv file beside it.
    #[arg(long, default_value = "lr-find.png", value_name = "FILE")]
    out: PathBuf,

    /// Print the result as JSON.
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    device: DeviceOptions,

    #[command(flatten)]
    contact: ContactOptions,
}

/// Leaves out of the help what `train` has and a search does not heed.
pub fn describe(command: Command) -> Command {
    let idle = ["rate", "epochs", "validation", "ema", "early_stop", "plateau", "target"];
    let idle = idle.into_iter().chain(["keep_checkpoints", "tensorboard", "test_flip", "test_shift"]);
    idle.fold(command, |command, name| command.mut_arg(name, |arg| arg.hide(true)))
}

impl LrFind {
    pub fn run(self) -> Result<()> {
        let rising = self.from > 0.0 && self.from < self.to && self.to.is_finite();
        if !rising {
            let (from, to) = (self.from, self.to);
            return Err(Error::Usage(format!("--from {from} must be over 0 and below --to {to}")));
        }
        let choices = self.choices.with_file(self.config.as_deref())?;
        let mut settings = choices.settings();
        settings.check()?;
        let data = load_training(&settings, self.device.threads, None)?;
        choices.resolve(&mut settings, &data)?;
        announce(&data, &settings)?;
        let OpenDevice { mut device, name: device_name, .. } =
            self.contact.open(&self.device, || first_contact::training(&settings, &data))?;
        console::info(format_args!("device: {device_name}"));
        let range = (self.from, self.to);
        let bar = progress::bar("learning rates", self.steps.into());
        let goes_on = |done: usize, _of: usize| {
            bar.set_position(done as u64);
            !stopped()
        };
        let trials = find(device.as_mut(), &settings, &data, range, self.steps.into(), goes_on);
        bar.finish_and_clear();
        let trials = trials?;
        let suggested = suggest(&trials, settings.schedule);
        let title = format!("{} on {}, {}", settings.model, data.name, settings.optimizer);
        rates::draw(&self.out, &title, &trials, suggested)?;
        let table = self.out.with_extension("csv");
        write_table(&table, &trials)?;
        let Some(rate) = suggested else {
            let picture = self.out.display();
            return Err(Error::Failed(format!(
                "no learning rate lowered the loss in {} steps; try --steps 200, a lower --from, or another \
                 --optimizer (the picture is {picture})",
                trials.len()
            )));
        };
        if self.json {
            let out = self.out.to_string_lossy();
            return console::print_json(&json!({"suggested": rate, "steps": trials.len(), "picture": out}));
        }
        let why = match settings.schedule.is_constant() {
            true => "a tenth of the rate with the lowest loss, for a constant rate",
            false => "where the smoothed loss is lowest",
        };
        console::print(format_args!("suggested: --lr {rate:.1e} ({why})"))?;
        console::print(format_args!("{}, {}", self.out.display(), table.display()))
    }
}

fn write_table(path: &Path, trials: &[Trial]) -> Result<()> {
    let rows = trials.iter().map(|Trial { rate, loss, smooth }| format!("{rate},{loss},{smooth}"));
    csv::write(path, "rate,loss,smooth", rows)
}
