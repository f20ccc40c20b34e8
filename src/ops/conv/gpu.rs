//! Convolutions on a GPU.
//!
//! What is gathered from the output is so where a single launch computes it. Other convolutions
//! have no shader for that, and no rule of the GPU asks for them.

use super::{Conv, ConvGeometry, OperandIndices, Output, Pass};
use crate::kernels::matmul::Product;
use crate::kernels::pointwise;
use crate::ops::Types;
use crate::ops::dispatch::{
    Dispatch, Dispatches, GROUP, Operand, Reduction, Shader, each_value, shader, wide_shader, width,
};
use crate::ops::linear::matmul;
use crate::ops::linear::tile::{
    Epilogue, Gather, NOTHING_KEPT, Partials, TiledProduct, Tiling, sum_partials,
};
use crate::ops::norm::batch_norm_grad::BatchNormGrad;
use crate::ops::norm::batch_norm_infer::Normalise;
use crate::ops::norm::moments::total_moments;
use crate::ops::norm::scale_shift::Scaled;

/// The op's launches; none for a convolution that only a CPU can compute.
pub fn dispatches(conv: &Conv, types: &Types) -> Dispatches {
    if Scaled::constants(conv.input).is_none() {
        return Dispatches::default();
    }
    let g = conv.checked_geometry(types);
    let OperandIndices { bias, scale_shift, residual, slope, .. } = conv.operands();
    let input = conv.input.zip(scale_shift.map(Operand::Input));
    let slope = match conv.output {
        Output::Slope(function) => slope.map(|v| (function, Operand::Input(v))),
        _ => None,
    };
    let epilogue = Epilogue {
        bias: bias.map(Operand::Input),
        residual: residual.map(Operand::Input),
        kept: (conv.output == Output::Kept).then_some(Operand::Output(1)),
        activation: conv.activation,
        slope,
    };
    match (conv.output, g.is_depthwise()) {
        (Output::Moments, true) => return depthwise_with_moments(&g, input, epilogue).unwrap_or_default(),
        (Output::NormGrad(_), true) => return Dispatches::default(),
        (Output::Moments, false) => {
            return with_moments(&TiledProduct { epilogue, input, ..forward(&g) }).unwrap_or_default();
        }
        (Output::NormGrad(norm), false) => {
            let first = conv.operands().norm_grad.unwrap_or_default();
            let operands = std::array::from_fn(|i| Operand::Input(first + i));
            return norm_grad(&g, norm, operands).unwrap_or_default();
        }
        _ => {}
    }
    match (&conv.pass, g.is_depthwise()) {
        (Pass::Forward, false) => tiled(TiledProduct { epilogue, input, ..forward(&g) }),
        (Pass::InputGrad { .. }, false) => input_grad(&g, epilogue),
        (Pass::WeightGrad { .. }, false) => tiled(TiledProduct { input, ..weight_grad(&g) }),
        (Pass::Forward, true) => depthwise_forward(&g, input, epilogue, None),
        (Pass::InputGrad { .. }, true) => depthwise_input_grad(&g, epilogue),
        (Pass::WeightGrad { .. }, true) => depthwise_weight_grad(&g, input, types),
    }
}

const OPERANDS: [Operand; 2] = [Operand::Input(0), Operand::Input(1)];

/// Normalisation of x as it is read, and the operand with its scales and shifts.
type Input = Option<(Scaled, Operand)>;

fn scaled_constants(input: Input) -> Vec<(&'static str, f64)> {
    Scaled::constants(input.map(|(scaled, _)| scaled)).unwrap_or_default().to_vec()
}

