//! Shaders as they are written, without the checks that wgpu adds to each.
//!
//! wgpu clamps every index to its array and counts the turns of every loop. That costs a twelfth of
//! a training step (4.92 ms of an H200 with the checks, 4.53 without). Our shaders are written so
//! that an index is inside by construction and a loop ends.

#![allow(unsafe_code)] // a shader is the kernel of a GPU; nowhere else outside `kernels`

use wgpu::{Device, ShaderModule, ShaderModuleDescriptor, ShaderRuntimeChecks};

/// The compiled module of one of this crate's shaders.
pub fn module(device: &Device, descriptor: ShaderModuleDescriptor) -> ShaderModule {
    // SAFETY: the shaders of `shaders/` keep indices inside their arrays and end their loops, for
    // the constants that ops give; nothing that a user gives becomes an index without a bound. This
    // is by construction. It is tested for the cases of every op and for trainings of two models:
    // there shaders compare every index with the length of what it is into, and none is outside
    // (`tests/gpu/checks.rs`). That is no proof for other shapes.
    unsafe { device.create_shader_module_trusted(descriptor, ShaderRuntimeChecks::unchecked()) }
}
