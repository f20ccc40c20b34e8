//! The CPU as a device: runs plans, with rayon.
//!
//! When a plan is loaded, each of its steps is lowered to a [`CpuStep`], and all memory is
//! allocated; a run moves buffers in and out of the steps' arguments and allocates nothing.
//!
//! - `pool`: the threads.
//! - `rules`: how it rewrites a graph.
//! - `segments`: which steps run tile by tile, and in which tiles.
//! - `tiles`: runs them.

pub mod rules;
mod segments;
mod spin_pool;
mod tiles;

use std::time::Instant;

use super::fit::check_memory;
use super::plans::{Loaded, Plans, State, binding};
use super::{Data, Device, PlanId, check, copy_out};
use crate::error::{Error, Result};
use crate::exec::plan::{IoBinding, Location, Plan, Step};
use crate::graph::rewrite::Rule;
use crate::kernels::peak::Peak;
use crate::kernels::simd::Isa;
use crate::ops::Types;
use crate::ops::cpu_step::{CpuArgs, CpuStep, CpuTarget, MAX_OUTPUTS, with_inputs};
use crate::tensor::{Buffer, DType};
use crate::text::counted;
use spin_pool::SpinPool;
use tiles::Segment;

/// The CPU as a device.
pub struct Cpu {
    isa: Isa,
    pool: SpinPool,
    plans: Plans<CpuProgram, Buffer>,
    /// For the steps that run one after the other, of whatever plan.
    scratch: Buffer,
}

/// The work of the steps of a plan, and the memory that it takes.
struct Lowered {
    work: Vec<CpuStep>,
    /// The steps that run tile by tile.
    segments: Vec<Segment>,
    /// Elements of each slot that are left to the plan.
    slots: Vec<usize>,
    /// Elements of each step's packed weights; 0 where they are not constant.
    packed: Vec<usize>,
    /// Elements for the steps that run one after the other.
    scratch: usize,
}

/// A plan, ready to run.
struct CpuProgram {
    work: Vec<CpuStep>,
    segments: Vec<Segment>,
    slots: Vec<Buffer>,
    /// Packed weights of each step, where they are constant.
    packed: Vec<Buffer>,
    /// Elements for the steps that run one after the other.
    scratch: usize,
    /// The outputs that every run records: where they are, and their elements.
    recorded: Vec<(Location, usize)>,
    /// Values that were recorded and not collected yet.
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
        let mut need = |location: Location, len: usize| {
            if let Location::Slot(slot) = location {
                slots[slot] = len.max(slots[slot]);
            }
        };
        for index in (0..plan.steps.len()).filter(alone) {
            let Step { inputs, outputs, types, .. } = &plan.steps[index];
            let operands = inputs.iter().zip(&types.inputs).chain(outputs.iter().zip(&types.outputs));
            operands.for_each(|(location, ty)| need(*location, ty.len()));
        }
        plan.inputs.iter().chain(&plan.outputs).for_each(|binding| need(binding.location, binding.ty.len()));
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

    /// Gives it its memory.
    fn allocate(self, plan: &Plan, threads: usize) -> CpuProgram {
        let Lowered { work, mut segments, slots, packed, scratch } = self;
        segments.iter_mut().for_each(|segment| segment.allocate(plan, &slots, threads));
        let [slots, packed] = [slots, packed].map(|lens| lens.into_iter().map(Buffer::zeroed).collect());
        CpuProgram { work, segments, slots, packed, scratch, recorded: Vec::new(), records: Vec::new() }
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
        let pool = SpinPool::new(threads)?;
        Ok(Cpu { isa, pool, plans: Plans::new(), scratch: Buffer::default() })
    }

    /// Number of threads that a run uses.
    pub fn threads(&self) -> usize {
        self.pool.threads()
    }

    /// The instruction set that the kernels were chosen for.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    fn lower(&self, plan: &Plan) -> Lowered {
        Lowered::new(plan, CpuTarget { isa: self.isa, threads: self.threads() })
    }

    /// Calls `visit` after every step of one run, with the step and the seconds it took: for
    /// profiles and step-by-step checks. After a segment it is called once all of its steps are
    /// done.
    ///
    /// # Errors
    /// As for [`Device::run`].
    pub fn run_with(&mut self, plan: PlanId, mut visit: impl FnMut(usize, &Step, f64) + Send) -> Result<()> {
        self.run_seeing(plan, |index, step, seconds, _| visit(index, step, seconds))
    }

    /// [`Cpu::run_with`] that shows the memory, too.
    fn run_seeing(
        &mut self,
        plan: PlanId,
        mut visit: impl FnMut(usize, &Step, f64, &Buffers) + Send,
    ) -> Result<()> {
        let (Loaded { plan, states: of_plan, own, .. }, states, stale) = self.plans.start(plan)?;
        let CpuProgram { work, segments, slots, packed, recorded, records, .. } = own;
        let memory = &mut Buffers { slots, states: &mut states.buffers, of_plan };
        let scratch = &mut self.scratch;
        self.pool.run(|| {
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
                    steps.clone().for_each(|index| {
                        visit(index, &plan.steps[index], segment.seconds(index), memory);
                    });
                } else {
                    memory.run(step, &work[next], packed[next].f32(), scratch.f32_mut());
                    visit(next, step, begin.elapsed().as_secs_f64(), memory);
                }
                next = steps.end;
            }
        });
        for (location, len) in recorded {
            records.extend_from_slice(&memory.get(*location).f32()[..*len]);
        }
        Ok(())
    }
}

