//! The order of dimensions: the engine's against PyTorch's.
//!
//! The conversion happens at the file boundary and nowhere else.
//!
//! | Layout             | Engine                            | Disk (PyTorch)                    |
//! |--------------------|-----------------------------------|-----------------------------------|
//! | `Convolution`      | `[kh, kw, in / groups, out]`      | `[out, in / groups, kh, kw]`      |
//! | `Dense`            | `[in, out]`                       | `[out, in]`                       |
//! | `DenseAfterFlatten`| `[height * width * channels, out]`| `[out, channels * height * width]`|
//! | `AsIs`             | any                               | the same                          |

use ndarray::ArrayView;

use super::printable_shape;
use crate::error::{Error, Result};

/// How a tensor's dimensions are ordered in the engine and on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// The same on both sides: biases, batch-norm scales and statistics.
    AsIs,
    /// A convolution, over all channels or in groups.
    Convolution,
    /// A dense layer.
    Dense,
    /// A dense layer whose input is a flattened feature map. The engine flattens height, width,
    /// channels; PyTorch flattens channels, height, width. So the input rows change places too.
    DenseAfterFlatten {
        /// Height of the feature map, in pixels.
        height: usize,
        /// Width of the feature map, in pixels.
        width: usize,
        /// Channels of the feature map.
        channels: usize,
    },
}

/// The shape on disk of a tensor that has `engine_shape` in the engine.
///
/// # Errors
/// [`Error::Op`] where `engine_shape` is no shape of this layout.
pub fn disk_shape(layout: Layout, engine_shape: &[usize]) -> Result<Vec<usize>> {
    Ok(match (layout, engine_shape) {
        (Layout::AsIs, any) => any.to_vec(),
        (Layout::Convolution, &[height, width, input, output]) => vec![output, input, height, width],
        (Layout::Dense, &[input, output]) => vec![output, input],
        (Layout::DenseAfterFlatten { height, width, channels }, &[input, output])
            if count(&[height, width, channels]) == Some(input) =>
        {
            vec![output, input]
        }
        _ => return Err(misfit(layout, engine_shape, "in the engine")),
    })
}

/// Reorders `data` of `engine_shape` for the disk; returns the shape on disk and the values.
///
/// # Errors
/// [`Error::Op`] where the shape is none of this layout or `data` does not fill it.
pub fn to_disk(layout: Layout, engine_shape: &[usize], data: &[f32]) -> Result<(Vec<usize>, Vec<f32>)> {
    let shape = disk_shape(layout, engine_shape)?;
    let data = match (layout, engine_shape) {
        (Layout::DenseAfterFlatten { height, width, channels }, &[_, output]) => {
            permute(data, &[height, width, channels, output], &[3, 2, 0, 1])
        }
        (Layout::Convolution, dims) => permute(data, dims, &[3, 2, 0, 1]),
        (Layout::Dense, dims) => permute(data, dims, &[1, 0]),
        (_, dims) => as_is(data, dims),
    };
    Ok((shape, data.ok_or_else(|| unfilled(engine_shape))?))
}

/// Reorders `data` of `disk_shape` for the engine: the inverse of [`to_disk`].
///
/// # Errors
/// [`Error::Op`] where the shape is none of this layout or `data` does not fill it.
pub fn from_disk(layout: Layout, disk_shape: &[usize], data: &[f32]) -> Result<(Vec<usize>, Vec<f32>)> {
    let (shape, data) = match (layout, disk_shape) {
        (Layout::AsIs, any) => (any.to_vec(), as_is(data, any)),
        (Layout::Convolution, &[output, input, height, width]) => {
            (vec![height, width, input, output], permute(data, disk_shape, &[2, 3, 1, 0]))
        }
        (Layout::Dense, &[output, input]) => (vec![input, output], permute(data, disk_shape, &[1, 0])),
        (Layout::DenseAfterFlatten { height, width, channels }, &[output, input])
            if count(&[height, width, channels]) == Some(input) =>
        {
            (vec![input, output], permute(data, &[output, channels, height, width], &[2, 3, 1, 0]))
        }
        _ => return Err(misfit(layout, disk_shape, "on disk")),
    };
    Ok((shape, data.ok_or_else(|| unfilled(disk_shape))?))
}

/// Number of elements, if it fits: shapes come from files.
pub(super) fn count(dims: &[usize]) -> Option<usize> {
    dims.iter().try_fold(1usize, |product, dim| product.checked_mul(*dim))
}

fn misfit(layout: Layout, shape: &[usize], side: &str) -> Error {
    Error::op("weight layout", format!("{} is no {layout:?} shape {side}", printable_shape(shape)))
}

fn unfilled(shape: &[usize]) -> Error {
    Error::op("weight layout", format!("the values do not fill the shape {}", printable_shape(shape)))
}

fn as_is(data: &[f32], dims: &[usize]) -> Option<Vec<f32>> {
    (count(dims) == Some(data.len())).then(|| data.to_vec())
}

