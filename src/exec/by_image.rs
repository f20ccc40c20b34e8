//! Inference picture by picture. Where a stretch of a plan treats every picture by itself, a worker takes a few pictures
//! through all of its steps, alone, instead of all workers through one step after the other for the whole batch: what lies
//! between the steps stays in the worker's own cache, and nobody waits for anybody. It changes no bit of the results.

use std::ops::Range;
use std::sync::Mutex;
use std::time::Instant;

use rayon::prelude::*;

use super::together::{Shared, Together, is_needed};
use crate::graph::plan::{Place, Plan, Step};
use crate::kernels::parallel;
use crate::kernels::simd::Isa;
use crate::ops::{CpuArgs, MAX_INPUTS, MAX_OUTPUTS, Types};
use crate::tensor::{Buffer, Shape, TensorType};

/// A shorter stretch is not worth the copies at its ends.
const SHORTEST: usize = 3;

/// The largest activation of a group of pictures, in elements (3 MB): larger groups would leave the caches, smaller ones
/// read the weights more often.
const GROUP: usize = 3 << 18;

/// Part of a plan that is run picture by picture.
pub struct Stretch {
    steps: Range<usize>,
    /// How many groups of pictures there are.
    groups: usize,
    /// Of each step, for one group.
    types: Vec<Types>,
    /// What the stretch reads of what was there before.
    inputs: Vec<Portion>,
    /// What it leaves behind.
    outputs: Vec<Portion>,
    workers: Vec<Worker>,
    /// What all groups leave behind, one group after the other.
    results: Buffer,
    /// Seconds that all workers together spent in each step.
    seconds: Vec<f64>,
}

/// The memory of one worker.
struct Worker {
    /// Of the plan's slots, for one group.
    slots: Vec<Buffer>,
    scratch: Buffer,
    seconds: Vec<f64>,
}

/// The batch of a step that treats every picture by itself, if what belongs to the batch lies in slots.
fn batch_of(step: &Step) -> Option<usize> {
    let inputs = step.op.batched_inputs(&step.types)?;
    let mut places = inputs.iter().map(|&i| step.inputs[i]).chain(step.outputs.iter().copied());
    let in_slots = places.all(|place| matches!(place, Place::Slot(_)));
    step.types.outputs[0].dims().first().copied().filter(|&batch| in_slots && batch > 1)
}

/// The longest run of steps that treat the same batch picture by picture, and the batch.
fn longest(plan: &Plan) -> Option<(Range<usize>, usize)> {
    let batches: Vec<Option<usize>> = plan.steps.iter().map(batch_of).collect();
    let mut next = plan.constants;
    let runs = batches[next..].chunk_by(|a, b| a == b).filter_map(|run| {
        let steps = next..next + run.len();
        next = steps.end;
        run[0].map(|batch| (steps, batch))
    });
    runs.max_by_key(|(steps, _)| steps.len()).filter(|(steps, _)| steps.len() >= SHORTEST)
}

/// Whether a step takes for the same for every picture, such as weights, what the stretch itself computes picture by picture.
fn reads_what_it_splits(steps: &[Step]) -> bool {
    let computed: Vec<Place> = steps.iter().flat_map(|step| step.outputs.iter().copied()).collect();
    steps.iter().any(|step| {
        let own = step.op.batched_inputs(&step.types).unwrap_or_default();
        let mut shared = step.inputs.iter().enumerate().filter(|(i, _)| !own.contains(i));
        shared.any(|(_, place)| computed.contains(place))
    })
}

/// Pictures of a group: as many as the caches hold, but not so few groups that workers would wait long for the last one.
fn group_size(batch: usize, largest: usize, threads: usize) -> Option<usize> {
    let mut sizes = (1..=batch).rev().filter(|size| batch.is_multiple_of(*size));
    let suits = |size: &usize| {
        let groups = batch / size;
        let balanced = groups >= 4 * threads || *size == 1 && groups.is_multiple_of(threads);
        balanced && (size * largest <= GROUP || *size == 1)
    };
    sizes.find(suits)
}

fn resized(ty: &TensorType, group: usize) -> TensorType {
    let dims: Vec<usize> = std::iter::once(group).chain(ty.dims()[1..].iter().copied()).collect();
    TensorType { shape: Shape::from(dims.as_slice()), dtype: ty.dtype }
}

/// A step's types for a group.
fn group_types(step: &Step, group: usize) -> Types {
    let own = step.op.batched_inputs(&step.types).unwrap_or_default();
    let mut types = step.types.clone();
    own.iter().for_each(|&i| types.inputs[i] = resized(&types.inputs[i], group));
    types.outputs.iter_mut().for_each(|ty| *ty = resized(ty, group));
    types
}

