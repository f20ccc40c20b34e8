//! `cifar-engine lr-find`: searches for a learning rate.

use std::path::{Path, PathBuf};

use clap::{Args, Command};
use serde_json::json;

use super::contact::ContactOptions;
use super::device::{DeviceOptions, OpenDevice};
use super::finetune::FinetuneCommand;
use super::loading::{announce, load_training};
use super::options::WeightsOptions;
use super::progress::Display;
use crate::console;
use crate::data::DataSource;
use crate::error::{Error, Result};
use crate::files::{check_output, check_picture};
use crate::report::csv;
use crate::report::{Trial, rates};
use crate::team::Team;
use crate::train::finetune::find_rate;
use crate::train::first_contact;
use crate::train::lr_find::{Curve, Nothing, Range, Why, find};
use crate::train::run_folder::RunFolder;
use crate::train::settings::finetune::{Blocks, FinetuneChoices};
use crate::train::settings::{Choices, Settings};

/// Find a learning rate: train a few steps at rates that rise, and see where the loss is lowest.
///
/// Suggested is the rate at which the smoothed loss is lowest: a schedule that only passes its
/// highest rate can take it. With --schedule constant it is a tenth of that. With --pretrained, or
/// another option of finetune, it is the rate of a fine-tuning's last stage, and the loss that of
/// images which are held back: where no rate lowers it, the highest is suggested that does no harm.
#[derive(Args)]
#[command(after_help = "Examples:
  cifar-engine lr-find                            for the default recipe
  cifar-engine lr-find --optimizer adam --data pictures/ --out adam.png
  cifar-engine lr-find --pretrained auto --data photos/       for finetune
  cifar-engine train --lr \"$(cifar-engine lr-find --json -q | jq .suggested)\"")]
pub struct LrFind {
    #[command(flatten)]
    choices: Choices,

    #[command(flatten)]
    own: FinetuneChoices,

    #[command(flatten)]
    attributes: WeightsOptions,

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

/// Leaves out of the help what `train` and `finetune` have and a search does not heed.
pub fn describe(command: Command) -> Command {
    let idle = ["rate", "epochs", "validation", "ema", "early_stop", "plateau", "target", "head_epochs"];
    let idle = idle.into_iter().chain(["keep_checkpoints", "tensorboard", "test_flip", "test_shift"]);
    idle.chain(["head_rate", "fit_head"])
        .fold(command, |command, name| command.mut_arg(name, |arg| arg.hide(true)))
}

/// In more passes than this over the same images, most of what lowers the loss is learnt by heart.
const PASSES: usize = 10;

impl LrFind {
    pub fn run(self) -> Result<()> {
        let rising = self.from > 0.0 && self.from < self.to && self.to.is_finite();
        if !rising {
            let (from, to) = (self.from, self.to);
            return Err(Error::Usage(format!("--from {from} must be over 0 and below --to {to}")));
        }
        let table = self.out.with_extension("csv");
        if table == self.out {
            let problem = "the picture is a PNG, and the figures go into a .csv file beside it; name it .png";
            return Err(Error::file(&self.out, problem));
        }
        check_picture(&self.out)?;
        let mut kept = self.out.parent().map(RunFolder::needed).unwrap_or_default();
        kept.extend(self.config.clone());
        let source: DataSource = self.choices.or(&self.in_file()?).settings().data.parse()?;
        for file in [&self.out, &table] {
            check_output(file, &kept)?;
            source.check_output(file)?;
        }
        let mut display = Display::new(1);
        let (settings, name, curve) = match self.is_finetune()? {
            true => self.finetune(&mut display)?,
            false => self.train(&mut display)?,
        };
        let suggested = curve.suggest(settings.schedule);
        let title = format!("{} on {name}, {}", settings.model, settings.optimizer);
        if curve.trials.is_empty() {
            let problem =
                format!("the loss is no finite number at rate {:e} already; try a lower --from", self.from);
            return Err(Error::Failed(problem));
        }
        let shown = suggested.map(|(rate, _)| rate).map_err(Nothing::in_short);
        rates::draw(&self.out, &title, &curve.trials, shown)?;
        write_table(&table, &curve.trials)?;
        let (rate, why) = suggested.map_err(|nothing| self.explain(nothing, &curve))?;
        let option = match &settings.finetune {
            Some(finetune) if finetune.unfreeze == Blocks(0) => "--head-lr",
            _ => "--lr",
        };
        if self.json {
            return console::print_json(&json!({
                "suggested": rate,
                "option": option,
                "why": if why == Why::Lowest { "lowest" } else { "harmless" },
                "steps": curve.trials.len(),
                "fall": curve.fall,
                "fall_error": curve.error,
                "held_back_images": curve.held_back,
                "picture": self.out.to_string_lossy(),
            }));
        }
        let of = match curve.held_back {
            0 => String::new(),
            images => format!(" of {images} images that are held back"),
        };
        let why = match why {
            Why::Lowest => format!("the rate where the smoothed loss{of} is lowest"),
            Why::Harmless => format!("the highest that does not raise the loss{of}; none lowers it"),
        };
        let share = if settings.schedule.is_constant() { "a tenth of " } else { "" };
        console::print(format_args!("suggested: {option} {rate:.1e} ({share}{why})"))?;
        console::print(format_args!("{}, {}", self.out.display(), table.display()))
    }

