//! What changes the size of images without weights: pooling, and resizing.

pub mod global_average_pool;
pub mod global_average_pool_grad;
pub mod max_pool;
pub mod max_pool_grad;
pub mod resize;
