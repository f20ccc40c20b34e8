//! Small outputs of every run, on their way to the host.
//!
//! Each run copies them into a staging buffer of its own, which the driver maps when the run has
//! ended; so nobody waits, and no run's values are lost.
//!
//! Some drivers report work as done that they gave up (Metal, when it took too long). So every run
//! has a number, which each of its submissions copies to a place of its own as its last act; the
//! values count only if all places hold it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use wgpu::{CommandEncoder, MapMode, SubmissionIndex};

use super::context::Context;
use super::memory::Region;
use crate::error::{Error, Result};

/// Runs under way at most: the next one waits for the oldest. So the host stays close behind the
/// device, and an interrupt is not answered late.
const DEPTH: usize = 8;

/// Values that the runs of a program record.
#[derive(Default)]
pub struct Readback {
    /// Memory of the outputs, with their elements; the last one is the marks.
    outputs: Vec<(Region, usize)>,
    /// Elements of one run's outputs, without the marks.
    len: usize,
    marks: Option<Marks>,
    idle: Vec<wgpu::Buffer>,
    /// Runs under way, oldest first.
    pending: VecDeque<Pending>,
    /// Values of runs that have ended, not collected yet.
    records: Vec<f32>,
}

/// Proof that the submissions of a run have ended.
struct Marks {
    /// The number of the run that begins.
    number: Region,
    /// That of the last run that each submission ended.
    ended: Region,
    /// The number of the last run; the first is 1, and buffers begin as zeros.
    last: u32,
}

struct Pending {
    staging: wgpu::Buffer,
    /// The run's number.
    number: u32,
    run: SubmissionIndex,
    mapped: Arc<AtomicBool>,
}

impl Readback {
    /// `outputs` are regions, with the elements to be recorded of each; a run is made of so many
    /// submissions.
    pub fn new(context: &Context, mut outputs: Vec<(Region, usize)>, submissions: usize) -> Readback {
        let len = outputs.iter().map(|(_, len)| len).sum();
        let [number, ended] = [1, submissions].map(|len| context.storage("marks", 4 * len).into());
        outputs.push((Region::clone(&ended), submissions));
        let idle = (0..DEPTH).map(|_| context.staging(4 * (len + submissions))).collect();
        let marks = Some(Marks { number, ended, last: 0 });
        Readback { outputs, len, marks, idle, ..Readback::default() }
    }

    /// Gives the next run its number.
    pub fn begin(&mut self, context: &Context) -> Result<()> {
        let Some(marks) = &mut self.marks else { return Ok(()) };
        marks.last = marks.last.wrapping_add(1).max(1);
        context.write(&marks.number, bytemuck::bytes_of(&marks.last))
    }

    /// Adds the mark of a submission to its end.
    pub fn mark(&self, submission: usize, encoder: &mut CommandEncoder) {
        if let Some(Marks { number, ended, .. }) = &self.marks {
            encoder.copy_buffer_to_buffer(&number.buffer, 0, &ended.buffer, 4 * submission as u64, 4);
        }
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
        for (Region { buffer, offset: from }, len) in &self.outputs {
            let bytes = 4 * *len as u64;
            encoder.copy_buffer_to_buffer(buffer, *from as u64, &staging, offset, bytes);
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
        let number = self.marks.as_ref().map_or(0, |marks| marks.last);
        self.pending.push_back(Pending { staging, number, run, mapped });
    }

    /// Hands over the values of the runs that have ended, or of all.
    pub fn collect(&mut self, context: &Context, all: bool, visit: &mut dyn FnMut(&[f32])) -> Result<()> {
        context.poll()?;
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
        if let Some(Pending { staging, number, run, mapped }) = self.pending.pop_front() {
            if !mapped.load(Ordering::Acquire) {
                context.wait(Some(run))?;
            }
            let (records, len) = (&mut self.records, self.len);
            let ended = context.mapped(&staging, |values: &[f32]| {
                let (values, marks) = values.split_at(len);
                let ended = marks.iter().all(|mark| mark.to_bits() == number);
                records.extend_from_slice(if ended { values } else { &[] });
                ended
            })?;
            if !ended {
                return Err(Error::Failed(
                    "the GPU reported a run as done that its driver gave up, perhaps because it took too \
                     long; choose a smaller batch, or `device` cpu"
                        .into(),
                ));
            }
            self.idle.push(staging);
        }
        Ok(())
    }
}
