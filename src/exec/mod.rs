//! Devices that run plans; [`stepwise`] runs one step at a time.
//!
//! A plan that is loaded has states (parameters, moments, statistics, the data set) of its own. A
//! plan that is loaded *beside* it has the same ones, by their names: the evaluation of a model
//! beside its training. So any number of models live on one device, and none touches another's.

pub mod choice;
pub mod contact;
pub mod cpu;
pub mod device;
pub mod epilogue_rules;
mod fit;
pub mod gathered_rules;
#[cfg(feature = "gpu")]
pub mod gpu;
pub mod launches;
pub mod limits;
#[cfg(any(test, doc, not(feature = "gpu")))]
pub mod no_gpu;
pub mod plan;
mod plans;
mod precision;
pub mod rules;
pub mod stepwise;

#[cfg(not(feature = "gpu"))]
pub use no_gpu as gpu;
pub use plans::PlanId;
pub use precision::Precision;

use crate::error::{Error, Result};
use crate::exec::plan::{Plan, Step};
use crate::graph::Graph;
use crate::graph::rewrite::{Rewrite, Rule, rewrite};
use crate::kernels::peak::Peak;
use crate::tensor::{DType, TensorType};

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

/// Something that runs plans. It may move to another thread.
pub trait Device: Send {
    /// The device in words: `cpu, 2 threads, avx512`.
    fn name(&self) -> String;

    /// How it stores what the steps of its plans hand to each other.
    fn precision(&self) -> Precision {
        Precision::F32
    }

