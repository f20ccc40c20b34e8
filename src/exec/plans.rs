//! The plans that are loaded on a device, and their states.
//!
//! States have an owner: the plan that was loaded first. Those loaded beside it find them by their
//! names; any other plan has states of its own, whatever their names.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::{Error, Result};
use crate::exec::plan::{IoBinding, Location, Plan};
use crate::tensor::{DType, TensorType};

/// A plan loaded on a device. No other plan of the process has the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlanId {
    /// The device that loaded it.
    device: usize,
    number: usize,
}

/// The plans of a device. `P` is what the device makes of a plan, `B` its memory for a state.
pub struct Plans<P, B> {
    /// No other device of the process has it.
    device: usize,
    /// Numbers are given once, so that a plan that was unloaded is not taken for another.
    next: usize,
    list: HashMap<usize, Loaded<P>>,
    /// By their owner's number.
    states: HashMap<usize, States<B>>,
}

/// A plan with what the device made of it.
pub struct Loaded<P> {
    pub plan: Plan,
    /// Where the plan's states are among those of their owner.
    pub states: Vec<usize>,
    pub own: P,
    owner: usize,
    /// The states that it reads and leaves as they are, and those that it updates; numbers as in
    /// `states`.
    reads: Vec<usize>,
    updates: Vec<usize>,
    /// Which inputs have ever been written, or need not be because nobody reads them.
    written: Vec<bool>,
    /// The version of the states that the constants were computed from; 0 before the first run.
    constants_of: u64,
}

/// The states that a plan shares with those loaded beside it.
pub struct States<B> {
    pub buffers: Vec<B>,
    numbers: HashMap<String, usize>,
    names: Vec<String>,
    types: Vec<TensorType>,
    /// Which ones the host has ever written, or a run.
    written: Vec<bool>,
    /// Rises whenever one is written.
    version: u64,
    /// How many plans have them.
    plans: usize,
}

/// Name and type of a state.
pub type State = (String, TensorType);

/// A plan, its states, and whether its constants are to be computed.
pub type Run<'a, P, B> = (&'a mut Loaded<P>, &'a mut States<B>, bool);

impl<P, B> Plans<P, B> {
    pub fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let device = NEXT.fetch_add(1, Ordering::Relaxed);
        Plans { device, next: 0, list: HashMap::new(), states: HashMap::new() }
    }

    /// Adds a plan, with the states of the plan `beside` it if there is one. `allocate` makes the
    /// memory of those that are new (with their numbers in the plan), `prepare` what the device
    /// makes of the plan, given where its states are.
    pub fn load(
        &mut self,
        plan: Plan,
        beside: Option<PlanId>,
        mut allocate: impl FnMut(usize, &State) -> Result<B>,
        prepare: impl FnOnce(&Plan, &[usize], &[B]) -> Result<P>,
    ) -> Result<PlanId> {
        let number = self.next;
        let owner = beside.map_or(Ok(number), |beside| Ok(self.get(beside)?.0.owner))?;
        let shared = self.states.entry(owner).or_default();
        let before = shared.buffers.len();
        let numbers =
            plan.states.iter().enumerate().map(|(i, state)| shared.number(state, || allocate(i, state)));
        let prepared = numbers.collect::<Result<Vec<usize>>>().and_then(|states| {
            let own = prepare(&plan, &states, &shared.buffers)?;
            Ok((own, states))
        });
        if prepared.is_err() {
            shared.truncate(before);
        }
        shared.plans += usize::from(prepared.is_ok());
        if shared.plans == 0 {
            self.states.remove(&owner);
        }
        let (own, states) = prepared?;
        self.list.insert(number, Loaded::new(plan, states, own, owner));
        self.next += 1;
        Ok(PlanId { device: self.device, number })
    }

    /// Drops a plan, and its states with the last plan that has them.
    pub fn unload(&mut self, plan: PlanId) -> Result<()> {
        let owner = self.get(plan)?.0.owner;
        self.list.remove(&plan.number);
        let shared = self.states.get_mut(&owner).ok_or_else(unloaded)?;
        shared.plans -= 1;
        if shared.plans == 0 {
            self.states.remove(&owner);
        }
        Ok(())
    }

    pub fn get(&self, plan: PlanId) -> Result<(&Loaded<P>, &States<B>)> {
        self.check(plan)?;
        let loaded = self.list.get(&plan.number).ok_or_else(unloaded)?;
        Ok((loaded, self.states.get(&loaded.owner).ok_or_else(unloaded)?))
    }

    pub fn get_mut(&mut self, plan: PlanId) -> Result<(&mut Loaded<P>, &mut States<B>)> {
        self.check(plan)?;
        let loaded = self.list.get_mut(&plan.number).ok_or_else(unloaded)?;
        let states = self.states.get_mut(&loaded.owner).ok_or_else(unloaded)?;
        Ok((loaded, states))
    }

    fn check(&self, plan: PlanId) -> Result<()> {
        match plan.device == self.device {
            true => Ok(()),
            false => Err(Error::op("plan", "was loaded on another device")),
        }
    }

    /// All that are loaded.
    pub fn all(&self) -> impl Iterator<Item = &Loaded<P>> {
        self.list.values()
    }

    /// Begins a run, which counts as having written what it updates.
    ///
    /// # Errors
    /// If nothing was ever written to an input, or to a state that the plan reads and does not
    /// update.
    pub fn start(&mut self, plan: PlanId) -> Result<Run<'_, P, B>> {
        let (loaded, states) = self.get_mut(plan)?;
        let mut inputs = loaded.plan.inputs.iter().zip(&loaded.written);
        if let Some((binding, _)) = inputs.find(|(_, written)| !**written) {
            return Err(Error::op(&binding.name, "is an input that nothing was written to"));
        }
        if let Some(&number) = loaded.reads.iter().find(|&&number| !states.written[number]) {
            let problem = "is a state that nothing was written to; if another plan has it, load beside that";
            return Err(Error::op(&states.names[number], problem));
        }
        let stale = loaded.constants_of != states.version;
        loaded.updates.iter().for_each(|&number| states.written[number] = true);
        states.version += u64::from(!loaded.updates.is_empty());
        loaded.constants_of = states.version;
        Ok((loaded, states, stale))
    }
}

