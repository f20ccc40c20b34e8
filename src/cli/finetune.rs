//! `cifar-engine finetune`: trains a model that knows other images on these.

use std::path::{Path, PathBuf};

use clap::Args;

use super::contact::ContactOptions;
use super::device::{DeviceOptions, OpenDevice};
use super::loading::{announce, load_training, options_of_program};
use super::options::{AboutOptions, WeightsOptions};
use super::progress::Display;
use super::resume::{check_begun_by, reopened, tell_interrupted};
use super::team::{self, together, with_shards};
use super::train::Report;
use crate::console;
use crate::data::{DEFAULT_SIZE, DataSource, Dataset};
use crate::error::{Error, Result};
use crate::models::manifest;
use crate::models::pretrained::{Attributes, Pretrained};
use crate::team::Team;
use crate::train::finetune_defaults::{MANY, defaults};
use crate::train::run_folder::RunFolder;
use crate::train::settings::choices::{absolute, reusable_source};
use crate::train::settings::finetune::{Finetune, FinetuneChoices};
use crate::train::settings::{Choices, Settings};
use crate::train::{finetune, first_contact};

/// Arguments of `cifar-engine finetune`.
#[derive(Args)]
#[command(after_help = "Examples:
  cifar-engine finetune                          MobileNet v1 learns CIFAR-10
  cifar-engine finetune --model mobilenet-v2 --data images/
  cifar-engine finetune --unfreeze 0 --epochs 10          the classifier only
  cifar-engine finetune --unfreeze 3 --epochs 15          and the last blocks
  cifar-engine finetune --resume runs/mine                go on with a run
  cifar-engine finetune --config runs/mine/settings.toml --seed 1

Settings also come from environment variables (CIFAR_ENGINE_HEAD_LR is
--head-lr), which options win over, and from a file (--config, with the names of
settings.toml, those of fine-tuning alone under [finetune]), which both win
over.")]
pub struct FinetuneCommand {
    #[command(flatten)]
    choices: Choices,

    #[command(flatten)]
    own: FinetuneChoices,

    #[command(flatten)]
    attributes: WeightsOptions,

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

impl FinetuneCommand {
    /// The command that goes on with a run.
    pub fn resuming(
        run: PathBuf,
        choices: Choices,
        pretrained: Option<String>,
        (about, json, device, contact): (AboutOptions, bool, DeviceOptions, ContactOptions),
    ) -> FinetuneCommand {
        let own = FinetuneChoices { pretrained, ..FinetuneChoices::default() };
        let attributes = WeightsOptions::default();
        let (config, resume, out) = (None, Some(run), None);
        FinetuneCommand { choices, own, attributes, config, resume, out, about, json, device, contact }
    }

    /// The command that begins a fine-tuning by these choices, to look at what it would do.
    pub fn beginning(
        choices: Choices,
        own: FinetuneChoices,
        attributes: WeightsOptions,
        config: Option<PathBuf>,
        device: DeviceOptions,
        contact: ContactOptions,
    ) -> FinetuneCommand {
        let (resume, out, about, json) = (None, None, AboutOptions::default(), false);
        FinetuneCommand { choices, own, attributes, config, resume, out, about, json, device, contact }
    }

    /// Fine-tunes a model, or goes on with it, and leaves a run folder.
    ///
    /// # Errors
    /// If the arguments do not fit each other, the weights or the images, or the training fails.
    pub fn run(self) -> Result<()> {
        together("finetune", |team| self.run_in(team))
    }

    /// [`FinetuneCommand::run`] by the processes of a team.
    ///
    /// # Errors
    /// As for [`FinetuneCommand::run`].
    pub fn run_in(self, team: &Team) -> Result<()> {
        let about = self.about.given()?;
        let (run, settings, data, pretrained) = match &self.resume {
            Some(path) => self.open(reopened(team, path)?)?,
            None => self.create(team)?,
        };
        about.write(run.path())?;
        let device = self.device.in_precision(settings.precision)?;
        let OpenDevice { mut device, name: device_name, .. } =
            self.contact.open(&device, || first_contact::finetuning(&settings, &pretrained, &data))?;
        let (folder, layout) = (run.path().display(), pretrained.layout);
        console::info(format_args!("weights: {} in {layout} names", pretrained.spec.architecture));
        console::info(format_args!("device: {device_name}; run folder: {folder}"));
        team::tell(team, &settings)?;
        let (name, classes) = (data.name.clone(), data.classes.clone());
        let mut display = Display::new(settings.epochs);
        let outcome = finetune::finetune(device.as_mut(), &settings, pretrained, data, &run, &mut display);
        display.finish();
        if let Err(Error::Interrupted) = outcome {
            tell_interrupted(&run);
        }
        let outcome = outcome?;
        let (data, classes) = (&name, &classes);
        Report { outcome: &outcome, data, source: &settings.data, classes, run: &run }.print(self.json)
    }

