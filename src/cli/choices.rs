//! The settings of a training as a user chooses them: by option, by environment variable, in a
//! file, or not at all. An option wins over a variable, that over the file, and that over the
//! recipe.

use std::fs;
use std::path::Path;

use clap::{Args, ValueHint};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use toml::Table;

use super::finetune_choices::FinetuneChoices;
use super::options::{count, image_size};
use super::values::{known, model_names, read};
use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::files::read_toml;
use crate::models::Architecture;
use crate::nn::Norm;
use crate::ops::augment::{Augmentations, FLIP, forms};
use crate::text::counted;
use crate::train::optimizer::Optimizer;
use crate::train::run_folder::MOST_TEXT;
use crate::train::schedule::Schedule;
use crate::train::settings::{
    Normalise, Recipe, Settings, USUAL_BATCH, rate_in_batches, usual_batch, usual_decay, usual_rate,
};

/// A choice for each of [`Settings`], under the same names: so a run's `settings.toml` is a file of
/// choices.
#[derive(Args, Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Choices {
    /// auto, cifar10, shapes, or a path: a folder with the official binary batches, their .tar.gz,
    /// or a folder of images, CLASS/* or train/CLASS/* with or without val/CLASS/* and test/CLASS/*
    /// [default: auto].
    #[arg(long, value_name = "DATA", env = "CIFAR_ENGINE_DATA", hide_env = true, value_hint = ValueHint::AnyPath)]
    pub data: Option<String>,

    #[arg(long, value_name = "NAME", env = "CIFAR_ENGINE_MODEL", hide_env = true, hide_possible_values = true,
        help = format!("{} [default: cnn]", model_names()),
        value_parser = known(Architecture::names(), read::<&Architecture>))]
    pub model: Option<&'static Architecture>,

    /// Settings to begin with; every other option overrides one [default: default].
    #[arg(long, value_enum, env = "CIFAR_ENGINE_RECIPE", hide_env = true)]
    pub recipe: Option<Recipe>,

    /// Passes over the training pictures [default: 20].
    #[arg(long, value_name = "N", value_parser = count, env = "CIFAR_ENGINE_EPOCHS", hide_env = true)]
    pub epochs: Option<usize>,

    /// Pictures a step [default: 128].
    #[arg(long, value_name = "N", value_parser = count, env = "CIFAR_ENGINE_BATCH_SIZE", hide_env = true)]
    pub batch_size: Option<usize>,

    /// Highest learning rate [default: 0.1 for sgd, 4e-3 for adam, 1e-3 for keras-adam].
    #[serde(alias = "lr")]
    #[arg(
        long = "lr",
        value_name = "RATE",
        allow_negative_numbers = true,
        env = "CIFAR_ENGINE_LR",
        hide_env = true
    )]
    pub rate: Option<f32>,

    /// How the rate moves [default: one-cycle].
    #[arg(long, value_enum, env = "CIFAR_ENGINE_SCHEDULE", hide_env = true)]
    pub schedule: Option<Schedule>,

    /// sgd, adam or keras-adam [default: sgd].
    #[arg(long, value_name = "NAME", env = "CIFAR_ENGINE_OPTIMIZER", hide_env = true,
        hide_possible_values = true, value_parser = known(Optimizer::names(), read::<Optimizer>))]
    pub optimizer: Option<Optimizer>,

    /// Weight decay [default: 1e-3 for sgd, else 0].
    #[arg(
        long,
        value_name = "X",
        allow_negative_numbers = true,
        env = "CIFAR_ENGINE_WEIGHT_DECAY",
        hide_env = true
    )]
    pub weight_decay: Option<f32>,

    /// Share of the target spread over all classes [default: 0.1].
    #[arg(
        long,
        value_name = "X",
        allow_negative_numbers = true,
        env = "CIFAR_ENGINE_LABEL_SMOOTHING",
        hide_env = true
    )]
    pub label_smoothing: Option<f32>,

    /// Dropout before the classifier [default: 0.3; 0.5 in the keras recipe].
    #[arg(
        long,
        value_name = "X",
        allow_negative_numbers = true,
        env = "CIFAR_ENGINE_DROPOUT",
        hide_env = true
    )]
    pub dropout: Option<f32>,

    #[arg(long, value_name = "LIST", env = "CIFAR_ENGINE_AUGMENT", hide_env = true,
        help = format!("{} [default: flip,shift=4]", forms()))]
    pub augment: Option<Augmentations>,

    /// Side of the pictures in pixels [default: 32].
    #[arg(
        long,
        value_name = "PIXELS",
        value_parser = image_size,
        env = "CIFAR_ENGINE_IMAGE_SIZE",
        hide_env = true
    )]
    pub image_size: Option<usize>,

    /// Pictures of the training set held back for validation; 0 for none [default: 5000, at most a
    /// tenth].
    #[arg(long, value_name = "N", value_parser = count, env = "CIFAR_ENGINE_VALIDATION", hide_env = true)]
    pub validation: Option<usize>,

    /// Decides everything that is random [default: 0].
    #[arg(long, value_name = "N", env = "CIFAR_ENGINE_SEED", hide_env = true)]
    pub seed: Option<u32>,

    /// Keep averages of the weights, X of them left by each step, and use these; such as 0.999
    /// [default: 0, off].
    #[arg(long, value_name = "X", allow_negative_numbers = true, env = "CIFAR_ENGINE_EMA", hide_env = true)]
    pub ema: Option<f32>,

    /// Largest norm of all gradients together [default: 0, any].
    #[arg(
        long,
        value_name = "NORM",
        allow_negative_numbers = true,
        env = "CIFAR_ENGINE_CLIP",
        hide_env = true
    )]
    pub clip: Option<f32>,

    /// Stop after N epochs without a better validation accuracy [default: 0, never].
    #[arg(long, value_name = "N", value_parser = count, env = "CIFAR_ENGINE_EARLY_STOP", hide_env = true)]
    pub early_stop: Option<usize>,

    /// A tenth of the rate after N epochs without a better validation accuracy [default: 0, never].
    #[arg(long, value_name = "N", value_parser = count, env = "CIFAR_ENGINE_PLATEAU", hide_env = true)]
    pub plateau: Option<usize>,

    /// Stop at a validation accuracy of ACC per cent [default: 0, none].
    #[arg(
        long,
        value_name = "ACC",
        allow_negative_numbers = true,
        env = "CIFAR_ENGINE_TARGET",
        hide_env = true
    )]
    pub target: Option<f64>,

    /// Predict the mean over a picture and its mirror image [default: as the training flips].
    #[arg(
        long,
        value_name = "true|false",
        num_args = 0..=1,
        default_missing_value = "true",
        require_equals = true,
        env = "CIFAR_ENGINE_TEST_FLIP",
        hide_env = true
    )]
    pub test_flip: Option<bool>,

    /// Leave out images that cannot be read; --verbose lists them.
    #[arg(
        long,
        value_name = "true|false",
        num_args = 0..=1,
        default_missing_value = "true",
        require_equals = true,
        env = "CIFAR_ENGINE_SKIP_BAD",
        hide_env = true
    )]
    pub skip_bad: Option<bool>,

    #[arg(skip)]
    pub zero_classifier: Option<bool>,
    #[arg(skip)]
    pub normalise: Option<Normalise>,
    #[arg(skip)]
    pub norm: Option<Norm>,
    /// In a file for `finetune` only.
    #[arg(skip)]
    pub finetune: Option<FinetuneChoices>,
}

