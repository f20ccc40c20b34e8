//! Picks the images of a batch out of the data set, augments and normalises them:
//!
//! `x[n, y, x, c] = (pixel - mean[c]) / std[c]`, where the picture has been mirrored with
//! probability 1/2 (if `flip`), shifted by up to `shift` pixels each way, with zeros (the mean
//! colour) coming in, and a square of `cutout` pixels has been set to zero (DeVries and Taylor
//! 2017). Image n of a batch draws from the counters `(2 n, step)` and `(2 n + 1, step)`: every
//! device sees the same pictures.

use super::case::{Case, Fill};
use super::softmax_cross_entropy::IGNORE;
use super::*;
use crate::kernels::parallel;
use crate::kernels::rng::{self, Stream};

/// Inputs: the data set, `u32 [M, W]`: a row is an image's `size x size x 3` bytes, four to a word,
/// lowest byte first, filled up to whole words; its labels `u32 [M]`; indices `u32 [N]` of the
/// batch; step `u32 [1]`. Outputs: x `[N, size, size, 3]` and labels `u32 [N]`. An index outside
/// the data set gives an empty image with the label [`IGNORE`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Augment {
    /// Side of a picture in pixels.
    pub size: usize,
    /// Of each channel, on the scale of a pixel byte.
    pub mean: [f32; 3],
    /// Of each channel, on the same scale.
    pub std: [f32; 3],
    /// Most pixels to shift by, each way.
    pub shift: usize,
    /// Whether pictures are mirrored at random.
    pub flip: bool,
    /// Side of the square; 0 for none.
    pub cutout: usize,
    /// What the random choices depend on, besides step and place in the batch.
    pub seed: u32,
}

/// Elements of an item of work, about.
const BLOCK: usize = 1 << 13;

/// What is done to one image.
struct Change {
    flip: bool,
    down: isize,
    right: isize,
    /// Top left corner of the square, which may lie partly outside.
    square: [isize; 2],
}

impl Augment {
    /// Words of an image's record.
    pub fn record(size: usize) -> usize {
        (3 * size * size).div_ceil(4)
    }

    fn change(&self, step: u32, n: usize) -> Change {
        let a = rng::draw(self.seed, Stream::Augment, step, 2 * n as u32);
        let b = rng::draw(self.seed, Stream::Augment, step, 2 * n as u32 + 1);
        let shift = |bits| rng::below(bits, 2 * self.shift as u32 + 1) as isize - self.shift as isize;
        let corner = |bits| rng::below(bits, self.size as u32) as isize - (self.cutout / 2) as isize;
        Change {
            flip: self.flip && a[2] & 1 == 1,
            down: shift(a[0]),
            right: shift(a[1]),
            square: [corner(b[0]), corner(b[1])],
        }
    }

    fn constants(&self, types: &Types, piece: usize) -> Vec<(&'static str, f64)> {
        let data = &types.inputs[0];
        let sizes = [
            ("SIZE", self.size),
            ("COUNT", data.dims()[0]),
            ("RECORD", data.shape.last()),
            ("BATCH", types.inputs[2].len()),
            ("PIECE", PIECE_BYTES / 4),
            ("BEFORE", piece * (PIECE_BYTES / 4)),
            ("SHIFT", self.shift),
            ("FLIP", self.flip.into()),
            ("CUTOUT", self.cutout),
            ("SEED", self.seed as usize),
            ("STREAM", Stream::Augment as usize),
        ];
        let names = ["MEAN_R", "MEAN_G", "MEAN_B", "STD_R", "STD_G", "STD_B"];
        let colours = self.mean.into_iter().chain(self.std).map(f64::from);
        sizes
            .map(|(name, value)| (name, value as f64))
            .into_iter()
            .chain(names.into_iter().zip(colours))
            .collect()
    }

    /// What becomes of a pixel's byte, for each channel.
    fn table(&self) -> [[f32; 256]; 3] {
        std::array::from_fn(|c| std::array::from_fn(|byte| (byte as f32 - self.mean[c]) / self.std[c]))
    }

    /// Row `y` of the changed image.
    fn row(&self, change: &Change, table: &[[f32; 256]; 3], pixels: &[u8], y: usize, row: &mut [f32]) {
        for (x, out) in row.chunks_exact_mut(3).enumerate() {
            match self.source(change, y, x) {
                Some(from) => {
                    let pixel = &pixels[3 * from..][..3];
                    for c in 0..3 {
                        out[c] = table[c][usize::from(pixel[c])];
                    }
                }
                None => out.fill(0.0),
            }
        }
    }

    /// The pixel of the original that lands at (y, x), if any does.
    fn source(&self, change: &Change, y: usize, x: usize) -> Option<usize> {
        let size = self.size as isize;
        let (y, x) = (y as isize, x as isize);
        let side = self.cutout as isize;
        let [top, left] = change.square;
        if (top..top + side).contains(&y) && (left..left + side).contains(&x) {
            return None;
        }
        let (y, x) = (y - change.down, x - change.right);
        if y < 0 || y >= size || x < 0 || x >= size {
            return None;
        }
        let x = if change.flip { size - 1 - x } else { x };
        Some((y * size + x) as usize)
    }
}

