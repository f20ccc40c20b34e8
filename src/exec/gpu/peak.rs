//! Peak rates of a GPU, as far as this program can reach them: those of its own product of large
//! matrices, and of its own copy of memory.

use super::Gpu;
use crate::error::Result;
use crate::exec::Device;
use crate::graph::{Graph, Value};
use crate::kernels::peak::Peak;
use crate::ops::movement::copy::Copy;
use crate::tensor::TensorType;

/// Sides of the matrices: the first whose product takes [`LONG`], or the last.
const SIDES: [usize; 4] = [512, 1024, 2048, 4096];

/// Seconds that are long for a launch. A program that plays a GPU takes them for the first.
const LONG: f64 = 5e-3;

/// Elements that are copied (64 MB): beyond most caches.
const COPIED: usize = 16 << 20;

/// Number of runs, of which the fastest counts.
const RUNS: usize = 5;

/// Measures both, which takes well below a second.
///
/// # Errors
/// If the device fails, or has no room for it.
pub fn measure(gpu: &mut Gpu) -> Result<Peak> {
    let mut peak = Peak { flops: 0.0, bytes: 0.0 };
    for side in SIDES {
        let product = |graph: &mut Graph, x: Value| graph.matmul(x, x);
        let seconds = fastest(gpu, TensorType::f32([side, side]), product)?;
        peak.flops = peak.flops.max(2.0 * (side as f64).powi(3) / seconds);
        if seconds > LONG {
            break;
        }
    }
    let copy = |graph: &mut Graph, x: Value| Ok(graph.apply(Copy, &[x])?[0]);
    peak.bytes = (8 * COPIED) as f64 / fastest(gpu, TensorType::f32([COPIED]), copy)?;
    Ok(peak)
}

/// Seconds of the fastest run of an op of one input.
fn fastest(gpu: &mut Gpu, ty: TensorType, op: impl Fn(&mut Graph, Value) -> Result<Value>) -> Result<f64> {
    let mut graph = Graph::new();
    let x = graph.input("x", ty.clone());
    let y = op(&mut graph, x)?;
    graph.output("y", y);
    let plan = gpu.load(&graph)?;
    let mut time = || {
        gpu.write(plan, "x", vec![1.0f32; ty.len()].as_slice().into())?;
        let mut fastest = f64::INFINITY;
        for _ in 0..RUNS {
            let mut taken = 0.0;
            gpu.profile(plan, &mut |_, _, seconds| taken += seconds)?;
            fastest = fastest.min(taken);
        }
        Ok(fastest)
    };
    let time = time();
    gpu.unload(plan)?;
    time
}
