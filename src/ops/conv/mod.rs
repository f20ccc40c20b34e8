//! Two-dimensional convolution (cross-correlation, as in every framework), NHWC x HWIO, and its two
//! gradients:
//!
//! `y[n, p, q, o] = sum over r, s, k  x[n, i, j, c] w[r, s, k, o]`
//!
//! where `i = p stride + r - top`, `j = q stride + s - left`, and k counts the input channels c of
//! the group of output channel o; x is 0 outside its borders. One group is the usual convolution;
//! as many as there are channels the depthwise one of Howard et al., "MobileNets" (2017).
//!
//! All three passes are one op, [`Conv`], because they are the three ways to read one sum of
//! products `x w -> y` (`reference::each_product`). What a device may do on the way in or out of
//! one is data: the input can be normalised as it is read ([`Conv::input`]); the output can get a
//! bias and an activation, or be handed block by block to what comes next ([`Output`]).
//!
//! - `cpu`: the kernels of [`crate::kernels::conv`] and [`crate::kernels::depthwise`].
//! - `gpu`: the shaders.
//! - `reference`: the specification in `f64`.

mod cpu;
mod gpu;
pub(super) mod reference;
pub mod separable_conv2d;

use std::fmt::Formatter;

use crate::kernels::conv::{ConvGeometry, needed};
use crate::kernels::pointwise;
use crate::ops::linear::sum_rows::SumRows;
use crate::ops::norm::batch_norm::per_channel;
use crate::ops::norm::batch_norm_grad::BatchNormGrad;
use crate::ops::norm::batch_norm_infer::Normalise;
use crate::ops::norm::scale_shift::Scaled;
use crate::ops::*;
use crate::tensor::Shape;

/// How the borders are padded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Padding {
    /// TensorFlow's "same": the output has `ceil(size / stride)` pixels, and of an odd amount of
    /// padding the larger half goes to the bottom and right.
    Same,
    /// PyTorch's: this many zeros on every side.
    Symmetric(usize),
    /// Output size and padding in front, along both dimensions, as a tile of another convolution
    /// has them ([`Op::tile`]).
    Exact {
        /// Rows and columns of y.
        size: [usize; 2],
        /// Rows of zeros above x, columns to the left of it.
        before: [usize; 2],
    },
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
        if let Padding::Exact { size, before } = self {
            return Ok((size[dimension], before[dimension]));
        }
        // One window is what every larger stride leaves, too.
        let most = size.max(kernel);
        require(stride <= most, format_args!("a stride of {stride} is larger than {most}, kernel and size"))?;
        let Padding::Symmetric(pad) = self else {
            let out = size.div_ceil(stride);
            return Ok((out, ((out - 1) * stride + kernel).saturating_sub(size) / 2));
        };
        // Every window meets x.
        require(pad < kernel, format_args!("a padding of {pad} is not below a kernel of {kernel}"))?;
        require(
            kernel <= size + 2 * pad,
            format_args!("a kernel of {kernel} does not fit a size of {size}"),
        )?;
        Ok(((size + 2 * pad - kernel) / stride + 1, pad))
    }
}

/// Which of the three: `x w -> y`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Pass {
    /// y from x `[N, H, W, C]` and w `[KH, KW, C / groups, O]`.
    Forward,
    /// dx, of this shape, from dy `[N, P, Q, O]` and w: the transposed convolution.
    InputGrad {
        /// The shape of x.
        x: Shape,
    },
    /// dw, of this shape, from x and dy.
    WeightGrad {
        /// The shape of w.
        w: Shape,
    },
}

/// Use of the result as it is written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Output {
    /// It is the only output.
    Values,
    /// The value before the activation is another output, which the activation's gradient needs.
    Kept,
    /// It is the gradient of the output of this function, and becomes that of what the function
    /// took. One more input, v: what the function's slope is one of ([`Function::slope_of`]).
    Slope(Function),
    /// Its mean and biased variance over every channel are two more outputs `[O]`: the first half
    /// of a batch normalisation.
    Moments,
    /// It is the gradient of the output of a batch normalisation, and becomes that of what the
    /// normalisation took, x, with dgamma and dbeta `[C]` for two more outputs. Four more inputs:
    /// x `[N, H, W, C]`, scales and shifts `[2, C]` of the normalisation
    /// ([`crate::ops::norm::scale_shift`]), its mean and variance `[C]`.
    NormGrad(Normalise),
}

