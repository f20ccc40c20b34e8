//! Limits of an adapter: those that every shader counts on are checked when it is opened, those of
//! a plan ([`limits`]) when one is loaded.

use wgpu::Limits;

use crate::error::{Error, Result};
use crate::exec::limits;
use crate::ops::dispatch::{MAX_BINDINGS, MAX_GROUPS};

/// The shaders' largest workgroup, and the memory it shares: what WebGPU guarantees.
pub const MAX_INVOCATIONS: u32 = 256;
pub const MAX_WORKGROUP_BYTES: u32 = 16_384;

/// Checks that a GPU does what every shader counts on.
///
/// # Errors
/// Names the first limit that is too low.
pub fn check_device(name: &str, limits: &Limits) -> Result<()> {
    let needed = [
        ("storage buffers a shader", limits.max_storage_buffers_per_shader_stage, MAX_BINDINGS as u32),
        ("workgroups a dimension", limits.max_compute_workgroups_per_dimension, MAX_GROUPS),
        ("invocations a workgroup", limits.max_compute_invocations_per_workgroup, MAX_INVOCATIONS),
        ("bytes of workgroup memory", limits.max_compute_workgroup_storage_size, MAX_WORKGROUP_BYTES),
    ];
    match needed.into_iter().find(|(_, has, needs)| has < needs) {
        None => Ok(()),
        Some((what, has, needs)) => Err(Error::op(
            name,
            format!("allows {has} {what}, but {needs} are needed; choose another `device`"),
        )),
    }
}

impl From<&Limits> for limits::Limits {
    fn from(limits: &Limits) -> limits::Limits {
        limits::Limits {
            buffer: limits.max_buffer_size as usize,
            binding: limits.max_storage_buffer_binding_size as usize,
            groups: limits.max_compute_workgroups_per_dimension as usize,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_promises_of_webgpu_are_wgpus() {
        assert_eq!(limits::Limits::from(&Limits::defaults()), limits::Limits::WEBGPU);
    }

    #[test]
    fn a_gpu_below_webgpu_is_refused() {
        check_device("good", &Limits::defaults()).unwrap();
        let weak = Limits { max_compute_invocations_per_workgroup: 128, ..Limits::defaults() };
        let error = check_device("weak", &weak).unwrap_err().to_string();
        assert!(error.contains("weak: allows 128 invocations a workgroup, but 256"), "{error}");
    }
}
