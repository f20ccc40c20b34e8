//! Two-dimensional convolution (cross-correlation, as in every framework), NHWC x HWIO:
//!
//! `y[n, p, q, o] = activation(bias[o] + sum over i, j, c  x[n, p s + i - top, q s + j - left, c] w[i, j, c, o])`
//!
//! where x is 0 outside its borders and s is the stride. The activation is there because
//! [`crate::graph::fuse`] puts it there, in inference.

use super::case::{Case, Fill};
use super::conv2d_input_grad::Conv2dInputGrad;
use super::conv2d_weight_grad::Conv2dWeightGrad;
use super::sum_rows::SumRows;
use super::*;
use crate::kernels::conv::{self, Geometry, needed};
use crate::kernels::matmul::Product;
use crate::kernels::winograd;
use crate::tensor::{DType, Shape};

/// How the borders are padded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Padding {
    /// As TensorFlow does: the output has `ceil(size / stride)` pixels, and of an odd amount of padding the
    /// larger half goes to the bottom and right.
    Same,
    /// As PyTorch does: this many zeros on every side.
    Symmetric(usize),
    /// Output size and padding in front, along both dimensions, as a band of another convolution has them ([`Op::band`]).
    Exact { size: [usize; 2], before: [usize; 2] },
}

impl Padding {
    /// Output size, and padding in front, along one dimension: 0 down, 1 across.
    ///
    /// # Errors
    /// If the kernel does not fit the padded input.
    pub fn apply(
        self,
        dimension: usize,
        size: usize,
        kernel: usize,
        stride: usize,
    ) -> std::result::Result<(usize, usize), String> {
        require(stride > 0 && kernel > 0 && size > 0, "sizes, kernel and stride must be positive")?;
        match self {
            Padding::Same => {
                let out = size.div_ceil(stride);
                Ok((out, ((out - 1) * stride + kernel).saturating_sub(size) / 2))
            }
            Padding::Symmetric(pad) => {
                require(
                    kernel <= size + 2 * pad,
                    format_args!("a kernel of {kernel} does not fit a size of {size}"),
                )?;
                Ok(((size + 2 * pad - kernel) / stride + 1, pad))
            }
            Padding::Exact { size, before } => Ok((size[dimension], before[dimension])),
        }
    }
}

/// See the module's documentation. Inputs: x `[N, H, W, C]`, w `[KH, KW, C, O]` and, if there is one, bias
/// `[O]`; output `[N, P, Q, O]`.
#[derive(Clone, Copy, Debug)]
pub struct Conv2d {
    /// Step of the window in pixels, in both directions.
    pub stride: usize,
    /// How the borders are padded.
    pub padding: Padding,
    /// Applied to the result.
    pub activation: Activation,
}

impl Conv2d {
    /// The geometry for an input and weights of these dimensions.
    pub(crate) fn geometry(&self, x: &[usize], w: &[usize]) -> std::result::Result<Geometry, String> {
        let (&[batch, in_height, in_width, in_channels], &[kernel_height, kernel_width, depth, out_channels]) =
            (x, w)
        else {
            return Err("x must be [N, H, W, C] and w [KH, KW, C, O]".into());
        };
        require(
            depth == in_channels,
            format_args!("the weights want {depth} channels, the input has {in_channels}"),
        )?;
        let (out_height, pad_top) = self.padding.apply(0, in_height, kernel_height, self.stride)?;
        let (out_width, pad_left) = self.padding.apply(1, in_width, kernel_width, self.stride)?;
        Ok(Geometry {
            batch,
            in_height,
            in_width,
            in_channels,
            kernel_height,
            kernel_width,
            stride: self.stride,
            pad_top,
            pad_left,
            out_height,
            out_width,
            out_channels,
        })
    }

    pub(crate) fn planned(&self, types: &Types) -> Geometry {
        planned(self.geometry(types.inputs[0].dims(), types.inputs[1].dims()))
    }
}

