//! A convolution, or the gradient of one's weights, of an input that is normalised first, as one op:
//! `conv(batch_norm_infer(x, gamma, beta, mean, variance), w)`.
//!
//! [`crate::graph::fuse`] puts it there, in training: on a CPU each worker normalises what it reads, in the cache, and the
//! normalised values are not stored ([`crate::kernels::input`]). That saves to write them and to read x for them, and keeps
//! them out of what a training step has to hold until the backward pass. On a GPU it is the two ops' shaders, one after the
//! other.

use std::sync::Arc;

use super::batch_norm_infer::BatchNormInfer;
use super::case::{Case, Fill};
use super::conv_moments::ConvMoments;
use super::conv2d_weight_grad::Conv2dWeightGrad;
use super::depthwise_conv2d_weight_grad::DepthwiseConv2dWeightGrad;
use super::*;
use crate::tensor::Shape;

/// See the module's documentation. Inputs: those of the convolution, of which the first is x `[..., C]` instead of what it
/// becomes; then gamma, beta, mean and variance `[C]`.
#[derive(Clone, Debug)]
pub struct NormalisedConv {
    norm: BatchNormInfer,
    conv: Arc<dyn Op>,
    /// Of the convolution alone.
    types: Types,
}

/// Inputs of the normalisation, without x.
const VECTORS: usize = 4;

impl NormalisedConv {
    /// The two ops as one, if the convolution can normalise its input.
    pub fn new(norm: BatchNormInfer, conv: Arc<dyn Op>, types: Types) -> Option<NormalisedConv> {
        conv.cpu_line_scratch(&types)?;
        Some(NormalisedConv { norm, conv, types })
    }

    /// Elements a channel, of scale and shift.
    fn line(&self) -> usize {
        2 * self.types.inputs[0].shape.last()
    }

    /// Of the normalisation alone, if these are the inputs of both.
    fn norm_types(&self, inputs: &[TensorType]) -> Types {
        let x = &self.types.inputs[..1];
        let vectors = &inputs[self.types.inputs.len()..];
        Types { inputs: [x, vectors].concat(), outputs: x.to_vec() }
    }
}

impl Op for NormalisedConv {
    fn name(&self) -> &'static str {
        "normalised_conv"
    }

    fn title(&self) -> &'static str {
        self.conv.name()
    }

    fn output_types(&self, inputs: &[&TensorType]) -> std::result::Result<Vec<TensorType>, String> {
        require(inputs.len() == self.types.inputs.len() + VECTORS, "these are not the inputs of both")?;
        let (own, vectors) = inputs.split_at(self.types.inputs.len());
        self.norm.output_types(&[&own[..1], vectors].concat())?;
        self.conv.output_types(own)
    }

    fn flops(&self, _: &Types) -> u64 {
        self.conv.flops(&self.types)
    }

    fn cpu_scratch(&self, _: &Types, isa: Isa, threads: usize) -> usize {
        let each = self.conv.cpu_line_scratch(&self.types).unwrap_or_default();
        self.line() + self.conv.cpu_scratch(&self.types, isa, threads) + threads * each
    }

    fn cpu(&self, types: &Types, args: &mut CpuArgs) {
        self.cpu_with(types, args, None, Epilogue::none());
    }

    fn cpu_blocks(&self, _: &Types) -> usize {
        self.conv.cpu_blocks(&self.types)
    }

    fn cpu_with(&self, _: &Types, args: &mut CpuArgs, _: Option<Line>, epilogue: Epilogue) {
        let vectors = std::array::from_fn(|i| args.input(self.types.inputs.len() + i));
        let (line, rest) = std::mem::take(&mut args.scratch).split_at_mut(self.line());
        args.scratch = rest;
        let line = self.norm.line(vectors, line);
        self.conv.cpu_with(&self.types, args, Some(line), epilogue);
    }

    fn gpu(&self, types: &Types) -> Dispatches {
        let own = self.types.inputs.len();
        let norm = self.norm.gpu(&self.norm_types(&types.inputs));
        let (norm, y) = norm.into_scratch(self.types.inputs[0].len());
        let norm = norm.with_operands(|operand| match operand {
            Operand::Input(i @ 1..) => Operand::Input(own + i - 1),
            other => other,
        });
        norm.then(self.conv.gpu(&self.types), |operand| match operand {
            Operand::Input(0) => Operand::ScratchInput(y),
            other => other,
        })
    }

    fn reference(&self, types: &Types, inputs: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let (own, vectors) = inputs.split_at(self.types.inputs.len());
        let norm = [&own[..1], vectors].concat();
        let y = self.norm.reference(&self.norm_types(&types.inputs), &norm);
        self.conv.reference(&self.types, &[&y, &own[1..]].concat())
    }
}

/// Test cases of this op.
pub fn cases() -> Vec<Case> {
    let whole = conv2d::geometries().into_iter().chain(conv2d::large_geometries());
    let whole = whole.flat_map(|(conv, x, w)| {
        let gradient = Conv2dWeightGrad { conv, shape: w.clone() };
        readers(conv, gradient, [x, w])
    });
    let depthwise = depthwise_conv2d::geometries().into_iter().chain(depthwise_conv2d::large_geometries());
    let depthwise = depthwise.flat_map(|(conv, x, w)| {
        let gradient = DepthwiseConv2dWeightGrad { conv, shape: w.clone() };
        readers(conv, gradient, [x, w])
    });
    whole.chain(depthwise).enumerate().filter_map(case).collect()
}

type Operands = (Arc<dyn Op>, [TensorType; 2]);

/// A convolution, the gradient of its weights and, if it has an epilogue, the convolution with its moments.
fn readers(conv: impl Op, gradient: impl Op, shapes: [Shape; 2]) -> Vec<Operands> {
    let [x, w] = shapes.map(TensorType::f32);
    let y = conv.output_types(&[&x, &w]).unwrap_or_default().remove(0);
    let conv: Arc<dyn Op> = Arc::new(conv);
    let types = Types { inputs: vec![x.clone(), w.clone()], outputs: vec![y.clone()] };
    let moments = ConvMoments::new(conv.clone(), types);
    let moments = moments.map(|op| (Arc::new(op) as Arc<dyn Op>, [x.clone(), w.clone()]));
    let both: [Operands; 2] = [(conv, [x.clone(), w]), (Arc::new(gradient), [x, y])];
    both.into_iter().chain(moments).collect()
}

/// A convolution of what a normalisation puts out, if it can normalise.
fn case((i, (conv, inputs)): (usize, Operands)) -> Option<Case> {
    let outputs = conv.output_types(&inputs.each_ref()).unwrap_or_default();
    let channels = TensorType::f32([inputs[0].shape.last()]);
    let vector = |low, high| (channels.clone(), Fill::Uniform(low, high));
    // The padding is 0 in what is normalised, which would show if it were normalised as well.
    let vectors = [vector(0.5, 1.5), vector(0.5, 1.0), vector(-0.5, 0.5), vector(0.2, 2.0)];
    let [x, other] = inputs.clone();
    let own = [(x, Fill::Uniform(-4.0, 4.0)), (other, Fill::Uniform(-1.0, 1.0))];
    let activation = [Activation::Relu6, Activation::None, Activation::Relu][i % 3];
    let norm = BatchNormInfer { epsilon: 1e-2, activation };
    let op = NormalisedConv::new(norm, conv, Types { inputs: inputs.to_vec(), outputs })?;
    Some(Case::new(op, own.into_iter().chain(vectors).collect()))
}
