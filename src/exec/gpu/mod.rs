//! Runs plans on a GPU. The only module that knows wgpu.
//!
//! - [`adapter`]: which GPU.
//! - `context`: an open GPU, its memory, its faults.
//! - `limits`: what does not fit, told before it fails.
//! - `pipelines`: compiled shaders.
//! - `program`: a plan, ready to run: a list of launches.
//! - `profile`: how long each step takes.
//! - `readback`: outputs that every run sends to the host, without anybody waiting.
//!
//! Everything is built when a plan is loaded: a buffer for each slot and each state, a pipeline for
//! each different dispatch, a bind group for each dispatch. A run encodes the launches into one
//! pass of one command buffer and submits it; between two dispatches of which one writes what the
//! other touches, wgpu puts a barrier. All buffers begin as zeros, as WebGPU promises.

pub mod adapter;
mod context;
mod limits;
mod pipelines;
mod profile;
mod program;
mod readback;

use super::fit::size;
use super::rules::{ACTIVATION, ACTIVATION_GRAD, FOLD, POOLING, STATISTICS, ZERO_SUM};
use super::{Data, Device, Names, PlanId, Plans, check, port};
use crate::error::{Error, Result};
use crate::graph::plan::{Place, Plan, Port, Step};
use crate::graph::rewrite::Rule;
use crate::kernels::parallel;
use crate::ops::dispatch::{Dispatch, Dispatches};
use crate::tensor::DType;
use adapter::Adapter;
use context::Context;
use limits::check_plan;
use pipelines::Pipelines;
use program::{Program, dispatches, shared_scratch};
use readback::Readback;
use std::time::{Duration, Instant};
use wgpu::PollType;

/// The rules of a GPU: those that save traffic there, too.
pub const RULES: &[&Rule] = &[&ZERO_SUM, &ACTIVATION, &ACTIVATION_GRAD, &STATISTICS, &POOLING, &FOLD];

/// A GPU as a device.
pub struct Gpu {
    name: String,
    context: Context,
    pipelines: Pipelines,
    states: Vec<wgpu::Buffer>,
    names: Names,
    programs: Plans<Program>,
    /// Rises whenever a state is written.
    version: u64,
    on_compile: Box<dyn Fn(usize, Duration)>,
}

impl Gpu {
    /// Opens an adapter.
    ///
    /// # Errors
    /// If its driver fails, or it lacks what WebGPU promises.
    pub fn open(adapter: &Adapter) -> Result<Gpu> {
        let about = adapter.description();
        Ok(Gpu {
            name: format!("gpu, {} ({})", about.name, about.interface),
            context: Context::open(adapter)?,
            pipelines: Pipelines::default(),
            states: Vec::new(),
            names: Names::default(),
            programs: Plans::new(),
            version: 1,
            on_compile: Box::new(|_, _| ()),
        })
    }

    /// Calls `tell` whenever shaders have been compiled, with the number of pipelines and the time
    /// it took.
    pub fn on_compile(&mut self, tell: impl Fn(usize, Duration) + 'static) {
        self.on_compile = Box::new(tell);
    }

    /// Buffers that the driver has allocated, and their bytes; `None` if it does not say.
    pub fn allocated(&self) -> Option<(usize, u64)> {
        let report = self.context.device.generate_allocator_report()?;
        Some((report.allocations.len(), report.total_allocated_bytes))
    }

    /// Ends the use of the GPU: whatever is asked of it afterwards fails, as if the driver had lost
    /// it.
    pub fn destroy(&mut self) {
        self.context.device.destroy();
        // It tells when its last run has ended; that this fails is what is wanted.
        let _ = self.context.poll(PollType::wait_indefinitely());
    }

    fn allocate(&mut self, plan: Plan, work: &[Dispatches]) -> Result<Program> {
        let states = self.state_indices(&plan)?;
        Program::new(&self.context, &self.pipelines, plan, work, states, &self.states)
    }

    /// The device's number for each of the plan's states; new ones are created.
    fn state_indices(&mut self, plan: &Plan) -> Result<Vec<usize>> {
        let mut indices = Vec::new();
        for (name, ty) in &plan.states {
            let index = self.names.number(name, ty)?;
            if index == self.states.len() {
                self.states.push(self.context.storage(name, ty.bytes()));
                self.context.check()?;
            }
            indices.push(index);
        }
        Ok(indices)
    }

    fn compile(&mut self, work: &[Dispatches]) -> Result<()> {
        let begin = Instant::now();
        let dispatches: Vec<&Dispatch> = work.iter().flat_map(|work| &work.list).collect();
        let (pipelines, device) = (&mut self.pipelines, &self.context.device);
        let count =
            parallel::pool(0).map_err(Error::threads)?.install(|| pipelines.compile(device, &dispatches));
        self.context.check()?;
        if count > 0 {
            (self.on_compile)(count, begin.elapsed());
        }
        Ok(())
    }

