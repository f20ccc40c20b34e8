//! Charts, tables and pages: what a run leaves to look at.
//!
//! - [`metrics`]: one row an epoch, as CSV and as JSON lines.
//! - [`curves`]: loss and accuracy over the epochs, as a picture; [`comparison`] of several runs;
//!   [`rates`]: the loss over the learning rate.
//! - [`analysis`]: what the test set says about the model; [`run`] writes it as tables ([`csv`])
//!   and pictures ([`confusion`],
//!   [`samples`]) and as one [`page`] with everything.

pub mod analysis;
mod axis;
mod canvas;
mod chart;
pub mod comparison;
pub mod confusion;
pub mod csv;
pub mod curves;
mod font;
pub mod metrics;
pub mod page;
mod panel;
pub mod rates;
pub mod reading;
pub mod run;
pub mod samples;

pub use metrics::EpochMetrics;
pub use reading::Reading;
pub use run::RunReport;
pub use samples::Sample;
