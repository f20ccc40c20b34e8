//! Advice where memory does not suffice: the largest batch that fits.

use crate::error::{Error, Result};
use crate::exec::plan::{Plan, Step};
use crate::memory;
pub use crate::memory::size;
use crate::tensor::TensorType;

/// Images in a run: the length of the input `indices`.
fn batch_size(plan: &Plan) -> Option<usize> {
    plan.inputs.iter().find(|binding| binding.name == "indices").map(|binding| binding.ty.len())
}

/// The end of a message about a plan of which only a `share` (below 1) fits: activations grow in
/// proportion to the batch.
pub fn advice(plan: &Plan, share: f64) -> String {
    let fits = |batch: usize| ((batch as f64 * share) as usize).min(batch.saturating_sub(1));
    match batch_size(plan).map(fits) {
        None => String::new(),
        Some(0) => "; not even a single image fits".into(),
        Some(batch) => format!("; the largest batch that fits is about {batch}"),
    }
}

/// Checks that the main memory has room for a plan that needs so many bytes.
///
/// # Errors
/// Names the largest step, and the batch that fits.
pub fn check_memory(plan: &Plan, needed: usize) -> Result<()> {
    let largest = |step: &&Step| step.types.outputs.iter().map(TensorType::bytes).max();
    // What the system would promise but not have, and what it refuses outright.
    let free = memory::available().unwrap_or(usize::MAX).min(granted(needed));
    if needed <= free {
        return Ok(());
    }
    let share = free as f64 / needed as f64;
    let (needed, advice) = (size(needed), if free > 0 { advice(plan, share) } else { String::new() });
    let problem = format!("a plan that needs {needed} of memory, more than is free{advice}");
    Err(match plan.steps.iter().max_by_key(largest) {
        None => Error::op("plan", format!("is {problem}")),
        Some(step) => {
            let name = format!("{} '{}'", step.op.name(), step.layer);
            Error::op(name, format!("is the largest step of {problem}"))
        }
    })
}

/// The part of so many bytes that the system grants, to within a half.
fn granted(needed: usize) -> usize {
    let is_granted = |bytes: &usize| Vec::<u8>::new().try_reserve_exact(*bytes).is_ok();
    std::iter::successors(Some(needed), |bytes| Some(bytes / 2)).find(is_granted).unwrap_or(0)
}
