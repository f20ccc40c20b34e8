//! CPU building blocks that know no op: plain slices in, plain slices out.
//!
//! Read [`brgemm`] first: convolutions and matrix products are all loops around its one register
//! tile.

#![warn(missing_docs)]

pub mod batch_norm;
pub mod batch_norm_pool;
pub mod brgemm;
pub mod conv;
pub mod depthwise;
pub mod elementwise;
pub mod function;
pub mod input;
pub mod matmul;
pub mod parallel;
pub mod peak;
pub mod pointwise;
pub mod pool;
pub mod real;
pub mod reduce;
pub mod resize;
pub mod rng;
pub mod rows;
pub mod scaling;
pub mod separable;
pub mod simd;
pub mod winograd;

/// The text of this crate's own files, for programs that show it.
#[cfg(feature = "sources")]
pub static SOURCES: include_dir::Dir<'static> = include_dir::include_dir!("$CARGO_MANIFEST_DIR");
