//! Runs plans on the CPU with rayon. When a plan is loaded, each of its steps is lowered to a
//! [`CpuStep`], and all memory is allocated; a run moves buffers in and out of the steps' arguments and
//! allocates nothing.
//!
//! - `crew`: the threads.
//! - `rules`: how it rewrites a graph.
//! - `segments`: which steps run tile by tile, and in which tiles.
//! - `tiles`: runs them.

mod crew;
pub mod rules;
mod segments;
mod tiles;

use std::time::Instant;

use super::fit::check_memory;
use super::{Data, Device, Names, PlanId, Plans, Written, check, port};
use crate::error::{Error, Result};
use crate::graph::plan::{Place, Plan, Port, Step};
use crate::graph::rewrite::Rule;
use crate::kernels::peak::Peak;
use crate::kernels::simd::Isa;
use crate::ops::Types;
use crate::ops::cpu_step::{CpuArgs, CpuStep, CpuTarget, MAX_INPUTS, MAX_OUTPUTS};
use crate::tensor::{Buffer, DType, TensorType};
use crate::text::counted;
use crew::Crew;
use tiles::Segment;

/// The CPU as a device.
pub struct Cpu {
    isa: Isa,
    crew: Crew,
    states: Vec<Buffer>,
    names: Names,
    plans: Plans<Loaded>,
    scratch: Buffer,
    /// Rises whenever a state is written.
    version: u64,
}

/// What the steps of a plan do, and how much memory that takes.
struct Lowered {
    work: Vec<CpuStep>,
    /// The steps that run tile by tile.
    segments: Vec<Segment>,
    /// Elements of each slot that are left to the plan.
    slots: Vec<usize>,
    /// Of each step, elements of its weights as it would rather have them, where they are constant.
    packed: Vec<usize>,
    /// Elements for the steps that run one after the other.
    scratch: usize,
}

struct Loaded {
    plan: Plan,
    work: Vec<CpuStep>,
    segments: Vec<Segment>,
    slots: Vec<Buffer>,
    /// Of each step, its weights as it would rather have them, where they are constant.
    packed: Vec<Buffer>,
    written: Written,
    /// The version of the states that the constants were computed from; 0 before the first run.
    constants_of: u64,
    /// The device's number for each of the plan's states.
    states: Vec<usize>,
    /// The outputs that every run records: where they are, and their elements.
    recorded: Vec<(Place, usize)>,
    /// What was recorded and not collected yet.
    records: Vec<f32>,
}

impl Lowered {
    fn new(plan: &Plan, target: CpuTarget) -> Lowered {
        let work: Vec<CpuStep> = plan.steps.iter().map(|step| step.op.cpu(&step.types, target)).collect();
        let mut segments = segments::find(plan, &work, target);
        segments.iter_mut().for_each(|segment| segment.lower(target.isa));
        let alone = |index: &usize| !segments.iter().any(|segment| segment.steps().contains(index));
        let scratch = (0..work.len()).filter(alone).map(|index| work[index].scratch).max().unwrap_or(0);
        let mut slots = vec![0; plan.slots.len()];
        let mut need = |place: Place, len: usize| {
            if let Place::Slot(slot) = place {
                slots[slot] = len.max(slots[slot]);
            }
        };
        for index in (0..plan.steps.len()).filter(alone) {
            let Step { inputs, outputs, types, .. } = &plan.steps[index];
            let operands = inputs.iter().zip(&types.inputs).chain(outputs.iter().zip(&types.outputs));
            operands.for_each(|(place, ty)| need(*place, ty.len()));
        }
        plan.inputs.iter().chain(&plan.outputs).for_each(|port| need(port.place, port.ty.len()));
        segments.iter().for_each(|segment| segment.needs_outside(plan, &mut need));
        let packed = plan.steps.iter().zip(&work).map(|(step, work)| {
            let pack = work.pack.as_ref().filter(|pack| plan.is_constant(step.inputs[pack.input]));
            pack.map_or(0, |pack| pack.len)
        });
        let packed = packed.collect();
        Lowered { work, segments, slots, packed, scratch }
    }

