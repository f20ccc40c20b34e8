//! `y [m, n] = op(a) op(b) + bias`, where op transposes or does not: dense layers and both their
//! gradients.
//!
//! With more axes in front, the same in all three, it is one such product for each place along
//! them: the heads of an attention.

use super::sum_rows::SumRows;
use super::tile::Epilogue;
use crate::kernels::function::activated;
use crate::kernels::matmul::{self, Product, Right};
use crate::kernels::parallel;
use crate::ops::*;
use ndarray::{Array3, Ix3};

/// A matrix product, perhaps with a bias and an activation. Inputs: a `[.., m, k]` (or `[.., k,
/// m]`), b `[.., k, n]` (or `[.., n, k]`) and, if there is one, bias `[n]`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Matmul {
    /// Whether a is given as `[k, m]`.
    pub a_transposed: bool,
    /// Whether b is given as `[n, k]`.
    pub b_transposed: bool,
    /// Applied to the result.
    pub activation: Activation,
}

/// How many products there are, all of one shape.
struct Products {
    count: usize,
    each: Product,
}

impl Matmul {
    fn products(&self, a: &[usize], b: &[usize]) -> std::result::Result<Products, String> {
        let (Some((front, &[a0, a1])), Some((front_of_b, &[b0, b1]))) =
            (a.split_last_chunk(), b.split_last_chunk())
        else {
            return Err("takes two matrices".into());
        };
        require(front == front_of_b, "the axes before the last two must be the same")?;
        let (m, k) = if self.a_transposed { (a1, a0) } else { (a0, a1) };
        let (depth, n) = if self.b_transposed { (b1, b0) } else { (b0, b1) };
        require(k == depth, format_args!("inner sizes {k} and {depth} differ"))?;
        let count = front.iter().product();
        require(m > 0 && n > 0 && k > 0 && count > 0, "sizes must be positive")?;
        let each = Product { m, n, k, a_transposed: self.a_transposed, b_transposed: self.b_transposed };
        Ok(Products { count, each })
    }

    fn checked_products(&self, types: &Types) -> Products {
        checked(self.products(types.inputs[0].dims(), types.inputs[1].dims()))
    }

    /// The product as a GPU computes it.
    pub fn tiled(&self, types: &Types) -> TiledProduct {
        let Products { count, each } = self.checked_products(types);
        let epilogue = Epilogue { activation: self.activation, ..Epilogue::biased(bias(types)) };
        TiledProduct { count, epilogue, ..on_gpu(&each, [0, 1].map(Operand::Input)) }
    }
}

/// The matrices of an operand, `[count, rows, columns]`, each transposed or not.
fn matrices(x: &ArrayViewD<f64>, transposed: bool) -> Array3<f64> {
    let axes = x.ndim();
    let mut x = x.view();
    if transposed {
        x.swap_axes(axes - 2, axes - 1);
    }
    let (rows, columns) = (x.shape()[axes - 2], x.shape()[axes - 1]);
    let count = x.len() / (rows * columns);
    view::<Ix3>(&shaped(&x, &[count, rows, columns]).view()).to_owned()
}

/// The last input of an op that may have a bias there.
pub(crate) fn bias(types: &Types) -> Option<Operand> {
    (types.inputs.len() == 3).then_some(Operand::Input(2))
}

/// A matrix product on a GPU.
pub(crate) fn on_gpu(product: &Product, [a, b]: [Operand; 2]) -> TiledProduct {
    let Product { m: rows, n: columns, k: depth, a_transposed, b_transposed } = *product;
    let run_of_a = if a_transposed { rows } else { depth };
    let run_of_b = if b_transposed { depth } else { columns };
    TiledProduct {
        shader: shader!("matmul"),
        constants: vec![
            ("A_ALONG_DEPTH", f64::from(!a_transposed)),
            ("B_ALONG_DEPTH", f64::from(b_transposed)),
        ],
        a,
        b,
        input: None,
        epilogue: Epilogue::default(),
        count: 1,
        rows,
        columns,
        depth,
        vectors: [run_of_a, run_of_b].map(|run| run.is_multiple_of(4)),
    }
}

