//! Depthwise convolution: every channel by itself, with a kernel of its own, NHWC x HWC:
//!
//! `y[n, p, q, c] = activation(bias[c] + sum over i, j  x[n, p s + i - top, q s + j - left, c] w[i, j, c])`
//!
//! where x is 0 outside its borders and s is the stride. It is the first half of the depthwise-separable
//! convolution of Howard et al., "MobileNets" (2017). Bias and activation are there because
//! [`crate::graph::fuse`] puts them there, in inference.

use super::case::{Case, Fill};
use super::conv2d::{Padding, pairs};
use super::depthwise_conv2d_input_grad::DepthwiseConv2dInputGrad;
use super::depthwise_conv2d_weight_grad::DepthwiseConv2dWeightGrad;
use super::sum_rows::SumRows;
use super::*;
use crate::kernels::depthwise::{self, Geometry};
use crate::tensor::{DType, Shape};

/// See the module's documentation. Inputs: x `[N, H, W, C]`, w `[KH, KW, C]` and, if there is one, bias `[C]`;
/// output `[N, P, Q, C]`.
#[derive(Clone, Copy, Debug)]
pub struct DepthwiseConv2d {
    /// Step of the window in pixels, in both directions.
    pub stride: usize,
    /// How the borders are padded.
    pub padding: Padding,
    /// Applied to the result.
    pub activation: Activation,
}

impl DepthwiseConv2d {
    /// The geometry for an input and weights of these dimensions.
    pub(crate) fn geometry(&self, x: &[usize], w: &[usize]) -> std::result::Result<Geometry, String> {
        let (&[batch, in_height, in_width, channels], &[kernel_height, kernel_width, depth]) = (x, w) else {
            return Err("x must be [N, H, W, C] and w [KH, KW, C]".into());
        };
        require(
            depth == channels && channels > 0,
            format_args!("the weights have {depth} channels, the input has {channels}"),
        )?;
        let (out_height, pad_top) = self.padding.apply(0, in_height, kernel_height, self.stride)?;
        let (out_width, pad_left) = self.padding.apply(1, in_width, kernel_width, self.stride)?;
        let stride = self.stride;
        Ok(Geometry {
            batch,
            in_height,
            in_width,
            channels,
            kernel_height,
            kernel_width,
            stride,
            pad_top,
            pad_left,
            out_height,
            out_width,
        })
    }

    fn planned(&self, types: &Types) -> Geometry {
        planned(self.geometry(types.inputs[0].dims(), types.inputs[1].dims()))
    }
}

