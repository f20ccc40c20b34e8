//! Cases of [`crate::ops::map`].

use std::ops::Range;

use crate::kernels::function::Of;
use crate::ops::Function;
use crate::ops::map::binary::{Binary, Function2};
use crate::ops::map::dropout::Dropout;
use crate::ops::map::expand::Expand;
use crate::ops::map::reduce::{Reduce, ReduceKind, without};
use crate::ops::map::scale::Scale;
use crate::ops::map::unary::{Unary, UnaryGrad};
use crate::selftest::case::{Case, ELEMENTWISE, Fill};
use crate::tensor::TensorType;

/// Arguments at which a function is defined, and a finite difference away from its kinks.
fn arguments(function: Function) -> Fill {
    match function {
        Function::Ln | Function::Sqrt | Function::Rsqrt => Fill::Uniform(0.1, 4.0),
        Function::Abs | Function::Relu => Fill::AwayFromZero,
        _ => Fill::Uniform(-4.0, 8.0),
    }
}

/// Cases of [`Unary`] and [`UnaryGrad`].
pub fn unary() -> Vec<Case> {
    let case = |function: Function| {
        let of = match function.slope_of() {
            Of::X => arguments(function),
            // Any number will do for the value, which the gradient trusts.
            Of::Y => Fill::Uniform(0.1, 8.0),
        };
        ELEMENTWISE.map(|dims| {
            let ty = || TensorType::f32(dims);
            let value = Case::new(Unary { function }, vec![(ty(), arguments(function))]).differentiable(&[0]);
            let inputs = vec![(ty(), Fill::Uniform(-1.0, 1.0)), (ty(), of)];
            [value, Case::new(UnaryGrad { function }, inputs)]
        })
    };
    Function::ALL.iter().flat_map(|function| case(*function)).flatten().collect()
}

/// Cases of [`Binary`].
pub fn binary() -> Vec<Case> {
    let ranges = |function| match function {
        Function2::Div => [Fill::Uniform(-2.0, 2.0), Fill::Uniform(0.5, 3.0)],
        // No two elements are within a finite difference of each other.
        _ => [Fill::Uniform(0.0, 2.0), Fill::Uniform(-2.0, 1.0)],
    };
    let case = |function: Function2, shapes: [&[usize]; 2]| {
        let [a, b] = ranges(function);
        let inputs = vec![(TensorType::f32(shapes[0]), a), (TensorType::f32(shapes[1]), b)];
        let case = Case::new(Binary { function }, inputs);
        match function {
            Function2::Less | Function2::Equal => case,
            _ => case.differentiable(&[0, 1]),
        }
    };
    let shapes: [[&[usize]; 2]; 6] = [
        [&[3, 5, 7], &[3, 5, 7]],
        [&[2, 4, 8], &[8]],
        [&[8], &[2, 4, 8]],
        [&[3, 37], &[1]],
        [&[1], &[3, 37]],
        [&[1], &[1]],
    ];
    let small = Function2::ALL.into_iter().flat_map(|f| shapes.map(|shapes| case(f, shapes)));
    // Equal values are found, too.
    let same = Case::new(
        Binary { function: Function2::Equal },
        vec![(TensorType::f32([40]), Fill::Constant(0.5)), (TensorType::f32([1]), Fill::Constant(0.5))],
    );
    let halves = Case::new(
        Binary { function: Function2::Less },
        vec![(TensorType::f32([40]), Fill::Constant(0.5)), (TensorType::f32([1]), Fill::Constant(0.5))],
    );
    let large = ELEMENTWISE.map(|dims| case(Function2::Mul, [dims, dims]));
    small.chain([same, halves]).chain(large).collect()
}

/// Cases of [`Scale`].
pub fn scale() -> Vec<Case> {
    let case = |dims| {
        let x = (TensorType::f32(dims), Fill::Uniform(-3.0, 3.0));
        Case::new(Scale { factor: -0.75 }, vec![x]).differentiable(&[0])
    };
    ELEMENTWISE.map(case).to_vec()
}

/// Cases of [`Reduce`].
pub fn reduce() -> Vec<Case> {
    let shapes: [(&[usize], Range<usize>); 11] = [
        (&[3, 5, 7], 1..2),
        (&[4, 6, 5, 8], 1..3),
        (&[2, 3, 40], 2..3),
        (&[40, 9], 0..1),
        (&[2, 3, 4], 0..3),
        (&[3, 1, 2], 1..2),
        (&[3, 3, 2, 5], 1..3),
        (&[2, 9, 9, 132], 1..3),
        (&[3, 700, 1], 1..2),
        (&[2, 65, 65, 3], 1..3),
        (&[9001], 0..1),
    ];
    let case = |kind| {
        let case = |(dims, axes): (&[usize], Range<usize>)| {
            Case::new(Reduce { kind, axes }, vec![(TensorType::f32(dims), Fill::Distinct)])
                .differentiable(&[0])
        };
        shapes.clone().map(case)
    };
    [ReduceKind::Sum, ReduceKind::Mean, ReduceKind::Max].into_iter().flat_map(case).collect()
}

/// Cases of [`Expand`].
pub fn expand() -> Vec<Case> {
    let case = |dims: &[usize], axes: Range<usize>| {
        let x = TensorType::f32(without(dims, &axes).as_slice());
        let op = Expand { shape: dims.into(), axes };
        Case::new(op, vec![(x, Fill::Uniform(-1.0, 1.0))]).differentiable(&[0])
    };
    vec![case(&[3, 5, 7], 1..2), case(&[4, 6, 5, 8], 1..3), case(&[2, 3, 40], 2..3), case(&[40, 9], 0..2)]
}

/// Cases of [`Dropout`].
pub fn dropout() -> Vec<Case> {
    let case = |rate, len: usize| {
        let inputs = vec![
            (TensorType::f32([2, len]), Fill::Uniform(-1.0, 1.0)),
            (TensorType::u32([1]), Fill::Constant(3.0)),
        ];
        Case::new(Dropout { rate, seed: 5 }, inputs).differentiable(&[0])
    };
    vec![case(0.5, 37), case(0.25, 1500), case(0.0, 5)]
}
