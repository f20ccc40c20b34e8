//! The settings of a training: a table of them ([`SETTINGS`]), and the recipes ([`RECIPES`]) that
//! answer what is not given.
//!
//! To add a setting, add a row to the table here, or to that of [`finetune`]: files, options, their
//! help, variables and checks follow from it.

mod checks;
pub mod choices;
pub mod class_weights;
pub mod finetune;
mod finetune_choices;
mod recipes;
mod setting;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use super::checkpoint::check_same;
use super::optimizers::sgd::{MOMENTUM as SGD_MOMENTUM, SGD};
use super::optimizers::{OPTIMIZERS, Optimizer, USUAL_BATCH};
use super::schedules::{ONE_CYCLE, SCHEDULES, Schedule};
use super::shards;
use super::stage::StageConfig;
use crate::data::{DEFAULT_SIZE, SIZES};
use crate::error::Result;
use crate::exec::Precision;
use crate::models::cnn::CNN;
use crate::models::{Architecture, Training, Views};
use crate::nn::{Norm, Parameter, Role};
use crate::ops::augment::{Augmentations, FLIP, SHIFT};
use crate::report::Reading;
use crate::team::Team;
use checks::{NO_GROUPS, positive, positive_or_zero, rate_of_group, share, usage};
use class_weights::ClassWeights;
use finetune::{FINETUNE_SETTINGS, Finetune, FinetuneChoices};
pub use recipes::{ACCURATE, FAST, KERAS, PHOTOS, RECIPES, Recipe};
use setting::settings;
pub use setting::{Setting, Usual, ValueKind};

/// How pixels become numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PixelScaling {
    /// By the training set's mean and standard deviation of each channel.
    Statistics,
    /// Divided by 255.
    Unit,
}

