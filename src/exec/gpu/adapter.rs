//! Which GPUs there are, and which one is taken.

use serde::Serialize;
use wgpu::{Backends, DeviceType, InstanceDescriptor, InstanceFlags};

use crate::console;
use crate::environment;
use crate::error::{Error, Result};

/// A GPU, or a program that plays one.
#[derive(Clone, Debug)]
pub struct Adapter {
    pub(super) inner: wgpu::Adapter,
}

/// An adapter as it is listed.
#[derive(Clone, Debug, Serialize)]
pub struct Description {
    /// Name by the driver.
    pub name: String,
    /// Kind: discrete, integrated, virtual, software or other.
    pub kind: &'static str,
    /// vulkan, metal or dx12.
    pub interface: &'static str,
    /// Name and version.
    pub driver: String,
    /// The largest buffer.
    pub buffer_bytes: u64,
    /// The largest part of a buffer that a shader can reach.
    pub binding_bytes: u64,
    /// Memory that a workgroup shares.
    pub workgroup_bytes: u32,
    /// The largest workgroup.
    pub invocations: u32,
    /// By wgpu's names.
    pub features: Vec<String>,
}

/// Which adapter to take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The fastest real GPU: a discrete one before an integrated one.
    Real,
    /// The first real GPU, and where there is no real GPU, a software rasteriser.
    Any,
    /// The first whose name contains this, in any case of letters.
    Named(String),
}

impl Adapter {
    /// All adapters of this machine, the best first. `WGPU_BACKEND` (`vulkan`, `metal` or `dx12`)
    /// restricts them to one interface. Without a graphics library there are none.
    ///
    /// # Errors
    /// If `WGPU_BACKEND` names no interface.
    pub fn all() -> Result<Vec<Adapter>> {
        let mut descriptor = InstanceDescriptor::new_without_display_handle();
        // Debug builds would look for the validation layers, which are a developer's to ask for.
        descriptor.flags = InstanceFlags::empty();
        let mut descriptor = descriptor.with_env();
        descriptor.backends = backends(environment::text("WGPU_BACKEND").as_deref())?;
        let backends = descriptor.backends;
        let inner = console::hushed(|| {
            let instance = wgpu::Instance::new(descriptor);
            pollster::block_on(instance.enumerate_adapters(backends))
        });
        let mut adapters: Vec<Adapter> = inner.into_iter().map(|inner| Adapter { inner }).collect();
        adapters.sort_by_key(Adapter::rank);
        Ok(adapters)
    }

    /// Takes an adapter. `WGPU_ADAPTER_NAME` stands in for a name where none is chosen.
    ///
    /// # Errors
    /// [`Error::Failed`] if there is none of this kind: the message lists what there is. As
    /// [`Adapter::all`].
    pub fn choose(choice: &Choice) -> Result<Adapter> {
        let name = match choice {
            Choice::Named(name) => Some(name.clone()),
            Choice::Real | Choice::Any => environment::text("WGPU_ADAPTER_NAME"),
        };
        let adapters = Adapter::all()?;
        let fits = |adapter: &&Adapter| {
            let kind = *choice != Choice::Real || !adapter.is_software();
            kind && name.as_ref().is_none_or(|name| adapter.is_called(name))
        };
        adapters.iter().find(fits).cloned().ok_or_else(|| {
            let wanted = name.map_or("no GPU".into(), |name| format!("no GPU whose name contains '{name}'"));
            let names: Vec<String> = adapters.iter().map(Adapter::name).collect();
            let found = if names.is_empty() { "none at all".into() } else { names.join(", ") };
            Error::Failed(format!("there is {wanted} (found: {found}); choose another `device`"))
        })
    }

    /// Name by the driver.
    pub fn name(&self) -> String {
        self.inner.get_info().name
    }

    /// Whether it computes on the CPU, far slower than the CPU backend does.
    pub fn is_software(&self) -> bool {
        self.inner.get_info().device_type == DeviceType::Cpu
    }

    /// Description for people and JSON.
    pub fn description(&self) -> Description {
        let (info, limits) = (self.inner.get_info(), self.inner.limits());
        Description {
            kind: match info.device_type {
                DeviceType::DiscreteGpu => "discrete",
                DeviceType::IntegratedGpu => "integrated",
                DeviceType::VirtualGpu => "virtual",
                DeviceType::Cpu => "software",
                DeviceType::Other => "other",
            },
            name: info.name,
            interface: info.backend.to_str(),
            driver: format!("{} {}", info.driver, info.driver_info).trim().to_string(),
            buffer_bytes: limits.max_buffer_size,
            binding_bytes: limits.max_storage_buffer_binding_size,
            workgroup_bytes: limits.max_compute_workgroup_storage_size,
            invocations: limits.max_compute_invocations_per_workgroup,
            features: self.inner.features().iter_names().map(|(name, _)| name.to_lowercase()).collect(),
        }
    }

    fn is_called(&self, name: &str) -> bool {
        self.name().to_lowercase().contains(&name.to_lowercase())
    }

    fn rank(&self) -> u8 {
        match self.inner.get_info().device_type {
            DeviceType::DiscreteGpu => 0,
            DeviceType::IntegratedGpu => 1,
            DeviceType::VirtualGpu => 2,
            DeviceType::Other => 3,
            DeviceType::Cpu => 4,
        }
    }
}

/// The interfaces that `WGPU_BACKEND` names, by a list with commas; all where it is unset.
fn backends(value: Option<&str>) -> Result<Backends> {
    let Some(value) = value else { return Ok(Backends::all()) };
    let wrong = |name: &&str| Backends::from_comma_list(name).is_empty();
    match value.split(',').find(wrong) {
        None => Ok(Backends::from_comma_list(value)),
        Some(name) => Err(Error::Usage(format!(
            "the environment variable WGPU_BACKEND names no interface '{}': vulkan, metal or dx12, or leave it unset",
            name.trim()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_interface_is_an_error_that_names_the_variable() {
        assert_eq!(backends(None).unwrap(), Backends::all());
        assert_eq!(backends(Some("Vulkan, dx12")).unwrap(), Backends::VULKAN | Backends::DX12);
        for wrong in ["vulcan", "vulkan,directx"] {
            let error = backends(Some(wrong)).unwrap_err().to_string();
            assert!(error.contains("WGPU_BACKEND"), "{error}");
        }
    }
}
