//! Picks the images of a batch out of the data set, moves their pixels and normalises them:
//!
//! `x[n, y, x, c] = (pixel[rows[y], columns[x], c] - mean[c]) / std[c]`
//!
//! where `rows` and `columns` are what the augmentations that move pixels ([`Act::Move`]) make of
//! the numbers from 0 on, for each image. Outside of the image x is 0, the mean colour; between
//! pixels it is what bilinear interpolation gives.

use super::{AUGMENTATIONS, Act, Augmentations, Image, colour_constants};
use crate::kernels::parallel;
use crate::kernels::rng::Stream;
use crate::ops::loss::softmax_cross_entropy::IGNORE;
use crate::ops::*;
use ndarray::{Array3, Ix1};

/// Inputs: the data set, `u32 [M, W]`: a row is an image's `size x size x 3` bytes, four to a word,
/// lowest byte first, filled up to whole words; its labels `u32 [M]`; indices `u32 [N]` of the
/// batch; step `u32 [1]`. Outputs: x `[N, size, size, 3]` and labels `u32 [N]`. An index outside
/// the data set gives an empty image with the label [`IGNORE`].
///
/// Where the data set is too large to be there as a whole, the first two inputs are those of the
/// batch alone, in its order ([`Augment::by_place`]).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Augment {
    /// Side of an image in pixels.
    pub size: usize,
    /// Mean of each channel, on the scale of a pixel byte.
    pub mean: [f32; 3],
    /// Standard deviation of each channel, on the same scale.
    pub std: [f32; 3],
    /// Augmentations of the training; this op does those that move pixels.
    pub changes: Augmentations,
    /// Seed of the random choices, which depend on step and place in addition.
    pub seed: u32,
    /// Steps of an epoch.
    pub epoch_steps: usize,
    /// Whether the images are given as the batch has them: the index of an image says which of the
    /// data set it is, for its random choices, but not where it lies; [`EMPTY`] is an empty place.
    pub by_place: bool,
}

/// The index of an empty place of a batch: outside of every data set.
pub const EMPTY: u32 = u32::MAX;

/// Images of a batch, and what a model is to find in them.
#[derive(Clone, Debug)]
pub struct Batch {
    /// `[N, size, size, 3]`.
    pub x: Value,
    /// Inputs of the loss behind the logits: labels, and where images are joined in pairs, the
    /// other labels and the shares of the first.
    pub targets: Vec<Value>,
}

/// Elements of an item of work, about.
const BLOCK: usize = 1 << 13;

/// Value of each pixel byte, for each channel.
type Colours = [[f32; 256]; 3];

impl Augment {
    /// Words of an image's record.
    pub fn record(size: usize) -> usize {
        (3 * size * size).div_ceil(4)
    }

    /// Adds the op to a graph, and behind it those that change its output.
    ///
    /// # Errors
    /// None but those of [`Graph::apply`].
    pub fn add(self, graph: &mut Graph, inputs: [Value; 4]) -> Result<Batch> {
        let outputs = graph.apply(self, &inputs)?;
        let (mut x, mut targets, step) = (outputs[0], vec![outputs[1]], inputs[3]);
        for (augmentation, value) in self.changes.iter() {
            match augmentation.act {
                Act::Move { .. } => {}
                Act::Change(op) => x = graph.apply_shared(op(value, &self), &[x, step])?[0],
                Act::Mix(op) => {
                    let mixed = graph.apply_shared(op(value, &self), &[x, targets[0], step])?;
                    x = mixed[0];
                    targets.extend(&mixed[1..]);
                }
            }
        }
        Ok(Batch { x, targets })
    }

    fn image(&self, step: u32, place: usize, index: u32) -> Image {
        let epoch = step / self.epoch_steps as u32;
        Image { seed: self.seed, step, epoch, place, index, size: self.size }
    }

    /// Where an image of the batch lies among the images that are given.
    fn record_of(&self, place: usize, index: u32) -> usize {
        if self.by_place && index != EMPTY { place } else { index as usize }
    }