/// Runs a step on operands that are at least as long as their types; an input that shares memory
/// with an output is empty.
fn call<'a>(
    work: &CpuStep,
    types: &Types,
    inputs: impl ExactSizeIterator<Item = &'a [f32]>,
    mut outputs: [&mut [f32]; MAX_OUTPUTS],
    packed: &[f32],
    scratch: &mut [f32],
) {
    let inputs = inputs.zip(&types.inputs).map(|(values, ty)| &values[..values.len().min(ty.len())]);
    for (values, ty) in outputs.iter_mut().zip(&types.outputs) {
        *values = &mut std::mem::take(values)[..ty.len()];
    }
    let scratch = &mut scratch[..work.scratch];
    with_inputs(inputs, |inputs| (work.run)(&mut CpuArgs { inputs, outputs, packed, scratch }));
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
    /// The values at a location.
    fn get(&self, location: Location) -> &'a [f32] {
        match location {
            Location::Slot(slot) => self.slots[slot].f32(),
            Location::State(state) => self.states[self.of_plan[state]].f32(),
        }
    }
}

/// The buffers of one run.
struct Buffers<'a> {
    slots: &'a mut [Buffer],
    states: &'a mut [Buffer],
    of_plan: &'a [usize],
}

impl Buffers<'_> {
    fn get(&self, location: Location) -> &Buffer {
        match location {
            Location::Slot(slot) => &self.slots[slot],
            Location::State(state) => &self.states[self.of_plan[state]],
        }
    }

    fn get_mut(&mut self, location: Location) -> &mut Buffer {
        match location {
            Location::Slot(slot) => &mut self.slots[slot],
            Location::State(state) => &mut self.states[self.of_plan[state]],
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
        for (buffer, location) in buffers.iter_mut().zip(&step.outputs) {
            std::mem::swap(buffer, self.get_mut(*location));
        }
        let inputs = step.inputs.iter().map(|location| self.get(*location).f32());
        let outputs = buffers.each_mut().map(Buffer::f32_mut);
        call(work, &step.types, inputs, outputs, packed, scratch);
        for (buffer, location) in buffers.iter_mut().zip(&step.outputs) {
            std::mem::swap(buffer, self.get_mut(*location));
        }
    }
}

impl Cpu {
    /// The values of an output, where they lie.
    fn output(&self, plan: PlanId, output: &str) -> Result<&[f32]> {
        let (loaded, states) = self.plans.get(plan)?;
        let IoBinding { ty, location, .. } = binding(&loaded.plan.outputs, output)?;
        let buffer = match *location {
            Location::Slot(slot) => &loaded.own.slots[slot],
            Location::State(state) => &states.buffers[loaded.states[state]],
        };
        Ok(&buffer.f32()[..ty.len()])
    }
}

impl Device for Cpu {
    fn name(&self) -> String {
        format!("cpu, {}, {}", counted(self.threads(), "thread"), self.isa)
    }

    fn peak(&mut self) -> Result<Option<Peak>> {
        let isa = self.isa;
        Ok(Some(self.pool.run(|| Peak::measure(isa))))
    }