impl Choices {
    /// The choices in a file.
    ///
    /// # Errors
    /// If it cannot be read, is no TOML, or has an unknown name or a value of the wrong kind in it.
    pub fn read(path: &Path) -> Result<Choices> {
        read_toml(path, MOST_TEXT)
    }

    /// The choices for a training from scratch: these, and those of the file where there are none
    /// here.
    ///
    /// # Errors
    /// If the file is no file of choices, or one for `finetune`.
    pub fn or_from(&self, file: Option<&Path>) -> Result<Choices> {
        let Some(path) = file else { return Ok(self.clone()) };
        let read = Choices::read(path)?;
        if read.finetune.is_some() {
            let advice = "it is one for cifar-engine finetune; leave out [finetune] to use it here";
            return Err(Error::Usage(format!("{} is about fine-tuning: {advice}", path.display())));
        }
        Ok(merged(self, &read))
    }

    /// The settings of the recipe, with every choice in place.
    pub fn settings(&self) -> Settings {
        let mut settings = self.recipe.unwrap_or_default().settings();
        if let Some(optimizer) = self.optimizer.filter(|optimizer| *optimizer != settings.optimizer) {
            settings.optimizer = optimizer;
            (settings.rate, settings.weight_decay) = (usual_rate(optimizer), usual_decay(optimizer));
        }
        self.over(&settings)
    }

