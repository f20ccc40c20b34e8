//! 3x3 convolutions of stride 1 with a quarter of the multiplications, by Winograd's filtering.
//!
//! That is the minimal filtering of Winograd, "Arithmetic Complexity of Computations" (1980), as
//! Lavin and Gray apply it, "Fast Algorithms for Convolutional Neural Networks" (2016).
//!
//! A tile of 4x4 outputs y reads 6x6 inputs d. With the 3x3 weights w, channel by channel,
//!
//! ```text
//! y = A^T [ sum over channels (G w G^T) . (B^T d B) ] A          (. is element by element)
//! ```
//!
//! In place of 144 products of d and w that is 36, one for each of the 6x6 *points*; and for each
//! point the sum over channels, taken for many tiles and all output channels, is a matrix product,
//! done by [`super::brgemm`]. The gradient of the input is such a convolution again; that of the
//! weights is the same formula read backwards, `dw = G^T [ sum over tiles (B^T d B) . (A dy A^T) ]
//! G`.
//!
//! The matrices come from polynomials that are evaluated and interpolated at the points 0, p, -p,
//! q, -q and infinity. With the textbook's p = 1, q = 2 the error is ten times that of the direct
//! sum. Here p = 5/8, q = 3/2, which balances the powers of the points; all coefficients of A and B
//! are exact in `f32`, and the error is less than twice the direct sum's.
//!
//! Blocking: a work item is a few dozen tiles, so that its transformed inputs and products (36
//! points x tiles x channels) stay in the L2 cache between the three stages; nothing of the size of
//! a whole tensor is ever written but the result.

mod forward;
#[cfg(test)]
mod tests;
mod transform;
mod weight_gradient;

pub use forward::{forward, forward_blocks, forward_scratch, input_gradient, input_gradient_scratch};
pub use weight_gradient::{weight_gradient, weight_gradient_scratch};

use super::conv::ConvGeometry;
use super::simd::Isa;

/// Outputs of a tile along one side.
const OUT: usize = 4;
/// Inputs of a tile along one side, and points.
const IN: usize = 6;
/// Points of a tile.
const POINTS: usize = IN * IN;
/// Elements added between two points' matrices, a cache line: at distances that are multiples of a
/// page, the 36 places a tile is written to would compete for a few lines of the L1 cache.
const LINE: usize = 16;

/// Whether this algorithm can be used: 3x3, stride 1, padding that all directions can express, and
/// enough channels that the transforms cost less than the multiplications they save. So it is for
/// the gradient of the weights.
pub fn fits(g: &ConvGeometry) -> bool {
    let kernel = [g.kernel_height, g.kernel_width] == [3, 3] && g.stride == 1;
    kernel && g.pad_top.max(g.pad_left) <= 2 && g.in_channels.min(g.out_channels) >= 16
}

/// Whether it is used for the output and the gradient of the input. Of images of 2x2 pixels and
/// less a tile is so empty that it saves no multiplications.
pub fn pays(g: &ConvGeometry) -> bool {
    let tiles = g.out_height.div_ceil(OUT) * g.out_width.div_ceil(OUT);
    fits(g) && 9 * g.out_height * g.out_width > POINTS * tiles
}

/// `channels`, rounded up to whole vectors.
fn whole_vectors(isa: Isa, channels: usize) -> usize {
    channels.next_multiple_of(isa.tile_columns() / 2)
}
