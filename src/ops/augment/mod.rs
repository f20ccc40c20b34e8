//! Random changes of training images.
//!
//! An [`Augmentation`] is a file in this folder and a line of [`AUGMENTATIONS`], which `--augment`,
//! its help and its errors, the checks of settings, the table in `docs/guide.md` and the tests
//! read. It says of itself how it is written, what it does, and how.
//!
//! There are three ways to do it. What moves pixels says where the rows and columns of an image
//! come from, here and by a function in `shaders/augment.wgsl`: the op that picks a batch,
//! [`Augment`], asks it, so that it costs no pass over the batch. What changes values is an op of
//! its own, with a shader of its own, behind that one. What joins images in pairs is one,
//! too, and gives the loss a second label for each.
//!
//! Random choices depend on the seed, and on step and place in the batch ([`Image::draw`]) or the
//! place in the data set ([`Image::constant`]): every device sees the same images.

mod border;
mod chosen;
pub mod colour;
mod crop;
pub mod cutout;
mod flip;
pub mod mix;
mod pick;
mod shift;
mod sine;
pub mod trivial;

use std::sync::Arc;

use crate::kernels::rng::{self, Stream};
use crate::ops::{Inferred, Op, expect, require};
use crate::tensor::TensorType;
pub use border::BORDER;
pub use chosen::{Augmentations, forms};
pub use cutout::CUTOUT;
pub use flip::{ALTERNATE, FLIP};
pub use pick::{Augment, Batch, EMPTY};
pub use shift::SHIFT;

/// All augmentations, in the order in which they are done to an image.
pub const AUGMENTATIONS: &[Augmentation] =
    &[crop::CROP, FLIP, BORDER, SHIFT, trivial::TRIVIAL, colour::COLOUR, CUTOUT, mix::MIXUP, mix::CUTMIX];

/// A way to change the images of a batch.
#[derive(Clone, Copy, Debug)]
pub struct Augmentation {
    /// Name in options and files.
    pub name: &'static str,
    /// Form of its value in text.
    pub value: ValueForm,
    /// Effect on an image, for the table in `docs/guide.md`.
    pub about: &'static str,
    /// Way of doing that.
    pub act: Act,
    /// Check against the others that are chosen: the conflict, if there is one.
    pub conflict: fn(&Augmentations) -> Option<&'static str>,
}

/// Range of an augmentation's value: a number above 0, where 0 stands for not at all.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ValueForm {
    /// One of these texts, which count from 1.
    Written(&'static [&'static str]),
    /// `NAME=PIXELS`, less than an image has.
    Pixels,
    /// `NAME=NUMBER`, of at most so much.
    UpTo(f32),
}

impl ValueForm {
    /// Some values, for tests.
    pub fn examples(&self) -> Vec<f32> {
        match self {
            ValueForm::Written(texts) => (1..=texts.len()).map(|value| value as f32).collect(),
            ValueForm::Pixels => vec![2.0],
            ValueForm::UpTo(most) => vec![0.4 * most],
        }
    }
}

/// How an augmentation is done; each way is given the value that was chosen.
#[derive(Clone, Copy, Debug)]
pub enum Act {
    /// It moves pixels. The function is given the places in the original, from 0, from which some
    /// rows and all columns of an image come so far, and puts others there; what comes from outside
    /// of the image is empty, and what comes from between pixels is a mean. Its twin in
    /// `shaders/augment.wgsl` knows the value as `constant`.
    Move {
        /// Name of the shader's constant.
        constant: &'static str,
        /// Rows, then columns.
        places: fn(f32, &Image, [&mut [f32]; 2]),
    },
    /// It changes values: an op on x `[N, size, size, 3]` and step, with the output x.
    Change(fn(f32, &Augment) -> Arc<dyn Op>),
    /// It joins images in pairs: an op on x, labels `u32 [N]` and step, with the outputs x, the
    /// other labels `u32 [N]`, and the shares of the first `[N]`.
    Mix(fn(f32, &Augment) -> Arc<dyn Op>),
}

/// An image of a batch, as random choices know it.
#[derive(Clone, Copy, Debug)]
pub struct Image {
    /// Seed of the training.
    pub seed: u32,
    /// Step of the training, from 0.
    pub step: u32,
    /// Passes over the images before this one.
    pub epoch: u32,
    /// Place in the batch.
    pub place: usize,
    /// Number in the data set.
    pub index: u32,
    /// Side in pixels.
    pub size: usize,
}

impl Image {
    /// Its random numbers in this step. `shaders/include/augment.wgsl` has the twin.
    pub fn draw(&self, number: u32) -> [u32; 4] {
        draw(self.seed, self.step, self.place, number)
    }

    /// Its random numbers in every step.
    pub fn constant(&self) -> [u32; 4] {
        // No training has so many steps.
        rng::draw(self.seed, Stream::Augment, u32::MAX, self.index)
    }
}

/// The random numbers of the image at a place in a batch, four a draw. Each augmentation has draws,
/// or parts of one, of its own: flips and shifts number 0, cutout 1, crops 2, colour 3, and what
/// joins images 4, and 5 of place 0, what does one change of many 6.
fn draw(seed: u32, step: u32, place: usize, number: u32) -> [u32; 4] {
    let index = 2 * place as u32 + number % 2 + ((number / 2) << 24);
    rng::draw(seed, Stream::Augment, step, index)
}

/// Mean and deviation of each channel, by their names in `shaders/include/colours.wgsl`.
fn colour_constants(mean: [f32; 3], std: [f32; 3]) -> impl Iterator<Item = (&'static str, f64)> {
    let names = ["MEAN_R", "MEAN_G", "MEAN_B", "STD_R", "STD_G", "STD_B"];
    names.into_iter().zip(mean.into_iter().chain(std).map(f64::from))
}

/// The shape rule of [`Act::Change`]: x, as it was.
fn changed_images(size: usize, inputs: &[&TensorType]) -> Inferred {
    let [x, step] = expect(inputs)?;
    require(x.dims().get(1..) == Some(&[size, size, 3]), "x must be [N, size, size, 3]")?;
    require(step == &TensorType::u32([1]), "step must be u32[1]")?;
    Ok(vec![x.clone()])
}
