//! Limits of a GPU that a plan must keep, checked before anything is allocated.

use super::fit::{advice, size};
use super::launches::extent;
use super::plan::{Location, Plan, Step};
use crate::error::{Error, Result};
use crate::ops::dispatch::{Dispatches, Operand};

/// What a GPU allows a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The largest buffer, in bytes.
    pub buffer: usize,
    /// The largest part of a buffer that a shader can reach, in bytes.
    pub binding: usize,
    /// The most workgroups in a dimension of a launch.
    pub groups: usize,
}

impl Limits {
    /// What WebGPU promises: <https://www.w3.org/TR/webgpu/#limits>.
    pub const WEBGPU: Limits = Limits { buffer: 256 << 20, binding: 128 << 20, groups: 65_535 };

    /// Checks every operand and every launch of a plan.
    ///
    /// # Errors
    /// Names the layer, and the largest batch with which all of the plan would fit.
    pub fn check(&self, plan: &Plan, work: &[Dispatches]) -> Result<()> {
        let mut demands = Vec::new();
        for (step, work) in plan.steps.iter().zip(work) {
            for dispatch in &work.list {
                let operands = dispatch.bindings.iter().map(|&operand| self.demands(step, work, operand));
                demands.extend(operands.flatten());
                let needed = dispatch.groups.into_iter().max().unwrap_or(0) as usize;
                demands.push(Demand {
                    step,
                    kind: ReduceKind::Groups,
                    needed,
                    limit: self.groups,
                    scales: true,
                });
            }
        }
        demands.retain(|demand| demand.needed > demand.limit);
        // First what no batch can change, then what allows only the smallest.
        demands.sort_by(|a, b| a.scales.cmp(&b.scales).then(a.share().total_cmp(&b.share())));
        demands.first().map_or(Ok(()), |worst| Err(worst.error(plan)))
    }

    /// The operand's buffer, and the part of it that is bound.
    fn demands<'a>(&self, step: &'a Step, work: &Dispatches, operand: Operand) -> [Demand<'a>; 2] {
        let (location, whole) = match operand {
            Operand::Input(i) | Operand::InputPiece(i, _) => {
                (Some(step.inputs[i]), step.types.inputs[i].bytes())
            }
            Operand::Output(i) | Operand::OutputInput(i) => {
                (Some(step.outputs[i]), step.types.outputs[i].bytes())
            }
            Operand::Scratch(i) | Operand::ScratchInput(i) => (None, 4 * work.scratch[i]),
            Operand::Numbers(_) | Operand::BlockNumbers(_) => (None, extent(step, work, operand).1),
        };
        let scales = !matches!(location, Some(Location::State(_)));
        let demand = |kind, needed, limit| Demand { step, kind, needed, limit, scales };
        let (_, bound) = extent(step, work, operand);
        [demand(ReduceKind::Buffer, whole, self.buffer), demand(ReduceKind::Binding, bound, self.binding)]
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exec::launches::dispatches;
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
        Limits::WEBGPU.check(&plan, &dispatches(&plan))
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
}