impl Op for Augment {
    fn name(&self) -> &'static str {
        let changes = self.flip || self.shift > 0 || self.cutout > 0;
        if changes { "augment" } else { "batch" }
    }

    fn output_types(&self, inputs: &[&TensorType]) -> Inferred {
        let [data, labels, indices, step] = expect(inputs)?;
        let &[count, words] = data.dims() else {
            return Err("the data set must be [M, W]".into());
        };
        require(
            words == Augment::record(self.size),
            format!("images of size {} have other records", self.size),
        )?;
        require(labels.dims() == [count], "the data set must have one label an image")?;
        require(step == &TensorType::u32([1]), "step must be u32[1]")?;
        let batch = indices.len();
        Ok(vec![TensorType::f32([batch, self.size, self.size, 3]), TensorType::u32([batch])])
    }

    fn cpu(&self, types: &Types, _: CpuTarget) -> CpuStep {
        let (op, record, table) = (*self, types.inputs[0].shape.last(), self.table());
        let row = 3 * self.size;
        CpuStep::new(move |args| {
            let (data, labels) = (args.input_u32(0), args.input_u32(1));
            let (indices, step) = (args.input_u32(2), args.input_u32(3)[0]);
            let out_labels: &mut [u32] = bytemuck::cast_slice_mut(args.outputs[1]);
            for (out, &index) in out_labels.iter_mut().zip(indices) {
                *out = labels.get(index as usize).copied().unwrap_or(IGNORE);
            }
            let (x, _) = args.output();
            let blocks = parallel::row_blocks(x, row * op.size, row, (BLOCK / row).max(1));
            parallel::for_each(blocks, &mut [], 0, |(n, first, rows), _| {
                let Some(words) = data.chunks_exact(record).nth(indices[n] as usize) else {
                    return rows.fill(0.0);
                };
                let (change, pixels) = (op.change(step, n), bytemuck::cast_slice(words));
                for (y, row) in rows.chunks_exact_mut(row).enumerate() {
                    op.row(&change, &table, pixels, first + y, row);
                }
            });
        })
    }

    /// Of the data set only the batch's part is read.
    fn cost(&self, types: &Types) -> Cost {
        let read = types.outputs[0].dims()[0] * types.inputs[0].shape.last();
        Cost { flops: 0, bytes: (4 * read + types.outputs[0].bytes()) as u64 }
    }

    fn gpu(&self, types: &Types) -> Dispatches {
        use Operand::{Input, InputPiece, Output};
        let batch = types.inputs[2].len();
        let stage = |entry, piece, bindings, count| Dispatch {
            shader: shader!("augment", "index", "rng"),
            entry,
            constants: self.constants(types, piece),
            bindings,
            groups: grid(count, GROUP),
        };
        let mut list = vec![stage("pick_labels", 0, vec![Input(2), Input(1), Output(1)], batch)];
        for piece in 0..types.inputs[0].bytes().div_ceil(PIECE_BYTES).max(1) {
            let bindings = vec![Input(2), Input(3), Output(0), InputPiece(0, piece)];
            list.push(stage("main", piece, bindings, types.outputs[0].len()));
        }
        Dispatches { scratch: Vec::new(), list }
    }

    fn reference(&self, types: &Types, inputs: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let record = types.inputs[0].shape.last();
        let step = inputs[3][0] as u32;
        let mut x = Vec::new();
        let mut labels = Vec::new();
        for (n, &index) in inputs[2].iter().enumerate() {
            let label = inputs[1].get(index as usize);
            labels.push(label.copied().unwrap_or(f64::from(IGNORE)));
            let change = self.change(step, n);
            for at in 0..self.size * self.size {
                let from = self.source(&change, at / self.size, at % self.size).filter(|_| label.is_some());
                for c in 0..3 {
                    let value = from.map(|from| {
                        let byte = 3 * from + c;
                        let word = inputs[0][index as usize * record + byte / 4] as u32;
                        let pixel = f64::from(word >> (8 * (byte % 4)) & 255);
                        (pixel - f64::from(self.mean[c])) / f64::from(self.std[c])
                    });
                    x.push(value.unwrap_or(0.0));
                }
            }
        }
        vec![x, labels]
    }
}

/// Test cases of this op.
pub fn cases() -> Vec<Case> {
    let case = |size, shift, flip, cutout| {
        let (mean, std) = ([120.0, 130.0, 110.0], [60.0, 55.0, 70.0]);
        let inputs = vec![
            (TensorType::u32([9, Augment::record(size)]), Fill::Bits),
            (TensorType::u32([9]), Fill::Below(10)),
            // One index more than there are images: the padding of a last batch.
            (TensorType::u32([20]), Fill::Below(10)),
            (TensorType::u32([1]), Fill::Constant(11.0)),
        ];
        Case::new(Augment { size, mean, std, shift, flip, cutout, seed: 3 }, inputs)
    };
    vec![case(8, 0, false, 0), case(8, 2, true, 3), case(7, 1, false, 0)]
}
