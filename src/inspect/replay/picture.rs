//! Pictures of tensors: which of their values are shown, and as what.

use serde::Serialize;

use crate::exec::stepwise::Values;

/// Images of a batch that are shown, the first of it.
pub const IMAGES: usize = 4;
/// Channels of an image that are shown, the first of them.
pub const CHANNELS: usize = 32;
/// Filters of a layer that are shown, the first of them.
pub const FILTERS: usize = 16;
/// Inputs of a filter that are shown, the first of them.
pub const INPUTS: usize = 8;
/// Pixels of a side: of a larger one every second is shown, or every third, and so on.
pub const SIDE: usize = 32;
/// Rows and columns of a matrix, and numbers of a vector, that are shown, the first of them.
pub const ENTRIES: usize = 64;
/// So few numbers are written, not drawn.
const FEW: usize = 4;

/// The level of a value that is no finite number.
const NOT_FINITE: u8 = 255;
/// The level of 0.
const ZERO: f32 = 127.0;

/// What a tensor looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// Of each image a tile a channel.
    Channels,
    /// A row a filter, a tile an input.
    Filters,
    /// A tile.
    Matrix,
    /// Numbers, drawn as bars.
    Bars,
    /// Numbers, written.
    Numbers,
    /// Nothing: its values are not read.
    Untold,
}

/// Some of the values of a tensor.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Picture {
    /// What it looks like.
    pub form: Form,
    /// Groups of tiles, tiles of a group, and rows and columns of a tile.
    pub dims: [usize; 4],
    /// What the tensor has of each, of which these are the first.
    pub of: [usize; 4],
    /// Rows and columns from one that is shown to the next.
    pub every: usize,
    /// The largest value that is shown, without its sign: that of the fullest colour.
    pub scale: f32,
    /// Where its levels begin among those of all pictures; see [`level`].
    pub first: usize,
    /// Bars and numbers themselves; none for what is no finite number.
    pub numbers: Vec<Option<f32>>,
}

/// Where a value lies in a tensor: its strides by group, tile, row and column.
struct Layout {
    form: Form,
    of: [usize; 4],
    strides: [usize; 4],
}

impl Layout {
    /// That of a tensor of these dimensions; `is_parameter` if they are those of one.
    fn of(dims: &[usize], is_parameter: bool) -> Layout {
        let len: usize = dims.iter().product();
        match *dims {
            _ if len <= FEW => Layout { form: Form::Numbers, of: [1, 1, 1, len], strides: [0, 0, 0, 1] },
            // A convolution that looks at pixels one by one is a matrix.
            [1, 1, rows, columns] if is_parameter => Layout::matrix(rows, columns),
            [height, width, inputs, filters] if is_parameter => Layout {
                form: Form::Filters,
                of: [filters, inputs, height, width],
                strides: [1, filters, width * inputs * filters, inputs * filters],
            },
            [height, width, channels] => Layout {
                form: Form::Filters,
                of: [channels, 1, height, width],
                strides: [1, 0, width * channels, channels],
            },
            [images, 1, 1, channels] => Layout::matrix(images, channels),
            [images, height, width, channels] => Layout {
                form: Form::Channels,
                of: [images, channels, height, width],
                strides: [height * width * channels, 1, width * channels, channels],
            },
            [_] | [] => Layout { form: Form::Bars, of: [1, 1, 1, len], strides: [0, 0, 0, 1] },
            [rows, ..] => Layout::matrix(rows, len / rows),
        }
    }

    fn matrix(rows: usize, columns: usize) -> Layout {
        Layout { form: Form::Matrix, of: [1, 1, rows, columns], strides: [0, 0, columns, 1] }
    }

    /// How many of each are shown, and how far rows and columns are apart.
    fn shown(&self) -> ([usize; 4], usize) {
        let [groups, tiles, height, width] = self.of;
        let least = |most: [usize; 4]| [0, 1, 2, 3].map(|i| self.of[i].min(most[i]));
        match self.form {
            Form::Channels => {
                let every = height.max(width).div_ceil(SIDE);
                let side = |length: usize| length.div_ceil(every);
                ([groups.min(IMAGES), tiles.min(CHANNELS), side(height), side(width)], every)
            }
            // The largest kernels of the models are smaller than a tile.
            Form::Filters => (least([FILTERS, INPUTS, SIDE, SIDE]), 1),
            _ => (least([1, 1, ENTRIES, ENTRIES]), 1),
        }
    }
}

impl Picture {
    /// A picture of nothing.
    pub fn untold() -> Picture {
        Picture {
            form: Form::Untold,
            dims: [0; 4],
            of: [0; 4],
            every: 1,
            scale: 0.0,
            first: 0,
            numbers: Vec::new(),
        }
    }

