//! The gradient of a convolution's input and, through the batch normalisation that made that input, the gradient of what
//! was normalised, as one op: [`super::batch_norm_grad`] of `dy = conv_input_grad(dz, w)`.
//!
//! [`crate::graph::fuse`] puts it there: on a CPU the sums that dx needs are gathered from each block of dy while it is in
//! the cache, and dx takes the place of dy. On a GPU it is the two ops' shaders, one after the other.

use std::sync::Arc;

use super::batch_norm_grad::{BatchNormGrad, Passes};
use super::case::{Case, Fill};
use super::conv_moments::Convolution;
use super::conv2d::Conv2d;
use super::conv2d_input_grad::Conv2dInputGrad;
use super::depthwise_conv2d::DepthwiseConv2d;
use super::depthwise_conv2d_input_grad::DepthwiseConv2dInputGrad;
use super::*;
use crate::kernels::batch_norm::{Backward, block_gradient_sums, gradient_apply, totals};
use crate::kernels::parallel::Written;
use crate::tensor::Shape;

/// See the module's documentation. Inputs: those of the convolution's gradient, dz and w; then x `[..., C]`, which was
/// normalised, gamma, beta, mean and variance `[C]`; outputs: dx, dgamma, dbeta.
#[derive(Clone, Debug)]
pub struct ConvBatchNormGrad {
    conv: Convolution,
    norm: BatchNormGrad,
}

impl ConvBatchNormGrad {
    /// The two ops as one, if the convolution's gradient has an epilogue.
    pub fn new(conv: Arc<dyn Op>, types: Types, norm: BatchNormGrad) -> Option<ConvBatchNormGrad> {
        Convolution::new(conv, types).map(|conv| ConvBatchNormGrad { conv, norm })
    }

    fn parts(&self) -> usize {
        self.conv.parts(2 * self.conv.channels())
    }

    fn norm_types(&self, types: &Types) -> Types {
        self.conv.norm_types(types, &types.outputs)
    }
}

impl Op for ConvBatchNormGrad {
    fn name(&self) -> &'static str {
        "conv_batch_norm_grad"
    }

    fn output_types(&self, inputs: &[&TensorType]) -> std::result::Result<Vec<TensorType>, String> {
        self.norm.output_types(&self.conv.norm_inputs(inputs)?)
    }

    fn flops(&self, _: &Types) -> u64 {
        self.conv.op.flops(&self.conv.types)
    }

    fn cpu_scratch(&self, _: &Types, isa: Isa, threads: usize) -> usize {
        let conv = self.conv.op.cpu_scratch(&self.conv.types, isa, threads);
        Passes::scratch(self.conv.channels()) + self.parts() + conv
    }

    fn cpu(&self, _: &Types, args: &mut CpuArgs) {
        let (isa, own) = (args.isa, self.conv.inputs());
        let [x, gamma, beta, mean, variance] = std::array::from_fn(|i| args.input(own + i));
        let scratch = std::mem::take(&mut args.scratch);
        // Of dy there are only blocks, and in the end it lies where dx will.
        let (mut passes, rest) = Passes::new(&self.norm, [&[], x, gamma, beta, mean, variance], scratch);
        let (parts, rest) = rest.split_at_mut(self.parts());
        args.scratch = rest;
        let backward = passes.backward;
        let reduce = |dy: Written, part: &mut [f32]| {
            let x = &x[dy.from..][..dy.rows.len()];
            block_gradient_sums(isa, Backward { x, dy: dy.rows, ..backward }, part);
        };
        let epilogue = Epilogue::new(&mut *parts, 2 * self.conv.channels(), &reduce);
        self.conv.op.cpu_with(&self.conv.types, args, None, epilogue);
        let ([dx, dgamma, dbeta], _) = args.output_many();
        totals(parts, dgamma, dbeta);
        gradient_apply(isa, backward, passes.line(dgamma, dbeta), dx);
    }

    fn gpu(&self, types: &Types) -> Dispatches {
        let conv = self.conv.op.gpu(&self.conv.types);
        let (conv, dy) = conv.into_scratch(self.conv.types.outputs[0].len());
        conv.then(self.norm.gpu(&self.norm_types(types)), |operand| match operand {
            Operand::Input(0) => Operand::ScratchInput(dy),
            Operand::Input(i) => Operand::Input(self.conv.inputs() + i - 1),
            other => other,
        })
    }

    fn reference(&self, types: &Types, inputs: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let (own, rest) = inputs.split_at(self.conv.inputs());
        let dy = self.conv.op.reference(&self.conv.types, own);
        self.norm.reference(&self.norm_types(types), &[&dy, rest].concat())
    }
}

/// Test cases of this op.
pub fn cases() -> Vec<Case> {
    let whole = conv2d::geometries().into_iter().chain(conv2d::large_geometries());
    let whole = whole.map(|(conv, shape, w): (Conv2d, Shape, Shape)| {
        let dz = output(&conv, &shape, &w);
        (Arc::new(Conv2dInputGrad { conv, shape }) as Arc<dyn Op>, [dz, TensorType::f32(w)])
    });
    let depthwise = depthwise_conv2d::geometries().into_iter().chain(depthwise_conv2d::large_geometries());
    let depthwise = depthwise.map(|(conv, shape, w): (DepthwiseConv2d, Shape, Shape)| {
        let dz = output(&conv, &shape, &w);
        (Arc::new(DepthwiseConv2dInputGrad { conv, shape }) as Arc<dyn Op>, [dz, TensorType::f32(w)])
    });
    whole.chain(depthwise).enumerate().filter_map(case).collect()
}

fn output(conv: &impl Op, x: &Shape, w: &Shape) -> TensorType {
    let [x, w] = [x, w].map(|shape| TensorType::f32(shape.clone()));
    conv.output_types(&[&x, &w]).unwrap_or_default().remove(0)
}

/// The gradient of a normalisation before a convolution, if that has an epilogue.
fn case((i, (conv, inputs)): (usize, (Arc<dyn Op>, [TensorType; 2]))) -> Option<Case> {
    let outputs = conv.output_types(&inputs.each_ref()).unwrap_or_default();
    let (x, channels) = (outputs[0].clone(), TensorType::f32([outputs[0].shape.last()]));
    let vector = |low, high| (channels.clone(), Fill::Uniform(low, high));
    let norm_inputs = [
        (x, Fill::Uniform(-1.0, 1.0)),
        vector(0.5, 1.5),
        vector(-1.0, 1.0),
        vector(-0.1, 0.1),
        vector(0.2, 0.5),
    ];
    let own = inputs.clone().map(|ty| (ty, Fill::Uniform(-1.0, 1.0)));
    let norm = BatchNormGrad { epsilon: 1e-2, activation: [Activation::Relu, Activation::None][i % 2] };
    let op = ConvBatchNormGrad::new(conv, Types { inputs: inputs.to_vec(), outputs }, norm)?;
    Some(Case::new(op, own.into_iter().chain(norm_inputs).collect()))
}
