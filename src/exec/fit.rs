//! What does not fit: how large the batch may be instead.

use std::fs;

use crate::error::{Error, Result};
use crate::graph::plan::{Plan, Step};
use crate::tensor::TensorType;

/// Pictures in a run: the length of the input `indices`.
fn batch_size(plan: &Plan) -> Option<usize> {
    plan.inputs.iter().find(|port| port.name == "indices").map(|port| port.ty.len())
}

/// The end of a message about a plan of which only a `share` (below 1) fits: activations grow in proportion to the batch.
pub fn advice(plan: &Plan, share: f64) -> String {
    match batch_size(plan).map(|batch| (batch as f64 * share) as usize) {
        None => String::new(),
        Some(0) => "; not even a single picture fits".into(),
        Some(batch) => format!("; the largest batch that fits is about {batch}"),
    }
}

/// Checks that the main memory has room for a plan that needs so many bytes.
///
/// # Errors
/// Names the largest step, and the batch that fits.
pub fn check_memory(plan: &Plan, needed: usize) -> Result<()> {
    let largest = |step: &&Step| step.types.outputs.iter().map(TensorType::bytes).max();
    let Some(step) = plan.steps.iter().max_by_key(largest) else { return Ok(()) };
    // What the system refuses outright, and what it would promise but not have.
    let refused = Vec::<u8>::new().try_reserve_exact(needed).is_err();
    let free = available_memory().unwrap_or(if refused { 0 } else { usize::MAX });
    if !refused && needed <= free {
        return Ok(());
    }
    let share = free as f64 / needed as f64;
    let (needed, advice) = (size(needed), if free > 0 { advice(plan, share) } else { String::new() });
    let problem =
        format!("is the largest step of a plan that needs {needed} of memory, more than is free{advice}");
    Err(Error::op(format!("{} '{}'", step.op.name(), step.layer), problem))
}

/// Bytes that the system can still give, where it says so: on Linux.
fn available_memory() -> Option<usize> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: usize = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kib << 10)
}

/// A number of bytes, for messages.
pub fn size(bytes: usize) -> String {
    match bytes >> 20 {
        0 => format!("{bytes} bytes"),
        mib if mib < 10 << 10 => format!("{mib} MiB"),
        mib => format!("{} GiB", mib >> 10),
    }
}
