//! Gradient clipping by the global norm (Pascanu et al. 2013): `g *= min(1, limit / sqrt(s))`,
//! where s is the sum of the squares of all elements of all gradients ([`super::sum_squares`]).

use crate::kernels::{parallel, rows::BLOCK};
use crate::ops::*;

/// Inputs: gradient g, in place, and the sum of squares `[1]`.
#[derive(Clone, Copy, Debug)]
pub struct Clip {
    /// The largest norm that all gradients together may have.
    pub limit: f32,
}

impl Op for Clip {
    fn name(&self) -> &'static str {
        "clip"
    }

    fn output_types(&self, inputs: &[&TensorType]) -> Inferred {
        let [gradient, squares] = floats(inputs)?;
        require(squares == &TensorType::f32([1]), "the sum of squares must be f32[1]")?;
        Ok(vec![gradient.clone()])
    }

    fn alias(&self) -> Alias {
        Alias::InPlace(&[(0, 0)])
    }

    fn cpu(&self, _: &Types, _: CpuTarget) -> CpuStep {
        let limit = self.limit;
        CpuStep::new(move |args| {
            let squares = args.inputs[1][0];
            if squares > limit * limit {
                let factor = limit / squares.sqrt();
                parallel::for_each(args.output().0.chunks_mut(16 * BLOCK), &mut [], 0, |gradient, _| {
                    gradient.iter_mut().for_each(|g| *g *= factor);
                });
            }
        })
    }

    fn gpu(&self, types: &Types) -> Dispatches {
        let vectors = types.outputs[0].len().div_ceil(4);
        let bindings = vec![Operand::Input(1), Operand::Output(0)];
        each_value(shader!("clip"), vectors, &[("LIMIT", f64::from(self.limit))], bindings)
    }

    fn reference(&self, inputs: &[ArrayViewD<f64>]) -> Vec<ArrayD<f64>> {
        let [gradient, squares] = operands(inputs);
        let norm = single(squares).sqrt();
        vec![gradient * (f64::from(self.limit) / norm).min(1.0)]
    }
}
