//! What the cases of an op say about a device.

use std::collections::{BTreeMap, HashSet};

use ndarray::ArrayD;
use serde::Serialize;

use super::case::Case;
use super::cases;
use super::check::TOLERANCE;
use super::probe::{farthest, run_case};
use crate::error::Result;
use crate::exec::Device;
use crate::ops::reference::views;

/// The cases of all ops by their names.
pub fn by_op() -> BTreeMap<&'static str, Vec<Case>> {
    let mut ops: BTreeMap<&str, Vec<Case>> = BTreeMap::new();
    for case in cases::all() {
        ops.entry(case.op.name()).or_default().push(case);
    }
    ops
}

/// Of the cases of an op, in their order, the smallest that together run every shader that all of
/// them run, with the includes that they choose.
pub fn one_of_each_shader(cases: &[Case]) -> Vec<Case> {
    let words = |case: &Case| case.inputs.iter().map(|(ty, _)| ty.len()).sum::<usize>();
    let mut order: Vec<usize> = (0..cases.len()).collect();
    order.sort_by_key(|&at| words(&cases[at]));
    let mut seen = HashSet::new();
    order.retain(|&at| {
        let work = cases[at].op.gpu(&cases[at].types());
        let new = work.list.iter().filter(|dispatch| seen.insert((dispatch.shader, dispatch.entry)));
        // One that has no shader is the only one of an op.
        new.count() > 0 || work.list.is_empty()
    });
    order.sort_unstable();
    order.into_iter().map(|at| cases[at].clone()).collect()
}

/// What a device is held against.
pub enum Yardstick<'a> {
    /// The definitions of the ops in double precision.
    Definition,
    /// Another device.
    Device(&'a mut dyn Device),
}

/// Result for an op.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Finding {
    /// Cases that were run.
    pub cases: usize,
    /// The largest error, relative to the largest value of a tensor.
    pub largest: f64,
    /// What the device said instead of a result.
    pub problem: Option<String>,
}

impl Finding {
    /// Runs a case, and holds what the device finds against the yardstick.
    ///
    /// # Errors
    /// If the yardstick cannot say what is right.
    pub fn examine(&mut self, device: &mut dyn Device, case: &Case, yardstick: &mut Yardstick) -> Result<()> {
        let expected = match yardstick {
            Yardstick::Definition => defined(case),
            Yardstick::Device(other) => run_case(*other, case, 1)?,
        };
        self.cases += 1;
        match run_case(device, case, 1) {
            Ok(found) => self.largest = self.largest.max(farthest(case, &found, &expected)),
            Err(error) => self.problem = Some(error.to_string()),
        }
        Ok(())
    }

    /// Joins what other cases of the op found.
    pub fn add(&mut self, other: Finding) {
        self.cases += other.cases;
        self.largest = self.largest.max(other.largest);
        self.problem = self.problem.take().or(other.problem);
    }

    /// Whether nothing is further from what it should be than rounding and the elementary functions
    /// of a driver make it.
    pub fn is_right(&self) -> bool {
        self.problem.is_none() && self.largest <= TOLERANCE
    }
}

/// What a case's op is by definition.
fn defined(case: &Case) -> Vec<ArrayD<f64>> {
    let values: Vec<ArrayD<f64>> = (0..case.inputs.len()).map(|i| case.values(i)).collect();
    case.op.reference(&views(&values))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_case_of_each_shader_is_fewer_that_run_all_of_them() {
        let shaders = |cases: &[Case]| -> HashSet<_> {
            let works = cases.iter().flat_map(|case| case.op.gpu(&case.types()).list);
            works.map(|dispatch| (dispatch.shader, dispatch.entry)).collect()
        };
        for op in ["conv2d", "batch_norm", "reduce_sum"] {
            let cases = &by_op()[op];
            let few = one_of_each_shader(cases);
            assert_eq!(shaders(&few), shaders(cases), "{op}");
            assert!(!few.is_empty() && few.len() < cases.len(), "{op}: {} of {}", few.len(), cases.len());
        }
    }
}
