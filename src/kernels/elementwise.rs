//! Elementwise loops: one formula for every element, of one tensor or of two.

use super::parallel;
use super::rows::BLOCK;
use super::simd::{Isa, Kernel, Simd};

/// Elements of an item of work.
pub(super) const ITEM: usize = 16 * BLOCK;

struct Each<'a, F> {
    y: &'a mut [f32],
    f: F,
}

impl<F: Fn(f32) -> f32> Kernel for Each<'_, F> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        for y in self.y {
            *y = (self.f)(*y);
        }
    }
}

/// `y = f(y)` for every element.
pub fn each(isa: Isa, y: &mut [f32], f: impl Fn(f32) -> f32 + Copy + Sync) {
    parallel::for_each(y.chunks_mut(ITEM), &mut [], 0, |y, _| isa.run(Each { y, f }));
}

/// `y = y + x` for a few elements.
pub struct AddTo<'a> {
    /// Sums.
    pub y: &'a mut [f32],
    /// Summands, as many.
    pub x: &'a [f32],
}

impl Kernel for AddTo<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        for (y, x) in self.y.iter_mut().zip(self.x) {
            *y += x;
        }
    }
}

/// An operand of [`rows_with`].
#[derive(Clone, Copy)]
pub enum RowOperand<'a> {
    /// An operand of the output's shape.
    Whole(&'a [f32]),
    /// One row, the same for all.
    Row(&'a [f32]),
    /// One value, the same for all.
    Value(f32),
}

impl<'a> RowOperand<'a> {
    fn part(self, from: usize, len: usize) -> RowOperand<'a> {
        match self {
            RowOperand::Whole(values) => RowOperand::Whole(&values[from..from + len]),
            other => other,
        }
    }

    /// Columns `from..` of row `row` and so on, where whole operands have `columns`.
    #[inline(always)]
    fn row(self, row: usize, columns: usize) -> RowOperand<'a> {
        match self {
            RowOperand::Whole(values) => RowOperand::Row(&values[row * columns..][..columns]),
            other => other,
        }
    }
}

struct RowsWith<'a, F> {
    y: &'a mut [f32],
    operands: [RowOperand<'a>; 2],
    columns: usize,
    f: F,
}

impl<F: Fn(f32, f32) -> f32> Kernel for RowsWith<'_, F> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let RowsWith { y, operands, columns, f } = self;
        for (row, y) in y.chunks_exact_mut(columns).enumerate() {
            match operands.map(|operand| operand.row(row, columns)) {
                [RowOperand::Row(a), RowOperand::Row(b)] => {
                    for (y, (a, b)) in y.iter_mut().zip(a.iter().zip(b)) {
                        *y = f(*a, *b);
                    }
                }
                [RowOperand::Row(a), RowOperand::Value(b)] => {
                    for (y, a) in y.iter_mut().zip(a) {
                        *y = f(*a, b);
                    }
                }
                [RowOperand::Value(a), RowOperand::Row(b)] => {
                    for (y, b) in y.iter_mut().zip(b) {
                        *y = f(a, *b);
                    }
                }
                [RowOperand::Value(a), RowOperand::Value(b)] => y.fill(f(a, b)),
                _ => {}
            }
        }
    }
}

/// `y = f(a, b)` for every element of rows of so many columns.
pub fn rows_with(
    isa: Isa,
    y: &mut [f32],
    operands: [RowOperand; 2],
    columns: usize,
    f: impl Fn(f32, f32) -> f32 + Copy + Sync,
) {
    let item = (ITEM / columns).max(1) * columns;
    parallel::for_each(y.chunks_mut(item).enumerate(), &mut [], 0, |(i, y), _| {
        let operands = operands.map(|operand| operand.part(i * item, y.len()));
        isa.run(RowsWith { y, operands, columns, f });
    });
}
