//! Checks of what a GPU cannot do, before anything is allocated.

use wgpu::Limits;

use super::program::extent;
use crate::error::{Error, Result};
use crate::exec::fit::{advice, size};
use crate::exec::plan::{Location, Plan, Step};
use crate::ops::dispatch::{Dispatches, MAX_BINDINGS, MAX_GROUPS, Operand};

/// The shaders' largest workgroup, and the memory it shares: what WebGPU guarantees.
pub const MAX_INVOCATIONS: u32 = 256;
pub const MAX_WORKGROUP_BYTES: u32 = 16_384;

/// Checks that a GPU does what every shader counts on.
///
/// # Errors
/// Names the first limit that is too low.
pub fn check_device(name: &str, limits: &Limits) -> Result<()> {
    let needed = [
        ("storage buffers a shader", limits.max_storage_buffers_per_shader_stage, MAX_BINDINGS as u32),
        ("workgroups a dimension", limits.max_compute_workgroups_per_dimension, MAX_GROUPS),
        ("invocations a workgroup", limits.max_compute_invocations_per_workgroup, MAX_INVOCATIONS),
        ("bytes of workgroup memory", limits.max_compute_workgroup_storage_size, MAX_WORKGROUP_BYTES),
    ];
    match needed.into_iter().find(|(_, has, needs)| has < needs) {
        None => Ok(()),
        Some((what, has, needs)) => Err(Error::op(
            name,
            format!("allows {has} {what}, but {needs} are needed; choose another `device`"),
        )),
    }
}

/// Something of a step that must not exceed a limit.
struct Demand<'a> {
    step: &'a Step,
    kind: ReduceKind,
    needed: usize,
    limit: usize,
    /// Whether it grows with the batch.
    scales: bool,
}

#[derive(Clone, Copy)]
enum ReduceKind {
    Buffer,
    Binding,
    Groups,
}

impl Demand<'_> {
    /// How much of it fits.
    fn share(&self) -> f64 {
        self.limit as f64 / self.needed as f64
    }

    fn error(&self, plan: &Plan) -> Error {
        let Demand { step, kind, needed, limit, scales } = *self;
        let problem = match kind {
            ReduceKind::Buffer => {
                format!("{} are more than the GPU's {} a buffer", size(needed), size(limit))
            }
            ReduceKind::Binding => {
                format!("{} are more than the {} a shader can reach", size(needed), size(limit))
            }
            ReduceKind::Groups => {
                format!("{needed} workgroups are more than the GPU's {limit} in a dimension")
            }
        };
        let advice = if scales { advice(plan, self.share()) } else { String::new() };
        Error::op(format!("{} '{}'", step.op.name(), step.layer), problem + &advice)
    }
}

/// Checks every operand and every launch of a plan.
///
/// # Errors
/// Names the layer, and the largest batch with which all of the plan would fit.
pub fn check_plan(plan: &Plan, work: &[Dispatches], limits: &Limits) -> Result<()> {
    let mut demands = Vec::new();
    for (step, work) in plan.steps.iter().zip(work) {
        for dispatch in &work.list {
            let operands =
                dispatch.bindings.iter().map(|&operand| operand_demands(step, work, operand, limits));
            demands.extend(operands.flatten());
            let needed = dispatch.groups.into_iter().max().unwrap_or(0) as usize;
            let limit = limits.max_compute_workgroups_per_dimension as usize;
            demands.push(Demand { step, kind: ReduceKind::Groups, needed, limit, scales: true });
        }
    }
    demands.retain(|demand| demand.needed > demand.limit);
    // First what no batch can change, then what allows only the smallest.
    demands.sort_by(|a, b| a.scales.cmp(&b.scales).then(a.share().total_cmp(&b.share())));
    demands.first().map_or(Ok(()), |worst| Err(worst.error(plan)))
}

/// The operand's buffer, and the part of it that is bound.
fn operand_demands<'a>(
    step: &'a Step,
    work: &Dispatches,
    operand: Operand,
    limits: &Limits,
) -> [Demand<'a>; 2] {
    let (location, whole) = match operand {
        Operand::Input(i) | Operand::InputPiece(i, _) => (Some(step.inputs[i]), step.types.inputs[i].bytes()),
        Operand::Output(i) | Operand::OutputInput(i) => {
            (Some(step.outputs[i]), step.types.outputs[i].bytes())
        }
        Operand::Scratch(i) | Operand::ScratchInput(i) => (None, 4 * work.scratch[i]),
        Operand::Numbers(_) | Operand::BlockNumbers(_) => (None, extent(step, work, operand).1),
    };
    let scales = !matches!(location, Some(Location::State(_)));
    let demand = |kind, needed, limit: u64| Demand { step, kind, needed, limit: limit as usize, scales };
    let (_, bound) = extent(step, work, operand);
    [
        demand(ReduceKind::Buffer, whole, limits.max_buffer_size),
        demand(ReduceKind::Binding, bound, limits.max_storage_buffer_binding_size),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::gpu::program::dispatches;
    use crate::graph::Graph;
    use crate::ops::conv::{Conv, Padding};
    use crate::tensor::TensorType;

    /// The outcome for a convolution of so many images at once, with WebGPU's guaranteed limits.
    fn check_batch(batch_size: usize) -> Result<()> {
        let mut graph = Graph::new();
        graph.set_layer("conv");
        graph.input("indices", TensorType::u32([batch_size]));
        let x = graph.input("x", TensorType::f32([batch_size, 32, 32, 3]));
        let w = graph.state("w", TensorType::f32([3, 3, 3, 32]))?;
        let y = graph.apply1(Conv::new(1, Padding::Same, 1), &[x, w])?;
        graph.output("y", y);
        let plan = Plan::compile(&graph)?;
        check_plan(&plan, &dispatches(&plan), &Limits::defaults())
    }

    #[test]
    fn a_batch_that_is_too_large_is_refused_with_one_that_fits() {
        check_batch(128).unwrap();
        let error = check_batch(100_000).unwrap_err().to_string();
        let fits: usize = error.split("about ").nth(1).and_then(|rest| rest.parse().ok()).unwrap();
        assert!(error.contains("'conv") && error.contains("a shader can reach"), "{error}");
        check_batch(fits).unwrap();
        assert!(check_batch(fits + fits / 50).is_err(), "{fits} is not the largest");
    }

    #[test]
    fn a_gpu_below_webgpu_is_refused() {
        check_device("good", &Limits::defaults()).unwrap();
        let weak = Limits { max_compute_invocations_per_workgroup: 128, ..Limits::defaults() };
        let error = check_device("weak", &weak).unwrap_err().to_string();
        assert!(error.contains("weak: allows 128 invocations a workgroup, but 256"), "{error}");
    }
}
