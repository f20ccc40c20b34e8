//! Small outputs of every run, on their way to the host.
//!
//! Each run copies them into a staging buffer of its own, which the driver maps when the run has
//! ended; so nobody waits, and no run's values are lost.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use wgpu::{CommandEncoder, MapMode, PollType, SubmissionIndex};

use super::context::Context;
use crate::error::Result;

/// Runs under way at most: the next one waits for the oldest. So the host stays close behind the
/// device, and an interrupt is not answered late.
const DEPTH: usize = 8;

/// Values that the runs of a program record.
#[derive(Default)]
pub struct Readback {
    /// Buffers of the outputs, with their elements.
    outputs: Vec<(wgpu::Buffer, usize)>,
    /// Elements of one run's outputs.
    len: usize,
    idle: Vec<wgpu::Buffer>,
    /// Runs under way, oldest first.
    pending: VecDeque<Pending>,
    /// Values of runs that have ended, not collected yet.
    records: Vec<f32>,
}

struct Pending {
    staging: wgpu::Buffer,
    run: SubmissionIndex,
    mapped: Arc<AtomicBool>,
}

impl Readback {
    /// `outputs` are buffers, with the elements to be recorded of each.
    pub fn new(context: &Context, outputs: Vec<(wgpu::Buffer, usize)>) -> Readback {
        let len = outputs.iter().map(|(_, len)| len).sum();
        let idle = (0..DEPTH).map(|_| context.staging(4 * len)).collect();
        Readback { outputs, len, idle, ..Readback::default() }
    }

    /// Adds the copies to a run; returns where to.
    pub fn encode(
        &mut self,
        context: &Context,
        encoder: &mut CommandEncoder,
    ) -> Result<Option<wgpu::Buffer>> {
        if self.idle.is_empty() {
            self.finish_oldest(context)?;
        }
        let Some(staging) = self.idle.pop() else { return Ok(None) };
        let mut offset = 0;
        for (buffer, len) in &self.outputs {
            let bytes = 4 * *len as u64;
            encoder.copy_buffer_to_buffer(buffer, 0, &staging, offset, bytes);
            offset += bytes;
        }
        Ok(Some(staging))
    }

    /// Asks for the values of a run that has been submitted.
    pub fn submitted(&mut self, staging: wgpu::Buffer, run: SubmissionIndex) {
        let mapped = Arc::new(AtomicBool::new(false));
        let done = mapped.clone();
        staging
            .slice(..)
            .map_async(MapMode::Read, move |result| done.store(result.is_ok(), Ordering::Release));
        self.pending.push_back(Pending { staging, run, mapped });
    }

    /// Hands over the values of the runs that have ended, or of all.
    pub fn collect(&mut self, context: &Context, all: bool, visit: &mut dyn FnMut(&[f32])) -> Result<()> {
        context.poll(PollType::Poll)?;
        while self.pending.front().is_some_and(|run| all || run.mapped.load(Ordering::Acquire)) {
            self.finish_oldest(context)?;
        }
        if !self.records.is_empty() {
            self.records.chunks_exact(self.len).for_each(visit);
            self.records.clear();
        }
        Ok(())
    }

    fn finish_oldest(&mut self, context: &Context) -> Result<()> {
        if let Some(Pending { staging, run, mapped }) = self.pending.pop_front() {
            if !mapped.load(Ordering::Acquire) {
                context.poll(PollType::Wait { submission_index: Some(run), timeout: None })?;
            }
            let records = &mut self.records;
            context.mapped(&staging, |values: &[f32]| records.extend_from_slice(values))?;
            self.idle.push(staging);
        }
        Ok(())
    }
}
