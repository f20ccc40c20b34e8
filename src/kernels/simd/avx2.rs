//! AVX2 with FMA: 16 registers of 8 lanes; a 6 x 2 tile uses 12 for sums, two for columns, one
//! broadcast.

use std::arch::x86_64::*;

use super::{Kernel, Simd};

#[derive(Clone, Copy)]
pub struct Avx2;

/// # Safety
/// The processor must have AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
pub unsafe fn run<K: Kernel>(kernel: K) -> K::Output {
    kernel.run(Avx2)
}

impl Simd for Avx2 {
    type Vector = __m256;
    const LANES: usize = 8;
    const ROWS: usize = 6;

    #[inline(always)]
    fn zero(self) -> __m256 {
        // SAFETY: `Avx2` is used only inside `run`, whose caller vouched for the features.
        unsafe { _mm256_setzero_ps() }
    }

    #[inline(always)]
    fn splat(self, value: f32) -> __m256 {
        // SAFETY: as in `zero`.
        unsafe { _mm256_set1_ps(value) }
    }

    #[inline(always)]
    fn multiply_add(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        // SAFETY: as in `zero`.
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn clamp(self, value: __m256, low: __m256, high: __m256) -> __m256 {
        // SAFETY: as in `zero`. Of a NaN and a number, both instructions give their second operand.
        unsafe { _mm256_min_ps(high, _mm256_max_ps(low, value)) }
    }

    #[inline(always)]
    fn select_gt(self, a: __m256, b: __m256, yes: __m256, no: __m256) -> __m256 {
        // SAFETY: as in `zero`.
        unsafe { _mm256_blendv_ps(no, yes, _mm256_cmp_ps::<_CMP_GT_OQ>(a, b)) }
    }

    #[inline(always)]
    fn where_at_least(self, a: __m256, b: __m256, yes: __m256, no: __m256) -> __m256 {
        // SAFETY: as in `zero`.
        unsafe { _mm256_blendv_ps(no, yes, _mm256_cmp_ps::<_CMP_GE_OQ>(a, b)) }
    }

    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> __m256 {
        // SAFETY: as in `zero`; the caller vouches for the memory.
        unsafe { _mm256_loadu_ps(from) }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32, value: __m256) {
        // SAFETY: as in `zero`; the caller vouches for the memory.
        unsafe { _mm256_storeu_ps(to, value) }
    }
}
