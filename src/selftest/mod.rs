//! Checks that the ops are right on a device.
//!
//! There are cases for each of them ([`cases`]), and a way to run one ([`probe`]) and to hold it to
//! its reference and its derivative ([`mod@check`]); [`finding`] sums up those of an op.
//! `cifar-engine doctor` and the tests use it, the engine does not.

pub mod case;
pub mod cases;
pub mod check;
pub mod finding;
pub mod probe;
