//! The settings of a fine-tuning as a user chooses them, in addition to those that any training
//! has.

use std::path::Path;

use super::choices::absolute;
use super::finetune::{Blocks, Finetune, FinetuneChoices};
use super::{Choices, Settings};
use crate::error::{Error, Result};
use crate::models::Spec;
use crate::models::pretrained::Attributes;
use crate::train::finetune_defaults::defaults;

impl FinetuneChoices {
    /// The choices of a whole fine-tuning: these and `choices`, and those of the file where there
    /// are none.
    ///
    /// # Errors
    /// If the file is no file of choices, or one for `train`.
    pub fn with_file(&self, choices: &Choices, file: Option<&Path>) -> Result<(Choices, FinetuneChoices)> {
        let Some(path) = file else { return Ok((choices.clone(), self.clone())) };
        let read = Choices::read(path)?;
        let Some(mut own) = read.finetune.clone() else {
            let advice = "it is one for train; to use it here, add a line [finetune] at its end";
            return Err(Error::Usage(format!("{} says nothing about fine-tuning: {advice}", path.display())));
        };
        own.input_size = own.input_size.or(read.image_size);
        // What is known about one file of weights says nothing about another.
        if self.pretrained.is_some() && self.pretrained != own.pretrained {
            own.attributes = Attributes::default();
        }
        // With the classifier only, the file's number of its epochs is that of all, and follows
        // from the others.
        if own.unfreeze == Some(Blocks(0)) && own.head_epochs == read.epochs {
            own.head_epochs = None;
        }
        let attributes = self.attributes.clone().or(own.attributes.clone());
        let choices = Choices { recipe: choices.recipe.or(read.recipe), ..choices.or(&read) };
        Ok((choices, FinetuneChoices { attributes, ..self.or(&own) }))
    }

    /// These choices, with the size that suits the weights where none is chosen.
    ///
    /// # Errors
    /// If one is chosen that the weights cannot have.
    pub fn of_size(self, weights: &Spec, path: &Path) -> Result<FinetuneChoices> {
        let (model, own) = (weights.architecture, weights.variant.input_size);
        let usual = if model.one_size { own } else { model.usual_size };
        let size = self.input_size.unwrap_or(usual);
        if model.one_size && size != own {
            let problem = format!("its {model} is for images of {own} pixels, not `image_size` {size}");
            return Err(Error::file(path, problem));
        }
        Ok(FinetuneChoices { input_size: Some(size), ..self })
    }

    /// The settings with every choice in place, checked.
    ///
    /// # Errors
    /// If they make no sense, or are not those of a fine-tuning.
    pub fn apply_to(&self, choices: &Choices, settings: &Settings) -> Result<(Settings, Finetune)> {
        let settings = match choices.recipe {
            Some(recipe) => recipe.finetuning(settings.clone())?,
            None => settings.clone(),
        };
        let mut settings = Choices { image_size: None, ..choices.clone() }.apply_to(&settings);
        let Some(begun) = settings.finetune.take() else {
            return Err(Error::Usage("these are no settings of a fine-tuning".into()));
        };
        let all = (self.unfreeze.unwrap_or(begun.unfreeze) == Blocks(0)).then_some(settings.epochs);
        let chosen = FinetuneChoices {
            pretrained: self.pretrained.as_deref().filter(|path| *path != "auto").map(absolute),
            head_epochs: self.head_epochs.or(all),
            ..self.clone()
        };
        let attributes = self.attributes.clone().or(begun.attributes.clone());
        let finetune = Finetune { attributes, ..chosen.over(&begun) };
        settings.finetune = Some(finetune.clone());
        settings.check()?;
        Ok((settings, finetune))
    }

