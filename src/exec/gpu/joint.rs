//! Launches that do the work of several: of all updates by an optimizer, of all moving averages, of
//! the squares of all gradients.
//!
//! A launch costs some microseconds, which is more than most of these take. They treat every block
//! of their operands by itself, by one rule (`may_be_joined` of [`crate::ops::dispatch`]).
//! [`gather`] brings their steps together, [`super::memory`] places their operands side by side
//! where it can, and [`follows`] tells those whose operands do lie so: they are one launch. Others
//! (of states that another plan placed before) are several, and compute the same bits.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::ops::Range;

use super::memory::{Region, pitch};
use crate::exec::launches::extent;
use crate::exec::plan::{Plan, Step};
use crate::graph::{Graph, Node, Source, Value};
use crate::ops::dispatch::{Dispatch, Dispatches, Operand, PIECE_BYTES};

/// A launch of a plan, before it has memory.
#[derive(Clone, Copy)]
pub struct Task<'a> {
    /// The number of its step.
    pub index: usize,
    pub step: &'a Step,
    pub work: &'a Dispatches,
    pub dispatch: &'a Dispatch,
}

/// The launches of a plan, in order. `work` are the dispatches of each step.
pub fn tasks<'a>(plan: &'a Plan, work: &'a [Dispatches]) -> Vec<Task<'a>> {
    let of_step = |(index, (step, work)): (usize, (&'a Step, &'a Dispatches))| {
        work.list.iter().map(move |dispatch| Task { index, step, work, dispatch })
    };
    plan.steps.iter().zip(work).enumerate().flat_map(of_step).collect()
}

impl Task<'_> {
    /// Bytes of each of the operands that it treats block by block, if it may be joined.
    pub fn bytes(&self) -> Option<usize> {
        let (operands, ..) = self.dispatch.joinable()?;
        Some(extent(self.step, self.work, *operands.first()?).1)
    }
}

/// A node that others can be joined with.
struct Late {
    kind: usize,
    /// How many such nodes wait for one another after it.
    after: usize,
    /// Whether it, or such a node before it, reads what is computed once: a gradient that is known
    /// to be zero. Such nodes come last of their kind: nothing scales a zero gradient, so that it
    /// must not lie between those that are scaled.
    reads_constants: bool,
}

/// Moves the nodes that a launch may do with others, and that nothing else waits for, to the end,
/// those of one kind one after the other. Returns the computed values that they treat, which can
/// lie side by side only in memory that is theirs alone.
pub fn gather(graph: &mut Graph) -> HashSet<Value> {
    let late = late_nodes(graph);
    let mut apart = HashSet::new();
    for (&index, Late { kind, .. }) in &late {
        let node = &graph.nodes()[index];
        let work = node.op.gpu(&graph.types(node));
        let own = work.list.iter().filter(|dispatch| dispatch.joinable().is_some()).count();
        if own > 1 || late.values().filter(|other| other.kind == *kind).count() > 1 {
            let treated = treated(node, &work).into_iter();
            apart.extend(treated.filter(|&value| graph.source(value) == Source::Node));
        }
    }
    let mut order: Vec<usize> = (0..graph.nodes.len()).collect();
    // Stable: the nodes of a kind stay in their order.
    order.sort_by_key(|index| {
        let late = late.get(index)?;
        Some((Reverse(late.after), Reverse(late.kind), late.reads_constants))
    });
    graph.nodes = order.into_iter().map(|index| graph.nodes[index].clone()).collect();
    apart
}

