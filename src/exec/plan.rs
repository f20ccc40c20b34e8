//! Compilation of a graph into a [`Plan`]: a list of steps over numbered slots of memory, pure
//! data.
//!
//! 1. Nodes that nothing depends on are dropped. Those that depend on nothing but states which stay
//!    as they are, such as folded weights, come first: they need not be computed in every run.
//! 2. Every value gets a *storage*. A view shares its input's; an op that works in place takes over
//!    its input's where nobody reads the old value later, and a copy of it otherwise.
//! 3. Storages of temporary values get slots: the largest first, each into the first slot that is
//!    free for as long as the storage lives (first-fit decreasing on intervals).
//!
//! Inputs, outputs, states and what is not computed in every run keep their memory to themselves.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use crate::error::Result;
use crate::graph::{Graph, Node, Source, Value};
use crate::ops::movement::copy::Copy;
use crate::ops::{Alias, Op, Types};
use crate::tensor::TensorType;

/// Location of a value in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Location {
    /// Temporary memory of the plan.
    Slot(usize),
    /// A state, which the plan shares with those loaded beside it.
    State(usize),
}

/// One op, with the locations of its operands.
#[derive(Clone, Debug)]
pub struct Step {
    /// The op to compute.
    pub op: Arc<dyn Op>,
    /// Types of the operands, in the order of their locations.
    pub types: Types,
    /// Locations that the op reads.
    pub inputs: Vec<Location>,
    /// Locations that the op writes.
    pub outputs: Vec<Location>,
    /// The layer of the model that the step belongs to, for messages and profiles.
    pub layer: String,
}

/// A named tensor the host can reach.
#[derive(Clone, Debug)]
pub struct IoBinding {
    /// Unique among the inputs or outputs of the plan.
    pub name: String,
    /// Type of what the host writes or reads.
    pub ty: TensorType,
    /// Location in memory; its first `ty.len()` elements are the tensor.
    pub location: Location,
}

/// An executable program: pure data. Each device makes its own of a graph, by its own rules.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Steps in the order in which they run.
    pub steps: Vec<Step>,
    /// The first so many steps depend on nothing but states that the plan leaves as they are. What
    /// they wrote stays, so that they need to run only in the first run after something else has
    /// written a state.
    pub constants: usize,
    /// Size of every slot, in elements of four bytes.
    pub slots: Vec<usize>,
    /// The states that the plan uses; `Location::State(i)` is `states[i]`.
    pub states: Vec<(String, TensorType)>,
    /// Tensors that the host writes before a run.
    pub inputs: Vec<IoBinding>,
    /// Tensors that the host may read after a run.
    pub outputs: Vec<IoBinding>,
}

impl Plan {
    /// Compiles a graph.
    ///
    /// # Errors
    /// If two inputs or two outputs have one name, or an output is a value of another graph.
    pub fn compile(graph: &Graph) -> Result<Plan> {
        Plan::compile_apart(graph, &HashSet::new())
    }

    /// The same, with slots for these values that nothing else lies in, and that are as long as
    /// they are.
    ///
    /// # Errors
    /// As for [`Plan::compile`].
    pub fn compile_apart(graph: &Graph, apart: &HashSet<Value>) -> Result<Plan> {
        let mut graph = graph.clone();
        graph.check_names()?;
        graph.remove_dead_nodes();
        let constants = move_constants(&mut graph);
        let mut storages = Storages::assign(&mut graph, constants)?;
        storages.set_apart(apart);
        Ok(storages.into_plan(&graph))
    }

    /// Bytes of temporary memory.
    pub fn slot_bytes(&self) -> usize {
        4 * self.slots.iter().sum::<usize>()
    }

    /// Bytes of device state that the plan uses.
    pub fn state_bytes(&self) -> usize {
        self.states.iter().map(|(_, ty)| ty.bytes()).sum()
    }

