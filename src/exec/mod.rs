//! Devices that run plans. A device owns the state (parameters, moments, statistics, the data set), which
//! all plans loaded on it share by name.

pub mod cpu;

use crate::error::Result;
use crate::graph::plan::Plan;

/// A plan loaded on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlanId(pub(crate) usize);

/// Values on their way to or from a device.
#[derive(Clone, Copy, Debug)]
pub enum Data<'a> {
    /// Numbers.
    F32(&'a [f32]),
    /// Labels, indices, seeds, and pixels (four to a value).
    U32(&'a [u32]),
}

impl<'a> From<&'a [f32]> for Data<'a> {
    fn from(data: &'a [f32]) -> Self {
        Data::F32(data)
    }
}

impl<'a> From<&'a [u32]> for Data<'a> {
    fn from(data: &'a [u32]) -> Self {
        Data::U32(data)
    }
}

/// Something that runs plans.
pub trait Device {
    /// Prepares a plan: allocates its memory, creates (zeroed) the state that does not exist yet.
    ///
    /// # Errors
    /// If a state exists with another type.
    fn load(&mut self, plan: Plan) -> Result<PlanId>;

    /// Runs a plan once.
    ///
    /// # Errors
    /// If the device fails.
    fn run(&mut self, plan: PlanId) -> Result<()>;

    /// Writes an input of a plan.
    ///
    /// # Errors
    /// If there is no such input, or its type or length differ.
    fn write(&mut self, plan: PlanId, input: &str, data: Data) -> Result<()>;

    /// Reads an `f32` output of a plan, as of its last run.
    ///
    /// # Errors
    /// If there is no such output.
    fn read(&self, plan: PlanId, output: &str) -> Result<Vec<f32>>;

    /// Writes a state.
    ///
    /// # Errors
    /// If no loaded plan has such a state, or its type or length differ.
    fn write_state(&mut self, name: &str, data: Data) -> Result<()>;

    /// Reads an `f32` state.
    ///
    /// # Errors
    /// If no loaded plan has such a state.
    fn read_state(&self, name: &str) -> Result<Vec<f32>>;
}
