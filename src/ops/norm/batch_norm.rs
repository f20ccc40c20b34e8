//! Batch normalisation in training (Ioffe and Szegedy 2015), for every channel over all other
//! dimensions:
//!
//! `y = activation(gamma (x - mean) / sqrt(variance + epsilon) + beta)`
//!
//! with the mean and the biased variance of this batch. The activation is there because a rule of
//! the devices puts it there: it saves a pass over memory in both directions.

use super::batch_norm_grad::BatchNormGrad;
use super::batch_norm_infer::BatchNormInfer;
use super::moments::moments_on_gpu;
use crate::kernels::batch_norm;
use crate::ops::*;

/// Batch normalisation by the batch's own statistics. Inputs: x `[..., C]`, gamma `[C]`, beta
/// `[C]`; outputs: y `[..., C]`, mean `[C]`, variance `[C]` (biased).
#[derive(Clone, Copy, Debug)]
pub struct BatchNorm {
    /// Added to the variance.
    pub epsilon: f32,
    /// Applied to the result.
    pub activation: Activation,
}

/// `scale = gamma / sqrt(variance + epsilon)` and `shift = beta - mean scale`: what the
/// normalisation does to a channel. Forward and backward pass compute it alike, so that they agree
/// on what the activation cut.
pub(crate) fn scale_and_shift(
    [gamma, beta, mean, variance]: [&[f32]; 4],
    epsilon: f32,
    scale: &mut [f32],
    shift: &mut [f32],
) {
    for c in 0..scale.len() {
        scale[c] = gamma[c] / (variance[c] + epsilon).sqrt();
        shift[c] = beta[c] - mean[c] * scale[c];
    }
}

/// The constants of the gradient's shaders.
pub(crate) fn constants(
    reduction: &Reduction,
    epsilon: f32,
    activation: Activation,
) -> Vec<(&'static str, f64)> {
    let own = [("EPSILON", f64::from(epsilon))].into_iter().chain(function_constants(activation));
    reduction.constants().into_iter().chain(own).collect()
}

/// The shape rule shared by the three batch normalisation ops: x and then vectors of C elements.
pub(crate) fn per_channel(x: &TensorType, vectors: &[&TensorType]) -> std::result::Result<(), String> {
    let channels = x.shape.last();
    require(!x.is_empty() && !x.dims().is_empty(), "x must have elements and channels")?;
    require(vectors.iter().all(|v| v.dims() == [channels]), format!("all parameters must be [{channels}]"))
}

impl BatchNorm {
    /// The normalisation that is left to do when mean and variance are known.
    pub(crate) fn apply(self) -> BatchNormInfer {
        BatchNormInfer { epsilon: self.epsilon, residual: false, activation: self.activation }
    }
}

impl Op for BatchNorm {
    fn name(&self) -> &'static str {
        "batch_norm"
    }

    fn output_names(&self) -> &'static [&'static str] {
        &["y", "mean", "variance"]
    }

    fn output_types(&self, inputs: &[&TensorType]) -> Inferred {
        let [x, gamma, beta] = floats(inputs)?;
        per_channel(x, &[gamma, beta])?;
        Ok(vec![x.clone(), gamma.clone(), gamma.clone()])
    }

    fn gradient(&self, graph: &mut Graph, node: &Node, grads: &[Option<Value>], _: &[bool]) -> Gradients {
        let [Some(dy), None, None] = grads[..] else {
            return Err(Error::op(format!("batch_norm '{}'", node.layer), "its statistics have no gradient"));
        };
        let inputs = [dy, node.inputs[0], node.inputs[1], node.inputs[2], node.outputs[1], node.outputs[2]];
        let op = BatchNormGrad { epsilon: self.epsilon, activation: self.activation };
        Ok(graph.apply(op, &inputs)?.into_iter().map(Some).collect())
    }

    fn cpu(&self, types: &Types, target: CpuTarget) -> CpuStep {
        let (norm, channels) = (self.apply().normalise(), types.inputs[1].len());
        let moments = batch_norm::moments_scratch(types.inputs[0].len() / channels, channels);
        CpuStep::with_scratch(2 * channels + moments, move |args| {
            let [x, gamma, beta] = args.inputs_from(0);
            let ([y, mean, variance], scratch) = args.outputs();
            let (affine, rest) = scratch.split_at_mut(2 * channels);
            batch_norm::moments(target.isa, x, mean, variance, rest);
            batch_norm::apply(target.isa, x, norm.affine([gamma, beta, mean, variance], affine), y);
        })
    }

    fn gpu(&self, types: &Types) -> Dispatches {
        let [x, vectors @ ..] = &types.inputs[..] else { return Dispatches::default() };
        let inputs = [std::slice::from_ref(x), vectors, &types.outputs[1..]].concat();
        let apply = Types { inputs, outputs: vec![x.clone()] };
        moments_on_gpu(x, [1, 2]).then(self.apply().gpu(&apply), |operand| match operand {
            Operand::Input(i @ 3..) => Operand::OutputInput(i - 2),
            other => other,
        })
    }

    fn reference(&self, inputs: &[ArrayViewD<f64>]) -> Vec<ArrayD<f64>> {
        let [x, gamma, beta] = operands(inputs);
        let [mean, variance] = moments(x);
        let y = self.apply().reference(&[x.view(), gamma.view(), beta.view(), mean.view(), variance.view()]);
        [y, vec![mean, variance]].concat()
    }
}