    /// Completes what could not be known before the number of training images was.
    ///
    /// # Errors
    /// As for [`FinetuneChoices::apply_to`].
    pub fn resolve(&self, choices: &Choices, settings: &mut Settings, images: usize) -> Result<()> {
        let (sized, own) = self.apply_to(choices, &defaults(images, choices.epochs))?;
        (settings.epochs, settings.batch_size, settings.rate) = (sized.epochs, sized.batch_size, sized.rate);
        if let Some(finetune) = &mut settings.finetune {
            let known = finetune.clone();
            *finetune = Finetune { pretrained: known.pretrained, attributes: known.attributes, ..own };
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::models::PaddingStyle;
    use crate::train::finetune_defaults::MANY;
    use crate::train::settings::PHOTOS;

    /// What comes out for `given` with a file of this text.
    fn chosen(given: FinetuneChoices, choices: Choices, text: &str) -> Result<(Settings, Finetune)> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mine.toml");
        fs::write(&path, text).unwrap();
        let (choices, own) = given.with_file(&choices, Some(&path))?;
        own.apply_to(&choices, &defaults(MANY, choices.epochs))
    }

    fn in_file(text: &str) -> Result<(Settings, Finetune)> {
        chosen(FinetuneChoices::default(), Choices::default(), text)
    }

    #[test]
    fn options_win_over_the_file_and_the_file_over_the_defaults() {
        let own = FinetuneChoices { head_rate: Some(0.5), input_size: Some(64), ..Default::default() };
        let choices = Choices { epochs: Some(7), ..Default::default() };
        let text = "epochs = 9\nseed = 4\n[finetune]\nhead_rate = 0.25\nbackbone = 0.125\ninput_size = 128\n";
        let (settings, finetune) = chosen(own, choices, text).unwrap();
        assert_eq!(
            (settings.epochs, settings.seed, settings.batch_size),
            (7, 4, defaults(MANY, None).batch_size)
        );
        assert_eq!((finetune.head_rate, finetune.backbone, finetune.head_epochs), (0.5, 0.125, 2));
        assert_eq!(finetune.input_size, 64);
        assert_eq!(in_file(text).unwrap().1.input_size, 128);
        assert_eq!(in_file("image_size = 48\n[finetune]\n").unwrap().1.input_size, 48);
    }

    #[test]
    fn a_runs_settings_are_choices() {
        let mut settings = defaults(MANY, None);
        let mut finetune = settings.finetune.take().unwrap();
        finetune.attributes = Attributes { epsilon: Some(1e-3), mean: Some([1.0; 3]), ..Default::default() };
        (settings.seed, finetune.unfreeze) = (5, Blocks(3));
        settings.finetune = Some(finetune);
        assert_eq!(in_file(&settings.to_toml()).unwrap().0, settings);
    }

    #[test]
    fn what_is_known_about_weights_goes_with_them() {
        let text = "[finetune]\npretrained = 'a'\nattributes = { padding = 'same', epsilon = 0.5 }\n";
        let with = |path: &str, padding| FinetuneChoices {
            pretrained: Some(path.into()),
            attributes: Attributes { padding, ..Default::default() },
            ..Default::default()
        };
        let attributes = |given| chosen(given, Choices::default(), text).unwrap().1.attributes;
        assert_eq!(attributes(with("a", None)).padding, Some(PaddingStyle::Same));
        let symmetric = attributes(with("a", Some(PaddingStyle::Symmetric)));
        assert_eq!((symmetric.padding, symmetric.epsilon), (Some(PaddingStyle::Symmetric), Some(0.5)));
        assert_eq!(attributes(with("b", None)), Attributes::default());
    }

    #[test]
    fn the_epochs_of_the_classifier_follow_where_it_is_all_that_is_trained() {
        let text = "epochs = 10\n[finetune]\nunfreeze = 0\nhead_epochs = 10\n";
        let with = |unfreeze: Option<usize>, epochs| {
            let own = FinetuneChoices { unfreeze: unfreeze.map(Blocks), ..Default::default() };
            chosen(own, Choices { epochs, ..Default::default() }, text).unwrap().1.head_epochs
        };
        assert_eq!((with(None, None), with(None, Some(6)), with(Some(2), None)), (10, 6, 3));
    }

    #[test]
    fn the_recipe_for_photographs_decides_what_is_not_chosen() {
        let photos = PHOTOS.settings();
        let of = |settings: &Settings| (settings.ema, settings.label_smoothing);
        let (settings, _) = in_file("recipe = 'photos'\nema = 0.5\n[finetune]\n").unwrap();
        assert_eq!(of(&settings), (0.5, photos.label_smoothing));
        assert_ne!(of(&photos), of(&defaults(MANY, None)));
        let (own, choices) =
            (FinetuneChoices::default(), Choices { recipe: Some(&PHOTOS), ..Choices::default() });
        let (mut settings, _) = own.apply_to(&choices, &defaults(MANY, None)).unwrap();
        own.resolve(&choices, &mut settings, 400).unwrap();
        let few = defaults(400, None);
        assert_eq!(of(&settings), of(&photos));
        assert_eq!(
            (settings.batch_size, settings.epochs, settings.rate),
            (few.batch_size, few.epochs, few.rate)
        );
    }

    #[test]
    fn few_epochs_leave_room_for_both_stages() {
        let head_epochs = |epochs| {
            let choices = Choices { epochs: Some(epochs), ..Default::default() };
            chosen(FinetuneChoices::default(), choices, "[finetune]\n").unwrap().1.head_epochs
        };
        assert_eq!([1, 2, 4, 5, 8, 12, 40].map(head_epochs), [1, 1, 1, 2, 2, 3, 3]);
    }

    #[test]
    fn all_may_be_said_in_a_file() {
        assert_eq!(in_file("[finetune]\nunfreeze = 'all'\n").unwrap().1.unfreeze, Blocks::ALL);
        for value in ["'some'", "-1", "true"] {
            let message = in_file(&format!("[finetune]\nunfreeze = {value}\n")).unwrap_err().to_string();
            assert!(message.contains("line 2: unfreeze must be"), "{message}");
        }
    }

    #[test]
    fn a_file_for_train_is_refused() {
        for (text, part) in [
            ("epochs = 3\n", "mine.toml says nothing about fine-tuning"),
            ("recipe = 'keras'\n[finetune]\n", "keras is for train; finetune has photos"),
            ("[finetune]\nlayers = 3\n", "line 2: unknown field 'layers'"),
        ] {
            let message = in_file(text).unwrap_err().to_string();
            assert!(message.contains(part) && !message.contains('\n'), "{message}");
        }
    }
}