    /// The states that a run may change.
    pub fn written_states(&self) -> impl Iterator<Item = &(String, TensorType)> {
        let written =
            |index: usize| self.steps.iter().any(|step| step.outputs.contains(&Location::State(index)));
        self.states.iter().enumerate().filter(move |(index, _)| written(*index)).map(|(_, state)| state)
    }

    /// Whether a step reads what lies there.
    pub fn reads(&self, location: Location) -> bool {
        self.steps.iter().any(|step| step.inputs.contains(&location))
    }

    /// Whether what lies there is the same in every run until something else writes a state.
    pub fn is_constant(&self, location: Location) -> bool {
        let writes = |steps: &[Step]| steps.iter().any(|step| step.outputs.contains(&location));
        match location {
            Location::Slot(_) => writes(&self.steps[..self.constants]),
            Location::State(_) => !writes(&self.steps),
        }
    }

    /// Multiplications and additions of one run.
    pub fn flops(&self) -> u64 {
        self.steps.iter().map(|step| step.op.cost(&step.types).flops).sum()
    }
}

/// Moves the nodes that depend on nothing but states without an update to the front; returns how
/// many they are.
fn move_constants(graph: &mut Graph) -> usize {
    let updated = |value| graph.updates.iter().any(|(state, _)| *state == value);
    let states = graph.values().filter(|&v| graph.source(v) == Source::State && !updated(v));
    let mut constant: HashSet<Value> = states.collect();
    let (first, rest): (Vec<_>, Vec<_>) = graph.nodes.drain(..).partition(|node| {
        let is_constant = node.inputs.iter().all(|input| constant.contains(input));
        constant.extend(node.outputs.iter().filter(|_| is_constant));
        is_constant
    });
    let count = first.len();
    graph.nodes.extend(first.into_iter().chain(rest));
    count
}

/// A run of memory that one or more values live in, one after the other.
struct Storage {
    len: usize,
    location: Option<Location>,
    /// Written by the host, or not in every run: no op may overwrite it.
    kept: bool,
    first: usize,
    last: usize,
}

struct Storages {
    storages: Vec<Storage>,
    of: HashMap<Value, usize>,
    states: Vec<(String, TensorType)>,
    /// How many nodes, the first ones, need not be computed in every run.
    constants: usize,
}

impl Storages {
    /// Decides every value's storage, adding copies to the graph where an op may not work in place.
    fn assign(graph: &mut Graph, constants: usize) -> Result<Storages> {
        let mut storages =
            Storages { storages: Vec::new(), of: HashMap::new(), states: Vec::new(), constants };
        for value in graph.values() {
            match graph.source(value) {
                Source::Input => {
                    storages.create(graph, value, 0);
                }
                Source::State => {
                    let storage = storages.create(graph, value, 0);
                    let state = storages.states.len();
                    storages.states.push((graph.name(value).to_string(), graph.ty(value).clone()));
                    storages.storages[storage].location = Some(Location::State(state));
                }
                Source::Node => {}
            }
        }
        let mut index = 0;
        while index < graph.nodes.len() {
            index = storages.visit(graph, index)?;
        }
        storages.keep_old_values(graph)?;
        storages.finish_updates(graph)?;
        storages.extend_lives(graph);
        Ok(storages)
    }

    fn create(&mut self, graph: &Graph, value: Value, first: usize) -> usize {
        let len = graph.ty(value).words();
        self.storages.push(Storage {
            len,
            location: None,
            kept: graph.source(value) == Source::Input || first < self.constants,
            first,
            last: first,
        });
        self.of.insert(value, self.storages.len() - 1);
        self.storages.len() - 1
    }

