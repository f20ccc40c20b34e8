//! Sums, means and maxima over the middle axis of `[before, along, after]`.
//!
//! They are computed in `f64`: an element of the result does not lose digits, however many it is
//! made of.

use super::elementwise::ITEM;
use super::parallel;
use super::simd::{Isa, Kernel, Simd};

/// A reduction: its start, the step for each element, and the factor of the outcome.
#[derive(Clone, Copy)]
pub struct Reduction<F> {
    /// The result of no element.
    pub start: f64,
    /// Total and element to the next total.
    pub join: F,
    /// A factor of the total.
    pub scale: f64,
}

/// `y [before, after]` = the reduction of `x [before, along, after]` over `along`.
pub fn reduce<F>(isa: Isa, [along, after]: [usize; 2], reduction: Reduction<F>, x: &[f32], y: &mut [f32])
where
    F: Fn(f64, f64) -> f64 + Copy + Sync,
{
    let item = (ITEM / along.max(1)).max(1).next_multiple_of(COLUMNS);
    let share = parallel::share(y.len(), COLUMNS).min(item);
    parallel::for_each(y.chunks_mut(share).enumerate(), &mut [], 0, |(i, y), _| {
        isa.run(Columns { along, after, reduction, x, y, first: i * share });
    });
}

/// Neighbouring results that are computed together: their elements lie side by side.
const COLUMNS: usize = 16;

struct Columns<'a, F> {
    along: usize,
    after: usize,
    reduction: Reduction<F>,
    x: &'a [f32],
    /// Results from number `first` on.
    y: &'a mut [f32],
    first: usize,
}

impl<F: Fn(f64, f64) -> f64 + Copy> Kernel for Columns<'_, F> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Columns { along, after, reduction: Reduction { start, join, scale }, x, mut y, mut first } = self;
        while !y.is_empty() {
            let column = first % after;
            let (now, later) = y.split_at_mut(COLUMNS.min(after - column).min(y.len()));
            let from = first / after * along * after + column;
            let mut totals = [start; COLUMNS];
            for row in 0..along {
                let x = &x[from + row * after..][..now.len()];
                for (total, x) in totals.iter_mut().zip(x) {
                    *total = join(*total, f64::from(*x));
                }
            }
            for (y, total) in now.iter_mut().zip(totals) {
                *y = (total * scale) as f32;
            }
            first += now.len();
            y = later;
        }
    }
}
