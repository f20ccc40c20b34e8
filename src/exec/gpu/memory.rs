//! Where the slots and states of a plan lie: each in a buffer of its own, but those side by side in
//! one that a launch of several steps works on ([`super::joint`]).

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};

use wgpu::{BindingResource, BufferBinding, BufferSize};

use super::context::Context;
use super::joint::{Task, alike, tasks};
use crate::error::Result;
use crate::exec::plan::{Location, Plan, Step};
use crate::ops::dispatch::{BLOCK, Dispatches, Operand};

/// Memory of a slot or a state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    pub buffer: wgpu::Buffer,
    /// In bytes.
    pub offset: usize,
}

impl Region {
    /// So many bytes of it, to be bound.
    pub fn resource(&self, bytes: usize) -> BindingResource<'_> {
        let (offset, size) = (self.offset as u64, BufferSize::new(bytes as u64));
        BindingResource::Buffer(BufferBinding { buffer: &self.buffer, offset, size })
    }
}

impl From<wgpu::Buffer> for Region {
    fn from(buffer: wgpu::Buffer) -> Region {
        Region { buffer, offset: 0 }
    }
}

/// Bytes from an operand of a joined launch to the next one.
pub fn pitch(bytes: usize) -> usize {
    bytes.next_multiple_of(4 * BLOCK)
}

/// The memory of a plan that is being loaded: what lies side by side, and where.
pub struct Packs {
    /// Number of the pack, and offset in it.
    places: HashMap<Location, (usize, usize)>,
    bytes: Vec<usize>,
    /// Made when the first of its members is.
    buffers: HashMap<usize, wgpu::Buffer>,
}

impl Packs {
    /// Packs the operands of the launches that one can do. What no two of them may have in common
    /// stays alone: a slot that is longer than an operand, and a pack that some launch would read
    /// and write at once, which WebGPU allows of no buffer.
    pub fn new(plan: &Plan, work: &[Dispatches]) -> Packs {
        let (places, bytes, buffers) = Default::default();
        let mut packs = Packs { places, bytes, buffers };
        let tasks = tasks(plan, work);
        let mut groups = alike(plan, &tasks);
        // Of an operand that several groups have, the largest one decides.
        groups.sort_by_key(|group| Reverse(group.len()));
        for alike in groups {
            let tasks = &tasks[alike];
            let operands = tasks[0].dispatch.joinable().map_or(0, |(operands, ..)| operands.len());
            for operand in 0..operands {
                let member = |task: &Task| {
                    Some((location(task.step, task.dispatch.bindings[operand])?, task.bytes()?))
                };
                if let Some(members) = tasks.iter().map(member).collect() {
                    packs.add(plan, members);
                }
            }
        }
        packs.remove_conflicts(plan, work);
        packs
    }

    fn add(&mut self, plan: &Plan, members: Vec<(Location, usize)>) {
        let is_whole = |&(location, bytes): &(Location, usize)| match location {
            Location::Slot(slot) => 4 * plan.slots[slot] == bytes,
            // Of a plan that runs step by step, a slot that may be longer is one.
            Location::State(state) => plan.states[state].1.bytes() == bytes,
        };
        let different: HashSet<Location> = members.iter().map(|member| member.0).collect();
        let is_free = different.iter().all(|location| !self.places.contains_key(location));
        if different.len() < members.len() || !is_free || !members.iter().all(is_whole) {
            return;
        }
        let mut end = 0;
        for (location, bytes) in members {
            self.places.insert(location, (self.bytes.len(), end));
            end += pitch(bytes);
        }
        self.bytes.push(end);
    }

    fn remove_conflicts(&mut self, plan: &Plan, work: &[Dispatches]) {
        for (step, work) in plan.steps.iter().zip(work) {
            for dispatch in &work.list {
                let packs = |written: bool| {
                    let bound =
                        dispatch.bindings.iter().filter(move |operand| operand.is_written() == written);
                    let places = bound.filter_map(|&operand| self.places.get(&location(step, operand)?));
                    places.map(|place| place.0).collect::<HashSet<usize>>()
                };
                let both: HashSet<usize> = packs(true).intersection(&packs(false)).copied().collect();
                self.places.retain(|_, place| !both.contains(&place.0));
            }
        }
    }

    /// Memory of so many bytes for a location: its place in its pack, or zeros of its own.
    pub fn allocate(
        &mut self,
        context: &Context,
        label: &str,
        location: Location,
        bytes: usize,
    ) -> Result<Region> {
        let region = match self.places.get(&location) {
            None => context.storage(label, bytes).into(),
            Some(&(pack, offset)) => {
                let buffer = self.buffers.entry(pack);
                let buffer = buffer.or_insert_with(|| context.storage("side by side", self.bytes[pack]));
                Region { buffer: buffer.clone(), offset }
            }
        };
        context.check().map(|()| region)
    }
}

/// Where an operand lies that is a slot or a state.
pub fn location(step: &Step, operand: Operand) -> Option<Location> {
    match operand {
        Operand::Input(i) | Operand::InputPiece(i, _) => Some(step.inputs[i]),
        Operand::Output(i) | Operand::OutputInput(i) => Some(step.outputs[i]),
        _ => None,
    }
}
