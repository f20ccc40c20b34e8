//! Runs plans on the CPU with rayon. All memory is allocated when a plan is loaded; a run moves
//! buffers in and out of the ops' arguments and allocates nothing.

use std::time::Instant;

use super::crew::Crew;
use super::fit::check_memory;
use super::together::{self, Shared, Together};
use super::{Data, Device, Names, PlanId, check, port};
use crate::error::Result;
use crate::graph::plan::{Place, Plan, Port, Step};
use crate::kernels::peak::Peak;
use crate::kernels::simd::Isa;
use crate::ops::{CpuArgs, MAX_INPUTS, MAX_OUTPUTS};
use crate::tensor::{Buffer, TensorType};
use crate::text::counted;

/// The CPU as a device.
pub struct Cpu {
    isa: Isa,
    crew: Crew,
    states: Vec<Buffer>,
    names: Names,
    plans: Vec<Loaded>,
    scratch: Buffer,
    /// Rises whenever a state is written.
    version: u64,
}

struct Loaded {
    plan: Plan,
    /// The steps that run picture by picture, or band by band, if there are such.
    together: Vec<Box<dyn Together>>,
    slots: Vec<Buffer>,
    /// Of each step, its weights as it would rather have them, where they are constant.
    prepared: Vec<Buffer>,
    /// The version of the states that the constants were computed from; 0 before the first run.
    constants_of: u64,
    /// The device's number for each of the plan's states.
    states: Vec<usize>,
    /// The outputs that every run records: where they are, and their elements.
    recorded: Vec<(Place, usize)>,
    /// What was recorded and not collected yet.
    records: Vec<f32>,
}

