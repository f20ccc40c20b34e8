//! Which model a command is about: one by its name, or that of a file or a run.

use std::path::Path;

use clap::Args;

use super::loading::Tried;
use super::options::image_size;
use super::values::{known, model_names, usual_sizes};
use crate::data::CLASSES;
use crate::error::{Error, Result};
use crate::files::check_output;
use crate::models::LoadedModel;
use crate::models::pretrained::Attributes;
use crate::models::{Architecture, Spec};
use crate::train::bare_spec;

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

    /// Its description.
    ///
    /// # Errors
    /// If there is no such model, file or folder, or the file is not that of a model.
    pub fn spec(&self) -> Result<Spec> {
        if let Ok(model) = self.model.parse::<&Architecture>() {
            let size = self.image_size.unwrap_or(model.usual_size);
            return Ok(bare_spec(model, size, self.classes.unwrap_or(10)));
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
        if self.classes.is_some() {
            return Err(Error::Usage("--classes is for models by name; weights have theirs".into()));
        }
        Ok(LoadedModel::open_as(&Tried::at(path)?.weights, &Attributes::default(), self.image_size)?.spec)
    }
}