/// The constants of `shaders/include/conv.wgsl`.
pub(crate) fn constants(g: &Geometry) -> Vec<(&'static str, f64)> {
    let constant = |(name, value): (&'static str, usize)| (name, value as f64);
    [
        ("HEIGHT", g.in_height),
        ("WIDTH", g.in_width),
        ("CHANNELS", g.in_channels),
        ("OUT_HEIGHT", g.out_height),
        ("OUT_WIDTH", g.out_width),
        ("KERNEL_WIDTH", g.kernel_width),
        ("STRIDE", g.stride),
        ("PAD_TOP", g.pad_top),
        ("PAD_LEFT", g.pad_left),
    ]
    .map(constant)
    .to_vec()
}

/// Of a convolution that looks at one pixel at a time and is a product of matrices as they lie in memory: its
/// number of pixels, its input and its output channels.
pub(crate) fn pointwise(g: &Geometry) -> Option<(usize, usize, usize)> {
    let one = g.kernel_height == 1 && g.kernel_width == 1 && g.stride == 1;
    let all = (g.out_height, g.out_width) == (g.in_height, g.in_width);
    (one && all).then_some((g.batch * g.in_height * g.in_width, g.in_channels, g.out_channels))
}

impl Op for Conv2d {
    fn name(&self) -> &'static str {
        "conv2d"
    }

    fn output_types(&self, inputs: &[&TensorType]) -> std::result::Result<Vec<TensorType>, String> {
        require((2..=3).contains(&inputs.len()), "takes x, w and perhaps a bias")?;
        let g = self.geometry(inputs[0].dims(), inputs[1].dims())?;
        let bias_fits = inputs.get(2).is_none_or(|bias| bias.dims() == [g.out_channels]);
        require(bias_fits, "the bias must have one element an output channel")?;
        Ok(vec![TensorType::f32([g.batch, g.out_height, g.out_width, g.out_channels])])
    }

    fn gradient(
        &self,
        graph: &mut Graph,
        node: &Node,
        grads: &[Option<Value>],
        needed: &[bool],
    ) -> Gradients {
        if self.activation != Activation::None {
            let name = format!("conv2d '{}'", node.layer);
            return Err(Error::op(name, "has no gradient with an activation: differentiate before fusing"));
        }
        let Some(dy) = grads[0] else { return Ok(vec![None; node.inputs.len()]) };
        let (x, w) = (node.inputs[0], node.inputs[1]);
        let mut out = vec![None; node.inputs.len()];
        if needed[0] {
            let shape = graph.ty(x).shape.clone();
            out[0] = Some(graph.apply1(Conv2dInputGrad { conv: *self, shape }, &[dy, w])?);
        }
        if needed[1] {
            let shape = graph.ty(w).shape.clone();
            out[1] = Some(graph.apply1(Conv2dWeightGrad { conv: *self, shape }, &[x, dy])?);
        }
        if needed.get(2) == Some(&true) {
            out[2] = Some(graph.apply1(SumRows, &[dy])?);
        }
        Ok(out)
    }

    fn flops(&self, types: &Types) -> u64 {
        self.planned(types).flops()
    }

    fn batched_inputs(&self, types: &Types) -> Option<&'static [usize]> {
        // Winograd's algorithm transforms the weights in every call.
        (!winograd::suits(&self.planned(types))).then_some(&[0])
    }

    fn cpu_scratch(&self, types: &Types, isa: Isa, threads: usize) -> usize {
        let (shared, each) = conv::forward_scratch(isa, &self.planned(types));
        shared + threads * each
    }

    fn cpu_prepared(&self, types: &Types, isa: Isa) -> Option<(usize, usize)> {
        Some((1, conv::prepared_len(isa, &self.planned(types))))
    }

    fn cpu_prepare(&self, types: &Types, isa: Isa, weights: &[f32], prepared: &mut [f32]) {
        conv::prepare(isa, &self.planned(types), weights, prepared);
    }

    fn cpu(&self, types: &Types, args: &mut CpuArgs) {
        self.cpu_with(types, args, None, Epilogue::none());
    }

    fn band(&self, types: &Types, rows: Range<usize>) -> Option<Band> {
        let g = self.planned(types);
        if g.batch > 1 || winograd::suits(&g) {
            return None;
        }
        let (input, top) = needed(&rows, [g.in_height, g.pad_top], g.kernel_height, g.stride)?;
        let padding = Padding::Exact { size: [rows.len(), g.out_width], before: [top, g.pad_left] };
        Some(Band::new(Conv2d { padding, ..*self }, types, input, rows))
    }

    fn cpu_blocks(&self, types: &Types) -> usize {
        conv::forward_blocks(&self.planned(types))
    }

    fn cpu_line_scratch(&self, types: &Types) -> Option<usize> {
        let g = self.planned(types);
        Some(conv::forward_line_scratch(&g))
    }

    fn cpu_with(&self, types: &Types, args: &mut CpuArgs, line: Option<Line>, epilogue: Epilogue) {
        let (isa, w, prepared) = (args.isa, args.input(1), args.prepared);
        let x = Input { x: args.input(0), line };
        let bias = (types.inputs.len() == 3).then(|| args.input(2));
        let (y, scratch) = args.output();
        let out = Output { y, epilogue };
        conv::forward(
            isa,
            &self.planned(types),
            (x, [w, prepared]),
            bias,
            self.activation.clamp(),
            out,
            scratch,
        );
    }

    fn gpu(&self, types: &Types) -> Dispatches {
        let g = self.planned(types);
        let (operands, bias) = ([0, 1].map(Operand::Input), matmul::bias(types));
        let product = match pointwise(&g) {
            Some((m, k, n)) => {
                let product = Product { m, n, k, a_transposed: false, b_transposed: false };
                TiledProduct { activation: self.activation, ..matmul::on_gpu(&product, operands, bias) }
            }
            None => TiledProduct {
                shader: shader!("conv2d", "vec4", "nan", "activation", "epilogue", "tile", "conv"),
                constants: constants(&g),
                a: operands[0],
                b: operands[1],
                bias,
                activation: self.activation,
                rows: g.batch * g.out_height * g.out_width,
                columns: g.out_channels,
                depth: g.kernel_height * g.kernel_width * g.in_channels,
                vectors: [g.in_channels, g.out_channels].map(|run| run.is_multiple_of(4)),
            },
        };
        product.dispatches(Tiling::choose(product.rows, product.columns, product.depth))
    }

    fn reference(&self, types: &Types, inputs: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let g = self.planned(types);
        let mut y = vec![0.0; types.outputs[0].len()];
        if let Some(bias) = inputs.get(2) {
            y.iter_mut().enumerate().for_each(|(i, y)| *y = bias[i % g.out_channels]);
        }
        each_product(&g, |x, w, out| y[out] += inputs[0][x] * inputs[1][w]);
        let (low, high) = self.activation.clamp_f64();
        y.iter_mut().for_each(|y| *y = y.clamp(low, high));
        vec![y]
    }
}

