//! One of 14 changes of each image, drawn with a level of 31: TrivialAugment, with the changes and
//! levels of its wide space (Müller and Hutter 2021, arXiv 2103.10158).
//!
//! | change | at the highest level |
//! |--------|----------------------|
//! | shear, of columns by the row or of rows by the column | 0.99 pixels each |
//! | shift of columns or rows | 32 pixels |
//! | rotation about the middle | 135 degrees |
//! | brightness, contrast, saturation, sharpness | a factor of 0.01 or 1.99 |
//! | bytes of fewer bits | 2 bits |
//! | bytes from a threshold on inverted | from 0 |
//! | each channel stretched to all bytes, or equalised | always the same |
//! | nothing | |
//!
//! Those of the first four rows go either way. What a shear, shift or rotation lets in is the mean
//! colour, and between pixels it is what bilinear interpolation gives.

mod change;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use ndarray::{Array3, ArrayView3, Axis};

use super::colour::GREY;
use super::{Act, Augment, Augmentation, ValueForm, changed_images, colour_constants};
use crate::kernels::parallel;
use crate::kernels::rng::Stream;
use crate::ops::*;
use change::{Change, Kind, LEVELS, Pixels};

/// Does one change of many to an image.
pub const TRIVIAL: Augmentation = Augmentation {
    name: "trivial",
    value: ValueForm::Written(&["trivial"]),
    about: "does one of 14 changes, each by one of 31 levels: shears, shifts and turns it, changes its colours, \
            sharpness or bytes, or nothing (TrivialAugment)",
    act: Act::Change(|_, images| {
        let Augment { size, mean, std, seed, .. } = *images;
        Arc::new(Trivial { size, mean, std, seed })
    }),
    conflict: |_| None,
};

/// Inputs: x `[N, size, size, 3]`, and step `u32 [1]`. Output: x, changed.
#[derive(Clone, Copy, Debug)]
pub struct Trivial {
    /// Side of an image in pixels.
    pub size: usize,
    /// Mean of each channel, on the scale of a pixel byte.
    pub mean: [f32; 3],
    /// Standard deviation of each channel, on the same scale.
    pub std: [f32; 3],
    /// Seed of the training.
    pub seed: u32,
}

impl Op for Trivial {
    fn name(&self) -> &'static str {
        "trivial"
    }

    fn output_types(&self, inputs: &[&TensorType]) -> Inferred {
        changed_images(self.size, inputs)
    }

    fn cpu(&self, _: &Types, _: CpuTarget) -> CpuStep {
        let Trivial { size, mean, std, seed } = *self;
        CpuStep::new(move |args| {
            let (x, step) = (args.inputs[0], args.input_u32(1)[0]);
            let (y, _) = args.output();
            let images = x.chunks_exact(3 * size * size).zip(y.chunks_exact_mut(3 * size * size));
            parallel::for_each(images.enumerate(), &mut [], 0, |(n, (values, to)), _| {
                Change::of(seed, step, n).write(Pixels { values, size, mean, std }, to);
            });
        })
    }

    fn gpu(&self, types: &Types) -> Dispatches {
        let batch = types.outputs[0].dims()[0];
        let constants = [
            ("SIZE", self.size as f64),
            ("BATCH", batch as f64),
            ("SEED", f64::from(self.seed)),
            ("STREAM", f64::from(Stream::Augment as u32)),
        ];
        Dispatches::from(Dispatch {
            shader: shader!("trivial"),
            entry: "main",
            constants: constants.into_iter().chain(colour_constants(self.mean, self.std)).collect(),
            bindings: vec![Operand::Input(1), Operand::Input(0), Operand::Output(0)],
            groups: grid(batch, 1),
        })
    }

    fn reference(&self, inputs: &[ArrayViewD<f64>]) -> Vec<ArrayD<f64>> {
        let [x, step] = operands(inputs);
        let x = view::<Ix4>(x);
        let [mean, std] = [self.mean, self.std].map(|colour| Array::from_iter(colour.map(f64::from)));
        let mut y = x.to_owned();
        for (n, mut image) in y.axis_iter_mut(Axis(0)).enumerate() {
            let change = Change::of(self.seed, single(step) as u32, n);
            let bytes = &image * &std + &mean;
            let changed = match change.kind {
                Kind::Nothing => continue,
                kind if (kind as u32) < Kind::Brightness as u32 => moved(change, image.view()),
                kind if (kind as u32) < Kind::Posterize as u32 => (blended(change, &bytes) - &mean) / &std,
                _ => (tabled(change, &bytes) - &mean) / &std,
            };
            image.assign(&changed);
        }
        vec![y.into_dyn()]
    }
}

