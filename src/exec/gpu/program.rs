//! A plan, ready to run on a GPU: its temporary memory, and a list of launches.

use std::ops::Range;

use wgpu::{BindGroup, BindGroupDescriptor, BindGroupEntry, ComputePass, ComputePipeline};

use super::context::Context;
use super::joint::{Task, alike, follows, tasks};
use super::memory::{Packs, Region, location, pitch};
use super::pipelines::Pipelines;
use super::readback::Readback;
use super::submissions;
use crate::error::{Error, Result};
use crate::exec::launches::{VECTOR_BYTES, extent, padded, shared_scratch};
use crate::exec::plan::{Location, Plan, Step};
use crate::ops::dispatch::{BLOCK, Dispatch, Dispatches, GROUP, Operand, grid};

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
pub struct Launch {
    pipeline: ComputePipeline,
    bindings: BindGroup,
    groups: [u32; 3],
}

impl Launch {
    /// A dispatch that is compiled, on so many bytes of these regions.
    pub fn new(
        context: &Context,
        pipelines: &Pipelines,
        dispatch: &Dispatch,
        bound: &[(Region, usize)],
        groups: [u32; 3],
    ) -> Launch {
        let (pipeline, layout) = pipelines.get(dispatch);
        let resources = bound.iter().map(|(region, bytes)| region.resource(padded(*bytes))).enumerate();
        let entries: Vec<BindGroupEntry> =
            resources.map(|(i, resource)| BindGroupEntry { binding: i as u32, resource }).collect();
        let label = Some(dispatch.shader.name);
        let bindings =
            context.device.create_bind_group(&BindGroupDescriptor { label, layout, entries: &entries });
        Launch { pipeline: pipeline.clone(), bindings, groups }
    }

    /// Adds it to a pass.
    pub fn encode(&self, pass: &mut ComputePass) {
        let [x, y, z] = self.groups;
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, &self.bindings, &[]);
        pass.dispatch_workgroups(x, y, z);
    }
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
        let tasks = tasks(plan, work);
        let mut launches: Vec<Vec<Launch>> = plan.steps.iter().map(|_| Vec::new()).collect();
        let mut joined = Vec::new();
        for tasks in memory.joined(plan, &tasks) {
            let (first, last) = (tasks[0].index, tasks[tasks.len() - 1].index);
            launches[first].push(launch(context, pipelines, &memory, tasks)?);
            if last > first {
                joined.push(first..last + 1);
            }
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
        self.launches[steps].iter().flatten().for_each(|launch| launch.encode(pass));
    }
}

/// The launch of one task, or of several.
fn launch(context: &Context, pipelines: &Pipelines, memory: &Memory, tasks: &[Task]) -> Result<Launch> {
    let dispatch = tasks[0].dispatch;
    let bound = |(binding, operand): (usize, &Operand)| match *operand {
        Operand::BlockNumbers(_) if tasks.len() > 1 => numbers(context, &numbers_of_blocks(tasks)),
        Operand::Numbers(bits) | Operand::BlockNumbers(bits) => numbers(context, &[bits]),
        _ => Ok(memory.bound(tasks, binding)),
    };
    let bound: Vec<(Region, usize)> =
        dispatch.bindings.iter().enumerate().map(bound).collect::<Result<_>>()?;
    check_access(tasks[0].step, dispatch, &bound)?;
    let groups = match tasks {
        [_] => dispatch.groups,
        _ => grid(bound[0].1 / VECTOR_BYTES, GROUP),
    };
    Ok(Launch::new(context, pipelines, dispatch, &bound, groups))
}

/// For each block of a joined launch, the numbers of the task that it is of.
fn numbers_of_blocks(tasks: &[Task]) -> Vec<[u32; 4]> {
    let blocks = |task: &Task| {
        let bits = task.dispatch.joinable().map(|(_, bits, _)| bits).unwrap_or_default();
        vec![bits; pitch(task.bytes().unwrap_or(0)) / (4 * BLOCK)]
    };
    tasks.iter().flat_map(blocks).collect()
}

/// Memory that holds numbers.
pub fn numbers(context: &Context, bits: &[[u32; 4]]) -> Result<(Region, usize)> {
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

    /// What is bound for tasks that one launch does: from the first one's operand to the end of the
    /// last one's.
    fn bound(&self, tasks: &[Task], binding: usize) -> (Region, usize) {
        let part = |task: &Task| {
            let operand = task.dispatch.bindings[binding];
            let Some(region) = self.region(task.step, operand) else {
                unreachable!("numbers are bound by themselves")
            };
            let (offset, bytes) = extent(task.step, task.work, operand);
            (Region { offset: region.offset + offset, ..region.clone() }, bytes)
        };
        let [(first, _), (last, bytes)] = [&tasks[0], &tasks[tasks.len() - 1]].map(part);
        let bytes = last.offset - first.offset + padded(bytes);
        (first, bytes)
    }

    /// The tasks of each launch.
    fn joined<'a>(&self, plan: &Plan, tasks: &'a [Task<'a>]) -> Vec<&'a [Task<'a>]> {
        let alike = alike(plan, tasks);
        let follows_the_last = |at: usize| {
            let [before, after] = [&tasks[at - 1], &tasks[at]];
            let regions = |task: &Task| {
                let bindings = task.dispatch.bindings.iter();
                bindings.map(|&operand| self.region(task.step, operand)).collect::<Vec<_>>()
            };
            let are_alike = alike.iter().any(|alike| alike.start < at && at < alike.end);
            let bytes = before.bytes().unwrap_or(0);
            are_alike && follows(after.dispatch, bytes, [&regions(before), &regions(after)])
        };
        let mut launches: Vec<Range<usize>> = Vec::new();
        for at in 0..tasks.len() {
            match launches.last_mut() {
                Some(last) if follows_the_last(at) => last.end = at + 1,
                _ => launches.push(at..at + 1),
            }
        }
        launches.into_iter().map(|launch| &tasks[launch]).collect()
    }
}