    /// Bytes that the plan's runs need on so many threads.
    fn bytes(&self, plan: &Plan, threads: usize) -> usize {
        let workers = self.segments.iter().map(|segment| segment.elements(plan, &self.slots, threads));
        let own = self.slots.iter().chain(&self.packed).sum::<usize>() + self.scratch;
        plan.state_bytes() + 4 * (own + workers.sum::<usize>())
    }
}

impl Cpu {
    /// `threads` 0 means one a core.
    ///
    /// # Errors
    /// If this machine lacks the instruction set, or the operating system gives no threads.
    pub fn new(threads: usize, isa: Isa) -> Result<Cpu> {
        if !Isa::available().contains(&isa) {
            return Err(Error::Failed(format!("this machine does not have the instruction set {isa}")));
        }
        let crew = Crew::new(threads)?;
        let (states, names, plans) = (Vec::new(), Names::default(), Plans::new());
        Ok(Cpu { isa, crew, states, names, plans, scratch: Buffer::default(), version: 1 })
    }

    /// Number of threads that a run uses.
    pub fn threads(&self) -> usize {
        self.crew.threads()
    }

    /// The instruction set that the kernels were chosen for.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    fn lower(&self, plan: &Plan) -> Lowered {
        Lowered::new(plan, CpuTarget { isa: self.isa, threads: self.threads() })
    }

    fn state_index(&mut self, name: &str, ty: &TensorType) -> Result<usize> {
        let index = self.names.number(name, ty)?;
        if index == self.states.len() {
            self.states.push(Buffer::zeroed(ty.len()));
        }
        Ok(index)
    }

    /// Calls `visit` after every step of one run, with the step and the seconds it took: for
    /// profiles and step-by-step checks. After a segment it is called once all of its steps are
    /// done.
    ///
    /// # Errors
    /// If an input was never written.
    pub fn run_with(&mut self, plan: PlanId, mut visit: impl FnMut(usize, &Step, f64) + Send) -> Result<()> {
        let Loaded { plan, work, segments, slots, packed, written, constants_of, states, recorded, records } =
            self.plans.get_mut(plan)?;
        written.check(plan)?;
        let memory = &mut Memory { slots, states: &mut self.states, of_plan: states };
        let (scratch, stale) = (&mut self.scratch, *constants_of != self.version);
        self.crew.run(|| {
            let mut next = if stale { 0 } else { plan.constants };
            while let Some(step) = plan.steps.get(next) {
                let segment = segments.iter_mut().find(|segment| segment.steps().start == next);
                let steps = segment.as_ref().map_or(next..next + 1, |segment| segment.steps());
                let begin = Instant::now();
                for index in steps.clone().filter(|_| stale) {
                    memory.pack(&plan.steps[index], &work[index], &mut packed[index]);
                }
                if let Some(segment) = segment {
                    segment.run(memory.shared(packed));
                    segment.leave(memory.slots);
                    steps.clone().for_each(|index| visit(index, &plan.steps[index], segment.seconds(index)));
                } else {
                    memory.run(step, &work[next], packed[next].f32(), scratch.f32_mut());
                    visit(next, step, begin.elapsed().as_secs_f64());
                }
                next = steps.end;
            }
        });
        self.version += u64::from(plan.written_states().next().is_some());
        *constants_of = self.version;
        for (place, len) in recorded {
            records.extend_from_slice(&memory.get(*place).f32()[..*len]);
        }
        Ok(())
    }
}

/// Runs a step on operands that are at least as long as their types; an input that shares memory
/// with an output is empty.
fn call(
    work: &CpuStep,
    types: &Types,
    mut inputs: [&[f32]; MAX_INPUTS],
    mut outputs: [&mut [f32]; MAX_OUTPUTS],
    packed: &[f32],
    scratch: &mut [f32],
) {
    for (values, ty) in inputs.iter_mut().zip(&types.inputs) {
        *values = &values[..values.len().min(ty.len())];
    }
    for (values, ty) in outputs.iter_mut().zip(&types.outputs) {
        *values = &mut std::mem::take(values)[..ty.len()];
    }
    let scratch = &mut scratch[..work.scratch];
    (work.run)(&mut CpuArgs { inputs, outputs, packed, scratch });
}