impl Op for DepthwiseConv2d {
    fn name(&self) -> &'static str {
        "depthwise_conv2d"
    }

    fn output_types(&self, inputs: &[&TensorType]) -> std::result::Result<Vec<TensorType>, String> {
        require((2..=3).contains(&inputs.len()), "takes x, w and perhaps a bias")?;
        let g = self.geometry(inputs[0].dims(), inputs[1].dims())?;
        let bias_fits = inputs.get(2).is_none_or(|bias| bias.dims() == [g.channels]);
        require(bias_fits, "the bias must have one element a channel")?;
        Ok(vec![TensorType::f32([g.batch, g.out_height, g.out_width, g.channels])])
    }

    fn gradient(
        &self,
        graph: &mut Graph,
        node: &Node,
        grads: &[Option<Value>],
        needed: &[bool],
    ) -> Gradients {
        if self.activation != Activation::None {
            let name = format!("depthwise_conv2d '{}'", node.layer);
            return Err(Error::op(name, "has no gradient with an activation: differentiate before fusing"));
        }
        let Some(dy) = grads[0] else { return Ok(vec![None; node.inputs.len()]) };
        let (x, w) = (node.inputs[0], node.inputs[1]);
        let mut out = vec![None; node.inputs.len()];
        if needed[0] {
            let shape = graph.ty(x).shape.clone();
            out[0] = Some(graph.apply1(DepthwiseConv2dInputGrad { conv: *self, shape }, &[dy, w])?);
        }
        if needed[1] {
            let shape = graph.ty(w).shape.clone();
            out[1] = Some(graph.apply1(DepthwiseConv2dWeightGrad { conv: *self, shape }, &[x, dy])?);
        }
        if needed.get(2) == Some(&true) {
            out[2] = Some(graph.apply1(SumRows, &[dy])?);
        }
        Ok(out)
    }

    fn flops(&self, types: &Types) -> u64 {
        self.planned(types).flops()
    }

    fn batched_inputs(&self, _: &Types) -> Option<&'static [usize]> {
        Some(&[0])
    }

    fn cpu_scratch(&self, types: &Types, _: Isa, _: usize) -> usize {
        depthwise::forward_scratch(&self.planned(types))
    }

    fn cpu(&self, types: &Types, args: &mut CpuArgs) {
        self.cpu_with(types, args, None, Epilogue::none());
    }

    fn cpu_blocks(&self, types: &Types) -> usize {
        depthwise::forward_blocks(&self.planned(types))
    }

    fn cpu_line_scratch(&self, types: &Types) -> Option<usize> {
        Some(depthwise::forward_line_scratch(&self.planned(types)))
    }

    fn cpu_with(&self, types: &Types, args: &mut CpuArgs, line: Option<Line>, epilogue: Epilogue) {
        let (isa, x, w) = (args.isa, Input { x: args.input(0), line }, args.input(1));
        let bias = (types.inputs.len() == 3).then(|| args.input(2));
        let (y, scratch) = args.output();
        let out = Output { y, epilogue };
        depthwise::forward(isa, &self.planned(types), (x, w), bias, self.activation.clamp(), out, scratch);
    }

    fn gpu(&self, types: &Types) -> Dispatches {
        let g = self.planned(types);
        let bias = matmul::bias(types);
        let invocations = g.batch * g.out_height * g.out_width.div_ceil(4) * g.channels / width(g.channels);
        let mut constants = constants(&g).to_vec();
        constants.extend([
            ("COLUMNS", (g.channels / width(g.channels)) as f64),
            ("BIAS", f64::from(bias.is_some())),
            ("ACTIVATION", self.activation.number()),
        ]);
        let [x, w] = [0, 1].map(Operand::Input);
        let shader = wide_shader!(g.channels, "depthwise_conv2d", "index", "nan", "activation", "depthwise");
        // Every binding must be bound: without a bias, to anything that is read.
        let bindings = vec![x, w, bias.unwrap_or(w), Operand::Output(0)];
        each_value(shader, invocations, &constants, bindings)
    }

    fn reference(&self, types: &Types, inputs: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let g = self.planned(types);
        let mut y = vec![0.0; types.outputs[0].len()];
        if let Some(bias) = inputs.get(2) {
            y.iter_mut().enumerate().for_each(|(i, y)| *y = bias[i % g.channels]);
        }
        each_product(&g, |x, w, out| y[out] += inputs[0][x] * inputs[1][w]);
        let (low, high) = self.activation.clamp_f64();
        y.iter_mut().for_each(|y| *y = y.clamp(low, high));
        vec![y]
    }
}

