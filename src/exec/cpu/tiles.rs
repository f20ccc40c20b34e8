//! A segment of a plan, run tile by tile: see [`super::segments`].
//!
//! A worker has memory of its own for what lies between the steps; what a tile reads from before
//! the segment it reads where it lies, and what it leaves behind it writes into a buffer that then
//! takes the place of the plan's.

use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use rayon::prelude::*;

use super::segments::is_needed;
use super::{Shared, call};
use crate::exec::plan::{Location, Plan, Step};
use crate::kernels::parallel;
use crate::kernels::simd::Isa;
use crate::ops::cpu_step::{CpuStep, CpuTarget, MAX_OUTPUTS};
use crate::ops::{Axis, Op, Tile, Types};
use crate::tensor::Buffer;

/// No segment leaves more behind.
const MAX_RESULTS: usize = 4;

/// One step of one tile.
#[derive(Clone)]
pub struct TiledStep {
    op: Arc<dyn Op>,
    types: Arc<Types>,
    /// The step's work, by one thread; made with the memory.
    work: Option<Arc<CpuStep>>,
    /// The inputs that the tile takes a part of, and where along the axis that begins.
    cut: &'static [usize],
    from: usize,
}

impl TiledStep {
    /// A tile's step.
    pub fn new(tile: &Tile) -> TiledStep {
        let Tile { op, types, cut, input } = tile.clone();
        TiledStep { op, types: Arc::new(types), work: None, cut, from: input.start }
    }

    /// The same step for a part that begins elsewhere.
    pub fn starting_at(&self, from: usize) -> TiledStep {
        TiledStep { from, ..self.clone() }
    }
}

/// Where a step of every tile finds an input.
#[derive(Clone, Copy)]
enum InputSource {
    /// In the worker's memory for this slot.
    Inside(usize),
    /// A part of what lies in a slot since before the segment.
    Part(usize),
    /// All of what lies there.
    Whole(Location),
}

/// Where a step of every tile finds its operands.
struct Wiring {
    inputs: Vec<InputSource>,
    /// Inputs that the step overwrites, and that the worker must first copy from where they lie.
    copied: Vec<usize>,
    /// Slot of each output, and the number of the result where it is written there right away.
    outputs: Vec<(usize, Option<usize>)>,
}

/// Steps of a plan that run tile by tile.
pub struct Segment {
    steps: Range<usize>,
    axis: Axis,
    wiring: Vec<Wiring>,
    /// In the order of the parts of the outputs that they compute.
    tiles: Vec<Vec<TiledStep>>,
    /// The slots that it leaves something behind in, and the step that writes it.
    results: Vec<(usize, usize)>,
    /// Results of the segment; each takes the place of its slot.
    buffers: [Buffer; MAX_RESULTS],
    workers: Vec<Worker>,
    /// Seconds that all workers together spent in each step.
    seconds: Vec<f64>,
}

/// The memory of one worker.
struct Worker {
    /// Buffers of the plan's slots, for one tile.
    slots: Vec<Buffer>,
    scratch: Buffer,
    seconds: Vec<f64>,
}

impl Segment {
    /// The segment of these steps with these tiles, unless it would leave too much behind, as the
    /// forward pass of a training does; without its memory.
    pub fn new(plan: &Plan, steps: Range<usize>, axis: Axis, tiles: Vec<Vec<TiledStep>>) -> Option<Segment> {
        let results = results(plan, &steps);
        if results.len() > MAX_RESULTS {
            return None;
        }
        let wiring = wire(&plan.steps[steps.clone()], &tiles[0], &results);
        let seconds = vec![0.0; steps.len()];
        let (buffers, workers) = (Default::default(), Vec::new());
        Some(Segment { steps, axis, wiring, tiles, results, buffers, workers, seconds })
    }

    /// Which steps they are.
    pub fn steps(&self) -> Range<usize> {
        self.steps.clone()
    }

    /// Elements of each slot of the plan that a worker has for itself.
    fn worker_slots(&self, plan: &Plan) -> Vec<usize> {
        let mut sizes = vec![0; plan.slots.len()];
        for tile in &self.tiles {
            for (wiring, step) in self.wiring.iter().zip(tile) {
                let inside =
                    wiring.inputs.iter().zip(&step.types.inputs).filter_map(|(source, ty)| match source {
                        InputSource::Inside(slot) => Some((*slot, ty.len())),
                        _ => None,
                    });
                let outputs = wiring.outputs.iter().zip(&step.types.outputs);
                let written = outputs
                    .filter(|((_, result), _)| result.is_none())
                    .map(|((slot, _), ty)| (*slot, ty.len()));
                inside.chain(written).for_each(|(slot, len)| sizes[slot] = len.max(sizes[slot]));
            }
        }
        sizes
    }

