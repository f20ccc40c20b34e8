//! The one matrix kernel: a register tile of C summed over up to three nested indices.
//!
//! ```text
//! C[i][j] (+)= sum over (t, u, v)
//!     A[a + i*a_row + t*a.0 + u*a.1 + v*a.2]  *  B[b + j + t*b.0 + u*b.1 + v*b.2]
//! ```
//!
//! A matrix product is one such sum (v along K). A convolution's forward pass is two (kernel row,
//! then kernel column and channel, which are contiguous in NHWC), its weight gradient three (image,
//! row, column), each without an im2col buffer. This is the "batch-reduce GEMM" of Georganas et
//! al., "High-Performance Deep Learning via a Single Building Block" (2019).
//!
//! Blocking: a tile is `Simd::ROWS` rows by two vectors of columns, held in registers over the
//! whole sum. Each step of v loads two vectors of B and broadcasts one element of A a row, so 12 x
//! 2 tiles do 24 multiply-adds for 14 loads: arithmetic, not the load ports, is the limit. B must
//! be packed so that a tile's columns are contiguous ([`pack_columns`]); A is read in place with
//! any strides.

use std::mem::MaybeUninit;

use super::simd::{Isa, Kernel, Simd};

/// One index of the sum: its count, and how far A and B move with it (in elements).
#[derive(Clone, Copy, Debug)]
pub struct SumAxis {
    /// Number of summands along it.
    pub count: usize,
    /// Step in A.
    pub a: usize,
    /// Step in B.
    pub b: usize,
}

impl SumAxis {
    /// An index that is not there.
    pub const ONE: SumAxis = SumAxis { count: 1, a: 0, b: 0 };
}

/// The operands of a sum, outermost index first.
#[derive(Clone, Copy)]
pub struct Sum<'a> {
    /// A, from its first element on.
    pub a: &'a [f32],
    /// B, packed by [`pack_columns`].
    pub b: &'a [f32],
    /// Distance between two rows of A.
    pub a_row: usize,
    /// Indices of the sum; fewer are filled up with [`SumAxis::ONE`].
    pub axes: [SumAxis; 3],
}

/// Content of C before the sum is added.
#[derive(Clone, Copy)]
pub enum Start<'a> {
    /// Zeros.
    Zero,
    /// One value a column, the same for every row.
    Bias(&'a [f32]),
    /// The values it holds already.
    Current,
}

/// A block of C: rows `row` elements apart, at most two vectors of columns.
pub struct Block<'a> {
    /// C, from the block's first element on.
    pub c: &'a mut [f32],
    /// Distance between two rows of C, in elements.
    pub row: usize,
    /// Number of rows.
    pub rows: usize,
    /// Number of columns.
    pub columns: usize,
}

impl Sum<'_> {
    /// How far the sum reaches from its first element. Saturates: what is too large for a number is
    /// too large for any slice, whereas a product that wraps around could pass for a small one.
    fn extent(&self, step: impl Fn(&SumAxis) -> usize) -> usize {
        let reaches = self.axes.iter().map(|axis| (axis.count - 1).saturating_mul(step(axis)));
        reaches.fold(0, usize::saturating_add)
    }

    /// Adds the sum to a block of any number of rows, with A and B taken from the given offsets.
    ///
    /// # Panics
    /// If the sum or the block would reach outside its slice, or the block is wider than a tile.
    #[inline(always)]
    pub fn add_to<S: Simd>(&self, simd: S, a_from: usize, b_from: usize, start: Start, block: Block) {
        let Block { c, row, rows, columns } = block;
        let wide = 2 * S::LANES;
        assert!(rows > 0 && (1..=wide).contains(&columns));
        assert!((rows - 1).saturating_mul(row).saturating_add(columns) <= c.len());
        if self.axes.iter().any(|axis| axis.count == 0) {
            return fill(c, row, rows, columns, start);
        }
        let rows_apart = (rows - 1).saturating_mul(self.a_row);
        let a_last = self.extent(|axis| axis.a).saturating_add(rows_apart).saturating_add(a_from);
        assert!(a_last < self.a.len());
        let lanes = if columns <= S::LANES { S::LANES } else { wide };
        assert!(self.extent(|axis| axis.b).saturating_add(b_from).saturating_add(lanes) <= self.b.len());

        // Tiles of nearly equal height: 16 rows are better split 8 + 8 than 12 + 4.
        let tiles = rows.div_ceil(S::ROWS);
        let mut done = 0;
        for tile in 0..tiles {
            let height = (rows - done).div_ceil(tiles - tile);
            let tile = RegisterTile {
                a: self.a[a_from + done * self.a_row..].as_ptr(),
                b: self.b[b_from..].as_ptr(),
                a_row: self.a_row,
                axes: self.axes,
                start,
                c: &mut c[done * row..],
                row,
                columns,
            };
            // SAFETY: the assertions above cover every element that `height` rows of this tile
            // touch.
            unsafe { tile.run_height(simd, height) };
            done += height;
        }
    }
}

