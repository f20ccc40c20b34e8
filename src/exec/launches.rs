//! What a plan launches on a GPU, as data: rules, shaders, memory. Whoever runs it, here
//! `gpu` or the page of `export --web`, does what it says.

use super::epilogue_rules::{ACTIVATION, DROPPED_MASK, KEPT_ACTIVATION, RESIDUAL, SLOPE};
use super::gathered_rules::{GRADIENT_OF_TILES, MOMENTS_OF_TILES, NORMALISED_INPUT};
use super::limits::Limits;
use super::plan::{Plan, Step};
use super::rules::{ACTIVATION_GRAD, FOLD, PLACES, POOLING, STATISTICS, ZERO_SUM, ZEROS_SCALED};
use crate::error::{Error, Result};
use crate::graph::rewrite::Rule;
use crate::ops::dispatch::{Dispatches, Operand, PIECE_BYTES};

/// Bytes of four `f32`.
pub const VECTOR_BYTES: usize = 16;

/// The rules of a GPU: those that save traffic there, too.
pub const RULES: &[&Rule] = &[
    &ZERO_SUM,
    &ZEROS_SCALED,
    &ACTIVATION,
    &KEPT_ACTIVATION,
    &SLOPE,
    &RESIDUAL,
    &DROPPED_MASK,
    &ACTIVATION_GRAD,
    &STATISTICS,
    &POOLING,
    &PLACES,
    &FOLD,
    &NORMALISED_INPUT,
    &MOMENTS_OF_TILES,
    &GRADIENT_OF_TILES,
];

/// The dispatches of each step of a plan.
pub fn dispatches(plan: &Plan) -> Vec<Dispatches> {
    plan.steps.iter().map(|step| step.op.gpu(&step.types).stored_as(&step.types)).collect()
}

/// Elements of the temporary buffers: each as large as any step needs it, for all steps together.
pub fn shared_scratch(work: &[Dispatches]) -> Vec<usize> {
    let mut sizes = Vec::new();
    for work in work {
        sizes.resize(sizes.len().max(work.scratch.len()), 0);
        sizes.iter_mut().zip(&work.scratch).for_each(|(size, &len)| *size = len.max(*size));
    }
    sizes
}

/// The launches of every step of a plan, for a host other than this one: any device that does what
/// WebGPU promises can run them.
///
/// # Errors
/// If a step has no shaders, or needs more than WebGPU promises.
pub fn portable_launches(plan: &Plan) -> Result<Vec<Dispatches>> {
    let work = dispatches(plan);
    check_shaders(plan, &work)?;
    Limits::WEBGPU.check(plan, &work)?;
    Ok(work)
}

/// Checks that every step has shaders.
///
/// # Errors
/// Names the first that has none.
pub fn check_shaders(plan: &Plan, work: &[Dispatches]) -> Result<()> {
    match plan.steps.iter().zip(work).find(|(_, work)| work.list.is_empty()) {
        None => Ok(()),
        Some((step, _)) => {
            let name = format!("{} '{}'", step.op.name(), step.layer);
            Err(Error::op(name, format!("no shader computes it as a CPU would: {:?}", step.op)))
        }
    }
}

/// Offset and number of the bytes of its buffer that an operand is. No more are bound than that and
/// the rest of its last vector of four, so that a shader that reads past the end cannot see what
/// lies there.
pub fn extent(step: &Step, work: &Dispatches, operand: Operand) -> (usize, usize) {
    match operand {
        Operand::Input(i) => (0, step.types.inputs[i].bytes()),
        Operand::InputPiece(i, piece) => {
            let bytes = step.types.inputs[i].bytes();
            let first = piece * PIECE_BYTES;
            (first, PIECE_BYTES.min(bytes - first))
        }
        Operand::Output(i) | Operand::OutputInput(i) => (0, step.types.outputs[i].bytes()),
        Operand::Scratch(i) | Operand::ScratchInput(i) => (0, 4 * work.scratch[i]),
        Operand::Numbers(bits) | Operand::BlockNumbers(bits) => (0, size_of_val(&bits)),
    }
}

/// Bytes of a buffer that holds so many: shaders may read any of them as vectors of four, and none
/// is empty.
pub fn padded(bytes: usize) -> usize {
    bytes.next_multiple_of(VECTOR_BYTES).max(VECTOR_BYTES)
}
