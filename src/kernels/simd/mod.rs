//! The instruction sets the CPU kernels are compiled for, chosen at run time.
//!
//! A kernel is written once, as a [`Kernel`] generic over [`Simd`]; [`Isa::run`] compiles it for
//! every instruction set and calls the one in force. Everything a kernel calls must be
//! `#[inline(always)]`, so that it is compiled inside the function that enables the instruction
//! set: plain loops are then vectorised for it as well. An iterator's `for_each` is no plain loop:
//! it may become a function of its own, without the instruction set. The explicit vectors of
//! [`Simd`] are for the matrix kernel, and for loops that a compiler would not vectorise.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;

use std::fmt;
use std::str::FromStr;

/// A vector register of `f32` and the few operations that kernels with explicit vectors need.
pub trait Simd: Copy + Send + Sync {
    /// A register of [`Simd::LANES`] elements.
    type Vector: Copy;
    /// Elements in a vector.
    const LANES: usize;
    /// Rows of the register tile: `ROWS` x 2 accumulators, two columns and one broadcast fit the
    /// registers.
    const ROWS: usize;

    /// All elements 0.
    fn zero(self) -> Self::Vector;
    /// All elements `value`.
    fn splat(self, value: f32) -> Self::Vector;
    /// `a * b + c`.
    fn multiply_add(self, a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector;
    /// `low` or `high` for what lies outside of them; NaN stays NaN.
    fn clamp(self, value: Self::Vector, low: Self::Vector, high: Self::Vector) -> Self::Vector;
    /// `yes` where `a > b`, `no` elsewhere and where one of them is NaN.
    fn select_gt(self, a: Self::Vector, b: Self::Vector, yes: Self::Vector, no: Self::Vector)
    -> Self::Vector;
    /// `yes` where `a >= b`, `no` elsewhere and where one of them is NaN.
    fn where_at_least(
        self,
        a: Self::Vector,
        b: Self::Vector,
        yes: Self::Vector,
        no: Self::Vector,
    ) -> Self::Vector;
    /// # Safety
    /// `from` must be readable for `LANES` elements; no alignment is needed.
    unsafe fn load(self, from: *const f32) -> Self::Vector;
    /// # Safety
    /// `to` must be writable for `LANES` elements; no alignment is needed.
    unsafe fn store(self, to: *mut f32, value: Self::Vector);

    /// The first `count` elements, at most `LANES`, and zeros after them.
    ///
    /// # Safety
    /// `from` must be readable for `count` elements.
    #[inline(always)]
    unsafe fn load_first(self, from: *const f32, count: usize) -> Self::Vector {
        // SAFETY: whole vectors are the caller's; others are copied to one that is, of at most 16
        // lanes.
        unsafe {
            if count == Self::LANES {
                return self.load(from);
            }
            self.load(widened(from, count).as_ptr())
        }
    }

    /// The vector at the beginning of `values`, filled up with zeros if they are fewer.
    #[inline(always)]
    fn read(self, values: &[f32]) -> Self::Vector {
        // SAFETY: the slice holds as many elements as are loaded.
        unsafe { self.load_first(values.as_ptr(), values.len().min(Self::LANES)) }
    }

    /// Stores a vector at the beginning of `values`, as much of it as fits.
    #[inline(always)]
    fn write(self, values: &mut [f32], vector: Self::Vector) {
        // SAFETY: the slice holds as many elements as are stored.
        unsafe { self.store_first(values.as_mut_ptr(), values.len().min(Self::LANES), vector) }
    }

    /// Stores the first `count` elements, at most `LANES`.
    ///
    /// # Safety
    /// `to` must be writable for `count` elements.
    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, count: usize, value: Self::Vector) {
        // SAFETY: as in `load_first`.
        unsafe {
            if count == Self::LANES {
                return self.store(to, value);
            }
            let mut whole = [0.0f32; 16];
            self.store(whole.as_mut_ptr(), value);
            copy(&whole, to, count);
        }
    }
}