    /// The rules by which it rewrites a graph before it plans it.
    fn rules(&self) -> &'static [&'static Rule];

    /// The graph as this device runs it, and what its rules did to it.
    ///
    /// # Errors
    /// None but those of [`Graph::apply`] for the nodes that the rules add.
    fn rewrite(&self, graph: &Graph) -> Result<(Graph, Vec<Rewrite>)> {
        let mut graph = graph.clone();
        let rewrites = rewrite(&mut graph, self.rules())?;
        Ok((graph, rewrites))
    }

    /// The plan that this device makes of a graph.
    ///
    /// # Errors
    /// As for [`Device::rewrite`].
    fn plan(&self, graph: &Graph) -> Result<Plan> {
        Plan::compile(&self.rewrite(graph)?.0)
    }

    /// Plans a graph and prepares the plan: allocates its memory, and its states, as zeros.
    ///
    /// # Errors
    /// If there is too little memory.
    fn load(&mut self, graph: &Graph) -> Result<PlanId> {
        self.load_plan(self.plan(graph)?, None)
    }

    /// [`Device::load`] with the states of a plan that is loaded already: those of the same name
    /// are the same, the others are added to them.
    ///
    /// # Errors
    /// As for [`Device::load`]; if there is a state of the same name and another type.
    fn load_beside(&mut self, beside: PlanId, graph: &Graph) -> Result<PlanId> {
        self.load_plan(self.plan(graph)?, Some(beside))
    }

    /// [`Device::load`] for a plan as it is, [`Device::load_beside`] if there is a plan `beside`.
    ///
    /// # Errors
    /// As for these; if an op of the plan cannot be computed on this device.
    fn load_plan(&mut self, plan: Plan, beside: Option<PlanId>) -> Result<PlanId>;

    /// Gives back the memory of a plan, and of its states with the last plan that has them.
    ///
    /// # Errors
    /// If it is no plan of this device, or not any more; or the device fails.
    fn unload(&mut self, plan: PlanId) -> Result<()>;

    /// Runs a plan once. The run may not have ended when this returns; whatever is asked next waits
    /// for it.
    ///
    /// # Errors
    /// If an input, or a state that the plan only reads, was never written, or the device fails.
    fn run(&mut self, plan: PlanId) -> Result<()>;

    /// Runs a plan once, and tells these `f32` outputs, by their place in the list: each once, as
    /// soon as it is computed, where the device can tell.
    ///
    /// # Errors
    /// As for [`Device::run`]; if there is no such output.
    fn run_telling(
        &mut self,
        plan: PlanId,
        outputs: &[&str],
        tell: &mut (dyn FnMut(usize, &[f32]) + Send),
    ) -> Result<()> {
        self.run(plan)?;
        for (number, output) in outputs.iter().enumerate() {
            tell(number, &self.read(plan, output)?);
        }
        Ok(())
    }

    /// Launches of each run of a plan, on a device whose work is made of such.
    ///
    /// # Errors
    /// If the plan is not loaded.
    #[allow(unused_variables)] // their names are read in the documentation
    fn launches(&self, plan: PlanId) -> Result<Option<usize>> {
        Ok(None)
    }

    /// Bytes that a plan's runs need: slots, state and scratch.
    fn planned_bytes(&self, plan: &Plan) -> usize;

    /// Runs a plan once, one step after the other, and tells how many seconds each step took; steps
    /// that need not run again ([`Plan::constants`]) may be left out.
    ///
    /// # Errors
    /// If the device fails.
    fn profile(&mut self, plan: PlanId, visit: &mut dyn FnMut(usize, &Step, f64)) -> Result<()>;

    /// The limits of the machine that a step's time can be compared with, measured, where that is
    /// known how to do: half a second.
    ///
    /// # Errors
    /// If the device fails.
    fn peak(&mut self) -> Result<Option<Peak>> {
        Ok(None)
    }

    /// Asks that from now on every run of a plan keeps these `f32` outputs for [`Device::collect`].
    ///
    /// # Errors
    /// If there is no such output.
    fn record(&mut self, plan: PlanId, outputs: &[&str]) -> Result<()>;

    /// Hands over what the runs of a plan recorded, oldest first, each run once: its outputs one
    /// after the other in one slice. Unless `all` are asked for, only those of runs that have
    /// ended: a loop that collects after every run never waits for the device, and hears of every
    /// run a little later.
    ///
    /// # Errors
    /// If the device fails.
    fn collect(&mut self, plan: PlanId, all: bool, visit: &mut dyn FnMut(&[f32])) -> Result<()>;

    /// Waits until all runs have ended.
    ///
    /// # Errors
    /// If the device fails.
    fn wait(&self) -> Result<()>;

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

    /// [`Device::read`] into memory of the caller's.
    ///
    /// # Errors
    /// As for [`Device::read`]; if the output has another length.
    fn read_into(&self, plan: PlanId, output: &str, to: &mut [f32]) -> Result<()>;

    /// Writes a state of a plan, and so of those that share its states.
    ///
    /// # Errors
    /// If these plans have no such state, or its type or length differ.
    fn write_state(&mut self, plan: PlanId, name: &str, data: Data) -> Result<()>;

    /// Reads an `f32` state of a plan, or of one that shares its states.
    ///
    /// # Errors
    /// If these plans have no such state, or it is none of `f32`.
    fn read_state(&self, plan: PlanId, name: &str) -> Result<Vec<f32>>;

    /// Reads a `u32` state of a plan, or of one that shares its states.
    ///
    /// # Errors
    /// If these plans have no such state, or it is none of `u32`.
    fn read_state_u32(&self, plan: PlanId, name: &str) -> Result<Vec<u32>>;
}

/// Copies an output to where the caller wants it.
fn copy_out(name: &str, values: &[f32], to: &mut [f32]) -> Result<()> {
    let (len, wanted) = (values.len(), to.len());
    if len != wanted {
        return Err(Error::op(name, format!("has {len} values, not {wanted}")));
    }
    to.copy_from_slice(values);
    Ok(())
}

/// Checks that `data` is what a tensor of this type takes.
fn check(name: &str, ty: &TensorType, data: Data) -> Result<()> {
    let (dtype, len) = match data {
        Data::F32(data) => (DType::F32, data.len()),
        Data::U32(data) => (DType::U32, data.len()),
    };
    match dtype == ty.dtype && len == ty.len() {
        true => Ok(()),
        false => Err(Error::op(name, format!("is {ty}, but {len} values of {dtype:?} were written to it"))),
    }
}
