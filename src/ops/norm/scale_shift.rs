//! What a batch normalisation does to a channel, as two numbers.
//!
//! `scale = gamma / sqrt(variance + epsilon)` and `shift = beta - mean scale`
//!
//! for a convolution that normalises what it reads: `activation(x scale + shift)`.

use super::batch_norm::scale_and_shift;
use crate::kernels::batch_norm::Affine;
use crate::ops::*;
use ndarray::Axis;

/// Scale and shift of a batch normalisation. Inputs: gamma, beta, mean and variance `[C]`; output:
/// the scales, then the shifts, `[2, C]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScaleShift {
    /// Added to the variance.
    pub epsilon: f32,
}

/// A batch normalisation by scales and shifts, as data of an op that does it on the way.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scaled {
    /// Applied to the result.
    pub activation: Activation,
}

impl Scaled {
    /// The constants of `include/scaled.wgsl`, without a normalisation and with one; none for an
    /// activation that is more than a cut.
    pub(crate) fn constants(input: Option<Scaled>) -> Option<[(&'static str, f64); 2]> {
        let cut = match input.and_then(|scaled| scaled.activation) {
            None => 0.0,
            Some(Function::Relu) => 1.0,
            Some(Function::Relu6) => 2.0,
            Some(_) => return None,
        };
        Some([("SCALED", f64::from(input.is_some())), ("CUT", cut)])
    }

    /// With scales and shifts `[2, C]`.
    pub(crate) fn affine<'a>(&self, both: &'a [f32]) -> Affine<'a> {
        let (scale, shift) = both.split_at(both.len() / 2);
        Affine { scale, shift, activation: self.activation }
    }
}

impl Op for ScaleShift {
    fn name(&self) -> &'static str {
        "scale_shift"
    }

    fn output_types(&self, inputs: &[&TensorType]) -> Inferred {
        let [gamma, beta, mean, variance] = floats(inputs)?;
        require(gamma.dims().len() == 1 && !gamma.is_empty(), "gamma must be a vector")?;
        require([beta, mean, variance].iter().all(|v| *v == gamma), "the vectors must have one length")?;
        Ok(vec![TensorType::f32([2, gamma.len()])])
    }

    fn cpu(&self, _: &Types, _: CpuTarget) -> CpuStep {
        let epsilon = self.epsilon;
        CpuStep::new(move |args| {
            let vectors = args.inputs_from(0);
            let (both, _) = args.output();
            let (scale, shift) = both.split_at_mut(vectors[0].len());
            scale_and_shift(vectors, epsilon, scale, shift);
        })
    }

    fn gpu(&self, types: &Types) -> Dispatches {
        let channels = types.inputs[0].len();
        let bindings = (0..4).map(Operand::Input).chain([Operand::Output(0)]).collect();
        let odd = f64::from(!channels.is_multiple_of(2));
        Dispatches::from(Dispatch {
            shader: shader!("scale_shift", "vec1"),
            entry: "main",
            constants: vec![("EPSILON", f64::from(self.epsilon)), ("ODD", odd)],
            bindings,
            groups: grid(channels, GROUP),
        })
    }

    fn reference(&self, inputs: &[ArrayViewD<f64>]) -> Vec<ArrayD<f64>> {
        let [gamma, beta, mean, variance] = operands(inputs);
        let scale = gamma / &(variance + f64::from(self.epsilon)).sqrt();
        let shift = beta - mean * &scale;
        vec![ndarray::stack![Axis(0), scale, shift]]
    }
}
