//! What a training is told, and the recipes that answer what it is not told.

use serde::{Deserialize, Serialize};

use super::checkpoint::check_same;
use super::finetune::Finetune;
use super::optimizer::Optimizer;
use super::schedule::Schedule;
use super::stage::Course;
use crate::error::{Error, Result};
use crate::models::cnn::CNN;
use crate::models::{Architecture, Training};
use crate::nn::Norm;
use crate::ops::augment::{Augmentations, FLIP, SHIFT};
use crate::report::Reading;

/// All settings of a training, resolved: written into the run folder as `settings.toml`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    pub data: String,
    pub model: &'static Architecture,
    pub image_size: usize,
    pub epochs: usize,
    pub batch_size: usize,
    /// The highest learning rate of the schedule.
    pub rate: f32,
    pub schedule: Schedule,
    pub optimizer: Optimizer,
    pub weight_decay: f32,
    pub label_smoothing: f32,
    pub dropout: f32,
    pub zero_classifier: bool,
    /// What is done to the training images.
    pub augment: Augmentations,
    pub normalise: Normalise,
    pub norm: Norm,
    pub seed: u32,
    pub validation: usize,
    /// Share of the averaged weights that each step leaves; 0 to keep no averages.
    pub ema: f32,
    /// Largest norm of all gradients together; 0 for any.
    pub clip: f32,
    /// Epochs without a better validation accuracy after which to stop, or to lower the rate; 0 for
    /// never.
    pub early_stop: usize,
    pub plateau: usize,
    /// Validation accuracy in per cent at which to stop; 0 for none.
    pub target: f64,
    /// Whether a prediction is the mean over a picture and its mirror image.
    pub test_flip: bool,
    /// Whether pictures that cannot be read are left out.
    pub skip_bad: bool,
    /// What fine-tuning needs to know besides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finetune: Option<Finetune>,
}

/// How pixels become numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Normalise {
    /// By the training set's mean and standard deviation of each channel.
    Statistics,
    /// Divided by 255.
    Unit,
}

/// Settings to begin with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Recipe {
    /// Good at 20 epochs: SGD with Nesterov momentum, one cycle, flips and shifts, label smoothing.
    #[default]
    Default,
    /// The plain notebook: Adam at 1e-3, pixels / 255, no augmentation, constant rate, Glorot
    /// weights throughout.
    Keras,
}

impl Recipe {
    /// The settings that depend on nothing else.
    pub fn settings(self) -> Settings {
        let default = Settings {
            data: "auto".into(),
            model: &CNN,
            image_size: crate::data::DEFAULT_SIZE,
            epochs: 20,
            batch_size: USUAL_BATCH,
            rate: usual_rate(Optimizer::Sgd),
            schedule: Schedule::OneCycle,
            optimizer: Optimizer::Sgd,
            weight_decay: usual_decay(Optimizer::Sgd),
            label_smoothing: 0.1,
            dropout: 0.3,
            zero_classifier: true,
            augment: Augmentations::default().with(&FLIP, 1.0).with(&SHIFT, 4.0),
            normalise: Normalise::Statistics,
            norm: Norm { epsilon: 1e-5, momentum: 0.1 },
            seed: 0,
            validation: 5000,
            ema: 0.0,
            clip: 0.0,
            early_stop: 0,
            plateau: 0,
            target: 0.0,
            test_flip: true,
            skip_bad: false,
            finetune: None,
        };
        match self {
            Recipe::Default => default,
            Recipe::Keras => Settings {
                rate: 1e-3,
                schedule: Schedule::Constant,
                optimizer: Optimizer::KerasAdam,
                weight_decay: 0.0,
                label_smoothing: 0.0,
                dropout: 0.5,
                zero_classifier: false,
                augment: Augmentations::default(),
                normalise: Normalise::Unit,
                norm: Norm { epsilon: 1e-3, momentum: 0.01 },
                test_flip: false,
                ..default
            },
        }
    }
}

/// The history of so many epochs is written, and read again, after each of them without being felt.
pub const MOST_EPOCHS: usize = 20_000;

/// The rate a recipe takes for an optimizer it did not choose itself.
pub fn usual_rate(optimizer: Optimizer) -> f32 {
    match optimizer {
        Optimizer::Sgd => 0.1,
        Optimizer::Adam => 4e-3,
        Optimizer::KerasAdam => 1e-3,
    }
}

/// The weight decay a recipe takes for an optimizer it did not choose itself.
pub fn usual_decay(optimizer: Optimizer) -> f32 {
    if optimizer == Optimizer::Sgd { 1e-3 } else { 0.0 }
}

