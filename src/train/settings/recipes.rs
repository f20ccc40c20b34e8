//! Settings to begin with, under a name: a row each of [`RECIPES`], where options and help find it.

use super::{PixelScaling, Settings};
use crate::models::Architecture;
use crate::models::fast::{ACCURATE as ACCURATE_MODEL, FAST as FAST_MODEL};
use crate::nn::Norm;
use crate::ops::augment::{ALTERNATE, Augmentations, BORDER, CUTOUT, FLIP, SHIFT};
use crate::registry::registry;
use crate::train::optimizers::keras_adam::KERAS_ADAM;
use crate::train::optimizers::muon::MUON;
use crate::train::schedules::{CONSTANT, LINEAR};

/// All recipes; the first is that of a training which names none.
pub static RECIPES: &[&Recipe] = &[&DEFAULT, &KERAS, &FAST, &ACCURATE];

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

/// The training of arXiv 2404.00498 (Jordan 2024) for 94 %.
pub static FAST: Recipe = Recipe {
    name: "fast",
    about: "CIFAR-10 in 8 epochs (Jordan 2024): the model fast, Muon, batches of 500, flips by turns, \
            six views of a test image",
    make: || {
        let augment = Augmentations::default().with(&FLIP, ALTERNATE).with(&SHIFT, 2.0).with(&BORDER, 1.0);
        of_jordan(&FAST_MODEL, 8, augment)
    },
};

/// The same for 96 %: a wider and deeper network, more epochs, larger shifts, squares cut out.
pub static ACCURATE: Recipe = Recipe {
    name: "accurate",
    about: "Better than fast, in eight times its time: the model accurate, 16 epochs, batches of 500, \
            squares cut out",
    make: || {
        let augment = Augmentations::default().with(&FLIP, ALTERNATE).with(&SHIFT, 4.0).with(&BORDER, 1.0);
        of_jordan(&ACCURATE_MODEL, 16, augment.with(&CUTOUT, 12.0))
    },
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
