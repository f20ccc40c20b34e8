//! Matrix products, and the sums over rows that are the gradients of their biases.
//!
//! [`tile`] is how GPUs compute the products of these and of [`crate::ops::conv`].

pub mod matmul;
pub mod sum_rows;
pub mod tile;