/// A convolution. Inputs: the two of its [`Pass`]; a bias `[O]`, if there is one; scales and shifts
/// `[2, C]` of the normalisation of x, if there is one; the residual, if there is one; those of
/// [`Output`].
#[derive(Clone, PartialEq)]
pub struct Conv {
    /// Which product.
    pub pass: Pass,
    /// Step of the window in pixels, in both directions.
    pub stride: usize,
    /// How the borders are padded.
    pub padding: Padding,
    /// Channels are cut into so many groups: 1, or the number of channels.
    pub groups: usize,
    /// Whether a bias is added to y.
    pub bias: bool,
    /// Whether values of the result's shape are added to it, after the bias.
    pub residual: bool,
    /// Applied to y last.
    pub activation: Activation,
    /// Normalisation of x as it is read: [`crate::ops::norm::scale_shift`]. The padding is 0 behind
    /// that.
    pub input: Option<Scaled>,
    /// Use of the result.
    pub output: Output,
}

/// Only what is not as in a plain forward convolution, but for the window.
impl Debug for Conv {
    fn fmt(&self, f: &mut Formatter) -> std::fmt::Result {
        let Conv { pass, stride, padding, groups, bias, residual, activation, input, output } = self;
        let mut fields = f.debug_struct("Conv");
        if *pass != Pass::Forward {
            fields.field("pass", pass);
        }
        fields.field("stride", stride).field("padding", padding);
        if *groups != 1 {
            fields.field("groups", groups);
        }
        if *bias {
            fields.field("bias", bias);
        }
        if *residual {
            fields.field("residual", residual);
        }
        if let Some(function) = activation {
            fields.field("activation", function);
        }
        if let Some(input) = input {
            fields.field("input", input);
        }
        if *output != Output::Values {
            fields.field("output", output);
        }
        fields.finish()
    }
}

/// Numbers of the inputs behind the first two.
pub(super) struct OperandIndices {
    bias: Option<usize>,
    /// Scales and shifts of the normalisation of x.
    scale_shift: Option<usize>,
    residual: Option<usize>,
    /// v of [`Output::Slope`].
    slope: Option<usize>,
    /// x of [`Output::NormGrad`]; scales and shifts, mean and variance follow.
    norm_grad: Option<usize>,
    count: usize,
}

impl Conv {
    /// A plain forward convolution without a bias.
    pub fn new(stride: usize, padding: Padding, groups: usize) -> Conv {
        let (pass, output) = (Pass::Forward, Output::Values);
        let (activation, input) = (None, None);
        Conv { pass, stride, padding, groups, bias: false, residual: false, activation, input, output }
    }

    /// The same with a bias.
    pub fn with_bias(self) -> Conv {
        Conv { bias: true, ..self }
    }

    fn operands(&self) -> OperandIndices {
        let mut count = 2;
        let mut take = |wanted: bool, inputs: usize| {
            let first = count;
            count += if wanted { inputs } else { 0 };
            wanted.then_some(first)
        };
        let bias = take(self.bias, 1);
        let scale_shift = take(self.input.is_some(), 1);
        let residual = take(self.residual, 1);
        let slope = take(matches!(self.output, Output::Slope(_)), 1);
        let norm_grad = take(matches!(self.output, Output::NormGrad(_)), 4);
        OperandIndices { bias, scale_shift, residual, slope, norm_grad, count }
    }