/// Transposes row-major `data` of `dims`: dimension `i` of the result is dimension `axes[i]` of
/// the input. None where `data` does not fill `dims`.
fn permute(data: &[f32], dims: &[usize], axes: &[usize]) -> Option<Vec<f32>> {
    // A view may leave out elements.
    let array = ArrayView::from_shape(dims, data).ok().filter(|array| array.len() == data.len())?;
    Some(array.permuted_axes(axes).iter().copied().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn counting(shape: &[usize]) -> Vec<f32> {
        (0..count(shape).unwrap()).map(|value| value as f32).collect()
    }

    /// Engine value at `(y, x, i, o)` is its own row-major index, so each expectation below can be
    /// worked out by hand: `((y * 3 + x) * 4 + i) * 5 + o` for kh 2, kw 3, in 4, out 5.
    #[test]
    fn convolution_indices() {
        let (shape, data) = to_disk(Layout::Convolution, &[2, 3, 4, 5], &counting(&[2, 3, 4, 5])).unwrap();
        assert_eq!(shape, [5, 4, 2, 3]);
        // Disk position ((o * 4 + i) * 2 + y) * 3 + x.
        assert_eq!(data[0], 0.0);
        assert_eq!(data[1], 20.0); // o 0, i 0, y 0, x 1
        assert_eq!(data[3], 60.0); // o 0, i 0, y 1, x 0
        assert_eq!(data[6], 5.0); // o 0, i 1, y 0, x 0
        assert_eq!(data[24], 1.0); // o 1, i 0, y 0, x 0
        assert_eq!(data[((3 * 4 + 2) * 2 + 1) * 3 + 2], (((3 + 2) * 4 + 2) * 5 + 3) as f32);
    }

    #[test]
    fn depthwise_indices() {
        let (shape, data) = to_disk(Layout::Convolution, &[2, 3, 1, 4], &counting(&[2, 3, 4])).unwrap();
        assert_eq!(shape, [4, 1, 2, 3]);
        // Channel 0, then channel 1, each 2 x 3.
        assert_eq!(data[..6], [0.0, 4.0, 8.0, 12.0, 16.0, 20.0]);
        assert_eq!(data[6..12], [1.0, 5.0, 9.0, 13.0, 17.0, 21.0]);
    }

    #[test]
    fn dense_indices() {
        let (shape, data) = to_disk(Layout::Dense, &[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
        assert_eq!(shape, [3, 2]);
        assert_eq!(data, [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
    }

    /// A dense layer on disk, applied to a feature map flattened as PyTorch does it, must give
    /// what the engine's layer gives on the same map flattened its own way.
    #[test]
    fn dense_after_flatten_gives_the_same_logits() {
        let (height, width, channels, output) = (2, 3, 4, 5);
        let input = height * width * channels;
        let layout = Layout::DenseAfterFlatten { height, width, channels };
        let engine = counting(&[input, output]);
        let (shape, disk) = to_disk(layout, &[input, output], &engine).unwrap();
        assert_eq!(shape, [output, input]);
        // Row of pixel (0, 1), channel 2 is 1 * 4 + 2 = 6; its column is 2 * 6 + 1 = 13.
        assert_eq!(disk[13], engine[6 * output]);
        let feature = |y: usize, x: usize, c: usize| (100 * y + 10 * x + c) as f32;
        for o in 0..output {
            let (mut ours, mut theirs) = (0.0, 0.0);
            for y in 0..height {
                for x in 0..width {
                    for c in 0..channels {
                        ours += feature(y, x, c) * engine[((y * width + x) * channels + c) * output + o];
                        theirs += feature(y, x, c) * disk[o * input + (c * height + y) * width + x];
                    }
                }
            }
            assert_eq!(ours, theirs); // integers below 2^24: exact in any order
        }
    }

    #[test]
    fn shapes_that_do_not_fit_are_errors() {
        assert!(to_disk(Layout::Convolution, &[3, 3, 1], &[0.0; 9]).is_err());
        assert!(to_disk(Layout::Dense, &[2, 2], &[0.0; 3]).is_err());
        assert!(to_disk(Layout::Dense, &[2, 2], &[0.0; 5]).is_err());
        assert!(from_disk(Layout::Convolution, &[4, 2, 3], &[0.0; 24]).is_err());
        assert!(from_disk(Layout::AsIs, &[usize::MAX, 2], &[]).is_err());
        let layout = Layout::DenseAfterFlatten { height: 2, width: 2, channels: 3 };
        let message = from_disk(layout, &[10, 13], &[0.0; 130]).unwrap_err().to_string();
        assert!(message.contains("[10, 13]") && message.contains("on disk"), "{message}");
    }

    proptest! {
        #[test]
        fn round_trips(a in 0usize..4, b in 1usize..4, c in 1usize..5, d in 1usize..5) {
            let flat = Layout::DenseAfterFlatten { height: a, width: b, channels: c };
            let cases: [(Layout, Vec<usize>); 4] = [
                (Layout::AsIs, vec![a, b, c]),
                (Layout::Convolution, vec![a, b, c, d]),
                (Layout::Dense, vec![a, d]),
                (flat, vec![a * b * c, d]),
            ];
            for (layout, shape) in cases {
                let data = counting(&shape);
                let (on_disk, moved) = to_disk(layout, &shape, &data).unwrap();
                prop_assert_eq!(&on_disk, &disk_shape(layout, &shape).unwrap());
                prop_assert_eq!(from_disk(layout, &on_disk, &moved).unwrap(), (shape, data));
            }
        }
    }
}
