//! A second witness for the references of products: `.dot()` of `ndarray`, which has other loops.

mod common;

use std::any::Any;
use std::sync::Arc;

use cifar_engine::ops::Op;
use cifar_engine::ops::conv::{Conv, Output, Pass};
use cifar_engine::ops::linear::matmul::Matmul;
use cifar_engine::ops::reference::{array, operands, view, views};
use cifar_engine::selftest::case::Case;
use cifar_engine::selftest::cases;
use cifar_engine::selftest::probe::distance;
use cifar_engine::tensor::DType;
use ndarray::{Array2, Array4, ArrayD, ArrayViewD, Ix1, Ix4, s};

/// Both are sums of products in `f64`, in another order.
const TOLERANCE: f64 = 1e-13;

/// The matrices of an operand `[.., rows, columns]`, each transposed or not.
fn matrices(x: &ArrayViewD<f64>, transposed: bool) -> Vec<Array2<f64>> {
    let [rows, columns] = *x.shape().last_chunk().unwrap();
    let all = x.to_shape((x.len() / (rows * columns), rows, columns)).unwrap();
    all.outer_iter().map(|x| if transposed { x.t().to_owned() } else { x.to_owned() }).collect()
}

/// `a b + bias`, or several of them, one after the other.
fn products(op: &Matmul, inputs: &[ArrayViewD<f64>]) -> Vec<f64> {
    let [a, b] = operands(inputs);
    let pairs = matrices(a, op.a_transposed).into_iter().zip(matrices(b, op.b_transposed));
    let product = |(a, b): (Array2<f64>, Array2<f64>)| match inputs.get(2) {
        Some(bias) => a.dot(&b) + view::<Ix1>(bias),
        None => a.dot(&b),
    };
    pairs.flat_map(|pair| product(pair).into_iter()).collect()
}

/// A convolution as the product of every window of x with all filters.
fn windows(op: &Conv, inputs: &[ArrayViewD<f64>]) -> Vec<f64> {
    let [x, w] = operands(inputs).map(view::<Ix4>);
    let (batch, height, width, channels) = x.dim();
    let (kernel_height, kernel_width, inner, outputs) = w.dim();
    let (rows, top) = op.padding.apply(0, height, kernel_height, op.stride).unwrap();
    let (columns, left) = op.padding.apply(1, width, kernel_width, op.stride).unwrap();
    let padded = [height + top, width + left].map(|size| size + op.stride + kernel_height.max(kernel_width));
    let mut padded = Array4::zeros([batch, padded[0], padded[1], channels]);
    padded.slice_mut(s![.., top..top + height, left..left + width, ..]).assign(&x);
    let filters = w.to_shape((kernel_height * kernel_width * inner, outputs)).unwrap();
    let each = outputs / op.groups;
    let mut y = Vec::new();
    for (n, p, q, group) in ndarray::indices([batch, rows, columns, op.groups]) {
        let (first, i, j) = (group * inner, p * op.stride, q * op.stride);
        let window = padded
            .slice(s![n, i..i + kernel_height, j..j + kernel_width, first..first + inner])
            .flatten()
            .dot(&filters.slice(s![.., group * each..(group + 1) * each]));
        y.extend(match inputs.get(2) {
            Some(bias) => window + view::<Ix1>(bias).slice(s![group * each..(group + 1) * each]),
            None => window,
        });
    }
    y
}

/// What `.dot()` makes of a case, if its op is a product and nothing else.
fn witness(op: &Arc<dyn Op>, inputs: &[ArrayViewD<f64>]) -> Option<Vec<f64>> {
    let op: &dyn Any = &**op;
    if let Some(matmul) = op.downcast_ref::<Matmul>() {
        return matmul.activation.is_none().then(|| products(matmul, inputs));
    }
    let conv: &Conv = op.downcast_ref()?;
    let plain = conv.pass == Pass::Forward && conv.output == Output::Values && conv.input.is_none();
    (plain && !conv.residual && conv.activation.is_none()).then(|| windows(conv, inputs))
}

/// How far apart the two are; `None` where there is no witness.
fn apart(case: &Case, change: impl Fn(&mut [ArrayD<f64>])) -> Option<f64> {
    let mut inputs: Vec<ArrayD<f64>> = (0..case.inputs.len()).map(|i| case.values(i)).collect();
    let expected = case.op.reference(&views(&inputs)).remove(0);
    change(&mut inputs);
    let found = witness(&case.op, &views(&inputs))?;
    Some(distance(DType::F32, &array(expected.shape(), found), &expected))
}

#[test]
fn references_of_products_agree_with_dot() {
    for name in ["matmul", "conv2d", "grouped_conv2d"] {
        let cases = cases::all().into_iter().filter(|case| case.op.name() == name);
        let cases: Vec<Case> = cases.filter(|case| apart(case, |_| ()).is_some()).collect();
        assert!(cases.len() >= 10, "{name}: {} cases have a witness", cases.len());
        for case in cases {
            let far = apart(&case, |_| ()).unwrap();
            assert!(far < TOLERANCE, "{case:?}: {far:e}");
            let far = apart(&case, |inputs| inputs[1] *= 1.0 + 1e-9).unwrap();
            assert!(far > TOLERANCE, "{case:?}: a difference is not seen");
        }
    }
}
