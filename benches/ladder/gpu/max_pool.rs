//! The ladder of max pooling: windows of 3 x 3, two pixels apart, over borders of one.

use cifar_engine::ops::dispatch::Operand::{Input as In, Output as Out};
use cifar_engine::ops::pool::max_pool::MaxPool;

use super::super::engine::{Chain, Input};
use super::super::{Ladder, noise};
use super::{launch, rung, size};

const SHADER: &str = include_str!("max_pool.wgsl");

pub fn timed() -> Ladder {
    ladder(size([32, 112, 112, 64], [1, 112, 112, 64]))
}

pub fn odd() -> Vec<Ladder> {
    vec![ladder([1, 1, 1, 1]), ladder([2, 5, 4, 3]), ladder([3, 8, 11, 36])]
}

fn ladder([images, height, width, channels]: [usize; 4]) -> Ladder {
    let x = noise(images * height * width * channels, 1);
    let op = MaxPool { window: 3, stride: 2, padding: 1 };
    let engine = Chain::of(op, vec![Input::floats(&[images, height, width, channels], &x)]);
    let (down, across) = (height.div_ceil(2), width.div_ceil(2));
    let length = images * down * across * channels;
    let constants = [
        ("LENGTH", length),
        ("HEIGHT", height),
        ("WIDTH", width),
        ("CHANNELS", channels),
        ("OUT_HEIGHT", down),
        ("OUT_WIDTH", across),
    ];
    let work =
        |entry| launch(SHADER, entry, &constants, &[In(0), Out(0)], [length.div_ceil(256), 1, 1]).into();
    Ladder {
        title: format!("gpu-max_pool: {images} images of {height} x {width}, {channels} channels"),
        cost: engine.cost(),
        rungs: vec![
            rung(&engine, "naive", work("naive")),
            rung(&engine, "neighbours", work("neighbours")),
            engine.on_gpu("engine"),
        ],
        exact: Box::new(move || engine.exact()),
        tolerance: 0.0,
    }
}
