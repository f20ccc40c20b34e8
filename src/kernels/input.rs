//! The input of a convolution, as it lies in memory or to be normalised as it is read.
//!
//! In the second case a worker normalises the part that it needs into its own scratch, in the
//! cache, and what is normalised neither goes to memory nor comes back.

use std::ops::Range;

use super::batch_norm::{Affine, Apply};
use super::simd::Isa;

/// Rows of channels.
#[derive(Clone, Copy)]
pub struct Input<'a> {
    /// Elements, row-major.
    pub x: &'a [f32],
    /// Scale, shift and activation of each element as it is read.
    pub affine: Option<Affine<'a>>,
}

impl<'a> From<&'a [f32]> for Input<'a> {
    fn from(x: &'a [f32]) -> Self {
        Input { x, affine: None }
    }
}

impl<'a> Input<'a> {
    /// Elements `range`, which begin with channel 0: in x itself or, if they are to be normalised,
    /// in `space`.
    pub fn read<'b>(&self, isa: Isa, range: Range<usize>, space: &'b mut [f32]) -> &'b [f32]
    where
        'a: 'b,
    {
        if self.affine.is_none() {
            return &self.x[range];
        }
        let space = &mut space[..range.len()];
        self.copy(isa, range.start, space);
        space
    }

    /// Copies the elements from `from` on, which begin with channel 0, as many as fit `to`.
    pub fn copy(&self, isa: Isa, from: usize, to: &mut [f32]) {
        let x = &self.x[from..from + to.len()];
        match self.affine {
            Some(affine) => isa.run(Apply { x, affine, y: to }),
            None => to.copy_from_slice(x),
        }
    }
}
