//! placeholder
pub mod data;
pub mod error;
pub mod kernels;
pub mod tensor;
