//! The gradient of a depthwise convolution's weights: `dw[w] = sum over all products x w of y  x[x] dy[y]` in the
//! notation of [`super::depthwise_conv2d`].

use super::case::{Case, Fill};
use super::depthwise_conv2d::{DepthwiseConv2d, each_product, geometries, large_geometries};
use super::tile::sum_partials;
use super::*;
use crate::kernels::depthwise::{self, Geometry};
use crate::tensor::Shape;

/// Inputs: x `[N, H, W, C]` and dy `[N, P, Q, C]`; output `[KH, KW, C]`, the given shape.
#[derive(Clone, Debug)]
pub struct DepthwiseConv2dWeightGrad {
    /// The forward convolution.
    pub conv: DepthwiseConv2d,
    /// Of w.
    pub shape: Shape,
}

impl DepthwiseConv2dWeightGrad {
    fn geometry(&self, types: &Types) -> Geometry {
        planned(self.conv.geometry(types.inputs[0].dims(), self.shape.dims()))
    }
}

impl Op for DepthwiseConv2dWeightGrad {
    fn name(&self) -> &'static str {
        "depthwise_conv2d_weight_grad"
    }

    fn output_types(&self, inputs: &[&TensorType]) -> std::result::Result<Vec<TensorType>, String> {
        let [x, dy] = expect(inputs)?;
        let g = self.conv.geometry(x.dims(), self.shape.dims())?;
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
        depthwise::weight_gradient_scratch(&self.geometry(types))
    }

    fn cpu(&self, types: &Types, args: &mut CpuArgs) {
        self.cpu_with(types, args, None, Epilogue::none());
    }

    fn cpu_line_scratch(&self, types: &Types) -> Option<usize> {
        Some(depthwise::weight_gradient_line_scratch(&self.geometry(types)))
    }

    fn cpu_with(&self, types: &Types, args: &mut CpuArgs, line: Option<Line>, _: Epilogue) {
        let (isa, x, dy) = (args.isa, Input { x: args.input(0), line }, args.input(1));
        let (dw, scratch) = args.output();
        depthwise::weight_gradient(isa, &self.geometry(types), x, dy, dw, scratch);
    }

    fn gpu(&self, types: &Types) -> Dispatches {
        let g = self.geometry(types);
        let reduction = Reduction::new(&types.inputs[1]);
        let (length, blocks) = (types.outputs[0].len(), reduction.blocks());
        let [x, y, _] = reduction.block_groups();
        let squares = g.kernel_height.div_ceil(3) * g.kernel_width.div_ceil(3);
        let mut constants = reduction.constants();
        constants.extend(depthwise_conv2d::constants(&g));
        let products = |to| Dispatch {
            shader: wide_shader!(g.channels, "depthwise_conv2d_weight_grad", "rows", "tree"),
            entry: "main",
            constants,
            bindings: vec![Operand::Input(0), Operand::Input(1), to],
            groups: [x, y, squares as u32],
        };
        if blocks == 1 {
            return Dispatches::from(products(Operand::Output(0)));
        }
        let list = vec![
            products(Operand::Scratch(0)),
            sum_partials(blocks, length, g.channels, None, Activation::None),
        ];
        Dispatches { scratch: vec![blocks * length], list }
    }

    fn reference(&self, types: &Types, inputs: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let mut dw = vec![0.0; self.shape.len()];
        each_product(&self.geometry(types), |x, w, y| dw[w] += inputs[0][x] * inputs[1][y]);
        vec![dw]
    }
}

/// Test cases of this op.
pub fn cases() -> Vec<Case> {
    let case = |(conv, x, shape): (DepthwiseConv2d, Shape, Shape)| {
        let (x, w) = (TensorType::f32(x), TensorType::f32(shape.clone()));
        let dy = conv.output_types(&[&x, &w]).unwrap_or_default().remove(0);
        let fill = Fill::Uniform(-1.0, 1.0);
        Case::new(DepthwiseConv2dWeightGrad { conv, shape }, vec![(x, fill), (dy, fill)])
    };
    geometries().into_iter().chain(large_geometries()).map(case).collect()
}
