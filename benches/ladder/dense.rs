//! The ladder of the dense layer: `c [m, n] = a [m, k] b [k, n]`, row-major.

use std::rc::Rc;

use cifar_engine::kernels::parallel;
use cifar_engine::kernels::simd::{Isa, Kernel, Simd};
use cifar_engine::ops::linear::matmul::Matmul;

use super::engine::{Chain, Input};
use super::tile::{self, Right, Sums};
use super::{Floats, Ladder, Scratch, compiled, functions, noise};

struct Dense {
    m: usize,
    n: usize,
    k: usize,
    a: Floats,
    b: Floats,
}

/// The classifier of MobileNet on a batch of 512; b, 4 MB, does not fit the L2 cache.
pub fn timed() -> Ladder {
    ladder(512, 1000, 1024)
}

pub fn odd() -> Vec<Ladder> {
    vec![ladder(1, 1, 1), ladder(13, 35, 67), ladder(130, 33, 130), ladder(7, 101, 5)]
}

fn ladder(m: usize, n: usize, k: usize) -> Ladder {
    let dense = Rc::new(Dense { m, n, k, a: noise(m * k, 1), b: noise(k * n, 2) });
    let mut rungs = functions(
        &dense,
        m * n,
        &[
            ("naive", naive),
            ("loop order", loop_order),
            ("cache blocks", cache_blocks),
            ("vectors", vectors),
            ("register tile", register_tile),
            ("packing", packing),
            ("panels", panels),
            ("threads", threads),
        ],
    );
    let op = Matmul::default();
    let engine = Chain::of(op, vec![Input::floats(&[m, k], &dense.a), Input::floats(&[k, n], &dense.b)]);
    rungs.push(engine.on_cpu("engine"));
    Ladder {
        title: format!("dense: [{m}, {k}] times [{k}, {n}]"),
        cost: engine.cost(),
        exact: Box::new(move || engine.exact()),
        tolerance: 1e-5,
        rungs,
    }
}

/// The formula. Each sum is one chain of additions, of which each waits for the one before, and
/// walks down a column of b: a cache line for each element.
fn naive(d: &Dense, c: &mut [f32], _: &mut Scratch) {
    let (a, b) = (&*d.a, &*d.b);
    for i in 0..d.m {
        for j in 0..d.n {
            let mut sum = 0.0;
            for k in 0..d.k {
                sum += a[i * d.k + k] * b[k * d.n + j];
            }
            c[i * d.n + j] = sum;
        }
    }
}

/// The columns innermost: b is read and c written along their rows. The additions of a row wait
/// for nothing but their own element, so that the compiler makes vectors of them.
fn loop_order(d: &Dense, c: &mut [f32], _: &mut Scratch) {
    c.fill(0.0);
    for (c, a) in c.chunks_exact_mut(d.n).zip(d.a.chunks_exact(d.k)) {
        for (a, b) in a.iter().zip(d.b.chunks_exact(d.n)) {
            for (c, b) in c.iter_mut().zip(b) {
                *c += a * b;
            }
        }
    }
}

/// Depths summed over at a time: 64 rows of b are 256 KB.
const DEPTH: usize = 64;

/// Some rows of b at a time, for all rows of a: they come from the L2 cache where all of b came
/// from behind it.
fn cache_blocks(d: &Dense, c: &mut [f32], _: &mut Scratch) {
    c.fill(0.0);
    for (block, b) in d.b.chunks(DEPTH * d.n).enumerate() {
        add_block(d, c, block, b);
    }
}

/// Adds the products of one block of rows of b.
#[inline(always)]
fn add_block(d: &Dense, c: &mut [f32], block: usize, b: &[f32]) {
    for (c, a) in c.chunks_exact_mut(d.n).zip(d.a.chunks_exact(d.k)) {
        for (a, b) in a[block * DEPTH..].iter().zip(b.chunks_exact(d.n)) {
            for (c, b) in c.iter_mut().zip(b) {
                *c += a * b;
            }
        }
    }
}

/// The same loops, compiled for the vectors that this processor has: of 16 lanes with AVX-512,
/// where every x86-64 has four.
fn vectors(d: &Dense, c: &mut [f32], _: &mut Scratch) {
    compiled(
        #[inline(always)]
        || {
            c.fill(0.0);
            for (block, b) in d.b.chunks(DEPTH * d.n).enumerate() {
                add_block(d, c, block, b);
            }
        },
    );
}

/// A tile of 8 rows and two vectors of columns stays in registers over the depth of a block: a
/// multiplication and addition no longer loads and stores its sum, and becomes one instruction.
fn register_tile(d: &Dense, c: &mut [f32], _: &mut Scratch) {
    struct Block<'a>(&'a Dense, &'a mut [f32], usize, &'a [f32]);
    impl Kernel for Block<'_> {
        type Output = ();
        #[inline(always)]
        fn run<S: Simd>(self, simd: S) {
            let Block(d, c, from, b) = self;
            each_tile(
                simd,
                c,
                d.n,
                #[inline(always)]
                |sums, i, j| {
                    let a = tile::rows_of(&d.a[i * d.k + from..], d.k, d.m - i, b.len() / d.n);
                    tile::multiply(simd, sums, a, Right { rows: &b[j..], step: d.n, columns: d.n - j });
                },
            );
        }
    }
    c.fill(0.0);
    for (block, b) in d.b.chunks(DEPTH * d.n).enumerate() {
        Isa::detect().run(Block(d, c, block * DEPTH, b));
    }
}

