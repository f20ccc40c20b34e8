//! Reverse-mode differentiation as a graph transform: gradients are more nodes of the same graph.
//!
//! Each op adds the nodes of its own vector-Jacobian product ([`crate::ops::Op::gradient`]); this
//! file only visits them in reverse and adds up what reaches a value by several ways.

use std::collections::{HashMap, HashSet};

use crate::error::{Error, Result};
use crate::graph::{Graph, Value};

/// Adds the nodes that compute the gradients of `sum over (y, dy) of <y, dy>` with respect to
/// `wanted`, and returns them in that order. `seeds` pairs outputs y with the gradients dy that
/// reach them.
///
/// # Errors
/// If a value is of another graph, a seed has another type than its value, a value in `wanted` does
/// not influence any seed, or an op on the way has no gradient: never an approximation, never a
/// silent zero.
pub fn differentiate(graph: &mut Graph, seeds: &[(Value, Value)], wanted: &[Value]) -> Result<Vec<Value>> {
    for &(y, dy) in seeds {
        graph.check_own(y, "a seed's value")?;
        graph.check_own(dy, "a seed's gradient")?;
        if graph.ty(y) != graph.ty(dy) {
            let problem = format!("the gradient of {} cannot be {}", graph.ty(y), graph.ty(dy));
            return Err(Error::op("differentiate", problem));
        }
    }
    wanted.iter().try_for_each(|&value| graph.check_own(value, "what a gradient is wanted of"))?;
    let influenced = influenced_by(graph, wanted);
    let mut gradients: HashMap<Value, Value> = HashMap::new();
    for &(y, dy) in seeds {
        accumulate(graph, &mut gradients, y, dy)?;
    }
    for index in (0..graph.nodes.len()).rev() {
        let node = graph.nodes[index].clone();
        let grads: Vec<Option<Value>> = node.outputs.iter().map(|y| gradients.get(y).copied()).collect();
        let needed: Vec<bool> = node.inputs.iter().map(|x| influenced.contains(x)).collect();
        if grads.iter().all(Option::is_none) || needed.iter().all(|n| !n) {
            continue;
        }
        graph.set_layer(&node.layer);
        let found = node.op.gradient(graph, &node, &grads, &needed)?;
        if found.len() != node.inputs.len() {
            let (given, inputs) = (found.len(), node.inputs.len());
            let problem = format!("has {inputs} inputs, but its gradient rule gives {given} gradients");
            return Err(Error::op(format!("{} '{}'", node.op.name(), node.layer), problem));
        }
        for ((&x, dx), needed) in node.inputs.iter().zip(found).zip(needed) {
            if let (Some(dx), true) = (dx, needed) {
                graph.check_own(dx, "a gradient")?;
                if graph.ty(dx) != graph.ty(x) {
                    let problem = format!("has a gradient {} of its input {}", graph.ty(dx), graph.ty(x));
                    return Err(Error::op(format!("{} '{}'", node.op.name(), node.layer), problem));
                }
                accumulate(graph, &mut gradients, x, dx)?;
            }
        }
    }
    let gradient = |value: &Value| {
        let missing =
            || Error::op(graph.description(*value), "does not influence the loss, so it has no gradient");
        gradients.get(value).copied().ok_or_else(missing)
    };
    wanted.iter().map(gradient).collect()
}

fn accumulate(graph: &mut Graph, gradients: &mut HashMap<Value, Value>, x: Value, dx: Value) -> Result<()> {
    let total = match gradients.get(&x) {
        Some(&already) => graph.add(already, dx)?,
        None => dx,
    };
    gradients.insert(x, total);
    Ok(())
}

/// The values that depend on any of `roots`, the roots included.
fn influenced_by(graph: &Graph, roots: &[Value]) -> HashSet<Value> {
    let mut influenced: HashSet<Value> = roots.iter().copied().collect();
    for node in &graph.nodes {
        if node.inputs.iter().any(|x| influenced.contains(x)) {
            influenced.extend(&node.outputs);
        }
    }
    influenced
}