    /// Elements of each of the plan's slots that the segment needs outside its workers' memory:
    /// calls `need(slot, elements)`.
    pub fn needs_outside(&self, plan: &Plan, mut need: impl FnMut(Location, usize)) {
        for (wiring, step) in self.wiring.iter().zip(&plan.steps[self.steps.clone()]) {
            for (source, ty) in wiring.inputs.iter().zip(&step.types.inputs) {
                match *source {
                    InputSource::Inside(_) => {}
                    InputSource::Part(slot) => need(Location::Slot(slot), ty.len()),
                    InputSource::Whole(location) => need(location, ty.len()),
                }
            }
            let copied = wiring.copied.iter().map(|&i| (step.inputs[i], step.types.inputs[i].len()));
            copied.for_each(|(location, len)| need(location, len));
        }
        for &(slot, writer) in &self.results {
            let step = &plan.steps[self.steps.start + writer];
            let output = step.outputs.iter().position(|location| *location == Location::Slot(slot));
            need(Location::Slot(slot), output.map_or(0, |output| step.types.outputs[output].len()));
        }
    }

    /// Makes the work of all tiles' steps.
    pub fn lower(&mut self, isa: Isa) {
        let target = CpuTarget { isa, threads: 1 };
        let mut known: Vec<(Arc<Types>, Arc<CpuStep>)> = Vec::new();
        for step in self.tiles.iter_mut().flatten() {
            let same = known.iter().find(|(types, _)| Arc::ptr_eq(types, &step.types));
            let work = same.map(|(_, work)| work.clone()).unwrap_or_else(|| {
                let work = Arc::new(step.op.cpu(&step.types, target));
                known.push((step.types.clone(), work.clone()));
                work
            });
            step.work = Some(work);
        }
    }

    fn worker_scratch(&self) -> usize {
        let work = self.tiles.iter().flatten().filter_map(|step| step.work.as_ref());
        work.map(|work| work.scratch).max().unwrap_or(0)
    }

    /// Elements of memory that so many workers need, in addition to the plan's, whose slots have
    /// these lengths.
    pub fn elements(&self, plan: &Plan, slots: &[usize], threads: usize) -> usize {
        let worker = self.worker_slots(plan).iter().sum::<usize>() + self.worker_scratch();
        threads * worker + self.results.iter().map(|(slot, _)| slots[*slot]).sum::<usize>()
    }

    /// Gives the workers their memory.
    pub fn allocate(&mut self, plan: &Plan, slots: &[usize], threads: usize) {
        let (own, scratch) = (self.worker_slots(plan), self.worker_scratch());
        let worker = |_| Worker {
            slots: own.iter().map(|&len| Buffer::zeroed(len)).collect(),
            scratch: Buffer::zeroed(scratch),
            seconds: vec![0.0; self.steps.len()],
        };
        self.workers = (0..threads).map(worker).collect();
        for (buffer, (slot, _)) in self.buffers.iter_mut().zip(&self.results) {
            *buffer = Buffer::zeroed(slots[*slot]);
        }
    }

    /// Takes all data through the steps; [`Segment::leave`] must follow.
    pub fn run(&mut self, shared: Shared) {
        let Segment { steps, axis, wiring, tiles, results, buffers, workers, seconds } = self;
        let mut rest = buffers.each_mut().map(Buffer::f32_mut);
        let items = tiles.iter().map(|tile| {
            let chunks: [&mut [f32]; MAX_RESULTS] = std::array::from_fn(|r| {
                let len =
                    results.get(r).map_or(0, |&(slot, writer)| written(&wiring[writer], &tile[writer], slot));
                let (chunk, more) = std::mem::take(&mut rest[r]).split_at_mut(len);
                rest[r] = more;
                chunk
            });
            (tile, chunks)
        });
        let items = Mutex::new(items);
        let next = || items.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).next();
        workers.par_iter_mut().for_each(|worker| {
            parallel::alone(|| {
                while let Some((tile, mut chunks)) = next() {
                    for (index, (step, wiring)) in tile.iter().zip(&*wiring).enumerate() {
                        let begin = Instant::now();
                        let packed = shared.packed[steps.start + index].f32();
                        worker.run(step, wiring, *axis, shared, packed, &mut chunks);
                        worker.seconds[index] += begin.elapsed().as_secs_f64();
                    }
                    // What was not written there right away.
                    for (&(slot, _), chunk) in results.iter().zip(chunks) {
                        let from = worker.slots[slot].f32();
                        chunk.copy_from_slice(&from[..chunk.len()]);
                    }
                }
            });
        });
        seconds.fill(0.0);
        for worker in workers.iter_mut() {
            for (sum, own) in seconds.iter_mut().zip(&mut worker.seconds) {
                *sum += std::mem::take(own);
            }
        }
    }

    /// Puts the results where the plan expects them.
    pub fn leave(&mut self, slots: &mut [Buffer]) {
        for (buffer, &(slot, _)) in self.buffers.iter_mut().zip(&self.results) {
            std::mem::swap(&mut slots[slot], buffer);
        }
    }

    /// The time that a step took of the last run, as if all workers had taken it together.
    pub fn seconds(&self, index: usize) -> f64 {
        self.seconds[index - self.steps.start] / self.workers.len() as f64
    }
}

