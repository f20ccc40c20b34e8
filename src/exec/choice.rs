//! Choices of a GPU, and what is said of one.

use serde::Serialize;

/// An adapter as it is listed.
#[derive(Clone, Debug, Serialize)]
pub struct Description {
    /// Number in the list of all, the best first.
    pub index: usize,
    /// Name by the driver.
    pub name: String,
    /// Kind: discrete, integrated, virtual, software or other.
    pub kind: &'static str,
    /// vulkan, metal or dx12.
    pub interface: &'static str,
    /// Name and version.
    pub driver: String,
    /// PCI address, which tells two cards of one kind apart: `0000:01:00.0`; none where the
    /// interface does not say.
    pub pci: Option<String>,
    /// The largest buffer.
    pub buffer_bytes: u64,
    /// The largest part of a buffer that a shader can reach.
    pub binding_bytes: u64,
    /// Memory that a workgroup shares.
    pub workgroup_bytes: u32,
    /// The largest workgroup.
    pub invocations: u32,
    /// Whether its shaders can store numbers in half precision.
    pub half_precision: bool,
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
    /// The one of this number in the list of all, from 0.
    Index(usize),
}
