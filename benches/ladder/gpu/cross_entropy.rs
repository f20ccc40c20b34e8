//! The ladder of the loss.

use cifar_engine::ops::dispatch::Dispatches;
use cifar_engine::ops::dispatch::Operand::{Input as In, Output as Out, Scratch, ScratchInput};
use cifar_engine::ops::loss::softmax_cross_entropy::SoftmaxCrossEntropy;
use cifar_engine::tensor::TensorType;

use super::super::engine::{Chain, Input};
use super::super::{Floats, Ladder, noise};
use super::{launch, rung, size};

const SHADER: &str = include_str!("cross_entropy.wgsl");
const MEAN: &str = include_str!("mean.wgsl");

pub fn timed() -> Ladder {
    ladder(size(4096, 256), 1000)
}

pub fn odd() -> Vec<Ladder> {
    vec![ladder(1, 2), ladder(5, 10), ladder(67, 153)]
}

fn ladder(rows: usize, classes: usize) -> Ladder {
    let logits: Floats = noise(rows * classes, 1).iter().map(|z| 8.0 * z).collect();
    let words = (0..rows).map(|row| (row * 7 % classes) as u32).collect();
    let labels = Input { ty: TensorType::u32([rows]), words };
    let op = SoftmaxCrossEntropy { smoothing: 0.0 };
    let engine = Chain::of(op, vec![Input::floats(&[rows, classes], &logits), labels]);
    let work = |entry, groups: usize| {
        let sizes = [("ROWS", rows), ("CLASSES", classes)];
        let losses = launch(SHADER, entry, &sizes, &[In(0), In(1), Scratch(0)], [groups, 1, 1]);
        let mean = launch(MEAN, "main", &sizes[..1], &[ScratchInput(0), Out(0)], [1; 3]);
        Dispatches { scratch: vec![rows], list: vec![losses, mean] }
    };
    Ladder {
        title: format!("gpu-cross_entropy: {rows} rows of {classes} classes"),
        cost: engine.cost(),
        rungs: vec![
            rung(&engine, "naive", work("naive", rows.div_ceil(64))),
            rung(&engine, "tree", work("tree", rows)),
            engine.on_gpu("engine"),
        ],
        exact: Box::new(move || engine.exact()),
        tolerance: 1e-5,
    }
}
