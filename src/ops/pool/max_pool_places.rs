//! [`super::max_pool`] that also tells where in its window each maximum lies.
//!
//! A rule of the devices makes it of a pooling whose gradient is computed too, over what nothing
//! else reads: a place takes a byte, so that x, window² times as many elements, need not be kept
//! until the backward pass comes to it.

use super::max_pool::{MaxPool, window};
use crate::kernels::pool;
use crate::ops::*;

/// Maxima and their places. Input `[N, H, W, C]`, C a multiple of 4; outputs y `[N, P, Q, C]` and
/// places `u32 [N, P, Q, C / 4]`: byte b of a word is the place of channel 4 c + b, `window i + j`
/// for row i and column j of the window. Of equal elements the first one is the largest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaxPoolPlaces {
    /// The pooling; its window has at most 256 pixels.
    pub pool: MaxPool,
}

impl MaxPoolPlaces {
    /// Whether the places of a pooling of images of so many channels have room in their bytes.
    pub fn suits(pool: MaxPool, channels: usize) -> bool {
        pool.window <= 16 && channels.is_multiple_of(4)
    }

    /// Type of the places, given y's.
    pub(super) fn places(y: &TensorType) -> TensorType {
        let mut dims = y.dims().to_vec();
        dims.last_mut().into_iter().for_each(|channels| *channels /= 4);
        TensorType::u32(&dims[..])
    }
}

impl Op for MaxPoolPlaces {
    fn name(&self) -> &'static str {
        "max_pool_places"
    }

    fn output_types(&self, inputs: &[&TensorType]) -> Inferred {
        let [x] = floats(inputs)?;
        let y = self.pool.output_types(&[x])?.remove(0);
        let suits = MaxPoolPlaces::suits(self.pool, x.shape.last());
        require(suits, "windows have at most 16 x 16 pixels, and channels are a multiple of 4")?;
        let places = MaxPoolPlaces::places(&y);
        Ok(vec![y, places])
    }

    fn cpu(&self, types: &Types, target: CpuTarget) -> CpuStep {
        let g = self.pool.checked_geometry(&types.inputs[0]);
        CpuStep::new(move |args| {
            let x = args.inputs[0];
            let ([y, places], _) = args.outputs();
            pool::forward_places(target.isa, g, x, y, bytemuck::cast_slice_mut(places));
        })
    }

    fn gpu(&self, types: &Types) -> Dispatches {
        let bindings = vec![Operand::Input(0), Operand::Output(0), Operand::Output(1)];
        let (shader, constants) = (shader!("max_pool_places", "vec4"), self.pool.constants(&types.inputs[0]));
        each_value(shader, types.outputs[1].len(), &constants, bindings)
    }

    fn reference(&self, inputs: &[ArrayViewD<f64>]) -> Vec<ArrayD<f64>> {
        let x = view::<Ix4>(&inputs[0]);
        let g = checked(self.pool.geometry(inputs[0].shape()));
        let y = self.pool.reference(inputs).remove(0);
        let place = |n, p, q, c| {
            let largest = |&(i, j): &(usize, usize)| x[[n, i, j, c]] == y[[n, p, q, c]];
            let (i, j) = window(g, p, q).find(largest).unwrap_or_default();
            (i + g.padding - p * g.stride) * g.window + j + g.padding - q * g.stride
        };
        let word = |(n, p, q, c)| (0..4).map(|b| (place(n, p, q, 4 * c + b) << (8 * b)) as f64).sum::<f64>();
        let places = Array4::from_shape_fn((x.dim().0, g.out_height, g.out_width, g.channels / 4), word);
        vec![y, places.into_dyn()]
    }
}
