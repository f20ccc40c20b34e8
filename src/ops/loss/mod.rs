//! Losses, and the scores that come with them.

pub mod softmax_cross_entropy;
pub mod softmax_cross_entropy_grad;
