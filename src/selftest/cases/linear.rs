//! Cases of [`crate::ops::linear`].

use crate::ops::Function;
use crate::ops::linear::matmul::Matmul;
use crate::ops::linear::sum_rows::SumRows;
use crate::selftest::case::{Case, Fill, REDUCTIONS};
use crate::tensor::TensorType;

/// Cases of [`Matmul`].
pub fn matmul() -> Vec<Case> {
    let fill = Fill::Uniform(-1.0, 1.0);
    let mut cases = Vec::new();
    for (m, n, k) in [(5, 10, 7), (50, 33, 40), (1, 1, 1)] {
        for (a_transposed, b_transposed) in [(false, false), (true, false), (false, true), (true, true)] {
            let a = if a_transposed { [k, m] } else { [m, k] };
            let b = if b_transposed { [n, k] } else { [k, n] };
            let mut inputs = vec![(TensorType::f32(a), fill), (TensorType::f32(b), fill)];
            if m != 50 {
                inputs.push((TensorType::f32([n]), fill));
            }
            let checked: &[usize] = if m != 50 { &[0, 1, 2] } else { &[0, 1] };
            cases.push(
                Case::new(Matmul { a_transposed, b_transposed, ..Matmul::default() }, inputs)
                    .differentiable(checked),
            );
        }
    }
    for (a_transposed, b_transposed) in [(false, true), (true, false)] {
        let a = if a_transposed { [2, 3, 9, 40] } else { [2, 3, 40, 9] };
        let b = if b_transposed { [2, 3, 20, 9] } else { [2, 3, 9, 20] };
        let inputs = [&a[..], &b, &[20]].map(|dims| (TensorType::f32(dims), fill)).to_vec();
        cases.push(
            Case::new(Matmul { a_transposed, b_transposed, ..Matmul::default() }, inputs)
                .differentiable(&[0, 1, 2]),
        );
    }
    // On a GPU, several tiles in both directions and two slices.
    let deep = [&[150, 300][..], &[300, 36], &[36]].map(|dims| (TensorType::f32(dims), fill));
    cases.push(Case::new(Matmul::default(), deep.to_vec()));
    for (dims, activation) in [([5, 10, 7], Function::Relu), ([17, 300, 12], Function::Gelu)] {
        let [m, k, n] = dims;
        let inputs = [&[m, k][..], &[k, n], &[n]].map(|dims| (TensorType::f32(dims), fill)).to_vec();
        cases.push(Case::new(Matmul { activation: Some(activation), ..Matmul::default() }, inputs));
    }
    cases
}

/// Cases of [`SumRows`].
pub fn sum_rows() -> Vec<Case> {
    let case = |dims: &[usize]| Case::new(SumRows, vec![(TensorType::f32(dims), Fill::Uniform(-1.0, 1.0))]);
    let small = [case(&[3, 5, 5, 7]), case(&[1000, 16]), case(&[5, 1])];
    small.into_iter().chain(REDUCTIONS.map(|dims| case(&dims))).collect()
}