/// Rows of a tile. With two vectors that is 16 sums, of the 32 registers of AVX-512.
const ROWS: usize = 8;

/// Has `add` add to the sums of every tile, which begins at row i and column j of c.
#[inline(always)]
fn each_tile<S: Simd>(simd: S, c: &mut [f32], n: usize, add: impl Fn(&mut Sums<S, ROWS>, usize, usize)) {
    let (rows, width) = (c.len() / n, 2 * S::LANES);
    for j in (0..n).step_by(width) {
        let columns = j..n.min(j + width);
        for i in (0..rows).step_by(ROWS) {
            let mut sums = [[simd.zero(); 2]; ROWS];
            for (i, sums) in (i..rows).zip(&mut sums) {
                *sums = tile::read(simd, &c[i * n..][columns.clone()]);
            }
            add(&mut sums, i, j);
            for (i, sums) in (i..rows).zip(sums) {
                tile::write(simd, &mut c[i * n..][columns.clone()], sums);
            }
        }
    }
}

/// The strips of b in a copy, as a tile reads them: no step goes to another page of memory. Nor are
/// blocks of b needed any more: a strip, 128 KB, stays in the L2 cache whole.
fn packing(d: &Dense, c: &mut [f32], [packed, _]: &mut Scratch) {
    struct Strips<'a>(&'a Dense, &'a mut [f32], &'a [f32]);
    impl Kernel for Strips<'_> {
        type Output = ();
        #[inline(always)]
        fn run<S: Simd>(self, simd: S) {
            let (Strips(d, c, packed), width) = (self, 2 * S::LANES);
            each_tile(
                simd,
                c,
                d.n,
                #[inline(always)]
                |sums, i, j| {
                    let a = tile::rows_of(&d.a[i * d.k..], d.k, d.m - i, d.k);
                    tile::multiply(
                        simd,
                        sums,
                        a,
                        Right { rows: &packed[j * d.k..], step: width, columns: width },
                    );
                },
            );
        }
    }
    let isa = Isa::detect();
    let packed = packed.room(tile::packed_len(isa, d.k, d.n));
    tile::pack(isa, &d.b, d.n, packed);
    c.fill(0.0);
    isa.run(Strips(d, c, packed));
}

/// The rows of a in a copy as well, in panels of as many as a tile has. Rows that lie 4096 bytes
/// apart share the few places that the L1 cache has for one address in a page; a panel has places
/// all over it.
fn panels(d: &Dense, c: &mut [f32], [packed, panels]: &mut Scratch) {
    let isa = Isa::detect();
    let packed = packed.room(tile::packed_len(isa, d.k, d.n));
    tile::pack(isa, &d.b, d.n, packed);
    let panels = panels.room(d.m.next_multiple_of(ROWS) * d.k);
    pack_panels(&d.a, d.k, panels);
    c.fill(0.0);
    isa.run(Panels { d, panels, packed, c });
}

/// Packs rows of a, ROWS at a time.
fn pack_panels(a: &[f32], depth: usize, panels: &mut [f32]) {
    for (panel, rows) in panels.chunks_exact_mut(ROWS * depth).zip(a.chunks(ROWS * depth)) {
        for (i, row) in rows.chunks_exact(depth).enumerate() {
            for (to, a) in panel.chunks_exact_mut(ROWS).zip(row) {
                to[i] = *a;
            }
        }
    }
}

/// Some rows of c from both copies.
struct Panels<'a> {
    d: &'a Dense,
    panels: &'a [f32],
    packed: &'a [f32],
    c: &'a mut [f32],
}

impl Kernel for Panels<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Panels { d: Dense { n, k, .. }, panels, packed, c } = self;
        each_tile(
            simd,
            c,
            *n,
            #[inline(always)]
            |sums, i, j| {
                tile::multiply_panel(simd, sums, &panels[i * k..][..ROWS * k], &packed[j * k..]);
            },
        );
    }
}

/// Rows of c that a thread takes at a time: 64 rows of a are 256 KB.
const SHARE: usize = 64;

/// The strips are packed, then rows of c computed, by whichever core is free; each packs the panels
/// that it needs.
fn threads(d: &Dense, c: &mut [f32], [packed, panels]: &mut Scratch) {
    let isa = Isa::detect();
    let packed = packed.room(tile::packed_len(isa, d.k, d.n));
    let strips = packed.chunks_exact_mut(d.k * isa.tile_columns()).enumerate();
    parallel::for_each(strips, &mut [], 0, |(strip, to), _| tile::pack_strip(isa, &d.b, d.n, strip, to));
    let each = SHARE * d.k;
    let panels = panels.room(parallel::workers() * each);
    let shares = c.chunks_mut(SHARE * d.n).zip(d.a.chunks(each));
    parallel::for_each(shares, panels, each, |(c, a), panels| {
        pack_panels(a, d.k, panels);
        c.fill(0.0);
        isa.run(Panels { d, panels, packed, c });
    });
}
