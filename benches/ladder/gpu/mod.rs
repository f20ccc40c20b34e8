//! The ladders of the GPU: shaders by hand, run by the engine's own device as ops that differ from
//! its own in their launches alone.

pub mod batch_norm;
pub mod cross_entropy;
pub mod max_pool;
pub mod products;

use std::sync::Arc;

use cifar_engine::exec::gpu::adapter::{Adapter, Choice};
use cifar_engine::kernels::peak::Peak;
use cifar_engine::ops::Types;
use cifar_engine::ops::dispatch::{Dispatch, Dispatches, Operand, Shader};
use cifar_engine::ops::linear::matmul::Matmul;
use cifar_engine::ops::movement::copy::Copy;

use super::altered::Altered;
use super::engine::{Chain, Input};
use super::{Rung, noise};

/// The GPU that the ladders run on; a program that plays one where there is no other.
///
/// # Errors
/// If there is neither.
pub fn adapter() -> Result<Adapter, String> {
    Adapter::choose(&Choice::Any).map_err(|error| error.to_string())
}

/// The first size for a GPU, the second for a program that plays one.
fn size<T>(real: T, software: T) -> T {
    match adapter().is_ok_and(|adapter| adapter.is_software()) {
        true => software,
        false => real,
    }
}

/// What the GPU does at most: the engine's own product of large matrices, and a copy of memory.
pub fn peak() -> Peak {
    let (side, copied) = size((4096, 32 << 20), (512, 4 << 20));
    let rate = |chain: Chain, work: u64| {
        let mut program = chain.on_gpu("peak").program;
        work as f64 / (0..3).map(|_| program.time()).fold(f64::INFINITY, f64::min)
    };
    let matrix = |seed| Input::floats(&[side, side], &noise(side * side, seed));
    let product = Chain::of(Matmul { a_transposed: false, b_transposed: false }, vec![matrix(1), matrix(2)]);
    let copy = Chain::of(Copy, vec![Input::floats(&[copied], &noise(copied, 3))]);
    let (flops, bytes) = (product.cost().flops, copy.cost().bytes);
    Peak { flops: rate(product, flops), bytes: rate(copy, bytes) }
}

/// A rung of a ladder whose last is this chain of one op: the same op with other launches.
fn rung(engine: &Chain, name: &'static str, work: Dispatches) -> Rung {
    let op = Altered { op: engine.ops[0].clone(), work: move |_: &Types| work.clone() };
    Chain { ops: vec![Arc::new(op)], ..engine.clone() }.on_gpu(name)
}

/// A launch of a shader's entry.
fn launch(
    source: &'static str,
    entry: &'static str,
    constants: &[(&'static str, usize)],
    bindings: &[Operand],
    groups: [usize; 3],
) -> Dispatch {
    Dispatch {
        shader: Shader { name: "ladder", source, chosen: &[] },
        entry,
        constants: constants.iter().map(|&(name, value)| (name, value as f64)).collect(),
        bindings: bindings.to_vec(),
        groups: groups.map(|groups| groups as u32),
    }
}
