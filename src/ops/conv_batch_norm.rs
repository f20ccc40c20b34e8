//! A convolution and the batch normalisation of what it puts out, in training, as one op:
//!
//! `x = conv(input, w, b)`, `y = activation(gamma (x - mean) / sqrt(variance + epsilon) + beta)`
//!
//! [`crate::graph::fuse`] puts it there: on a CPU the statistics are gathered from each block of x while it is in the
//! cache, which saves a pass over memory. On a GPU it is the two ops' shaders, one after the other.

use std::sync::Arc;

use super::batch_norm::{BatchNorm, scale_and_shift};
use super::case::{Case, Fill};
use super::conv2d::Conv2d;
use super::depthwise_conv2d::DepthwiseConv2d;
use super::*;
use crate::kernels::batch_norm::{apply, block_moments, merge_moments, moments_part};
use crate::kernels::parallel::Written;
use crate::tensor::Shape;

/// See the module's documentation. Inputs: those of the convolution, then gamma and beta `[C]`; outputs: x and y
/// `[..., C]`, mean and variance `[C]` (biased).
#[derive(Clone, Debug)]
pub struct ConvBatchNorm {
    conv: Arc<dyn Op>,
    /// Of the convolution's operands.
    types: Types,
    norm: BatchNorm,
}

impl ConvBatchNorm {
    /// The two ops as one, if the convolution has an epilogue.
    pub fn new(conv: Arc<dyn Op>, types: Types, norm: BatchNorm) -> Option<ConvBatchNorm> {
        (conv.cpu_blocks(&types) > 0).then_some(ConvBatchNorm { conv, types, norm })
    }

    fn channels(&self) -> usize {
        self.types.outputs[0].shape.last()
    }

    /// Elements of the blocks' moments.
    fn parts(&self) -> usize {
        self.conv.cpu_blocks(&self.types) * moments_part(self.channels())
    }

    /// Of the normalisation's operands.
    fn norm_types(&self, types: &Types) -> Types {
        let inputs = self.types.outputs.iter().chain(&types.inputs[self.types.inputs.len()..]);
        Types { inputs: inputs.cloned().collect(), outputs: types.outputs[1..].to_vec() }
    }
}

impl Op for ConvBatchNorm {
    fn name(&self) -> &'static str {
        "conv_batch_norm"
    }

    fn output_types(&self, inputs: &[&TensorType]) -> std::result::Result<Vec<TensorType>, String> {
        let own = self.types.inputs.len();
        require(inputs.len() == own + 2, "takes the convolution's inputs, gamma and beta")?;
        require(
            inputs.iter().zip(&self.types.inputs).all(|(a, b)| *a == b),
            "these are of another convolution",
        )?;
        let x = &self.types.outputs[0];
        let normal = self.norm.output_types(&[x, inputs[own], inputs[own + 1]])?;
        Ok(std::iter::once(x.clone()).chain(normal).collect())
    }

    fn flops(&self, _: &Types) -> u64 {
        self.conv.flops(&self.types)
    }

    fn cpu_scratch(&self, _: &Types, isa: Isa, threads: usize) -> usize {
        2 * self.channels() + self.parts() + self.conv.cpu_scratch(&self.types, isa, threads)
    }

    fn cpu(&self, _: &Types, args: &mut CpuArgs) {
        let (isa, channels, own) = (args.isa, self.channels(), self.types.inputs.len());
        let (gamma, beta) = (args.input(own), args.input(own + 1));
        let (line, rest) = std::mem::take(&mut args.scratch).split_at_mut(2 * channels);
        let (parts, rest) = rest.split_at_mut(self.parts());
        args.scratch = rest;
        let reduce = |x: Written, part: &mut [f32]| block_moments(isa, x.rows, channels, part);
        let epilogue = Epilogue::new(&mut *parts, moments_part(channels), &reduce);
        self.conv.cpu_with(&self.types, args, epilogue);
        let ([x, y, mean, variance], _) = args.output_many();
        merge_moments(parts, mean, variance);
        let (scale, shift) = line.split_at_mut(channels);
        scale_and_shift([gamma, beta, mean, variance], self.norm.epsilon, scale, shift);
        apply(isa, x, scale, shift, self.norm.activation.clamp(), y);
    }

    fn gpu(&self, types: &Types) -> Dispatches {
        let (mut work, norm) = (self.conv.gpu(&self.types), self.norm.gpu(&self.norm_types(types)));
        let (inputs, scratch) = (self.types.inputs.len(), work.scratch.len());
        work.scratch.extend(norm.scratch);
        work.list.extend(norm.list.into_iter().map(|dispatch| {
            dispatch.with_operands(|operand| match operand {
                Operand::Input(0) => Operand::OutputInput(0),
                Operand::Input(i) => Operand::Input(inputs + i - 1),
                Operand::Output(i) => Operand::Output(i + 1),
                Operand::Scratch(i) => Operand::Scratch(scratch + i),
                other => other,
            })
        }));
        work
    }

    fn reference(&self, types: &Types, inputs: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let (own, rest) = inputs.split_at(self.types.inputs.len());
        let x = self.conv.reference(&self.types, own).remove(0);
        let normal = [std::slice::from_ref(&x), rest].concat();
        let normal = self.norm.reference(&self.norm_types(types), &normal);
        std::iter::once(x).chain(normal).collect()
    }
}

/// Test cases of this op.
pub fn cases() -> Vec<Case> {
    let whole = super::conv2d::geometries().into_iter().chain(super::conv2d::large_geometries());
    let whole = whole.map(|(op, x, w): (Conv2d, Shape, Shape)| (Arc::new(op) as Arc<dyn Op>, [x, w]));
    let depthwise = super::depthwise_conv2d::geometries().into_iter();
    let depthwise =
        depthwise.map(|(op, x, w): (DepthwiseConv2d, Shape, Shape)| (Arc::new(op) as Arc<dyn Op>, [x, w]));
    whole.chain(depthwise).enumerate().filter_map(case).collect()
}

/// A normalisation after a convolution, if it has an epilogue; every other one has a bias.
fn case((i, (conv, shapes)): (usize, (Arc<dyn Op>, [Shape; 2]))) -> Option<Case> {
    let mut inputs = shapes.map(TensorType::f32).to_vec();
    if i % 2 == 1 {
        inputs.push(TensorType::f32([inputs[1].shape.last()]));
    }
    let outputs = conv.output_types(&inputs.iter().collect::<Vec<_>>()).unwrap_or_default();
    let channels = TensorType::f32([outputs[0].shape.last()]);
    let own: Vec<_> = inputs.iter().map(|ty| (ty.clone(), Fill::Uniform(-1.0, 1.0))).collect();
    let line = [(channels.clone(), Fill::Uniform(0.5, 1.5)), (channels, Fill::Uniform(-1.0, 1.0))];
    let activation = [Activation::Relu6, Activation::None, Activation::Relu][i % 3];
    let norm = BatchNorm { epsilon: 1e-2, activation };
    let op = ConvBatchNorm::new(conv, Types { inputs, outputs }, norm)?;
    Some(Case::new(op, own.into_iter().chain(line).collect()))
}
