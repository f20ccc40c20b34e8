//! Times of the steps of a plan on a GPU.
//!
//! They are taken by the GPU's own clock where it has one that shaders' passes can be timed with,
//! else by the host's, one step at a time.

use std::time::Instant;

use wgpu::{
    BufferUsages, ComputePassDescriptor, ComputePassTimestampWrites, Features, QuerySetDescriptor, QueryType,
};

use super::context::Context;
use super::program::GpuProgram;
use crate::error::Result;

/// WebGPU allows no larger set of queries.
const MAX_QUERIES: usize = 4096;

/// Seconds of every step, of one run.
pub fn profile(context: &Context, program: &GpuProgram) -> Result<Vec<f64>> {
    let steps = program.steps();
    let mut seconds =
        if context.device.features().contains(Features::TIMESTAMP_QUERY) && 2 * steps <= MAX_QUERIES {
            by_timestamps(context, program, steps)
        } else {
            (0..steps).map(|step| by_the_host(context, program, step)).collect()
        }?;
    program.joined.iter().for_each(|joined| share(&mut seconds[joined.steps.clone()], &joined.bytes));
    Ok(seconds)
}

/// Divides the time of steps that one launch does among them, by the bytes that they move.
fn share(seconds: &mut [f64], bytes: &[u64]) {
    let [time, all] = [seconds.iter().sum(), bytes.iter().map(|&bytes| bytes as f64).sum::<f64>()];
    seconds.iter_mut().zip(bytes).for_each(|(seconds, &bytes)| *seconds = time * bytes as f64 / all);
}

/// Each step in a pass of its own, between two timestamps.
fn by_timestamps(context: &Context, program: &GpuProgram, steps: usize) -> Result<Vec<f64>> {
    let Context { device, queue, .. } = context;
    let count = 2 * steps as u32;
    let queries =
        device.create_query_set(&QuerySetDescriptor { label: None, ty: QueryType::Timestamp, count });
    let ticks =
        context.buffer("timestamps", 16 * steps, BufferUsages::QUERY_RESOLVE | BufferUsages::COPY_SRC);
    let mut encoder = device.create_command_encoder(&Default::default());
    for step in 0..steps {
        let begin = 2 * step as u32;
        let timestamp_writes = Some(ComputePassTimestampWrites {
            query_set: &queries,
            beginning_of_pass_write_index: Some(begin),
            end_of_pass_write_index: Some(begin + 1),
        });
        let mut pass = encoder.begin_compute_pass(&ComputePassDescriptor { label: None, timestamp_writes });
        program.encode(&mut pass, step..step + 1);
    }
    encoder.resolve_query_set(&queries, 0..count, &ticks, 0);
    queue.submit([encoder.finish()]);
    let ticks: Vec<u64> = context.read(&ticks.into(), 16 * steps)?;
    let seconds = f64::from(queue.get_timestamp_period()) * 1e-9;
    Ok(ticks.chunks_exact(2).map(|pair| pair[1].saturating_sub(pair[0]) as f64 * seconds).collect())
}

/// One step, from its submission to its end.
fn by_the_host(context: &Context, program: &GpuProgram, step: usize) -> Result<f64> {
    let mut encoder = context.device.create_command_encoder(&Default::default());
    program.encode(&mut encoder.begin_compute_pass(&Default::default()), step..step + 1);
    let begin = Instant::now();
    context.queue.submit([encoder.finish()]);
    context.wait(None)?;
    Ok(begin.elapsed().as_secs_f64())
}