/// All memory of a plan, to be read by several workers.
#[derive(Clone, Copy)]
struct Shared<'a> {
    slots: &'a [Buffer],
    states: &'a [Buffer],
    of_plan: &'a [usize],
    packed: &'a [Buffer],
}

impl<'a> Shared<'a> {
    /// What lies there.
    fn get(&self, place: Place) -> &'a [f32] {
        match place {
            Place::Slot(slot) => self.slots[slot].f32(),
            Place::State(state) => self.states[self.of_plan[state]].f32(),
        }
    }
}

/// The buffers of one run.
struct Memory<'a> {
    slots: &'a mut [Buffer],
    states: &'a mut [Buffer],
    of_plan: &'a [usize],
}

impl Memory<'_> {
    fn get(&self, place: Place) -> &Buffer {
        match place {
            Place::Slot(slot) => &self.slots[slot],
            Place::State(state) => &self.states[self.of_plan[state]],
        }
    }

    fn get_mut(&mut self, place: Place) -> &mut Buffer {
        match place {
            Place::Slot(slot) => &mut self.slots[slot],
            Place::State(state) => &mut self.states[self.of_plan[state]],
        }
    }

    fn shared<'a>(&'a self, packed: &'a [Buffer]) -> Shared<'a> {
        Shared { slots: self.slots, states: self.states, of_plan: self.of_plan, packed }
    }

    /// Brings a step's weights into the form that it would rather have, if they have room in it.
    fn pack(&self, step: &Step, work: &CpuStep, packed: &mut Buffer) {
        if let Some(pack) = work.pack.as_ref().filter(|_| !packed.is_empty()) {
            let weights = self.get(step.inputs[pack.input]).f32();
            (pack.run)(&weights[..step.types.inputs[pack.input].len()], packed.f32_mut());
        }
    }

    /// The outputs' buffers are moved out for the call; an input that shares memory with an output
    /// is therefore seen empty, as `Op::alias` says.
    fn run(&mut self, step: &Step, work: &CpuStep, packed: &[f32], scratch: &mut [f32]) {
        let mut buffers: [Buffer; MAX_OUTPUTS] = Default::default();
        for (buffer, place) in buffers.iter_mut().zip(&step.outputs) {
            std::mem::swap(buffer, self.get_mut(*place));
        }
        let mut inputs: [&[f32]; MAX_INPUTS] = [&[]; MAX_INPUTS];
        for (values, place) in inputs.iter_mut().zip(&step.inputs) {
            *values = self.get(*place).f32();
        }
        let outputs = buffers.each_mut().map(Buffer::f32_mut);
        call(work, &step.types, inputs, outputs, packed, scratch);
        for (buffer, place) in buffers.iter_mut().zip(&step.outputs) {
            std::mem::swap(buffer, self.get_mut(*place));
        }
    }
}

impl Device for Cpu {
    fn name(&self) -> String {
        format!("cpu, {}, {}", counted(self.threads(), "thread"), self.isa)
    }

    fn peak(&mut self) -> Option<Peak> {
        let isa = self.isa;
        Some(self.crew.run(|| Peak::measure(isa)))
    }

