//! Runs plans on a GPU. The only module that knows wgpu.
//!
//! - [`adapter`]: which GPU.
//! - `context`: an open GPU, its memory, its faults.
//! - `pipelines`: compiled shaders.
//! - `program`: a plan, ready to run: a list of launches.
//!
//! Everything is built when a plan is loaded: a buffer for each slot and each state, a pipeline for each different
//! dispatch, a bind group for each dispatch. A run encodes the launches into one pass of one command buffer and
//! submits it; between two dispatches of which one writes what the other touches, wgpu puts a barrier. All buffers
//! begin as zeros, as WebGPU promises.

pub mod adapter;
mod context;
mod pipelines;
mod program;

use super::{Data, Device, Names, PlanId, check, port};
use crate::error::Result;
use crate::graph::plan::{Place, Plan, Port};
use adapter::Adapter;
use context::Context;
use pipelines::Pipelines;
use program::Program;

/// A GPU as a device.
pub struct Gpu {
    context: Context,
    pipelines: Pipelines,
    states: Vec<wgpu::Buffer>,
    names: Names,
    programs: Vec<Program>,
}

impl Gpu {
    /// Opens an adapter.
    ///
    /// # Errors
    /// If its driver fails.
    pub fn open(adapter: &Adapter) -> Result<Gpu> {
        let context = Context::open(adapter)?;
        let (pipelines, names) = (Pipelines::default(), Names::default());
        Ok(Gpu { context, pipelines, states: Vec::new(), names, programs: Vec::new() })
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

    fn buffer<'a>(&'a self, program: &'a Program, place: Place) -> &'a wgpu::Buffer {
        match place {
            Place::Slot(slot) => &program.slots[slot],
            Place::State(state) => &self.states[program.states[state]],
        }
    }
}

impl Device for Gpu {
    fn load(&mut self, plan: Plan) -> Result<PlanId> {
        let indices = self.state_indices(&plan)?;
        let program = Program::new(&self.context, &mut self.pipelines, plan, indices, &self.states)?;
        self.programs.push(program);
        Ok(PlanId(self.programs.len() - 1))
    }

    fn run(&mut self, plan: PlanId) -> Result<()> {
        self.programs[plan.0].run(&self.context)
    }

    fn write(&mut self, plan: PlanId, input: &str, data: Data) -> Result<()> {
        let program = &self.programs[plan.0];
        let Port { ty, place, .. } = port(&program.plan.inputs, input)?;
        check(input, ty, data)?;
        self.context.write(self.buffer(program, *place), bytes(data))
    }

    fn read(&self, plan: PlanId, output: &str) -> Result<Vec<f32>> {
        let program = &self.programs[plan.0];
        let Port { ty, place, .. } = port(&program.plan.outputs, output)?;
        self.context.read(self.buffer(program, *place), ty.len())
    }

    fn write_state(&mut self, name: &str, data: Data) -> Result<()> {
        let (index, ty) = self.names.find(name)?;
        check(name, ty, data)?;
        self.context.write(&self.states[index], bytes(data))
    }

    fn read_state(&self, name: &str) -> Result<Vec<f32>> {
        let (index, ty) = self.names.find(name)?;
        self.context.read(&self.states[index], ty.len())
    }
}

fn bytes(data: Data<'_>) -> &[u8] {
    match data {
        Data::F32(data) => bytemuck::cast_slice(data),
        Data::U32(data) => bytemuck::cast_slice(data),
    }
}
