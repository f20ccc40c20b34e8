//! placeholder
pub mod error;
pub mod files;
pub mod kernels;
pub mod tensor;
pub mod weights;
