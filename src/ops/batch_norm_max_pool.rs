//! [`super::batch_norm`] with its activation, then [`super::max_pool`] over windows of 2x2:
//!
//! `y = max over the window of activation(gamma (x - mean) / sqrt(variance + epsilon) + beta)`
//!
//! [`crate::graph::fuse`] makes it of the two, which saves half of the traffic, in both directions: the
//! normalised values are neither stored nor read.

use super::batch_norm::{BatchNorm, moments_on_gpu};
use super::batch_norm_max_pool_grad::BatchNormMaxPoolGrad;
use super::case::{Case, Fill};
use super::max_pool::MaxPool;
use super::*;
use crate::kernels::batch_norm;
use crate::kernels::batch_norm_pool::{self, Size};

/// The pooling that is fused.
pub const POOL: MaxPool = MaxPool { window: 2, stride: 2 };

/// See the module's documentation. Inputs: x `[N, H, W, C]`, gamma `[C]`, beta `[C]`; outputs: y
/// `[N, H / 2, W / 2, C]`, mean `[C]`, variance `[C]` (biased), both of x.
#[derive(Clone, Copy, Debug)]
pub struct BatchNormMaxPool {
    /// Added to the variance.
    pub epsilon: f32,
    /// Applied to the normalised values.
    pub activation: Activation,
}

/// Of the images `[N, H, W, C]`.
pub(crate) fn size(x: &TensorType) -> Size {
    Size { height: x.dims()[1], width: x.dims()[2] }
}

impl BatchNormMaxPool {
    fn norm(&self) -> BatchNorm {
        BatchNorm { epsilon: self.epsilon, activation: self.activation }
    }
}

impl Op for BatchNormMaxPool {
    fn name(&self) -> &'static str {
        "batch_norm_max_pool"
    }

    fn output_types(&self, inputs: &[&TensorType]) -> std::result::Result<Vec<TensorType>, String> {
        let mut types = self.norm().output_types(inputs)?;
        types[0] = POOL.output_types(&[&types[0]])?.remove(0);
        Ok(types)
    }

    fn gradient(&self, graph: &mut Graph, node: &Node, grads: &[Option<Value>], _: &[bool]) -> Gradients {
        let [Some(dy), None, None] = grads[..] else {
            let name = format!("batch_norm_max_pool '{}'", node.layer);
            return Err(Error::op(name, "its statistics have no gradient"));
        };
        let inputs = [dy, node.inputs[0], node.inputs[1], node.inputs[2], node.outputs[1], node.outputs[2]];
        let op = BatchNormMaxPoolGrad { epsilon: self.epsilon, activation: self.activation };
        Ok(graph.apply(op, &inputs)?.into_iter().map(Some).collect())
    }

    fn cpu_scratch(&self, types: &Types, _: Isa, _: usize) -> usize {
        let channels = types.inputs[1].len();
        2 * channels + batch_norm::moments_scratch(types.inputs[0].len() / channels, channels)
    }

    fn cpu(&self, types: &Types, args: &mut CpuArgs) {
        let (isa, x, gamma, beta) = (args.isa, args.input(0), args.input(1), args.input(2));
        let ([y, mean, variance], scratch) = args.output_many();
        let (line, rest) = scratch.split_at_mut(2 * gamma.len());
        batch_norm::moments(isa, x, mean, variance, rest);
        let line = self.norm().apply().line([gamma, beta, mean, variance], line);
        batch_norm_pool::apply(isa, size(&types.inputs[0]), x, line, y);
    }

    fn gpu(&self, types: &Types) -> Dispatches {
        use Operand::{Input, Output, OutputInput};
        let x = &types.inputs[0];
        let channels = x.shape.last();
        let values = types.outputs[0].len() / width(channels);
        let named =
            [("COLUMNS", channels / width(channels)), ("HEIGHT", size(x).height), ("WIDTH", size(x).width)];
        let mut constants = named.map(|(name, value)| (name, value as f64)).to_vec();
        constants.extend([("EPSILON", f64::from(self.epsilon)), ("ACTIVATION", self.activation.number())]);
        let shader =
            wide_shader!(channels, "batch_norm_max_pool", "index", "nan", "activation", "batch_norm");
        let bindings = vec![Input(0), Input(1), Input(2), OutputInput(1), OutputInput(2), Output(0)];
        moments_on_gpu(x, [1, 2]).then(each_value(shader, values, &constants, bindings), |operand| operand)
    }

    fn reference(&self, types: &Types, inputs: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let x = &types.inputs[0];
        let mut outputs = self.norm().reference(types, inputs);
        let pooled = Types { inputs: vec![x.clone()], outputs: vec![types.outputs[0].clone()] };
        outputs[0] = POOL.reference(&pooled, &outputs[..1]).remove(0);
        outputs
    }
}

/// Test cases of this op.
pub fn cases() -> Vec<Case> {
    let case = |dims: [usize; 4], activation| {
        let channels = TensorType::f32([dims[3]]);
        let gamma = (channels.clone(), Fill::Uniform(0.5, 1.5));
        let beta = (channels, Fill::Uniform(-1.0, 1.0));
        let x = (TensorType::f32(dims), Fill::Distinct);
        Case::new(BatchNormMaxPool { epsilon: 1e-3, activation }, vec![x, gamma, beta])
    };
    let small = [
        case([2, 4, 6, 5], Activation::None),
        case([3, 5, 7, 4], Activation::Relu),
        case([2, 2, 3, 16], Activation::Relu6),
    ];
    let large = [case([2, 17, 18, 12], Activation::Relu), case([5, 12, 9, 33], Activation::Relu)];
    small.map(|case| case.differentiable(&[0, 1, 2])).into_iter().chain(large).collect()
}
