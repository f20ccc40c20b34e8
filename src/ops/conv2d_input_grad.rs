//! The gradient of a convolution's input: the transposed convolution of dy with w,
//! `dx[x] = sum over all products x w of y  dy[y] w[w]` in the notation of [`super::conv2d`].

use super::case::{Case, Fill};
use super::conv2d::{Conv2d, each_product, geometries, large_geometries, pointwise};
use super::*;
use crate::kernels::conv::{self, Geometry};
use crate::kernels::matmul::Product;
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
        self.cpu_with(types, args, None, Epilogue::none());
    }

    fn cpu_blocks(&self, types: &Types) -> usize {
        conv::input_gradient_blocks(&self.geometry(types))
    }

    fn cpu_with(&self, types: &Types, args: &mut CpuArgs, _: Option<Line>, epilogue: Epilogue) {
        let (isa, dy, w) = (args.isa, args.input(0), args.input(1));
        let (dx, scratch) = args.output();
        let out = Output { y: dx, epilogue };
        conv::input_gradient(isa, &self.geometry(types), dy, w, out, scratch);
    }

    fn gpu(&self, types: &Types) -> Dispatches {
        let g = self.geometry(types);
        if let Some((m, n, k)) = pointwise(&g) {
            let product = Product { m, n, k, a_transposed: false, b_transposed: true };
            let product = matmul::on_gpu(&product, [0, 1].map(Operand::Input), None);
            return product.dispatches(Tiling::choose(m, n, k));
        }
        let phases = (0..g.stride * g.stride).filter_map(|i| phase(&g, i / g.stride, i % g.stride));
        let list = phases.flat_map(|product| {
            let tiling = Tiling::choose_whole(product.rows, product.columns, product.depth);
            product.dispatches(tiling).list
        });
        Dispatches { scratch: Vec::new(), list: list.collect() }
    }

    fn reference(&self, types: &Types, inputs: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let mut dx = vec![0.0; self.shape.len()];
        each_product(&self.geometry(types), |x, w, y| dx[x] += inputs[0][y] * inputs[1][w]);
        vec![dx]
    }
}

/// In one dimension, the pixels of x that meet weights `i`, `i + stride`, ... of a kernel.
struct Phase {
    /// The first of those pixels.
    first: usize,
    pixels: usize,
    /// How many of those weights there are.
    weights: usize,
    /// The output pixel that the first pixel met weight `i` for.
    output: usize,
}

impl Phase {
    fn new(i: usize, stride: usize, pad: usize, size: usize, kernel: usize) -> Phase {
        let first = (i + stride - pad % stride) % stride;
        Phase {
            first,
            pixels: size.saturating_sub(first).div_ceil(stride),
            weights: kernel.saturating_sub(i).div_ceil(stride),
            output: (first + pad).saturating_sub(i) / stride,
        }
    }
}

/// The gradient of the pixels that meet weight (i, j); none if there are no such pixels. Where there are no such
/// weights either, it is a product of depth 0.
fn phase(g: &Geometry, i: usize, j: usize) -> Option<TiledProduct> {
    let y = Phase::new(i, g.stride, g.pad_top, g.in_height, g.kernel_height);
    let x = Phase::new(j, g.stride, g.pad_left, g.in_width, g.kernel_width);
    let constant = |(name, value): (&'static str, usize)| (name, value as f64);
    let constants = [
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
    ];
    (y.pixels > 0 && x.pixels > 0).then(|| TiledProduct {
        shader: shader!("conv2d_input_grad", "vec4", "nan", "activation", "epilogue", "tile"),
        constants: constants.map(constant).to_vec(),
        a: Operand::Input(0),
        b: Operand::Input(1),
        bias: None,
        activation: Activation::None,
        rows: g.batch * y.pixels * x.pixels,
        columns: g.in_channels,
        depth: y.weights * x.weights * g.out_channels,
        vectors: [g.out_channels.is_multiple_of(4); 2],
    })
}

/// Test cases of this op.
pub fn cases() -> Vec<Case> {
    let case = |(conv, shape, w): (Conv2d, Shape, Shape)| {
        let (x, w) = (TensorType::f32(shape.clone()), TensorType::f32(w));
        let dy = conv.output_types(&[&x, &w]).unwrap_or_default().remove(0);
        let fill = Fill::Uniform(-1.0, 1.0);
        Case::new(Conv2dInputGrad { conv, shape }, vec![(dy, fill), (w, fill)])
    };
    geometries().into_iter().chain(large_geometries()).map(case).collect()
}
