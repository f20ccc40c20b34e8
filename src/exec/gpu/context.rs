//! An open GPU: its queue, its limits, and the first thing that went wrong with it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytemuck::Pod;
use wgpu::{
    BufferDescriptor, BufferUsages, DeviceDescriptor, Features, MapMode, PollError, PollStatus, PollType,
    SubmissionIndex,
};

use super::adapter::Adapter;
use super::limits::check_device;
use super::memory::Region;
use crate::console;
use crate::error::{Error, Result};
use crate::exec::Precision;
use crate::exec::launches::padded;

/// Uploads are cut into pieces of so many bytes, each of which the driver may hold a second time.
const UPLOAD_BYTES: usize = 32 << 20;
/// Time after which a GPU that does not answer is talked about.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Context {
    pub device: wgpu::Device,
    pub queue: wgpu::Queue,
    faults: Faults,
}

/// The first fault of a device, which explains all later ones. wgpu reports faults by callbacks.
#[derive(Clone, Default)]
struct Faults(Arc<Mutex<Option<String>>>);

impl Faults {
    fn report(&self, fault: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(fault);
    }

    fn first(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Context {
    /// Opens an adapter with the limits it has, and no feature beyond those of standard WebGPU that
    /// are needed.
    pub fn open(adapter: &Adapter, precision: Precision) -> Result<Context> {
        check_device(&adapter.name(), &adapter.inner.limits())?;
        adapter.check_precision(precision)?;
        let wanted = match precision {
            Precision::F32 => Features::TIMESTAMP_QUERY,
            Precision::F16 => Features::TIMESTAMP_QUERY | Features::SHADER_F16,
        };
        let descriptor = DeviceDescriptor {
            required_features: adapter.inner.features() & wanted,
            required_limits: adapter.inner.limits(),
            ..DeviceDescriptor::default()
        };
        let opened = pollster::block_on(adapter.inner.request_device(&descriptor));
        let (device, queue) =
            opened.map_err(|error| Error::op(adapter.name(), format!("cannot be opened: {error}")))?;
        let faults = Faults::default();
        let reported = faults.clone();
        device.on_uncaptured_error(Arc::new(move |error| {
            reported.report(describe(&error));
        }));
        let reported = faults.clone();
        device.set_device_lost_callback(move |reason, message| {
            let message = if message.is_empty() { format!("{reason:?}") } else { one_line(&message) };
            reported.report(format!("the GPU was lost ({message}); try again, or choose `device` cpu"));
        });
        Ok(Context { device, queue, faults })
    }

    /// Whether everything so far went well. A fault stays: what the device holds after it is
    /// unknown.
    ///
    /// # Errors
    /// The first fault.
    pub fn check(&self) -> Result<()> {
        self.faults.first().map_or(Ok(()), |fault| Err(Error::Failed(fault)))
    }

    /// A zeroed buffer for `bytes` bytes, which shaders and copies can reach.
    pub fn storage(&self, label: &str, bytes: usize) -> wgpu::Buffer {
        self.buffer(
            label,
            padded(bytes),
            BufferUsages::STORAGE | BufferUsages::COPY_SRC | BufferUsages::COPY_DST,
        )
    }

    /// A buffer that the host reads.
    pub fn staging(&self, bytes: usize) -> wgpu::Buffer {
        self.buffer("staging", bytes, BufferUsages::MAP_READ | BufferUsages::COPY_DST)
    }

    pub fn buffer(&self, label: &str, bytes: usize, usage: BufferUsages) -> wgpu::Buffer {
        let size = bytes as u64;
        self.device.create_buffer(&BufferDescriptor {
            label: Some(label),
            size,
            usage,
            mapped_at_creation: false,
        })
    }

    /// Writes the beginning of a region, before whatever is submitted next.
    pub fn write(&self, Region { buffer, offset }: &Region, bytes: &[u8]) -> Result<()> {
        for (i, piece) in bytes.chunks(UPLOAD_BYTES).enumerate() {
            self.queue.write_buffer(buffer, (offset + i * UPLOAD_BYTES) as u64, piece);
            if piece.len() == UPLOAD_BYTES {
                self.queue.submit([]);
            }
        }
        self.check()
    }

    /// Reads the beginning of a region, after everything that was submitted.
    pub fn read<T: Pod>(&self, region: &Region, bytes: usize) -> Result<Vec<T>> {
        self.read_with(region, bytes, <[T]>::to_vec)
    }

    /// Shows the first bytes of a region to somebody.
    pub fn read_with<T: Pod, R>(
        &self,
        Region { buffer, offset }: &Region,
        bytes: usize,
        see: impl FnOnce(&[T]) -> R,
    ) -> Result<R> {
        if bytes == 0 {
            return Ok(see(&[]));
        }
        let staging = self.staging(bytes);
        let mut encoder = self.device.create_command_encoder(&Default::default());
        encoder.copy_buffer_to_buffer(buffer, *offset as u64, &staging, 0, bytes as u64);
        self.queue.submit([encoder.finish()]);
        staging.slice(..).map_async(MapMode::Read, |_| ());
        self.wait(None)?;
        self.mapped(&staging, see)
    }

    /// Shows the contents of a staging buffer that is mapped; unmaps it.
    pub fn mapped<T: Pod, R>(&self, staging: &wgpu::Buffer, see: impl FnOnce(&[T]) -> R) -> Result<R> {
        let view = staging.slice(..).get_mapped_range();
        let view = view.map_err(|error| Error::Failed(format!("the GPU gave no result: {error}")))?;
        let seen = see(bytemuck::cast_slice(&view)); // mapped memory lies at multiples of 8 bytes
        drop(view);
        staging.unmap();
        Ok(seen)
    }

    /// Lets the driver report what has ended.
    pub fn poll(&self) -> Result<()> {
        self.answer(self.device.poll(PollType::Poll))
    }

    /// Waits until a submission has ended, or all have; says so if that takes long.
    pub fn wait(&self, submission_index: Option<SubmissionIndex>) -> Result<()> {
        let wait = |timeout| {
            self.device.poll(PollType::Wait { submission_index: submission_index.clone(), timeout })
        };
        self.answer(patiently(wait, || {
            console::info(format_args!(
                "the GPU has not answered for {} s; still waiting (Ctrl-C twice ends the program)",
                PATIENCE.as_secs()
            ));
        }))
    }

    fn answer(&self, result: std::result::Result<PollStatus, PollError>) -> Result<()> {
        self.check()?;
        result.map(|_| ()).map_err(|error| Error::Failed(format!("the GPU does not answer: {error}")))
    }
}

/// Waits for a time and, where that was not enough, tells and waits on without an end.
fn patiently<T>(
    wait: impl Fn(Option<Duration>) -> std::result::Result<T, PollError>,
    tell: impl FnOnce(),
) -> std::result::Result<T, PollError> {
    match wait(Some(PATIENCE)) {
        Err(PollError::Timeout) => {
            tell();
            wait(None)
        }
        answer => answer,
    }
}

/// What a driver said, in one line.
pub fn describe(error: &wgpu::Error) -> String {
    match error {
        wgpu::Error::OutOfMemory { .. } => "the GPU is out of memory; choose a smaller batch".into(),
        error => format!("the GPU refused: {}", one_line(&error.to_string())),
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn a_long_wait_is_talked_about_once_and_goes_on() {
        for answers in [true, false] {
            let said = Cell::new(false);
            let wait = |timeout: Option<Duration>| match timeout {
                Some(_) if !answers => Err(PollError::Timeout),
                timeout => Ok(timeout.is_some()),
            };
            assert_eq!(patiently(wait, || said.set(true)).unwrap(), answers);
            assert_eq!(said.get(), !answers);
        }
    }
}