    /// The picture of a tensor; adds its levels to `levels`.
    pub fn of(values: &Values, dims: &[usize], is_parameter: bool, levels: &mut Vec<u8>) -> Picture {
        let values = match values {
            Values::F32(values) => values,
            Values::U32(values) => return Picture::of_whole_numbers(values),
        };
        let layout = Layout::of(dims, is_parameter);
        let (shown, every) = layout.shown();
        let picture = Picture {
            form: layout.form,
            dims: shown,
            of: layout.of,
            every,
            scale: 0.0,
            first: levels.len(),
            numbers: Vec::new(),
        };
        let places = picture.places(&layout.strides);
        let shown = || places.iter().map(|&at| values.get(at).copied().unwrap_or(f32::NAN));
        let finite = |value: f32| Some(value).filter(|value| value.is_finite());
        let scale = shown().filter_map(finite).fold(0.0f32, |scale, value| scale.max(value.abs()));
        if matches!(layout.form, Form::Bars | Form::Numbers) {
            return Picture { scale, numbers: shown().map(finite).collect(), ..picture };
        }
        levels.extend(shown().map(|value| level(value, scale)));
        Picture { scale, ..picture }
    }

    /// Labels, indices and counts are written; places and pixels are too many to say anything.
    fn of_whole_numbers(values: &[u32]) -> Picture {
        let shown = values.len().min(ENTRIES);
        Picture {
            form: Form::Numbers,
            dims: [1, 1, 1, shown],
            of: [1, 1, 1, values.len()],
            numbers: values[..shown].iter().map(|&value| Some(value as f32)).collect(),
            ..Picture::untold()
        }
    }

    /// Where the values that are shown lie in the tensor, in their order.
    fn places(&self, strides: &[usize; 4]) -> Vec<usize> {
        let [groups, tiles, rows, columns] = self.dims;
        let mut places = Vec::with_capacity(groups * tiles * rows * columns);
        for group in 0..groups {
            for tile in 0..tiles {
                for row in (0..rows).map(|row| row * self.every) {
                    for column in (0..columns).map(|column| column * self.every) {
                        places.push(
                            group * strides[0] + tile * strides[1] + row * strides[2] + column * strides[3],
                        );
                    }
                }
            }
        }
        places
    }
}

/// A value as a byte: 127 for 0, and up to 127 below and above it by the square root of the value's
/// share of the scale, which shows small ones beside large ones; 255 for what is no finite number.
pub fn level(value: f32, scale: f32) -> u8 {
    if !value.is_finite() {
        return NOT_FINITE;
    }
    let share = if scale > 0.0 { (value.abs() / scale).sqrt() } else { 0.0 };
    (ZERO + (ZERO * share).round().copysign(value)) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(len: usize) -> Values {
        Values::F32((0..len).map(|value| value as f32).collect())
    }

    #[test]
    fn levels_are_signed_roots() {
        let levels = [-4.0, -1.0, 0.0, 0.01, 1.0, 4.0, f32::NAN, f32::INFINITY].map(|v| level(v, 4.0));
        assert_eq!(levels, [0, 63, 127, 133, 191, 254, 255, 255]);
        assert_eq!(level(-0.0, 0.0), 127);
    }

    /// Every place of a picture is that of the tensor which it says it is.
    #[test]
    fn pictures_show_what_they_say() {
        for (dims, is_parameter, form, shown) in [
            (vec![5, 40, 70, 36], false, Form::Channels, [4, 32, 14, 24]),
            (vec![3, 3, 9, 20], true, Form::Filters, [16, 8, 3, 3]),
            (vec![3, 3, 20], true, Form::Filters, [16, 1, 3, 3]),
            (vec![1, 1, 70, 5], true, Form::Matrix, [1, 1, 64, 5]),
            (vec![70, 1, 1, 5], false, Form::Matrix, [1, 1, 64, 5]),
            (vec![2, 3], false, Form::Matrix, [1, 1, 2, 3]),
            (vec![100], false, Form::Bars, [1, 1, 1, 64]),
            (vec![2, 2], false, Form::Numbers, [1, 1, 1, 4]),
        ] {
            let mut levels = vec![1, 2];
            let picture = Picture::of(&numbered(dims.iter().product()), &dims, is_parameter, &mut levels);
            assert_eq!((picture.form, picture.dims, picture.first), (form, shown, 2), "{dims:?}");
            let drawn = picture.dims.iter().product::<usize>();
            match form {
                Form::Bars | Form::Numbers => assert_eq!((picture.numbers.len(), levels.len()), (drawn, 2)),
                _ => assert_eq!(levels.len(), 2 + drawn),
            }
        }
        let places = |dims: &[usize], is_parameter| {
            let layout = Layout::of(dims, is_parameter);
            let picture = Picture::of(&numbered(dims.iter().product()), dims, is_parameter, &mut Vec::new());
            picture.places(&layout.strides)
        };
        let at = |dims: [usize; 4], place: [usize; 4]| {
            place.iter().zip(dims).fold(0, |at, (index, size)| at * size + index)
        };
        // The last place of the last group: image 3, row 39, column 69, channel 31.
        let dims = [5, 40, 70, 36];
        assert_eq!(places(&dims, false).last(), Some(&at(dims, [3, 39, 69, 31])));
        // Row 2, column 2, input 7, filter 15.
        let dims = [3, 3, 9, 20];
        assert_eq!(places(&dims, true).last(), Some(&at(dims, [2, 2, 7, 15])));
    }

    #[test]
    fn whole_numbers_are_written() {
        let picture = Picture::of(&Values::U32(vec![7; 100]), &[100], false, &mut Vec::new());
        assert_eq!((picture.form, picture.numbers.len(), picture.of[3]), (Form::Numbers, 64, 100));
    }
}