/// What the shaders of all three directions know of the geometry.
pub(crate) fn constants(g: &Geometry) -> [(&'static str, f64); 9] {
    [
        ("HEIGHT", g.in_height),
        ("WIDTH", g.in_width),
        ("OUT_HEIGHT", g.out_height),
        ("OUT_WIDTH", g.out_width),
        ("KERNEL_HEIGHT", g.kernel_height),
        ("KERNEL_WIDTH", g.kernel_width),
        ("STRIDE", g.stride),
        ("PAD_TOP", g.pad_top),
        ("PAD_LEFT", g.pad_left),
    ]
    .map(|(name, value)| (name, value as f64))
}

/// Visits every product of the sum: the indices into x, w and y. The three directions of the convolution
/// are the three ways to read it.
pub(crate) fn each_product(g: &Geometry, mut visit: impl FnMut(usize, usize, usize)) {
    let inside = |out: usize, k: usize, pad: usize, size: usize| {
        (out * g.stride + k).checked_sub(pad).filter(|&position| position < size)
    };
    for n in 0..g.batch {
        for (p, q) in pairs(g.out_height, g.out_width) {
            for (i, j) in pairs(g.kernel_height, g.kernel_width) {
                let (Some(y), Some(x)) =
                    (inside(p, i, g.pad_top, g.in_height), inside(q, j, g.pad_left, g.in_width))
                else {
                    continue;
                };
                for c in 0..g.channels {
                    visit(
                        ((n * g.in_height + y) * g.in_width + x) * g.channels + c,
                        (i * g.kernel_width + j) * g.channels + c,
                        ((n * g.out_height + p) * g.out_width + q) * g.channels + c,
                    );
                }
            }
        }
    }
}

/// Convolutions that between them reach every border case: both fast kernels and the general one, sizes that
/// are no multiple of a block, channels that are no multiple of a vector, one channel, channels equal to size,
/// strides with leftover pixels, kernels smaller than the stride, padding wider than the kernel.
pub(crate) fn geometries() -> Vec<(DepthwiseConv2d, Shape, Shape)> {
    vec![
        conv([2, 8, 8, 8], [3, 3], 1, Padding::Same),
        conv([3, 5, 7, 19], [3, 3], 1, Padding::Symmetric(1)),
        conv([2, 8, 9, 33], [3, 3], 2, Padding::Same),
        conv([2, 7, 7, 5], [3, 3], 2, Padding::Symmetric(1)),
        conv([17, 3, 3, 16], [3, 3], 1, Padding::Same),
        conv([2, 6, 5, 3], [3, 3], 1, Padding::Symmetric(0)),
        conv([1, 4, 4, 2], [3, 3], 1, Padding::Symmetric(3)),
        conv([2, 2, 1, 4], [3, 3], 2, Padding::Same),
        conv([2, 9, 9, 20], [5, 4], 3, Padding::Symmetric(2)),
        conv([2, 7, 6, 3], [5, 5], 1, Padding::Same),
        conv([1, 6, 5, 1], [1, 2], 3, Padding::Symmetric(0)),
        conv([4, 12, 21, 20], [3, 3], 2, Padding::Same),
        // Rows of several blocks of every size that there is, some of which touch no border.
        conv([2, 4, 18, 35], [3, 3], 1, Padding::Same),
        conv([1, 3, 21, 20], [3, 3], 1, Padding::Symmetric(1)),
        conv([1, 3, 17, 18], [3, 3], 1, Padding::Same),
        conv([1, 5, 36, 17], [3, 3], 2, Padding::Same),
        conv([1, 4, 42, 19], [3, 3], 2, Padding::Symmetric(1)),
    ]
}

/// Convolutions too large for numerical gradients: images that are work for several on a CPU.
pub(crate) fn large_geometries() -> Vec<(DepthwiseConv2d, Shape, Shape)> {
    vec![
        conv([2, 7, 40, 163], [3, 3], 1, Padding::Symmetric(1)),
        conv([1, 14, 41, 331], [3, 3], 2, Padding::Same),
        conv([1, 9, 37, 180], [5, 4], 1, Padding::Symmetric(2)),
    ]
}

fn conv(
    x: [usize; 4],
    kernel: [usize; 2],
    stride: usize,
    padding: Padding,
) -> (DepthwiseConv2d, Shape, Shape) {
    let op = DepthwiseConv2d { stride, padding, activation: Activation::None };
    (op, Shape::from(x), Shape::from([kernel[0], kernel[1], x[3]]))
}

/// Test cases of this op.
pub fn cases() -> Vec<Case> {
    let case = |(op, x, w): (DepthwiseConv2d, Shape, Shape), bias: bool| {
        let channels = w.last();
        let fill = |shape| (TensorType { shape, dtype: DType::F32 }, Fill::Uniform(-1.0, 1.0));
        let mut inputs = vec![fill(x), fill(w)];
        if bias {
            inputs.push(fill([channels].into()));
        }
        Case::new(op, inputs)
    };
    let all = || geometries().into_iter().enumerate();
    let linear = all().map(|(i, geometry)| {
        let bias = i % 2 == 0;
        case(geometry, bias).differentiable(if bias { &[0, 1, 2] } else { &[0, 1] })
    });
    let fused = all().map(|(i, (op, x, w))| {
        let activation = if i % 2 == 0 { Activation::Relu6 } else { Activation::Relu };
        case((DepthwiseConv2d { activation, ..op }, x, w), true)
    });
    let large = large_geometries().into_iter().map(|geometry| case(geometry, true));
    linear.chain(fused.take(4)).chain(large).collect()
}
