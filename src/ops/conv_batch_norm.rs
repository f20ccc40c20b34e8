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

/// A convolution, or the gradient of one's input, that hands the blocks of its output to a normalisation.
#[derive(Clone, Debug)]
pub(crate) struct Convolution {
    pub op: Arc<dyn Op>,
    /// Of its operands.
    pub types: Types,
}

impl Convolution {
    /// If it has an epilogue.
    pub fn new(op: Arc<dyn Op>, types: Types) -> Option<Convolution> {
        (op.cpu_blocks(&types) > 0).then_some(Convolution { op, types })
    }

    pub fn channels(&self) -> usize {
        self.types.outputs[0].shape.last()
    }

    /// Number of its inputs.
    pub fn inputs(&self) -> usize {
        self.types.inputs.len()
    }

    /// Elements of parts of `each` elements, one a block.
    pub fn parts(&self, each: usize) -> usize {
        self.op.cpu_blocks(&self.types) * each
    }

    /// The types of the normalisation's inputs, its own output first, if `inputs` begin with the convolution's.
    pub fn norm_inputs<'a>(
        &'a self,
        inputs: &[&'a TensorType],
    ) -> std::result::Result<Vec<&'a TensorType>, String> {
        let fits =
            inputs.len() >= self.inputs() && inputs.iter().zip(&self.types.inputs).all(|(a, b)| *a == b);
        require(fits, "these are the inputs of another convolution")?;
        Ok(std::iter::once(&self.types.outputs[0]).chain(inputs[self.inputs()..].iter().copied()).collect())
    }

    /// The normalisation's types, of both together.
    pub fn norm_types(&self, types: &Types, outputs: &[TensorType]) -> Types {
        let inputs: Vec<&TensorType> = types.inputs.iter().collect();
        let inputs = planned(self.norm_inputs(&inputs)).into_iter().cloned().collect();
        Types { inputs, outputs: outputs.to_vec() }
    }
}

/// See the module's documentation. Inputs: those of the convolution, then gamma and beta `[C]`; outputs: x and y
/// `[..., C]`, mean and variance `[C]` (biased).
#[derive(Clone, Debug)]
pub struct ConvBatchNorm {
    conv: Convolution,
    norm: BatchNorm,
}

impl ConvBatchNorm {
    /// The two ops as one, if the convolution has an epilogue.
    pub fn new(conv: Arc<dyn Op>, types: Types, norm: BatchNorm) -> Option<ConvBatchNorm> {
        Convolution::new(conv, types).map(|conv| ConvBatchNorm { conv, norm })
    }

    fn parts(&self) -> usize {
        self.conv.parts(moments_part(self.conv.channels()))
    }

    fn norm_types(&self, types: &Types) -> Types {
        self.conv.norm_types(types, &types.outputs[1..])
    }
}

impl Op for ConvBatchNorm {
    fn name(&self) -> &'static str {
        "conv_batch_norm"
    }

    fn output_types(&self, inputs: &[&TensorType]) -> std::result::Result<Vec<TensorType>, String> {
        let normal = self.norm.output_types(&self.conv.norm_inputs(inputs)?)?;
        Ok(self.conv.types.outputs.iter().cloned().chain(normal).collect())
    }

    fn flops(&self, _: &Types) -> u64 {
        self.conv.op.flops(&self.conv.types)
    }

    fn cpu_scratch(&self, _: &Types, isa: Isa, threads: usize) -> usize {
        let conv = self.conv.op.cpu_scratch(&self.conv.types, isa, threads);
        2 * self.conv.channels() + self.parts() + conv
    }

    fn cpu(&self, _: &Types, args: &mut CpuArgs) {
        let (isa, channels, own) = (args.isa, self.conv.channels(), self.conv.inputs());
        let (gamma, beta) = (args.input(own), args.input(own + 1));
        let (line, rest) = std::mem::take(&mut args.scratch).split_at_mut(2 * channels);
        let (parts, rest) = rest.split_at_mut(self.parts());
        args.scratch = rest;
        let reduce = |x: Written, part: &mut [f32]| block_moments(isa, x.rows, channels, part);
        let epilogue = Epilogue::new(&mut *parts, moments_part(channels), &reduce);
        self.conv.op.cpu_with(&self.conv.types, args, epilogue);
        let ([x, y, mean, variance], _) = args.output_many();
        merge_moments(parts, mean, variance);
        let (scale, shift) = line.split_at_mut(channels);
        scale_and_shift([gamma, beta, mean, variance], self.norm.epsilon, scale, shift);
        apply(isa, x, scale, shift, self.norm.activation.clamp(), y);
    }

    fn gpu(&self, types: &Types) -> Dispatches {
        let norm = self.norm.gpu(&self.norm_types(types));
        self.conv.op.gpu(&self.conv.types).then(norm, |operand| match operand {
            Operand::Input(0) => Operand::OutputInput(0),
            Operand::Input(i) => Operand::Input(self.conv.inputs() + i - 1),
            Operand::Output(i) => Operand::Output(i + 1),
            other => other,
        })
    }

    fn reference(&self, types: &Types, inputs: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let (own, rest) = inputs.split_at(self.conv.inputs());
        let x = self.conv.op.reference(&self.conv.types, own);
        let normal = self.norm.reference(&self.norm_types(types), &[&x, rest].concat());
        x.into_iter().chain(normal).collect()
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
