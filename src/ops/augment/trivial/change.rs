//! The changes of which one is done to an image, and how far.
//!
//! They are of three families. Some move pixels: a pixel comes from between four, and what comes
//! from outside is the mean colour. Some go away from a colour or towards it:
//! `clamp(from + factor (v - from))`. The others have a table for each channel, of what becomes of
//! every byte; before that, values are rounded to bytes.

use super::super::colour::GREY;
use super::super::draw;
use super::super::sine::quarter_sine;
use crate::kernels::rng;

/// Levels of a change, from none of it on.
pub const LEVELS: u32 = 31;

/// Kinds of changes. `shaders/trivial.wgsl` knows them by their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    ShearColumns,
    ShearRows,
    ShiftColumns,
    ShiftRows,
    Rotate,
    Brightness,
    Contrast,
    Saturation,
    Sharpness,
    Posterize,
    Solarize,
    AutoContrast,
    Equalize,
    Nothing,
}

/// All kinds, by their numbers.
pub const KINDS: [Kind; 14] = [
    Kind::ShearColumns,
    Kind::ShearRows,
    Kind::ShiftColumns,
    Kind::ShiftRows,
    Kind::Rotate,
    Kind::Brightness,
    Kind::Contrast,
    Kind::Saturation,
    Kind::Sharpness,
    Kind::Posterize,
    Kind::Solarize,
    Kind::AutoContrast,
    Kind::Equalize,
    Kind::Nothing,
];

/// What is done to an image.
#[derive(Clone, Copy, Debug)]
pub struct Change {
    /// Kind of the change.
    pub kind: Kind,
    /// Level, below [`LEVELS`].
    pub level: u32,
    /// Whether it goes the other way, where there are two.
    pub is_turned: bool,
}

/// An image before its change, and the scale of its values.
#[derive(Clone, Copy)]
pub struct Pixels<'a> {
    /// Values, `[size, size, 3]`.
    pub values: &'a [f32],
    /// Side in pixels.
    pub size: usize,
    /// Mean of each channel, on the scale of a pixel byte.
    pub mean: [f32; 3],
    /// Standard deviation of each channel, on the same scale.
    pub std: [f32; 3],
}

/// What becomes of each byte, for each channel.
type Table = [[f32; 256]; 3];

impl Change {
    /// The change of the image at a place in the batch of a step.
    pub fn of(seed: u32, step: u32, place: usize) -> Change {
        let [kind, level, turned, _] = draw(seed, step, place, 6);
        Change {
            kind: KINDS[rng::below(kind, KINDS.len() as u32) as usize],
            level: rng::below(level, LEVELS),
            is_turned: turned & 1 == 1,
        }
    }

    /// Writes the changed image, `[size, size, 3]`.
    pub fn write(&self, image: Pixels, to: &mut [f32]) {
        use Kind::{AutoContrast, Equalize, Nothing, Posterize, Solarize};
        use Kind::{Brightness, Contrast, Saturation, Sharpness};
        use Kind::{Rotate, ShearColumns, ShearRows, ShiftColumns, ShiftRows};
        match self.kind {
            ShearColumns | ShearRows | ShiftColumns | ShiftRows | Rotate => {
                let middle = |at: usize| [at / image.size, at % image.size].map(|place| place as f32 + 0.5);
                let source = |at| self.source(image.size as f32, middle(at)).map(|place| place - 0.5);
                fill(to, |at| image.between(source(at)));
            }
            Brightness | Contrast | Saturation | Sharpness => {
                let mean = image.mean_grey();
                fill(to, |at| image.values_of(self.blend(&image, mean, at)));
            }
            Posterize | Solarize | AutoContrast | Equalize => {
                let table = self.table(&image);
                let changed = |at| {
                    let bytes = image.rounded(at);
                    std::array::from_fn(|c| table[c][bytes[c]])
                };
                fill(to, |at| image.values_of(changed(at)));
            }
            Nothing => to.copy_from_slice(image.values),
        }
    }

    /// The level, negative the other way.
    fn turned(&self) -> f32 {
        if self.is_turned { -(self.level as f32) } else { self.level as f32 }
    }

    /// Where the row and the column of a place in an image come from, all in pixels from its edges.
    fn source(&self, size: f32, [row, column]: [f32; 2]) -> [f32; 2] {
        let shear = 0.033 * self.turned();
        let shift = self.turned().signum() * (32 * self.level / (LEVELS - 1)) as f32;
        match self.kind {
            Kind::ShearColumns => [row, column + shear * row],
            Kind::ShearRows => [row + shear * column, column],
            Kind::ShiftColumns => [row, column - shift],
            Kind::ShiftRows => [row - shift, column],
            _ => {
                // In right angles, of which it is one and a half at most.
                let angle = 0.05 * self.turned();
                let sine = angle.signum() * quarter_sine(angle.abs().min(2.0 - angle.abs()));
                let cosine = quarter_sine(1.0 - angle.abs());
                let middle = 0.5 * size;
                let [down, right] = [row - middle, column - middle];
                [middle + (sine * right + cosine * down), middle + (cosine * right - sine * down)]
            }
        }
    }