    /// The geometry for x and w of these dimensions.
    pub(crate) fn geometry(&self, x: &[usize], w: &[usize]) -> std::result::Result<ConvGeometry, String> {
        let (&[batch, in_height, in_width, in_channels], &[kernel_height, kernel_width, depth, out_channels]) =
            (x, w)
        else {
            return Err("x must be [N, H, W, C] and w [KH, KW, C / groups, O]".into());
        };
        let (stride, groups) = (self.stride, self.groups);
        require(
            groups == 1 || groups > 0 && groups == in_channels && groups == out_channels,
            format_args!("groups must be 1 or the number of channels, not {groups}"),
        )?;
        require(
            depth * groups == in_channels,
            format_args!("the weights want {} channels, the input has {in_channels}", depth * groups),
        )?;
        let (out_height, pad_top) = self.padding.apply(0, in_height, kernel_height, stride)?;
        let (out_width, pad_left) = self.padding.apply(1, in_width, kernel_width, stride)?;
        Ok(ConvGeometry {
            batch,
            in_height,
            in_width,
            in_channels,
            kernel_height,
            kernel_width,
            stride,
            pad_top,
            pad_left,
            out_height,
            out_width,
            out_channels,
            groups,
        })
    }

    /// The geometry for first two inputs of these dimensions.
    fn geometry_of(&self, first: &[usize], second: &[usize]) -> std::result::Result<ConvGeometry, String> {
        match &self.pass {
            Pass::Forward => self.geometry(first, second),
            Pass::InputGrad { x } => self.geometry(x.dims(), second),
            Pass::WeightGrad { w } => self.geometry(first, w.dims()),
        }
    }

    /// The geometry of a node that the shape rule has accepted.
    fn checked_geometry(&self, types: &Types) -> ConvGeometry {
        checked(self.geometry_of(types.inputs[0].dims(), types.inputs[1].dims()))
    }

    /// Whether it looks at one pixel at a time, with inputs of these types.
    pub(crate) fn is_pointwise(&self, x: &TensorType, w: &TensorType) -> bool {
        self.geometry(x.dims(), w.dims()).is_ok_and(|g| pointwise::forward(&g).is_some())
    }

    /// Checks the inputs behind the first two, for a result of this type.
    fn check_more(&self, g: &ConvGeometry, inputs: &[&TensorType], result: &TensorType) -> Inferred {
        let OperandIndices { bias, scale_shift, residual, slope, norm_grad, .. } = self.operands();
        let forward = self.pass == Pass::Forward;
        require(
            forward || !self.bias && self.activation.is_none(),
            "only a forward convolution has a bias and an activation",
        )?;
        if let Some(bias) = bias {
            let fits = inputs[bias].dims() == [g.out_channels];
            require(fits, "the bias must have one element an output channel")?;
        }
        if let Some(scale_shift) = scale_shift {
            let reads_x = !matches!(self.pass, Pass::InputGrad { .. });
            require(reads_x, "the gradient of the input has no x that could be normalised")?;
            let fits = inputs[scale_shift].dims() == [2, g.in_channels];
            require(fits, "scales and shifts must have one element an input channel")?;
        }
        if let Some(residual) = residual {
            let values = matches!(self.output, Output::Values | Output::Kept);
            require(values && inputs[residual] == result, "the residual must have the shape of the result")?;
        }
        let channels = TensorType::f32([result.shape.last()]);
        let is_gradient = matches!(self.pass, Pass::InputGrad { .. });
        match (self.output, norm_grad) {
            (Output::NormGrad(_), Some(first)) => {
                require(is_gradient && inputs[first] == result, "x must have the shape of the gradient")?;
                let fits = inputs[first + 1].dims() == [2, result.shape.last()];
                require(fits, "scales and shifts must have one element a channel")?;
                per_channel(result, &inputs[first + 2..first + 4])?;
                Ok(vec![result.clone(), channels.clone(), channels])
            }
            (Output::Moments, _) => {
                require(forward && self.activation.is_none(), "only y itself has moments")?;
                Ok(vec![result.clone(), channels.clone(), channels])
            }
            (Output::Kept, _) => {
                require(forward, "only a forward convolution has an activation")?;
                Ok(vec![result.clone(), result.clone()])
            }
            (Output::Slope(_), _) => {
                let fits = slope.is_some_and(|v| is_gradient && inputs[v] == result);
                require(fits, "v must have the shape of the gradient")?;
                Ok(vec![result.clone()])
            }
            _ => Ok(vec![result.clone()]),
        }
    }
}