    /// Whether a rate for `finetune` is looked for.
    fn is_finetune(&self) -> Result<bool> {
        let about_weights = !self.attributes.attributes()?.is_empty();
        let of_file = self.in_file()?.finetune.is_some();
        Ok(of_file || about_weights || self.own != FinetuneChoices::default())
    }

    /// What the file of choices says; nothing where there is none.
    fn in_file(&self) -> Result<Choices> {
        Ok(self.config.as_deref().map(Choices::read).transpose()?.unwrap_or_default())
    }

    /// The curve of a training from scratch, by its settings, and the name of its data.
    fn train(&self, display: &mut Display) -> Result<(Settings, String, Curve)> {
        let choices = self.choices.with_file(self.config.as_deref())?;
        let mut settings = choices.settings();
        settings.check()?;
        let device = self.device.in_precision(settings.precision)?;
        let data = load_training(&settings, self.device.threads, None)?;
        choices.resolve(&mut settings, &data)?;
        announce(&data, &settings)?;
        let OpenDevice { mut device, name, .. } =
            self.contact.open(&device, || first_contact::training(&settings, &data))?;
        console::info(format_args!("device: {name}"));
        let images = data.train.len();
        let passes = usize::from(self.steps) * settings.batch_size / images.max(1);
        if passes > PASSES {
            console::note(format_args!(
                "warning: {images} images are too few to tell a rate by: {} steps are {passes} passes over them, and \
                 the loss falls by what is learnt by heart",
                self.steps
            ));
        }
        let curve = find(device.as_mut(), &settings, &data, self.range(), display);
        display.finish();
        Ok((settings, data.name, curve?))
    }

    /// The curve of a fine-tuning, by its settings, and the name of its data.
    fn finetune(&self, display: &mut Display) -> Result<(Settings, String, Curve)> {
        let command = FinetuneCommand::beginning(
            self.choices.clone(),
            self.own.clone(),
            self.attributes.clone(),
            self.config.clone(),
            self.device.clone(),
            self.contact,
        );
        let (settings, data, pretrained) = command.prepare(&Team::default())?;
        let device = self.device.in_precision(settings.precision)?;
        let OpenDevice { mut device, name: device_name, .. } =
            self.contact.open(&device, || first_contact::finetuning(&settings, &pretrained, &data))?;
        console::info(format_args!("weights: {} in {} names", settings.model, pretrained.layout));
        console::info(format_args!("device: {device_name}"));
        let (name, folder) = (data.name.clone(), self.out.parent().unwrap_or(Path::new("")));
        let range = (self.range(), folder);
        let curve = find_rate(device.as_mut(), &settings, pretrained, data, range, display);
        display.finish();
        Ok((settings, name, curve?))
    }

    fn range(&self) -> Range {
        Range { from: self.from, to: self.to, steps: self.steps.into() }
    }

    /// Error of a search that suggests nothing.
    fn explain(&self, nothing: Nothing, curve: &Curve) -> Error {
        let (picture, steps, Curve { fall, error, .. }) = (self.out.display(), curve.trials.len(), curve);
        Error::Failed(match nothing {
            Nothing::NoFall => format!(
                "no learning rate lowered the loss in {steps} steps; try --steps 200, a lower --from, or another \
                 --optimizer (the picture is {picture})"
            ),
            Nothing::Harm => format!(
                "every learning rate raised the loss of the images that are held back: the layers do best as they \
                 are, with `unfreeze` 0; or try a lower --from (the picture is {picture})"
            ),
            Nothing::Chance => format!(
                "the loss fell by {fall:.3} at most, which may be chance (its standard error is {error:.3}): there \
                 are too few images to tell a rate by; keep the usual one, or try --steps 400 or a larger \
                 --batch-size (the picture is {picture})"
            ),
        })
    }
}

fn write_table(path: &Path, trials: &[Trial]) -> Result<()> {
    let rows = trials.iter().map(|Trial { rate, loss, smooth }| format!("{rate},{loss},{smooth}"));
    csv::write(path, "rate,loss,smooth", rows)
}
