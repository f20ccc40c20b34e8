//! placeholder
pub mod cli;
pub mod data;
pub mod error;
pub mod exec;
pub mod files;
pub mod graph;
pub mod kernels;
pub mod models;
pub mod nn;
pub mod ops;
pub mod report;
pub mod tensor;
pub mod train;
pub mod weights;