    /// A pixel that is farther from a colour, or nearer to it, in bytes.
    fn blend(&self, image: &Pixels, mean_grey: f32, at: usize) -> [f32; 3] {
        let factor = 1.0 + 0.033 * self.turned();
        let old = image.bytes(at);
        let from = match self.kind {
            Kind::Contrast => [mean_grey; 3],
            Kind::Saturation => [grey(old); 3],
            Kind::Sharpness => image.smooth(at),
            _ => [0.0; 3],
        };
        std::array::from_fn(|c| (from[c] + factor * (old[c] - from[c])).clamp(0.0, 255.0))
    }

    fn table(&self, image: &Pixels) -> Table {
        let mut counts = [[0; 256]; 3];
        for at in 0..image.size * image.size {
            let bytes = image.rounded(at);
            (0..3).for_each(|c| counts[c][bytes[c]] += 1);
        }
        counts.map(|counts| match self.kind {
            Kind::Posterize => {
                let cut = (self.level + 2) / 5;
                std::array::from_fn(|byte| (byte >> cut << cut) as f32)
            }
            Kind::Solarize => {
                let from = 255.0 - 8.5 * self.level as f32;
                std::array::from_fn(|byte| if byte as f32 >= from { 255 - byte } else { byte } as f32)
            }
            Kind::AutoContrast => stretched(&counts),
            _ => equalized(&counts),
        })
    }
}

/// A table by which the darkest and the brightest byte that are there become 0 and 255.
fn stretched(counts: &[u32; 256]) -> [f32; 256] {
    let least = counts.iter().position(|&count| count > 0).unwrap_or(0);
    let most = counts.iter().rposition(|&count| count > 0).unwrap_or(0);
    std::array::from_fn(|byte| match least < most {
        true => ((byte as f32 - least as f32) * 255.0 / (most - least) as f32).clamp(0.0, 255.0),
        false => byte as f32,
    })
}

/// A table by which bytes come up equally often, as nearly as a table can: Pillow's way to count.
fn equalized(counts: &[u32; 256]) -> [f32; 256] {
    let last = counts.iter().rfind(|&&count| count > 0).unwrap_or(&0);
    let each = (counts.iter().sum::<u32>() - last) / 255;
    let mut before = each / 2;
    std::array::from_fn(|byte| {
        let to = before.checked_div(each).map_or(byte as u32, |to| to.min(255)) as f32;
        before += counts[byte];
        to
    })
}

/// Writes a pixel for each number.
fn fill(to: &mut [f32], pixel: impl Fn(usize) -> [f32; 3]) {
    to.as_chunks_mut::<3>().0.iter_mut().enumerate().for_each(|(at, to)| *to = pixel(at));
}

fn grey(pixel: [f32; 3]) -> f32 {
    GREY.iter().zip(pixel).map(|(share, v)| share * v).sum()
}

impl Pixels<'_> {
    fn pixel(&self, at: usize) -> [f32; 3] {
        std::array::from_fn(|c| self.values[3 * at + c])
    }

    fn bytes_of(&self, values: [f32; 3]) -> [f32; 3] {
        std::array::from_fn(|c| values[c] * self.std[c] + self.mean[c])
    }

    fn values_of(&self, bytes: [f32; 3]) -> [f32; 3] {
        std::array::from_fn(|c| (bytes[c] - self.mean[c]) / self.std[c])
    }

    fn bytes(&self, at: usize) -> [f32; 3] {
        self.bytes_of(self.pixel(at))
    }

    /// The bytes that a pixel's values are nearest to.
    fn rounded(&self, at: usize) -> [usize; 3] {
        self.bytes(at).map(|byte| ((byte + 0.5) as usize).min(255))
    }

    fn mean_grey(&self) -> f32 {
        let pixels = self.size * self.size;
        ((0..pixels).map(|at| f64::from(grey(self.bytes(at)))).sum::<f64>() / pixels as f64) as f32
    }

    /// The mean of the four pixels that a row and a column, from 0, lie between.
    fn between(&self, place: [f32; 2]) -> [f32; 3] {
        let (first, mut sum) = (place.map(f32::floor), [0.0; 3]);
        for side in [[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]] {
            let [row, column] = [first[0] + side[0], first[1] + side[1]];
            if [row, column].iter().all(|place| (0.0..self.size as f32).contains(place)) {
                let share = |axis: usize| 1.0 - (place[axis] - first[axis] - side[axis]).abs();
                let pixel = self.pixel(row as usize * self.size + column as usize);
                (0..3).for_each(|c| sum[c] += share(0) * share(1) * pixel[c]);
            }
        }
        sum
    }

    /// The mean of a pixel and those around it, in bytes, where it counts five times itself; at the
    /// border itself.
    fn smooth(&self, at: usize) -> [f32; 3] {
        let last = self.size - 1;
        let (row, column) = (at / self.size, at % self.size);
        if [row, column].iter().any(|&place| place == 0 || place == last) {
            return self.bytes(at);
        }
        let mut sum = self.pixel(at).map(|v| 4.0 * v);
        for near in 0..9 {
            let pixel = self.pixel((row + near / 3 - 1) * self.size + column + near % 3 - 1);
            (0..3).for_each(|c| sum[c] += pixel[c]);
        }
        self.bytes_of(sum.map(|v| v / 13.0))
    }
}
