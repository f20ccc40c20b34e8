//! Brightness, contrast and saturation, as torchvision's `ColorJitter` changes them.
//!
//! They change in a random order, each by a factor within the chosen distance of 1, and clamped to
//! the range of a byte.
//!
//! `v = clamp(from + factor (v - from))`, where `from` is black for brightness, the mean grey of
//! the image for contrast, and the grey of the pixel for saturation. What a shift let in is changed
//! too.

use std::sync::Arc;

use super::{Act, Augment, Augmentation, ValueForm, changed_images, colour_constants, draw};
use crate::kernels::parallel;
use crate::kernels::rng::{self, Stream};
use crate::ops::*;

/// Changes the colours of an image.
pub const COLOUR: Augmentation = Augmentation {
    name: "colour",
    value: ValueForm::UpTo(1.0),
    about: "changes brightness, contrast and saturation, each by a factor up to so far from 1, in a random order",
    act: Act::Change(|strength, images| {
        let Augment { size, mean, std, seed, .. } = *images;
        Arc::new(Colour { size, mean, std, strength, seed })
    }),
    conflict: |_| None,
};

/// Inputs: x `[N, size, size, 3]`, and step `u32 [1]`; works in place on x.
#[derive(Clone, Copy, Debug)]
pub struct Colour {
    /// Side of an image in pixels.
    pub size: usize,
    /// Mean of each channel, on the scale of a pixel byte.
    pub mean: [f32; 3],
    /// Standard deviation of each channel, on the same scale.
    pub std: [f32; 3],
    /// How far from 1 a factor may be.
    pub strength: f32,
    /// Seed of the training.
    pub seed: u32,
}

/// The share of each channel in the grey of a pixel.
pub(super) const GREY: [f32; 3] = [0.2989, 0.587, 0.114];

/// Numbers of the changes: brightness is 0.
const CONTRAST: usize = 1;
const SATURATION: usize = 2;

impl Colour {
    /// Numbers of the changes in their order, each with its factor.
    fn turns(&self, step: u32, place: usize) -> [(usize, f32); 3] {
        let numbers = draw(self.seed, step, place, 3);
        let order = rng::below(numbers[3], 6) as usize;
        std::array::from_fn(|turn| {
            let kind = (order + turn * (1 + order / 3)) % 3;
            (kind, 1.0 + self.strength * (2.0 * rng::unit(numbers[kind]) - 1.0))
        })
    }

    fn change(&self, step: u32, place: usize, image: &mut [f32]) {
        let grey = |pixel: &[f32]| GREY.iter().zip(pixel).map(|(share, v)| share * v).sum::<f32>();
        for pixel in image.chunks_exact_mut(3) {
            for (c, v) in pixel.iter_mut().enumerate() {
                *v = *v * self.std[c] + self.mean[c];
            }
        }
        for (kind, factor) in self.turns(step, place) {
            let mean = if kind == CONTRAST {
                let sum: f64 = image.chunks_exact(3).map(|pixel| f64::from(grey(pixel))).sum();
                (sum / (self.size * self.size) as f64) as f32
            } else {
                0.0
            };
            for pixel in image.chunks_exact_mut(3) {
                let from = if kind == SATURATION { grey(pixel) } else { mean };
                pixel.iter_mut().for_each(|v| *v = (from + factor * (*v - from)).clamp(0.0, 255.0));
            }
        }
        for pixel in image.chunks_exact_mut(3) {
            for (c, v) in pixel.iter_mut().enumerate() {
                *v = (*v - self.mean[c]) / self.std[c];
            }
        }
    }
}

impl Op for Colour {
    fn name(&self) -> &'static str {
        "colour"
    }

    fn output_types(&self, inputs: &[&TensorType]) -> Inferred {
        changed_images(self.size, inputs)
    }

    fn alias(&self) -> Alias {
        Alias::InPlace(&[(0, 0)])
    }

    fn cpu(&self, _: &Types, _: CpuTarget) -> CpuStep {
        let op = *self;
        CpuStep::new(move |args| {
            let step = args.input_u32(1)[0];
            let (x, _) = args.output();
            let images = x.chunks_exact_mut(3 * op.size * op.size).enumerate();
            parallel::for_each(images, &mut [], 0, |(n, image), _| op.change(step, n, image));
        })
    }

    fn gpu(&self, types: &Types) -> Dispatches {
        let batch = types.outputs[0].dims()[0];
        let constants = [
            ("SIZE", self.size as f64),
            ("BATCH", batch as f64),
            ("STRENGTH", f64::from(self.strength)),
            ("SEED", f64::from(self.seed)),
            ("STREAM", f64::from(Stream::Augment as u32)),
        ];
        Dispatches::from(Dispatch {
            shader: shader!("colour"),
            entry: "main",
            constants: constants.into_iter().chain(colour_constants(self.mean, self.std)).collect(),
            bindings: vec![Operand::Input(1), Operand::Output(0)],
            groups: grid(batch, 1),
        })
    }

    fn reference(&self, inputs: &[ArrayViewD<f64>]) -> Vec<ArrayD<f64>> {
        let [x, step] = operands(inputs);
        let [mean, std] = [self.mean, self.std].map(|colour| vector(colour.map(f64::from)));
        let shares = vector(GREY.map(f64::from));
        let mut x = x * &std + &mean;
        for (n, mut image) in x.axis_iter_mut(ndarray::Axis(0)).enumerate() {
            for (kind, factor) in self.turns(single(step) as u32, n) {
                let grey = (&image * &shares).sum_axis(ndarray::Axis(2)).insert_axis(ndarray::Axis(2));
                let from = match kind {
                    CONTRAST => Array::from_elem(grey.raw_dim(), grey.sum() / grey.len() as f64),
                    SATURATION => grey,
                    _ => Array::zeros(grey.raw_dim()),
                };
                let changed = &from + f64::from(factor) * (&image - &from);
                image.assign(&changed.clamp(0.0, 255.0));
            }
        }
        vec![(x - mean) / std]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_order_comes_up_and_has_all_three() {
        let op = Colour { size: 8, mean: [0.0; 3], std: [1.0; 3], strength: 0.4, seed: 1 };
        let mut orders = std::collections::BTreeMap::new();
        for place in 0..600 {
            let turns = op.turns(0, place);
            assert!(turns.iter().all(|(_, factor)| (0.6..1.4).contains(factor)), "{turns:?}");
            *orders.entry(turns.map(|(kind, _)| kind)).or_insert(0) += 1;
        }
        assert_eq!(orders.len(), 6);
        for (mut order, count) in orders {
            order.sort_unstable();
            assert!(order == [0, 1, 2] && count > 60, "{order:?} {count}");
        }
    }
}
