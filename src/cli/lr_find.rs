//! `cifar-engine lr-find`.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::choices::Choices;
use super::device::{DeviceOptions, Opened};
use super::options::load_data;
use super::stopped;
use crate::console;
use crate::error::{Error, Result};
use crate::files::write_atomic;
use crate::report::rates::{self, Trial};
use crate::train::lr_find::{find, suggest};

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
}

impl LrFind {
    pub fn run(self) -> Result<()> {
        let rising = self.from > 0.0 && self.from < self.to && self.to.is_finite();
        if !rising {
            let (from, to) = (self.from, self.to);
            return Err(Error::Usage(format!("--from {from} must be over 0 and below --to {to}")));
        }
        let choices = self.choices.or_from(self.config.as_deref())?;
        let mut settings = choices.settings();
        settings.check()?;
        let data = load_data(&settings.data, settings.image_size, false, settings.skip_bad)?;
        choices.settle(&mut settings, &data);
        let Opened { mut device, name: device_name, .. } = self.device.open()?;
        console::info(format_args!("device: {device_name}"));
        let range = (self.from, self.to);
        let trials = find(device.as_mut(), &settings, &data, range, self.steps.into(), || !stopped())?;
        let suggested = suggest(&trials, settings.schedule);
        let title = format!("{} on {}, {}", settings.model, data.name, settings.optimizer);
        rates::draw(&self.out, &title, &trials, suggested)?;
        let table = self.out.with_extension("csv");
        write_table(&table, &trials)?;
        if self.json {
            let out = self.out.to_string_lossy();
            return console::print_json(
                &json!({"suggested": suggested, "steps": trials.len(), "picture": out}),
            );
        }
        match suggested {
            Some(rate) => console::print(format_args!("suggested: --lr {rate:.1e}"))?,
            None => console::print("no rate makes the loss fall; try other settings, or a lower --from")?,
        }
        console::print(format_args!("{}, {}", self.out.display(), table.display()))
    }
}

fn write_table(path: &PathBuf, trials: &[Trial]) -> Result<()> {
    write_atomic(path, |file| {
        writeln!(file, "rate,loss,smooth")?;
        trials.iter().try_for_each(|Trial { rate, loss, smooth }| writeln!(file, "{rate},{loss},{smooth}"))
    })
}
