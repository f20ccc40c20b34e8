//! Convolutions in `f64`, naively.

use ndarray::{Array4, ArrayD, ArrayViewD, Axis, Ix4, indices};

use super::{BatchNormGrad, Conv, ConvGeometry, Op, OperandIndices, Output, Pass, checked};
use crate::kernels::function::activated;
use crate::ops::reference::{moments, view};

/// The op's outputs.
pub fn outputs(conv: &Conv, inputs: &[ArrayViewD<f64>]) -> Vec<ArrayD<f64>> {
    let OperandIndices { bias, scale_shift, residual, slope, norm_grad, .. } = conv.operands();
    let first = match (conv.input, scale_shift) {
        (Some(scaled), Some(both)) => {
            let [scale, shift] = [0, 1].map(|i| inputs[both].index_axis(Axis(0), i));
            (&inputs[0] * &scale + shift).mapv(|x| activated(scaled.activation, x))
        }
        _ => inputs[0].to_owned(),
    };
    let mut result = sums(conv, &first.view(), &inputs[1]);
    bias.into_iter().chain(residual).for_each(|i| result += &inputs[i]);
    let activated = result.mapv(|z| activated(conv.activation, z));
    let last = &inputs[slope.or(norm_grad).unwrap_or(inputs.len())..];
    match conv.output {
        Output::Values => vec![activated],
        Output::Kept => vec![activated, result],
        Output::Slope(function) => vec![result * last[0].mapv(|v| function.slope(v))],
        Output::Moments => {
            let [mean, variance] = moments(&result.view());
            vec![result, mean, variance]
        }
        Output::NormGrad(norm) => {
            let [x, both, mean, variance] = std::array::from_fn(|i| last[i].view());
            let [scale, shift] = [0, 1].map(|i| both.index_axis(Axis(0), i));
            let gamma = &scale * &(&variance + f64::from(norm.epsilon)).sqrt();
            let beta = &shift + &(&mean * &scale);
            let operands = [result.view(), x, gamma.view(), beta.view(), mean, variance];
            BatchNormGrad::from(norm).reference(&operands)
        }
    }
}

/// The sums of products.
fn sums(conv: &Conv, a: &ArrayViewD<f64>, b: &ArrayViewD<f64>) -> ArrayD<f64> {
    let g = checked(conv.geometry_of(a.shape(), b.shape()));
    let (a, b) = (view::<Ix4>(a), view::<Ix4>(b));
    let sums = match &conv.pass {
        Pass::Forward => {
            let (x, w) = (a, b);
            let mut y = Array4::zeros([g.batch, g.out_height, g.out_width, g.out_channels]);
            each_product(&g, |[n, i, j, c], [r, s, k, o], [_, p, q, _]| {
                y[[n, p, q, o]] += x[[n, i, j, c]] * w[[r, s, k, o]];
            });
            y
        }
        Pass::InputGrad { .. } => {
            let (dy, w) = (a, b);
            let mut dx = Array4::zeros([g.batch, g.in_height, g.in_width, g.in_channels]);
            each_product(&g, |[n, i, j, c], [r, s, k, o], [_, p, q, _]| {
                dx[[n, i, j, c]] += dy[[n, p, q, o]] * w[[r, s, k, o]];
            });
            dx
        }
        Pass::WeightGrad { .. } => {
            let (x, dy) = (a, b);
            let depth = g.in_channels / g.groups;
            let mut dw = Array4::zeros([g.kernel_height, g.kernel_width, depth, g.out_channels]);
            each_product(&g, |[n, i, j, c], [r, s, k, o], [_, p, q, _]| {
                dw[[r, s, k, o]] += x[[n, i, j, c]] * dy[[n, p, q, o]];
            });
            dw
        }
    };
    sums.into_dyn()
}

/// Visits every product of the sum: the indices `[n, i, j, c]` of x, `[r, s, k, o]` of w and
/// `[n, p, q, o]` of y, where k counts the channels of a group. The three passes of a convolution
/// are the three ways to read it.
pub fn each_product(g: &ConvGeometry, mut visit: impl FnMut([usize; 4], [usize; 4], [usize; 4])) {
    let (depth, filters) = (g.in_channels / g.groups, g.out_channels / g.groups);
    for (n, p, q) in indices([g.batch, g.out_height, g.out_width]) {
        for (r, s) in indices([g.kernel_height, g.kernel_width]) {
            let i = (p * g.stride + r).checked_sub(g.pad_top).filter(|i| *i < g.in_height);
            let j = (q * g.stride + s).checked_sub(g.pad_left).filter(|j| *j < g.in_width);
            let (Some(i), Some(j)) = (i, j) else { continue };
            for (k, o) in indices([depth, g.out_channels]) {
                let c = o / filters * depth + k;
                visit([n, i, j, c], [r, s, k, o], [n, p, q, o]);
            }
        }
    }
}
