//! Changes of the size of images without weights: pooling, and resizing.

pub mod max_pool;
pub mod max_pool_grad;
pub mod resize;