impl Op for Matmul {
    fn name(&self) -> &'static str {
        "matmul"
    }

    fn output_types(&self, inputs: &[&TensorType]) -> Inferred {
        require((2..=3).contains(&inputs.len()), "takes a, b and perhaps a bias")?;
        all_floats(inputs)?;
        let (a, b) = (inputs[0].dims(), inputs[1].dims());
        let Product { m, n, .. } = self.products(a, b)?.each;
        let bias_fits = inputs.get(2).is_none_or(|bias| bias.dims() == [n]);
        require(bias_fits, "the bias must have one element a column")?;
        let dims = [&a[..a.len() - 2], &[m, n]].concat();
        Ok(vec![TensorType::f32(dims.as_slice())])
    }

    fn gradient(
        &self,
        graph: &mut Graph,
        node: &Node,
        grads: &[Option<Value>],
        needed: &[bool],
    ) -> Gradients {
        if self.activation.is_some() {
            let name = format!("matmul '{}'", node.layer);
            return Err(Error::op(name, "has a gradient only as it is before fusion"));
        }
        let Some(dy) = grads[0] else { return Ok(vec![None; node.inputs.len()]) };
        let (a, b) = (node.inputs[0], node.inputs[1]);
        let (ta, tb) = (self.a_transposed, self.b_transposed);
        let mut out = vec![None; node.inputs.len()];
        let mut product = |left, right, a_transposed, b_transposed| {
            graph.apply1(Matmul { a_transposed, b_transposed, activation: None }, &[left, right])
        };
        if needed[0] {
            // da = dy b', or its transpose b dy' where a was given transposed.
            out[0] = Some(if ta { product(b, dy, tb, true)? } else { product(dy, b, false, !tb)? });
        }
        if needed[1] {
            out[1] = Some(if tb { product(dy, a, true, ta)? } else { product(a, dy, !ta, false)? });
        }
        if needed.get(2) == Some(&true) {
            out[2] = Some(graph.apply1(SumRows, &[dy])?);
        }
        Ok(out)
    }

    fn cost(&self, types: &Types) -> Cost {
        let Products { count, each: Product { m, n, k, .. } } = self.checked_products(types);
        Cost::of(types, 2 * (count * m * n * k) as u64)
    }

    fn cpu(&self, types: &Types, target: CpuTarget) -> CpuStep {
        let (isa, has_bias, activation) = (target.isa, types.inputs.len() == 3, self.activation);
        let Products { count, each: product } = self.checked_products(types);
        let (shared, own) = matmul::scratch(isa, &product);
        let multiply = move |[a, b, bias]: [&[f32]; 3], y: &mut [f32], scratch: &mut [f32]| {
            let bias = has_bias.then_some(bias);
            matmul::multiply(isa, &product, (a.into(), Right::Plain(b)), bias, activation, y.into(), scratch);
        };
        if count == 1 {
            return CpuStep::with_scratch(shared + target.threads * own, move |args| {
                let inputs = args.inputs_from(0);
                let (y, scratch) = args.output();
                multiply(inputs, y, scratch);
            });
        }
        // Of many products each thread takes whole ones.
        let Product { m, n, k, .. } = product;
        CpuStep::with_scratch(target.threads * (shared + own), move |args| {
            let [a, b, bias] = args.inputs_from(0);
            let (y, scratch) = args.output();
            let products = y.chunks_exact_mut(m * n).enumerate();
            parallel::for_each(products, scratch, shared + own, |(i, y), scratch| {
                let (a, b) = (&a[i * m * k..][..m * k], &b[i * k * n..][..k * n]);
                parallel::alone(|| multiply([a, b, bias], y, scratch));
            });
        })
    }

    fn gpu(&self, types: &Types) -> Dispatches {
        let product = self.tiled(types);
        product.dispatches(match product.count {
            1 => Tiling::choose(product.rows, product.columns, product.depth),
            _ => Tiling::choose_whole(product.rows, product.columns, product.depth),
        })
    }

    fn reference(&self, inputs: &[ArrayViewD<f64>]) -> Vec<ArrayD<f64>> {
        let [a, b] = operands(inputs);
        let front = &a.shape()[..a.ndim() - 2];
        let (a, b) = (matrices(a, self.a_transposed), matrices(b, self.b_transposed));
        let (count, m, k) = a.dim();
        let n = b.dim().2;
        let mut y = Array3::zeros((count, m, n));
        for (p, i, j, l) in indices((count, m, n, k)) {
            y[[p, i, j]] += a[[p, i, l]] * b[[p, l, j]];
        }
        let y = shaped(&y.view().into_dyn(), &[front, &[m, n]].concat());
        let y = inputs.get(2).map_or(y.clone(), |bias| &y + bias);
        vec![y.mapv(|y| activated(self.activation, y))]
    }
}