/// `count` elements, then zeros. Not inlined: the kernels should keep their size for whole vectors.
///
/// # Safety
/// `from` must be readable for `count` elements, at most 16.
#[inline(never)]
unsafe fn widened(from: *const f32, count: usize) -> [f32; 16] {
    let mut whole = [0.0f32; 16];
    // SAFETY: passed on from the caller.
    whole[..count].copy_from_slice(unsafe { std::slice::from_raw_parts(from, count) });
    whole
}

/// The first `count` elements of `whole`, to `to`.
///
/// # Safety
/// `to` must be writable for `count` elements, at most 16.
#[inline(never)]
unsafe fn copy(whole: &[f32; 16], to: *mut f32, count: usize) {
    // SAFETY: passed on from the caller.
    unsafe { std::slice::from_raw_parts_mut(to, count) }.copy_from_slice(&whole[..count]);
}

/// A computation that can be compiled for any instruction set.
pub trait Kernel {
    /// The result of the computation.
    type Output;
    /// Must be `#[inline(always)]`.
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

/// An instruction set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isa {
    /// AVX-512 F and VL of x86-64: 16 elements a vector.
    Avx512,
    /// AVX2 and FMA of x86-64: 8 elements a vector.
    Avx2,
    /// NEON of AArch64: 4 elements a vector.
    Neon,
    /// Plain Rust, 4 elements at a time: any machine.
    Portable,
}

impl Isa {
    const ALL: [Isa; 4] = [Isa::Avx512, Isa::Avx2, Isa::Neon, Isa::Portable];

    /// The widest instruction set of this processor.
    pub fn detect() -> Isa {
        Isa::available()[0]
    }

    /// Instruction sets that this processor can run, widest first; never empty.
    pub fn available() -> Vec<Isa> {
        Isa::ALL.into_iter().filter(|isa| isa.is_available()).collect()
    }

    fn is_available(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vl"),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => true,
            Isa::Portable => true,
            #[allow(unreachable_patterns)] // the sets of the other architectures
            _ => false,
        }
    }

    /// Columns of the matrix kernel's register tile: two vectors.
    pub fn tile_columns(self) -> usize {
        struct Columns;
        impl Kernel for Columns {
            type Output = usize;
            #[inline(always)]
            fn run<S: Simd>(self, _: S) -> usize {
                2 * S::LANES
            }
        }
        self.run(Columns)
    }

    /// Runs a kernel compiled for this instruction set.
    ///
    /// # Panics
    /// If the processor lacks the instruction set; [`Isa::from_str`] and [`Isa::detect`] never
    /// return such.
    pub fn run<K: Kernel>(self, kernel: K) -> K::Output {
        assert!(self.is_available());
        match self {
            // SAFETY: the assertion above checked that the processor has the features.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => unsafe { avx512::run(kernel) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => unsafe { avx2::run(kernel) },
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => kernel.run(neon::Neon),
            _ => kernel.run(portable::Portable),
        }
    }
}

impl FromStr for Isa {
    type Err = UnknownIsa;

    fn from_str(name: &str) -> Result<Isa, UnknownIsa> {
        let found = Isa::available().into_iter().find(|isa| isa.to_string() == name);
        found.ok_or_else(|| UnknownIsa(name.to_string()))
    }
}

/// The error of a name that is none of an instruction set of this processor.
#[derive(Debug, thiserror::Error)]
#[error("instruction set '{0}' is not one of {list}", list = available_names())]
pub struct UnknownIsa(String);

fn available_names() -> String {
    let names: Vec<String> = Isa::available().iter().map(Isa::to_string).collect();
    names.join(", ")
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Isa::Avx512 => "avx512",
            Isa::Avx2 => "avx2",
            Isa::Neon => "neon",
            Isa::Portable => "portable",
        })
    }
}
