//! CPU building blocks that know no op.
pub mod rng;
