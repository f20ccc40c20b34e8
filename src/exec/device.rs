//! Devices by one call, for programs that leave the choice of threads, instruction set and adapter
//! to the engine.

use super::Device;
use super::cpu::Cpu;
#[cfg(feature = "gpu")]
use super::gpu::Gpu;
#[cfg(feature = "gpu")]
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
#[cfg(feature = "gpu")]
pub fn gpu() -> Result<Box<dyn Device>> {
    Ok(Box::new(Gpu::open(&Adapter::choose(&Choice::Any)?)?))
}

/// No GPU: this build has not the feature `gpu`.
///
/// # Errors
/// Always.
#[cfg(not(feature = "gpu"))]
pub fn gpu() -> Result<Box<dyn Device>> {
    Err(Error::Failed("this build has not the feature `gpu`".into()))
}

/// The fastest real GPU, where there is one and the build has the feature `gpu`, else the CPU.
///
/// # Errors
/// If there is a GPU that cannot be opened, or `WGPU_BACKEND` names no interface.
pub fn auto() -> Result<Box<dyn Device>> {
    #[cfg(feature = "gpu")]
    match Adapter::choose(&Choice::Real) {
        Ok(adapter) => return Ok(Box::new(Gpu::open(&adapter)?)),
        Err(Error::Failed(_)) => {}
        Err(error) => return Err(error),
    }
    cpu()
}