    /// Gives the outputs of node `index` their storage; returns the index of the next node.
    fn visit(&mut self, graph: &mut Graph, mut index: usize) -> Result<usize> {
        let op = graph.nodes[index].op.clone();
        for input in op.alias().overwritten() {
            if !self.may_overwrite(graph, index, input) {
                let copy = insert_copy(graph, index, graph.nodes[index].inputs[input])?;
                self.create(graph, copy, index);
                self.constants += usize::from(index < self.constants);
                index += 1;
                graph.nodes[index].inputs[input] = copy;
            }
        }
        let node = graph.nodes[index].clone();
        for (output, &value) in node.outputs.iter().enumerate() {
            match op.alias().input_of(output) {
                Some(input) => {
                    let storage = self.of[&node.inputs[input]];
                    self.of.insert(value, storage);
                }
                None => {
                    self.create(graph, value, index);
                }
            }
        }
        Ok(index + 1)
    }

    /// Whether node `index` may destroy its input: nobody else may read that memory at or after the
    /// node, neither the host nor a later run.
    fn may_overwrite(&self, graph: &Graph, index: usize, input: usize) -> bool {
        let node = &graph.nodes[index];
        let storage = self.of[&node.inputs[input]];
        let same = |value: &Value| self.of.get(value) == Some(&storage);
        let read_later = graph.nodes[index + 1..].iter().any(|n| n.inputs.iter().any(same));
        let read_twice = node.inputs.iter().filter(|v| same(v)).count() > 1;
        let read_by_host = graph.outputs.iter().any(|(_, v)| same(v));
        let read_by_update = graph.updates.iter().any(|(_, v)| same(v));
        let keeps = match self.storages[storage].location {
            // A state may be overwritten only with its own new value.
            Some(Location::State(_)) => !node.outputs.iter().enumerate().any(|(output, &value)| {
                let update = (node.inputs[input], value);
                node.op.alias().input_of(output) == Some(input) && graph.updates.contains(&update)
            }),
            _ => self.storages[storage].kept,
        };
        !(read_later || read_twice || read_by_host || read_by_update || keeps)
    }

    /// Copies old values that the host or another state's update reads out of the states that
    /// [`Storages::finish_updates`] is about to overwrite.
    fn keep_old_values(&mut self, graph: &mut Graph) -> Result<()> {
        let late = graph.updates.iter().filter(|(state, value)| self.of[state] != self.of[value]);
        let overwritten: Vec<usize> = late.map(|(state, _)| self.of[state]).collect();
        let read = graph.outputs.iter().map(|o| o.1).chain(graph.updates.iter().map(|u| u.1));
        let old: BTreeSet<Value> = read.filter(|value| overwritten.contains(&self.of[value])).collect();
        for value in old {
            let index = graph.nodes.len();
            let copy = insert_copy(graph, index, value)?;
            self.create(graph, copy, index);
            graph.outputs.iter_mut().filter(|o| o.1 == value).for_each(|o| o.1 = copy);
            graph.updates.iter_mut().filter(|u| u.1 == value).for_each(|u| u.1 = copy);
        }
        Ok(())
    }

    /// Copies into their state, at the end of the run, the new values that were not computed in
    /// place.
    fn finish_updates(&mut self, graph: &mut Graph) -> Result<()> {
        for (state, value) in graph.updates.clone() {
            if self.of[&state] != self.of[&value] {
                let index = graph.nodes.len();
                let copy = insert_copy(graph, index, value)?;
                let storage = self.of[&state];
                self.of.insert(copy, storage);
            }
        }
        Ok(())
    }

    /// A storage lives from its first write to its last use; an output's to the end, and what is
    /// kept from run to run always.
    fn extend_lives(&mut self, graph: &Graph) {
        for (index, node) in graph.nodes.iter().enumerate() {
            for value in node.inputs.iter().chain(&node.outputs) {
                let storage = &mut self.storages[self.of[value]];
                storage.last = storage.last.max(index);
            }
        }
        let inputs = graph.values().filter(|&v| graph.source(v) == Source::Input);
        let constants = graph.nodes[..self.constants].iter().flat_map(|node| node.outputs.iter().copied());
        for value in inputs.chain(constants).chain(graph.outputs.iter().map(|o| o.1)) {
            let storage = &mut self.storages[self.of[&value]];
            (storage.first, storage.last) = (0, usize::MAX);
        }
    }