fn unloaded() -> Error {
    Error::op("plan", "was unloaded")
}

impl<P> Loaded<P> {
    fn new(plan: Plan, states: Vec<usize>, own: P, owner: usize) -> Self {
        let (mut reads, mut updates) = (Vec::new(), Vec::new());
        for (index, &number) in states.iter().enumerate() {
            let location = Location::State(index);
            if !plan.is_constant(location) {
                updates.push(number);
            } else if plan.reads(location) {
                reads.push(number);
            }
        }
        let is_output = |location: Location| plan.outputs.iter().any(|output| output.location == location);
        let is_read = |location: Location| plan.reads(location) || is_output(location);
        let must_be =
            |binding: &IoBinding| matches!(binding.location, Location::Slot(_)) && is_read(binding.location);
        let written = plan.inputs.iter().map(|binding| !must_be(binding)).collect();
        Loaded { plan, states, own, owner, reads, updates, written, constants_of: 0 }
    }

    /// Takes note that an input was written.
    pub fn wrote<B>(&mut self, input: &str, states: &mut States<B>) {
        for (binding, written) in self.plan.inputs.iter().zip(&mut self.written) {
            if binding.name == input {
                *written = true;
                if let Location::State(index) = binding.location {
                    states.wrote(self.states[index]);
                }
            }
        }
    }
}

/// The input or output of a name.
pub fn binding<'a>(bindings: &'a [IoBinding], name: &str) -> Result<&'a IoBinding> {
    let binding = bindings.iter().find(|binding| binding.name == name);
    binding.ok_or_else(|| Error::op(name, "is no input or output of the plan"))
}

impl<B> Default for States<B> {
    fn default() -> Self {
        let (buffers, numbers, names, types) = (Vec::new(), HashMap::new(), Vec::new(), Vec::new());
        States { buffers, numbers, names, types, written: Vec::new(), version: 1, plans: 0 }
    }
}

impl<B> States<B> {
    /// The number of a state, which is made if the name is new.
    fn number(&mut self, (name, ty): &State, allocate: impl FnOnce() -> Result<B>) -> Result<usize> {
        if let Some(&number) = self.numbers.get(name) {
            let known = &self.types[number];
            return match known == ty {
                true => Ok(number),
                false => Err(Error::op(name, format!("is {known} on the device, not {ty}"))),
            };
        }
        self.buffers.push(allocate()?);
        self.numbers.insert(name.clone(), self.types.len());
        self.names.push(name.clone());
        self.types.push(ty.clone());
        self.written.push(false);
        Ok(self.types.len() - 1)
    }

    /// Drops the states from this number on.
    fn truncate(&mut self, len: usize) {
        self.buffers.truncate(len);
        self.names.truncate(len);
        self.types.truncate(len);
        self.written.truncate(len);
        self.numbers.retain(|_, number| *number < len);
    }

    /// Number and type of a state.
    pub fn find(&self, name: &str) -> Result<(usize, &TensorType)> {
        let number = self.numbers.get(name).copied();
        let number = number
            .ok_or_else(|| Error::op(name, "is no state of the plan or of those that share its states"))?;
        Ok((number, &self.types[number]))
    }

    /// The same of a state of this type.
    pub fn find_of(&self, name: &str, dtype: DType) -> Result<(usize, &TensorType)> {
        let (number, ty) = self.find(name)?;
        match ty.dtype == dtype {
            true => Ok((number, ty)),
            false => Err(Error::op(name, format!("is {ty} and cannot be read as {dtype:?}"))),
        }
    }

    /// Takes note that a state was written.
    pub fn wrote(&mut self, number: usize) {
        self.written[number] = true;
        self.version += 1;
    }
}