    /// Where the rows from `first` on and the columns of an image come from. What is done to it
    /// last is asked first: it knows what x will be.
    fn places(&self, image: &Image, first: usize, [rows, columns]: [&mut [f32]; 2]) {
        rows.iter_mut().enumerate().for_each(|(y, row)| *row = (first + y) as f32);
        columns.iter_mut().enumerate().for_each(|(x, column)| *column = x as f32);
        for (augmentation, value) in self.changes.iter().rev() {
            if let Act::Move { places, .. } = augmentation.act {
                places(value, image, [rows, columns]);
            }
        }
    }

    /// The row or column at a place, if there is one.
    fn inside(&self, place: f32) -> Option<usize> {
        (0.0..self.size as f32).contains(&place).then_some(place as usize)
    }

    /// The two rows or columns that a place lies between, and their shares.
    fn sides(&self, place: f32) -> Option<[(usize, f32); 2]> {
        let first = self.inside(place)?;
        let share = place - first as f32;
        Some([(first, 1.0 - share), ((first + 1).min(self.size - 1), share)])
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
            ("EPOCH_STEPS", self.epoch_steps),
            ("SEED", self.seed as usize),
            ("STREAM", Stream::Augment as usize),
            ("BY_PLACE", usize::from(self.by_place)),
        ];
        let moves = AUGMENTATIONS.iter().filter_map(|augmentation| match augmentation.act {
            Act::Move { constant, .. } => Some((constant, f64::from(self.changes.value(augmentation)))),
            Act::Change(_) | Act::Mix(_) => None,
        });
        let sizes = sizes.map(|(name, value)| (name, value as f64));
        sizes.into_iter().chain(colour_constants(self.mean, self.std)).chain(moves).collect()
    }

    fn colours(&self) -> Colours {
        std::array::from_fn(|c| std::array::from_fn(|byte| (byte as f32 - self.mean[c]) / self.std[c]))
    }

    /// Where in the bytes of a row the pixel of each column lies; at their end where there is none.
    fn offsets(&self, columns: &[f32], offsets: &mut [u32]) {
        for (offset, &column) in offsets.iter_mut().zip(columns) {
            *offset = 3 * self.inside(column).unwrap_or(self.size) as u32;
        }
    }

    /// A row of x, from row `from` of the original and the pixels at these offsets.
    fn row(&self, colours: &Colours, pixels: &[u8], from: f32, offsets: &[u32], row: &mut [f32]) {
        let Some(from) = self.inside(from) else { return row.fill(0.0) };
        let pixels = &pixels[3 * self.size * from..][..3 * self.size];
        for (out, &offset) in row.chunks_exact_mut(3).zip(offsets) {
            match pixels[offset as usize..].first_chunk::<3>() {
                Some(pixel) => {
                    for c in 0..3 {
                        out[c] = colours[c][usize::from(pixel[c])];
                    }
                }
                None => out.fill(0.0),
            }
        }
    }

    /// The same where rows or columns lie between those of the original.
    fn row_between(&self, colours: &Colours, pixels: &[u8], from: f32, columns: &[f32], row: &mut [f32]) {
        row.fill(0.0);
        let Some(rows) = self.sides(from) else { return };
        for (out, &column) in row.chunks_exact_mut(3).zip(columns) {
            let Some(columns) = self.sides(column) else { continue };
            for (row, of_row) in rows {
                for (column, of_column) in columns {
                    let pixel = &pixels[3 * (row * self.size + column)..][..3];
                    for c in 0..3 {
                        out[c] += of_row * of_column * colours[c][usize::from(pixel[c])];
                    }
                }
            }
        }
    }
}

