//! A plan, ready to run on a GPU: its memory, and a list of launches.

use wgpu::{
    BindGroup, BindGroupDescriptor, BindGroupEntry, BindingResource, BufferBinding, BufferSize,
    ComputePipeline,
};

use super::context::{Context, padded};
use super::pipelines::Pipelines;
use crate::error::{Error, Result};
use crate::graph::plan::{Place, Plan, Step};
use crate::ops::dispatch::{Dispatch, Dispatches, Operand, PIECE_BYTES};

pub struct Program {
    pub plan: Plan,
    pub slots: Vec<wgpu::Buffer>,
    /// The device's number for each of the plan's states.
    pub states: Vec<usize>,
    launches: Vec<Launch>,
}

/// One dispatch, with everything it needs.
struct Launch {
    pipeline: ComputePipeline,
    bindings: BindGroup,
    groups: [u32; 3],
}

impl Program {
    /// Allocates the slots, compiles the shaders and binds their operands. `states` are the device's numbers
    /// of the plan's states.
    pub fn new(
        context: &Context,
        pipelines: &mut Pipelines,
        plan: Plan,
        states: Vec<usize>,
        buffers: &[wgpu::Buffer],
    ) -> Result<Program> {
        let work = plan.steps.iter().map(dispatches).collect::<Result<Vec<Dispatches>>>()?;
        pipelines.compile(&context.device, work.iter().flat_map(|work| &work.list));
        context.check()?;
        let memory = Memory {
            slots: allocate(context, "slot", &plan.slots)?,
            scratch: allocate(context, "scratch", &shared_scratch(&work))?,
            states: states.iter().map(|&state| &buffers[state]).collect(),
        };
        let mut launches = Vec::new();
        for (step, work) in plan.steps.iter().zip(&work) {
            for dispatch in &work.list {
                let (pipeline, layout) = pipelines.get(dispatch);
                let binding = |operand: &Operand| memory.binding(step, work, *operand);
                let resources: Vec<BindingResource> = dispatch.bindings.iter().map(binding).collect();
                let bindings = bind(context, layout, dispatch, resources);
                launches.push(Launch { pipeline: pipeline.clone(), bindings, groups: dispatch.groups });
                context.check()?;
            }
        }
        let slots = memory.slots;
        Ok(Program { plan, slots, states, launches })
    }

    /// Submits all launches, without waiting for them.
    pub fn run(&self, context: &Context) -> Result<()> {
        let mut encoder = context.device.create_command_encoder(&Default::default());
        let mut pass = encoder.begin_compute_pass(&Default::default());
        for Launch { pipeline, bindings, groups: [x, y, z] } in &self.launches {
            pass.set_pipeline(pipeline);
            pass.set_bind_group(0, bindings, &[]);
            pass.dispatch_workgroups(*x, *y, *z);
        }
        drop(pass);
        context.queue.submit([encoder.finish()]);
        context.check()
    }
}

fn dispatches(step: &Step) -> Result<Dispatches> {
    let missing =
        || Error::op(format!("{} '{}'", step.op.name(), step.layer), "has no shader: choose --device cpu");
    step.op.gpu(&step.types).ok_or_else(missing)
}

/// Bytes of the temporary buffers: each as large as any step needs it, for all steps together.
fn shared_scratch(work: &[Dispatches]) -> Vec<usize> {
    let mut sizes = Vec::new();
    for work in work {
        sizes.resize(sizes.len().max(work.scratch.len()), 0);
        sizes.iter_mut().zip(&work.scratch).for_each(|(size, &len)| *size = len.max(*size));
    }
    sizes
}

/// Buffers of these numbers of elements.
fn allocate(context: &Context, label: &str, lens: &[usize]) -> Result<Vec<wgpu::Buffer>> {
    let buffers = lens.iter().map(|len| context.storage(label, 4 * len)).collect();
    context.check().map(|()| buffers)
}

fn bind(
    context: &Context,
    layout: &wgpu::BindGroupLayout,
    dispatch: &Dispatch,
    resources: Vec<BindingResource>,
) -> BindGroup {
    let entry = |(i, resource)| BindGroupEntry { binding: i as u32, resource };
    let entries: Vec<BindGroupEntry> = resources.into_iter().enumerate().map(entry).collect();
    let label = Some(dispatch.shader.name);
    context.device.create_bind_group(&BindGroupDescriptor { label, layout, entries: &entries })
}

/// The buffers that the steps of a plan work on.
struct Memory<'a> {
    slots: Vec<wgpu::Buffer>,
    scratch: Vec<wgpu::Buffer>,
    /// Of the plan, in its order.
    states: Vec<&'a wgpu::Buffer>,
}

impl Memory<'_> {
    fn at(&self, place: Place) -> &wgpu::Buffer {
        match place {
            Place::Slot(slot) => &self.slots[slot],
            Place::State(state) => self.states[state],
        }
    }

    /// The operand's part of its buffer up to the end of its last vector of four, and no more, so that a shader that
    /// reads past the end cannot see what lies there.
    fn binding(&self, step: &Step, work: &Dispatches, operand: Operand) -> BindingResource<'_> {
        let input = |i: usize| (self.at(step.inputs[i]), step.types.inputs[i].bytes());
        let (buffer, first, bytes) = match operand {
            Operand::Input(i) => (input(i).0, 0, input(i).1),
            Operand::InputPiece(i, piece) => {
                let (buffer, bytes) = input(i);
                let first = if piece * PIECE_BYTES < bytes { piece * PIECE_BYTES } else { 0 };
                (buffer, first, PIECE_BYTES.min(bytes - first))
            }
            Operand::Output(i) => (self.at(step.outputs[i]), 0, step.types.outputs[i].bytes()),
            Operand::Scratch(i) => (&self.scratch[i], 0, 4 * work.scratch[i]),
        };
        BindingResource::Buffer(BufferBinding {
            buffer,
            offset: first as u64,
            size: BufferSize::new(padded(bytes) as u64),
        })
    }
}