    /// The settings with every choice in place.
    pub fn over(&self, settings: &Settings) -> Settings {
        merged(&Choices { recipe: None, finetune: None, ..self.clone() }, settings)
    }

    /// Completes what could not be known before the data and the other choices were. Returns what
    /// the size of the data changed, to be told.
    ///
    /// # Errors
    /// If a number of validation images is chosen, but the data has some of its own.
    pub fn settle(&self, settings: &mut Settings, data: &Dataset) -> Result<Vec<String>> {
        settings.data = lasting_source(&settings.data, data);
        // Only a model that was trained on mirror images is at home with them.
        settings.test_flip = self.test_flip.unwrap_or(settings.augment.has(&FLIP));
        settings.validation = self.held_back(settings, data)?;
        let images = data.training_len(settings.validation).saturating_sub(settings.validation);
        let mut notes = self.fit_batch(settings, images);
        let (chosen, held) = (self.validation.unwrap_or(settings.validation), settings.validation);
        if held != chosen {
            notes.push(format!(
                "--validation {held} instead of {chosen}: each class keeps an image to train on"
            ));
        }
        Ok(notes)
    }

    /// Images for validation: the data's own, or some of the training set.
    ///
    /// # Errors
    /// If another number is chosen than the data has of its own.
    pub fn held_back(&self, settings: &Settings, data: &Dataset) -> Result<usize> {
        match (data.validation.len(), self.validation) {
            // A tenth, so that small data sets of one's own train without further options.
            (0, None) => Ok(data.can_hold_back(settings.validation.min(data.train.len() / 10))),
            (0, Some(chosen)) => Ok(data.can_hold_back(chosen)),
            (own, None) => Ok(own),
            (own, Some(chosen)) if chosen == 0 || chosen == own => Ok(chosen),
            (own, Some(chosen)) => {
                let problem =
                    format!("--validation {chosen}: {} has {own} validation images of its own", data.name);
                Err(Error::Usage(format!("{problem}; leave the option out, or choose 0 for none")))
            }
        }
    }

    /// Makes the batch one that so many training images can fill, and the rate one for this batch.
    fn fit_batch(&self, settings: &mut Settings, images: usize) -> Vec<String> {
        let (asked, mut notes) = (settings.batch_size, Vec::new());
        let from_scratch = settings.finetune.is_none();
        if self.batch_size.is_none() && from_scratch {
            settings.batch_size = usual_batch(images);
        }
        // Without images the settings are refused anyway.
        settings.batch_size = settings.batch_size.min(images.max(1));
        let batch = settings.batch_size;
        if batch != asked {
            let (batch, images) = (counted(batch, "image"), counted(images, "image"));
            notes.push(format!("batches of {batch} instead of {asked}: {images} to train on"));
        }
        if self.rate.is_none() && from_scratch {
            let usual = settings.rate;
            settings.rate = rate_in_batches(usual, settings.optimizer, batch);
            if settings.rate != usual {
                let rate = settings.rate;
                notes.push(format!(
                    "--lr {rate}: {usual} is for batches of {USUAL_BATCH}, these are of {batch}"
                ));
            }
        }
        notes
    }
}

