//! Reductions and maps over the rows of a `[rows, columns]` matrix.
//!
//! It is cut into blocks of fixed height so that neither the result nor its rounding depends on the
//! number of threads.

use super::parallel;
use super::simd::{Isa, Kernel, Simd};

/// Rows of a block: large enough to share out, small enough that a second pass finds it in cache.
pub const BLOCK: usize = 256;

/// Scratch elements of a reduction with `sums` results a column.
pub fn scratch(rows: usize, columns: usize, sums: usize) -> usize {
    rows.div_ceil(BLOCK) * columns * sums
}

/// Runs `reduce(block, partial)` for every block of rows, `partial` (zeroed) holding `len`
/// elements, and returns the partials, one after the other.
pub fn partials(
    rows: usize,
    len: usize,
    scratch: &mut [f32],
    reduce: impl Fn(usize, &mut [f32]) + Sync,
) -> &[f32] {
    let partials = &mut scratch[..rows.div_ceil(BLOCK) * len];
    partials.fill(0.0);
    parallel::for_each(partials.chunks_exact_mut(len).enumerate(), &mut [], 0, |(block, partial), _| {
        reduce(block, partial);
    });
    partials
}

/// The rows of block `block`.
pub fn block(x: &[f32], columns: usize, block: usize) -> &[f32] {
    let from = block * BLOCK * columns;
    &x[from..x.len().min(from + BLOCK * columns)]
}

/// `out [columns]` = the sum of every column of `x [rows, columns]`.
pub fn sum(isa: Isa, x: &[f32], out: &mut [f32], scratch: &mut [f32]) {
    let columns = out.len();
    let parts = partials(x.len() / columns, columns, scratch, |index, partial| {
        isa.run(AddRows { x: block(x, columns, index), sums: partial });
    });
    add_parts(parts, columns, 0, out);
}

/// Columns that are summed up together: what lies side by side in memory is read side by side.
pub const LANES: usize = 16;

/// `out` = the sum, in f64 and in order, of what all parts of `each` elements hold from element
/// `at` on.
pub fn add_parts(parts: &[f32], each: usize, at: usize, out: &mut [f32]) {
    let share = parallel::share(out.len(), LANES);
    parallel::for_each(out.chunks_mut(share).enumerate(), &mut [], 0, |(index, out), _| {
        for (lanes, out) in out.chunks_mut(LANES).enumerate() {
            let at = at + index * share + lanes * LANES;
            let mut sums = [0.0f64; LANES];
            for part in parts.chunks_exact(each) {
                for (sum, value) in sums.iter_mut().zip(&part[at..at + out.len()]) {
                    *sum += f64::from(*value);
                }
            }
            for (out, sum) in out.iter_mut().zip(sums) {
                *out = sum as f32;
            }
        }
    });
}

/// Adds rows to `sums`.
pub struct AddRows<'a> {
    /// Rows `[R, C]`.
    pub x: &'a [f32],
    /// Sums `[C]`.
    pub sums: &'a mut [f32],
}

impl Kernel for AddRows<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        for row in self.x.chunks_exact(self.sums.len()) {
            for (sum, value) in self.sums.iter_mut().zip(row) {
                *sum += value;
            }
        }
    }
}
