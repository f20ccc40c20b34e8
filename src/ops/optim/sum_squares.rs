//! `y = sum of x^2` over all elements: a part of the norm by which gradients are clipped.

use crate::kernels::parallel;
use crate::ops::*;

/// Sum of the squares of all elements. Input of any shape, output `[1]`.
#[derive(Clone, Copy, Debug)]
pub struct SumSquares;

/// Elements whose sum is one partial result.
const BLOCK: usize = 4096;

impl Op for SumSquares {
    fn name(&self) -> &'static str {
        "sum_squares"
    }

    fn output_types(&self, inputs: &[&TensorType]) -> Inferred {
        let [_] = floats(inputs)?;
        Ok(vec![TensorType::f32([1])])
    }

    fn cpu(&self, types: &Types, _: CpuTarget) -> CpuStep {
        CpuStep::with_scratch(types.inputs[0].len().div_ceil(BLOCK), |args| {
            let x = args.inputs[0];
            let (y, partials) = args.output();
            let blocks = partials.iter_mut().zip(x.chunks(BLOCK));
            parallel::for_each(blocks, &mut [], 0, |(sum, x), _| *sum = x.iter().map(|x| x * x).sum());
            y[0] = partials.iter().map(|&sum| f64::from(sum)).sum::<f64>() as f32;
        })
    }

    fn gpu(&self, types: &Types) -> Dispatches {
        use Operand::{Input, Output, Scratch};
        const EACH: usize = 16;
        const MOST_GROUPS: usize = 256;
        let length = types.inputs[0].len();
        let count = length.div_ceil(EACH * GROUP).min(MOST_GROUPS);
        let stage = |entry, bindings, groups| Dispatch {
            shader: shader!("sum_squares"),
            entry,
            constants: vec![("LENGTH", length as f64), ("GROUPS", count as f64)],
            bindings,
            groups,
        };
        let blocks = stage("blocks", vec![Input(0), Scratch(0)], [count as u32, 1, 1]);
        let total = stage("total", vec![Scratch(0), Output(0)], [1; 3]);
        Dispatches { scratch: vec![count], list: vec![blocks, total] }
    }

    fn reference(&self, inputs: &[ArrayViewD<f64>]) -> Vec<ArrayD<f64>> {
        vec![vector([inputs[0].pow2().sum()])]
    }
}
