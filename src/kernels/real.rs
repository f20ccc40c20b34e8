//! Elementary functions, of `f32` for kernels and of `f64` for references.
//!
//! Those of `f32` are written so that the compiler turns them into vector instructions; those of
//! `f64` are the ones that the standard library and `libm` have. Both through [`Real`], so that a
//! formula is written once.

use std::ops::{Add, Div, Mul, Neg, Sub};

/// Numbers that formulas of elementwise functions are written over.
pub trait Real:
    Copy
    + PartialOrd
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
{
    /// A constant.
    fn of(value: f64) -> Self;
    /// The absolute value.
    fn abs(self) -> Self;
    /// The square root; NaN below 0.
    fn sqrt(self) -> Self;
    /// e to this power.
    fn exp(self) -> Self;
    /// The natural logarithm; NaN below 0.
    fn ln(self) -> Self;
    /// The hyperbolic tangent.
    fn tanh(self) -> Self;
    /// The error function.
    fn erf(self) -> Self;

    /// The nearest value between two ends; NaN stays NaN.
    #[inline(always)]
    fn between(self, low: f64, high: f64) -> Self {
        let from_below = if self < Self::of(low) { Self::of(low) } else { self };
        if from_below > Self::of(high) { Self::of(high) } else { from_below }
    }

    /// `1 / (1 + exp(-x))`.
    #[inline(always)]
    fn sigmoid(self) -> Self {
        Self::of(1.0) / (Self::of(1.0) + (-self).exp())
    }

    /// 1 where `condition` holds, else 0.
    #[inline(always)]
    fn indicator(condition: bool) -> Self {
        if condition { Self::of(1.0) } else { Self::of(0.0) }
    }
}

impl Real for f64 {
    fn of(value: f64) -> f64 {
        value
    }
    fn abs(self) -> f64 {
        f64::abs(self)
    }
    fn sqrt(self) -> f64 {
        f64::sqrt(self)
    }
    fn exp(self) -> f64 {
        f64::exp(self)
    }
    fn ln(self) -> f64 {
        f64::ln(self)
    }
    fn tanh(self) -> f64 {
        f64::tanh(self)
    }
    fn erf(self) -> f64 {
        libm::erf(self)
    }
}

impl Real for f32 {
    #[inline(always)]
    fn of(value: f64) -> f32 {
        value as f32
    }
    #[inline(always)]
    fn abs(self) -> f32 {
        f32::abs(self)
    }
    #[inline(always)]
    fn sqrt(self) -> f32 {
        f32::sqrt(self)
    }
    #[inline(always)]
    fn exp(self) -> f32 {
        exp(self)
    }
    #[inline(always)]
    fn ln(self) -> f32 {
        f32::ln(self)
    }
    #[inline(always)]
    fn tanh(self) -> f32 {
        tanh(self)
    }
    #[inline(always)]
    fn erf(self) -> f32 {
        erf(self)
    }
}

/// Beyond these, `exp` is infinite or 0 (below the smallest normal number).
const EXP_RANGE: [f32; 2] = [-87.3365, 88.7228];

/// `e^x = 2^k e^r` with a polynomial for `e^r` on `|r| <= ln 2 / 2` (Cephes, `expf`); error below 2
/// units in the last place.
#[inline(always)]
fn exp(x: f32) -> f32 {
    // ln 2 in two parts, of which the first has so few digits that `k` times it is exact.
    const LN2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
    // To add and take away this rounds to a whole number, which the sum has in its last bits: they
    // are read from there, as a conversion would be no vector instruction (it also serves NaN).
    const ROUND: f32 = 12_582_912.0;
    let inside = x.clamp(EXP_RANGE[0], EXP_RANGE[1]);
    let rounded = inside * std::f32::consts::LOG2_E + ROUND;
    let (k, whole) = (rounded - ROUND, rounded.to_bits() as i32 - ROUND.to_bits() as i32);
    let r = (inside - k * LN2[0]) - k * LN2[1];
    let mut p = 1.987_569_1e-4;
    for coefficient in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        p = p * r + coefficient;
    }
    let y = p * r * r + r + 1.0;
    // 2^128 is no f32, so in two halves.
    let half = whole / 2;
    let power = |k: i32| f32::from_bits(((k + 127) << 23) as u32);
    let y = y * power(half) * power(whole - half);
    if x > EXP_RANGE[1] {
        f32::INFINITY
    } else if x < EXP_RANGE[0] {
        0.0
    } else {
        y
    }
}

/// Near 0 a polynomial (Cephes, `tanhf`), elsewhere by `exp`.
#[inline(always)]
fn tanh(x: f32) -> f32 {
    let (size, z) = (x.abs(), x * x);
    let mut p = -5.704_988_7e-3;
    for coefficient in [2.063_909e-2, -5.373_971_6e-2, 1.333_144_2e-1, -3.333_328e-1] {
        p = p * z + coefficient;
    }
    let small = p * z * x + x;
    let large = (1.0 - 2.0 / (exp(2.0 * size) + 1.0)).copysign(x);
    if size < 0.625 { small } else { large }
}

/// Abramowitz and Stegun (1964), 7.1.26; absolute error below 2e-7.
#[inline(always)]
fn erf(x: f32) -> f32 {
    let size = x.abs();
    let t = 1.0 / (1.0 + 0.327_591_1 * size);
    let mut p = 1.061_405_4;
    for coefficient in [-1.453_152, 1.421_413_7, -0.284_496_74, 0.254_829_6] {
        p = p * t + coefficient;
    }
    (1.0 - p * t * exp(-size * size)).copysign(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The largest error of a function over a range, relative where the value is large.
    fn error(f: fn(f32) -> f32, exact: fn(f64) -> f64, low: f32, high: f32) -> f64 {
        let steps = 200_000;
        let x = |i: usize| low + (high - low) * i as f32 / steps as f32;
        let error = |x: f32| {
            let expected = exact(f64::from(x));
            (f64::from(f(x)) - expected).abs() / expected.abs().max(f64::from(f32::MIN_POSITIVE))
        };
        (0..=steps).map(|i| error(x(i))).fold(0.0, f64::max)
    }

    #[test]
    fn functions_are_as_exact_as_they_say() {
        assert!(error(exp, f64::exp, -87.0, 88.7) < 2.4e-7);
        assert!(error(tanh, f64::tanh, -20.0, 20.0) < 4e-7);
        assert!(error(|x| 1.0 + erf(x), |x| 1.0 + libm::erf(x), -1.0, 6.0) < 2e-6);
    }

    #[test]
    fn ends_and_nan_are_told() {
        assert_eq!(
            [exp(f32::NEG_INFINITY), exp(-200.0), exp(0.0), exp(100.0)],
            [0.0, 0.0, 1.0, f32::INFINITY]
        );
        assert_eq!(
            [tanh(-100.0), tanh(0.0), tanh(f32::INFINITY), erf(-9.0), erf(9.0)],
            [-1.0, 0.0, 1.0, -1.0, 1.0]
        );
        assert!(
            [exp(f32::NAN), tanh(f32::NAN), erf(f32::NAN), f32::NAN.between(0.0, 6.0)]
                .iter()
                .all(|y| y.is_nan())
        );
    }
}
