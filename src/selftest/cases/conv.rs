//! Cases of [`crate::ops::conv`].

use crate::ops::conv::separable_conv2d::SeparableConv2d;
use crate::ops::conv::{Conv, Output, Padding, Pass};
use crate::ops::norm::batch_norm_infer::Normalise;
use crate::ops::norm::scale_shift::Scaled;
use crate::ops::{Activation, Function, Op};
use crate::selftest::case::{Case, Fill};
use crate::tensor::TensorType;

/// A forward convolution, and the types of x and w.
type Shapes = (Conv, [TensorType; 2]);

/// Convolutions that between them reach every border case: sizes that are no multiple of a tile,
/// strides with and without leftover pixels, kernels smaller than the stride, one channel, channels
/// equal to size.
fn geometries() -> Vec<Shapes> {
    vec![
        whole([2, 8, 8, 3], [3, 3], 32, 1, Padding::Same),
        whole([3, 5, 7, 4], [3, 3], 10, 1, Padding::Same),
        whole([2, 8, 8, 8], [3, 3], 8, 2, Padding::Same),
        whole([2, 7, 7, 5], [3, 3], 6, 2, Padding::Symmetric(1)),
        whole([17, 4, 4, 2], [3, 3], 40, 1, Padding::Symmetric(1)),
        whole([2, 6, 5, 3], [1, 1], 4, 2, Padding::Same),
        whole([3, 5, 4, 7], [1, 1], 37, 1, Padding::Same),
        whole([2, 3, 3, 140], [1, 1], 120, 1, Padding::Symmetric(0)),
        whole([2, 9, 9, 2], [5, 4], 3, 3, Padding::Symmetric(2)),
        whole([1, 4, 4, 1], [2, 2], 1, 1, Padding::Symmetric(0)),
        whole([2, 3, 3, 2], [5, 5], 3, 1, Padding::Same),
        // For Winograd's algorithm: parts of tiles, channels that fill no vector or no block, many
        // images.
        whole([1, 4, 4, 16], [3, 3], 16, 1, Padding::Same),
        whole([2, 9, 7, 17], [3, 3], 18, 1, Padding::Same),
        whole([1, 5, 10, 33], [3, 3], 70, 1, Padding::Symmetric(2)),
        whole([40, 3, 5, 16], [3, 3], 20, 1, Padding::Symmetric(0)),
    ]
}

/// Convolutions too large for numerical gradients: on a GPU, several tiles in both directions of
/// one of the three products and two slices of its depth, with and without vectors; on a CPU, two
/// blocks of input channels, and weights that are added up in two parts.
fn large_geometries() -> Vec<Shapes> {
    vec![
        whole([2, 9, 11, 32], [3, 3], 36, 1, Padding::Same),
        whole([2, 13, 23, 8], [3, 3], 12, 1, Padding::Symmetric(1)),
        whole([2, 25, 24, 3], [3, 3], 9, 2, Padding::Same),
        whole([2, 12, 12, 34], [1, 1], 17, 1, Padding::Same),
        whole([2, 5, 6, 70], [3, 3], 20, 1, Padding::Same),
        whole([2, 5, 5, 40], [3, 3], 24, 2, Padding::Same),
    ]
}

fn whole(x: [usize; 4], kernel: [usize; 2], out: usize, stride: usize, padding: Padding) -> Shapes {
    let w = [kernel[0], kernel[1], x[3], out];
    (Conv::new(stride, padding, 1), [TensorType::f32(x), TensorType::f32(w)])
}

/// Convolutions that between them reach every border case: both fast kernels and the general one,
/// sizes that are no multiple of a block, channels that are no multiple of a vector, one channel,
/// channels equal to size, strides with leftover pixels, kernels smaller than the stride, padding
/// as wide as it may be.
fn depthwise_geometries() -> Vec<Shapes> {
    vec![
        depthwise([2, 8, 8, 8], [3, 3], 1, Padding::Same),
        depthwise([3, 5, 7, 19], [3, 3], 1, Padding::Symmetric(1)),
        depthwise([2, 8, 9, 33], [3, 3], 2, Padding::Same),
        depthwise([2, 7, 7, 5], [3, 3], 2, Padding::Symmetric(1)),
        depthwise([17, 3, 3, 16], [3, 3], 1, Padding::Same),
        depthwise([2, 6, 5, 3], [3, 3], 1, Padding::Symmetric(0)),
        depthwise([1, 4, 4, 2], [3, 3], 1, Padding::Symmetric(2)),
        depthwise([2, 2, 1, 4], [3, 3], 2, Padding::Same),
        depthwise([2, 9, 9, 20], [5, 4], 3, Padding::Symmetric(2)),
        depthwise([2, 7, 6, 3], [5, 5], 1, Padding::Same),
        depthwise([1, 6, 5, 1], [1, 2], 3, Padding::Symmetric(0)),
        depthwise([4, 12, 21, 20], [3, 3], 2, Padding::Same),
        // Rows of several blocks of every size that there is, some of which touch no border.
        depthwise([2, 4, 18, 35], [3, 3], 1, Padding::Same),
        depthwise([1, 3, 21, 20], [3, 3], 1, Padding::Symmetric(1)),
        depthwise([1, 3, 17, 18], [3, 3], 1, Padding::Same),
        depthwise([1, 5, 36, 17], [3, 3], 2, Padding::Same),
        // On a GPU, moments of several workgroups, the last with few pixels.
        depthwise([3, 11, 24, 16], [3, 3], 1, Padding::Same),
        depthwise([1, 4, 42, 19], [3, 3], 2, Padding::Symmetric(1)),
    ]
}