settings! {
    /// All settings of a training, resolved: written into the run folder as `settings.toml`.
    struct Settings {
        /// What fine-tuning needs to know besides.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        finetune: Option<Finetune> = None,
    }

    /// A choice for each of [`Settings`], under the same names: so a run's `settings.toml` is a
    /// file of choices.
    struct Choices {
        /// What to begin with; every other choice overrides a setting of it.
        pub recipe: Option<&'static Recipe>,
        /// In a file for `finetune` only.
        pub finetune: Option<FinetuneChoices>,
    }

    /// Everything that is to be known about them: a row each.
    static SETTINGS;

    /// auto, cifar10, shapes, or a path: a folder with the official binary batches, their .tar.gz,
    /// a folder of images, CLASS/* or train/CLASS/* with or without val/CLASS/* and
    /// test/CLASS/*, or a .csv file with the columns file and label.
    data: String = "auto".into(), { kind: ValueKind::Path, value_name: "DATA", heading: "Data", }

    /// The network.
    model: &'static Architecture = &CNN, {
        kind: ValueKind::Name(|| Architecture::names().map(|name| (name, "")).collect()),
        value_name: "NAME",
        heading: "Model",
        in_finetune: Some(("The network", Usual::Told("that of the weights"))),
    }

    /// Side of the images in pixels.
    image_size: usize = DEFAULT_SIZE, {
        kind: ValueKind::Size,
        value_name: "PIXELS",
        heading: "Model",
        in_finetune: Some((
            "Side in pixels to which images, cut to a square, are scaled. On CIFAR-10, with all layers, two cores reach \
             80 % at 32 in 5 minutes, 85 % at 64 in 10, 90 % at 96 in half an hour, 91 % at 128 in \
             almost an hour",
            Usual::Told("96, for most models; see summary"),
        )),
        check: |s| {
            let (low, high, size) = (SIZES.start(), SIZES.end(), s.image_size);
            let problem = format!("`image_size` must lie in {low} to {high}, not {size}");
            usage(SIZES.contains(&size), problem)
        },
    }

    /// Passes over the training images.
    epochs: usize = 20, {
        kind: ValueKind::Count,
        value_name: "N",
        in_finetune: Some((
            "Passes over the training images, in all stages",
            Usual::Told("by their number, 12 to 55"),
        )),
        check: |s| {
            let epochs = s.epochs;
            usage(epochs > 0, "`epochs` must be at least 1".into())?;
            usage(epochs <= MOST_EPOCHS, format!("`epochs` {epochs} are too many; the most is {MOST_EPOCHS}"))
        },
    }

    /// Images a step.
    batch_size: usize = USUAL_BATCH, {
        kind: ValueKind::Count,
        value_name: "N",
        in_finetune: Some(("Images a step", Usual::Told("16 for up to 2,000 training images, else 64"))),
        check: |s| usage(s.batch_size > 0, "`batch_size` must be at least 1".into()),
    }

    /// Parts of a batch, a power of two, whose gradients are computed one after the other and added
    /// up: for batches that memory has no room for; several processes share them. Each part is
    /// normalised by itself.
    #[once = "one"]
    shards: usize = 1, {
        kind: ValueKind::Count,
        value_name: "N",
        usual: Usual::Told("1, under mpirun 8"),
        check: |s| {
            let Settings { shards, batch_size, .. } = *s;
            let most = shards::MOST;
            let problem = format!("`shards` must be a power of two up to {most}, not {shards}");
            usage(shards.is_power_of_two() && shards <= most, problem)?;
            let problem = format!("`batch_size` {batch_size} cannot be cut into {shards} equal `shards`; choose one that can, or fewer");
            usage(batch_size.is_multiple_of(shards), problem)
        },
    }

    /// How a GPU stores activations and their gradients.
    #[serde(default)]
    precision: Precision = Precision::F32, {
        kind: ValueKind::Name(|| Precision::NAMES.to_vec()),
        value_name: "NAME",
    }

    /// Highest learning rate.
    #[serde(alias = "lr")]
    rate: f32 = SGD.usual_rate, {
        option: Some("lr"),
        kind: ValueKind::Number,
        value_name: "RATE",
        usual: Usual::OfOptimizer(|optimizer| optimizer.usual_rate),
        in_finetune: Some((
            "Highest learning rate of the last stage",
            Usual::Told("by the number of images, 2e-4 to 0.02"),
        )),
        check: |s| positive("`rate`", s.rate),
    }

    /// Highest learning rate of biases and normalisations; 0 for that of the rest.
    #[serde(default, alias = "bias_lr")]
    bias_rate: f32 = 0.0, {
        option: Some("bias-lr"),
        kind: ValueKind::Number,
        value_name: "RATE",
        in_finetune: NO_GROUPS,
        check: |s| rate_of_group(s, "`bias_rate`", s.bias_rate),
    }

    /// Highest learning rate of the classifier's weights; 0 for that of the rest.
    #[serde(default, alias = "classifier_lr")]
    classifier_rate: f32 = 0.0, {
        option: Some("classifier-lr"),
        kind: ValueKind::Number,
        value_name: "RATE",
        in_finetune: NO_GROUPS,
        check: |s| rate_of_group(s, "`classifier_rate`", s.classifier_rate),
    }

    /// How the rate moves.
    schedule: &'static Schedule = &ONE_CYCLE, {
        kind: ValueKind::Name(|| SCHEDULES.iter().map(|one| (one.name, one.about)).collect()),
        value_name: "NAME",
    }

    /// How weights follow their gradients.
    optimizer: &'static Optimizer = &SGD, {
        kind: ValueKind::Name(|| OPTIMIZERS.iter().map(|one| (one.name, one.about)).collect()),
        value_name: "NAME",
        check: |s| {
            let optimizer = s.optimizer;
            let problem = "sets the norms of weights, which pretrained layers do not survive; choose another";
            usage(s.finetune.is_none() || !optimizer.sets_norms, format!("`optimizer` {optimizer} {problem}"))
        },
    }

    /// How much of its momentum sgd keeps, and muon in what it leaves to sgd.
    #[once = "usual_momentum"]
    momentum: f32 = SGD_MOMENTUM, {
        kind: ValueKind::Number,
        value_name: "X",
        check: |s| {
            share("`momentum`", s.momentum)?;
            let (momentum, optimizer) = (s.momentum, s.optimizer);
            let fits = optimizer.takes_momentum || momentum == SGD_MOMENTUM;
            usage(fits, format!("`momentum` {momentum} is for sgd and muon; {optimizer} has its own"))
        },
    }

    /// Weight decay.
    weight_decay: f32 = SGD.usual_decay, {
        kind: ValueKind::Number,
        value_name: "X",
        usual: Usual::OfOptimizer(|optimizer| optimizer.usual_decay),
        check: |s| positive_or_zero("`weight_decay`", s.weight_decay),
    }

    /// Weight decay of biases and normalisations.
    #[serde(default)]
    bias_decay: f32 = 0.0, {
        kind: ValueKind::Number,
        value_name: "X",
        check: |s| positive_or_zero("`bias_decay`", s.bias_decay),
    }

    /// Share of the target spread over all classes.
    label_smoothing: f32 = 0.1, {
        kind: ValueKind::Number,
        value_name: "X",
        check: |s| share("`label_smoothing`", s.label_smoothing),
    }

    /// Dropout before the classifier.
    dropout: f32 = 0.3, {
        kind: ValueKind::Number,
        value_name: "X",
        heading: "Model",
        check: |s| share("`dropout`", s.dropout),
    }

    /// Whether the classifier begins at zero.
    zero_classifier: bool = true, {}

    /// Draw each class equally often in an epoch, however few images it has.
    #[serde(default)]
    balanced: bool = false, {
        kind: ValueKind::Switch,
        value_name: "true|false",
        heading: "Data",
    }

    /// Weights of the classes in the loss: auto for the less the more images a class has, or a CSV
    /// file with lines CLASS,WEIGHT.
    #[serde(default)]
    class_weights: ClassWeights = ClassWeights::None, {
        kind: ValueKind::ClassWeights,
        value_name: "auto|FILE",
        heading: "Data",
        check: |s| {
            let twice = s.balanced && s.class_weights == ClassWeights::Auto;
            let problem = "`balanced` and `class_weights` auto make up for the same: choose one of them";
            usage(!twice, problem.into())
        },
    }

    /// What is done to the training images.
    augment: Augmentations = Augmentations::default().with(&FLIP, 1.0).with(&SHIFT, 4.0), {
        kind: ValueKind::Augmentations,
        value_name: "LIST",
        heading: "Augmentation",
        check: |s| s.augment.check(s.image_size, s.finetune.is_some()),
    }

    /// How pixels become numbers.
    normalise: PixelScaling = PixelScaling::Statistics, {}

    /// Batch normalisation's constants.
    norm: Norm = Norm { epsilon: 1e-5, momentum: 0.1 }, {
        check: |s| {
            let Norm { epsilon, momentum } = s.norm;
            let problem = format!("norm.epsilon must lie in 1e-12 to 1, not {epsilon}");
            usage((1e-12..=1.0).contains(&epsilon), problem)?;
            let problem = format!("norm.momentum must lie in [0, 1], not {momentum}");
            usage((0.0..=1.0).contains(&momentum), problem)
        },
    }

    /// Decides everything that is random.
    seed: u32 = 0, { kind: ValueKind::Seed, value_name: "N", }

    /// Images of the training set held back for validation; 0 for none.
    validation: usize = 5000, {
        kind: ValueKind::Count,
        value_name: "N",
        heading: "Data",
        usual: Usual::OfRecipe(", at most a tenth"),
    }

    /// Keep averages of the weights, X of them left by each step, and use these; such as 0.999.
    ema: f32 = 0.0, {
        kind: ValueKind::Number,
        value_name: "X",
        usual: Usual::OfRecipe(", off"),
        check: |s| share("`ema`", s.ema),
    }

    /// Largest norm of all gradients together.
    clip: f32 = 0.0, {
        kind: ValueKind::Number,
        value_name: "NORM",
        usual: Usual::OfRecipe(", any"),
        check: |s| positive_or_zero("`clip`", s.clip),
    }

    /// Stop after N epochs without a better validation accuracy.
    early_stop: usize = 0, {
        kind: ValueKind::Count,
        value_name: "N",
        usual: Usual::OfRecipe(", never"),
    }

    /// A tenth of the rate after N epochs without a better validation accuracy.
    plateau: usize = 0, {
        kind: ValueKind::Count,
        value_name: "N",
        usual: Usual::OfRecipe(", never"),
        check: |s| {
            let problem = "`plateau` lowers the rate itself; use it with `schedule` constant";
            usage(s.plateau == 0 || s.schedule.is_constant(), problem.into())
        },
    }

    /// Stop at a validation accuracy of ACC per cent.
    target: f64 = 0.0, {
        kind: ValueKind::Number,
        value_name: "ACC",
        usual: Usual::OfRecipe(", none"),
        check: |s| {
            let target = s.target;
            let fits = target == 0.0 || target > 1.0 && target <= 100.0;
            usage(fits, format!("`target` is in per cent, such as 87, not {target}"))
        },
    }

    /// Keep a checkpoint after every N epochs, beside the newest one, for replay and verify to
    /// start from, and the weights, for evaluate and others: in the folder checkpoints/ of the run,
    /// together three times as large as the weights, four times with adam; without N after every
    /// epoch.
    #[serde(default)]
    keep_checkpoints: usize = 0, {
        kind: ValueKind::Every,
        value_name: "N",
        heading: "Output",
        usual: Usual::OfRecipe(", none"),
    }

    /// Write the figures of each epoch for TensorBoard, too, into the folder tensorboard/ of the
    /// run: `tensorboard --logdir runs` draws them.
    #[serde(default)]
    tensorboard: bool = false, {
        kind: ValueKind::Switch,
        value_name: "true|false",
        heading: "Output",
        check: |s| {
            let fits = cfg!(feature = "tensorboard") || !s.tensorboard;
            usage(fits, "`tensorboard`: this build was made without the feature tensorboard".into())
        },
    }

    /// Predict the mean over an image and its mirror image.
    test_flip: bool = true, {
        kind: ValueKind::Switch,
        value_name: "true|false",
        heading: "Augmentation",
        usual: Usual::Told("as the training flips"),
    }

    /// Predict the mean over an image, at half the weight, and what it is one pixel up and to the
    /// left, and down and to the right.
    #[serde(default)]
    test_shift: bool = false, {
        kind: ValueKind::Switch,
        value_name: "true|false",
        heading: "Augmentation",
    }

    /// Leave out images that cannot be read; --verbose lists them.
    skip_bad: bool = false, {
        kind: ValueKind::Switch,
        value_name: "true|false",
        heading: "Data",
        usual: Usual::Untold,
    }
}

