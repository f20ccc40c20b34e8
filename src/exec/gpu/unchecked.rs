//! Shaders as they are written, without the checks that wgpu adds to each.
//!
//! wgpu clamps every index to its array and counts the turns of every loop. That costs a twelfth of
//! a training step (4.92 ms of an H200 with the checks, 4.53 without), and our shaders never need
//! it: an index is inside by construction, and a loop ends.

#![allow(unsafe_code)] // a shader is the kernel of a GPU; nowhere else outside `kernels`

use wgpu::{Device, ShaderModule, ShaderModuleDescriptor, ShaderRuntimeChecks};

/// The compiled module of one of this crate's shaders.
pub fn module(device: &Device, descriptor: ShaderModuleDescriptor) -> ShaderModule {
    // SAFETY: no index of `shaders/` is outside its array and no loop is endless, for the constants
    // that ops give: `tests/gpu/checks.rs` has the bits of checked modules from every case of every
    // op and from trainings, and sees an index that is outside. Nothing that a user gives becomes
    // an index without a bound, and Vulkan's drivers keep accesses inside buffers, as wgpu asks.
    unsafe { device.create_shader_module_trusted(descriptor, ShaderRuntimeChecks::unchecked()) }
}
