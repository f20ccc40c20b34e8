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
    let stage = |entry, bindings, groups| Dispatch {
        shader: wide_shader!(channels, "batch_norm"),
        entry,
        constants: reduction.constants(),
        bindings,
        groups,
    };
    let (partial, [mean, variance]) = (Operand::Scratch(0), outputs.map(Operand::Output));
    let list = vec![
        stage("blocks", vec![Operand::Input(0), partial], reduction.block_groups()),
        stage("total", vec![partial, mean, variance], reduction.total_groups()),
    ];
    Dispatches { scratch: vec![reduction.partial(2, channels)], list }
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
