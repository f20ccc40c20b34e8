//! The settings of a training as a user chooses them: by option, by environment variable, in a
//! file, or not at all.
//!
//! An option wins over a variable, that over the file, and that over the recipe.

use std::fs;
use std::path::Path;

use serde::Serialize;
use toml::Table;

use super::{Choices, Recipe, Settings, usual_batch};
use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::files::read_toml;
use crate::ops::augment::FLIP;
use crate::text::counted;
use crate::train::optimizers::USUAL_BATCH;
use crate::train::run_folder::MOST_TEXT;

/// A normalisation over fewer images than this is a rough one.
const FEW_OF_SHARD: usize = 16;

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
    pub fn with_file(&self, file: Option<&Path>) -> Result<Choices> {
        let read = file.map(Choices::read).transpose()?.unwrap_or_default();
        if let Some(path) = file.filter(|_| read.finetune.is_some()) {
            let advice = "it is one for cifar-engine finetune; leave out [finetune] to use it here";
            return Err(Error::Usage(format!("{} is about fine-tuning: {advice}", path.display())));
        }
        let choices = Choices { recipe: self.recipe.or(read.recipe), ..self.or(&read) };
        choices.recipe.map_or(Ok(()), |recipe| recipe.check_for("train"))?;
        Ok(choices)
    }

    /// The settings of the recipe, with every choice in place.
    pub fn settings(&self) -> Settings {
        let mut settings = self.recipe.map_or_else(Settings::default, Recipe::settings);
        if !self.keeps_rates(&settings) {
            let optimizer = self.optimizer.unwrap_or(settings.optimizer);
            (settings.rate, settings.weight_decay) = (optimizer.usual_rate, optimizer.usual_decay);
            (settings.bias_rate, settings.classifier_rate, settings.bias_decay) = (0.0, 0.0, 0.0);
            if !optimizer.takes_momentum {
                settings.momentum = Settings::default().momentum;
            }
        }
        self.apply_to(&settings)
    }

    /// Whether the rates of a recipe are good for what is chosen: they are made for its optimizer,
    /// and for its model.
    fn keeps_rates(&self, recipe: &Settings) -> bool {
        self.optimizer.is_none_or(|optimizer| optimizer == recipe.optimizer)
            && self.model.is_none_or(|model| model == recipe.model)
    }

    /// The settings with every choice in place.
    pub fn apply_to(&self, settings: &Settings) -> Settings {
        self.over(settings)
    }

    /// Completes what could not be known before the data and the other choices were. Returns what
    /// the size of the data changed, to be reported.
    ///
    /// # Errors
    /// If a number of validation images is chosen, but the data has some of its own.
    pub fn resolve(&self, settings: &mut Settings, data: &Dataset) -> Result<Vec<String>> {
        settings.data = reusable_source(&settings.data, data);
        // Only a model that was trained on mirror images is at home with them.
        settings.test_flip = self.test_flip.unwrap_or(settings.augment.has(&FLIP));
        settings.validation = self.held_back(settings, data)?;
        settings.class_weights.of(&data.classes, &data.train.labels, settings.balanced)?;
        let images = data.training_len(settings.validation).saturating_sub(settings.validation);
        let mut notes = self.fit_batch(settings, images);
        let (chosen, held) = (self.validation.unwrap_or(settings.validation), settings.validation);
        if held != chosen {
            notes.push(format!(
                "`validation` {held} instead of {chosen}: each class keeps an image to train on"
            ));
        }
        let of_shard = settings.shard_size();
        let normalises = settings.finetune.as_ref().is_none_or(|finetune| !finetune.frozen_statistics);
        if settings.shards > 1 && of_shard < FEW_OF_SHARD && normalises {
            notes.push(format!(
                "each of {} shards is normalised by its {}; a larger `batch_size` or fewer `shards` train better",
                settings.shards,
                counted(of_shard, "image")
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
            // A tenth, so that small data sets of one's own train without further options; also
            // where a recipe has none, but nothing else could be measured.
            (0, None) => {
                let usual = match settings.validation {
                    0 if data.test.is_empty() => Settings::default().validation,
                    usual => usual,
                };
                Ok(data.can_hold_back(usual.min(data.train.len() / 10)))
            }
            (0, Some(chosen)) => Ok(data.can_hold_back(chosen)),
            (own, None) => Ok(own),
            (own, Some(chosen)) if chosen == 0 || chosen == own => Ok(chosen),
            (own, Some(chosen)) => {
                let problem =
                    format!("`validation` {chosen}: {} has {own} validation images of its own", data.name);
                Err(Error::Usage(format!("{problem}; leave the option out, or choose 0 for none")))
            }
        }
    }

    /// Makes the batch one that so many training images can fill, and the rate one for this batch.
    fn fit_batch(&self, settings: &mut Settings, images: usize) -> Vec<String> {
        let (asked, mut notes) = (settings.batch_size, Vec::new());
        let from_scratch = settings.finetune.is_none();
        if self.batch_size.is_none() && from_scratch {
            settings.batch_size = usual_batch(settings.batch_size, images);
        }
        // Without images the settings are refused anyway.
        settings.batch_size = settings.batch_size.min(images.max(1));
        if settings.batch_size != asked && settings.batch_size > settings.shards {
            settings.batch_size -= settings.batch_size % settings.shards;
        }
        let batch = settings.batch_size;
        if batch != asked {
            let (batch, images) = (counted(batch, "image"), counted(images, "image"));
            notes.push(format!("batches of {batch} instead of {asked}: {images} to train on"));
        }
        if from_scratch {
            notes.extend(self.fit_rates(settings));
        }
        notes
    }

    /// Makes the rates that were not chosen those for the batch.
    fn fit_rates(&self, settings: &mut Settings) -> Vec<String> {
        let recipe = self.recipe.map_or_else(Settings::default, Recipe::settings);
        let made_for = if self.keeps_rates(&recipe) { recipe.batch_size } else { USUAL_BATCH };
        let (batch, mut notes) = (settings.batch_size, Vec::new());
        let fitting = settings.rates_in_batches(batch, made_for);
        let rates = [
            ("`rate`", self.rate, &mut settings.rate),
            ("`bias_rate`", self.bias_rate, &mut settings.bias_rate),
            ("`classifier_rate`", self.classifier_rate, &mut settings.classifier_rate),
        ];
        for ((option, chosen, rate), fitting) in rates.into_iter().zip(fitting) {
            let usual = *rate;
            *rate = chosen.unwrap_or(fitting);
            if *rate != usual {
                notes.push(format!(
                    "{option} {rate}: {usual} is for batches of {made_for}, these are of {batch}"
                ));
            }
        }
        notes
    }
}

/// The source from which `data` was loaded, such that it gives the same data next time and from
/// anywhere.
pub fn reusable_source(source: &str, data: &Dataset) -> String {
    match source {
        // What was loaded, not what was asked for: auto may have fallen back.
        "auto" | "cifar10" | "shapes" => data.name.clone(),
        path => absolute(path),
    }
}

/// A path that is right from anywhere; where the full path is no text, which settings could not
/// hold, it stays as it was given.
pub fn absolute(path: &str) -> String {
    let full = fs::canonicalize(path).ok().and_then(|path| path.into_os_string().into_string().ok());
    full.unwrap_or_else(|| path.into())
}

/// The entries that a file would have.
pub fn table(value: &impl Serialize) -> Table {
    Table::try_from(value).unwrap_or_else(|error| unreachable!("plain values make a plain table: {error}"))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::models::cnn::CNN;
    use crate::train::optimizers::adam::ADAM;
    use crate::train::settings::{FAST, KERAS, RECIPES};

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
        let settings = given.with_file(Some(&path)).unwrap().settings();
        assert_eq!((settings.epochs, settings.rate), (3, 0.5));
        assert_eq!(settings.optimizer, KERAS.settings().optimizer);
    }

    #[test]
    fn a_runs_settings_are_choices() {
        for recipe in RECIPES.iter().filter(|recipe| recipe.command() == "train") {
            let settings = Settings { seed: 5, rate: 0.3, ..recipe.settings() };
            let (_folder, path) = file(&settings.to_toml());
            assert_eq!(Choices::default().with_file(Some(&path)).unwrap().settings(), settings);
        }
    }

    #[test]
    fn an_optimizer_brings_its_rate_unless_one_is_chosen() {
        let adam = Choices { optimizer: Some(&ADAM), ..Choices::default() };
        assert_eq!((adam.settings().rate, adam.settings().weight_decay), (4e-3, 0.0));
        assert_eq!(Choices { rate: Some(0.5), ..adam }.settings().rate, 0.5);
    }

    #[test]
    fn the_rates_of_a_recipe_are_for_its_model_its_optimizer_and_its_batch() {
        let fast = Choices { recipe: Some(&FAST), ..Choices::default() };
        let own = FAST.settings();
        let rates = |settings: &Settings| [settings.rate, settings.bias_rate, settings.classifier_rate];
        assert_eq!(fast.settings(), own);
        let other = Choices { model: Some(&CNN), ..fast.clone() }.settings();
        assert_eq!(rates(&other), [own.optimizer.usual_rate, 0.0, 0.0]);
        let other = Choices { optimizer: Some(&ADAM), ..fast.clone() }.settings();
        assert_eq!(rates(&other), [ADAM.usual_rate, 0.0, 0.0]);
        assert!(other.check().is_ok(), "nor has it the momentum of another");
        let fitted = |choices: &Choices, images| {
            let mut settings = choices.settings();
            let notes = choices.fit_batch(&mut settings, images);
            (settings.batch_size, rates(&settings), notes.len())
        };
        assert_eq!(fitted(&fast, 50_000), (500, rates(&own), 0));
        let [rate, bias_rate, classifier_rate] = rates(&own);
        assert_eq!(fitted(&fast, 1250), (125, [rate, bias_rate / 4.0, classifier_rate / 4.0], 3));
        // What follows this rate as well is of SGD.
        let one = Choices { bias_rate: Some(0.0), ..fast.clone() };
        assert_eq!(fitted(&one, 1250).1, [rate / 4.0, 0.0, classifier_rate / 4.0]);
        let chosen = Choices { classifier_rate: Some(0.5), ..fast };
        assert_eq!(fitted(&chosen, 1250).1[2], 0.5);
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
            ("epochs = 'many'\n", ["line 1", "expected a whole number"]),
            ("epochs = 3\n\nseed = -1\n", ["line 3", "-1"]),
            ("epochs", ["line 1", ""]),
            ("\nearly_stop = 18446744073709551615\n", ["line 2", "too large"]),
        ] {
            let (_folder, path) = file(text);
            let message = Choices::default().with_file(Some(&path)).unwrap_err().to_string();
            assert!(parts.iter().all(|part| message.contains(part)) && !message.contains('\n'), "{message}");
        }
    }
}
