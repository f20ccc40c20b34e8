//! What a run leaves to look at: the table of its figures, its curves, and sheets of samples.
//!
//! - [`metrics`]: one row an epoch, as CSV.
//! - [`curves`]: loss and accuracy over the epochs, as a picture.
//! - [`rates`]: the loss over the learning rate, as a picture.
//! - [`samples`]: pictures with what was predicted for them.

mod axis;
mod canvas;
pub mod curves;
mod font;
pub mod metrics;
mod panel;
pub mod rates;
pub mod samples;

pub use metrics::EpochMetrics;
pub use samples::Sample;