    fn rules(&self) -> &'static [&'static Rule] {
        rules::RULES
    }

    fn load_plan(&mut self, plan: Plan, beside: Option<PlanId>) -> Result<PlanId> {
        let lowered = self.lower(&plan);
        check_memory(&plan, lowered.bytes(&plan, self.threads()))?;
        let needed = lowered.scratch;
        let allocate = |_, (_, ty): &State| Ok(Buffer::zeroed(ty.len()));
        let threads = self.pool.threads();
        let id = self.plans.load(plan, beside, allocate, |plan, _, _| Ok(lowered.allocate(plan, threads)))?;
        if needed > self.scratch.len() {
            self.scratch = Buffer::zeroed(needed);
        }
        Ok(id)
    }

    fn unload(&mut self, plan: PlanId) -> Result<()> {
        self.plans.unload(plan)?;
        let needed = self.plans.all().map(|loaded| loaded.own.scratch).max().unwrap_or(0);
        if needed < self.scratch.len() {
            self.scratch = Buffer::zeroed(needed);
        }
        Ok(())
    }

    fn run(&mut self, plan: PlanId) -> Result<()> {
        self.run_with(plan, |_, _, _| {})
    }

    fn run_telling(
        &mut self,
        plan: PlanId,
        outputs: &[&str],
        tell: &mut (dyn FnMut(usize, &[f32]) + Send),
    ) -> Result<()> {
        let bound = &self.plans.get(plan)?.0.plan;
        let place = |name: &&str| binding(&bound.outputs, name).map(|io| (io.location, io.ty.len()));
        let places: Vec<(Location, usize)> = outputs.iter().map(place).collect::<Result<_>>()?;
        // The last to write there is the one that computes it: after it nothing does.
        let last = |location| bound.steps.iter().rposition(|step| step.outputs.contains(&location));
        let steps: Vec<Option<usize>> = places.iter().map(|(location, _)| last(*location)).collect();
        let mut told = vec![false; outputs.len()];
        self.run_seeing(plan, |index, _, _, memory| {
            for number in (0..steps.len()).filter(|&number| steps[number] == Some(index)) {
                let (location, len) = places[number];
                tell(number, &memory.get(location).f32()[..len]);
                told[number] = true;
            }
        })?;
        // What no step of a run computes: a state, or what depends on nothing but such.
        let untold = (0..outputs.len()).filter(|&number| !told[number]);
        untold.into_iter().try_for_each(|number| {
            tell(number, self.output(plan, outputs[number])?);
            Ok(())
        })
    }

    fn planned_bytes(&self, plan: &Plan) -> usize {
        self.lower(plan).bytes(plan, self.threads())
    }

    fn profile(&mut self, plan: PlanId, visit: &mut dyn FnMut(usize, &Step, f64)) -> Result<()> {
        let mut seconds = Vec::new();
        self.run_with(plan, |index, _, taken| seconds.push((index, taken)))?;
        let steps = &self.plans.get(plan)?.0.plan.steps;
        seconds.into_iter().for_each(|(index, seconds)| visit(index, &steps[index], seconds));
        Ok(())
    }

    fn record(&mut self, plan: PlanId, outputs: &[&str]) -> Result<()> {
        let (loaded, _) = self.plans.get_mut(plan)?;
        let bindings = outputs.iter().map(|name| {
            binding(&loaded.plan.outputs, name).map(|binding| (binding.location, binding.ty.len()))
        });
        loaded.own.recorded = bindings.collect::<Result<_>>()?;
        Ok(())
    }

    fn collect(&mut self, plan: PlanId, _all: bool, visit: &mut dyn FnMut(&[f32])) -> Result<()> {
        let CpuProgram { recorded, records, .. } = &mut self.plans.get_mut(plan)?.0.own;
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
        let (loaded, states) = self.plans.get_mut(plan)?;
        let IoBinding { ty, location, .. } = binding(&loaded.plan.inputs, input)?;
        check(input, ty, data)?;
        let buffer = match *location {
            Location::Slot(slot) => &mut loaded.own.slots[slot],
            Location::State(state) => &mut states.buffers[loaded.states[state]],
        };
        copy_in(buffer, data);
        loaded.wrote(input, states);
        Ok(())
    }

    fn read(&self, plan: PlanId, output: &str) -> Result<Vec<f32>> {
        Ok(self.output(plan, output)?.to_vec())
    }

    fn read_into(&self, plan: PlanId, output: &str, to: &mut [f32]) -> Result<()> {
        copy_out(output, self.output(plan, output)?, to)
    }

    fn write_state(&mut self, plan: PlanId, name: &str, data: Data) -> Result<()> {
        let (_, states) = self.plans.get_mut(plan)?;
        let (number, ty) = states.find(name)?;
        check(name, ty, data)?;
        copy_in(&mut states.buffers[number], data);
        states.wrote(number);
        Ok(())
    }

    fn read_state(&self, plan: PlanId, name: &str) -> Result<Vec<f32>> {
        let (_, states) = self.plans.get(plan)?;
        Ok(states.buffers[states.find_of(name, DType::F32)?.0].f32().to_vec())
    }

    fn read_state_u32(&self, plan: PlanId, name: &str) -> Result<Vec<u32>> {
        let (_, states) = self.plans.get(plan)?;
        Ok(states.buffers[states.find_of(name, DType::U32)?.0].u32().to_vec())
    }
}

fn copy_in(buffer: &mut Buffer, data: Data) {
    match data {
        Data::F32(data) => buffer.f32_mut()[..data.len()].copy_from_slice(data),
        Data::U32(data) => buffer.u32_mut()[..data.len()].copy_from_slice(data),
    }
}
