//! Matrix products C = A B (+ bias), either operand transposed.

use std::ops::Range;

use super::batch_norm::Affine;
use super::brgemm::{Block, Start, Strips, Sum, SumAxis, pack_columns, packed_len};
use super::function::{Activation, Values, activate, beyond_clamp, clamp_of};
use super::input::Input;
use super::parallel::{self, Destination, OutputBlock};
use super::simd::{Isa, Kernel, Simd};

/// `C [m, n] = A B`, where A is stored `[m, k]`, or `[k, m]` if `a_transposed`, and B `[k, n]`, or
/// `[n, k]` if `b_transposed`; all row-major.
#[derive(Clone, Copy, Debug)]
pub struct Product {
    /// Rows of A and C.
    pub m: usize,
    /// Columns of B and C.
    pub n: usize,
    /// Columns of A and rows of B: the summands.
    pub k: usize,
    /// Whether A is stored `[k, m]`.
    pub a_transposed: bool,
    /// Whether B is stored `[n, k]`.
    pub b_transposed: bool,
}

/// Rows of C in a work item, at most, of an A that is not transposed.
const MOST_ROWS: usize = 96;

/// Rows of a panel of a transposed A: a multiple of every tile height.
const PANEL: usize = 12;

/// Panels of a work item, at most: every item passes over all of B, but its rows of C should stay
/// in the L2 cache.
const PANELS: usize = 22;

/// How much of K a transposed A is summed over at a time: a panel of this depth stays in the L1
/// cache, and the rows of B in the L2 cache. C waits in memory between two depths, which changes no
/// bit of the sums.
const DEPTH: usize = 128;

/// The right operand of a product.
#[derive(Clone, Copy)]
pub enum Right<'a> {
    /// The matrix as it is stored.
    Plain(&'a [f32]),
    /// The matrix as [`prepare`] packed it.
    Packed(&'a [f32]),
}

impl<'a> Right<'a> {
    /// The packed form, where there is one.
    pub fn of(plain: &'a [f32], packed: &'a [f32]) -> Right<'a> {
        if packed.is_empty() { Right::Plain(plain) } else { Right::Packed(packed) }
    }
}

impl Product {
    /// Whether B is read where it lies. Only for a transposed A, of which a block of K is summed
    /// over at a time: the rows of B that belong to it stay in the L2 cache, and packing them first
    /// would be a pass over memory more.
    fn in_place(&self, isa: Isa) -> bool {
        self.a_transposed && !self.b_transposed && self.n.is_multiple_of(isa.tile_columns())
    }

    /// Rows of C in a work item: nearly equal ones, a few for every worker. Every item passes over
    /// all of B, so they should be many; but the rows of A should stay in the L2 cache.
    fn rows(&self) -> usize {
        if self.a_transposed {
            let panels = self.m.div_ceil(PANEL);
            let most = panels.div_ceil(parallel::workers()).clamp(1, PANELS);
            return panels.div_ceil(panels.div_ceil(most).max(1)) * PANEL;
        }
        let most = self.m.div_ceil(2 * parallel::workers()).clamp(32, MOST_ROWS);
        self.m.div_ceil(self.m.div_ceil(most).max(1))
    }

    /// The same for an epilogue, whose blocks must not depend on the number of workers.
    fn block_rows(&self) -> usize {
        self.m.div_ceil(self.blocks().max(1))
    }

    /// Blocks of rows that an epilogue gets to see.
    pub fn blocks(&self) -> usize {
        self.m.div_ceil(MOST_ROWS)
    }
}

/// B as the kernel reads it: a strip of a tile's columns begins `strip` elements after the one
/// before it, and within it a row `row` elements after the one before.
#[derive(Clone, Copy)]
struct Columns<'a> {
    b: &'a [f32],
    strip: usize,
    row: usize,
}

