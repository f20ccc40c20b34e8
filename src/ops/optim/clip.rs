//! `g = factor g`, with `factor = min(1, limit / |all g|)`: gradients clipped by their norm, all
//! together (Pascanu et al. 2013).

use super::sum_squares::SumSquares;
use crate::kernels::elementwise::each;
use crate::ops::*;

/// Factor that scales gradients such that their norm, all together, is at most a limit. Inputs: the
/// gradients, each of any shape. Output `[1]`.
#[derive(Clone, Copy, Debug)]
pub struct ClipFactor {
    /// The largest norm.
    pub limit: f32,
}

impl Op for ClipFactor {
    fn name(&self) -> &'static str {
        "clip_factor"
    }

    fn output_types(&self, inputs: &[&TensorType]) -> Inferred {
        SumSquares.output_types(inputs)
    }

    fn cpu(&self, types: &Types, target: CpuTarget) -> CpuStep {
        let limit = self.limit;
        SumSquares.cpu(types, target).and_then(move |args| {
            let (y, _) = args.output();
            let factor = limit / y[0].sqrt();
            // NaN is no larger than 1: `min` would lose it.
            y[0] = if factor > 1.0 { 1.0 } else { factor };
        })
    }

    fn gpu(&self, types: &Types) -> Dispatches {
        SumSquares::launches(types, "clip_factor", self.limit)
    }

    fn reference(&self, inputs: &[ArrayViewD<f64>]) -> Vec<ArrayD<f64>> {
        let squares = SumSquares.reference(inputs);
        let factor = |squares: f64| f64::from(self.limit) / squares.sqrt();
        vec![squares[0].mapv(factor).mapv(|factor| if factor > 1.0 { 1.0 } else { factor })]
    }
}

/// A gradient times the factor of [`ClipFactor`]. Inputs: gradient, factor `[1]`. Works in place.
#[derive(Clone, Copy, Debug)]
pub struct Clip;

impl Op for Clip {
    fn name(&self) -> &'static str {
        "clip"
    }

    fn output_types(&self, inputs: &[&TensorType]) -> Inferred {
        let [gradient, factor] = floats(inputs)?;
        require(factor == &TensorType::f32([1]), "factor must be f32[1]")?;
        Ok(vec![gradient.clone()])
    }

    fn alias(&self) -> Alias {
        Alias::InPlace(&[(0, 0)])
    }

    fn cpu(&self, _: &Types, target: CpuTarget) -> CpuStep {
        CpuStep::new(move |args| {
            let factor = args.inputs[1][0];
            each(target.isa, args.output().0, |x| factor * x)
        })
    }

    fn gpu(&self, types: &Types) -> Dispatches {
        let (operands, wholes) = ([Operand::Output(0)], [Operand::Input(1)]);
        may_be_joined(shader!("clip"), types.outputs[0].len(), &[], &operands, [0.0; 4], &wholes).into()
    }

    fn reference(&self, inputs: &[ArrayViewD<f64>]) -> Vec<ArrayD<f64>> {
        let [gradient, factor] = operands(inputs);
        vec![single(factor) * gradient]
    }
}