fn numbers<const N: usize>(named: [(&'static str, usize); N]) -> Vec<(&'static str, f64)> {
    named.map(|(name, value)| (name, value as f64)).to_vec()
}

/// The constants of `shaders/include/conv.wgsl`.
fn constants(g: &ConvGeometry) -> Vec<(&'static str, f64)> {
    numbers([
        ("HEIGHT", g.in_height),
        ("WIDTH", g.in_width),
        ("CHANNELS", g.in_channels),
        ("OUT_HEIGHT", g.out_height),
        ("OUT_WIDTH", g.out_width),
        ("KERNEL_WIDTH", g.kernel_width),
        ("STRIDE", g.stride),
        ("PAD_TOP", g.pad_top),
        ("PAD_LEFT", g.pad_left),
    ])
}

fn tiled(product: TiledProduct) -> Dispatches {
    product.dispatches(Tiling::choose(product.rows, product.columns, product.depth))
}

/// [`Output::Moments`].
fn with_moments(product: &TiledProduct) -> Option<Dispatches> {
    let tiling = Tiling::choose(product.rows, product.columns, product.depth);
    let (mut work, reduction) = product.gathering(tiling, Gather::Moments)?;
    work.list.push(total_moments(reduction, product.columns, [1, 2]));
    Some(work)
}

/// [`Output::NormGrad`], of x, scales and shifts, mean and variance.
fn norm_grad(g: &ConvGeometry, norm: Normalise, operands: [Operand; 4]) -> Option<Dispatches> {
    let [x, scale_shift, mean, _] = operands;
    let (product, tiling) = match pointwise::input_gradient(g) {
        Some(product) => {
            (matmul::on_gpu(&product, OPERANDS), Tiling::choose(product.m, product.n, product.k))
        }
        None => {
            let product = phase(g, Epilogue::default(), 0, 0).filter(|_| g.stride == 1)?;
            let tiling = Tiling::choose_whole(product.rows, product.columns, product.depth);
            (product, tiling)
        }
    };
    let gather = Gather::NormGrad { activation: norm.activation, x, scale_shift, mean };
    let (work, reduction) = product.gathering(tiling, gather)?;
    Some(BatchNormGrad::from(norm).finish_gathered(work, reduction, operands))
}

fn forward(g: &ConvGeometry) -> TiledProduct {
    if let Some(product) = pointwise::forward(g) {
        return matmul::on_gpu(&product, OPERANDS);
    }
    TiledProduct {
        shader: shader!("conv2d"),
        constants: constants(g),
        a: OPERANDS[0],
        b: OPERANDS[1],
        input: None,
        epilogue: Epilogue::default(),
        count: 1,
        rows: g.batch * g.out_height * g.out_width,
        columns: g.out_channels,
        depth: g.kernel_height * g.kernel_width * g.in_channels,
        vectors: [g.in_channels, g.out_channels].map(|run| run.is_multiple_of(4)),
    }
}

fn weight_grad(g: &ConvGeometry) -> TiledProduct {
    if let Some(Product { m, n, k, .. }) = pointwise::forward(g) {
        let product = Product { m: k, n, k: m, a_transposed: true, b_transposed: false };
        return matmul::on_gpu(&product, OPERANDS);
    }
    TiledProduct {
        shader: shader!("conv2d_weight_grad"),
        constants: constants(g),
        a: OPERANDS[0],
        b: OPERANDS[1],
        input: None,
        epilogue: Epilogue::default(),
        count: 1,
        rows: g.kernel_height * g.kernel_width * g.in_channels,
        columns: g.out_channels,
        depth: g.batch * g.out_height * g.out_width,
        vectors: [g.in_channels, g.out_channels].map(|run| run.is_multiple_of(4)),
    }
}

fn input_grad(g: &ConvGeometry, epilogue: Epilogue) -> Dispatches {
    if let Some(product) = pointwise::input_gradient(g) {
        return tiled(TiledProduct { epilogue, ..matmul::on_gpu(&product, OPERANDS) });
    }
    let phases = (0..g.stride * g.stride).filter_map(|i| phase(g, epilogue, i / g.stride, i % g.stride));
    let list = phases.flat_map(|product| {
        let tiling = Tiling::choose_whole(product.rows, product.columns, product.depth);
        product.dispatches(tiling).list
    });
    Dispatches { scratch: vec![NOTHING_KEPT], list: list.collect() }
}

/// In one dimension, the pixels of x that meet weights `i`, `i + stride`, ... of a kernel.
struct StridePhase {
    /// The first of those pixels.
    first: usize,
    pixels: usize,
    /// How many of those weights there are.
    weights: usize,
    /// The output pixel that the first pixel met weight `i` for.
    output: usize,
}

impl StridePhase {
    fn new(i: usize, stride: usize, pad: usize, size: usize, kernel: usize) -> StridePhase {
        let first = (i + stride - pad % stride) % stride;
        StridePhase {
            first,
            pixels: size.saturating_sub(first).div_ceil(stride),
            weights: kernel.saturating_sub(i).div_ceil(stride),
            output: (first + pad).saturating_sub(i) / stride,
        }
    }
}

/// The gradient of the pixels that meet weight (i, j); none if there are no such pixels. Where
/// there are no such weights either, it is a product of depth 0.
fn phase(g: &ConvGeometry, epilogue: Epilogue, i: usize, j: usize) -> Option<TiledProduct> {
    let y = StridePhase::new(i, g.stride, g.pad_top, g.in_height, g.kernel_height);
    let x = StridePhase::new(j, g.stride, g.pad_left, g.in_width, g.kernel_width);
    let constants = numbers([
        ("HEIGHT", g.in_height),
        ("WIDTH", g.in_width),
        ("OUT_HEIGHT", g.out_height),
        ("OUT_WIDTH", g.out_width),
        ("OUT_CHANNELS", g.out_channels),
        ("KERNEL_WIDTH", g.kernel_width),
        ("STRIDE", g.stride),
        ("PHASE_HEIGHT", y.pixels),
        ("PHASE_WIDTH", x.pixels),
        ("FIRST_Y", y.first),
        ("FIRST_X", x.first),
        // The shader divides by it.
        ("PHASE_KERNEL_WIDTH", x.weights.max(1)),
        ("FIRST_I", i),
        ("FIRST_J", j),
        ("TOP", y.output),
        ("LEFT", x.output),
    ]);
    (y.pixels > 0 && x.pixels > 0).then(|| TiledProduct {
        shader: shader!("conv2d_input_grad"),
        constants,
        a: OPERANDS[0],
        b: OPERANDS[1],
        input: None,
        epilogue,
        count: 1,
        rows: g.batch * y.pixels * x.pixels,
        columns: g.in_channels,
        depth: y.weights * x.weights * g.out_channels,
        vectors: [g.out_channels.is_multiple_of(4); 2],
    })
}

/// The constants of `shaders/include/depthwise.wgsl`.
fn depthwise_constants(g: &ConvGeometry) -> Vec<(&'static str, f64)> {
    numbers([
        ("HEIGHT", g.in_height),
        ("WIDTH", g.in_width),
        ("OUT_HEIGHT", g.out_height),
        ("OUT_WIDTH", g.out_width),
        ("KERNEL_HEIGHT", g.kernel_height),
        ("KERNEL_WIDTH", g.kernel_width),
        ("STRIDE", g.stride),
        ("PAD_TOP", g.pad_top),
        ("PAD_LEFT", g.pad_left),
    ])
}

/// [`Output::Moments`]: those of a workgroup's pixels, where these are the same for all channels.
fn depthwise_with_moments(g: &ConvGeometry, input: Input, epilogue: Epilogue) -> Option<Dispatches> {
    let (channels, columns) = (g.in_channels, g.in_channels / 4);
    let whole = channels.is_multiple_of(4) && g.out_width.is_multiple_of(4);
    if !whole || !columns.is_power_of_two() || columns > GROUP {
        return None;
    }
    let rows = g.batch * g.out_height * g.out_width;
    let span = 4 * GROUP / columns;
    let reduction = Reduction::in_blocks(rows, channels, span);
    let mut work = depthwise_forward(g, input, epilogue, Some(span));
    work.scratch = vec![reduction.partial(2, channels)];
    work.list.push(total_moments(reduction, channels, [1, 2]));
    Some(work)
}

/// Pixels of a workgroup are those whose moments are gathered, if they are.
fn depthwise_forward(
    g: &ConvGeometry,
    input: Input,
    epilogue: Epilogue,
    gathered: Option<usize>,
) -> Dispatches {
    let columns = g.in_channels / width(g.in_channels);
    let [x, w] = OPERANDS;
    let shader = wide_shader!(g.in_channels, "depthwise_conv2d");
    let [bias, other, kept] = epilogue.bindings(w, Operand::Scratch(0));
    let scale_shift = input.map_or(w, |(_, both)| both);
    let bindings = vec![x, w, Operand::Output(0), other, kept, bias, scale_shift];
    let mut constants = scaled_constants(input);
    constants.push(("GATHER", f64::from(gathered.is_some())));
    constants.push(("SPAN", gathered.unwrap_or(1) as f64));
    let fours = g.batch * g.out_height * g.out_width.div_ceil(4);
    depthwise_values(g, shader, fours * columns, [epilogue.constants(), constants].concat(), bindings)
}

fn depthwise_input_grad(g: &ConvGeometry, epilogue: Epilogue) -> Dispatches {
    let columns = g.in_channels / width(g.in_channels);
    let fours = g.in_width.div_ceil(4 * g.stride) * g.stride;
    let [dy, w] = OPERANDS;
    let shader = wide_shader!(g.in_channels, "depthwise_conv2d_input_grad");
    let [_, other, kept] = epilogue.bindings(w, Operand::Scratch(0));
    let bindings = vec![dy, w, Operand::Output(0), other, kept];
    depthwise_values(g, shader, g.batch * g.in_height * fours * columns, epilogue.constants(), bindings)
}

/// A launch of a depthwise shader with so many invocations, and constants of its own.
fn depthwise_values(
    g: &ConvGeometry,
    shader: Shader,
    invocations: usize,
    own: Vec<(&'static str, f64)>,
    bindings: Vec<Operand>,
) -> Dispatches {
    let mut constants = depthwise_constants(g);
    constants.push(("COLUMNS", (g.in_channels / width(g.in_channels)) as f64));
    constants.extend(own);
    let launch = each_value(shader, invocations, &constants, bindings);
    Dispatches { scratch: vec![NOTHING_KEPT], ..launch }
}

fn depthwise_weight_grad(g: &ConvGeometry, input: Input, types: &Types) -> Dispatches {
    let reduction = Reduction::new(&types.inputs[1]);
    let (length, blocks) = (types.outputs[0].len(), reduction.blocks());
    let [x, y, _] = reduction.block_groups();
    let squares = g.kernel_height.div_ceil(3) * g.kernel_width.div_ceil(3);
    let mut constants = reduction.constants();
    constants.extend(depthwise_constants(g));
    constants.extend(scaled_constants(input));
    let scale_shift = input.map_or(OPERANDS[1], |(_, both)| both);
    let products = |to| Dispatch {
        shader: wide_shader!(g.in_channels, "depthwise_conv2d_weight_grad"),
        entry: "main",
        constants,
        bindings: vec![OPERANDS[0], OPERANDS[1], to, scale_shift],
        groups: [x, y, squares as u32],
    };
    if blocks == 1 {
        return Dispatches::from(products(Operand::Output(0)));
    }
    let partials = Partials { slices: blocks, length, columns: g.in_channels, at: 1 };
    let list = vec![products(Operand::Scratch(1)), sum_partials(partials, Epilogue::default())];
    Dispatches { scratch: vec![NOTHING_KEPT, blocks * length], list }
}
