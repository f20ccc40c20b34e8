//! A depthwise-separable convolution (Howard et al., "MobileNets", 2017): a depthwise
//! [`super::Conv`] and the 1x1 one that follows it, as one op, NHWC:
//!
//! `z = activation(x * w + b)`, every channel by itself;
//! `y[n, p, q, o] = activation'(b'[o] + sum over c  z[n, p, q, c] w'[c, o])`
//!
//! A rule of the CPU puts it there, in inference: z never leaves the cache. A GPU has no shader for
//! it.

use super::{Conv, Padding};
use crate::kernels::conv::{ConvGeometry, needed};
use crate::kernels::matmul::Right;
use crate::kernels::separable::{self, Operands, Separable};
use crate::ops::cpu_step::Pack;
use crate::ops::*;

/// A depthwise convolution and the pointwise one after it. Inputs: x `[N, H, W, C]`, depthwise
/// weights `[KH, KW, 1, C]` and bias `[C]`, pointwise weights `[1, 1, C, O]` and bias `[O]`; output
/// `[N, P, Q, O]`.
#[derive(Clone, Copy, Debug)]
pub struct SeparableConv2d {
    /// Step of the depthwise window in pixels, in both directions.
    pub stride: usize,
    /// How the depthwise convolution's borders are padded.
    pub padding: Padding,
    /// Applied to the depthwise and to the pointwise result.
    pub activations: [Activation; 2],
    /// Whether values of the result's shape are added to it before its activation: one more input.
    pub residual: bool,
}

impl SeparableConv2d {
    /// The two convolutions by themselves, of so many channels.
    fn parts(&self, channels: usize) -> [Conv; 2] {
        let depthwise = Conv::new(self.stride, self.padding, channels).with_bias();
        let pointwise = Conv::new(1, Padding::Symmetric(0), 1).with_bias();
        let [first, second] = self.activations;
        let residual = self.residual;
        [Conv { activation: first, ..depthwise }, Conv { activation: second, residual, ..pointwise }]
    }

    /// The operands of each convolution, from those of both.
    fn part_types(&self, inputs: &[&TensorType]) -> std::result::Result<[Types; 2], String> {
        let (&[x, w, bias, pointwise, out_bias], residual) =
            inputs.split_first_chunk().ok_or("takes x, and weights and bias of both convolutions")?;
        require(!x.dims().is_empty(), "x must be [N, H, W, C]")?;
        let [first, second] = self.parts(x.shape.last());
        let middle = first.output_types(&[x, w, bias])?;
        let operands = [&[&middle[0], pointwise, out_bias], residual].concat();
        let outputs = second.output_types(&operands)?;
        require(
            second.is_pointwise(&middle[0], pointwise),
            "the second convolution must look at one pixel at a time",
        )?;
        let own = |types: &[&TensorType]| types.iter().map(|&ty| ty.clone()).collect();
        let second = Types { inputs: own(&operands), outputs };
        Ok([Types { inputs: own(&[x, w, bias]), outputs: middle }, second])
    }

    fn checked_types(&self, types: &Types) -> [Types; 2] {
        checked(self.part_types(&types.inputs.iter().collect::<Vec<_>>()))
    }

    fn depthwise(&self, types: &Types) -> ConvGeometry {
        let [x, w] = [0, 1].map(|i| types.inputs[i].dims());
        let [depthwise, _] = self.parts(types.inputs[0].shape.last());
        checked(depthwise.geometry(x, w))
    }
}

impl Op for SeparableConv2d {
    fn name(&self) -> &'static str {
        "separable_conv2d"
    }

    fn output_types(&self, inputs: &[&TensorType]) -> Inferred {
        let [_, second] = self.part_types(inputs)?;
        Ok(second.outputs)
    }

    fn cost(&self, types: &Types) -> Cost {
        let flops = |(op, types): (Conv, Types)| op.cost(&types).flops;
        let parts = self.parts(types.inputs[0].shape.last()).into_iter().zip(self.checked_types(types));
        Cost::of(types, parts.map(flops).sum())
    }

    fn tile(&self, types: &Types, axis: Axis, part: Range<usize>) -> Option<Tile> {
        let g = self.depthwise(types);
        match axis {
            Axis::Batch if self.residual => Tile::images(*self, types, axis, &[0, 5], &part),
            Axis::Batch => Tile::images(*self, types, axis, &[0], &part),
            Axis::Rows if g.batch == 1 && !self.residual => {
                let (input, top) = needed(&part, [g.in_height, g.pad_top], g.kernel_height, g.stride)?;
                let padding = Padding::Exact { size: [part.len(), g.out_width], before: [top, g.pad_left] };
                let op = SeparableConv2d { padding, ..*self };
                Some(Tile::new(op, types, axis, &[0], [&input, &part]))
            }
            Axis::Rows => None,
        }
    }

    fn cpu(&self, types: &Types, target: CpuTarget) -> CpuStep {
        let isa = target.isa;
        let g = Separable { depthwise: self.depthwise(types), out_channels: types.outputs[0].shape.last() };
        let (activations, has_residual) = (self.activations, self.residual);
        let (shared, each) = separable::scratch(isa, &g);
        let step = CpuStep::with_scratch(shared + target.threads * each, move |args| {
            let [x, w, bias, pointwise, out_bias] = args.inputs_from(0);
            let pointwise = Right::of(pointwise, args.packed);
            let residual = has_residual.then_some(args.inputs[5]);
            let operands = Operands { x, depthwise: [w, bias], pointwise, bias: out_bias, residual };
            let (y, scratch) = args.output();
            separable::forward(isa, &g, operands, activations, y, scratch);
        });
        let pack = Pack {
            input: 3,
            len: separable::prepared_len(isa, &g),
            run: Box::new(move |weights, packed| separable::prepare(isa, &g, weights, packed)),
        };
        CpuStep { pack: Some(pack), ..step }
    }

    fn gpu(&self, _: &Types) -> Dispatches {
        Dispatches::default()
    }

    fn reference(&self, inputs: &[ArrayViewD<f64>]) -> Vec<ArrayD<f64>> {
        let [depthwise, pointwise] = self.parts(inputs[1].len_of(ndarray::Axis(3)));
        let middle = depthwise.reference(&inputs[..3]);
        pointwise.reference(&[&views(&middle), &inputs[3..]].concat())
    }
}