/// Convolutions too large for numerical gradients: images that are work for several on a CPU.
fn large_depthwise_geometries() -> Vec<Shapes> {
    vec![
        depthwise([2, 7, 40, 163], [3, 3], 1, Padding::Symmetric(1)),
        depthwise([1, 14, 41, 331], [3, 3], 2, Padding::Same),
        depthwise([1, 9, 37, 180], [5, 4], 1, Padding::Symmetric(2)),
    ]
}

fn depthwise(x: [usize; 4], kernel: [usize; 2], stride: usize, padding: Padding) -> Shapes {
    let w = [kernel[0], kernel[1], 1, x[3]];
    (Conv::new(stride, padding, x[3]), [TensorType::f32(x), TensorType::f32(w)])
}

const ACTIVATIONS: [Activation; 5] =
    [Some(Function::Relu6), None, Some(Function::Relu), Some(Function::Gelu), Some(Function::Silu)];

/// Cases of [`Conv`].
pub fn conv() -> Vec<Case> {
    let small = || geometries().into_iter().chain(depthwise_geometries());
    let large = || large_geometries().into_iter().chain(large_depthwise_geometries());
    let all = || small().chain(large()).enumerate();
    let differentiable = small().enumerate().map(|(i, shapes)| match i % 2 {
        0 => forward(shapes, true, None).differentiable(&[0, 1, 2]),
        _ => forward(shapes, false, None).differentiable(&[0, 1]),
    });
    let activated = all().map(|(i, shapes)| forward(shapes, i % 3 != 0, ACTIVATIONS[i % 5]));
    let passes = all().flat_map(|(_, (conv, types))| {
        [input_grad(&conv, &types), weight_grad(&conv, &types)].map(|shapes| plain(shapes, &[]))
    });
    let fused = all().flat_map(|(i, (conv, types))| fused(i, &conv, &types));
    let finished = all().step_by(2).flat_map(|(i, shapes)| finished(i / 2, shapes));
    finished.chain(differentiable).chain(activated).chain(passes).chain(fused).collect()
}

/// Cases of what the rules of every device make of a convolution and what follows it.
fn finished(i: usize, (conv, types): Shapes) -> Vec<Case> {
    let y = (output(&conv, &types), Fill::Uniform(-1.0, 1.0));
    let dx = (types[0].clone(), Fill::Uniform(-1.0, 1.0));
    let channels = (TensorType::f32([types[1].shape.last()]), Fill::Uniform(-1.0, 1.0));
    let (bias, activation) = (i.is_multiple_of(2), ACTIVATIONS[i % 5]);
    let bias_and = |more: Vec<(TensorType, Fill)>| {
        let bias = bias.then_some(channels.clone());
        bias.into_iter().chain(more).collect::<Vec<_>>()
    };
    let added = Conv { bias, residual: true, activation, ..conv.clone() };
    let kept = Conv { bias, output: Output::Kept, activation: ACTIVATIONS[i % 2 + 3], ..conv.clone() };
    let (gradient, operands) = input_grad(&conv, &types);
    let function = [Function::Gelu, Function::Relu, Function::Silu][i % 3];
    let slope = Conv { output: Output::Slope(function), ..gradient.clone() };
    let added_gradient = Conv { residual: true, ..gradient };
    vec![
        plain((added, types.clone()), &bias_and(vec![y])),
        plain((kept, types), &bias_and(Vec::new())),
        plain((slope, operands.clone()), std::slice::from_ref(&dx)),
        plain((added_gradient, operands), &[dx]),
    ]
}

fn forward((conv, [x, w]): Shapes, bias: bool, activation: Activation) -> Case {
    let channels = TensorType::f32([w.shape.last()]);
    let more = if bias { vec![(channels, Fill::Uniform(-1.0, 1.0))] } else { Vec::new() };
    plain((Conv { bias, activation, ..conv }, [x, w]), &more)
}

