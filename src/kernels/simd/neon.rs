//! NEON, part of every 64-bit Arm: 32 registers of 4 lanes; the 12 x 2 tile uses 24 for sums.

use std::arch::aarch64::*;

use super::Simd;

#[derive(Clone, Copy)]
pub struct Neon;

impl Simd for Neon {
    type Vector = float32x4_t;
    const LANES: usize = 4;
    const ROWS: usize = 12;

    #[inline(always)]
    fn zero(self) -> float32x4_t {
        self.splat(0.0)
    }

    #[inline(always)]
    fn splat(self, value: f32) -> float32x4_t {
        // SAFETY: every aarch64 target that this crate compiles for has NEON.
        unsafe { vdupq_n_f32(value) }
    }

    #[inline(always)]
    fn multiply_add(self, a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
        // SAFETY: as in `splat`.
        unsafe { vfmaq_f32(c, a, b) }
    }

    #[inline(always)]
    fn clamp(self, value: float32x4_t, low: float32x4_t, high: float32x4_t) -> float32x4_t {
        // SAFETY: as in `splat`. Of a NaN and a number, both instructions give the NaN.
        unsafe { vminq_f32(high, vmaxq_f32(low, value)) }
    }

    #[inline(always)]
    fn select_gt(self, a: float32x4_t, b: float32x4_t, yes: float32x4_t, no: float32x4_t) -> float32x4_t {
        // SAFETY: as in `splat`.
        unsafe { vbslq_f32(vcgtq_f32(a, b), yes, no) }
    }

    #[inline(always)]
    fn where_at_least(
        self,
        a: float32x4_t,
        b: float32x4_t,
        yes: float32x4_t,
        no: float32x4_t,
    ) -> float32x4_t {
        // SAFETY: as in `splat`.
        unsafe { vbslq_f32(vcgeq_f32(a, b), yes, no) }
    }

    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> float32x4_t {
        // SAFETY: as in `splat`; the caller vouches for the memory.
        unsafe { vld1q_f32(from) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32, value: float32x4_t) {
        // SAFETY: as in `splat`; the caller vouches for the memory.
        unsafe { vst1q_f32(to, value) }
    }
}
