//! The static graph: every value has a type and is computed once (static single assignment).
//!
//! A graph is built by [`Graph::apply`], extended by [`crate::grad::differentiate`], rewritten by
//! [`rewrite::rewrite`] and turned into an executable [`crate::exec::plan::Plan`]. It is plain data
//! and prints itself.

pub mod cut;
pub mod op;
pub mod rewrite;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::{Error, Result};
#[cfg(feature = "gpu")]
use crate::tensor::DType;
use crate::tensor::TensorType;
use op::Op;
use op::cpu_step::MAX_OUTPUTS;

/// A value of a graph, which knows the graph and may be used in that one and its clones alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Value {
    graph: usize,
    number: usize,
}

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Written by the host before every run.
    Input,
    /// Lives on the device from run to run: parameters, statistics, moments, the data set.
    State,
    /// Computed by a node.
    Node,
}

#[derive(Clone, Debug)]
struct Info {
    name: String,
    ty: TensorType,
    source: Source,
}

/// An application of an op.
#[derive(Clone, Debug)]
pub struct Node {
    /// The op that is computed.
    pub op: Arc<dyn Op>,
    /// The op's operands, in the op's order.
    pub inputs: Vec<Value>,
    /// The op's results, in the op's order.
    pub outputs: Vec<Value>,
    /// The layer of the model that the node belongs to, for messages and profiles.
    pub layer: String,
}

/// A static graph. Nodes are stored in an order in which they can run.
///
/// [`Graph::input`] and [`Graph::state`] add what is given, [`Graph::apply`] and the methods of
/// [`crate::ops::methods`] what is computed; [`Graph::output`] and [`Graph::update`] say what is
/// wanted of it. [`crate::program::Program`] runs it.
///
/// ```
/// use cifar_engine::prelude::*;
///
/// let mut graph = Graph::new();
/// let x = graph.input("x", TensorType::f32([2, 3]));
/// let w = graph.state("w", TensorType::f32([3, 4]))?;
/// let product = graph.matmul(x, w)?;
/// let y = graph.map(Function::Relu, product)?;
/// graph.output("y", y);
/// assert_eq!(graph.dims(y), [2, 4]);
/// assert!(graph.to_string().contains("%3: f32[2, 4] = Unary { function: Relu }(%2)"));
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Graph {
    /// The same for all clones, and for no other graph of the process.
    id: usize,
    values: Vec<Info>,
    pub(crate) nodes: Vec<Node>,
    states: HashMap<String, Value>,
    pub(crate) updates: Vec<(Value, Value)>,
    pub(crate) outputs: Vec<(String, Value)>,
    layer: String,
}

impl Default for Graph {
    fn default() -> Self {
        Graph::new()
    }
}