impl Op for Augment {
    fn name(&self) -> &'static str {
        let moves = self.changes.iter().any(|(augmentation, _)| matches!(augmentation.act, Act::Move { .. }));
        if moves { "augment" } else { "batch" }
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
        require(self.epoch_steps > 0, "an epoch has steps")?;
        let batch = indices.len();
        require(!self.by_place || batch == count, "the images must be those of the batch")?;
        Ok(vec![TensorType::f32([batch, self.size, self.size, 3]), TensorType::u32([batch])])
    }

    fn cpu(&self, types: &Types, target: CpuTarget) -> CpuStep {
        let (op, record, colours) = (*self, types.inputs[0].shape.last(), self.colours());
        let (size, row) = (self.size, 3 * self.size);
        // A worker's places: of all columns, and of as many rows at most; and the columns' offsets.
        CpuStep::with_scratch(3 * size * target.threads, move |args| {
            let (data, labels) = (args.input_u32(0), args.input_u32(1));
            let (indices, step) = (args.input_u32(2), args.input_u32(3)[0]);
            let out_labels: &mut [u32] = bytemuck::cast_slice_mut(args.outputs[1]);
            for (place, (out, &index)) in out_labels.iter_mut().zip(indices).enumerate() {
                *out = labels.get(op.record_of(place, index)).copied().unwrap_or(IGNORE);
            }
            let (x, scratch) = args.output();
            let blocks = parallel::row_blocks(x, row * size, row, (BLOCK / row).max(1));
            parallel::for_each(blocks, scratch, 3 * size, |(n, first, x), places| {
                let Some(words) = data.chunks_exact(record).nth(op.record_of(n, indices[n])) else {
                    return x.fill(0.0);
                };
                let pixels = bytemuck::cast_slice(words);
                let (columns, rest) = places.split_at_mut(size);
                let (rows, offsets) = rest.split_at_mut(size);
                let (rows, offsets) = (&mut rows[..x.len() / row], bytemuck::cast_slice_mut(offsets));
                op.places(&op.image(step, n, indices[n]), first, [rows, columns]);
                let whole = rows.iter().chain(&*columns).all(|place| place.fract() == 0.0);
                op.offsets(columns, offsets);
                for (x, &from) in x.chunks_exact_mut(row).zip(&*rows) {
                    match whole {
                        true => op.row(&colours, pixels, from, offsets, x),
                        false => op.row_between(&colours, pixels, from, columns, x),
                    }
                }
            });
        })
    }

    /// Cost with the batch's part of the data set only: the rest is not read.
    fn cost(&self, types: &Types) -> Cost {
        let read = types.outputs[0].dims()[0] * types.inputs[0].shape.last();
        Cost { flops: 0, bytes: (4 * read + types.outputs[0].bytes()) as u64 }
    }

    fn gpu(&self, types: &Types) -> Dispatches {
        use Operand::{Input, InputPiece, Output};
        let batch = types.inputs[2].len();
        let stage = |entry, piece, bindings, count| Dispatch {
            shader: shader!("augment"),
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

    fn reference(&self, inputs: &[ArrayViewD<f64>]) -> Vec<ArrayD<f64>> {
        let [data, labels, batch, step] = operands(inputs);
        let (data, labels, step) = (view::<Ix2>(data), view::<Ix1>(labels), single(step) as u32);
        let [mean, std] = [self.mean, self.std].map(|colour| vector(colour.map(f64::from)));
        let mut x = Array4::zeros((batch.len(), self.size, self.size, 3));
        let mut picked = Array::from_elem(batch.len(), f64::from(IGNORE));
        let (mut rows, mut columns) = (vec![0.0; self.size], vec![0.0; self.size]);
        for (n, &index) in batch.iter().enumerate() {
            let at = self.record_of(n, index as u32);
            let Some(label) = labels.get(at) else { continue };
            picked[n] = *label;
            let mut image = Array3::zeros((self.size, self.size, 3));
            let record = data.row(at);
            let bytes = record.iter().flat_map(|word| (*word as u32).to_le_bytes());
            image.iter_mut().zip(bytes).for_each(|(pixel, byte)| *pixel = f64::from(byte));
            let image = (image - &mean) / &std;
            self.places(&self.image(step, n, index as u32), 0, [&mut rows, &mut columns]);
            for (row, column, c) in indices([self.size, self.size, 3]) {
                for (i, of_row) in self.sides(rows[row]).into_iter().flatten() {
                    for (j, of_column) in self.sides(columns[column]).into_iter().flatten() {
                        x[[n, row, column, c]] += f64::from(of_row) * f64::from(of_column) * image[[i, j, c]];
                    }
                }
            }
        }
        vec![x.into_dyn(), picked.into_dyn()]
    }
}
