//! A graph on a device of its own, with arrays of `ndarray` for what goes in and what comes out.

use ndarray::{ArrayBase, ArrayD, ArrayView, Data as Stored, DataMut, Dimension, IxDyn, arr1};

use crate::error::{Error, Result};
use crate::exec::plan::{IoBinding, Plan};
use crate::exec::{Data, Device, PlanId};
use crate::graph::Graph;
use crate::nn::Parameter;
use crate::tensor::{DType, TensorType};

/// A graph that is loaded on a device. Inputs, states and outputs go by their names.
///
/// ```
/// use cifar_engine::prelude::*;
/// use ndarray::array;
///
/// let mut graph = Graph::new();
/// let x = graph.input("x", TensorType::f32([2, 2]));
/// let y = graph.matmul(x, x)?;
/// graph.output("y", y);
/// let mut program = Program::new(&graph, device::cpu()?)?;
/// program.write("x", &array![[1.0, 1.0], [0.0, 1.0]])?;
/// program.run()?;
/// assert_eq!(program.read("y")?, array![[1.0, 2.0], [0.0, 1.0]].into_dyn());
/// # Ok::<(), Error>(())
/// ```
pub struct Program {
    device: Box<dyn Device>,
    plan: PlanId,
    planned: Plan,
    inputs: Vec<(String, TensorType)>,
    states: Vec<(String, TensorType)>,
    outputs: Vec<(String, TensorType)>,
    /// Whether there are outputs to read.
    has_run: bool,
    /// How often [`Program::step`] has run it.
    steps: u32,
}

/// A number of a tensor: `f32`, or `u32` for labels, indices and seeds.
pub trait Element: Copy {
    /// The numbers as a device takes them.
    fn data(values: &[Self]) -> Data<'_>;
}

impl Element for f32 {
    fn data(values: &[f32]) -> Data<'_> {
        Data::F32(values)
    }
}

impl Element for u32 {
    fn data(values: &[u32]) -> Data<'_> {
        Data::U32(values)
    }
}

impl Program {
    /// A program of this graph: planned by the device's rules, its memory allocated.
    ///
    /// # Errors
    /// If there is too little memory, or the device cannot compute an op.
    pub fn new(graph: &Graph, mut device: Box<dyn Device>) -> Result<Program> {
        let plan = device.plan(graph)?;
        let named = |bindings: &[IoBinding]| {
            bindings.iter().map(|io| (io.name.clone(), io.ty.clone())).collect::<Vec<_>>()
        };
        let (inputs, outputs, states) = (named(&plan.inputs), named(&plan.outputs), plan.states.clone());
        let planned = plan.clone();
        let plan = device.load_plan(plan, None)?;
        Ok(Program { device, plan, planned, inputs, states, outputs, has_run: false, steps: 0 })
    }

    /// Writes an input or a state: an array of its shape, whatever its order in memory. An input
    /// stays until it is written again; a state until then, or until a run updates it.
    ///
    /// # Errors
    /// If there is none of this name, or its type or shape is another.
    pub fn write<T, S, D>(&mut self, name: &str, values: &ArrayBase<S, D>) -> Result<()>
    where
        T: Element,
        S: Stored<Elem = T>,
        D: Dimension,
    {
        let is_input = self.inputs.iter().any(|(input, _)| input == name);
        let of_this_name = if is_input { &self.inputs } else { &self.states };
        let Some((_, ty)) = of_this_name.iter().find(|(known, _)| known == name) else {
            let known = self.inputs.iter().chain(&self.states).map(|(name, _)| name.as_str());
            return Err(unknown(name, "input or state", known));
        };
        if ty.dims() != values.shape() {
            return Err(Error::op(name, format!("is {ty}, not an array of {:?}", values.shape())));
        }
        let ordered = values.as_standard_layout();
        let data = T::data(ordered.as_slice().unwrap_or_default());
        match is_input {
            true => self.device.write(self.plan, name, data),
            false => self.device.write_state(self.plan, name, data),
        }
    }

    /// Begins a model's parameters, each by its own rule, with numbers drawn from this seed.
    ///
    /// # Errors
    /// If the graph has no such parameters.
    pub fn initialise(&mut self, parameters: &[Parameter], seed: u32) -> Result<()> {
        for (index, parameter) in (0..).zip(parameters) {
            let values = parameter.init.values(parameter.shape.len(), seed, index);
            self.device.write_state(self.plan, &parameter.name, Data::F32(&values))?;
        }
        Ok(())
    }

