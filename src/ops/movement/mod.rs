//! Ops that move values or make them, without arithmetic.

pub mod constant;
pub mod copy;
pub mod join;
pub mod reshape;
