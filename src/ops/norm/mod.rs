//! Normalisation over a batch: the statistics, what uses them, and what the rules of the devices
//! make of it and of its neighbours.

pub mod batch_norm;
pub mod batch_norm_grad;
pub mod batch_norm_infer;
pub mod batch_norm_max_pool;
pub mod batch_norm_max_pool_grad;
pub mod fold_batch_norm;
pub mod moments;
pub mod scale_shift;