/// The level of a change as a share of the highest, negative the other way.
fn amount(change: Change) -> f64 {
    f64::from(change.level) / f64::from(LEVELS - 1) * if change.is_turned { -1.0 } else { 1.0 }
}

/// Every pixel is compared with every other one.
fn moved(change: Change, image: ArrayView3<f64>) -> Array3<f64> {
    let (amount, half) = (amount(change), image.dim().0 as f64 / 2.0);
    let source = |row: f64, column: f64| match change.kind {
        Kind::ShearColumns => [row, column + 0.99 * amount * row],
        Kind::ShearRows => [row + 0.99 * amount * column, column],
        Kind::ShiftColumns => [row, column - (32.0 * amount).trunc()],
        Kind::ShiftRows => [row - (32.0 * amount).trunc(), column],
        _ => {
            let (sine, cosine) = (135.0 * amount).to_radians().sin_cos();
            let [down, right] = [row - half, column - half];
            [half + sine * right + cosine * down, half + cosine * right - sine * down]
        }
    };
    Array3::from_shape_fn(image.dim(), |(row, column, c)| {
        let from = source(row as f64 + 0.5, column as f64 + 0.5);
        let share = |at: usize, place: f64| (1.0 - (at as f64 + 0.5 - place).abs()).max(0.0);
        let channel = image.index_axis(Axis(2), c);
        channel.indexed_iter().map(|((y, x), v)| share(y, from[0]) * share(x, from[1]) * v).sum()
    })
}

fn blended(change: Change, bytes: &Array3<f64>) -> Array3<f64> {
    let grey = (bytes * &Array::from_iter(GREY.map(f64::from))).sum_axis(Axis(2)).insert_axis(Axis(2));
    let last = bytes.dim().0 - 1;
    let origin = match change.kind {
        Kind::Brightness => Array3::zeros(bytes.dim()),
        Kind::Contrast => Array3::from_elem(bytes.dim(), grey.sum() / grey.len() as f64),
        Kind::Saturation => grey.broadcast(bytes.dim()).unwrap().to_owned(),
        _ => Array3::from_shape_fn(bytes.dim(), |(y, x, c)| {
            match [y, x].iter().any(|p| [0, last].contains(p)) {
                true => bytes[[y, x, c]],
                false => {
                    let around = bytes.slice(ndarray::s![y - 1..=y + 1, x - 1..=x + 1, c]);
                    (around.sum() + 4.0 * bytes[[y, x, c]]) / 13.0
                }
            }
        }),
    };
    (&origin + (1.0 + 0.99 * amount(change)) * (bytes - &origin)).clamp(0.0, 255.0)
}

fn tabled(change: Change, bytes: &Array3<f64>) -> Array3<f64> {
    let level = f64::from(change.level) / f64::from(LEVELS - 1);
    let mut bytes = bytes.mapv(|byte| (byte + 0.5).floor().clamp(0.0, 255.0));
    for mut channel in bytes.axis_iter_mut(Axis(2)) {
        let old = channel.to_owned();
        let [least, most] = [f64::min, f64::max].map(|of| old.iter().copied().reduce(of).unwrap());
        let below = |limit: f64| old.iter().filter(|byte| **byte < limit).count();
        let each = below(most) / 255;
        let colours = 2f64.powf((6.0 * level).round());
        channel.mapv_inplace(|byte| match change.kind {
            Kind::Posterize => (byte / colours).floor() * colours,
            Kind::Solarize if byte >= 255.0 - 255.0 * level => 255.0 - byte,
            Kind::AutoContrast if least < most => (byte - least) * 255.0 / (most - least),
            Kind::Equalize if each > 0 => ((each / 2 + below(byte)) / each).min(255) as f64,
            _ => byte,
        });
    }
    bytes
}
