//! The inside of a program.
//!
//! [`plan`] has its steps, and the lives of values in its memory, which `memory` draws; `forms` has
//! it for other programs and for browsers. [`trace`] is the time of each of its steps beside what
//! the machine could do, which `time_line` and `roofline` draw. `explain` tells what an op is, from
//! its formula to its kernels. `web` is all programs of a model as a page that runs them: it
//! predicts, trains, and checks its GPU. `replay` is a step of a training, with a picture of
//! every tensor in it.

#[cfg(feature = "cli")]
pub mod explain;
#[cfg(feature = "plots")]
pub mod forms;
#[cfg(feature = "plots")]
pub mod memory;
pub mod plan;
#[cfg(feature = "cli")]
pub mod replay;
#[cfg(feature = "plots")]
pub mod roofline;
#[cfg(feature = "plots")]
pub mod time_line;
pub mod trace;
#[cfg(feature = "plots")]
pub mod web;
