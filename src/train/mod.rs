//! Training.

pub mod optimizer;
