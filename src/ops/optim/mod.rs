//! Updates of parameters, of their gradients and averages: what optimizers are made of.

pub mod adam;
pub mod clip;
pub mod moving_average;
pub mod sgd;
pub mod sum_squares;
pub mod unscale;
