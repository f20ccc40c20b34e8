//! What a ladder is, and the list of them: `main.rs` times them, `tests/ladder.rs` checks them.
//!
//! A rung is a whole program for one operation; all rungs of a ladder compute the same.

#[path = "../../tests/common/gpu.rs"]
#[allow(dead_code)] // the tests use more of it
mod altered;
mod batch_norm;
mod conv;
mod cross_entropy;
mod dense;
mod engine;
pub mod gpu;
mod max_pool;
mod tile;
mod winograd;

use std::ops::{Deref, DerefMut};
use std::rc::Rc;
use std::time::Instant;

use cifar_engine::kernels::simd::{Isa, Kernel, Simd};
use cifar_engine::ops::Cost;
use cifar_engine::tensor::Buffer;

/// A program that computes a ladder's result.
pub trait Program {
    /// Computes it once.
    fn run(&mut self);

    /// What the last run computed, in the order of elements that the engine has.
    fn result(&self) -> Vec<f32>;

    /// Seconds that a run takes.
    fn time(&mut self) -> f64 {
        let begin = Instant::now();
        self.run();
        begin.elapsed().as_secs_f64()
    }
}

/// A program and what the tables call it.
pub struct Rung {
    pub name: &'static str,
    pub program: Box<dyn Program>,
}

/// An operation at one size, and the programs that compute it, each faster than the one before.
pub struct Ladder {
    /// The operation and the size.
    pub title: String,
    /// Multiplications and additions, and bytes that must be moved at least.
    pub cost: Cost,
    /// The result in f64, by the reference of the engine's op.
    pub exact: Box<dyn Fn() -> Vec<f64>>,
    /// Largest difference from it, as a share of its largest element.
    pub tolerance: f64,
    pub rungs: Vec<Rung>,
}

/// The ladders of one operation.
pub struct Family {
    pub name: &'static str,
    /// At the size that is timed.
    pub timed: fn() -> Ladder,
    /// At small sizes that fill no tile, block or vector, to be checked.
    pub odd: fn() -> Vec<Ladder>,
}

pub const FAMILIES: &[Family] = &[
    Family { name: "conv", timed: conv::timed, odd: conv::odd },
    Family { name: "dense", timed: dense::timed, odd: dense::odd },
    Family { name: "batch_norm", timed: batch_norm::timed, odd: batch_norm::odd },
    Family { name: "max_pool", timed: max_pool::timed, odd: max_pool::odd },
    Family { name: "cross_entropy", timed: cross_entropy::timed, odd: cross_entropy::odd },
];

/// Those that need a GPU, or a program that plays one.
pub const GPU_FAMILIES: &[Family] = &[
    Family { name: "gpu-conv", timed: gpu::products::conv_timed, odd: gpu::products::conv_odd },
    Family { name: "gpu-dense", timed: gpu::products::dense_timed, odd: gpu::products::dense_odd },
    Family { name: "gpu-batch_norm", timed: gpu::batch_norm::timed, odd: gpu::batch_norm::odd },
    Family { name: "gpu-max_pool", timed: gpu::max_pool::timed, odd: gpu::max_pool::odd },
    Family { name: "gpu-cross_entropy", timed: gpu::cross_entropy::timed, odd: gpu::cross_entropy::odd },
];

/// A rung that is a function of its operands: it writes y. What else it writes lies in scratch
/// memory, which it lengthens in its first run, so that no later one waits for an allocation.
pub type Work<Operands> = fn(&Operands, &mut [f32], &mut Scratch);
pub type Scratch = [Floats; 2];

/// Numbers that begin where a cache line does: a vector of them lies in one line, not in two.
#[derive(Clone, Default)]
pub struct Floats(Buffer);

impl Floats {
    /// Memory for `len` numbers, the same in every call for as many: what it holds stays.
    pub fn room(&mut self, len: usize) -> &mut [f32] {
        if self.len() != len {
            self.0 = Buffer::zeroed(len);
        }
        self
    }
}

impl Deref for Floats {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        self.0.f32()
    }
}

impl DerefMut for Floats {
    fn deref_mut(&mut self) -> &mut [f32] {
        self.0.f32_mut()
    }
}

