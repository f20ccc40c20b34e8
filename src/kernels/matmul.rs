//! Matrix products C = A B (+ bias), either operand transposed.

use super::brgemm::{Axis, Start, Strips, Sum, pack_columns, packed_len};
use super::parallel;
use super::simd::Isa;

/// `C [m, n] = A B`, where A is stored `[m, k]`, or `[k, m]` if `a_transposed`, and B `[k, n]`, or `[n, k]`
/// if `b_transposed`; all row-major.
#[derive(Clone, Copy, Debug)]
pub struct Product {
    pub m: usize,
    pub n: usize,
    pub k: usize,
    pub a_transposed: bool,
    pub b_transposed: bool,
}

/// Rows of C that one work item computes: a multiple of every tile height.
const ROWS: usize = 24;

/// Elements of scratch that [`multiply`] needs.
pub fn scratch(isa: Isa, p: &Product) -> usize {
    packed_len(isa, p.k, p.n)
}

/// Computes the product into `c`; `bias` holds one value a column.
pub fn multiply(
    isa: Isa,
    p: &Product,
    a: &[f32],
    b: &[f32],
    bias: Option<&[f32]>,
    c: &mut [f32],
    scratch: &mut [f32],
) {
    let Product { m, n, k, .. } = *p;
    let packed = &mut scratch[..packed_len(isa, k, n)];
    if p.b_transposed {
        pack_columns(isa, k, n, packed, |k_, j| b[j * k + k_]);
    } else {
        pack_columns(isa, k, n, packed, |k_, j| b[k_ * n + j]);
    }
    let width = isa.tile_columns();
    let (a_row, a_depth) = if p.a_transposed { (1, m) } else { (k, 1) };
    let inner = Axis { count: k, a: a_depth, b: width };
    let sum = Sum { a, b: packed, a_row, axes: [Axis::ONE, Axis::ONE, inner] };
    let start = bias.map_or(Start::Zero, Start::Bias);
    parallel::for_each(c.chunks_mut(ROWS * n).enumerate(), &mut [], 0, |(item, c), _| {
        let (a_from, rows, strip) = (item * ROWS * a_row, c.len() / n, k * width);
        isa.run(Strips { sum, a_from, strip, start, c, c_row: n, rows, columns: n });
    });
}