/// The source from which `data` was loaded, such that it gives the same data next time and from
/// anywhere.
pub fn lasting_source(source: &str, data: &Dataset) -> String {
    match source {
        // What was loaded, not what was asked for: auto may have fallen back.
        "auto" | "cifar10" | "shapes" => data.name.clone(),
        path => lasting(path),
    }
}

/// A path that is right from anywhere; where the full path is no text, which settings could not
/// hold, it stays as it was given.
pub fn lasting(path: &str) -> String {
    let full = fs::canonicalize(path).ok().and_then(|path| path.into_os_string().into_string().ok());
    full.unwrap_or_else(|| path.into())
}

/// `choices`, and the values of `others` where there are none.
pub fn merged<T: Serialize + DeserializeOwned>(choices: &impl Serialize, others: &T) -> T {
    let mut merged = table(others);
    merged.extend(table(choices));
    merged.try_into().unwrap_or_else(|error| unreachable!("every choice is one of the others: {error}"))
}

fn table(value: &impl Serialize) -> Table {
    Table::try_from(value).unwrap_or_else(|error| unreachable!("plain values make a plain table: {error}"))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mine.toml");
        fs::write(&path, text).unwrap();
        (folder, path)
    }

    #[test]
    fn options_win_over_the_file_and_the_file_over_the_recipe() {
        let (_folder, path) = file("recipe = 'keras'\nlr = 0.5\nepochs = 7\n");
        let given = Choices { epochs: Some(3), ..Choices::default() };
        let settings = given.or_from(Some(&path)).unwrap().settings();
        assert_eq!((settings.epochs, settings.rate), (3, 0.5));
        assert_eq!(settings.optimizer, Recipe::Keras.settings().optimizer);
    }

    #[test]
    fn a_runs_settings_are_choices() {
        for recipe in [Recipe::Default, Recipe::Keras] {
            let settings = Settings { seed: 5, rate: 0.3, ..recipe.settings() };
            let (_folder, path) = file(&settings.to_toml());
            assert_eq!(Choices::default().or_from(Some(&path)).unwrap().settings(), settings);
        }
    }

    #[test]
    fn an_optimizer_brings_its_rate_unless_one_is_chosen() {
        let adam = Choices { optimizer: Some(Optimizer::Adam), ..Choices::default() };
        assert_eq!((adam.settings().rate, adam.settings().weight_decay), (4e-3, 0.0));
        assert_eq!(Choices { rate: Some(0.5), ..adam }.settings().rate, 0.5);
    }

    #[test]
    fn the_batch_fits_the_data_and_the_rate_the_batch() {
        let fitted = |choices: &Choices, images| {
            let mut settings = choices.settings();
            let notes = choices.fit_batch(&mut settings, images);
            (settings.batch_size, settings.rate, notes.len())
        };
        let none = Choices::default();
        assert_eq!(fitted(&none, 45_000), (128, 0.1, 0));
        assert_eq!(fitted(&none, 81), (8, 0.00625, 2));
        assert_eq!(fitted(&none, 5), (5, 0.1 * 5.0 / 128.0, 2));
        let batch = Choices { batch_size: Some(64), ..Choices::default() };
        assert_eq!(fitted(&batch, 45_000), (64, 0.05, 1));
        assert_eq!(fitted(&batch, 32), (32, 0.025, 2));
        let both = Choices { rate: Some(0.3), ..batch };
        assert_eq!(fitted(&both, 45_000), (64, 0.3, 0));
    }

    #[test]
    fn a_wrong_file_is_told_by_line() {
        for (text, parts) in [
            ("epochs = 3\nlerning_rate = 1\n", ["mine.toml: line 2", "lerning_rate"]),
            ("epochs = 'many'\n", ["line 1", "expected usize"]),
            ("epochs = 3\n\nseed = -1\n", ["line 3", "-1"]),
            ("epochs", ["line 1", ""]),
            ("\nearly_stop = 18446744073709551615\n", ["line 2", "too large"]),
        ] {
            let (_folder, path) = file(text);
            let message = Choices::default().or_from(Some(&path)).unwrap_err().to_string();
            assert!(parts.iter().all(|part| message.contains(part)) && !message.contains('\n'), "{message}");
        }
    }
}
