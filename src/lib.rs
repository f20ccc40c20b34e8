//! placeholder
pub mod error;
pub mod files;
pub mod kernels;
pub mod report;
pub mod tensor;
pub mod weights;
