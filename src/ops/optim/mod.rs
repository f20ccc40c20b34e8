//! What an optimizer does to parameters, their gradients and averages.

pub mod adam;
pub mod moving_average;
pub mod sgd;
pub mod sum_squares;
