//! `y = sum of x^2` over all elements: the square of a norm.

use crate::kernels::parallel;
use crate::ops::dispatch::BLOCK;
use crate::ops::*;

/// Sum of the squares of all elements of all inputs, of any shapes. Output `[1]`.
#[derive(Clone, Copy, Debug)]
pub struct SumSquares;

/// Elements whose sum is one partial result on a CPU.
const PART: usize = 4096;

impl SumSquares {
    /// The launches of the op, or of one that makes something else of the sum: the entry point of
    /// the last one, and a number that it is given.
    ///
    /// First a workgroup sums each of four blocks of an input; as it does so for itself, one launch
    /// may do that for many inputs. Then one workgroup adds up all blocks.
    pub(super) fn launches(types: &Types, last: &'static str, number: f32) -> Dispatches {
        use Operand::{Input, Output, Scratch, ScratchInput};
        let (mut list, mut count) = (Vec::new(), 0);
        for (i, input) in types.inputs.iter().enumerate() {
            let (first, blocks) = (count, input.len().div_ceil(BLOCK));
            count += blocks;
            // Whole numbers below 2^24, which an `f32` has.
            let numbers = [first, count - 1, input.len() - (blocks - 1) * BLOCK].map(|n| n as f32);
            let [first, final_block, rest] = numbers;
            let numbers = [first, final_block, rest, 0.0];
            let entry = "blocks";
            let joinable =
                may_be_joined(shader!("sum_squares"), input.len(), &[], &[Input(i)], numbers, &[Scratch(0)]);
            list.push(Dispatch { entry, ..joinable });
        }
        list.push(Dispatch {
            shader: shader!("sum_squares"),
            entry: last,
            constants: Vec::new(),
            bindings: vec![
                ScratchInput(0),
                Output(0),
                Operand::Numbers([count as f32, number, 0.0, 0.0].map(f32::to_bits)),
            ],
            groups: [1; 3],
        });
        Dispatches { scratch: vec![count], list }
    }
}

impl Op for SumSquares {
    fn name(&self) -> &'static str {
        "sum_squares"
    }

    fn output_types(&self, inputs: &[&TensorType]) -> Inferred {
        all_floats(inputs)?;
        require(!inputs.is_empty(), "takes at least one input")?;
        Ok(vec![TensorType::f32([1])])
    }

    fn cpu(&self, types: &Types, _: CpuTarget) -> CpuStep {
        let count = types.inputs.len();
        let longest = types.inputs.iter().map(TensorType::len).max().unwrap_or(0);
        CpuStep::with_scratch(longest.div_ceil(PART), move |args| {
            let inputs = &args.inputs[..count];
            let (y, partials) = args.output();
            let of_input = |x: &[f32]| {
                let partials = &mut partials[..x.len().div_ceil(PART)];
                let parts = partials.iter_mut().zip(x.chunks(PART));
                parallel::for_each(parts, &mut [], 0, |(sum, x), _| *sum = x.iter().map(|x| x * x).sum());
                partials.iter().map(|&sum| f64::from(sum)).sum::<f64>() as f32
            };
            y[0] = inputs.iter().copied().map(of_input).sum();
        })
    }

    fn gpu(&self, types: &Types) -> Dispatches {
        SumSquares::launches(types, "total", 0.0)
    }

    fn reference(&self, inputs: &[ArrayViewD<f64>]) -> Vec<ArrayD<f64>> {
        vec![vector([inputs.iter().map(|x| x.pow2().sum()).sum()])]
    }
}
