//! Changes of the size of images without weights: pooling, and resizing.

pub mod max_pool;
pub mod max_pool_grad;
pub mod max_pool_places;
pub mod max_pool_places_grad;
pub mod resize;
