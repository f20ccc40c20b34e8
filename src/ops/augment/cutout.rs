//! Squares that are cut out (DeVries and Taylor 2017).
//!
//! A square around a random pixel, which may lie partly outside of the image, becomes the mean
//! colour.

use std::ops::Range;
use std::sync::Arc;

use super::{Act, Augmentation, ValueForm, changed_images, draw};
use crate::kernels::rng::{self, Stream};
use crate::ops::*;

/// Cuts a square out of each image.
pub const CUTOUT: Augmentation = Augmentation {
    name: "cutout",
    value: ValueForm::Pixels,
    about: "fills a square of so many pixels a side, anywhere, with the mean colour",
    act: Act::Change(|side, images| {
        Arc::new(Cutout { size: images.size, side: side as usize, seed: images.seed })
    }),
    conflict: |_| None,
};

/// Inputs: x `[N, size, size, 3]`, and step `u32 [1]`; works in place on x.
#[derive(Clone, Copy, Debug)]
pub struct Cutout {
    /// Side of an image in pixels.
    pub size: usize,
    /// Side of the square in pixels.
    pub side: usize,
    /// Seed of the training.
    pub seed: u32,
}

impl Cutout {
    /// Rows and columns of an image's square, as far as they lie in the image.
    fn square(&self, step: u32, place: usize) -> [Range<usize>; 2] {
        let [row, column, ..] = draw(self.seed, step, place, 1);
        [row, column].map(|bits| {
            let end = rng::below(bits, self.size as u32) as usize + self.side - self.side / 2;
            end.saturating_sub(self.side)..end.min(self.size)
        })
    }
}

impl Op for Cutout {
    fn name(&self) -> &'static str {
        "cutout"
    }

    fn output_types(&self, inputs: &[&TensorType]) -> Inferred {
        changed_images(self.size, inputs)
    }

    fn alias(&self) -> Alias {
        Alias::InPlace(&[(0, 0)])
    }

    /// Only the squares are written.
    fn cost(&self, types: &Types) -> Cost {
        Cost { flops: 0, bytes: (4 * types.outputs[0].dims()[0] * self.side * self.side * 3) as u64 }
    }

    fn cpu(&self, _: &Types, _: CpuTarget) -> CpuStep {
        let op = *self;
        CpuStep::new(move |args| {
            let step = args.input_u32(1)[0];
            let (x, _) = args.output();
            for (n, image) in x.chunks_exact_mut(3 * op.size * op.size).enumerate() {
                let [rows, columns] = op.square(step, n);
                for row in image.chunks_exact_mut(3 * op.size).take(rows.end).skip(rows.start) {
                    row[3 * columns.start..3 * columns.end].fill(0.0);
                }
            }
        })
    }

    fn gpu(&self, types: &Types) -> Dispatches {
        let batch = types.outputs[0].dims()[0];
        let constants = [
            ("SIZE", self.size as f64),
            ("SIDE", self.side as f64),
            ("SEED", f64::from(self.seed)),
            ("STREAM", f64::from(Stream::Augment as u32)),
        ];
        let shader = shader!("cutout");
        let bindings = vec![Operand::Input(1), Operand::Output(0)];
        each_value(shader, batch * self.side * self.side, &constants, bindings)
    }

    fn reference(&self, inputs: &[ArrayViewD<f64>]) -> Vec<ArrayD<f64>> {
        let [x, step] = operands(inputs);
        let mut x = view::<Ix4>(x).to_owned();
        for ((n, row, column, _), x) in x.indexed_iter_mut() {
            let [rows, columns] = self.square(single(step) as u32, n);
            if rows.contains(&row) && columns.contains(&column) {
                *x = 0.0;
            }
        }
        vec![x.into_dyn()]
    }
}