#[inline(always)]
fn fill(c: &mut [f32], row: usize, rows: usize, columns: usize, start: Start) {
    for i in 0..rows {
        let to = &mut c[i * row..][..columns];
        match start {
            Start::Zero => to.fill(0.0),
            Start::Bias(bias) => to.copy_from_slice(&bias[..columns]),
            Start::Current => {}
        }
    }
}

/// One register tile: at most `ROWS` rows.
struct RegisterTile<'a> {
    a: *const f32,
    b: *const f32,
    a_row: usize,
    axes: [SumAxis; 3],
    start: Start<'a>,
    c: &'a mut [f32],
    row: usize,
    columns: usize,
}

impl RegisterTile<'_> {
    /// # Safety
    /// Every element that the sum reads must lie in A and B.
    #[inline(always)]
    unsafe fn run_height<S: Simd>(self, simd: S, height: usize) {
        macro_rules! heights {
            ($($rows:literal)*) => {
                match height {
                    // SAFETY: passed on from the caller.
                    $($rows if $rows <= S::ROWS => unsafe { self.run_width::<S, $rows>(simd) },)*
                    _ => unreachable!("a tile is at most S::ROWS high"),
                }
            };
        }
        heights!(1 2 3 4 5 6 7 8 9 10 11 12);
    }

    /// # Safety
    /// As for `run_height`.
    #[inline(always)]
    unsafe fn run_width<S: Simd, const R: usize>(self, simd: S) {
        // SAFETY: passed on from the caller; a narrow tile reads one vector of B, a wide one two.
        unsafe {
            if self.columns <= S::LANES { self.run::<S, R, 1>(simd) } else { self.run::<S, R, 2>(simd) }
        }
    }

    /// A tile of fewer columns goes through a full-width copy of C, which only such a tile clears:
    /// it would take a twentieth of the time of a product of little depth.
    ///
    /// # Safety
    /// As for `run_height`.
    #[inline(always)]
    unsafe fn run<S: Simd, const R: usize, const P: usize>(self, simd: S) {
        let RegisterTile { a, b, a_row, axes, start, c, row, columns } = self;
        let (mut copy, mut wide_bias) = (MaybeUninit::uninit(), [0.0f32; WIDEST]);
        let mut edge = (columns < P * S::LANES).then(|| copy.write([0.0f32; HIGHEST * WIDEST]));
        let (start, to, to_row) = match &mut edge {
            // `add_to` checked that R rows of `columns` elements lie in C, and that a bias holds as
            // many.
            None => (start, c.as_mut_ptr(), row),
            Some(edge) => {
                copy_rows(c, row, &mut **edge, P * S::LANES, [R, columns]);
                let start = match start {
                    Start::Bias(bias) => {
                        wide_bias[..columns].copy_from_slice(&bias[..columns]);
                        Start::Bias(&wide_bias)
                    }
                    other => other,
                };
                (start, edge.as_mut_ptr(), P * S::LANES)
            }
        };
        let mut sums = [[simd.zero(); P]; R];
        // SAFETY: passed on from the caller; `to` holds R rows of P vectors, and a bias P vectors.
        unsafe {
            start_sums::<S, R, P>(simd, &mut sums, start, to, to_row);
            multiply::<S, R, P>(simd, &mut sums, a, b, a_row, &axes);
            store_sums::<S, R, P>(simd, &sums, to, to_row);
        }
        if let Some(edge) = edge {
            copy_rows(edge, P * S::LANES, c, row, [R, columns]);
        }
    }
}

/// Rows and columns that no register tile exceeds.
const HIGHEST: usize = 12;
const WIDEST: usize = 32;

/// Copies a block from rows `row` elements apart to rows `to_row` apart. Not inlined: it is for the
/// edges only.
#[inline(never)]
fn copy_rows(from: &[f32], row: usize, to: &mut [f32], to_row: usize, [rows, columns]: [usize; 2]) {
    for i in 0..rows {
        to[i * to_row..][..columns].copy_from_slice(&from[i * row..][..columns]);
    }
}

