//! A GPU as a device: runs plans, by shaders.
//!
//! This is the only module that knows wgpu.
//!
//! - [`adapter`]: which GPU.
//! - `absent`: why there is none.
//! - `half`: what is stored in half precision, on a GPU that was opened so.
//! - `context`: an open GPU, its memory, its faults.
//! - `joint`: which steps one launch can do.
//! - `kept_tiles`: the fastest tiles, on disk.
//! - `limits`: what an adapter must allow; what a plan may not exceed is in [`super::limits`].
//! - `memory`: where slots and states lie.
//! - `peak`: what a step's time is compared with.
//! - `pipelines`: compiled shaders.
//! - `program`: a plan, ready to run: a list of launches.
//! - `profile`: how long each step takes.
//! - `readback`: outputs that every run sends to the host, without anybody waiting.
//! - `tiles`: which tile each product gets.
//!
//! Everything is built when a plan is loaded: memory for each slot and each state, a pipeline for
//! each different dispatch, a bind group for each launch. A run encodes the launches into one
//! pass of one command buffer and submits it; between two dispatches of which one writes what the
//! other touches, wgpu puts a barrier. All buffers begin as zeros, as WebGPU promises.

mod absent;
pub mod adapter;
mod context;
mod half;
mod joint;
mod kept_tiles;
mod limits;
mod memory;
mod peak;
mod pipelines;
mod profile;
mod program;
mod readback;
mod submissions;
mod tiles;
mod unchecked;

use super::fit::size;
use super::plans::{Loaded, Plans, States, binding};
use super::{Data, Device, PlanId, Precision, check, copy_out};
use crate::environment;
use crate::error::{Error, Result};
use crate::exec::launches::{RULES, check_shaders, dispatches, shared_scratch};
use crate::exec::limits::Limits;
use crate::exec::plan::{IoBinding, Location, Plan, Step};
use crate::graph::Graph;
use crate::graph::rewrite::Rule;
use crate::kernels::parallel;
use crate::kernels::peak::Peak;
use crate::ops::dispatch::{Dispatch, Dispatches};
use crate::ops::linear::other_tiles::Room;
use crate::tensor::{DType, TensorType};
use adapter::Adapter;
use context::Context;
pub use half::store as store_halves;
pub use kept_tiles::KeptTiles;
use memory::{Packs, Region};
use pipelines::Pipelines;
use program::GpuProgram;
use std::cell::RefCell;
use std::time::{Duration, Instant};
use tiles::{Tiles, Untimed};
pub use tiles::{Tuned, Tuning};

/// Products whose shaders are compiled before any of them is timed: enough for all threads.
const TIMED_AT_ONCE: usize = 8;

/// A GPU as a device.
pub struct Gpu {
    name: String,
    context: Context,
    pipelines: Pipelines,
    precision: Precision,
    tiles: Tiles,
    plans: Plans<GpuProgram, Region>,
    /// Seconds that a submission may take a slow integrated GPU.
    submission_seconds: f64,
    on_compile: Box<dyn Fn(usize, Duration) + Send>,
    on_tune: Box<dyn Fn(Tuned) + Send>,
}

impl Gpu {
    /// Opens an adapter. Its shaders run without run-time checks (`unchecked.rs` says why), unless
    /// `CIFAR_ENGINE_GPU_CHECKS` is on or this is a debug build.
    ///
    /// # Errors
    /// If its driver fails, or it lacks what WebGPU promises.
    pub fn open(adapter: &Adapter) -> Result<Gpu> {
        Gpu::open_in(adapter, Precision::F32)
    }

    /// The same, with plans that store in this precision what their steps hand to each other.
    ///
    /// # Errors
    /// As [`Gpu::open`]; if the adapter has no half precision.
    pub fn open_in(adapter: &Adapter, precision: Precision) -> Result<Gpu> {
        let checks = cfg!(debug_assertions) || environment::is_on("CIFAR_ENGINE_GPU_CHECKS");
        Gpu::open_with(adapter, precision, checks)
    }

    /// The same, with shaders that check every index and every loop, or without.
    ///
    /// # Errors
    /// As [`Gpu::open_in`].
    pub fn open_with(adapter: &Adapter, precision: Precision, checks: bool) -> Result<Gpu> {
        let about = adapter.description();
        let mut tiles = Tiles::default();
        tiles.room = if about.kind == "integrated" { Room::Small } else { Room::Large };
        Ok(Gpu {
            name: match precision {
                Precision::F32 => format!("gpu, {} ({})", about.name, about.interface),
                Precision::F16 => format!("gpu, {} ({}), f16", about.name, about.interface),
            },
            context: Context::open(adapter, precision)?,
            pipelines: Pipelines::new(checks),
            precision,
            tiles,
            plans: Plans::new(),
            submission_seconds: match about.kind {
                "discrete" => submissions::DISCRETE,
                _ => submissions::INTEGRATED,
            },
            on_compile: Box::new(|_, _| ()),
            on_tune: Box::new(|_| ()),
        })
    }

