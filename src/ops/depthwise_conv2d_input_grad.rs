//! The gradient of a depthwise convolution's input: `dx[x] = sum over all products x w of y  dy[y] w[w]` in the
//! notation of [`super::depthwise_conv2d`].

use super::case::{Case, Fill};
use super::depthwise_conv2d::{DepthwiseConv2d, constants, each_product, geometries, large_geometries};
use super::*;
use crate::kernels::depthwise::{self, Geometry};
use crate::tensor::Shape;

/// Inputs: dy `[N, P, Q, C]` and w `[KH, KW, C]`; output `[N, H, W, C]`, the given shape.
#[derive(Clone, Debug)]
pub struct DepthwiseConv2dInputGrad {
    /// The forward convolution.
    pub conv: DepthwiseConv2d,
    /// Of x.
    pub shape: Shape,
}

impl DepthwiseConv2dInputGrad {
    fn geometry(&self, types: &Types) -> Geometry {
        planned(self.conv.geometry(self.shape.dims(), types.inputs[1].dims()))
    }
}

impl Op for DepthwiseConv2dInputGrad {
    fn name(&self) -> &'static str {
        "depthwise_conv2d_input_grad"
    }

    fn output_types(&self, inputs: &[&TensorType]) -> std::result::Result<Vec<TensorType>, String> {
        let [dy, w] = expect(inputs)?;
        let g = self.conv.geometry(self.shape.dims(), w.dims())?;
        require(
            dy.dims() == [g.batch, g.out_height, g.out_width, g.channels],
            "dy has another shape than y",
        )?;
        Ok(vec![TensorType::f32(self.shape.clone())])
    }

    fn flops(&self, types: &Types) -> u64 {
        self.geometry(types).flops()
    }

    fn cpu_scratch(&self, types: &Types, _: Isa, _: usize) -> usize {
        depthwise::input_gradient_scratch(&self.geometry(types))
    }

    fn cpu(&self, types: &Types, args: &mut CpuArgs) {
        self.cpu_with(types, args, None, Epilogue::none());
    }

    fn cpu_blocks(&self, types: &Types) -> usize {
        depthwise::input_gradient_blocks(&self.geometry(types))
    }

    fn cpu_with(&self, types: &Types, args: &mut CpuArgs, _: Option<Line>, epilogue: Epilogue) {
        let (isa, dy, w) = (args.isa, args.input(0), args.input(1));
        let (dx, scratch) = args.output();
        let out = Output { y: dx, epilogue };
        depthwise::input_gradient(isa, &self.geometry(types), dy, w, out, scratch);
    }

    fn gpu(&self, types: &Types) -> Dispatches {
        let g = self.geometry(types);
        let fours = g.in_width.div_ceil(4 * g.stride) * g.stride;
        let invocations = g.batch * g.in_height * fours * g.channels / width(g.channels);
        let mut constants = constants(&g).to_vec();
        constants.push(("COLUMNS", (g.channels / width(g.channels)) as f64));
        let shader = wide_shader!(g.channels, "depthwise_conv2d_input_grad", "index", "depthwise");
        let bindings = vec![Operand::Input(0), Operand::Input(1), Operand::Output(0)];
        each_value(shader, invocations, &constants, bindings)
    }

    fn reference(&self, types: &Types, inputs: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let mut dx = vec![0.0; self.shape.len()];
        each_product(&self.geometry(types), |x, w, y| dx[x] += inputs[0][y] * inputs[1][w]);
        vec![dx]
    }
}

/// Test cases of this op.
pub fn cases() -> Vec<Case> {
    let case = |(conv, shape, w): (DepthwiseConv2d, Shape, Shape)| {
        let (x, w) = (TensorType::f32(shape.clone()), TensorType::f32(w));
        let dy = conv.output_types(&[&x, &w]).unwrap_or_default().remove(0);
        let fill = Fill::Uniform(-1.0, 1.0);
        Case::new(DepthwiseConv2dInputGrad { conv, shape }, vec![(dy, fill), (w, fill)])
    };
    geometries().into_iter().chain(large_geometries()).map(case).collect()
}