    /// A new run, by the given options.
    fn create(&self, team: &Team) -> Result<(RunFolder, Settings, Dataset, Pretrained)> {
        let (settings, data, pretrained) = self.prepare(team)?;
        let new = || RunFolder::create(self.out.clone(), &settings, &data.name);
        let run = RunFolder::of_team(team, new)?;
        Ok((run, settings, data, pretrained))
    }

    /// What a new run needs, by the given options.
    ///
    /// # Errors
    /// If the options do not fit each other, the weights or the images.
    pub(super) fn prepare(&self, team: &Team) -> Result<(Settings, Dataset, Pretrained)> {
        let (choices, own) = self.own()?.with_file(&self.choices, self.config.as_deref())?;
        let choices = with_shards(choices, team);
        let (mut settings, finetune) = own.apply_to(&choices, &defaults(MANY, choices.epochs))?;
        self.device.in_precision(settings.precision)?;
        team.check_shards(settings.shards)?;
        let (path, known) = match own.pretrained.as_ref().filter(|path| *path != "auto") {
            Some(path) => (PathBuf::from(path), Attributes::default()),
            None => manifest::find(settings.model, &options_of_program())?,
        };
        let attributes = finetune.attributes.clone().or(known);
        let pretrained = Pretrained::open(&path, &attributes)?;
        let model = pretrained.spec.architecture;
        if choices.model.is_some_and(|wanted| wanted != model) {
            return Err(Error::file(&path, format!("holds a {model}, not a {}", settings.model)));
        }
        let own = own.of_size(&pretrained.spec, &path)?;
        settings.model = model;
        settings.norm = pretrained.spec.norm;
        let Some(text) = path.to_str() else {
            let problem = "its path is no UTF-8 text, which settings.toml could not hold";
            return Err(Error::file(
                &path,
                format!("{problem}; rename it, or give a copy with --pretrained"),
            ));
        };
        let pretrained_path = absolute(text);
        let input_size = own.input_size.unwrap_or(finetune.input_size);
        settings.finetune =
            Some(Finetune { pretrained: pretrained_path, attributes, input_size, ..finetune });
        let data = self.load(&mut settings, None)?;
        let held_back = choices.held_back(&settings, &data)?;
        let images = data.training_len(held_back).saturating_sub(held_back);
        own.resolve(&choices, &mut settings, images)?;
        let notes = choices.resolve(&mut settings, &data)?;
        notes.iter().for_each(|note| console::info(format_args!("note: {note}")));
        settings.check_against(data.training_len(settings.validation))?;
        announce(&data, &settings)?;
        tell(&settings, images);
        Ok((settings, data, pretrained))
    }

    /// A run that was begun before; what is chosen now must be what was chosen then.
    pub(super) fn open(
        &self,
        (run, begun): (RunFolder, Settings),
    ) -> Result<(RunFolder, Settings, Dataset, Pretrained)> {
        check_begun_by("finetune", run.path())?;
        let (mut settings, finetune) = self.own()?.apply_to(&self.choices, &begun)?;
        settings.check_resumes(&begun)?;
        let data = self.load(&mut settings, Some(run.path()))?;
        announce(&data, &settings)?;
        let pretrained = Pretrained::open(Path::new(&finetune.pretrained), &finetune.attributes)?;
        Ok((run, settings, data, pretrained))
    }

    /// Choices in addition to those that `train` knows.
    fn own(&self) -> Result<FinetuneChoices> {
        let attributes = self.attributes.attributes()?;
        Ok(FinetuneChoices { attributes, input_size: self.choices.image_size, ..self.own.clone() })
    }

    /// The data: images in a folder in the size that the model sees, others in their own, to be
    /// enlarged.
    fn load(&self, settings: &mut Settings, continued: Option<&Path>) -> Result<Dataset> {
        let input_size = settings.finetune.as_ref().map_or(DEFAULT_SIZE, |finetune| finetune.input_size);
        let is_folder = settings.data.parse::<DataSource>()?.is_image_folder();
        settings.image_size = if is_folder { input_size } else { DEFAULT_SIZE };
        let data = load_training(settings, self.device.threads, continued)?;
        settings.data = reusable_source(&settings.data, &data);
        Ok(data)
    }
}

/// Says by which settings so many images are learnt, as most follow from that number.
fn tell(settings: &Settings, images: usize) {
    let Settings { batch_size, epochs, rate, finetune: Some(finetune), .. } = settings else { return };
    let Finetune { head_epochs, head_rate, backbone, unfreeze, fit_head, frozen_statistics, .. } = finetune;
    console::info(format_args!(
        "settings for {images} training images: --batch-size {batch_size} --epochs {epochs} --head-epochs {head_epochs} \
         --head-lr {head_rate:e} --lr {rate:e} --backbone-lr {backbone} --unfreeze {unfreeze} --fit-head={fit_head} \
         --frozen-statistics={frozen_statistics}"
    ));
}
