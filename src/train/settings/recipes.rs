//! Settings to begin with, under a name: a row each of [`RECIPES`], where options and help find it.

use super::{PixelScaling, Settings};
use crate::models::fast::FAST as FAST_MODEL;
use crate::nn::Norm;
use crate::ops::augment::{ALTERNATE, Augmentations, BORDER, FLIP, SHIFT};
use crate::registry::registry;
use crate::train::optimizers::keras_adam::KERAS_ADAM;
use crate::train::optimizers::muon::MUON;
use crate::train::schedules::{CONSTANT, LINEAR};

/// All recipes; the first is that of a training which names none.
pub static RECIPES: &[&Recipe] = &[&DEFAULT, &KERAS, &FAST];

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

/// The training of arXiv 2404.00498 (Jordan 2024), with Muon. There the loss is summed over a
/// batch; here it is the mean, as everywhere, and the rates of SGD are as many times larger as a
/// batch has images. What the head's factor of 256 does to them: [`crate::models::fast`].
pub static FAST: Recipe = Recipe {
    name: "fast",
    about: "CIFAR-10 in 8 epochs (Jordan 2024): the model fast, Muon, batches of 2000, flips by turns, \
            six views of a test image",
    make: || {
        const BATCH: usize = 2000;
        const HEAD: f32 = 256.0 * 256.0;
        let (bias_rate, head_rate, decay) = (0.053, 0.67, 2e-6);
        let augment = Augmentations::default().with(&FLIP, ALTERNATE).with(&SHIFT, 2.0).with(&BORDER, 1.0);
        Settings {
            model: &FAST_MODEL,
            epochs: 8,
            batch_size: BATCH,
            rate: 0.24,
            bias_rate: bias_rate * BATCH as f32,
            classifier_rate: head_rate * BATCH as f32 / HEAD,
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
    },
};