/// The batch that the recipes and their rates are made for.
pub const USUAL_BATCH: usize = 128;

/// The batch where none is chosen: the usual one, or so much smaller that an epoch has steps enough
/// to learn by.
pub fn usual_batch(images: usize) -> usize {
    const LEAST: usize = 8;
    const STEPS: usize = 10;
    let halves = std::iter::successors(Some(USUAL_BATCH), |batch| Some(batch / 2));
    halves.take_while(|batch| *batch >= LEAST).find(|batch| images >= STEPS * batch).unwrap_or(LEAST)
}

/// A rate that is made for [`USUAL_BATCH`], in batches of another size. A smaller batch's gradient
/// is the noisier, and its steps are the more: they are made smaller, in proportion, or with its
/// root where the optimizer takes the gradient's size out itself. Larger batches keep the rate.
pub fn rate_in_batches(rate: f32, optimizer: Optimizer, batch_size: usize) -> f32 {
    let share = (batch_size as f32 / USUAL_BATCH as f32).min(1.0);
    match optimizer {
        Optimizer::Sgd => rate * share,
        Optimizer::Adam | Optimizer::KerasAdam => rate * share.sqrt(),
    }
}

impl Settings {
    /// The text of `settings.toml`.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).unwrap_or_else(|error| unreachable!("settings are a plain table: {error}"))
    }

    /// The course of a training on `pictures` pictures.
    pub fn course(&self, pictures: usize) -> Course {
        let Settings { batch_size, epochs, rate, schedule, seed, optimizer, weight_decay, .. } = *self;
        let Settings { ema, early_stop, plateau, target, .. } = *self;
        Course {
            pictures,
            batch_size,
            epochs,
            rate,
            backbone: 1.0,
            schedule,
            seed,
            optimizer,
            weight_decay,
            ema,
            early_stop,
            plateau,
            target,
        }
    }

    /// How the curves of a training on so many classes are to be read.
    pub fn reading(&self, classes: usize) -> Reading {
        let augmented = !self.augment.is_empty();
        let head = self.finetune.as_ref().map_or(0, |finetune| finetune.head_epochs);
        // A stage that may end early does not tell beforehand where the next one begins.
        let known = head > 0 && head < self.epochs && self.early_stop == 0 && self.target == 0.0;
        let second_stage = known.then_some(head + 1);
        Reading { second_stage, ..Reading::of(self.label_smoothing, self.dropout, augmented, classes) }
    }

    /// What the model's training graph depends on.
    pub fn training(&self) -> Training {
        Training { dropout: self.dropout, zero_classifier: self.zero_classifier }
    }

    /// Checks the settings by themselves: what is wrong with them should show before any data is
    /// loaded.
    ///
    /// # Errors
    /// A usage error that names the option.
    pub fn check(&self) -> Result<()> {
        usage(self.epochs > 0, "--epochs must be at least 1".into())?;
        let epochs = self.epochs;
        usage(epochs <= MOST_EPOCHS, format!("--epochs {epochs} are too many; the most is {MOST_EPOCHS}"))?;
        usage(self.batch_size > 0, "--batch-size must be at least 1".into())?;
        let Settings { image_size, .. } = *self;
        let sizes = crate::data::SIZES;
        let (low, high) = (sizes.start(), sizes.end());
        usage(
            sizes.contains(&image_size),
            format!("--image-size must lie in {low} to {high}, not {image_size}"),
        )?;
        self.augment.check(image_size)?;
        let rate = self.rate;
        usage(rate.is_finite() && rate > 0.0, format!("--lr must be a positive number, not {rate}"))?;
        let decay = self.weight_decay;
        usage(
            decay.is_finite() && decay >= 0.0,
            format!("--weight-decay must be 0 or a positive number, not {decay}"),
        )?;
        let shares =
            [("--dropout", self.dropout), ("--label-smoothing", self.label_smoothing), ("--ema", self.ema)];
        for (name, value) in shares {
            usage((0.0..1.0).contains(&value), format!("{name} must lie in [0, 1), not {value}"))?;
        }
        let Norm { epsilon, momentum } = self.norm;
        let range = 1e-12..=1.0;
        usage(range.contains(&epsilon), format!("norm.epsilon must lie in 1e-12 to 1, not {epsilon}"))?;
        usage((0.0..=1.0).contains(&momentum), format!("norm.momentum must lie in [0, 1], not {momentum}"))?;
        let clip = self.clip;
        usage(clip.is_finite() && clip >= 0.0, format!("--clip must be 0 or a positive number, not {clip}"))?;
        let target = self.target;
        let fits = target == 0.0 || target > 1.0 && target <= 100.0;
        usage(fits, format!("--target is in per cent, such as 87, not {target}"))?;
        let falls = self.schedule != Schedule::Constant;
        let problem = "--plateau lowers the rate itself; use it with --schedule constant";
        usage(self.plateau == 0 || !falls, problem.into())?;
        self.finetune.as_ref().map_or(Ok(()), |finetune| finetune.check(self.epochs))
    }

    /// Which command these settings are for.
    pub fn command(&self) -> &'static str {
        if self.finetune.is_some() { "finetune" } else { "train" }
    }

    /// Checks that a run with the settings `begun` can go on with these. Where the schedule depends
    /// on the number of epochs, another number would be another run; under a constant rate it is
    /// only a longer one.
    ///
    /// # Errors
    /// A usage error that names what differs.
    pub fn check_resumes(&self, begun: &Settings) -> Result<()> {
        check_same(&begun.to_toml(), &self.to_toml())?;
        let (old, new) = (begun.epochs, self.epochs);
        let longer = old == new || self.schedule == Schedule::Constant && new > old;
        let problem =
            "only a run with --schedule constant can be made longer, and none shorter; start another run";
        usage(longer, format!("this run was begun with --epochs {old}, not {new}; {problem}"))
    }

    /// Checks the settings against a training set of `images` pictures.
    ///
    /// # Errors
    /// A usage error that names the option.
    pub fn check_against(&self, images: usize) -> Result<()> {
        let Settings { validation, batch_size, epochs, .. } = *self;
        let waits = self.early_stop > 0 || self.plateau > 0 || self.target > 0.0;
        let problem =
            "--early-stop, --plateau and --target need a validation set: choose a --validation over 0";
        usage(!waits || validation > 0, problem.into())?;
        let too_many = format!("--validation {validation} leaves nothing of the {images} training pictures");
        usage(validation < images, too_many)?;
        let left = images - validation;
        let too_large = format!("a batch of {batch_size} is larger than the {left} training pictures");
        usage(batch_size <= left, format!("{too_large}; choose a smaller --batch-size"))?;
        // Beyond this the step would lose precision on its way through f32.
        let steps = epochs.saturating_mul(self.course(left).steps());
        usage(steps <= 1 << 24, format!("--epochs {epochs} are {steps} steps; the most is {}", 1 << 24))
    }
}

