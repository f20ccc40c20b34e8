//! What moves values or makes them, and computes none.

pub mod constant;
pub mod copy;
pub mod join;
pub mod reshape;
