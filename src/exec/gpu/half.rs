//! Which values of a plan are stored in half precision.
//!
//! A value that a step computes and other steps read, and nobody else, is stored so where every
//! shader that touches it can: one that declares its binding as `StoredValue3` or `Stored3`
//! (`shaders/README.md`). So what an optimizer or a loss reads and writes, and the sums over a
//! batch, stay as they are; and so do the gradients of parameters, by their [`Unscale`].

use std::collections::{HashMap, HashSet};

use crate::graph::rewrite::downcast;
use crate::graph::{Graph, Node, Source, Value};
use crate::ops::dispatch::{Bindings, Dispatch, Shader};
use crate::ops::optim::unscale::Unscale;
use crate::ops::{Alias, Types};
use crate::tensor::DType;

/// Smaller values save nothing, and may be a loss, a norm or a scale that needs its digits.
const FEWEST_ELEMENTS: usize = 1024;

/// Stores those values of a graph in half precision that may be. It is the last that is done to a
/// graph: a rule would infer their types again.
pub fn store(graph: &mut Graph) {
    let homes = homes(graph);
    let whole = kept_whole(graph, &homes);
    for value in graph.values().filter(|value| !whole.contains(&homes[value])) {
        graph.store_as(value, DType::F16);
    }
}

/// For each value the one whose memory it is stored in, which it may share.
fn homes(graph: &Graph) -> HashMap<Value, Value> {
    let mut homes: HashMap<Value, Value> = graph.values().map(|value| (value, value)).collect();
    for node in graph.nodes() {
        for (output, value) in node.outputs.iter().enumerate() {
            if let Some(input) = node.op.alias().input_of(output) {
                homes.insert(*value, homes[&node.inputs[input]]);
            }
        }
    }
    homes
}

/// The homes of what stays as it is.
fn kept_whole(graph: &Graph, homes: &HashMap<Value, Value>) -> HashSet<Value> {
    let mut updating: HashSet<Value> = HashSet::new();
    let mut shaders = Shaders::default();
    let stays = |value: &Value| {
        let ty = graph.ty(*value);
        let is_own = graph.source(*value) == Source::Node && !graph.is_result(*value);
        !is_own || ty.dtype != DType::F32 || ty.len() < FEWEST_ELEMENTS
    };
    let mut whole: HashSet<Value> = graph.values().filter(stays).collect();
    for node in graph.nodes() {
        let is_update = downcast::<Unscale>(node).is_some();
        if is_update || node.inputs.iter().any(|input| updating.contains(input)) {
            updating.extend(&node.outputs);
            whole.extend(node.outputs.iter().chain(node.inputs.iter().filter(|_| is_update)));
        }
        whole.extend(shaders.needed_whole(node, &graph.types(node)));
    }
    whole.into_iter().map(|value| homes[&value]).collect()
}

/// What each shader can store in half precision.
#[derive(Default)]
struct Shaders(HashMap<Shader, Bindings>);

impl Shaders {
    /// The operands of a node that one of its launches cannot store so.
    fn needed_whole(&mut self, node: &Node, types: &Types) -> Vec<Value> {
        let work = node.op.gpu(types);
        if work.list.is_empty() && !matches!(node.op.alias(), Alias::View(_)) {
            return [&node.inputs[..], &node.outputs[..]].concat();
        }
        work.list.iter().flat_map(|dispatch| self.bound_whole(node, dispatch)).collect()
    }

    fn bound_whole(&mut self, node: &Node, dispatch: &Dispatch) -> Vec<Value> {
        let may_be = *self.0.entry(dispatch.shader).or_insert_with(|| dispatch.shader.may_be_halves());
        let bound = dispatch.bindings.iter().enumerate().filter(|(number, _)| !may_be.has(*number));
        bound.filter_map(|(_, operand)| operand.value_of(node)).collect()
    }
}
