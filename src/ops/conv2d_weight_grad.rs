//! The gradient of a convolution's weights: `dw[w] = sum over all products x w of y  x[x] dy[y]` in the
//! notation of [`super::conv2d`].

use super::case::{Case, Fill};
use super::conv2d::{Conv2d, constants, each_product, geometries, large_geometries, pointwise};
use super::*;
use crate::kernels::conv::{self, Geometry};
use crate::kernels::matmul::Product;
use crate::tensor::Shape;

/// Inputs: x `[N, H, W, C]` and dy `[N, P, Q, O]`; output `[KH, KW, C, O]`, the given shape.
#[derive(Clone, Debug)]
pub struct Conv2dWeightGrad {
    /// The forward convolution.
    pub conv: Conv2d,
    /// Of w.
    pub shape: Shape,
}

impl Conv2dWeightGrad {
    fn geometry(&self, types: &Types) -> Geometry {
        planned(self.conv.geometry(types.inputs[0].dims(), self.shape.dims()))
    }
}

impl Op for Conv2dWeightGrad {
    fn name(&self) -> &'static str {
        "conv2d_weight_grad"
    }

    fn output_types(&self, inputs: &[&TensorType]) -> std::result::Result<Vec<TensorType>, String> {
        let [x, dy] = expect(inputs)?;
        let g = self.conv.geometry(x.dims(), self.shape.dims())?;
        require(
            dy.dims() == [g.batch, g.out_height, g.out_width, g.out_channels],
            "dy has another shape than y",
        )?;
        Ok(vec![TensorType::f32(self.shape.clone())])
    }

    fn flops(&self, types: &Types) -> u64 {
        self.geometry(types).flops()
    }

    fn cpu_scratch(&self, types: &Types, isa: Isa, threads: usize) -> usize {
        let (shared, each) = conv::weight_gradient_scratch(isa, &self.geometry(types));
        shared + threads * each
    }

    fn cpu(&self, types: &Types, args: &mut CpuArgs) {
        self.cpu_with(types, args, None, Epilogue::none());
    }

    fn cpu_line_scratch(&self, types: &Types) -> Option<usize> {
        let g = self.geometry(types);
        Some(conv::weight_gradient_line_scratch(&g))
    }

    fn cpu_with(&self, types: &Types, args: &mut CpuArgs, line: Option<Line>, _: Epilogue) {
        let (isa, x, dy) = (args.isa, Input { x: args.input(0), line }, args.input(1));
        let (dw, scratch) = args.output();
        conv::weight_gradient(isa, &self.geometry(types), x, dy, dw, scratch);
    }

    fn gpu(&self, types: &Types) -> Dispatches {
        let g = self.geometry(types);
        let operands = [0, 1].map(Operand::Input);
        let product = match pointwise(&g) {
            Some((k, m, n)) => {
                let product = Product { m, n, k, a_transposed: true, b_transposed: false };
                matmul::on_gpu(&product, operands, None)
            }
            None => TiledProduct {
                shader: shader!(
                    "conv2d_weight_grad",
                    "vec4",
                    "nan",
                    "activation",
                    "epilogue",
                    "tile",
                    "conv"
                ),
                constants: constants(&g),
                a: operands[0],
                b: operands[1],
                bias: None,
                activation: Activation::None,
                rows: g.kernel_height * g.kernel_width * g.in_channels,
                columns: g.out_channels,
                depth: g.batch * g.out_height * g.out_width,
                vectors: [g.in_channels, g.out_channels].map(|run| run.is_multiple_of(4)),
            },
        };
        product.dispatches(Tiling::choose(product.rows, product.columns, product.depth))
    }

    fn reference(&self, types: &Types, inputs: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let mut dw = vec![0.0; self.shape.len()];
        each_product(&self.geometry(types), |x, w, y| dw[w] += inputs[0][x] * inputs[1][y]);
        vec![dw]
    }
}

/// Test cases of this op.
pub fn cases() -> Vec<Case> {
    let case = |(conv, x, shape): (Conv2d, Shape, Shape)| {
        let (x, w) = (TensorType::f32(x), TensorType::f32(shape.clone()));
        let dy = conv.output_types(&[&x, &w]).unwrap_or_default().remove(0);
        let fill = Fill::Uniform(-1.0, 1.0);
        Case::new(Conv2dWeightGrad { conv, shape }, vec![(x, fill), (dy, fill)])
    };
    geometries().into_iter().chain(large_geometries()).map(case).collect()
}