impl Cpu {
    /// `threads` 0 means one a core.
    ///
    /// # Errors
    /// If the operating system gives no threads.
    pub fn new(threads: usize, isa: Isa) -> Result<Cpu> {
        let crew = Crew::new(threads)?;
        let (states, names, plans) = (Vec::new(), Names::default(), Vec::new());
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

    /// Elements of scratch for the steps that run one after the other.
    fn scratch_of(&self, plan: &Plan, together: &[Box<dyn Together>]) -> usize {
        let alone = |index: &usize| !together.iter().any(|part| part.steps().contains(index));
        let steps = (0..plan.steps.len()).filter(alone).map(|index| &plan.steps[index]);
        steps.map(|step| step.op.cpu_scratch(&step.types, self.isa, self.threads())).max().unwrap_or(0)
    }

    fn state_index(&mut self, name: &str, ty: &TensorType) -> Result<usize> {
        let index = self.names.number(name, ty)?;
        if index == self.states.len() {
            self.states.push(Buffer::zeroed(ty.len()));
        }
        Ok(index)
    }

    /// Calls `visit` after every step of one run, with the step and the seconds it took: for
    /// profiles and step-by-step checks. After steps that run together it is called once they are
    /// all done.
    ///
    /// # Errors
    /// None on the CPU.
    pub fn run_with(&mut self, plan: PlanId, mut visit: impl FnMut(usize, &Step, f64) + Send) -> Result<()> {
        let Loaded { plan, together, slots, prepared, constants_of, states, recorded, records } =
            &mut self.plans[plan.0];
        let memory = &mut Memory { slots, states: &mut self.states, of_plan: states };
        let (isa, scratch, stale) = (self.isa, &mut self.scratch, *constants_of != self.version);
        self.crew.run(|| {
            let mut next = if stale { 0 } else { plan.constants };
            while let Some(step) = plan.steps.get(next) {
                let part = together.iter_mut().find(|part| part.steps().start == next);
                let steps = part.as_ref().map_or(next..next + 1, |part| part.steps());
                let begin = Instant::now();
                for index in steps.clone().filter(|_| stale) {
                    memory.prepare(&plan.steps[index], isa, &mut prepared[index]);
                }
                if let Some(part) = part {
                    part.run(plan, memory.shared(isa, prepared));
                    part.leave(memory.slots);
                    steps.clone().for_each(|index| visit(index, &plan.steps[index], part.seconds(index)));
                } else {
                    memory.run(step, isa, prepared[next].f32(), scratch.f32_mut());
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

/// Elements that a step of the plan keeps prepared weights in.
fn prepared_len(plan: &Plan, step: &Step, isa: Isa) -> usize {
    let prepared = step.op.cpu_prepared(&step.types, isa);
    prepared.filter(|(weights, _)| plan.is_constant(step.inputs[*weights])).map_or(0, |(_, len)| len)
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

    fn shared<'a>(&'a self, isa: Isa, prepared: &'a [Buffer]) -> Shared<'a> {
        Shared { isa, slots: self.slots, states: self.states, of_plan: self.of_plan, prepared }
    }

    /// Brings a step's weights into the form that it would rather have, if they have room in it.
    fn prepare(&self, step: &Step, isa: Isa, prepared: &mut Buffer) {
        if let Some((weights, _)) = step.op.cpu_prepared(&step.types, isa) {
            let weights = self.get(step.inputs[weights]).f32();
            step.op.cpu_prepare(&step.types, isa, weights, prepared.f32_mut());
        }
    }

    /// The outputs' buffers are moved out for the call; an input that shares memory with an output
    /// is therefore seen empty, as `Op::in_place` says.
    fn run(&mut self, step: &Step, isa: Isa, prepared: &[f32], scratch: &mut [f32]) {
        let mut buffers: [Buffer; MAX_OUTPUTS] = Default::default();
        for (buffer, place) in buffers.iter_mut().zip(&step.outputs) {
            std::mem::swap(buffer, self.get_mut(*place));
        }
        let mut inputs: [&[f32]; MAX_INPUTS] = [&[]; MAX_INPUTS];
        for (values, place) in inputs.iter_mut().zip(&step.inputs) {
            *values = self.get(*place).f32();
        }
        let outputs = buffers.each_mut().map(Buffer::f32_mut);
        let mut args = CpuArgs { isa, inputs, outputs, types: &step.types, prepared, scratch };
        step.op.cpu(&step.types, &mut args);
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

    fn load(&mut self, plan: Plan) -> Result<PlanId> {
        check_memory(&plan, self.planned_bytes(&plan))?;
        let states: Result<Vec<usize>> =
            plan.states.iter().map(|(name, ty)| self.state_index(name, ty)).collect();
        let (mut together, slots) = together::find(&plan, self.threads());
        let scratch = self.scratch_of(&plan, &together);
        if scratch > self.scratch.len() {
            self.scratch = Buffer::zeroed(scratch);
        }
        together.iter_mut().for_each(|part| part.allocate(&plan, &slots, self.isa, self.threads()));
        let slots = slots.into_iter().map(Buffer::zeroed).collect();
        let prepared = plan.steps.iter().map(|step| Buffer::zeroed(prepared_len(&plan, step, self.isa)));
        let prepared = prepared.collect();
        let (states, recorded, records) = (states?, Vec::new(), Vec::new());
        let loaded = Loaded { plan, together, slots, prepared, constants_of: 0, states, recorded, records };
        self.plans.push(loaded);
        Ok(PlanId(self.plans.len() - 1))
    }

    fn run(&mut self, plan: PlanId) -> Result<()> {
        self.run_with(plan, |_, _, _| {})
    }

    fn planned_bytes(&self, plan: &Plan) -> usize {
        let prepared: usize = plan.steps.iter().map(|step| prepared_len(plan, step, self.isa)).sum();
        let (together, slots) = together::find(plan, self.threads());
        let workers = together.iter().map(|part| part.elements(plan, &slots, self.isa, self.threads()));
        let elements = slots.iter().sum::<usize>() + workers.sum::<usize>() + prepared;
        plan.state_bytes() + 4 * (elements + self.scratch_of(plan, &together))
    }

    fn profile(&mut self, plan: PlanId, visit: &mut dyn FnMut(usize, &Step, f64)) -> Result<()> {
        let mut seconds = Vec::new();
        self.run_with(plan, |index, _, taken| seconds.push((index, taken)))?;
        let steps = &self.plans[plan.0].plan.steps;
        seconds.into_iter().for_each(|(index, seconds)| visit(index, &steps[index], seconds));
        Ok(())
    }

    fn record(&mut self, plan: PlanId, outputs: &[&str]) -> Result<()> {
        let Loaded { plan, recorded, .. } = &mut self.plans[plan.0];
        let ports =
            outputs.iter().map(|name| port(&plan.outputs, name).map(|port| (port.place, port.ty.len())));
        *recorded = ports.collect::<Result<_>>()?;
        Ok(())
    }

    fn collect(&mut self, plan: PlanId, _all: bool, visit: &mut dyn FnMut(&[f32])) -> Result<()> {
        let Loaded { recorded, records, .. } = &mut self.plans[plan.0];
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
        let Loaded { plan, slots, states, .. } = &mut self.plans[plan.0];
        let Port { ty, place, .. } = port(&plan.inputs, input)?;
        let memory = &mut Memory { slots, states: &mut self.states, of_plan: states };
        copy_in(input, ty, memory.get_mut(*place), data)
    }

    fn read(&self, plan: PlanId, output: &str) -> Result<Vec<f32>> {
        let Loaded { plan, slots, states, .. } = &self.plans[plan.0];
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
        let (index, _) = self.names.find(name)?;
        Ok(self.states[index].f32().to_vec())
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
