//! Charts, tables and pages: what a run leaves to look at.
//!
//! - [`metrics`]: one row an epoch, as CSV and as JSON lines; [`norms`]: one for each parameter
//!   too.
//! - [`curves`]: loss and accuracy over the epochs, as a picture; [`comparison`] of several runs;
//!   [`rates`]: the loss over the learning rate.
//! - [`analysis`] and [`measures`]: what the test set says about the model; [`wrong_labels`]: and
//!   about its labels; [`run`] writes it as tables ([`csv`]) and pictures ([`confusion`],
//!   [`samples`]) and as one [`page`] with everything. [`sheet`]: images in rows.
//!
//! Pages that do more than show have scripts in them (`scripted`).
//!
//! Without the feature `plots` there are the tables only.

pub mod analysis;
#[cfg(feature = "plots")]
pub(crate) mod axis;
#[cfg(feature = "plots")]
mod canvas;
#[cfg(feature = "plots")]
mod chart;
#[cfg(feature = "plots")]
pub mod comparison;
#[cfg(feature = "plots")]
pub mod confusion;
pub mod csv;
#[cfg(feature = "plots")]
pub mod curves;
#[cfg(feature = "plots")]
mod font;
pub mod measures;
pub mod metrics;
pub mod norms;
#[cfg(feature = "plots")]
pub mod page;
#[cfg(feature = "plots")]
mod panel;
#[cfg(feature = "plots")]
pub mod rates;
pub mod reading;
pub mod run;
#[cfg(feature = "plots")]
pub mod samples;
#[cfg(feature = "plots")]
pub(crate) mod scripted;
#[cfg(feature = "plots")]
pub mod sheet;
#[cfg(feature = "tensorboard")]
pub mod tensorboard;
pub mod wrong_labels;

pub use measures::Measures;
pub use metrics::{EpochMetrics, Trial};
pub use reading::Reading;
pub use run::RunReport;
#[cfg(feature = "plots")]
pub use samples::Sample;
