//! The ladder of batch normalisation in training, with the ReLU that follows it.

use cifar_engine::ops::Function;
use cifar_engine::ops::dispatch::Operand::{Input as In, Output as Out};
use cifar_engine::ops::dispatch::{Dispatch, Dispatches};
use cifar_engine::ops::norm::batch_norm::BatchNorm;

use super::super::engine::{Chain, Input};
use super::super::{Floats, Ladder, noise};
use super::{launch, rung, size};

const EPSILON: f32 = 1e-3;
const SHADER: &str = include_str!("batch_norm.wgsl");

pub fn timed() -> Ladder {
    ladder(size(512 * 32 * 32, 8 * 32 * 32), 32)
}

pub fn odd() -> Vec<Ladder> {
    vec![ladder(2, 1), ladder(300, 7), ladder(77, 36)]
}

fn ladder(rows: usize, channels: usize) -> Ladder {
    let x = noise(rows * channels, 1).iter().map(|x| x + 0.25).collect::<Floats>();
    let vector = |seed| Input::floats(&[channels], &noise(channels, seed));
    let op = BatchNorm { epsilon: EPSILON, activation: Some(Function::Relu) };
    let engine = Chain::of(op, vec![Input::floats(&[rows, channels], &x), vector(2), vector(3)]);
    let work = |entry, groups| -> Dispatches {
        let sizes = [("ROWS", rows), ("CHANNELS", channels)];
        let launch = launch(SHADER, entry, &sizes, &[In(0), In(1), In(2), Out(0)], [groups, 1, 1]);
        let constants = [&launch.constants[..], &[("EPSILON", f64::from(EPSILON))]].concat();
        Dispatch { constants, ..launch }.into()
    };
    Ladder {
        title: format!("gpu-batch_norm: {rows} rows of {channels} channels"),
        cost: engine.cost(),
        rungs: vec![
            rung(&engine, "naive", work("naive", channels.div_ceil(32))),
            rung(&engine, "tree", work("tree", channels)),
            engine.on_gpu("engine"),
        ],
        exact: Box::new(move || engine.exact()),
        tolerance: 5e-5,
    }
}
