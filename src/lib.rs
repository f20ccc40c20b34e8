//! placeholder
pub mod error;
pub mod kernels;
pub mod tensor;
