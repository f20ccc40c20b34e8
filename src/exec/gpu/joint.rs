//! Launches that do the work of several steps: of all updates by an optimizer, of all moving
//! averages.
//!
//! A launch costs some microseconds, which is more than most of these steps take. The steps compute
//! every element by itself, by one rule ([`may_be_joined`](crate::ops::dispatch::may_be_joined)).
//! [`gather`] brings them together, [`super::memory`] places their operands side by side where it
//! can, and [`follows`] tells those whose operands do lie so: they are one launch. Others (of
//! states that another plan placed before) are several, and compute the same bits.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::ops::Range;

use super::memory::{Region, pitch};
use crate::exec::plan::Plan;
use crate::graph::{Graph, Source, Value};
use crate::ops::dispatch::{Dispatch, Dispatches, Operand, PIECE_BYTES};

/// The kind of a node that others can be joined with, and how many such nodes wait for one another
/// after it.
struct Late {
    kind: usize,
    after: usize,
}

/// Moves the nodes that a launch may do with others, and that nothing else waits for, to the end,
/// those of one kind one after the other. Returns the computed values that they treat, which can
/// lie side by side only in memory that is theirs alone.
pub fn gather(graph: &mut Graph) -> HashSet<Value> {
    let late = late_nodes(graph);
    let mut apart = HashSet::new();
    for (&index, Late { kind, .. }) in &late {
        if late.values().filter(|other| other.kind == *kind).count() > 1 {
            apart.extend(
                treated(graph, index).into_iter().filter(|&value| graph.source(value) == Source::Node),
            );
        }
    }
    let mut order: Vec<usize> = (0..graph.nodes.len()).collect();
    // Stable: the nodes of a kind stay in their order.
    order.sort_by_key(|index| late.get(index).map(|Late { kind, after }| (Reverse(*after), Reverse(*kind))));
    graph.nodes = order.into_iter().map(|index| graph.nodes[index].clone()).collect();
    apart
}

fn late_nodes(graph: &Graph) -> HashMap<usize, Late> {
    let mut kinds: Vec<Dispatch> = Vec::new();
    let mut late: HashMap<usize, Late> = HashMap::new();
    for (index, node) in graph.nodes().iter().enumerate().rev() {
        let work = node.op.gpu(&graph.types(node));
        let Some(dispatch) = single(&work) else { continue };
        let readers = node.outputs.iter().flat_map(|&value| graph.readers(value));
        let mut stages = readers.map(|reader| late.get(&reader).map(|late| late.after + 1));
        let Some(after) = stages.try_fold(0, |most: usize, stage| Some(most.max(stage?))) else { continue };
        let kind = kinds.iter().position(|kind| is_alike(kind, dispatch)).unwrap_or(kinds.len());
        if kind == kinds.len() {
            kinds.push(dispatch.clone());
        }
        late.insert(index, Late { kind, after });
    }
    late
}

/// The inputs of which a node of one launch treats every element by itself.
fn treated(graph: &Graph, index: usize) -> Vec<Value> {
    let node = &graph.nodes()[index];
    let work = node.op.gpu(&graph.types(node));
    let operands = single(&work).and_then(Dispatch::joinable).map_or(&[][..], |(operands, ..)| operands);
    let input =
        |operand: &Operand| if let Operand::Input(i) = *operand { Some(node.inputs[i]) } else { None };
    operands.iter().filter_map(input).collect()
}

/// The one launch of some work, if it may be joined with others.
fn single(work: &Dispatches) -> Option<&Dispatch> {
    let [dispatch] = &work.list[..] else { return None };
    dispatch.joinable().map(|_| dispatch)
}

/// Whether one launch can do both, but for their memory and their numbers.
fn is_alike(a: &Dispatch, b: &Dispatch) -> bool {
    let same = a.shader == b.shader && a.entry == b.entry && a.constants == b.constants;
    let operands = |dispatch: &Dispatch| {
        dispatch.joinable().map(|(operands, _, wholes)| (operands.to_vec(), wholes.to_vec()))
    };
    same && operands(a) == operands(b)
}

/// Steps, one after the other, that one launch can do if their operands lie side by side, and none
/// of these is longer than a binding. Those of every run stay apart from those that run once.
pub fn alike(plan: &Plan, work: &[Dispatches]) -> Vec<Range<usize>> {
    let bytes = |step: usize| pitch(plan.steps[step].types.outputs[0].bytes());
    let mut found: Vec<Range<usize>> = Vec::new();
    let mut taken = 0;
    for (step, dispatches) in work.iter().enumerate() {
        let Some(dispatch) = single(dispatches) else { continue };
        taken += bytes(step);
        match found.last_mut() {
            Some(last)
                if last.end == step
                    && step != plan.constants
                    && taken <= PIECE_BYTES
                    && is_alike(&work[last.start].list[0], dispatch) =>
            {
                last.end = step + 1;
            }
            _ => {
                found.push(step..step + 1);
                taken = bytes(step);
            }
        }
    }
    found.retain(|steps| steps.len() > 1);
    found
}

/// Whether the operands of a step lie behind those of the one before it, whose are of so many
/// bytes, and one launch can do both. The regions are those of their operands, in the order of the
/// bindings.
pub fn follows(dispatch: &Dispatch, bytes: usize, [before, after]: [&[Option<&Region>]; 2]) -> bool {
    let Some((operands, ..)) = dispatch.joinable() else { return false };
    let pairs = || dispatch.bindings.iter().zip(before.iter().zip(after));
    let behind = |(before, after): (&Option<&Region>, &Option<&Region>)| {
        let (Some(before), Some(after)) = (before, after) else { return false };
        before.buffer == after.buffer && before.offset + pitch(bytes) == after.offset
    };
    let written: Vec<_> = pairs().filter(|(operand, _)| operand.is_written()).map(|pair| pair.1.0).collect();
    let all_behind = pairs().take(operands.len()).all(|(_, regions)| behind(regions));
    // What is read as a whole is the same, and none of what they write.
    all_behind && pairs().skip(operands.len()).all(|(_, (a, b))| a == b && !written.contains(&a))
}
