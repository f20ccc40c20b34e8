//! Devices by one call, for programs that leave the choice of threads, instruction set and adapter
//! to the engine.

use super::Device;
use super::cpu::Cpu;
#[cfg(feature = "gpu")]
use super::gpu::Gpu;
use super::gpu::adapter::{Adapter, Choice};
use crate::error::{Error, Result};
use crate::kernels::simd::Isa;

/// The CPU, with a thread for each core and the widest instruction set that it has.
///
/// # Errors
/// If the operating system gives no threads.
pub fn cpu() -> Result<Box<dyn Device>> {
    Ok(Box::new(Cpu::new(0, Isa::detect())?))
}

/// The fastest GPU; a software renderer where there is no other.
///
/// # Errors
/// If there is none, or it cannot be opened.
pub fn gpu() -> Result<Box<dyn Device>> {
    open(&Adapter::choose(&Choice::Any)?)
}

/// The GPU of an adapter.
///
/// # Errors
/// If it cannot be opened.
#[cfg(feature = "gpu")]
pub fn open(adapter: &Adapter) -> Result<Box<dyn Device>> {
    Ok(Box::new(Gpu::open(adapter)?))
}

/// The GPU of an adapter, of which this build has none.
///
/// # Errors
/// Never.
#[cfg(not(feature = "gpu"))]
pub fn open(adapter: &Adapter) -> Result<Box<dyn Device>> {
    match *adapter {}
}

/// The fastest real GPU, where there is one and the build has the feature `gpu`, else the CPU.
///
/// # Errors
/// If there is a GPU that cannot be opened, or `WGPU_BACKEND` names no interface.
pub fn auto() -> Result<Box<dyn Device>> {
    match Adapter::choose(&Choice::Real) {
        Ok(adapter) => open(&adapter),
        Err(Error::Failed(_)) => cpu(),
        Err(error) => Err(error),
    }
}