    /// Runs the graph once. States that it updates have their new values afterwards.
    ///
    /// # Errors
    /// If an input, or a state that it only reads, was never written, or the device fails.
    pub fn run(&mut self) -> Result<()> {
        self.device.run(self.plan)?;
        self.has_run = true;
        Ok(())
    }

    /// Runs a graph with an optimizer in it once, at this learning rate: writes its inputs `rate`
    /// and `step`, which counts these runs from 0.
    ///
    /// # Errors
    /// As for [`Program::run`]; if the graph has no such inputs, or the rate is no number.
    pub fn step(&mut self, rate: f32) -> Result<()> {
        if !rate.is_finite() {
            return Err(Error::op("rate", format!("is {rate}, not a number")));
        }
        self.write("rate", &arr1(&[rate]))?;
        self.write("step", &arr1(&[self.steps]))?;
        self.run()?;
        self.steps += 1;
        Ok(())
    }

    /// Lets [`Program::step`] go on with this number, for a training that goes on from states which
    /// were written.
    pub fn go_on_with_step(&mut self, number: u32) {
        self.steps = number;
    }

    /// An output as of the last run, or a state or an input as it is, in its shape.
    ///
    /// # Errors
    /// If there is none of this name that holds `f32`, or nothing has run yet.
    pub fn read(&self, name: &str) -> Result<ArrayD<f32>> {
        let is_output = self.outputs.iter().any(|(output, _)| output == name);
        let of_this_name = if is_output { &self.outputs } else { &self.states };
        let Some((_, ty)) = of_this_name.iter().find(|(known, _)| known == name) else {
            let known = self.outputs.iter().chain(&self.states).map(|(name, _)| name.as_str());
            return Err(unknown(name, "output or state", known));
        };
        if ty.dtype != DType::F32 {
            return Err(Error::op(name, format!("is {ty}; only f32 is read")));
        }
        if is_output {
            self.check_has_run(name)?;
        }
        let values = match is_output {
            true => self.device.read(self.plan, name)?,
            false => self.device.read_state(self.plan, name)?,
        };
        ArrayD::from_shape_vec(IxDyn(ty.dims()), values).map_err(|error| Error::op(name, error.to_string()))
    }

    /// [`Program::read`] of an output into an array of the caller's.
    ///
    /// # Errors
    /// If there is no output of this name, or it has another shape.
    pub fn read_into<S, D>(&self, name: &str, to: &mut ArrayBase<S, D>) -> Result<()>
    where
        S: DataMut<Elem = f32>,
        D: Dimension,
    {
        let Some((_, ty)) = self.outputs.iter().find(|(output, _)| output == name) else {
            let known = self.outputs.iter().map(|(name, _)| name.as_str());
            return Err(unknown(name, "output", known));
        };
        if ty.dtype != DType::F32 || ty.dims() != to.shape() {
            return Err(Error::op(name, format!("is {ty}, not an array of {:?}", to.shape())));
        }
        self.check_has_run(name)?;
        match to.as_slice_mut() {
            Some(to) => self.device.read_into(self.plan, name, to),
            None => {
                let values = ArrayView::from_shape(to.raw_dim(), &self.device.read(self.plan, name)?)
                    .map(|values| to.assign(&values));
                values.map_err(|error| Error::op(name, error.to_string()))
            }
        }
    }

    fn check_has_run(&self, name: &str) -> Result<()> {
        if self.has_run { Ok(()) } else { Err(Error::op(name, "has no value before the first run")) }
    }

    /// The plan that runs, to be printed: its steps, and the memory of each value.
    pub fn plan(&self) -> &Plan {
        &self.planned
    }

    /// The device, for what a program has no method for.
    pub fn device(&mut self) -> (&mut dyn Device, PlanId) {
        (&mut *self.device, self.plan)
    }
}

fn unknown<'a>(name: &str, kind: &str, known: impl Iterator<Item = &'a str>) -> Error {
    let known: Vec<&str> = known.collect();
    Error::op(name, format!("is no {kind} of the program; there are: {}", known.join(", ")))
}
