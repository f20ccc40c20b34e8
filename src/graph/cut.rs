//! A graph cut in two, to be run one after the other.

use std::collections::{HashMap, HashSet};

use super::{Graph, Info, Source, Value};
use crate::error::{Error, Result};

/// The halves of a graph that was cut at some of its values.
#[derive(Clone, Debug)]
pub struct Halves {
    /// Computes these values and the graph's outputs, all as outputs, and leaves states as they
    /// are.
    pub first: Graph,
    /// Takes the values, as inputs of the same names, and makes all updates of states. Outputs of
    /// the graph that are among the values are its outputs, too.
    pub second: Graph,
}

impl Graph {
    /// Cuts the graph at values of nodes, each under a name that is none of the graph's. A state is
    /// the same in both halves; an input is one of those halves that read it.
    ///
    /// # Errors
    /// If a value is not computed by a node of this graph.
    pub fn cut(&self, at: &[(String, Value)]) -> Result<Halves> {
        for (name, value) in at {
            self.check_own(*value, name)?;
            if self.source(*value) != Source::Node {
                return Err(Error::op(name, "is not computed, so the graph cannot be cut there"));
            }
        }
        let mut first = Graph { updates: Vec::new(), ..self.clone() };
        at.iter().for_each(|(name, value)| first.output(name, *value));
        let mut second = self.clone();
        let inputs: HashMap<Value, Value> =
            at.iter().map(|(name, value)| (*value, second.input(name, self.ty(*value).clone()))).collect();
        second.outputs = self
            .outputs
            .iter()
            .filter_map(|(name, value)| Some((name.clone(), *inputs.get(value)?)))
            .collect();
        for input in second.nodes.iter_mut().flat_map(|node| &mut node.inputs) {
            *input = inputs.get(input).copied().unwrap_or(*input);
        }
        for half in [&mut first, &mut second] {
            half.remove_dead_nodes();
            half.remove_unread_inputs();
        }
        Ok(Halves { first, second })
    }

    /// Leaves only those inputs that a node or an output reads.
    fn remove_unread_inputs(&mut self) {
        let read: HashSet<Value> = self.nodes.iter().flat_map(|node| node.inputs.iter().copied()).collect();
        let is_read =
            |value: Value| read.contains(&value) || self.outputs.iter().any(|(_, output)| *output == value);
        let unread: Vec<Value> =
            self.values().filter(|&value| self.source(value) == Source::Input && !is_read(value)).collect();
        for value in unread {
            // Its number stays, of a value that no node computes and nobody reads.
            let ty = self.ty(value).clone();
            self.values[value.number] = Info { name: String::new(), ty, source: Source::Node };
        }
    }
}