/// A slot, and the elements of a group in it.
type Portion = (usize, usize);

/// What of a stretch with these types of a group comes from before it, and what it leaves behind.
fn ends(plan: &Plan, steps: &Range<usize>, types: &[Types]) -> (Vec<Portion>, Vec<Portion>) {
    let (mut inputs, mut outputs) = (Vec::new(), Vec::<Portion>::new());
    for (step, types) in plan.steps[steps.clone()].iter().zip(types) {
        for &i in step.op.batched_inputs(&step.types).unwrap_or_default() {
            let Place::Slot(slot) = step.inputs[i] else { continue };
            let known = outputs.iter().chain(&inputs).any(|(known, _)| *known == slot);
            if !known {
                inputs.push((slot, types.inputs[i].len()));
            }
        }
        for (place, ty) in step.outputs.iter().zip(&types.outputs) {
            let Place::Slot(slot) = *place else { continue };
            outputs.retain(|(known, _)| *known != slot);
            outputs.push((slot, ty.len()));
        }
    }
    outputs.retain(|(slot, _)| is_needed(plan, steps.end, *slot));
    (inputs, outputs)
}

impl Stretch {
    /// The stretch of a plan that is worth it, if there is one, for so many workers; without its memory.
    pub fn find(plan: &Plan, threads: usize) -> Option<Stretch> {
        let (steps, batch) =
            longest(plan).filter(|(steps, _)| !reads_what_it_splits(&plan.steps[steps.clone()]))?;
        let elements = |step: &Step| step.types.outputs[0].len() / batch;
        let largest = plan.steps[steps.clone()].iter().map(elements).max()?;
        let group = group_size(batch, largest, threads)?;
        let types: Vec<Types> =
            plan.steps[steps.clone()].iter().map(|step| group_types(step, group)).collect();
        let (inputs, outputs) = ends(plan, &steps, &types);
        let seconds = vec![0.0; types.len()];
        let (workers, results) = (Vec::new(), Buffer::default());
        Some(Stretch { steps, groups: batch / group, types, inputs, outputs, workers, results, seconds })
    }

    /// Elements of each slot that a worker needs.
    fn worker_slots(&self, plan: &Plan) -> Vec<usize> {
        let mut sizes = vec![0; plan.slots.len()];
        for (step, types) in plan.steps[self.steps.clone()].iter().zip(&self.types) {
            let own = step.op.batched_inputs(&step.types).unwrap_or_default();
            let inputs = own.iter().map(|&i| (&step.inputs[i], &types.inputs[i]));
            for (place, ty) in inputs.chain(step.outputs.iter().zip(&types.outputs)) {
                if let Place::Slot(slot) = *place {
                    sizes[slot] = ty.len().max(sizes[slot]);
                }
            }
        }
        sizes
    }

    fn worker_scratch(&self, plan: &Plan, isa: Isa) -> usize {
        let steps = plan.steps[self.steps.clone()].iter().zip(&self.types);
        steps.map(|(step, types)| step.op.cpu_scratch(types, isa, 1)).max().unwrap_or(0)
    }

    /// Elements that all groups together leave behind.
    fn result_len(&self) -> usize {
        self.groups * self.outputs.iter().map(|(_, len)| len).sum::<usize>()
    }

    /// Elements of each of the plan's slots that are needed outside the stretch.
    pub fn slots_outside(&self, plan: &Plan) -> Vec<usize> {
        let mut sizes = vec![0; plan.slots.len()];
        let mut need = |place: &Place, len: usize| {
            if let Place::Slot(slot) = *place {
                sizes[slot] = len.max(sizes[slot]);
            }
        };
        for (index, step) in plan.steps.iter().enumerate() {
            let inside = self.steps.contains(&index);
            let own = step.op.batched_inputs(&step.types).unwrap_or_default();
            for (i, (place, ty)) in step.inputs.iter().zip(&step.types.inputs).enumerate() {
                if !inside || !own.contains(&i) {
                    need(place, ty.len());
                }
            }
            if !inside {
                step.outputs.iter().zip(&step.types.outputs).for_each(|(place, ty)| need(place, ty.len()));
            }
        }
        plan.inputs.iter().chain(&plan.outputs).for_each(|port| need(&port.place, port.ty.len()));
        let ends = self.inputs.iter().chain(&self.outputs);
        ends.for_each(|(slot, len)| need(&Place::Slot(*slot), len * self.groups));
        sizes
    }
}

