//! `y[c] = sum over all other dimensions of x[..., c]`: the gradient of a bias.

use crate::kernels::rows;
use crate::ops::*;

/// Sum over all rows. Input `[..., C]`, output `[C]`.
#[derive(Clone, Copy, Debug)]
pub struct SumRows;

impl Op for SumRows {
    fn name(&self) -> &'static str {
        "sum_rows"
    }

    fn output_types(&self, inputs: &[&TensorType]) -> Inferred {
        let [x] = floats(inputs)?;
        Ok(vec![TensorType::f32([x.shape.last()])])
    }

    fn cpu(&self, types: &Types, target: CpuTarget) -> CpuStep {
        let columns = types.outputs[0].len();
        let scratch = rows::scratch(types.inputs[0].len() / columns, columns, 1);
        CpuStep::with_scratch(scratch, move |args| {
            let x = args.inputs[0];
            let (y, scratch) = args.output();
            rows::sum(target.isa, x, y, scratch);
        })
    }

    fn gpu(&self, types: &Types) -> Dispatches {
        let channels = types.outputs[0].len();
        let reduction = Reduction::new(&types.inputs[0]);
        let stage = |entry, from, to, groups| Dispatch {
            shader: wide_shader!(channels, "sum_rows"),
            entry,
            constants: reduction.constants(),
            bindings: vec![from, to],
            groups,
        };
        if reduction.blocks() == 1 {
            let only = stage("blocks", Operand::Input(0), Operand::Output(0), reduction.block_groups());
            return Dispatches::from(only);
        }
        let list = vec![
            stage("blocks", Operand::Input(0), Operand::Scratch(0), reduction.block_groups()),
            stage("total", Operand::Scratch(0), Operand::Output(0), reduction.total_groups()),
        ];
        Dispatches { scratch: vec![reduction.partial(1, channels)], list }
    }

    fn reference(&self, inputs: &[ArrayViewD<f64>]) -> Vec<ArrayD<f64>> {
        vec![channel_sums(&inputs[0].to_owned())]
    }
}
