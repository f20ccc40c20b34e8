//! A convolution, and of what it puts out the mean and the biased variance of every channel, as one op: the first half of
//! a batch normalisation in training.
//!
//! [`crate::graph::fuse`] puts it there: on a CPU the statistics are gathered from each block of x while it is in the
//! cache, which saves a pass over memory. On a GPU it is the convolution's shader and then [`super::batch_norm`]'s.

use std::sync::Arc;

use super::batch_norm::moments_on_gpu;
use super::case::{Case, Fill};
use super::conv2d::Conv2d;
use super::depthwise_conv2d::DepthwiseConv2d;
use super::*;
use crate::kernels::batch_norm::{block_moments, merge_moments, moments_part};
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

/// See the module's documentation. Inputs: those of the convolution; outputs: x `[..., C]`, mean and variance `[C]`.
#[derive(Clone, Debug)]
pub struct ConvMoments {
    conv: Convolution,
}

impl ConvMoments {
    /// If the convolution has an epilogue.
    pub fn new(conv: Arc<dyn Op>, types: Types) -> Option<ConvMoments> {
        Convolution::new(conv, types).map(|conv| ConvMoments { conv })
    }

    fn parts(&self) -> usize {
        self.conv.parts(moments_part(self.conv.channels()))
    }
}

impl Op for ConvMoments {
    fn name(&self) -> &'static str {
        "conv_moments"
    }

    fn output_types(&self, inputs: &[&TensorType]) -> std::result::Result<Vec<TensorType>, String> {
        let channels = TensorType::f32([self.conv.channels()]);
        Ok([self.conv.op.output_types(inputs)?, vec![channels.clone(), channels]].concat())
    }

    fn flops(&self, _: &Types) -> u64 {
        self.conv.op.flops(&self.conv.types)
    }

    fn cpu_scratch(&self, _: &Types, isa: Isa, threads: usize) -> usize {
        self.parts() + self.conv.op.cpu_scratch(&self.conv.types, isa, threads)
    }

    fn cpu(&self, types: &Types, args: &mut CpuArgs) {
        self.cpu_with(types, args, None, Epilogue::none());
    }

    fn cpu_line_scratch(&self, _: &Types) -> Option<usize> {
        self.conv.op.cpu_line_scratch(&self.conv.types)
    }

    fn cpu_with(&self, _: &Types, args: &mut CpuArgs, line: Option<Line>, _: Epilogue) {
        let (isa, channels) = (args.isa, self.conv.channels());
        let (parts, rest) = std::mem::take(&mut args.scratch).split_at_mut(self.parts());
        args.scratch = rest;
        let reduce = |x: Written, part: &mut [f32]| block_moments(isa, x.rows, channels, part);
        let epilogue = Epilogue::new(&mut *parts, moments_part(channels), &reduce);
        self.conv.op.cpu_with(&self.conv.types, args, line, epilogue);
        let ([_, mean, variance], _) = args.output_many();
        merge_moments(parts, mean, variance);
    }

    fn gpu(&self, _: &Types) -> Dispatches {
        let moments = moments_on_gpu(&self.conv.types.outputs[0], [1, 2]);
        self.conv.op.gpu(&self.conv.types).then(moments, |operand| match operand {
            Operand::Input(0) => Operand::OutputInput(0),
            other => other,
        })
    }

    fn reference(&self, types: &Types, inputs: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let mut outputs = self.conv.op.reference(&self.conv.types, inputs);
        let [mean, variance] = batch_norm::moments_reference(&outputs[0], types.outputs[1].len());
        outputs.extend([mean, variance]);
        outputs
    }
}

/// Test cases of this op.
pub fn cases() -> Vec<Case> {
    let whole = conv2d::geometries().into_iter().chain(conv2d::large_geometries());
    let whole = whole.map(|(op, x, w): (Conv2d, Shape, Shape)| (Arc::new(op) as Arc<dyn Op>, [x, w]));
    let depthwise = depthwise_conv2d::geometries().into_iter().chain(depthwise_conv2d::large_geometries());
    let depthwise =
        depthwise.map(|(op, x, w): (DepthwiseConv2d, Shape, Shape)| (Arc::new(op) as Arc<dyn Op>, [x, w]));
    whole.chain(depthwise).enumerate().filter_map(case).collect()
}

/// A convolution, if it has an epilogue; every other one has a bias.
fn case((i, (conv, shapes)): (usize, (Arc<dyn Op>, [Shape; 2]))) -> Option<Case> {
    let mut inputs = shapes.map(TensorType::f32).to_vec();
    if i % 2 == 1 {
        inputs.push(TensorType::f32([inputs[1].shape.last()]));
    }
    let outputs = conv.output_types(&inputs.iter().collect::<Vec<_>>()).unwrap_or_default();
    let filled = inputs.iter().map(|ty| (ty.clone(), Fill::Uniform(-1.0, 1.0))).collect();
    Some(Case::new(ConvMoments::new(conv, Types { inputs, outputs })?, filled))
}
