//! A depthwise-separable convolution (Howard et al., "MobileNets", 2017): a [`super::depthwise_conv2d`] and the 1x1
//! [`super::conv2d`] that follows it, as one op, NHWC:
//!
//! `z = activation(x * w + b)`, every channel by itself; `y[n, p, q, o] = activation'(b'[o] + sum over c  z[n, p, q, c] w'[c, o])`
//!
//! [`crate::graph::fuse`] puts it there, in inference: on a CPU z never leaves the cache. On a GPU it is the two ops'
//! shaders, one after the other.

use super::case::{Case, Fill};
use super::conv2d::{Conv2d, Padding, pointwise};
use super::depthwise_conv2d::{self, DepthwiseConv2d};
use super::*;
use crate::kernels::conv::needed;
use crate::kernels::matmul::Right;
use crate::kernels::separable::{self, Geometry, Weights};
use crate::tensor::{DType, Shape};

/// See the module's documentation. Inputs: x `[N, H, W, C]`, depthwise weights `[KH, KW, C]` and bias `[C]`, pointwise
/// weights `[1, 1, C, O]` and bias `[O]`; output `[N, P, Q, O]`.
#[derive(Clone, Copy, Debug)]
pub struct SeparableConv2d {
    /// The first convolution.
    pub depthwise: DepthwiseConv2d,
    /// The second one, which looks at one pixel at a time.
    pub pointwise: Conv2d,
}

impl SeparableConv2d {
    /// The type of what lies between the convolutions.
    fn middle(&self, inputs: &[&TensorType]) -> std::result::Result<TensorType, String> {
        let mut outputs = self.depthwise.output_types(&inputs[..3])?;
        Ok(outputs.swap_remove(0))
    }

    /// The operands of each convolution.
    fn parts(&self, types: &Types) -> [Types; 2] {
        let inputs: Vec<&TensorType> = types.inputs.iter().collect();
        let middle = planned(self.middle(&inputs));
        let first = Types { inputs: types.inputs[..3].to_vec(), outputs: vec![middle.clone()] };
        let inputs = std::iter::once(middle).chain(types.inputs[3..].iter().cloned()).collect();
        [first, Types { inputs, outputs: types.outputs.clone() }]
    }

    fn planned(&self, types: &Types) -> Geometry {
        let [x, w] = [0, 1].map(|i| types.inputs[i].dims());
        let depthwise = planned(self.depthwise.geometry(x, w));
        Geometry { depthwise, out_channels: types.outputs[0].shape.last() }
    }
}

impl Op for SeparableConv2d {
    fn name(&self) -> &'static str {
        "separable_conv2d"
    }

    fn output_types(&self, inputs: &[&TensorType]) -> std::result::Result<Vec<TensorType>, String> {
        expect::<5>(inputs)?;
        let middle = self.middle(inputs)?;
        let g = self.pointwise.geometry(middle.dims(), inputs[3].dims())?;
        require(pointwise(&g).is_some(), "the second convolution must look at one pixel at a time")?;
        self.pointwise.output_types(&[&middle, inputs[3], inputs[4]])
    }

    fn flops(&self, types: &Types) -> u64 {
        let [first, second] = self.parts(types);
        self.depthwise.flops(&first) + self.pointwise.flops(&second)
    }

    fn batched_inputs(&self, _: &Types) -> Option<&'static [usize]> {
        Some(&[0])
    }

    fn band(&self, types: &Types, rows: Range<usize>) -> Option<Band> {
        let g = self.planned(types).depthwise;
        if g.batch > 1 {
            return None;
        }
        let (input, top) = needed(&rows, [g.in_height, g.pad_top], g.kernel_height, g.stride)?;
        let padding = Padding::Exact { size: [rows.len(), g.out_width], before: [top, g.pad_left] };
        let depthwise = DepthwiseConv2d { padding, ..self.depthwise };
        Some(Band::new(SeparableConv2d { depthwise, ..*self }, types, input, rows))
    }

    fn cpu_scratch(&self, types: &Types, isa: Isa, threads: usize) -> usize {
        let (shared, each) = separable::scratch(isa, &self.planned(types));
        shared + threads * each
    }

    fn cpu_prepared(&self, types: &Types, isa: Isa) -> Option<(usize, usize)> {
        Some((3, separable::prepared_len(isa, &self.planned(types))))
    }

    fn cpu_prepare(&self, types: &Types, isa: Isa, weights: &[f32], prepared: &mut [f32]) {
        separable::prepare(isa, &self.planned(types), weights, prepared);
    }

    fn cpu(&self, types: &Types, args: &mut CpuArgs) {
        let isa = args.isa;
        let [x, w, bias, pointwise, out_bias] = std::array::from_fn(|i| args.input(i));
        let pointwise = Right::of(pointwise, args.prepared);
        let weights = Weights { depthwise: [w, bias], pointwise, bias: out_bias };
        let clamps = [self.depthwise.activation.clamp(), self.pointwise.activation.clamp()];
        let (y, scratch) = args.output();
        separable::forward(isa, &self.planned(types), x, weights, clamps, y, scratch);
    }

    fn gpu(&self, types: &Types) -> Dispatches {
        let [first, second] = self.parts(types);
        let (depthwise, middle) = self.depthwise.gpu(&first).into_scratch(first.outputs[0].len());
        depthwise.then(self.pointwise.gpu(&second), |operand| match operand {
            Operand::Input(0) => Operand::ScratchInput(middle),
            Operand::Input(i) => Operand::Input(i + 2),
            other => other,
        })
    }

    fn reference(&self, types: &Types, inputs: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let [first, second] = self.parts(types);
        let mut middle = self.depthwise.reference(&first, &inputs[..3]);
        middle.extend_from_slice(&inputs[3..]);
        self.pointwise.reference(&second, &middle)
    }
}

/// Test cases of this op.
pub fn cases() -> Vec<Case> {
    let activations = [Activation::Relu6, Activation::None, Activation::Relu];
    let case = |(i, (op, x, w)): (usize, (DepthwiseConv2d, Shape, Shape)), out: usize| {
        let fill = |shape| (TensorType { shape, dtype: DType::F32 }, Fill::Uniform(-1.0, 1.0));
        let channels = w.last();
        let depthwise = DepthwiseConv2d { activation: activations[i % 3], ..op };
        let padding = Padding::Symmetric(0);
        let pointwise = Conv2d { stride: 1, padding, activation: activations[(i + i / 3) % 3] };
        let shapes = [x, w, [channels].into(), [1, 1, channels, out].into(), [out].into()];
        Case::new(SeparableConv2d { depthwise, pointwise }, shapes.map(fill).to_vec())
    };
    let outputs = [8, 1, 37, 64].into_iter().cycle();
    depthwise_conv2d::geometries().into_iter().enumerate().zip(outputs).map(|(i, out)| case(i, out)).collect()
}
