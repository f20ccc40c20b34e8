//! Steps of a plan that the CPU does not run one after the other, with all threads on each, but together: a thread takes
//! a share of the data through all of them.

use std::ops::Range;

use super::by_image::Stretch;
use super::by_rows::Chain;
use crate::graph::plan::{Place, Plan};
use crate::kernels::simd::Isa;
use crate::tensor::Buffer;

/// Steps that run together.
pub trait Together: Send + Sync {
    /// Which they are.
    fn steps(&self) -> Range<usize>;

    /// Elements of memory that so many workers need, besides the plan's, whose slots have these lengths.
    fn elements(&self, plan: &Plan, slots: &[usize], isa: Isa, threads: usize) -> usize;

    /// Gives the workers their memory.
    fn allocate(&mut self, plan: &Plan, slots: &[usize], isa: Isa, threads: usize);

    /// Takes all data through the steps; [`Together::leave`] must follow.
    fn run(&mut self, plan: &Plan, shared: Shared);

    /// Puts the results where the plan expects them.
    fn leave(&mut self, slots: &mut [Buffer]);

    /// The time that a step took of the last run, as if all workers had taken it together.
    fn seconds(&self, index: usize) -> f64;
}

/// What all workers read: the plan's whole memory.
#[derive(Clone, Copy)]
pub struct Shared<'a> {
    pub isa: Isa,
    pub slots: &'a [Buffer],
    pub states: &'a [Buffer],
    pub of_plan: &'a [usize],
    pub prepared: &'a [Buffer],
}

impl<'a> Shared<'a> {
    /// What lies there.
    pub fn get(&self, place: Place) -> &'a [f32] {
        match place {
            Place::Slot(slot) => self.slots[slot].f32(),
            Place::State(state) => self.states[self.of_plan[state]].f32(),
        }
    }
}

/// All steps of a plan that are worth running together on so many threads, and the elements of each slot that are left to
/// the plan.
pub fn find(plan: &Plan, threads: usize) -> (Vec<Box<dyn Together>>, Vec<usize>) {
    if let Some(stretch) = Stretch::find(plan, threads) {
        let slots = stretch.slots_outside(plan);
        return (vec![Box::new(stretch)], slots);
    }
    let chains = Chain::find(plan, threads).into_iter();
    (chains.map(|chain| Box::new(chain) as Box<dyn Together>).collect(), plan.slots.clone())
}

/// Whether what lies in a slot is read from step `after` on, or by the host, before something else is written there.
pub fn is_needed(plan: &Plan, after: usize, slot: usize) -> bool {
    let place = Place::Slot(slot);
    for step in &plan.steps[after..] {
        if step.inputs.contains(&place) {
            return true;
        }
        if step.outputs.contains(&place) {
            return false;
        }
    }
    plan.outputs.iter().any(|port| port.place == place)
}
