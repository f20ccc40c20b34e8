//! A plan, ready to run on a GPU: its temporary memory, and a list of launches.

use std::ops::Range;

use wgpu::{BindGroup, BindGroupDescriptor, BindGroupEntry, ComputePass, ComputePipeline};

use super::context::{Context, VECTOR_BYTES, padded};
use super::joint::{alike, follows};
use super::memory::{Packs, Region, location, pitch};
use super::pipelines::Pipelines;
use super::readback::Readback;
use super::submissions;
use crate::error::{Error, Result};
use crate::exec::plan::{Location, Plan, Step};
use crate::ops::dispatch::{BLOCK, Dispatch, Dispatches, GROUP, Operand, PIECE_BYTES, grid};

pub struct GpuProgram {
    pub slots: Vec<Region>,
    /// Launches of each step; those of the first one are of all that are joined to it.
    launches: Vec<Vec<Launch>>,
    /// Steps that one launch does together.
    pub joined: Vec<Joined>,
    /// Steps of each submission of a run.
    submissions: Vec<Range<usize>>,
    pub readback: Readback,
    /// Of the next run, whether its last submission gets lost.
    loses_one: bool,
}

/// Steps that one launch does together.
pub struct Joined {
    pub steps: Range<usize>,
    /// What each of them reads and writes.
    pub bytes: Vec<u64>,
}

/// One dispatch, with everything it needs.
struct Launch {
    pipeline: ComputePipeline,
    bindings: BindGroup,
    groups: [u32; 3],
}

impl GpuProgram {
    /// Allocates the slots and binds the operands. `work` are the dispatches of each step,
    /// compiled; `states` say which of the `regions` the plan's states are; a submission may take
    /// so many `seconds` ([`submissions`]).
    pub fn new(
        context: &Context,
        pipelines: &Pipelines,
        (plan, work): (&Plan, &[Dispatches]),
        packs: &mut Packs,
        states: Vec<&Region>,
        seconds: f64,
    ) -> Result<GpuProgram> {
        let slots = plan.slots.iter().enumerate();
        let slots = slots.map(|(i, len)| packs.allocate(context, "slot", Location::Slot(i), 4 * len));
        let scratch = shared_scratch(work).into_iter().map(|len| context.storage("scratch", 4 * len).into());
        let memory = Memory { slots: slots.collect::<Result<_>>()?, scratch: scratch.collect(), states };
        context.check()?;
        let joined = memory.joined(plan, work);
        let mut launches = Vec::new();
        for (index, own) in work.iter().enumerate() {
            let steps = match joined.iter().find(|steps| steps.contains(&index)) {
                Some(steps) if steps.start < index => index..index,
                Some(steps) => steps.clone(),
                None => index..index + 1,
            };
            let steps = &plan.steps[steps];
            let works = &work[index..index + steps.len()];
            let launch = |i| launch(context, pipelines, &memory, steps, works, i);
            let count = if steps.is_empty() { 0 } else { own.list.len() };
            launches.push((0..count).map(launch).collect::<Result<_>>()?);
            context.check()?;
        }
        let submissions =
            submissions::split(plan.steps.iter().map(|step| step.op.cost(&step.types)), seconds);
        let bytes = |step: &Step| step.op.cost(&step.types).bytes;
        let joined = joined.into_iter().map(|steps| {
            let bytes = plan.steps[steps.clone()].iter().map(bytes).collect();
            Joined { steps, bytes }
        });
        let joined = joined.collect();
        let (slots, readback) = (memory.slots, Readback::default());
        Ok(GpuProgram { slots, launches, joined, submissions, readback, loses_one: false })
    }

    /// Steps of the plan.
    pub fn steps(&self) -> usize {
        self.launches.len()
    }

    /// Launches of the steps from `first` on.
    pub fn launches(&self, first: usize) -> usize {
        self.launches[first..].iter().map(Vec::len).sum()
    }

