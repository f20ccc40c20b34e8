//! The register tile that the ladders of convolutions and of the dense layer climb on: a few rows
//! and two vectors of columns of a product, whose sums stay in registers while the depth passes by.
//!
//! ```text
//!                  b [depth, columns]
//!                  . . . # # # # # # # # . .     in each step a row of b: two vectors
//!   a [rows, depth]
//!   . . # . . .    + + + + + + + +               sums, in registers from the first
//!   . . # . . .    + + + + + + + +               step to the last: each step adds
//!   . . # . . .    + + + + + + + +               a column of a times a row of b
//!   . . # . . .    + + + + + + + +
//! ```

use cifar_engine::kernels::simd::{Isa, Simd};

/// The sums of a tile of R rows.
pub type Sums<S, const R: usize> = [[<S as Simd>::Vector; 2]; R];

/// The right operand: rows of so many columns, `step` elements apart, one for each step of depth.
#[derive(Clone, Copy)]
pub struct Right<'a> {
    pub rows: &'a [f32],
    pub step: usize,
    pub columns: usize,
}

/// R rows of a, `step` apart and `depth` long. Where only `count` are left, the last stands for
/// those that are missing; what comes of them is not stored.
#[inline(always)]
pub fn rows_of<const R: usize>(a: &[f32], step: usize, count: usize, depth: usize) -> [&[f32]; R] {
    std::array::from_fn(|i| &a[i.min(count - 1) * step..][..depth])
}

/// `sums[i][j] += sum over k of a[i][k] b[k][j]`; all rows of a are as long as the depth.
#[inline(always)]
pub fn multiply<S: Simd, const R: usize>(simd: S, sums: &mut Sums<S, R>, a: [&[f32]; R], b: Right) {
    // Two whole vectors get a loop of their own, in which nothing asks how many columns there are.
    match b.columns >= 2 * S::LANES {
        true => add_steps(simd, sums, a, Right { columns: 2 * S::LANES, ..b }),
        false => add_steps(simd, sums, a, b),
    }
}

/// Steps of depth that rows of a are cut into: within such a piece no index need be checked.
const STEPS: usize = 16;

#[inline(always)]
fn add_steps<S: Simd, const R: usize>(simd: S, sums: &mut Sums<S, R>, a: [&[f32]; R], b: Right) {
    let (mut kept, depth) = (*sums, a[0].len());
    let mut rows = b.rows.chunks(b.step).map(|row| &row[..b.columns]);
    for piece in 0..depth / STEPS {
        let mut part = [&[0.0; STEPS]; R];
        for (to, a) in part.iter_mut().zip(a) {
            *to = &a.as_chunks().0[piece];
        }
        for (k, row) in (0..STEPS).zip(&mut rows) {
            add_step(simd, &mut kept, column(part, k), row);
        }
    }
    for (k, row) in (depth / STEPS * STEPS..depth).zip(rows) {
        add_step(simd, &mut kept, column(a, k), row);
    }
    *sums = kept;
}

/// The elements of all rows at depth k.
#[inline(always)]
fn column<A: AsRef<[f32]>, const R: usize>(a: [A; R], k: usize) -> [f32; R] {
    let mut column = [0.0; R];
    for (to, row) in column.iter_mut().zip(&a) {
        *to = row.as_ref()[k];
    }
    column
}

/// A column of a times a row of b.
#[inline(always)]
fn add_step<S: Simd, const R: usize>(simd: S, sums: &mut Sums<S, R>, a: [f32; R], row: &[f32]) {
    let [left, right] = read(simd, row);
    for (a, sums) in a.into_iter().zip(sums) {
        let a = simd.splat(a);
        sums[0] = simd.multiply_add(a, left, sums[0]);
        sums[1] = simd.multiply_add(a, right, sums[1]);
    }
}

/// The same of a panel: R rows of a that lie side by side, a column after the other, and a strip of
/// b as [`pack`] makes it.
#[inline(always)]
pub fn multiply_panel<S: Simd, const R: usize>(simd: S, sums: &mut Sums<S, R>, panel: &[f32], strip: &[f32]) {
    let mut kept = *sums;
    for (a, row) in panel.as_chunks::<R>().0.iter().zip(strip.chunks_exact(2 * S::LANES)) {
        add_step(simd, &mut kept, *a, row);
    }
    *sums = kept;
}

/// Two vectors of sums that `c` holds, as far as it goes.
#[inline(always)]
pub fn read<S: Simd>(simd: S, c: &[f32]) -> [S::Vector; 2] {
    let (left, right) = c.split_at(S::LANES.min(c.len()));
    [simd.read(left), simd.read(right)]
}

/// Stores two vectors of sums, as much of them as fits.
#[inline(always)]
pub fn write<S: Simd>(simd: S, c: &mut [f32], [left, right]: [S::Vector; 2]) {
    let (to, rest) = c.split_at_mut(S::LANES.min(c.len()));
    simd.write(to, left);
    simd.write(rest, right);
}

/// Elements of packed b: whole strips of two vectors of columns.
pub fn packed_len(isa: Isa, depth: usize, columns: usize) -> usize {
    depth * columns.next_multiple_of(isa.tile_columns())
}

/// Packs `b [depth, columns]` into strips of two vectors of columns, each with its rows one after
/// the other, the last filled up with zeros: a tile then reads b from one end to the other.
pub fn pack(isa: Isa, b: &[f32], columns: usize, packed: &mut [f32]) {
    let strip = b.len() / columns * isa.tile_columns();
    for (number, to) in packed.chunks_exact_mut(strip).enumerate() {
        pack_strip(isa, b, columns, number, to);
    }
}

/// Packs one of the strips.
pub fn pack_strip(isa: Isa, b: &[f32], columns: usize, number: usize, to: &mut [f32]) {
    let width = isa.tile_columns();
    for (to, row) in to.chunks_exact_mut(width).zip(b.chunks_exact(columns)) {
        let row = &row[number * width..columns.min((number + 1) * width)];
        to[..row.len()].copy_from_slice(row);
        to[row.len()..].fill(0.0);
    }
}