    /// Calls `tell` whenever shaders have been compiled, with the number of pipelines and the time
    /// it took.
    pub fn on_compile(&mut self, tell: impl Fn(usize, Duration) + Send + 'static) {
        self.on_compile = Box::new(tell);
    }

    /// Chooses the tiles of products in the plans that are loaded from now on as for a GPU with
    /// this room; it is [`Room::Small`] for one that shares a chip with a CPU, else
    /// [`Room::Large`].
    pub fn set_room(&mut self, room: Room) {
        self.tiles.room = room;
    }

    /// Times the tiles of products when a plan is loaded, or does not, as is the case for a GPU
    /// that has just been opened.
    pub fn set_tuning(&mut self, tuning: Option<Tuning>) {
        self.tiles.set_tuning(tuning);
    }

    /// Calls `tell` whenever tiles have been timed.
    pub fn on_tune(&mut self, tell: impl Fn(Tuned) + Send + 'static) {
        self.on_tune = Box::new(tell);
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
        let _ = self.context.wait(None);
    }

    /// Lets submissions of the plans that are loaded from now on take so many seconds of a slow
    /// integrated GPU; 0 for one a step.
    pub fn set_submission_seconds(&mut self, seconds: f64) {
        self.submission_seconds = seconds;
    }

    /// Lets the last submission of the next run of a plan get lost, as by a driver that gives it up
    /// and says that it is done.
    ///
    /// # Errors
    /// If the plan is not loaded.
    pub fn lose_submission(&mut self, plan: PlanId) -> Result<()> {
        self.plans.get_mut(plan)?.0.own.lose_one();
        Ok(())
    }

    /// Gives the products of a plan their tiles, of which those that nobody knows are timed.
    fn choose_tiles(&mut self, plan: &Plan, work: &mut [Dispatches]) -> Result<()> {
        let untimed = self.tiles.untimed(plan, work, self.submission_seconds);
        let mut tuned = Tuned::default();
        for untimed in untimed.chunks(TIMED_AT_ONCE) {
            if self.tiles.has_time(&tuned) {
                let launches: Vec<Dispatch> = untimed.iter().flat_map(Untimed::launches).collect();
                self.compile_new(&launches.iter().collect::<Vec<_>>())?;
            }
            self.tiles.tune(&self.context, &self.pipelines, untimed, &mut tuned)?;
        }
        if !untimed.is_empty() {
            (self.on_tune)(tuned);
        }
        self.tiles.apply(work);
        Ok(())
    }

    /// Compiles what of these is new.
    ///
    /// # Errors
    /// [`Error::Uncompiled`] if the driver refuses one of them.
    fn compile(&mut self, dispatches: &[&Dispatch]) -> Result<()> {
        self.compile_new(dispatches)?;
        match dispatches.iter().find_map(|dispatch| self.pipelines.refused(dispatch)) {
            None => Ok(()),
            Some(refusal) => Err(Error::Uncompiled(format!(
                "its driver does not compile the shaders: {refusal}; update it, or choose another `device`"
            ))),
        }
    }

    /// The same, but for those that the driver refuses.
    fn compile_new(&mut self, dispatches: &[&Dispatch]) -> Result<()> {
        let begin = Instant::now();
        let (pipelines, device) = (&mut self.pipelines, &self.context.device);
        let count =
            parallel::pool(0).map_err(Error::threads)?.install(|| pipelines.compile(device, dispatches));
        if count > 0 {
            self.context.check()?;
            (self.on_compile)(count, begin.elapsed());
        }
        Ok(())
    }
}

fn region<'a>(loaded: &'a Loaded<GpuProgram>, states: &'a States<Region>, location: Location) -> &'a Region {
    match location {
        Location::Slot(slot) => &loaded.own.slots[slot],
        Location::State(state) => &states.buffers[loaded.states[state]],
    }
}

impl Device for Gpu {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn precision(&self) -> Precision {
        self.precision
    }