    /// Records outputs of every run: their memory and elements.
    pub fn record(&mut self, context: &Context, outputs: Vec<(Region, usize)>) {
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
    plan.steps.iter().map(|step| step.op.gpu(&step.types).stored_as(&step.types)).collect()
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

/// Launch number `i` of a step, or the one launch of several.
fn launch(
    context: &Context,
    pipelines: &Pipelines,
    memory: &Memory,
    steps: &[Step],
    works: &[Dispatches],
    i: usize,
) -> Result<Launch> {
    let dispatch = &works[0].list[i];
    let (pipeline, layout) = pipelines.get(dispatch);
    let bound = |&operand: &Operand| match operand {
        Operand::Numbers(bits) if steps.len() == 1 => numbers(context, &[bits]),
        Operand::Numbers(_) => numbers(context, &numbers_of_blocks(steps, works)),
        _ => Ok(memory.bound(steps, works, operand)),
    };
    let bound: Vec<(Region, usize)> = dispatch.bindings.iter().map(bound).collect::<Result<_>>()?;
    check_access(&steps[0], dispatch, &bound)?;
    let resources = bound.iter().map(|(region, bytes)| region.resource(*bytes)).enumerate();
    let entries: Vec<BindGroupEntry> =
        resources.map(|(i, resource)| BindGroupEntry { binding: i as u32, resource }).collect();
    let label = Some(dispatch.shader.name);
    let bindings =
        context.device.create_bind_group(&BindGroupDescriptor { label, layout, entries: &entries });
    let groups = match steps {
        [_] => dispatch.groups,
        _ => grid(bound[0].1 / VECTOR_BYTES, GROUP),
    };
    Ok(Launch { pipeline: pipeline.clone(), bindings, groups })
}

/// For each block of a joined launch, the numbers of the step that it is of.
fn numbers_of_blocks(steps: &[Step], works: &[Dispatches]) -> Vec<[u32; 4]> {
    let blocks = |(step, work): (&Step, &Dispatches)| {
        let bits = work.list[0].joinable().map(|(_, bits, _)| bits).unwrap_or_default();
        vec![bits; pitch(step.types.outputs[0].bytes()) / (4 * BLOCK)]
    };
    steps.iter().zip(works).flat_map(blocks).collect()
}

/// Memory that holds numbers.
fn numbers(context: &Context, bits: &[[u32; 4]]) -> Result<(Region, usize)> {
    let bytes: &[u8] = bytemuck::cast_slice(bits);
    let region = Region::from(context.storage("numbers", bytes.len()));
    context.write(&region, bytes)?;
    Ok((region, bytes.len()))
}

/// Checks that a launch does not read and write one buffer, which WebGPU forbids.
fn check_access(step: &Step, dispatch: &Dispatch, bound: &[(Region, usize)]) -> Result<()> {
    let buffers = |written: bool| {
        let bound = bound.iter().zip(&dispatch.bindings).filter(move |(_, op)| op.is_written() == written);
        bound.map(|((region, _), _)| &region.buffer)
    };
    match buffers(true).any(|written| buffers(false).any(|read| read == written)) {
        false => Ok(()),
        true => Err(Error::op(
            format!("{} '{}'", step.op.name(), step.layer),
            "reads and writes states that lie side by side; load its plan before the one that trains them",
        )),
    }
}

/// Where the steps of a plan find their operands.
struct Memory<'a> {
    slots: Vec<Region>,
    scratch: Vec<Region>,
    /// States of the plan, in its order.
    states: Vec<&'a Region>,
}

impl Memory<'_> {
    /// Memory of an operand; none of numbers.
    fn region(&self, step: &Step, operand: Operand) -> Option<&Region> {
        match (operand, location(step, operand)) {
            (_, Some(Location::Slot(slot))) => Some(&self.slots[slot]),
            (_, Some(Location::State(state))) => Some(self.states[state]),
            (Operand::Scratch(i) | Operand::ScratchInput(i), None) => Some(&self.scratch[i]),
            (_, None) => None,
        }
    }

    /// What is bound of an operand of steps that one launch does: from the first one's to the end
    /// of the last one's.
    fn bound(&self, steps: &[Step], works: &[Dispatches], operand: Operand) -> (Region, usize) {
        let last = steps.len() - 1;
        let region = |step: usize| match self.region(&steps[step], operand) {
            Some(region) => region,
            None => unreachable!("numbers are bound by themselves"),
        };
        let (first, end) = (region(0), region(last).offset);
        let (offset, _) = extent(&steps[0], &works[0], operand);
        let (_, bytes) = extent(&steps[last], &works[last], operand);
        let begin = Region { offset: first.offset + offset, ..first.clone() };
        (begin, end - first.offset + padded(bytes))
    }

    /// The steps that one launch does together, where that are several.
    fn joined(&self, plan: &Plan, work: &[Dispatches]) -> Vec<Range<usize>> {
        let follows_the_last = |&step: &usize| {
            let dispatch = &work[step].list[0];
            let regions = |step: &Step| {
                dispatch.bindings.iter().map(|&operand| self.region(step, operand)).collect::<Vec<_>>()
            };
            let [before, after] = [&plan.steps[step - 1], &plan.steps[step]];
            follows(dispatch, before.types.outputs[0].bytes(), [&regions(before), &regions(after)])
        };
        let next = alike(plan, work).into_iter().flat_map(|steps| steps.start + 1..steps.end);
        let mut found: Vec<Range<usize>> = Vec::new();
        for step in next.filter(follows_the_last) {
            match found.last_mut() {
                Some(last) if last.end == step => last.end = step + 1,
                _ => found.push(step - 1..step + 1),
            }
        }
        found
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
        Operand::Numbers(bits) => (0, size_of_val(&bits)),
    }
}
