//! Cases of [`crate::ops::loss`].

use crate::ops::loss::softmax_cross_entropy::SoftmaxCrossEntropy;
use crate::ops::loss::softmax_cross_entropy_grad::SoftmaxCrossEntropyGrad;
use crate::selftest::case::{Case, Fill};
use crate::tensor::TensorType;

/// Cases of [`SoftmaxCrossEntropy`].
pub fn softmax_cross_entropy() -> Vec<Case> {
    let case = |rows: usize, classes: usize, smoothing, fill| {
        let logits = (TensorType::f32([rows, classes]), fill);
        let labels = (TensorType::u32([rows]), Fill::Labels(classes as u32));
        Case::new(SoftmaxCrossEntropy { smoothing }, vec![logits, labels])
    };
    let plain = [(1, 10, 0.0), (7, 10, 0.1), (300, 3, 0.0), (40, 10, 0.0), (4, 1000, 0.2)];
    let plain = plain.map(|(rows, classes, smoothing)| {
        case(rows, classes, smoothing, Fill::Uniform(-4.0, 4.0)).differentiable(&[0])
    });
    // Many equal logits, of which the first counts as the answer; and some whose exponentials would
    // overflow.
    let special = [case(40, 10, 0.1, Fill::Below(3)), case(40, 10, 0.1, Fill::Uniform(-200.0, 200.0))];
    let mixed = [(40, 10, 0.1), (300, 3, 0.0)].into_iter().map(|(rows, classes, smoothing)| {
        let mut case = case(rows, classes, smoothing, Fill::Uniform(-4.0, 4.0));
        case.inputs.push((TensorType::u32([rows]), Fill::Below(classes as u32)));
        case.inputs.push((TensorType::f32([rows]), Fill::Uniform(0.0, 1.0)));
        case.differentiable(&[0])
    });
    let mixed: Vec<Case> = mixed.collect();
    let weighted = [(7, 10, 0.1), (300, 3, 0.0)].map(|(rows, classes, smoothing)| {
        case(rows, classes, smoothing, Fill::Uniform(-4.0, 4.0)).differentiable(&[0])
    });
    let weighted = weighted.into_iter().chain(mixed.clone()).map(with_weights);
    plain.into_iter().chain(special).chain(mixed.clone()).chain(weighted).collect()
}

/// The case with a weight for each class.
fn with_weights(mut case: Case) -> Case {
    let logits = case.inputs.iter().find(|(ty, _)| ty.dims().len() == 2);
    let classes = logits.map_or(1, |(ty, _)| ty.shape.last());
    case.inputs.push((TensorType::f32([classes]), Fill::Uniform(0.2, 3.0)));
    case
}

/// Cases of [`SoftmaxCrossEntropyGrad`].
pub fn softmax_cross_entropy_grad() -> Vec<Case> {
    let case = |rows: usize, classes: usize, smoothing, largest: f32| {
        let inputs = vec![
            (TensorType::f32([1]), Fill::Constant(0.7)),
            (TensorType::f32([rows, classes]), Fill::Uniform(-largest, largest)),
            (TensorType::u32([rows]), Fill::Labels(classes as u32)),
        ];
        Case::new(SoftmaxCrossEntropyGrad { smoothing }, inputs)
    };
    let mut mixed = case(40, 10, 0.1, 4.0);
    mixed.inputs.push((TensorType::u32([40]), Fill::Below(10)));
    mixed.inputs.push((TensorType::f32([40]), Fill::Uniform(0.0, 1.0)));
    vec![
        with_weights(case(7, 10, 0.1, 4.0)),
        with_weights(mixed.clone()),
        mixed,
        case(7, 10, 0.1, 4.0),
        case(300, 3, 0.0, 4.0),
        // Exponentials that would overflow.
        case(40, 10, 0.0, 200.0),
        case(4, 1000, 0.2, 4.0),
    ]
}
