//! A plan, ready to run on a GPU: its temporary memory, and a list of launches.

use std::ops::Range;

use wgpu::{
    BindGroup, BindGroupDescriptor, BindGroupEntry, BindingResource, BufferBinding, BufferSize, ComputePass,
    ComputePipeline,
};

use super::context::{Context, padded};
use super::pipelines::Pipelines;
use super::readback::Readback;
use super::submissions;
use crate::error::Result;
use crate::exec::plan::{Location, Plan, Step};
use crate::ops::dispatch::{Dispatch, Dispatches, Operand, PIECE_BYTES};

pub struct GpuProgram {
    pub slots: Vec<wgpu::Buffer>,
    /// Launches of each step.
    launches: Vec<Vec<Launch>>,
    /// Steps of each submission of a run.
    submissions: Vec<Range<usize>>,
    pub readback: Readback,
    /// Of the next run, whether its last submission gets lost.
    loses_one: bool,
}

/// One dispatch, with everything it needs.
struct Launch {
    pipeline: ComputePipeline,
    bindings: BindGroup,
    groups: [u32; 3],
}

impl GpuProgram {
    /// Allocates the slots and binds the operands. `work` are the dispatches of each step,
    /// compiled; `states` say which of the `buffers` the plan's states are; a submission may take
    /// so many `seconds` ([`submissions`]).
    pub fn new(
        context: &Context,
        pipelines: &Pipelines,
        plan: &Plan,
        work: &[Dispatches],
        states: &[usize],
        buffers: &[wgpu::Buffer],
        seconds: f64,
    ) -> Result<GpuProgram> {
        let memory = Buffers {
            slots: allocate(context, "slot", &plan.slots)?,
            scratch: allocate(context, "scratch", &shared_scratch(work))?,
            states: states.iter().map(|&state| &buffers[state]).collect(),
        };
        let mut launches = Vec::new();
        for (step, work) in plan.steps.iter().zip(work) {
            let launch = |dispatch| launch(context, pipelines, &memory, step, work, dispatch);
            launches.push(work.list.iter().map(launch).collect());
            context.check()?;
        }
        let submissions =
            submissions::split(plan.steps.iter().map(|step| step.op.cost(&step.types)), seconds);
        let (slots, readback) = (memory.slots, Readback::default());
        Ok(GpuProgram { slots, launches, submissions, readback, loses_one: false })
    }

    /// Steps of the plan.
    pub fn steps(&self) -> usize {
        self.launches.len()
    }

    /// Records outputs of every run: buffers, with their elements.
    pub fn record(&mut self, context: &Context, outputs: Vec<(wgpu::Buffer, usize)>) {
        self.readback = Readback::new(context, outputs, self.submissions.len());
    }

    /// Lets the last submission of the next run get lost, as by a driver that gives it up.
    pub fn lose_one(&mut self) {
        self.loses_one = true;
    }

    /// Submits the steps from `first` on, without waiting for them.
    pub fn run(&mut self, context: &Context, first: usize) -> Result<()> {
        self.readback.begin(context)?;
        let last = self.submissions.len() - 1;
        for (number, steps) in self.submissions.iter().enumerate() {
            let mut encoder = context.device.create_command_encoder(&Default::default());
            if !(number == last && self.loses_one) {
                let steps = steps.start.max(first).min(steps.end)..steps.end;
                self.encode(&mut encoder.begin_compute_pass(&Default::default()), steps);
                self.readback.mark(number, &mut encoder);
            }
            let staging = if number == last { self.readback.encode(context, &mut encoder)? } else { None };
            let run = context.queue.submit([encoder.finish()]);
            if let Some(staging) = staging {
                self.readback.submitted(staging, run);
            }
        }
        self.loses_one = false;
        context.check()
    }

    /// Adds steps to a pass.
    pub fn encode(&self, pass: &mut ComputePass, steps: Range<usize>) {
        for &Launch { ref pipeline, ref bindings, groups: [x, y, z] } in self.launches[steps].iter().flatten()
        {
            pass.set_pipeline(pipeline);
            pass.set_bind_group(0, bindings, &[]);
            pass.dispatch_workgroups(x, y, z);
        }
    }
}

/// The dispatches of each step of a plan.
pub fn dispatches(plan: &Plan) -> Vec<Dispatches> {
    plan.steps.iter().map(|step| step.op.gpu(&step.types)).collect()
}

/// Elements of the temporary buffers: each as large as any step needs it, for all steps together.
pub fn shared_scratch(work: &[Dispatches]) -> Vec<usize> {
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

fn launch(
    context: &Context,
    pipelines: &Pipelines,
    memory: &Buffers,
    step: &Step,
    work: &Dispatches,
    dispatch: &Dispatch,
) -> Launch {
    let (pipeline, layout) = pipelines.get(dispatch);
    let entry = |(i, &operand): (usize, &Operand)| BindGroupEntry {
        binding: i as u32,
        resource: memory.binding(step, work, operand),
    };
    let entries: Vec<BindGroupEntry> = dispatch.bindings.iter().enumerate().map(entry).collect();
    let label = Some(dispatch.shader.name);
    let bindings =
        context.device.create_bind_group(&BindGroupDescriptor { label, layout, entries: &entries });
    Launch { pipeline: pipeline.clone(), bindings, groups: dispatch.groups }
}

/// The buffers that the steps of a plan work on.
struct Buffers<'a> {
    slots: Vec<wgpu::Buffer>,
    scratch: Vec<wgpu::Buffer>,
    /// States of the plan, in its order.
    states: Vec<&'a wgpu::Buffer>,
}

impl Buffers<'_> {
    fn at(&self, location: Location) -> &wgpu::Buffer {
        match location {
            Location::Slot(slot) => &self.slots[slot],
            Location::State(state) => self.states[state],
        }
    }

    fn binding(&self, step: &Step, work: &Dispatches, operand: Operand) -> BindingResource<'_> {
        let buffer = match operand {
            Operand::Input(i) | Operand::InputPiece(i, _) => self.at(step.inputs[i]),
            Operand::Output(i) | Operand::OutputInput(i) => self.at(step.outputs[i]),
            Operand::Scratch(i) | Operand::ScratchInput(i) => &self.scratch[i],
        };
        let (offset, bytes) = extent(step, work, operand);
        BindingResource::Buffer(BufferBinding {
            buffer,
            offset: offset as u64,
            size: BufferSize::new(padded(bytes) as u64),
        })
    }
}

/// Offset and number of the bytes of its buffer that an operand is. No more are bound than that and
/// the rest of its last vector of four, so that a shader that reads past the end cannot see what
/// lies there.
pub fn extent(step: &Step, work: &Dispatches, operand: Operand) -> (usize, usize) {
    match operand {
        Operand::Input(i) => (0, step.types.inputs[i].bytes()),
        Operand::InputPiece(i, piece) => {
            let bytes = step.types.inputs[i].bytes();
            let first = piece * PIECE_BYTES;
            (first, PIECE_BYTES.min(bytes - first))
        }
        Operand::Output(i) | Operand::OutputInput(i) => (0, step.types.outputs[i].bytes()),
        Operand::Scratch(i) | Operand::ScratchInput(i) => (0, 4 * work.scratch[i]),
    }
}
