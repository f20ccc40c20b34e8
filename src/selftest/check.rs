//! Checks of an op by its cases: what a device computes against the reference, and the gradient
//! rule against finite differences.
//!
//! The tests hold the crate's own ops to it, and a program that adds an op can hold that to the
//! same.

use std::collections::HashMap;
use std::fmt;

use ndarray::{Array1, ArrayD, ArrayViewD, IxDyn, indices};

use super::case::Case;
use super::probe::{distance, farthest, graph_of, run_case};
use crate::error::{Error, Result};
use crate::exec::Device;
use crate::grad::differentiate;
use crate::graph::{Graph, Value};
use crate::ops::reference::array;
use crate::tensor::DType;

/// The values of a graph's tensors; integers as their values.
pub type Values = HashMap<Value, ArrayD<f64>>;

/// f32 rounding through sums of up to a few hundred terms, in any order.
pub const TOLERANCE: f64 = 2e-5;
/// Central differences in f64 with a step of 1e-5.
pub const GRADIENT_TOLERANCE: f64 = 1e-6;

/// The distances that a check found, relative to the largest magnitude (at least 1).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Checked {
    /// Between a device's outputs and the reference.
    pub outputs: f64,
    /// Between the gradient rule and finite differences; none where the case asks for none.
    pub gradient: Option<f64>,
}

impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1e} from the reference", self.outputs)?;
        self.gradient.map_or(Ok(()), |gradient| write!(f, ", gradient {gradient:.1e} from differences"))
    }
}

/// Holds an op to what is asked of the crate's own: its outputs on this device, twice in a row, and
/// its gradient rule.
///
/// # Errors
/// If the op refuses the case's inputs, or the device the op; if an output or a gradient is further
/// from what it should be than [`TOLERANCE`] and [`GRADIENT_TOLERANCE`] allow, or the second run
/// finds another result.
pub fn check(device: &mut dyn Device, case: &Case) -> Result<Checked> {
    let outputs = outputs(device, case)?;
    if outputs > TOLERANCE {
        return Err(wrong(case, format!("is off by {outputs:e} on {}", device.name())));
    }
    let gradient = if case.differentiable.is_empty() { None } else { Some(gradient(case)?) };
    match gradient.filter(|gradient| *gradient > GRADIENT_TOLERANCE) {
        Some(far) => Err(wrong(case, format!("has a gradient that is off by {far:e}"))),
        None => Ok(Checked { outputs, gradient }),
    }
}

fn wrong(case: &Case, problem: String) -> Error {
    Error::op(case.op.name(), problem)
}

/// The largest distance between a device's outputs and the reference.
fn outputs(device: &mut dyn Device, case: &Case) -> Result<f64> {
    let expected = reference(case)?;
    let found = run_case(device, case, 1)?;
    let apart = farthest(case, &found, &expected);
    // The second of two runs finds other values in its scratch and outputs than the first.
    if apart.is_finite() && run_case(device, case, 2)? != found {
        return Err(wrong(case, "depends on what the memory held before".into()));
    }
    Ok(apart)
}

/// The outputs of a case, by the op's reference.
///
/// # Errors
/// If the op refuses the case's inputs.
pub fn reference(case: &Case) -> Result<Vec<ArrayD<f64>>> {
    let (graph, inputs, outputs) = graph_of(case)?;
    let values = inputs.iter().enumerate().map(|(i, &input)| (input, case.values(i))).collect();
    let values = interpret(&graph, values)?;
    Ok(outputs.iter().map(|output| values[output].clone()).collect())
}

/// All values of a graph, from those of its inputs and states, by the references of its ops: slow,
/// in f64, without any kernel.
///
/// # Errors
/// If a reference has other outputs than its op's shape rule says.
///
/// # Panics
/// If a value that a node reads is missing.
pub fn interpret(graph: &Graph, mut values: Values) -> Result<Values> {
    for node in graph.nodes() {
        let inputs: Vec<ArrayViewD<f64>> = node.inputs.iter().map(|value| values[value].view()).collect();
        let outputs = node.op.reference(&inputs);
        let shapes = outputs.iter().map(ArrayD::shape);
        if !shapes.eq(node.outputs.iter().map(|value| graph.dims(*value))) {
            return Err(Error::op(node.op.name(), "has a reference of other outputs than its shape rule"));
        }
        values.extend(node.outputs.iter().copied().zip(outputs));
    }
    Ok(values)
}

/// The largest distance between the gradients of a case and central differences. The op stands
/// between two additions, so that its inputs are computed and the gradient that reaches it is
/// neither 1 nor uniform.
///
/// # Errors
/// If the op refuses the case's inputs, or has no gradient.
pub fn gradient(case: &Case) -> Result<f64> {
    let mut graph = Graph::new();
    let mut feeds = Values::new();
    let (mut leaves, mut inputs) = (Vec::new(), Vec::new());
    for (i, (ty, _)) in case.inputs.iter().enumerate() {
        let leaf = graph.input(&format!("in{i}"), ty.clone());
        let double = case.differentiable.contains(&i);
        inputs.push(if double { graph.add(leaf, leaf)? } else { leaf });
        let halve = if double { 0.5 } else { 1.0 };
        feeds.insert(leaf, case.values(i) * halve);
        leaves.push(leaf);
    }
    let y = graph.apply_shared(case.op.clone(), &inputs)?[0];
    let loss = graph.add(y, y)?;
    let seed = graph.input("seed", graph.ty(y).clone());
    let weights = (0..graph.ty(y).len()).map(|i| ((i * 37 + 11) % 17) as f64 / 8.0 - 1.1);
    feeds.insert(seed, array(graph.dims(y), weights.collect()));
    let forward = graph.clone();

    let wanted = case.differentiable.iter().map(|&i| leaves.get(i).copied());
    let wanted: Option<Vec<Value>> = wanted.collect();
    let wanted =
        wanted.ok_or_else(|| wrong(case, "has not the inputs that gradients are asked of".into()))?;
    let gradients = differentiate(&mut graph, &[(loss, seed)], &wanted)?;
    let values = interpret(&graph, feeds.clone())?;
    let objective = |feeds: Values| {
        let values = interpret(&forward, feeds)?;
        Ok::<f64, Error>((&values[&loss] * &values[&seed]).sum())
    };
    let of = |(&leaf, gradient): (&Value, Value)| {
        let analytic = &values[&gradient];
        let numeric = |at: &IxDyn| {
            let moved = |by: f64| {
                let mut feeds = feeds.clone();
                feeds.entry(leaf).and_modify(|values| values[at] += by);
                objective(feeds)
            };
            Ok::<f64, Error>((moved(1e-5)? - moved(-1e-5)?) / 2e-5)
        };
        // At most 40 elements, spread over the tensor.
        let some = indices(analytic.raw_dim()).into_iter().step_by(analytic.len().div_ceil(40).max(1));
        let some: Vec<IxDyn> = some.collect();
        let found = some.iter().map(|at| analytic[at]).collect::<Array1<f64>>().into_dyn();
        let expected = some.iter().map(numeric).collect::<Result<Vec<f64>>>()?;
        Ok::<f64, Error>(distance(DType::F32, &found, &Array1::from(expected).into_dyn()))
    };
    let distances = wanted.iter().zip(gradients).map(of).collect::<Result<Vec<f64>>>()?;
    Ok(distances.into_iter().fold(0.0, f64::max))
}