    /// Lets these values live always.
    fn set_apart(&mut self, values: &HashSet<Value>) {
        for value in values {
            let storage = &mut self.storages[self.of[value]];
            (storage.first, storage.last) = (0, usize::MAX);
        }
    }

    /// First-fit decreasing; returns the slots' sizes.
    fn assign_slots(&mut self) -> Vec<usize> {
        let mut order: Vec<usize> =
            (0..self.storages.len()).filter(|&s| self.storages[s].location.is_none()).collect();
        order.sort_by_key(|&s| (std::cmp::Reverse(self.storages[s].len), self.storages[s].first));
        let mut slots: Vec<usize> = Vec::new();
        let mut tenants: Vec<Vec<(usize, usize)>> = Vec::new();
        for storage in order {
            let Storage { len, first, last, .. } = self.storages[storage];
            let free = |lives: &Vec<(usize, usize)>| lives.iter().all(|&(f, l)| last < f || l < first);
            let slot = tenants.iter().position(free).unwrap_or_else(|| {
                slots.push(len);
                tenants.push(Vec::new());
                slots.len() - 1
            });
            tenants[slot].push((first, last));
            self.storages[storage].location = Some(Location::Slot(slot));
        }
        slots
    }

    fn into_plan(mut self, graph: &Graph) -> Plan {
        let slots = self.assign_slots();
        let location = |value: &Value| {
            let location = self.storages[self.of[value]].location;
            location.unwrap_or_else(|| unreachable!("{} was given no memory", graph.label(*value)))
        };
        let computes = |node: &&Node| !matches!(node.op.alias(), Alias::View(_));
        let steps = graph.nodes.iter().filter(computes).map(|node| Step {
            op: node.op.clone(),
            types: graph.types(node),
            inputs: node.inputs.iter().map(location).collect(),
            outputs: node.outputs.iter().map(location).collect(),
            layer: node.layer.clone(),
        });
        let binding = |name: &str, value: Value| IoBinding {
            name: name.to_string(),
            ty: graph.ty(value).clone(),
            location: location(&value),
        };
        let inputs = graph.values().filter(|&v| graph.source(v) == Source::Input);
        Plan {
            steps: steps.collect(),
            constants: graph.nodes[..self.constants].iter().filter(computes).count(),
            slots,
            inputs: inputs.map(|v| binding(graph.name(v), v)).collect(),
            outputs: graph.outputs.iter().map(|(name, v)| binding(name, *v)).collect(),
            states: self.states,
        }
    }
}

/// Inserts a copy of `value` before node `index`.
fn insert_copy(graph: &mut Graph, index: usize, value: Value) -> Result<Value> {
    let layer = graph.nodes.get(index).map_or("update", |node| &node.layer).to_string();
    graph.set_layer(&layer);
    let copy = graph.apply1(Copy, &[value])?;
    graph.nodes[index..].rotate_right(1);
    Ok(copy)
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = |location: &Location| match location {
            Location::Slot(slot) => format!("#{slot}"),
            Location::State(state) => self.states[*state].0.clone(),
        };
        for step in &self.steps {
            let outputs: Vec<String> = step.outputs.iter().map(show).collect();
            let inputs: Vec<String> = step.inputs.iter().map(show).collect();
            writeln!(f, "{} = {:?}({})  # {}", outputs.join(", "), step.op, inputs.join(", "), step.layer)?;
        }
        writeln!(
            f,
            "{} of {} steps not in every run; {} slots, {} bytes; {} bytes of state",
            self.constants,
            self.steps.len(),
            self.slots.len(),
            self.slot_bytes(),
            self.state_bytes()
        )
    }
}
