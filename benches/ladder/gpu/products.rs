//! The ladders of the dense layer and the convolution: the same three products (`naive.wgsl`,
//! `workgroup_tile.wgsl`, `register_tile.wgsl`) on the operands of both.

use cifar_engine::ops::Function;
use cifar_engine::ops::conv::{Conv, Padding};
use cifar_engine::ops::dispatch::Operand::{self, Input as In, Output as Out};
use cifar_engine::ops::linear::matmul::Matmul;

use super::super::engine::{Chain, Input};
use super::super::{Ladder, noise};
use super::{launch, rung, size};

/// The product shaders behind some operands, with the rows and columns of a workgroup.
macro_rules! products {
    ($operands:literal) => {
        [
            ("naive", concat!(include_str!($operands), include_str!("naive.wgsl")), 16),
            ("workgroup tile", concat!(include_str!($operands), include_str!("workgroup_tile.wgsl")), 16),
            ("register tile", concat!(include_str!($operands), include_str!("register_tile.wgsl")), 64),
        ]
    };
}

/// The sizes of a product.
#[derive(Clone, Copy)]
struct Sizes {
    rows: usize,
    columns: usize,
    depth: usize,
}

pub fn dense_timed() -> Ladder {
    let side = size(2048, 256);
    dense(Sizes { rows: side, columns: side, depth: side })
}

pub fn dense_odd() -> Vec<Ladder> {
    vec![
        dense(Sizes { rows: 1, columns: 1, depth: 1 }),
        dense(Sizes { rows: 33, columns: 70, depth: 19 }),
        dense(Sizes { rows: 130, columns: 5, depth: 40 }),
    ]
}

fn dense(sizes: Sizes) -> Ladder {
    let Sizes { rows, columns, depth } = sizes;
    let a = Input::floats(&[rows, depth], &noise(rows * depth, 1));
    let b = Input::floats(&[depth, columns], &noise(depth * columns, 2));
    let engine = Chain::of(Matmul::default(), vec![a, b]);
    let title = format!("gpu-dense: [{rows}, {depth}] times [{depth}, {columns}]");
    ladder(title, engine, products!("dense.wgsl"), sizes, &[], &[In(0), In(1), Out(0)])
}

pub fn conv_timed() -> Ladder {
    conv(size([64, 32, 32, 64, 64], [2, 16, 16, 32, 32]))
}

pub fn conv_odd() -> Vec<Ladder> {
    vec![conv([1, 1, 1, 1, 1]), conv([2, 5, 7, 3, 19]), conv([3, 9, 11, 17, 70])]
}

fn conv([images, height, width, inputs, outputs]: [usize; 5]) -> Ladder {
    let x = Input::floats(&[images, height, width, inputs], &noise(images * height * width * inputs, 1));
    let w = Input::floats(&[3, 3, inputs, outputs], &noise(9 * inputs * outputs, 2));
    let bias = Input::floats(&[outputs], &noise(outputs, 3));
    let op = Conv { activation: Some(Function::Relu), ..Conv::new(1, Padding::Same, 1).with_bias() };
    let engine = Chain::of(op, vec![x, w, bias]);
    let title =
        format!("gpu-conv: {images} images of {height} x {width}, 3 x 3, {inputs} to {outputs} channels");
    let sizes = Sizes { rows: images * height * width, columns: outputs, depth: 9 * inputs };
    let constants = [("HEIGHT", height), ("WIDTH", width), ("CHANNELS", inputs)];
    ladder(title, engine, products!("conv.wgsl"), sizes, &constants, &[In(0), In(1), In(2), Out(0)])
}

fn ladder(
    title: String,
    engine: Chain,
    products: [(&'static str, &'static str, usize); 3],
    Sizes { rows, columns, depth }: Sizes,
    constants: &[(&'static str, usize)],
    bindings: &[Operand],
) -> Ladder {
    let constants = [constants, &[("ROWS", rows), ("COLUMNS", columns), ("DEPTH", depth)]].concat();
    let product = |(name, source, side): (&'static str, _, _)| {
        let groups = [columns.div_ceil(side), rows.div_ceil(side), 1];
        rung(&engine, name, launch(source, "main", &constants, bindings, groups).into())
    };
    let mut rungs: Vec<_> = products.into_iter().map(product).collect();
    rungs.push(engine.on_gpu("engine"));
    Ladder { title, cost: engine.cost(), exact: Box::new(move || engine.exact()), tolerance: 1e-5, rungs }
}