/// Elements of B in the form that [`prepare`] gives it.
pub fn prepared_len(isa: Isa, p: &Product) -> usize {
    packed_len(isa, p.k, p.n)
}

/// Packs B, its strips in parallel.
pub fn prepare(isa: Isa, p: &Product, b: &[f32], packed: &mut [f32]) {
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

/// Elements of scratch that [`multiply`] needs: shared by all workers, and for each of them.
pub fn scratch(isa: Isa, p: &Product) -> (usize, usize) {
    // Of the largest item: this is asked before it is known how many workers there will be.
    let rows = p.m.next_multiple_of(PANEL).min(PANELS * PANEL);
    let panels = if p.a_transposed { p.k.min(DEPTH) * rows } else { 0 };
    (if p.in_place(isa) { 0 } else { prepared_len(isa, p) }, panels)
}

/// Additional scratch of each worker (`f32`s) for an A that is normalised as it is read: the
/// rows of an item; panels are normalised where they are.
pub fn affine_scratch(p: &Product) -> usize {
    if p.a_transposed { 0 } else { MOST_ROWS * p.k }
}

/// Computes the product into C, with the activation; `bias` holds one value a column. An epilogue
/// is for an A that is not transposed.
pub fn multiply(
    isa: Isa,
    p: &Product,
    (a, b): (Input, Right),
    bias: Option<&[f32]>,
    activation: Activation,
    Destination { y: c, epilogue }: Destination,
    scratch: &mut [f32],
) {
    let Product { n, k, .. } = *p;
    let (shared, panels) = self::scratch(isa, p);
    let each = panels + a.affine.map_or(0, |_| affine_scratch(p));
    let (space, workers) = scratch.split_at_mut(shared);
    let width = isa.tile_columns();
    let columns = |b| Columns { b, strip: k * width, row: width };
    let b = match b {
        Right::Packed(packed) => columns(packed),
        Right::Plain(b) if p.in_place(isa) => Columns { b, strip: width, row: n },
        Right::Plain(b) => {
            prepare(isa, p, b, space);
            columns(space)
        }
    };
    let start = bias.map_or(Start::Zero, Start::Bias);
    let each_rows = if epilogue.is_some() { p.block_rows() } else { p.rows() };
    let items = epilogue.with(c.chunks_mut(each_rows * n).enumerate());
    parallel::for_each(items, workers, each, |((item, c), finish), own| {
        let first = item * each_rows;
        if p.a_transposed {
            transposed_rows(isa, p, (a, b), first, start, c, own);
        } else {
            let a = a.read(isa, first * k..first * k + c.len() / n * k, own);
            rows(isa, [a, b.b], [k, n], start, c);
        }
        activate(isa, activation, c);
        finish(OutputBlock { from: first * n, rows: c });
    });
}

/// `C [.., n] = A B` for the first rows of A `[.., k]`, as many as fit C; B is packed.
pub(super) fn rows(isa: Isa, [a, packed]: [&[f32]; 2], [k, n]: [usize; 2], start: Start, c: &mut [f32]) {
    let (rows, width) = (c.len() / n, isa.tile_columns());
    let inner = SumAxis { count: k, a: 1, b: width };
    let sum = Sum { a, b: packed, a_row: k, axes: [SumAxis::ONE, SumAxis::ONE, inner] };
    isa.run(Strips { sum, a_from: 0, strip: k * width, start, c, c_row: n, rows, columns: n });
}

/// The rows of C from `first` on, as many as fit `c`, of a transposed A.
fn transposed_rows(
    isa: Isa,
    p: &Product,
    (a, b): (Input, Columns),
    first: usize,
    mut start: Start,
    c: &mut [f32],
    panels: &mut [f32],
) {
    let Product { m, n, k, .. } = *p;
    let columns = first..first + c.len() / n;
    let affine = a.affine.map(|affine| affine.channels(columns.clone()));
    for from in (0..k.max(1)).step_by(DEPTH) {
        let depth = DEPTH.min(k - from);
        let a = &a.x[from * m..][..depth * m];
        gather(a, m, columns.clone(), panels);
        if let Some(affine) = affine {
            isa.run(NormalisePanels { affine, depth, panels: &mut *panels });
        }
        isa.run(PanelRows { panels, b, from, depth, start, c: &mut *c, n });
        start = Start::Current;
    }
}

/// Copies columns of a matrix with rows of `m` elements into panels of [`PANEL`] columns, each
/// row-major by itself: read in place, one element of a column would lie a whole row behind the
/// other.
fn gather(a: &[f32], m: usize, columns: Range<usize>, panels: &mut [f32]) {
    let depth = a.len() / m;
    for (k, row) in a.chunks_exact(m).enumerate() {
        let (whole, rest) = row[columns.clone()].as_chunks::<PANEL>();
        for (panel, values) in whole.iter().enumerate() {
            panels[(panel * depth + k) * PANEL..][..PANEL].copy_from_slice(values);
        }
        if !rest.is_empty() {
            panels[(whole.len() * depth + k) * PANEL..][..rest.len()].copy_from_slice(rest);
        }
    }
}

/// Normalises what lies in panels.
struct NormalisePanels<'a> {
    /// Scale, shift and activation of their columns.
    affine: Affine<'a>,
    depth: usize,
    panels: &'a mut [f32],
}

