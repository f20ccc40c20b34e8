//! Which model a command is about: one by its name, or that of a file or a run.

use std::path::Path;

use clap::Args;

use super::loading::Tried;
use super::options::image_size;
use super::values::{known, model_names, usual_sizes};
use super::workload::{Mode, Workload};
use crate::console;
use crate::data::CLASSES;
use crate::error::{Error, Result};
use crate::files::check_output;
use crate::models::LoadedModel;
use crate::models::pretrained::Attributes;
use crate::models::{Architecture, Spec};
use crate::train::bare_spec;
use crate::train::run_folder::{run_of, settings_in};
use crate::train::settings::Settings;

/// Images a step where nothing else is known.
const USUAL_BATCH: u32 = 128;

/// Classes where nothing else is known: those of CIFAR-10.
const USUAL_CLASSES: usize = 10;

/// The model, for what does not need its weights.
#[derive(Args)]
pub struct WhichModel {
    #[arg(value_name = "MODEL|WEIGHTS|RUN", hide_possible_values = true,
        help = format!("Which model: {}; or that of a file of weights or of a run folder", model_names()),
        value_parser = known(Architecture::names(), |text| Ok(text.to_string())))]
    model: String,

    #[arg(long, value_name = "PIXELS", value_parser = image_size, help = format!(
        "Side of the images in pixels [default: what the weights were trained with; without weights {}]", usual_sizes()))]
    image_size: Option<usize>,

    /// Number of classes [default: that of the weights, else 10].
    #[arg(long, value_name = "N", value_parser = classes)]
    classes: Option<usize>,
}

fn classes(text: &str) -> std::result::Result<usize, String> {
    let number = text.parse().ok().filter(|number| CLASSES.contains(number));
    number.ok_or_else(|| format!("must lie between {} and {}", CLASSES.start(), CLASSES.end()))
}

impl WhichModel {
    /// Checks that a file can be written, and is none that is read ([`Tried::check_output`]).
    ///
    /// # Errors
    /// If it is.
    pub fn check_output(&self, out: &Path) -> Result<()> {
        let path = Path::new(&self.model);
        if path.exists() { Tried::at(path)?.check_output(out) } else { check_output(out, &[]) }
    }

    /// What it does in a step of its run, or of a training by default, in batches of `batch_size`
    /// or of the run's.
    ///
    /// # Errors
    /// As for [`WhichModel::spec`]; if the run's settings cannot be read.
    pub fn workload(&self, mode: Mode, batch_size: Option<u32>) -> Result<Workload> {
        let run = self.run_settings()?;
        let usual = run.as_ref().and_then(|run| run.batch_size.try_into().ok()).unwrap_or(USUAL_BATCH);
        let spec = self.spec_of(run.as_ref())?;
        let settings = run.unwrap_or_default();
        Ok(Workload { spec, mode, batch_size: batch_size.unwrap_or(usual), settings })
    }

    /// The settings of the run, if it is one, or a file of weights in its folder.
    fn run_settings(&self) -> Result<Option<Settings>> {
        let path = Path::new(&self.model);
        if self.model.parse::<&Architecture>().is_ok() || !path.exists() {
            return Ok(None);
        }
        let folder = if path.is_dir() { path } else { path.parent().unwrap_or(Path::new("")) };
        settings_in(run_of(folder))
    }

    /// Its description.
    ///
    /// # Errors
    /// If there is no such model, file or folder, or the file is not that of a model.
    pub fn spec(&self) -> Result<Spec> {
        self.spec_of(self.run_settings()?.as_ref())
    }

    fn spec_of(&self, run: Option<&Settings>) -> Result<Spec> {
        if let Ok(model) = self.model.parse::<&Architecture>() {
            let size = self.image_size.unwrap_or(model.usual_size);
            return Ok(bare_spec(model, size, self.classes.unwrap_or(USUAL_CLASSES)));
        }
        let path = Path::new(&self.model);
        if !path.exists() {
            let problem = format!(
                "there is no model, file or folder '{}'; the models are: {}",
                self.model,
                model_names()
            );
            return Err(Error::Usage(problem));
        }
        // A run that has diverged in its first epoch is one whose plan is asked for.
        if let (Some(run), true) = (run, path.is_dir() && !path.join("best.safetensors").exists()) {
            let classes = self.classes.unwrap_or(USUAL_CLASSES);
            console::info(format_args!("the run has no weights: taken for a model of {classes} classes"));
            return Ok(bare_spec(run.model, self.image_size.unwrap_or(run.image_size), classes));
        }
        if self.classes.is_some() {
            return Err(Error::Usage("--classes is for models by name; weights have theirs".into()));
        }
        Ok(LoadedModel::open_as(&Tried::at(path)?.weights, &Attributes::default(), self.image_size)?.spec)
    }
}