    fn rules(&self) -> &'static [&'static Rule] {
        RULES
    }

    fn plan(&self, graph: &Graph) -> Result<Plan> {
        let (mut graph, _) = self.rewrite(graph)?;
        let apart = joint::gather(&mut graph);
        if self.precision == Precision::F16 {
            half::store(&mut graph);
        }
        Plan::compile_apart(&graph, &apart)
    }

    fn load_plan(&mut self, plan: Plan, beside: Option<PlanId>) -> Result<PlanId> {
        let mut work = dispatches(&plan);
        check_shaders(&plan, &work)?;
        Limits::from(&self.context.device.limits()).check(&plan, &work)?;
        self.choose_tiles(&plan, &mut work)?;
        self.compile(&work.iter().flat_map(|work| &work.list).collect::<Vec<_>>())?;
        let planned = size(self.planned_bytes(&plan));
        let Gpu { plans, context, pipelines, submission_seconds: seconds, .. } = self;
        let seconds = *seconds;
        let packs = RefCell::new(Packs::new(&plan, &work));
        let allocate = |state: usize, (name, ty): &(String, TensorType)| {
            packs.borrow_mut().allocate(context, name, Location::State(state), ty.bytes())
        };
        let loaded = plans.load(plan, beside, allocate, |plan, states, regions| {
            let states = states.iter().map(|&state| &regions[state]).collect();
            GpuProgram::new(context, pipelines, (plan, &work), &mut packs.borrow_mut(), states, seconds)
        });
        loaded.map_err(|error| match context.check() {
            Ok(()) => error,
            Err(fault) => Error::Failed(format!("{fault} (the plan needs {planned})")),
        })
    }

    fn unload(&mut self, plan: PlanId) -> Result<()> {
        self.plans.unload(plan)?;
        // What was written and never run is under way still; then the driver gives everything back.
        self.context.queue.submit([]);
        self.wait()
    }

    fn launches(&self, plan: PlanId) -> Result<Option<usize>> {
        let (Loaded { plan, own, .. }, _) = self.plans.get(plan)?;
        Ok(Some(own.launches(plan.constants)))
    }

    fn planned_bytes(&self, plan: &Plan) -> usize {
        let scratch: usize = shared_scratch(&dispatches(plan)).iter().sum();
        plan.slot_bytes() + plan.state_bytes() + 4 * scratch
    }

    fn profile(&mut self, plan: PlanId, visit: &mut dyn FnMut(usize, &Step, f64)) -> Result<()> {
        let (Loaded { plan, own, .. }, ..) = self.plans.start(plan)?;
        let seconds = profile::profile(&self.context, own)?;
        let steps = plan.steps.iter().zip(seconds).enumerate();
        steps.for_each(|(index, (step, seconds))| visit(index, step, seconds));
        Ok(())
    }

    fn peak(&mut self) -> Result<Option<Peak>> {
        peak::measure(self).map(Some)
    }

    fn run(&mut self, plan: PlanId) -> Result<()> {
        let (Loaded { plan, own, .. }, _, stale) = self.plans.start(plan)?;
        own.run(&self.context, if stale { 0 } else { plan.constants })
    }

    fn record(&mut self, plan: PlanId, outputs: &[&str]) -> Result<()> {
        let (loaded, states) = self.plans.get_mut(plan)?;
        let output = |name: &&str| {
            let IoBinding { ty, location, .. } = binding(&loaded.plan.outputs, name)?;
            Ok((region(loaded, states, *location).clone(), ty.len()))
        };
        let outputs = outputs.iter().map(output).collect::<Result<_>>()?;
        loaded.own.record(&self.context, outputs);
        self.context.check()
    }

    fn collect(&mut self, plan: PlanId, all: bool, visit: &mut dyn FnMut(&[f32])) -> Result<()> {
        let (loaded, _) = self.plans.get_mut(plan)?;
        loaded.own.readback.collect(&self.context, all, visit)
    }

    fn wait(&self) -> Result<()> {
        self.context.wait(None)
    }

    fn write(&mut self, plan: PlanId, input: &str, data: Data) -> Result<()> {
        let (loaded, states) = self.plans.get_mut(plan)?;
        let IoBinding { ty, location, .. } = binding(&loaded.plan.inputs, input)?;
        check(input, ty, data)?;
        self.context.write(region(loaded, states, *location), bytes(data))?;
        loaded.wrote(input, states);
        Ok(())
    }

    fn read(&self, plan: PlanId, output: &str) -> Result<Vec<f32>> {
        let (loaded, states) = self.plans.get(plan)?;
        let IoBinding { ty, location, .. } = binding(&loaded.plan.outputs, output)?;
        self.context.read(region(loaded, states, *location), ty.bytes())
    }

    fn read_into(&self, plan: PlanId, output: &str, to: &mut [f32]) -> Result<()> {
        let (loaded, states) = self.plans.get(plan)?;
        let IoBinding { ty, location, .. } = binding(&loaded.plan.outputs, output)?;
        let copy = |values: &[f32]| copy_out(output, values, to);
        self.context.read_with(region(loaded, states, *location), ty.bytes(), copy)?
    }

    fn write_state(&mut self, plan: PlanId, name: &str, data: Data) -> Result<()> {
        let (_, states) = self.plans.get_mut(plan)?;
        let (number, ty) = states.find(name)?;
        check(name, ty, data)?;
        self.context.write(&states.buffers[number], bytes(data))?;
        states.wrote(number);
        Ok(())
    }

    fn read_state(&self, plan: PlanId, name: &str) -> Result<Vec<f32>> {
        let (_, states) = self.plans.get(plan)?;
        let (number, ty) = states.find_of(name, DType::F32)?;
        self.context.read(&states.buffers[number], ty.bytes())
    }

    fn read_state_u32(&self, plan: PlanId, name: &str) -> Result<Vec<u32>> {
        let (_, states) = self.plans.get(plan)?;
        let (number, ty) = states.find_of(name, DType::U32)?;
        self.context.read(&states.buffers[number], ty.bytes())
    }
}

fn bytes(data: Data<'_>) -> &[u8] {
    match data {
        Data::F32(data) => bytemuck::cast_slice(data),
        Data::U32(data) => bytemuck::cast_slice(data),
    }
}