/// Rows of a panel that are whole vectors together, of any instruction set.
const ROWS: usize = 4;

impl Kernel for NormalisePanels<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let NormalisePanels { affine: Affine { scale, shift, activation }, depth, panels } = self;
        let clamp = clamp_of(activation);
        let affines = scale.chunks(PANEL).zip(shift.chunks(PANEL));
        for (panel, (scale, shift)) in panels.chunks_exact_mut(depth * PANEL).zip(affines) {
            let (scale, shift) = (repeated(scale), repeated(shift));
            for rows in panel.chunks_mut(ROWS * PANEL) {
                for ((x, scale), shift) in rows.iter_mut().zip(&scale).zip(&shift) {
                    *x = (*x * scale + shift).clamp(clamp.0, clamp.1);
                }
            }
        }
        if let Some(function) = beyond_clamp(activation) {
            Values { function, y: panels }.run(simd);
        }
    }
}

/// At most [`PANEL`] values, for each of [`ROWS`]; zeros for the columns that a last panel lacks.
#[inline(always)]
fn repeated(values: &[f32]) -> [f32; ROWS * PANEL] {
    std::array::from_fn(|i| values.get(i % PANEL).copied().unwrap_or_default())
}

/// Adds the products of depth `from..from + depth` to rows of C.
struct PanelRows<'a> {
    panels: &'a [f32],
    b: Columns<'a>,
    from: usize,
    depth: usize,
    start: Start<'a>,
    c: &'a mut [f32],
    n: usize,
}

impl Kernel for PanelRows<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let PanelRows { panels, b: Columns { b, strip: strip_len, row: b_row }, from, depth, start, c, n } =
            self;
        let (rows, width) = (c.len() / n, 2 * S::LANES);
        let inner = SumAxis { count: depth, a: PANEL, b: b_row };
        let sum = Sum { a: panels, b, a_row: 1, axes: [SumAxis::ONE, SumAxis::ONE, inner] };
        for (strip, column) in (0..n).step_by(width).enumerate() {
            let start = match start {
                Start::Bias(bias) => Start::Bias(&bias[column..]),
                other => other,
            };
            let columns = width.min(n - column);
            for (panel, row) in (0..rows).step_by(PANEL).enumerate() {
                let c = &mut c[row * n + column..];
                let block = Block { c, row: n, rows: PANEL.min(rows - row), columns };
                sum.add_to(simd, panel * depth * PANEL, strip * strip_len + from * b_row, start, block);
            }
        }
    }
}