    fn buffer<'a>(&'a self, program: &'a Program, place: Place) -> &'a wgpu::Buffer {
        match place {
            Place::Slot(slot) => &program.slots[slot],
            Place::State(state) => &self.states[program.states[state]],
        }
    }
}

impl Device for Gpu {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn rules(&self) -> &'static [&'static Rule] {
        RULES
    }

    fn load_plan(&mut self, plan: Plan) -> Result<PlanId> {
        let work = dispatches(&plan);
        check_shaders(&plan, &work)?;
        check_plan(&plan, &work, &self.context.device.limits())?;
        self.compile(&work)?;
        let planned = size(self.planned_bytes(&plan));
        let program = self.allocate(plan, &work);
        let program = program.map_err(|error| match self.context.check() {
            Ok(()) => error,
            Err(fault) => Error::Failed(format!("{fault} (the plan needs {planned})")),
        })?;
        Ok(self.programs.push(program))
    }

    fn planned_bytes(&self, plan: &Plan) -> usize {
        let scratch: usize = shared_scratch(&dispatches(plan)).iter().sum();
        plan.slot_bytes() + plan.state_bytes() + 4 * scratch
    }

    fn profile(&mut self, plan: PlanId, visit: &mut dyn FnMut(usize, &Step, f64)) -> Result<()> {
        let program = self.programs.get(plan)?;
        let seconds = profile::profile(&self.context, program)?;
        program
            .plan
            .steps
            .iter()
            .zip(seconds)
            .enumerate()
            .for_each(|(i, (step, seconds))| visit(i, step, seconds));
        Ok(())
    }

    fn run(&mut self, plan: PlanId) -> Result<()> {
        let program = self.programs.get_mut(plan)?;
        program.written.check(&program.plan)?;
        let stale = program.constants_of != self.version;
        self.version += u64::from(program.plan.written_states().next().is_some());
        program.constants_of = self.version;
        program.run(&self.context, stale)
    }

    fn record(&mut self, plan: PlanId, outputs: &[&str]) -> Result<()> {
        let program = self.programs.get(plan)?;
        let output = |name: &&str| {
            let Port { ty, place, .. } = port(&program.plan.outputs, name)?;
            Ok((self.buffer(program, *place).clone(), ty.len()))
        };
        let outputs = outputs.iter().map(output).collect::<Result<_>>()?;
        self.programs.get_mut(plan)?.readback = Readback::new(&self.context, outputs);
        self.context.check()
    }

    fn collect(&mut self, plan: PlanId, all: bool, visit: &mut dyn FnMut(&[f32])) -> Result<()> {
        self.programs.get_mut(plan)?.readback.collect(&self.context, all, visit)
    }

    fn wait(&self) -> Result<()> {
        self.context.poll(PollType::wait_indefinitely())
    }

    fn write(&mut self, plan: PlanId, input: &str, data: Data) -> Result<()> {
        let program = self.programs.get_mut(plan)?;
        program.written.note(&program.plan, input);
        let program = self.programs.get(plan)?;
        let Port { ty, place, .. } = port(&program.plan.inputs, input)?;
        check(input, ty, data)?;
        self.context.write(self.buffer(program, *place), bytes(data))
    }

    fn read(&self, plan: PlanId, output: &str) -> Result<Vec<f32>> {
        let program = self.programs.get(plan)?;
        let Port { ty, place, .. } = port(&program.plan.outputs, output)?;
        self.context.read(self.buffer(program, *place), ty.bytes())
    }

    fn write_state(&mut self, name: &str, data: Data) -> Result<()> {
        let (index, ty) = self.names.find(name)?;
        check(name, ty, data)?;
        self.version += 1;
        self.context.write(&self.states[index], bytes(data))
    }

    fn read_state(&self, name: &str) -> Result<Vec<f32>> {
        let (index, ty) = self.names.find_of(name, DType::F32)?;
        self.context.read(&self.states[index], ty.bytes())
    }

    fn read_state_u32(&self, name: &str) -> Result<Vec<u32>> {
        let (index, ty) = self.names.find_of(name, DType::U32)?;
        let bits = self.context.read(&self.states[index], ty.bytes())?;
        Ok(bits.into_iter().map(f32::to_bits).collect())
    }
}

/// Checks that every step has shaders.
fn check_shaders(plan: &Plan, work: &[Dispatches]) -> Result<()> {
    match plan.steps.iter().zip(work).find(|(_, work)| work.list.is_empty()) {
        None => Ok(()),
        Some((step, _)) => {
            let name = format!("{} '{}'", step.op.name(), step.layer);
            Err(Error::op(name, format!("no shader computes it as a CPU would: {:?}", step.op)))
        }
    }
}

fn bytes(data: Data<'_>) -> &[u8] {
    match data {
        Data::F32(data) => bytemuck::cast_slice(data),
        Data::U32(data) => bytemuck::cast_slice(data),
    }
}