    fn rules(&self) -> &'static [&'static Rule] {
        rules::RULES
    }

    fn load_plan(&mut self, plan: Plan) -> Result<PlanId> {
        let lowered = self.lower(&plan);
        check_memory(&plan, lowered.bytes(&plan, self.threads()))?;
        let states: Result<Vec<usize>> =
            plan.states.iter().map(|(name, ty)| self.state_index(name, ty)).collect();
        let states = states?;
        let Lowered { work, mut segments, slots, packed, scratch } = lowered;
        if scratch > self.scratch.len() {
            self.scratch = Buffer::zeroed(scratch);
        }
        segments.iter_mut().for_each(|segment| segment.allocate(&plan, &slots, self.crew.threads()));
        let [slots, packed] = [slots, packed].map(|lens| lens.into_iter().map(Buffer::zeroed).collect());
        let (constants_of, recorded, records) = (0, Vec::new(), Vec::new());
        let written = Written::none(&plan);
        Ok(self.plans.push(Loaded {
            plan,
            work,
            segments,
            slots,
            packed,
            written,
            constants_of,
            states,
            recorded,
            records,
        }))
    }

    fn run(&mut self, plan: PlanId) -> Result<()> {
        self.run_with(plan, |_, _, _| {})
    }

    fn planned_bytes(&self, plan: &Plan) -> usize {
        self.lower(plan).bytes(plan, self.threads())
    }

    fn profile(&mut self, plan: PlanId, visit: &mut dyn FnMut(usize, &Step, f64)) -> Result<()> {
        let mut seconds = Vec::new();
        self.run_with(plan, |index, _, taken| seconds.push((index, taken)))?;
        let steps = &self.plans.get(plan)?.plan.steps;
        seconds.into_iter().for_each(|(index, seconds)| visit(index, &steps[index], seconds));
        Ok(())
    }

    fn record(&mut self, plan: PlanId, outputs: &[&str]) -> Result<()> {
        let Loaded { plan, recorded, .. } = self.plans.get_mut(plan)?;
        let ports =
            outputs.iter().map(|name| port(&plan.outputs, name).map(|port| (port.place, port.ty.len())));
        *recorded = ports.collect::<Result<_>>()?;
        Ok(())
    }

    fn collect(&mut self, plan: PlanId, _all: bool, visit: &mut dyn FnMut(&[f32])) -> Result<()> {
        let Loaded { recorded, records, .. } = self.plans.get_mut(plan)?;
        let len = recorded.iter().map(|(_, len)| len).sum();
        if !records.is_empty() {
            records.chunks_exact(len).for_each(visit);
            records.clear();
        }
        Ok(())
    }

    fn wait(&self) -> Result<()> {
        Ok(())
    }

    fn write(&mut self, plan: PlanId, input: &str, data: Data) -> Result<()> {
        let Loaded { plan, slots, states, written, .. } = self.plans.get_mut(plan)?;
        let Port { ty, place, .. } = port(&plan.inputs, input)?;
        check(input, ty, data)?;
        written.note(plan, input);
        let memory = &mut Memory { slots, states: &mut self.states, of_plan: states };
        copy_in(input, ty, memory.get_mut(*place), data)
    }

    fn read(&self, plan: PlanId, output: &str) -> Result<Vec<f32>> {
        let Loaded { plan, slots, states, .. } = self.plans.get(plan)?;
        let Port { ty, place, .. } = port(&plan.outputs, output)?;
        let buffer = match *place {
            Place::Slot(slot) => &slots[slot],
            Place::State(state) => &self.states[states[state]],
        };
        Ok(buffer.f32()[..ty.len()].to_vec())
    }

    fn write_state(&mut self, name: &str, data: Data) -> Result<()> {
        let (index, ty) = self.names.find(name)?;
        self.version += 1;
        copy_in(name, ty, &mut self.states[index], data)
    }

    fn read_state(&self, name: &str) -> Result<Vec<f32>> {
        let (index, _) = self.names.find_of(name, DType::F32)?;
        Ok(self.states[index].f32().to_vec())
    }

    fn read_state_u32(&self, name: &str) -> Result<Vec<u32>> {
        let (index, _) = self.names.find_of(name, DType::U32)?;
        Ok(self.states[index].u32().to_vec())
    }
}

fn copy_in(name: &str, ty: &TensorType, buffer: &mut Buffer, data: Data) -> Result<()> {
    check(name, ty, data)?;
    match data {
        Data::F32(data) => buffer.f32_mut()[..data.len()].copy_from_slice(data),
        Data::U32(data) => buffer.u32_mut()[..data.len()].copy_from_slice(data),
    }
    Ok(())
}