/// Visits every product of the sum: the indices into x, w and y. The three directions of the convolution
/// are the three ways to read it.
pub(crate) fn each_product(g: &Geometry, mut visit: impl FnMut(usize, usize, usize)) {
    let at = |dims: [usize; 3], i: [usize; 4]| ((i[0] * dims[0] + i[1]) * dims[1] + i[2]) * dims[2] + i[3];
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
                for (c, o) in pairs(g.in_channels, g.out_channels) {
                    visit(
                        at([g.in_height, g.in_width, g.in_channels], [n, y, x, c]),
                        at([g.kernel_width, g.in_channels, g.out_channels], [i, j, c, o]),
                        at([g.out_height, g.out_width, g.out_channels], [n, p, q, o]),
                    );
                }
            }
        }
    }
}

pub(crate) fn pairs(a: usize, b: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..a).flat_map(move |i| (0..b).map(move |j| (i, j)))
}

/// Convolutions that between them reach every border case: sizes that are no multiple of a tile, strides
/// with and without leftover pixels, kernels smaller than the stride, one channel, channels equal to size.
pub(crate) fn geometries() -> Vec<(Conv2d, Shape, Shape)> {
    vec![
        conv([2, 8, 8, 3], [3, 3], 32, 1, Padding::Same),
        conv([3, 5, 7, 4], [3, 3], 10, 1, Padding::Same),
        conv([2, 8, 8, 8], [3, 3], 8, 2, Padding::Same),
        conv([2, 7, 7, 5], [3, 3], 6, 2, Padding::Symmetric(1)),
        conv([17, 4, 4, 2], [3, 3], 40, 1, Padding::Symmetric(1)),
        conv([2, 6, 5, 3], [1, 1], 4, 2, Padding::Same),
        conv([3, 5, 4, 7], [1, 1], 37, 1, Padding::Same),
        conv([2, 3, 3, 140], [1, 1], 120, 1, Padding::Symmetric(0)),
        conv([2, 9, 9, 2], [5, 4], 3, 3, Padding::Symmetric(2)),
        conv([1, 4, 4, 1], [2, 2], 1, 1, Padding::Symmetric(0)),
        conv([2, 3, 3, 2], [5, 5], 3, 1, Padding::Same),
        // For Winograd's algorithm: parts of tiles, channels that fill no vector or no block, many images.
        conv([1, 4, 4, 16], [3, 3], 16, 1, Padding::Same),
        conv([2, 9, 7, 17], [3, 3], 18, 1, Padding::Same),
        conv([1, 5, 10, 33], [3, 3], 70, 1, Padding::Symmetric(2)),
        conv([40, 3, 5, 16], [3, 3], 20, 1, Padding::Symmetric(0)),
    ]
}