fn late_nodes(graph: &Graph) -> HashMap<usize, Late> {
    let mut kinds: Vec<Dispatches> = Vec::new();
    let mut late: HashMap<usize, Late> = HashMap::new();
    for (index, node) in graph.nodes().iter().enumerate().rev() {
        let work = node.op.gpu(&graph.types(node));
        if !work.list.iter().any(|dispatch| dispatch.joinable().is_some()) {
            continue;
        }
        let readers = node.outputs.iter().flat_map(|&value| graph.readers(value));
        let mut stages = readers.map(|reader| late.get(&reader).map(|late| late.after + 1));
        let Some(after) = stages.try_fold(0, |most: usize, stage| Some(most.max(stage?))) else { continue };
        let kind = kinds.iter().position(|kind| are_alike(kind, &work)).unwrap_or(kinds.len());
        if kind == kinds.len() {
            kinds.push(work);
        }
        late.insert(index, Late { kind, after, reads_constants: false });
    }
    for (index, node) in graph.nodes().iter().enumerate() {
        let is_constant = |&input: &Value| {
            graph.producer(input).is_some_and(|producer| {
                let reads_constants = late.get(&producer).is_some_and(|late| late.reads_constants);
                reads_constants || graph.nodes()[producer].inputs.is_empty()
            })
        };
        let reads_constants = node.inputs.iter().any(is_constant);
        if let Some(late) = late.get_mut(&index) {
            late.reads_constants = reads_constants;
        }
    }
    late
}

/// The inputs of which launches of a node treat every block by itself.
fn treated(node: &Node, work: &Dispatches) -> Vec<Value> {
    let operands = work.list.iter().filter_map(Dispatch::joinable).flat_map(|(operands, ..)| operands);
    let input =
        |operand: &Operand| if let Operand::Input(i) = *operand { Some(node.inputs[i]) } else { None };
    operands.filter_map(input).collect()
}

/// Whether one launch each can do both, but for their memory and their numbers.
fn are_alike(a: &Dispatches, b: &Dispatches) -> bool {
    a.list.len() == b.list.len() && a.list.iter().zip(&b.list).all(|(a, b)| is_alike(a, b))
}

/// Whether one launch can do both, but for their memory and their numbers.
fn is_alike(a: &Dispatch, b: &Dispatch) -> bool {
    let same = a.shader == b.shader && a.entry == b.entry && a.constants == b.constants;
    let operands = |dispatch: &Dispatch| {
        let (treated, _, wholes) = dispatch.joinable()?;
        Some((treated.iter().map(|operand| operand.is_written()).collect::<Vec<_>>(), wholes.to_vec()))
    };
    same && operands(a).is_some() && operands(a) == operands(b)
}

/// Launches, one after the other, that one can do if their operands lie side by side, and none of
/// these is longer than a binding. Those of every run stay apart from those that run once.
pub fn alike(plan: &Plan, tasks: &[Task]) -> Vec<Range<usize>> {
    let is_of_run = |at: usize| tasks[at].index >= plan.constants;
    let mut found: Vec<Range<usize>> = Vec::new();
    let mut taken = 0;
    for (at, task) in tasks.iter().enumerate() {
        let Some(bytes) = task.bytes() else { continue };
        taken += pitch(bytes);
        match found.last_mut() {
            Some(last)
                if last.end == at
                    && is_of_run(at - 1) == is_of_run(at)
                    && taken <= PIECE_BYTES
                    && is_alike(tasks[last.start].dispatch, task.dispatch) =>
            {
                last.end = at + 1;
            }
            _ => {
                found.push(at..at + 1);
                taken = pitch(bytes);
            }
        }
    }
    found.retain(|alike| alike.len() > 1);
    found
}

/// Whether the operands of a launch lie behind those of the one before it, whose are of so many
/// bytes, and one can do both. The regions are those of their operands, in the order of the
/// bindings.
pub fn follows(dispatch: &Dispatch, bytes: usize, [before, after]: [&[Option<&Region>]; 2]) -> bool {
    let Some((operands, _, wholes)) = dispatch.joinable() else { return false };
    let pairs = || dispatch.bindings.iter().zip(before.iter().zip(after));
    let behind = |(before, after): (&Option<&Region>, &Option<&Region>)| {
        let (Some(before), Some(after)) = (before, after) else { return false };
        before.buffer == after.buffer && before.offset + pitch(bytes) == after.offset
    };
    let treated = || pairs().take(operands.len());
    let written: Vec<_> =
        treated().filter(|(operand, _)| operand.is_written()).map(|pair| pair.1.0).collect();
    // What is one for all is the same, and none of what they write each by itself.
    let mut shared = pairs().skip(dispatch.bindings.len() - wholes.len());
    treated().all(|(_, regions)| behind(regions)) && shared.all(|(_, (a, b))| a == b && !written.contains(&a))
}