fn one() -> usize {
    1
}

fn usual_momentum() -> f32 {
    SGD_MOMENTUM
}

/// The history of so many epochs is written, and read again, after each of them without being felt.
pub const MOST_EPOCHS: usize = 20_000;

/// The batch where none is chosen: the recipe's, or so much smaller that an epoch has steps enough
/// to learn by.
pub fn usual_batch(of_recipe: usize, images: usize) -> usize {
    const LEAST: usize = 8;
    const STEPS: usize = 10;
    let halves = std::iter::successors(Some(of_recipe), |batch| Some(batch / 2));
    halves.take_while(|batch| *batch >= LEAST).find(|batch| images >= STEPS * batch).unwrap_or(LEAST)
}

impl Settings {
    /// The text of `settings.toml`.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).unwrap_or_else(|error| unreachable!("settings are a plain table: {error}"))
    }

    /// The rates, of biases and of the classifier too, that in batches of `batch_size` do what
    /// these do in those that they are made for. Where steps and weights have one size each, the
    /// noise of a small batch makes no step longer, and their rate stays; but a rate that also
    /// drives what the optimizer leaves to another is that one's.
    pub fn rates_in_batches(&self, batch_size: usize, made_for: usize) -> [f32; 3] {
        let Settings { optimizer, rate, bias_rate, classifier_rate, .. } = *self;
        let lowered = |rate| optimizer.rate_in_batches(rate, batch_size, made_for);
        let stays = optimizer.sets_norms && bias_rate > 0.0 && classifier_rate > 0.0;
        [if stays { rate } else { lowered(rate) }, lowered(bias_rate), lowered(classifier_rate)]
    }

    /// The configuration of a training on `images` images.
    pub fn config(&self, images: usize) -> StageConfig {
        let (labels, class_weights) = (Vec::new(), Vec::new());
        let (backbone, team) = (1.0, Team::default());
        StageConfig { images, labels, class_weights, backbone, team, settings: self.clone() }
    }

    /// How the curves of a training on so many classes are to be read.
    pub fn reading(&self, classes: usize) -> Reading {
        let augmented = !self.augment.is_empty();
        let head = self.finetune.as_ref().map_or(0, |finetune| finetune.head_epochs);
        // A stage that may end early does not tell beforehand where the next one begins.
        let known = head > 0 && head < self.epochs && self.early_stop == 0 && self.target == 0.0;
        let second_stage = known.then_some(head + 1);
        let reading = Reading::of(self.label_smoothing, self.dropout, augmented, classes);
        // Without a validation there is nothing beside the training loss.
        let loss = reading.loss.filter(|_| self.validation > 0);
        Reading { loss, second_stage }
    }

    /// Images of a shard.
    pub fn shard_size(&self) -> usize {
        self.batch_size / self.shards
    }

    /// The weight decay of a parameter.
    pub fn decay_of(&self, parameter: &Parameter) -> f32 {
        if parameter.role == Role::Weight { self.weight_decay } else { self.bias_decay }
    }

    /// Views of an image in a prediction.
    pub fn views(&self) -> Views {
        Views { flip: self.test_flip, shift: self.test_shift }
    }

    /// Settings that the model's training graph depends on.
    pub fn training(&self) -> Training {
        Training { dropout: self.dropout, zero_classifier: self.zero_classifier }
    }

    /// Checks the settings by themselves: what is wrong with them should show before any data is
    /// loaded.
    ///
    /// # Errors
    /// A usage error that names the option.
    pub fn check(&self) -> Result<()> {
        SETTINGS.iter().chain(FINETUNE_SETTINGS).try_for_each(|setting| (setting.check)(self))
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
        let longer = old == new || self.schedule.is_constant() && new > old;
        let problem =
            "only a run with `schedule` constant can be made longer, and none shorter; start another run";
        usage(longer, format!("this run was begun with `epochs` {old}, not {new}; {problem}"))
    }

    /// Checks the settings against a training set of `images` images.
    ///
    /// # Errors
    /// A usage error that names the option.
    pub fn check_against(&self, images: usize) -> Result<()> {
        let Settings { validation, batch_size, epochs, .. } = *self;
        let waits = self.early_stop > 0 || self.plateau > 0 || self.target > 0.0;
        let problem =
            "`early_stop`, `plateau` and `target` need a validation set: choose a `validation` over 0";
        usage(!waits || validation > 0, problem.into())?;
        let too_many = format!("`validation` {validation} leaves nothing of the {images} training images");
        usage(validation < images, too_many)?;
        let left = images - validation;
        let too_large = format!("a batch of {batch_size} is larger than the {left} training images");
        usage(batch_size <= left, format!("{too_large}; choose a smaller `batch_size`"))?;
        // Beyond this the step would lose precision on its way through f32.
        let steps = epochs.saturating_mul(self.config(left).steps());
        usage(steps <= 1 << 24, format!("`epochs` {epochs} are {steps} steps; the most is {}", 1 << 24))
    }
}