/// A case whose first two inputs are of these types; `more` follow.
fn plain((conv, types): Shapes, more: &[(TensorType, Fill)]) -> Case {
    let first = types.map(|ty| (ty, Fill::Uniform(-1.0, 1.0)));
    Case::new(conv, first.into_iter().chain(more.iter().cloned()).collect())
}

/// The type of y.
fn output(conv: &Conv, [x, w]: &[TensorType; 2]) -> TensorType {
    conv.output_types(&[x, w]).unwrap_or_default().remove(0)
}

fn input_grad(conv: &Conv, types: &[TensorType; 2]) -> Shapes {
    let [x, w] = types.clone();
    (Conv { pass: Pass::InputGrad { x: x.shape }, ..conv.clone() }, [output(conv, types), w])
}

fn weight_grad(conv: &Conv, types: &[TensorType; 2]) -> Shapes {
    let [x, w] = types.clone();
    (Conv { pass: Pass::WeightGrad { w: w.shape }, ..conv.clone() }, [x, output(conv, types)])
}

/// Cases of what the rules of a CPU make of a convolution in training.
fn fused(i: usize, conv: &Conv, types: &[TensorType; 2]) -> Vec<Case> {
    let channels = TensorType::f32([types[1].shape.last()]);
    let bias = i % 2 == 1;
    let more = if bias { vec![(channels, Fill::Uniform(-1.0, 1.0))] } else { Vec::new() };
    let moments = Conv { bias, output: Output::Moments, ..conv.clone() };
    let readers = [(conv.clone(), types.clone()), weight_grad(conv, types), (moments.clone(), types.clone())];
    let readers = readers.map(|(conv, types)| match conv.bias {
        true => normalised(i, (Conv { bias: false, ..conv }, types)),
        false => normalised(i, (conv, types)),
    });
    let norm_grad = norm_grad(i, input_grad(conv, types));
    readers.into_iter().chain([plain((moments, types.clone()), &more), norm_grad]).collect()
}

/// A convolution of the output of a normalisation. The padding is 0 in that, which would show if it
/// were normalised as well.
fn normalised(i: usize, (conv, [x, second]): Shapes) -> Case {
    let input = Some(Scaled { activation: ACTIVATIONS[i % 5] });
    let scale_shift = (TensorType::f32([2, x.shape.last()]), Fill::Uniform(0.5, 1.5));
    let own = [(x, Fill::Uniform(-4.0, 4.0)), (second, Fill::Uniform(-1.0, 1.0)), scale_shift];
    Case::new(Conv { input, ..conv }, own.to_vec())
}

/// The gradient through the normalisation before a convolution.
fn norm_grad(i: usize, (conv, [dz, w]): Shapes) -> Case {
    let x = conv.output_types(&[&dz, &w]).unwrap_or_default().remove(0);
    let vector = |dims: &[usize], low, high| (TensorType::f32(dims), Fill::Uniform(low, high));
    let channels = x.shape.last();
    let both = vector(&[2, channels], -1.0, 1.0);
    let more =
        [(x, Fill::Uniform(-1.0, 1.0)), both, vector(&[channels], -0.1, 0.1), vector(&[channels], 0.2, 0.5)];
    let norm = Normalise { epsilon: 1e-2, activation: ACTIVATIONS[i % 4 + 1] };
    let output = Output::NormGrad(norm);
    plain((Conv { output, ..conv }, [dz, w]), &more)
}

/// Cases of [`SeparableConv2d`].
pub fn separable_conv2d() -> Vec<Case> {
    let activations = [Some(Function::Relu6), None, Some(Function::Relu), Some(Function::Silu)];
    let case = |(i, (conv, [x, w])): (usize, (Conv, [TensorType; 2])), out: usize| {
        let fill = |ty| (ty, Fill::Uniform(-1.0, 1.0));
        let channels = w.shape.last();
        let bias = TensorType::f32([channels]);
        let (pointwise, out_bias) = (TensorType::f32([1, 1, channels, out]), TensorType::f32([out]));
        let activations = [activations[i % 4], activations[(i + i / 4) % 4]];
        let residual = i % 3 == 1;
        let op = SeparableConv2d { stride: conv.stride, padding: conv.padding, activations, residual };
        let mut inputs = vec![x, w, bias, pointwise, out_bias];
        if residual {
            let plain = SeparableConv2d { residual: false, ..op };
            let y = plain.output_types(&inputs.iter().collect::<Vec<_>>()).unwrap_or_default();
            inputs.extend(y);
        }
        Case::new(op, inputs.into_iter().map(fill).collect())
    };
    let outputs = [8, 1, 37, 64].into_iter().cycle();
    // A single channel is no group by itself.
    let geometries = depthwise_geometries().into_iter().filter(|(conv, _)| conv.groups > 1);
    geometries.enumerate().zip(outputs).map(|(i, out)| case(i, out)).collect()
}
