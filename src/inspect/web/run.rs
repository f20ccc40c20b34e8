//! The run that the model of a page is from.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::error::{Error, Result};
use crate::files::{is_file, read_text};
use crate::text::{counted, moment};
use crate::train::run_folder::{MOST_TEXT, settings_in};
use crate::train::settings::Settings;

/// A run.
pub struct Run {
    /// Its settings.
    pub settings: Settings,
    /// What it reached, by name, if it is finished.
    reached: Vec<(&'static str, f64)>,
    /// When the weights were written.
    written: Option<String>,
}

/// Figures of a result, and what a page calls them.
const FIGURES: [(&str, &str); 4] = [
    ("test_accuracy", "test accuracy"),
    ("test_accuracy_without_flip", "test accuracy without views"),
    ("validation_accuracy", "validation accuracy"),
    ("validation_accuracy_without_flip", "validation accuracy without views"),
];

impl Run {
    /// The run whose folder a file of weights lies in; none where there is no such run.
    ///
    /// # Errors
    /// If its settings or its result cannot be read.
    pub fn of(weights: &Path) -> Result<Option<Run>> {
        let folder = weights.parent().unwrap_or(Path::new(""));
        let Some(settings) = (if is_file(weights)? { settings_in(folder)? } else { None }) else {
            return Ok(None);
        };
        let file = folder.join("result.json");
        let result: Value = match is_file(&file)? {
            true => serde_json::from_str(&read_text(&file, MOST_TEXT)?)
                .map_err(|error| Error::file(&file, format!("is damaged: {error}")))?,
            false => Value::Null,
        };
        let reached = FIGURES.iter().filter_map(|(name, shown)| Some((*shown, result[name].as_f64()?)));
        let written = fs::metadata(weights).and_then(|file| file.modified()).ok().map(moment);
        Ok(Some(Run { settings, reached: reached.collect(), written }))
    }

    /// What a page says about it.
    pub fn facts(&self) -> Vec<(&'static str, String)> {
        let Settings { optimizer, rate, schedule, batch_size, epochs, .. } = self.settings;
        let training = format!(
            "{}, {batch_size} images a step, {optimizer} at {rate}, {schedule}",
            counted(epochs, "epoch")
        );
        let mut facts = vec![("training", training)];
        facts.extend(self.reached.iter().map(|(name, share)| (*name, format!("{:.2} %", 100.0 * share))));
        facts.extend(self.written.iter().map(|date| ("weights written", date.clone())));
        facts
    }

    /// Its `settings.toml`, without the folders of the machine that it ran on.
    pub fn shown_settings(&self) -> String {
        let mut settings = self.settings.clone();
        settings.data = name_of(&settings.data);
        if let Some(finetune) = &mut settings.finetune {
            finetune.pretrained = name_of(&finetune.pretrained);
        }
        settings.to_toml()
    }
}

/// The last part of a path.
fn name_of(path: &str) -> String {
    Path::new(path).file_name().map_or(path.into(), |name| name.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::settings::finetune::Finetune;

    #[test]
    fn a_page_does_not_tell_where_files_lay() {
        let pretrained = "/home/ada/weights.safetensors".into();
        let finetune = Some(Finetune { pretrained, ..Finetune::default() });
        let settings = Settings { data: "/home/ada/pets".into(), finetune, ..Settings::default() };
        let shown = Run { settings, reached: Vec::new(), written: None }.shown_settings();
        assert!(shown.contains("data = \"pets\"") && shown.contains("\"weights.safetensors\""), "{shown}");
        assert!(!shown.contains("ada"), "{shown}");
    }

    #[test]
    fn what_is_in_no_run_folder_is_of_no_run() {
        let folder = tempfile::tempdir().unwrap();
        let weights = folder.path().join("best.safetensors");
        assert!(Run::of(&weights).unwrap().is_none(), "no file");
        fs::write(&weights, "").unwrap();
        assert!(Run::of(&weights).unwrap().is_none(), "no settings");
        fs::write(folder.path().join("settings.toml"), Settings::default().to_toml()).unwrap();
        fs::write(folder.path().join("result.json"), "{\"test_accuracy\": 0.5}").unwrap();
        let facts = Run::of(&weights).unwrap().unwrap().facts();
        assert!(facts.contains(&("test accuracy", "50.00 %".into())), "{facts:?}");
    }
}
