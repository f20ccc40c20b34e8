//! Devices that run plans. A device owns the state (parameters, moments, statistics, the data set),
//! which all plans loaded on it share by name.

pub mod cpu;
mod fit;
pub mod gpu;
pub mod probe;
pub mod rules;

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::graph::plan::{Place, Plan, Port, Step};
use crate::graph::rewrite::{Rewrite, Rule, rewrite};
use crate::kernels::peak::Peak;
use crate::tensor::{DType, TensorType};

/// A plan loaded on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlanId {
    /// The device that loaded it.
    device: usize,
    number: usize,
}

/// A device's list of plans.
struct Plans<P> {
    /// No other device of the process has it.
    device: usize,
    list: Vec<P>,
}

impl<P> Plans<P> {
    fn new() -> Plans<P> {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        Plans { device: NEXT.fetch_add(1, Ordering::Relaxed), list: Vec::new() }
    }

    fn push(&mut self, plan: P) -> PlanId {
        self.list.push(plan);
        PlanId { device: self.device, number: self.list.len() - 1 }
    }

    fn get(&self, plan: PlanId) -> Result<&P> {
        self.list.get(plan.number).filter(|_| plan.device == self.device).ok_or_else(foreign)
    }

    fn get_mut(&mut self, plan: PlanId) -> Result<&mut P> {
        self.list.get_mut(plan.number).filter(|_| plan.device == self.device).ok_or_else(foreign)
    }
}

fn foreign() -> Error {
    Error::op("plan", "was loaded on another device")
}

/// Which inputs of a plan have ever been written, or need not be because no step reads them.
struct Written(Vec<bool>);

impl Written {
    fn none(plan: &Plan) -> Written {
        let is_read = |place: &Place| plan.steps.iter().any(|step| step.inputs.contains(place));
        let must_be = |port: &Port| matches!(port.place, Place::Slot(_)) && is_read(&port.place);
        Written(plan.inputs.iter().map(|port| !must_be(port)).collect())
    }

    fn note(&mut self, plan: &Plan, input: &str) {
        if let Some(index) = plan.inputs.iter().position(|port| port.name == input) {
            self.0[index] = true;
        }
    }

    /// Checks that all have.
    fn check(&self, plan: &Plan) -> Result<()> {
        match plan.inputs.iter().zip(&self.0).find(|(_, written)| !**written) {
            None => Ok(()),
            Some((port, _)) => Err(Error::op(&port.name, "is an input that nothing was written to")),
        }
    }
}

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
    /// What it is, for people: `cpu, 2 threads, avx512`.
    fn name(&self) -> String;

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

    /// Plans a graph and prepares the plan: allocates its memory, creates (zeroed) the state that
    /// does not exist yet.
    ///
    /// # Errors
    /// If a state exists with another type, or there is too little memory.
    fn load(&mut self, graph: &Graph) -> Result<PlanId> {
        self.load_plan(self.plan(graph)?)
    }

    /// [`Device::load`] for a plan as it is.
    ///
    /// # Errors
    /// As for [`Device::load`]; if an op of the plan cannot be computed on this device.
    fn load_plan(&mut self, plan: Plan) -> Result<PlanId>;

    /// Runs a plan once. The run may not have ended when this returns; whatever is asked next waits
    /// for it.
    ///
    /// # Errors
    /// If an input was never written, or the device fails.
    fn run(&mut self, plan: PlanId) -> Result<()>;

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
    fn peak(&mut self) -> Option<Peak> {
        None
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

    /// Writes a state.
    ///
    /// # Errors
    /// If no loaded plan has such a state, or its type or length differ.
    fn write_state(&mut self, name: &str, data: Data) -> Result<()>;

    /// Reads an `f32` state.
    ///
    /// # Errors
    /// If no loaded plan has such a state, or it is none of `f32`.
    fn read_state(&self, name: &str) -> Result<Vec<f32>>;

    /// Reads a `u32` state.
    ///
    /// # Errors
    /// If no loaded plan has such a state, or it is none of `u32`.
    fn read_state_u32(&self, name: &str) -> Result<Vec<u32>>;
}

/// The states of a device: their numbers, by name.
#[derive(Default)]
struct Names(HashMap<String, (usize, TensorType)>);

impl Names {
    /// The number of a state; the next one if the name is new.
    fn number(&mut self, name: &str, ty: &TensorType) -> Result<usize> {
        let next = self.0.len();
        match self.0.get(name) {
            Some((number, known)) if known == ty => Ok(*number),
            Some((_, known)) => Err(Error::op(name, format!("is {known} on the device, not {ty}"))),
            None => {
                self.0.insert(name.to_string(), (next, ty.clone()));
                Ok(next)
            }
        }
    }

    fn find(&self, name: &str) -> Result<(usize, &TensorType)> {
        let known = self.0.get(name).map(|(number, ty)| (*number, ty));
        known.ok_or_else(|| Error::op(name, "is no state of a loaded plan"))
    }

    /// The same of a state of this type.
    fn find_of(&self, name: &str, dtype: DType) -> Result<(usize, &TensorType)> {
        let (number, ty) = self.find(name)?;
        match ty.dtype == dtype {
            true => Ok((number, ty)),
            false => Err(Error::op(name, format!("is {ty} and cannot be read as {dtype:?}"))),
        }
    }
}

fn port<'a>(ports: &'a [Port], name: &str) -> Result<&'a Port> {
    let port = ports.iter().find(|port| port.name == name);
    port.ok_or_else(|| Error::op(name, "is no input or output of the plan"))
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