impl Op for Conv {
    fn name(&self) -> &'static str {
        match (&self.pass, self.groups) {
            (Pass::Forward, 1) => "conv2d",
            (Pass::InputGrad { .. }, 1) => "conv2d_input_grad",
            (Pass::WeightGrad { .. }, 1) => "conv2d_weight_grad",
            (Pass::Forward, _) => "grouped_conv2d",
            (Pass::InputGrad { .. }, _) => "grouped_conv2d_input_grad",
            (Pass::WeightGrad { .. }, _) => "grouped_conv2d_weight_grad",
        }
    }

    fn output_types(&self, inputs: &[&TensorType]) -> Inferred {
        let count = self.operands().count;
        require(inputs.len() == count, format_args!("takes {count} inputs, not {}", inputs.len()))?;
        all_floats(inputs)?;
        let g = self.geometry_of(inputs[0].dims(), inputs[1].dims())?;
        let y = [g.batch, g.out_height, g.out_width, g.out_channels];
        let fits = |dy: &TensorType| require(dy.dims() == y, "dy has another shape than y");
        let result = match &self.pass {
            Pass::Forward => TensorType::f32(y),
            Pass::InputGrad { x } => fits(inputs[0]).map(|()| TensorType::f32(x.clone()))?,
            Pass::WeightGrad { w } => fits(inputs[1]).map(|()| TensorType::f32(w.clone()))?,
        };
        self.check_more(&g, inputs, &result)
    }

    fn gradient(
        &self,
        graph: &mut Graph,
        node: &Node,
        grads: &[Option<Value>],
        needed: &[bool],
    ) -> Gradients {
        let plain = Conv { bias: false, ..self.clone() };
        if plain != Conv::new(self.stride, self.padding, self.groups) {
            let name = format!("{} '{}'", self.name(), node.layer);
            return Err(Error::op(name, "has a gradient only as it is before fusion"));
        }
        let Some(dy) = grads[0] else { return Ok(vec![None; node.inputs.len()]) };
        let (x, w) = (node.inputs[0], node.inputs[1]);
        let mut out = vec![None; node.inputs.len()];
        if needed[0] {
            let pass = Pass::InputGrad { x: graph.ty(x).shape.clone() };
            out[0] = Some(graph.apply1(Conv { pass, ..plain.clone() }, &[dy, w])?);
        }
        if needed[1] {
            let pass = Pass::WeightGrad { w: graph.ty(w).shape.clone() };
            out[1] = Some(graph.apply1(Conv { pass, ..plain }, &[x, dy])?);
        }
        if needed.get(2) == Some(&true) {
            out[2] = Some(graph.apply1(SumRows, &[dy])?);
        }
        Ok(out)
    }

    fn cost(&self, types: &Types) -> Cost {
        Cost::of(types, self.checked_geometry(types).flops())
    }

    fn tile(&self, types: &Types, axis: Axis, part: Range<usize>) -> Option<Tile> {
        if self.pass != Pass::Forward || self.output != Output::Values {
            return None;
        }
        let g = self.checked_geometry(types);
        match axis {
            Axis::Batch => match self.operands().residual {
                None => Tile::images(self.clone(), types, axis, &[0], &part),
                Some(2) => Tile::images(self.clone(), types, axis, &[0, 2], &part),
                Some(3) => Tile::images(self.clone(), types, axis, &[0, 3], &part),
                Some(_) => None,
            },
            Axis::Rows if g.batch == 1 && !self.residual => {
                let (input, top) = needed(&part, [g.in_height, g.pad_top], g.kernel_height, g.stride)?;
                let padding = Padding::Exact { size: [part.len(), g.out_width], before: [top, g.pad_left] };
                let op = Conv { padding, ..self.clone() };
                Some(Tile::new(op, types, axis, &[0], [&input, &part]))
            }
            Axis::Rows => None,
        }
    }

    fn cpu(&self, types: &Types, target: CpuTarget) -> CpuStep {
        cpu::step(self, types, target)
    }

    fn gpu(&self, types: &Types) -> Dispatches {
        gpu::dispatches(self, types)
    }

    fn reference(&self, inputs: &[ArrayViewD<f64>]) -> Vec<ArrayD<f64>> {
        reference::outputs(self, inputs)
    }
}
