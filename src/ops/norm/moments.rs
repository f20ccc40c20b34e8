//! `mean[c]` and the biased `variance[c]` of x over all dimensions but the last: the first half of
//! [`super::batch_norm`].

use crate::kernels::batch_norm;
use crate::ops::*;

/// Mean and biased variance of each channel. Input x `[..., C]`; outputs mean and variance `[C]`.
#[derive(Clone, Copy, Debug)]
pub struct Moments;

/// The launches that find mean and variance of input 0, and where they put them.
pub(super) fn moments_on_gpu(x: &TensorType, outputs: [usize; 2]) -> Dispatches {
    let channels = x.shape.last();
    let reduction = Reduction::new(x);
    let blocks = Dispatch {
        shader: wide_shader!(channels, "batch_norm"),
        entry: "blocks",
        constants: reduction.constants(),
        bindings: vec![Operand::Input(0), Operand::Scratch(0)],
        groups: reduction.block_groups(),
    };
    let list = vec![blocks, total_moments(reduction, channels, outputs)];
    Dispatches { scratch: vec![reduction.partial(2, channels)], list }
}

/// The launch that finds them from those of blocks of rows, in scratch 0.
pub(crate) fn total_moments(reduction: Reduction, channels: usize, outputs: [usize; 2]) -> Dispatch {
    let [mean, variance] = outputs.map(Operand::Output);
    Dispatch {
        shader: wide_shader!(channels, "batch_norm"),
        entry: "total",
        constants: reduction.constants(),
        bindings: vec![Operand::Scratch(0), mean, variance],
        groups: reduction.total_groups(),
    }
}

impl Op for Moments {
    fn name(&self) -> &'static str {
        "moments"
    }

    fn output_names(&self) -> &'static [&'static str] {
        &["mean", "variance"]
    }

    fn output_types(&self, inputs: &[&TensorType]) -> Inferred {
        let [x] = floats(inputs)?;
        require(!x.is_empty() && !x.dims().is_empty(), "x must have elements and channels")?;
        Ok(vec![TensorType::f32([x.shape.last()]); 2])
    }

    fn cpu(&self, types: &Types, target: CpuTarget) -> CpuStep {
        let channels = types.outputs[0].len();
        let scratch = batch_norm::moments_scratch(types.inputs[0].len() / channels, channels);
        CpuStep::with_scratch(scratch, move |args| {
            let x = args.inputs[0];
            let ([mean, variance], scratch) = args.outputs();
            batch_norm::moments(target.isa, x, mean, variance, scratch);
        })
    }

    fn gpu(&self, types: &Types) -> Dispatches {
        moments_on_gpu(&types.inputs[0], [0, 1])
    }

    fn reference(&self, inputs: &[ArrayViewD<f64>]) -> Vec<ArrayD<f64>> {
        moments(&inputs[0]).into()
    }
}