impl FromIterator<f32> for Floats {
    fn from_iter<I: IntoIterator<Item = f32>>(numbers: I) -> Floats {
        Floats(numbers.into_iter().collect::<Vec<f32>>().as_slice().into())
    }
}

/// A function with its operands.
struct Function<Operands> {
    operands: Rc<Operands>,
    work: Work<Operands>,
    y: Floats,
    scratch: Scratch,
    /// The result in the engine's order of elements.
    in_order: fn(&Operands, &[f32]) -> Vec<f32>,
}

impl<Operands> Program for Function<Operands> {
    fn run(&mut self) {
        (self.work)(&self.operands, &mut self.y, &mut self.scratch);
    }

    fn result(&self) -> Vec<f32> {
        (self.in_order)(&self.operands, &self.y)
    }
}

/// Rungs of these functions, whose results of `len` elements are in the engine's order.
fn functions<Operands: 'static>(
    operands: &Rc<Operands>,
    len: usize,
    works: &[(&'static str, Work<Operands>)],
) -> Vec<Rung> {
    let rung = |&(name, work)| rung(name, operands, len, work, |_, y| y.to_vec());
    works.iter().map(rung).collect()
}

/// A rung of one function. What lies in y before it runs is nothing that it could leave there.
fn rung<Operands: 'static>(
    name: &'static str,
    operands: &Rc<Operands>,
    len: usize,
    work: Work<Operands>,
    in_order: fn(&Operands, &[f32]) -> Vec<f32>,
) -> Rung {
    let (operands, y) = (operands.clone(), (0..len).map(|_| f32::NAN).collect());
    Rung { name, program: Box::new(Function { operands, work, y, scratch: Scratch::default(), in_order }) }
}

/// `count` numbers in [-1, 1) that look like noise, others for every seed.
fn noise(count: usize, seed: u32) -> Floats {
    let word = |i: usize| (i as u32).wrapping_add(seed << 20).wrapping_add(1).wrapping_mul(2_654_435_761);
    (0..count)
        .map(|i| (word(i) ^ word(i) >> 15).wrapping_mul(0x85EB_CA6B) as i32 as f32 / 2f32.powi(31))
        .collect()
}

/// Loops without explicit vectors, compiled for those that this processor has: 16 lanes with
/// AVX-512, where the rest of a program has the four of every x86-64. The closure must be
/// `#[inline(always)]`, and so must be what it calls.
fn compiled(work: impl FnOnce()) {
    struct Loops<W>(W);
    impl<W: FnOnce()> Kernel for Loops<W> {
        type Output = ();
        #[inline(always)]
        fn run<S: Simd>(self, _: S) {
            (self.0)();
        }
    }
    Isa::detect().run(Loops(work));
}

/// The larger of two numbers; one that is none, so that it shows in the result.
#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if b > a || b.is_nan() { b } else { a }
}

/// The largest difference between a result and the exact one, as a share of the largest element;
/// infinite for numbers that are none.
pub fn error(result: &[f32], exact: &[f64]) -> f64 {
    assert_eq!(result.len(), exact.len(), "elements of the result");
    let largest = exact.iter().fold(0.0, |largest: f64, x| largest.max(x.abs()));
    let away = |(y, x): (&f32, &f64)| (f64::from(*y) - x).abs() / largest;
    let worst = |worst: f64, away: f64| if away.is_nan() { f64::INFINITY } else { worst.max(away) };
    result.iter().zip(exact).map(away).fold(0.0, worst)
}

impl Ladder {
    /// Runs every rung once and compares what it computes with the exact result.
    ///
    /// # Errors
    /// Names the first rung that is too far from it.
    pub fn check(&mut self) -> Result<(), String> {
        let exact = (self.exact)();
        for rung in &mut self.rungs {
            rung.program.run();
            let error = error(&rung.program.result(), &exact);
            if error > self.tolerance {
                let tolerance = self.tolerance;
                return Err(format!(
                    "{}, {}: off by {error:.1e}, not {tolerance:.0e}",
                    self.title, rung.name
                ));
            }
        }
        Ok(())
    }
}
