//! Matrix products, and the sums over rows that are the gradients of their biases.
//!
//! [`tile`] is how GPUs compute the products of these and of [`crate::ops::conv`]; [`other_tiles`]
//! are those that a product could have instead.

pub mod matmul;
pub mod other_tiles;
pub mod sum_rows;
pub mod tile;
