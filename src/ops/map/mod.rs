//! Elementwise functions, and what goes with them to compose layers of.
//!
//! Functions are of one operand ([`unary`]) or of two ([`binary`]); beside them are sums, means and
//! maxima over axes ([`reduce`]), their opposite ([`expand`]), and a constant factor ([`scale`]).
//!
//! A function is a row of the table of [`crate::kernels::function`] and a case of
//! `shaders/include/function.wgsl`: everything else, gradient and tests included, follows.

pub mod binary;
pub mod dropout;
pub mod expand;
pub mod reduce;
pub mod scale;
pub mod unary;