/// # Safety
/// For `Current`, R rows of P vectors, `row` elements apart, must be readable at `c`.
#[inline(always)]
unsafe fn start_sums<S: Simd, const R: usize, const P: usize>(
    simd: S,
    sums: &mut [[S::Vector; P]; R],
    start: Start,
    c: *const f32,
    row: usize,
) {
    match start {
        Start::Zero => {}
        Start::Bias(bias) => {
            let bias = &bias[..P * S::LANES];
            for p in 0..P {
                // SAFETY: `bias` holds P vectors.
                let value = unsafe { simd.load(bias.as_ptr().add(p * S::LANES)) };
                for sum in sums.iter_mut() {
                    sum[p] = value;
                }
            }
        }
        Start::Current => {
            for (i, sum) in sums.iter_mut().enumerate() {
                for (p, part) in sum.iter_mut().enumerate() {
                    // SAFETY: the caller vouches for the rows.
                    *part = unsafe { simd.load(c.add(i * row + p * S::LANES)) };
                }
            }
        }
    }
}

/// # Safety
/// R rows of P vectors, `row` elements apart, must be writable at `c`.
#[inline(always)]
unsafe fn store_sums<S: Simd, const R: usize, const P: usize>(
    simd: S,
    sums: &[[S::Vector; P]; R],
    c: *mut f32,
    row: usize,
) {
    for (i, sum) in sums.iter().enumerate() {
        for (p, part) in sum.iter().enumerate() {
            // SAFETY: the caller vouches for the rows.
            unsafe { simd.store(c.add(i * row + p * S::LANES), *part) };
        }
    }
}

/// The inner loops.
///
/// # Safety
/// Every element that the axes reach from `a` (R rows) and `b` (P vectors) must be readable.
#[inline(always)]
unsafe fn multiply<S: Simd, const R: usize, const P: usize>(
    simd: S,
    sums: &mut [[S::Vector; P]; R],
    a: *const f32,
    b: *const f32,
    a_row: usize,
    axes: &[SumAxis; 3],
) {
    let [outer, middle, inner] = *axes;
    for t in 0..outer.count {
        for u in 0..middle.count {
            // SAFETY: the caller vouches for every element below.
            unsafe {
                let mut a = a.add(t * outer.a + u * middle.a);
                let mut b = b.add(t * outer.b + u * middle.b);
                for _ in 0..inner.count {
                    let mut columns = [simd.zero(); P];
                    for (p, column) in columns.iter_mut().enumerate() {
                        *column = simd.load(b.add(p * S::LANES));
                    }
                    for (i, sum) in sums.iter_mut().enumerate() {
                        let value = simd.splat(*a.add(i * a_row));
                        for p in 0..P {
                            sum[p] = simd.multiply_add(value, columns[p], sum[p]);
                        }
                    }
                    // The last step may point past the end, where it is not read.
                    a = a.wrapping_add(inner.a);
                    b = b.wrapping_add(inner.b);
                }
            }
        }
    }
}

/// Elements that [`pack_columns`] writes for a `depth` x `columns` matrix.
pub fn packed_len(isa: Isa, depth: usize, columns: usize) -> usize {
    depth * columns.next_multiple_of(isa.tile_columns())
}

/// Cuts a `depth` x `columns` matrix, read through `at(k, j)`, into strips of a tile's columns,
/// each contiguous and row-major, the last one filled up with zeros: strip `s` begins at `s * depth
/// * width`.
pub fn pack_columns(
    isa: Isa,
    depth: usize,
    columns: usize,
    packed: &mut [f32],
    at: impl Fn(usize, usize) -> f32,
) {
    let width = isa.tile_columns();
    for (strip, to) in packed.chunks_exact_mut(depth * width).enumerate() {
        let from = strip * width;
        let used = width.min(columns - from);
        for (k, row) in to.chunks_exact_mut(width).enumerate() {
            for (j, value) in row[..used].iter_mut().enumerate() {
                *value = at(k, from + j);
            }
            row[used..].fill(0.0);
        }
    }
}

