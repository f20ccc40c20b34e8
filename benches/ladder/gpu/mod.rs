//! The ladders of the GPU: shaders by hand, run by the engine's own device as ops that differ from
//! its own in their launches alone.

pub mod batch_norm;
pub mod cross_entropy;
pub mod max_pool;
pub mod products;

use std::sync::Arc;

use cifar_engine::exec::Device;
use cifar_engine::exec::gpu::Gpu;
use cifar_engine::exec::gpu::adapter::{Adapter, Choice};
use cifar_engine::kernels::peak::Peak;
use cifar_engine::ops::Types;
use cifar_engine::ops::dispatch::{Bindings, Dispatch, Dispatches, Operand, Shader};

use super::Rung;
use super::altered::Altered;
use super::engine::Chain;

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

/// What the GPU does at most, as the engine measures it.
pub fn peak() -> Peak {
    let measured = adapter().and_then(|adapter| {
        Gpu::open(&adapter).and_then(|mut gpu| gpu.peak()).map_err(|error| error.to_string())
    });
    measured.ok().flatten().expect("a GPU that ran the shaders before")
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
        shader: Shader { name: "ladder", source, chosen: &[], halves: Bindings::NONE },
        entry,
        constants: constants.iter().map(|&(name, value)| (name, value as f64)).collect(),
        bindings: bindings.to_vec(),
        groups: groups.map(|groups| groups as u32),
    }
}