/// Convolutions too large for numerical gradients: on a GPU, several tiles in both directions of one of the three
/// products and two slices of its depth, with and without vectors; on a CPU, two blocks of input channels, and weights that
/// are added up in two parts.
pub(crate) fn large_geometries() -> Vec<(Conv2d, Shape, Shape)> {
    vec![
        conv([2, 9, 11, 32], [3, 3], 36, 1, Padding::Same),
        conv([2, 13, 23, 8], [3, 3], 12, 1, Padding::Symmetric(1)),
        conv([2, 25, 24, 3], [3, 3], 9, 2, Padding::Same),
        conv([2, 12, 12, 34], [1, 1], 17, 1, Padding::Same),
        conv([2, 5, 6, 70], [3, 3], 20, 1, Padding::Same),
        conv([2, 5, 5, 40], [3, 3], 24, 2, Padding::Same),
    ]
}

fn conv(
    x: [usize; 4],
    kernel: [usize; 2],
    out: usize,
    stride: usize,
    padding: Padding,
) -> (Conv2d, Shape, Shape) {
    (
        Conv2d { stride, padding, activation: Activation::None },
        Shape::from(x),
        Shape::from([kernel[0], kernel[1], x[3], out]),
    )
}

/// Test cases of this op.
pub fn cases() -> Vec<Case> {
    let case = |(op, x, w): (Conv2d, Shape, Shape), bias: bool| {
        let channels = w.last();
        let fill = |shape| (TensorType { shape, dtype: DType::F32 }, Fill::Uniform(-1.0, 1.0));
        let mut inputs = vec![fill(x), fill(w)];
        if bias {
            inputs.push(fill([channels].into()));
        }
        Case::new(op, inputs)
    };
    let linear = geometries().into_iter().enumerate().map(|(i, geometry)| match i % 2 {
        0 => case(geometry, true).differentiable(&[0, 1, 2]),
        _ => case(geometry, false).differentiable(&[0, 1]),
    });
    let all = || geometries().into_iter().chain(large_geometries());
    let fused = all().enumerate().map(|(i, (op, x, w))| {
        let activation = if i % 2 == 0 { Activation::Relu } else { Activation::Relu6 };
        case((Conv2d { activation, ..op }, x, w), i % 3 != 0)
    });
    linear.chain(large_geometries().into_iter().map(|geometry| case(geometry, true))).chain(fused).collect()
}