impl Graph {
    /// A graph without values.
    pub fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        Graph {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            values: Vec::new(),
            nodes: Vec::new(),
            states: HashMap::new(),
            updates: Vec::new(),
            outputs: Vec::new(),
            layer: String::new(),
        }
    }

    /// Checks that a value is one of this graph.
    ///
    /// # Errors
    /// If it is not; says of what use it was to be.
    pub(crate) fn check_own(&self, value: Value, what: &str) -> Result<()> {
        match value.graph == self.id && value.number < self.values.len() {
            true => Ok(()),
            false => Err(Error::op(what, "is a value of another graph")),
        }
    }

    fn add_value(&mut self, name: String, ty: TensorType, source: Source) -> Value {
        self.values.push(Info { name, ty, source });
        Value { graph: self.id, number: self.values.len() - 1 }
    }

    /// A value that the host writes before a run. One that is absurdly large is refused by the
    /// first op that it is given to, or when the graph is planned.
    pub fn input(&mut self, name: &str, ty: TensorType) -> Value {
        self.add_value(name.to_string(), ty, Source::Input)
    }

    /// A value that lives on the device under a name of its own; asking again gives the same value.
    ///
    /// # Errors
    /// If the name is taken by a state of another type, or the state is absurdly large.
    pub fn state(&mut self, name: &str, ty: TensorType) -> Result<Value> {
        check_size(&ty).map_err(|problem| Error::op(name, problem))?;
        if let Some(&state) = self.states.get(name) {
            return match self.ty(state) == &ty {
                true => Ok(state),
                false => {
                    Err(Error::op(name, format!("is {} in one place and {ty} in another", self.ty(state))))
                }
            };
        }
        let state = self.add_value(name.to_string(), ty, Source::State);
        self.states.insert(name.to_string(), state);
        Ok(state)
    }

    /// Names the layer that the nodes added from now on belong to.
    pub fn set_layer(&mut self, layer: &str) {
        self.layer = layer.to_string();
    }

    /// Adds a node and returns its outputs.
    ///
    /// # Errors
    /// If the op's shape rule rejects the inputs, or an input or output is absurdly large; the
    /// message names the layer and the shapes.
    pub fn apply(&mut self, op: impl Op, inputs: &[Value]) -> Result<Vec<Value>> {
        self.apply_shared(Arc::new(op), inputs)
    }

    /// [`Graph::apply`] for an op with one output.
    ///
    /// # Errors
    /// As for [`Graph::apply`].
    pub fn apply1(&mut self, op: impl Op, inputs: &[Value]) -> Result<Value> {
        let name = op.name();
        let first = self.apply(op, inputs)?.first().copied();
        first.ok_or_else(|| Error::op(format!("{name} '{}'", self.layer), "has no output"))
    }

    /// [`Graph::apply`] for an op that is shared already.
    ///
    /// # Errors
    /// As for [`Graph::apply`].
    pub fn apply_shared(&mut self, op: Arc<dyn Op>, inputs: &[Value]) -> Result<Vec<Value>> {
        let place = match self.layer.as_str() {
            "" => op.name().to_string(),
            layer => format!("{} '{layer}'", op.name()),
        };
        for (i, &input) in inputs.iter().enumerate() {
            self.check_own(input, &format!("{place}: input {i}"))?;
        }
        let types: Vec<&TensorType> = inputs.iter().map(|&v| self.ty(v)).collect();
        // The inputs first: shape rules calculate with their sizes.
        let checked = types.iter().try_for_each(|ty| check_size(ty)).and_then(|()| {
            let outputs = op.output_types(&types)?;
            outputs.iter().try_for_each(check_size)?;
            match outputs.len() <= MAX_OUTPUTS {
                true => Ok(outputs),
                false => Err(format!("has more than {MAX_OUTPUTS} outputs")),
            }
        });
        let outputs = checked.map_err(|problem| {
            let types: Vec<String> = types.iter().map(ToString::to_string).collect();
            Error::op(place, format!("{problem} (inputs {})", types.join(", ")))
        })?;
        let outputs: Vec<Value> =
            outputs.into_iter().map(|ty| self.add_value(String::new(), ty, Source::Node)).collect();
        let node = Node { op, inputs: inputs.to_vec(), outputs: outputs.clone(), layer: self.layer.clone() };
        self.nodes.push(node);
        Ok(outputs)
    }

    /// After each run, `state` holds what `value` was.
    ///
    /// # Errors
    /// If `state` is no state, has another type or is updated already, or `value` is not computed
    /// by a node.
    pub fn update(&mut self, state: Value, value: Value) -> Result<()> {
        self.check_own(state, "the state to update")?;
        self.check_own(value, "the new value of a state")?;
        let Info { name, ty, source } = &self.values[state.number];
        let computed = self.source(value) == Source::Node;
        let twice = self.updates.iter().any(|u| u.0 == state);
        if twice {
            return Err(Error::op(name, "is updated already, and can be once in a graph"));
        }
        if *source != Source::State || ty != self.ty(value) || !computed {
            return Err(Error::op(name, format!("cannot be updated from a {}", self.ty(value))));
        }
        self.updates.push((state, value));
        Ok(())
    }

    /// Makes a value readable by the host after a run, under a name.
    pub fn output(&mut self, name: &str, value: Value) {
        self.outputs.push((name.to_string(), value));
    }

    /// Shape and element type of a value.
    ///
    /// # Panics
    /// If it is one of another graph, which [`Graph::apply`] refuses.
    pub fn ty(&self, value: Value) -> &TensorType {
        &self.info(value).ty
    }

    fn info(&self, value: Value) -> &Info {
        assert_eq!(value.graph, self.id, "a value of another graph");
        &self.values[value.number]
    }

    /// Stores a value in elements of another type, as a device may for itself. The ops that read it
    /// are not asked again.
    #[cfg(feature = "gpu")]
    pub(crate) fn store_as(&mut self, value: Value, dtype: DType) {
        self.values[value.number].ty.dtype = dtype;
    }

    /// Dimensions of a value, outermost first.
    pub fn dims(&self, value: Value) -> &[usize] {
        self.ty(value).dims()
    }

    /// All nodes, in an order in which they can run.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Where a value comes from.
    ///
    /// # Panics
    /// As for [`Graph::ty`].
    pub fn source(&self, value: Value) -> Source {
        self.info(value).source
    }

    /// The name of an input or state; empty for a node's output.
    ///
    /// # Panics
    /// As for [`Graph::ty`].
    pub fn name(&self, value: Value) -> &str {
        &self.info(value).name
    }

    /// The name of an input or state, or the op and the layer that compute a value, for messages.
    pub(crate) fn description(&self, value: Value) -> String {
        match self.producer(value).map(|index| &self.nodes[index]) {
            Some(node) => format!("{} '{}'", node.op.name(), node.layer),
            None => self.label(value),
        }
    }

    /// The input of this name.
    pub fn input_named(&self, name: &str) -> Option<Value> {
        let is_it = |info: &Info| info.source == Source::Input && info.name == name;
        self.values.iter().position(is_it).map(|number| Value { graph: self.id, number })
    }

    /// Whether there is a state of this name.
    pub fn has_state(&self, name: &str) -> bool {
        self.states.contains_key(name)
    }

    /// Names and values of what the host can read after a run.
    pub fn outputs(&self) -> &[(String, Value)] {
        &self.outputs
    }

    /// Pairs (state, value): after a run, the state holds the value.
    pub fn updates(&self) -> &[(Value, Value)] {
        &self.updates
    }

    /// All values, in the order they were added.
    pub fn values(&self) -> impl Iterator<Item = Value> + use<> {
        let graph = self.id;
        (0..self.values.len()).map(move |number| Value { graph, number })
    }

    /// Checks that inputs and outputs can be told apart by their names, and that the outputs are
    /// values of this graph.
    ///
    /// # Errors
    /// If that is not so.
    pub(crate) fn check_names(&self) -> Result<()> {
        let inputs: Vec<Value> = self.values().filter(|&v| self.source(v) == Source::Input).collect();
        for &input in &inputs {
            check_size(self.ty(input)).map_err(|problem| Error::op(self.name(input), problem))?;
        }
        let inputs: Vec<&str> = inputs.into_iter().map(|v| self.name(v)).collect();
        let outputs: Vec<&str> = self.outputs.iter().map(|(name, _)| name.as_str()).collect();
        if let Some(name) = inputs.iter().find(|name| self.states.contains_key(**name)) {
            return Err(Error::op(*name, "is the name of an input and of a state of the graph"));
        }
        for (kind, mut names) in [("inputs", inputs), ("outputs", outputs)] {
            names.sort_unstable();
            if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
                return Err(Error::op(pair[0], format!("is the name of two {kind} of the graph")));
            }
        }
        self.outputs.iter().try_for_each(|(name, value)| self.check_own(*value, &format!("output {name}")))
    }

    /// Drops every node that no output and no update depends on.
    pub fn remove_dead_nodes(&mut self) {
        let mut needed = vec![false; self.values.len()];
        let roots = self.outputs.iter().map(|o| o.1).chain(self.updates.iter().map(|u| u.1));
        let own = roots.filter(|value| value.graph == self.id);
        own.for_each(|v| needed[v.number] = true);
        let mut keep = vec![false; self.nodes.len()];
        for (node, keep) in self.nodes.iter().zip(&mut keep).rev() {
            if node.outputs.iter().any(|v| needed[v.number]) {
                *keep = true;
                node.inputs.iter().for_each(|v| needed[v.number] = true);
            }
        }
        let mut keep = keep.into_iter();
        self.nodes.retain(|_| keep.next().unwrap_or(false));
    }

    pub(crate) fn label(&self, value: Value) -> String {
        match self.values.get(value.number).filter(|_| value.graph == self.id) {
            None => "a value of another graph".into(),
            Some(Info { name, .. }) if name.is_empty() => format!("%{}", value.number),
            Some(Info { name, .. }) => name.clone(),
        }
    }
}

