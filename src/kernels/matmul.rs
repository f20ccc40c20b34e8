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

impl Product {
    /// Of a large product, an item takes more rows: fewer passes over B.
    fn rows(&self) -> usize {
        if !self.a_transposed && self.m >= 64 * ROWS { 4 * ROWS } else { ROWS }
    }
}

/// Elements of scratch that [`multiply`] needs: shared by all workers, and for each of them.
pub fn scratch(isa: Isa, p: &Product) -> (usize, usize) {
    let panel = if p.a_transposed { p.k * p.rows() } else { 0 };
    (packed_len(isa, p.k, p.n), panel)
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
    let (shared, each) = self::scratch(isa, p);
    let (packed, panels) = scratch.split_at_mut(shared);
    pack(isa, p, b, packed);
    let (packed, width) = (&*packed, isa.tile_columns());
    let start = bias.map_or(Start::Zero, Start::Bias);
    parallel::for_each(c.chunks_mut(p.rows() * n).enumerate(), panels, each, |(item, c), panel| {
        let (first, rows) = (item * p.rows(), c.len() / n);
        let (a, a_row, depth) = match p.a_transposed {
            // Read in place, its columns would lie a whole row apart.
            true => (gather(a, m, first, rows, panel), 1, rows),
            false => (&a[first * k..], k, 1),
        };
        let sum =
            Sum { a, b: packed, a_row, axes: [Axis::ONE, Axis::ONE, Axis { count: k, a: depth, b: width }] };
        isa.run(Strips { sum, a_from: 0, strip: k * width, start, c, c_row: n, rows, columns: n });
    });
}

/// Packs B, its strips in parallel.
fn pack(isa: Isa, p: &Product, b: &[f32], packed: &mut [f32]) {
    let (Product { n, k, b_transposed, .. }, width) = (*p, isa.tile_columns());
    if packed.is_empty() {
        return;
    }
    parallel::for_each(packed.chunks_exact_mut(k * width).enumerate(), &mut [], 0, |(strip, to), _| {
        let from = strip * width;
        let columns = width.min(n - from);
        if b_transposed {
            pack_columns(isa, k, columns, to, |k_, j| b[(from + j) * k + k_]);
        } else {
            pack_columns(isa, k, columns, to, |k_, j| b[k_ * n + from + j]);
        }
    });
}

/// The columns `first..first + rows` of a matrix with rows of `m` elements, each row's by itself.
fn gather<'a>(a: &[f32], m: usize, first: usize, rows: usize, panel: &'a mut [f32]) -> &'a [f32] {
    for (to, from) in panel.chunks_exact_mut(rows).zip(a.chunks_exact(m)) {
        to.copy_from_slice(&from[first..first + rows]);
    }
    panel
}