impl Together for Stretch {
    fn steps(&self) -> Range<usize> {
        self.steps.clone()
    }

    fn elements(&self, plan: &Plan, _: &[usize], isa: Isa, threads: usize) -> usize {
        let worker = self.worker_slots(plan).iter().sum::<usize>() + self.worker_scratch(plan, isa);
        threads * worker + self.result_len()
    }

    fn allocate(&mut self, plan: &Plan, _: &[usize], isa: Isa, threads: usize) {
        let (slots, scratch) = (self.worker_slots(plan), self.worker_scratch(plan, isa));
        let worker = |_| Worker {
            slots: slots.iter().map(|&len| Buffer::zeroed(len)).collect(),
            scratch: Buffer::zeroed(scratch),
            seconds: vec![0.0; self.types.len()],
        };
        self.workers = (0..threads).map(worker).collect();
        self.results = Buffer::zeroed(self.result_len());
    }

    fn run(&mut self, plan: &Plan, shared: Shared) {
        let Stretch { steps, groups, types, inputs, outputs, workers, results, seconds } = self;
        let each = outputs.iter().map(|(_, len)| len).sum::<usize>().max(1);
        let items = results.f32_mut().chunks_mut(each).enumerate().take(*groups);
        let items = Mutex::new(items);
        let next = || items.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).next();
        workers.par_iter_mut().for_each(|worker| {
            parallel::alone(|| {
                while let Some((group, mut results)) = next() {
                    for &(slot, len) in inputs.iter() {
                        let from = &shared.slots[slot].f32()[group * len..][..len];
                        worker.slots[slot].f32_mut()[..len].copy_from_slice(from);
                    }
                    for (index, types) in types.iter().enumerate() {
                        let begin = Instant::now();
                        let at = steps.start + index;
                        worker.run(&plan.steps[at], types, shared, shared.prepared[at].f32());
                        worker.seconds[index] += begin.elapsed().as_secs_f64();
                    }
                    for &(slot, len) in outputs.iter() {
                        let (to, rest) = results.split_at_mut(len);
                        to.copy_from_slice(&worker.slots[slot].f32()[..len]);
                        results = rest;
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

    fn leave(&mut self, slots: &mut [Buffer]) {
        let each = self.outputs.iter().map(|(_, len)| len).sum::<usize>().max(1);
        for (group, mut results) in self.results.f32().chunks_exact(each).enumerate() {
            for &(slot, len) in &self.outputs {
                let (from, rest) = results.split_at(len);
                slots[slot].f32_mut()[group * len..][..len].copy_from_slice(from);
                results = rest;
            }
        }
    }

    fn seconds(&self, index: usize) -> f64 {
        self.seconds[index - self.steps.start] / self.workers.len() as f64
    }
}

impl Worker {
    fn run(&mut self, step: &Step, types: &Types, shared: Shared, prepared: &[f32]) {
        let own = step.op.batched_inputs(&step.types).unwrap_or_default();
        let mut buffers: [Buffer; MAX_OUTPUTS] = Default::default();
        for (buffer, place) in buffers.iter_mut().zip(&step.outputs) {
            if let Place::Slot(slot) = *place {
                std::mem::swap(buffer, &mut self.slots[slot]);
            }
        }
        let mut inputs: [&[f32]; MAX_INPUTS] = [&[]; MAX_INPUTS];
        for (i, (values, place)) in inputs.iter_mut().zip(&step.inputs).enumerate() {
            *values = match *place {
                Place::Slot(slot) if own.contains(&i) => self.slots[slot].f32(),
                place => shared.get(place),
            };
        }
        let (isa, scratch) = (shared.isa, self.scratch.f32_mut());
        let outputs = buffers.each_mut().map(Buffer::f32_mut);
        let mut args = CpuArgs { isa, inputs, outputs, types, prepared, scratch };
        step.op.cpu(types, &mut args);
        for (buffer, place) in buffers.iter_mut().zip(&step.outputs) {
            if let Place::Slot(slot) = *place {
                std::mem::swap(buffer, &mut self.slots[slot]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_fit_the_caches_and_come_out_even() {
        let mib = 1 << 18;
        assert_eq!(group_size(32, 3 * mib, 2), Some(1));
        assert_eq!(group_size(64, mib / 2, 2), Some(4));
        assert_eq!(group_size(64, 1, 2), Some(8), "eight groups, so that two workers end together");
        assert_eq!(group_size(12, 9 * mib, 3), Some(1), "larger than the caches, but alone");
        assert_eq!(group_size(12, 1, 5), None, "some workers would have two groups, others three");
    }
}
