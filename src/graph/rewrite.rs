//! Rewriting a graph by rules.
//!
//! A rule replaces a few nodes by fewer, or by cheaper ones; what the graph computes stays the
//! same. Every device has a table of rules of its own ([`crate::exec::Device::rules`]), which
//! [`rewrite`] applies wherever they fit, until none fits any more: their order does not matter.

use std::any::Any;
use std::fmt;

use super::op::{Op, Types};
use super::{Graph, Node, Value};
use crate::error::Result;

/// A rule.
pub struct Rule {
    /// The name that [`Rewrite`]s give.
    pub name: &'static str,
    /// The replacement in one line: `before => after`.
    pub replaces: &'static str,
    /// The condition beyond that form, in words.
    pub when: &'static str,
    /// Applies the rule to the node of this number, the last of `before`; tells whether it fitted.
    ///
    /// # Errors
    /// None but those of [`Graph::apply`] for the nodes it adds.
    pub apply: fn(&mut Graph, usize) -> Result<bool>,
}

/// The work of a rule on a graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewrite {
    /// The rule's name.
    pub rule: &'static str,
    /// The layer of the node that it was applied to.
    pub layer: String,
    /// Bytes that a run no longer reads or writes; negative where more are.
    pub saved_bytes: i64,
}

impl fmt::Display for Rewrite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} '{}' saves {} bytes", self.rule, self.layer, self.saved_bytes)
    }
}

/// Applies the rules wherever they fit, until none fits any more, and drops what nothing depends
/// on.
///
/// # Errors
/// If two inputs or two outputs have one name, or an output is a value of another graph.
pub fn rewrite(graph: &mut Graph, rules: &[&Rule]) -> Result<Vec<Rewrite>> {
    graph.check_names()?;
    graph.remove_dead_nodes();
    let (mut done, mut bytes) = (Vec::new(), traffic(graph));
    loop {
        let before = done.len();
        for rule in rules {
            let mut index = 0;
            while let Some(node) = graph.nodes.get(index) {
                let layer = node.layer.clone();
                if !(rule.apply)(graph, index)? {
                    index += 1;
                    continue;
                }
                // The same number may be another node now, so it is looked at again.
                graph.remove_dead_nodes();
                let left = traffic(graph);
                done.push(Rewrite { rule: rule.name, layer, saved_bytes: bytes - left });
                bytes = left;
            }
        }
        if done.len() == before {
            return Ok(done);
        }
    }
}

/// Bytes that the nodes read and write.
pub(crate) fn traffic(graph: &Graph) -> i64 {
    graph.nodes.iter().map(|node| node.op.cost(&graph.types(node)).bytes as i64).sum()
}

/// The node's op, if it is of this kind.
pub fn downcast<T: Op>(node: &Node) -> Option<&T> {
    (&*node.op as &dyn Any).downcast_ref()
}

impl Graph {
    /// Types of a node's operands.
    pub fn types(&self, node: &Node) -> Types {
        let types = |values: &[Value]| values.iter().map(|&value| self.ty(value).clone()).collect();
        Types { inputs: types(&node.inputs), outputs: types(&node.outputs) }
    }

    /// The node of this number, to be changed by a rule.
    pub(crate) fn node_mut(&mut self, index: usize) -> &mut Node {
        &mut self.nodes[index]
    }

    /// The number of the node that computes `value`.
    pub fn producer(&self, value: Value) -> Option<usize> {
        self.nodes.iter().position(|node| node.outputs.contains(&value))
    }

    /// The node that computes `value`, and its op, if that is of this kind.
    pub fn producer_of<T: Op>(&self, value: Value) -> Option<(usize, &T)> {
        let index = self.producer(value)?;
        downcast(&self.nodes[index]).map(|op| (index, op))
    }

    /// The numbers of the nodes that read `value`.
    pub fn readers(&self, value: Value) -> impl Iterator<Item = usize> {
        let nodes = self.nodes.iter().enumerate();
        nodes.filter(move |(_, node)| node.inputs.contains(&value)).map(|(index, _)| index)
    }

    /// Whether the host or a state needs `value`.
    pub fn is_result(&self, value: Value) -> bool {
        self.outputs.iter().any(|o| o.1 == value) || self.updates.iter().any(|u| u.1 == value)
    }

    /// Whether node `reader` is the only one that needs `value`.
    pub fn only_reader(&self, value: Value, reader: usize) -> bool {
        self.readers(value).all(|index| index == reader) && !self.is_result(value)
    }

    /// Adds a node of the same layer before node `index`; returns its outputs.
    ///
    /// # Errors
    /// As for [`Graph::apply`].
    pub(crate) fn insert(&mut self, index: usize, op: impl Op, inputs: &[Value]) -> Result<Vec<Value>> {
        let layer = self.nodes[index].layer.clone();
        self.set_layer(&layer);
        let outputs = self.apply(op, inputs)?;
        self.nodes[index..].rotate_right(1);
        Ok(outputs)
    }
}
