//! Convolutions in `f64`, naively.

use super::{BatchNormGrad, BatchNormInfer, Conv, ConvGeometry, Op, OperandIndices, Output, Pass, Types};
use crate::kernels::function::activated;
use crate::ops::norm::moments::moments_reference;

/// The op's outputs.
pub fn outputs(conv: &Conv, types: &Types, inputs: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let g = conv.checked_geometry(types);
    let OperandIndices { bias, normalise, residual, slope, norm_grad, .. } = conv.operands();
    let mut first = inputs[0].clone();
    if let (Some(norm), Some(vectors)) = (conv.input, normalise) {
        let x = &types.inputs[0];
        let norm_types = Types {
            inputs: [&types.inputs[..1], &types.inputs[vectors..vectors + 4]].concat(),
            outputs: vec![x.clone()],
        };
        let norm_inputs = [&[first], &inputs[vectors..vectors + 4]].concat();
        first = BatchNormInfer::from(norm).reference(&norm_types, &norm_inputs).remove(0);
    }
    let mut result = sums(conv, &g, [&first, &inputs[1]], bias.map(|bias| &inputs[bias]));
    if let Some(residual) = residual {
        result.iter_mut().zip(&inputs[residual]).for_each(|(y, r)| *y += r);
    }
    let activate = |values: &[f64]| values.iter().map(|z| activated(conv.activation, *z)).collect();
    match conv.output {
        Output::Values => vec![activate(&result)],
        Output::Kept => vec![activate(&result), result],
        Output::Slope(function) => {
            let v = slope.map_or(&[][..], |v| &inputs[v]);
            vec![result.iter().zip(v).map(|(dy, v)| dy * function.slope(*v)).collect()]
        }
        Output::Moments => {
            let [mean, variance] = moments_reference(&result, g.out_channels);
            vec![result, mean, variance]
        }
        Output::NormGrad(norm) => {
            let x = norm_grad.unwrap_or_default();
            let norm_types = Types {
                inputs: [&types.outputs[..1], &types.inputs[x..x + 5]].concat(),
                outputs: types.outputs.clone(),
            };
            BatchNormGrad::from(norm).reference(&norm_types, &[&[result], &inputs[x..x + 5]].concat())
        }
    }
}

/// The sums of products, with the bias.
fn sums(conv: &Conv, g: &ConvGeometry, [a, b]: [&[f64]; 2], bias: Option<&Vec<f64>>) -> Vec<f64> {
    match &conv.pass {
        Pass::Forward => {
            let mut y = vec![0.0; g.batch * g.out_height * g.out_width * g.out_channels];
            if let Some(bias) = bias {
                y.iter_mut().enumerate().for_each(|(i, y)| *y = bias[i % g.out_channels]);
            }
            each_product(g, |x, w, out| y[out] += a[x] * b[w]);
            y
        }
        Pass::InputGrad { x } => {
            let mut dx = vec![0.0; x.len()];
            each_product(g, |x, w, y| dx[x] += a[y] * b[w]);
            dx
        }
        Pass::WeightGrad { w } => {
            let mut dw = vec![0.0; w.len()];
            each_product(g, |x, w, y| dw[w] += a[x] * b[y]);
            dw
        }
    }
}

/// Visits every product of the sum: the indices into x, w and y. The three passes of a convolution
/// are the three ways to read it.
pub fn each_product(g: &ConvGeometry, mut visit: impl FnMut(usize, usize, usize)) {
    let at = |dims: [usize; 3], i: [usize; 4]| ((i[0] * dims[0] + i[1]) * dims[1] + i[2]) * dims[2] + i[3];
    let inside = |out: usize, k: usize, pad: usize, size: usize| {
        (out * g.stride + k).checked_sub(pad).filter(|&position| position < size)
    };
    let (inputs, outputs) = (g.in_channels / g.groups, g.out_channels / g.groups);
    for n in 0..g.batch {
        for (p, q) in pairs(g.out_height, g.out_width) {
            for (i, j) in pairs(g.kernel_height, g.kernel_width) {
                let (Some(y), Some(x)) =
                    (inside(p, i, g.pad_top, g.in_height), inside(q, j, g.pad_left, g.in_width))
                else {
                    continue;
                };
                for (c, o) in pairs(inputs, g.out_channels) {
                    let of_group = o / outputs * inputs;
                    visit(
                        at([g.in_height, g.in_width, g.in_channels], [n, y, x, of_group + c]),
                        at([g.kernel_width, inputs, g.out_channels], [i, j, c, o]),
                        at([g.out_height, g.out_width, g.out_channels], [n, p, q, o]),
                    );
                }
            }
        }
    }
}

fn pairs(a: usize, b: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..a).flat_map(move |i| (0..b).map(move |j| (i, j)))
}