pub(super) fn usage(ok: bool, problem: String) -> Result<()> {
    if ok { Ok(()) } else { Err(Error::Usage(problem)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_from_a_file_is_checked_as_options_are() {
        let good = Recipe::Default.settings();
        good.check().unwrap();
        let norm = |epsilon, momentum| Settings { norm: Norm { epsilon, momentum }, ..good.clone() };
        for (wrong, part) in [
            (norm(0.0, 0.1), "norm.epsilon"),
            (norm(f32::NAN, 0.1), "norm.epsilon"),
            (norm(1e-5, -0.1), "norm.momentum"),
            (norm(1e-5, f32::NAN), "norm.momentum"),
            (Settings { rate: f32::NAN, ..good.clone() }, "--lr"),
            (Settings { weight_decay: f32::INFINITY, ..good.clone() }, "--weight-decay"),
            (Settings { ema: f32::NAN, ..good.clone() }, "--ema"),
            (Settings { target: f64::NAN, ..good.clone() }, "--target"),
            (Settings { epochs: MOST_EPOCHS + 1, ..good.clone() }, "--epochs"),
        ] {
            assert!(wrong.check().unwrap_err().to_string().contains(part), "{part}");
        }
        let text = format!("{}surprise = 1\n", good.to_toml().split('[').next().unwrap());
        assert!(toml::from_str::<Settings>(&text).unwrap_err().message().contains("surprise"));
    }

    #[test]
    fn batch_and_rate_follow_the_data() {
        let batches = [45_000, 1280, 1279, 280, 81, 20, 3].map(usual_batch);
        assert_eq!(batches, [128, 128, 64, 16, 8, 8, 8]);
        assert_eq!(rate_in_batches(0.1, Optimizer::Sgd, 128), 0.1);
        assert_eq!(rate_in_batches(0.1, Optimizer::Sgd, 512), 0.1);
        assert_eq!(rate_in_batches(0.1, Optimizer::Sgd, 8), 0.00625);
        assert_eq!(rate_in_batches(4e-3, Optimizer::Adam, 32), 2e-3);
    }

    #[test]
    fn settings_survive_their_file() {
        for recipe in [Recipe::Default, Recipe::Keras] {
            let text = toml::to_string(&recipe.settings()).unwrap();
            assert_eq!(toml::from_str::<Settings>(&text).unwrap(), recipe.settings());
        }
    }
}