/// Sizes and offsets are products of dimensions; up to this many elements none of them can wrap.
const MOST_ELEMENTS: usize = 1 << 40;

fn check_size(ty: &TensorType) -> std::result::Result<(), String> {
    // A zero must not hide the others: shape rules multiply some of the dimensions only.
    let len = ty.dims().iter().try_fold(1usize, |len, &dim| len.checked_mul(dim.max(1)));
    if len.is_none_or(|len| len > MOST_ELEMENTS) {
        return Err(format!("{ty} is too large (limit {MOST_ELEMENTS} elements); choose smaller sizes"));
    }
    // Kernels cut tensors into rows, of which none may be empty.
    if ty.is_empty() { Err(format!("{ty} has no elements")) } else { Ok(()) }
}

impl fmt::Display for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for node in &self.nodes {
            let outputs: Vec<String> =
                node.outputs.iter().map(|&v| format!("{}: {}", self.label(v), self.ty(v))).collect();
            let inputs: Vec<String> = node.inputs.iter().map(|&v| self.label(v)).collect();
            writeln!(f, "{} = {:?}({})  # {}", outputs.join(", "), node.op, inputs.join(", "), node.layer)?;
        }
        for (state, value) in &self.updates {
            writeln!(f, "{} <- {}", self.label(*state), self.label(*value))?;
        }
        for (name, value) in &self.outputs {
            writeln!(f, "output {name} = {}", self.label(*value))?;
        }
        Ok(())
    }
}
