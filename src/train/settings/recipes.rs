//! Settings to begin with, under a name: a row each of [`RECIPES`], where options and help find it.

use super::{PixelScaling, Settings};
use crate::nn::Norm;
use crate::ops::augment::Augmentations;
use crate::registry::registry;
use crate::train::optimizers::keras_adam::KERAS_ADAM;
use crate::train::schedules::CONSTANT;

/// All recipes; the first is that of a training which names none.
pub static RECIPES: &[&Recipe] = &[&DEFAULT, &KERAS];

/// Settings to begin with.
#[derive(Debug)]
pub struct Recipe {
    /// In options, files and messages.
    pub name: &'static str,
    /// Description in one line of a help text.
    pub about: &'static str,
    make: fn() -> Settings,
}

registry!(Recipe, "recipe", RECIPES);

impl Recipe {
    /// The settings that depend on nothing else.
    pub fn settings(&self) -> Settings {
        (self.make)()
    }
}

/// The defaults of the table.
pub static DEFAULT: Recipe = Recipe {
    name: "default",
    about: "Good at 20 epochs: SGD with Nesterov momentum, one cycle, flips and shifts, label smoothing",
    make: Settings::default,
};

/// A notebook that has none of this.
pub static KERAS: Recipe = Recipe {
    name: "keras",
    about: "The plain notebook: Adam at 1e-3, pixels / 255, no augmentation, constant rate, Glorot \
            weights throughout",
    make: || Settings {
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
    },
};
