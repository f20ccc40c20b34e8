//! The gradient of a convolution's input: the transposed convolution of dy with w,
//! `dx[x] = sum over all products x w of y  dy[y] w[w]` in the notation of [`super::conv2d`].

use super::case::{Case, Fill};
use super::conv2d::{Conv2d, each_product, geometries};
use super::*;
use crate::kernels::conv::{self, Geometry};
use crate::tensor::Shape;

/// Inputs: dy `[N, P, Q, O]` and w `[KH, KW, C, O]`; output `[N, H, W, C]`, the given shape.
#[derive(Clone, Debug)]
pub struct Conv2dInputGrad {
    /// The forward convolution.
    pub conv: Conv2d,
    /// Of x.
    pub shape: Shape,
}

impl Conv2dInputGrad {
    fn geometry(&self, types: &Types) -> Geometry {
        planned(self.conv.geometry(self.shape.dims(), types.inputs[1].dims()))
    }
}

impl Op for Conv2dInputGrad {
    fn name(&self) -> &'static str {
        "conv2d_input_grad"
    }

    fn output_types(&self, inputs: &[&TensorType]) -> std::result::Result<Vec<TensorType>, String> {
        let [dy, w] = expect(inputs)?;
        let g = self.conv.geometry(self.shape.dims(), w.dims())?;
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
        let (shared, each) = conv::input_gradient_scratch(isa, &self.geometry(types));
        shared + threads * each
    }

    fn cpu(&self, types: &Types, args: &mut CpuArgs) {
        let (isa, dy, w) = (args.isa, args.input(0), args.input(1));
        let (dx, scratch) = args.output();
        conv::input_gradient(isa, &self.geometry(types), dy, w, dx, scratch);
    }

    fn reference(&self, types: &Types, inputs: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let mut dx = vec![0.0; self.shape.len()];
        each_product(&self.geometry(types), |x, w, y| dx[x] += inputs[0][y] * inputs[1][w]);
        vec![dx]
    }
}

/// Test cases of this op.
pub fn cases() -> Vec<Case> {
    let case = |(conv, shape, w): (Conv2d, Shape, Shape)| {
        let (x, w) = (TensorType::f32(shape.clone()), TensorType::f32(w));
        let dy = conv.output_types(&[&x, &w]).unwrap_or_default().remove(0);
        let fill = Fill::Uniform(-1.0, 1.0);
        Case::new(Conv2dInputGrad { conv, shape }, vec![(dy, fill), (w, fill)])
    };
    geometries().into_iter().map(case).collect()
}