/// Elements that a tile's step writes to a slot.
fn written(wiring: &Wiring, step: &TiledStep, slot: usize) -> usize {
    let output = wiring.outputs.iter().position(|(to, _)| *to == slot);
    output.map_or(0, |output| step.types.outputs[output].len())
}

/// The slots that some steps leave something behind in, and which of them writes it last.
fn results(plan: &Plan, steps: &Range<usize>) -> Vec<(usize, usize)> {
    let mut results: Vec<(usize, usize)> = Vec::new();
    for (index, step) in plan.steps[steps.clone()].iter().enumerate() {
        for location in &step.outputs {
            let Location::Slot(slot) = *location else { continue };
            results.retain(|(known, _)| *known != slot);
            results.push((slot, index));
        }
    }
    results.retain(|(slot, _)| is_needed(plan, steps.end, *slot));
    results
}

/// Where the steps of every tile find their operands.
fn wire(steps: &[Step], tile: &[TiledStep], results: &[(usize, usize)]) -> Vec<Wiring> {
    let mut inside: Vec<usize> = Vec::new();
    let wire = |(index, (step, tiled)): (usize, (&Step, &TiledStep))| {
        let overwritten: Vec<usize> = step.op.alias().overwritten().collect();
        let source = |(i, location): (usize, &Location)| match *location {
            Location::Slot(slot) if inside.contains(&slot) => InputSource::Inside(slot),
            Location::Slot(slot) if tiled.cut.contains(&i) => InputSource::Part(slot),
            location => InputSource::Whole(location),
        };
        let mut inputs: Vec<InputSource> = step.inputs.iter().enumerate().map(source).collect();
        let mut copied = Vec::new();
        for input in overwritten {
            if let InputSource::Part(slot) = inputs[input] {
                inputs[input] = InputSource::Inside(slot);
                copied.push(input);
            }
        }
        let output = |(output, location): (usize, &Location)| {
            let Location::Slot(slot) = *location else { unreachable!("a segment writes to slots alone") };
            let read_later = steps[index + 1..].iter().any(|later| later.inputs.contains(location));
            let in_place = step.op.alias().input_of(output).is_some();
            let result = results.iter().position(|result| *result == (slot, index));
            (slot, result.filter(|_| !read_later && !in_place))
        };
        let outputs: Vec<_> = step.outputs.iter().enumerate().map(output).collect();
        inside.extend(outputs.iter().map(|(slot, _)| slot));
        Wiring { inputs, copied, outputs }
    };
    steps.iter().zip(tile).enumerate().map(wire).collect()
}

impl Worker {
    fn run(
        &mut self,
        step: &TiledStep,
        wiring: &Wiring,
        axis: Axis,
        shared: Shared,
        packed: &[f32],
        chunks: &mut [&mut [f32]; MAX_RESULTS],
    ) {
        let Some(work) = &step.work else { return };
        let part = |input: usize, slot: usize| {
            let ty = &step.types.inputs[input];
            let each = ty.len() / ty.dims()[axis.dimension()];
            &shared.slots[slot].f32()[step.from * each..][..ty.len()]
        };
        for &input in &wiring.copied {
            if let InputSource::Inside(slot) = wiring.inputs[input] {
                let from = part(input, slot);
                self.slots[slot].f32_mut()[..from.len()].copy_from_slice(from);
            }
        }
        let mut buffers: [Buffer; MAX_OUTPUTS] = Default::default();
        for (buffer, (slot, _)) in buffers.iter_mut().zip(&wiring.outputs) {
            std::mem::swap(buffer, &mut self.slots[*slot]);
        }
        let values = |(i, source): (usize, &InputSource)| match *source {
            InputSource::Inside(slot) => self.slots[slot].f32(),
            InputSource::Part(slot) => part(i, slot),
            InputSource::Whole(location) => shared.get(location),
        };
        let inputs = wiring.inputs.iter().enumerate().map(values);
        let mut outputs = buffers.each_mut().map(Buffer::f32_mut);
        for (output, (_, result)) in outputs.iter_mut().zip(&wiring.outputs) {
            if let Some(result) = *result {
                *output = std::mem::take(&mut chunks[result]);
            }
        }
        call(work, &step.types, inputs, outputs, packed, self.scratch.f32_mut());
        for (buffer, (slot, _)) in buffers.iter_mut().zip(&wiring.outputs) {
            std::mem::swap(buffer, &mut self.slots[*slot]);
        }
    }
}