/// A whole product, for callers that need no finer control: every strip of `columns` columns of
/// packed B (see [`pack_columns`]) against `rows` rows of A, into C with rows `c_row` apart.
pub struct Strips<'a> {
    /// Operands of the first row and strip.
    pub sum: Sum<'a>,
    /// Place of the first row in A, in elements.
    pub a_from: usize,
    /// Elements between two strips of packed B.
    pub strip: usize,
    /// What C holds before.
    pub start: Start<'a>,
    /// C `[rows, columns]`, its rows `c_row` apart.
    pub c: &'a mut [f32],
    /// Distance between two rows of C, in elements.
    pub c_row: usize,
    /// Rows of A and C.
    pub rows: usize,
    /// Columns of B and C.
    pub columns: usize,
}

impl Kernel for Strips<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let width = 2 * S::LANES;
        for (strip, from) in (0..self.columns).step_by(width).enumerate() {
            let start = match self.start {
                Start::Bias(bias) => Start::Bias(&bias[from..]),
                other => other,
            };
            let columns = width.min(self.columns - from);
            let block = Block { c: &mut self.c[from..], row: self.c_row, rows: self.rows, columns };
            self.sum.add_to(simd, self.a_from, strip * self.strip, start, block);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(n: usize) -> Vec<f32> {
        (0..n).map(|i| ((i * 2_654_435_761) % 1000) as f32 / 500.0 - 1.0).collect()
    }

    /// Every height and width around the tile's size, all three starts, all instruction sets.
    #[test]
    fn matches_the_naive_sum_at_every_tile_size() {
        for isa in Isa::available() {
            for rows in [1, 2, 5, 11, 12, 13, 25] {
                for columns in [1, 7, isa.tile_columns(), isa.tile_columns() + 3] {
                    for start in [0, 1, 2] {
                        check(isa, rows, columns, 9, start);
                    }
                }
            }
        }
    }

    /// Strides whose products wrap around to a place inside: the kernel is safe to call with any of
    /// them.
    #[test]
    fn a_reach_that_is_too_large_for_a_number_is_refused() {
        struct Call<'a>(Sum<'a>, usize, Block<'a>);
        impl Kernel for Call<'_> {
            type Output = ();
            #[inline(always)]
            fn run<S: Simd>(self, simd: S) {
                self.0.add_to(simd, 0, self.1, Start::Zero, self.2);
            }
        }
        let far = 1 << 61; // nine rows are eight times this apart: 0, wrapped around
        let nine = SumAxis { count: 9, a: 0, b: far };
        for isa in Isa::available() {
            for (a_row, b_axis, b_from, row) in [
                (far, SumAxis::ONE, 0, 8),
                (0, nine, 0, 8),
                (0, SumAxis::ONE, usize::MAX, 8),
                (0, SumAxis::ONE, 0, far),
            ] {
                let (a, b, mut c) = ([1.0], [0.0; 64], [0.0; 72]);
                let sum = Sum { a: &a, b: &b, a_row, axes: [SumAxis::ONE, SumAxis::ONE, b_axis] };
                let block = Block { c: &mut c, row, rows: 9, columns: 8 };
                let call = std::panic::AssertUnwindSafe(|| isa.run(Call(sum, b_from, block)));
                assert!(std::panic::catch_unwind(call).is_err(), "{isa}: {a_row} {b_axis:?} {b_from} {row}");
            }
        }
    }

    fn check(isa: Isa, rows: usize, columns: usize, depth: usize, start: usize) {
        let (a, b, bias) = (noise(rows * depth), noise(depth * columns), noise(columns));
        let before = noise(rows * columns);
        let mut packed = vec![f32::NAN; packed_len(isa, depth, columns)];
        pack_columns(isa, depth, columns, &mut packed, |k, j| b[k * columns + j]);
        let width = isa.tile_columns();
        let inner = SumAxis { count: depth, a: 1, b: width };
        let sum = Sum { a: &a, b: &packed, a_row: depth, axes: [SumAxis::ONE, SumAxis::ONE, inner] };
        let mut c = before.clone();
        let start_c = [Start::Zero, Start::Bias(&bias), Start::Current][start];
        let strip = depth * width;
        let (c_row, start_at) = (columns, start_c);
        isa.run(Strips { sum, a_from: 0, strip, start: start_at, c: &mut c, c_row, rows, columns });
        for i in 0..rows {
            for j in 0..columns {
                let begin = [0.0, bias[j], before[i * columns + j]][start];
                let products = (0..depth).map(|k| a[i * depth + k] * b[k * columns + j]);
                let expected = begin + products.sum::<f32>();
                let found = c[i * columns + j];
                assert!(
                    (found - expected).abs() < 1e-4,
                    "{isa} {rows}x{columns} start {start}: {found} {expected}"
                );
            }
        }
    }
}
