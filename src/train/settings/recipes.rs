//! Settings to begin with, under a name: a row each of [`RECIPES`], where options and help find it.

use super::{PixelScaling, Settings};
use crate::error::{Error, Result};
use crate::models::Architecture;
use crate::models::fast::{ACCURATE as ACCURATE_MODEL, FAST as FAST_MODEL};
use crate::nn::Norm;
use crate::ops::augment::{ALTERNATE, Augmentations, BORDER, CUTOUT, FLIP, SHIFT};
use crate::registry::registry;
use crate::train::finetune_defaults::{MANY, defaults};
use crate::train::optimizers::keras_adam::KERAS_ADAM;
use crate::train::optimizers::muon::MUON;
use crate::train::schedules::{CONSTANT, LINEAR};

/// All recipes; the first is that of a training which names none. [`PHOTOS`] is for fine-tuning,
/// the others are for training from scratch.
pub static RECIPES: &[&Recipe] = &[&DEFAULT, &KERAS, &FAST, &ACCURATE, &PHOTOS];

/// Settings to begin with.
#[derive(Debug)]
pub struct Recipe {
    /// In options, files and messages.
    pub name: &'static str,
    /// Description in one line of a help text.
    pub about: &'static str,
    make: Make,
}

/// The command that a recipe is for, and how it makes the settings.
#[derive(Debug)]
enum Make {
    /// Of a training from scratch, whatever the data.
    Train(fn() -> Settings),
    /// Of a fine-tuning, from the defaults for its number of images.
    Finetune(fn(Settings) -> Settings),
}

registry!(Recipe, "recipe", RECIPES);

impl Recipe {
    /// The settings that depend on nothing else; of a recipe for fine-tuning those for many images.
    pub fn settings(&self) -> Settings {
        match self.make {
            Make::Train(make) => make(),
            Make::Finetune(change) => change(defaults(MANY, None)),
        }
    }

    /// The name of the command that it is for.
    pub fn command(&self) -> &'static str {
        match self.make {
            Make::Train(_) => "train",
            Make::Finetune(_) => "finetune",
        }
    }

    /// Checks that it is for this command.
    ///
    /// # Errors
    /// If it is not; names those that are.
    pub fn check_for(&self, command: &str) -> Result<()> {
        if self.command() == command {
            return Ok(());
        }
        let others = RECIPES.iter().filter(|recipe| recipe.command() == command).map(|recipe| recipe.name);
        let (own, others) = (self.command(), others.collect::<Vec<_>>().join(", "));
        Err(Error::Usage(format!("`recipe` {self} is for {own}; {command} has {others}")))
    }

    /// The settings of a fine-tuning by this recipe, where these are its defaults.
    ///
    /// # Errors
    /// If it is for training from scratch.
    pub fn finetuning(&self, defaults: Settings) -> Result<Settings> {
        self.check_for("finetune")?;
        match self.make {
            Make::Train(make) => Ok(make()),
            Make::Finetune(change) => Ok(change(defaults)),
        }
    }
}

/// The defaults of the table.
pub static DEFAULT: Recipe = Recipe {
    name: "default",
    about: "Good at 20 epochs: SGD with Nesterov momentum, one cycle, flips and shifts, label smoothing",
    make: Make::Train(Settings::default),
};

/// A notebook that has none of this.
pub static KERAS: Recipe = Recipe {
    name: "keras",
    about: "The plain notebook: Adam at 1e-3, pixels / 255, no augmentation, constant rate, Glorot \
            weights throughout",
    make: Make::Train(|| Settings {
        rate: KERAS_ADAM.usual_rate,
        schedule: &CONSTANT,
        optimizer: &KERAS_ADAM,
        weight_decay: KERAS_ADAM.usual_decay,
        label_smoothing: 0.0,
        dropout: 0.5,
        zero_classifier: false,
        augment: Augmentations::default(),
        normalise: PixelScaling::Unit,
        norm: Norm { epsilon: 1e-3, momentum: 0.01 },
        test_flip: false,
        ..Settings::default()
    }),
};

/// The training of arXiv 2404.00498 (Jordan 2024) for 94 %.
pub static FAST: Recipe = Recipe {
    name: "fast",
    about: "CIFAR-10 in 8 epochs (Jordan 2024): the model fast, Muon, batches of 500, flips by turns, \
            six views of a test image",
    make: Make::Train(|| {
        let augment = Augmentations::default().with(&FLIP, ALTERNATE).with(&SHIFT, 2.0).with(&BORDER, 1.0);
        of_jordan(&FAST_MODEL, 8, augment)
    }),
};

/// The same for 96 %: a wider and deeper network, more epochs, larger shifts, squares cut out.
pub static ACCURATE: Recipe = Recipe {
    name: "accurate",
    about: "Better than fast, in eight times its time: the model accurate, 16 epochs, batches of 500, \
            squares cut out",
    make: Make::Train(|| {
        let augment = Augmentations::default().with(&FLIP, ALTERNATE).with(&SHIFT, 4.0).with(&BORDER, 1.0);
        of_jordan(&ACCURATE_MODEL, 16, augment.with(&CUTOUT, 12.0))
    }),
};

/// What suits photographs of one's own: `docs/images.md` has what it was chosen by.
pub static PHOTOS: Recipe = Recipe {
    name: "photos",
    about: "For finetune, on up to some thousand photographs: averages of the weights, no label smoothing",
    make: Make::Finetune(|defaults| Settings { ema: 0.98, label_smoothing: 0.0, ..defaults }),
};

/// A training as of arXiv 2404.00498, in its form with Muon, but for batches of 500 at half its
/// rate: they end as well as its 2000 (docs/accuracy.md), and a step needs a quarter of the memory.
/// There the loss is summed over a batch; here it is the mean, as everywhere, and the rates of SGD
/// are as many times larger as a batch has images. What the head's factor of 256 does to them:
/// [`crate::models::fast`].
fn of_jordan(model: &'static Architecture, epochs: usize, augment: Augmentations) -> Settings {
    const HEAD: f32 = 256.0 * 256.0;
    let (bias_rate, head_rate, decay) = (0.053, 0.67, 2e-6);
    let batch_size = 500;
    let images = batch_size as f32;
    Settings {
        model,
        epochs,
        batch_size,
        rate: 0.12,
        bias_rate: bias_rate * images,
        classifier_rate: head_rate * images / HEAD,
        momentum: 0.85,
        schedule: &LINEAR,
        optimizer: &MUON,
        weight_decay: decay / head_rate * HEAD,
        bias_decay: decay / bias_rate,
        label_smoothing: 0.2,
        dropout: 0.0,
        zero_classifier: false,
        augment,
        norm: Norm { epsilon: 1e-12, momentum: 0.4 },
        validation: 0,
        test_shift: true,
        ..Settings::default()
    }
}
