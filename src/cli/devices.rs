//! `cifar-engine devices`: what `--device` can name.

use clap::Args;
use serde_json::json;

use super::system::{self, Processor};
use crate::console::{self, Level};
use crate::error::Result;
use crate::exec::gpu::adapter::{Adapter, Choice, Description};
use crate::text::{bytes, counted};

#[derive(Args)]
#[command(after_help = "Examples:
  cifar-engine devices
  cifar-engine devices --verbose                with the features of the GPUs
  WGPU_BACKEND=dx12 cifar-engine devices --json")]
pub struct Devices {
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

impl Devices {
    pub fn run(self) -> Result<()> {
        let adapters = Adapter::all()?;
        let taken = Adapter::among(&adapters, &Choice::Real).map(|adapter| adapter.description().index);
        let hints = Adapter::hints(&adapters);
        let gpus: Vec<Description> = adapters.iter().map(Adapter::description).collect();
        let cpu = system::processor();
        if self.json {
            let auto = taken.map_or("cpu".into(), |index| format!("gpu:{index}"));
            return console::print_json(&json!({"cpu": cpu, "gpus": gpus, "auto": auto, "hints": hints}));
        }
        let mark = |auto: bool| if auto { "  <- auto" } else { "" };
        print_cpu(&cpu, mark(taken.is_none()))?;
        for gpu in &gpus {
            print_gpu(gpu, mark(taken == Some(gpu.index)))?;
        }
        if gpus.is_empty() {
            let asked =
                if cfg!(feature = "gpu") { " (no Vulkan, Metal or DirectX 12 driver answers)" } else { "" };
            console::print(format_args!("gpu: none{asked}"))?;
        }
        hints.iter().try_for_each(|hint| console::print(format_args!("hint: {hint}")))
    }
}

fn print_cpu(cpu: &Processor, mark: &str) -> Result<()> {
    let name = cpu.name.as_deref().unwrap_or(std::env::consts::ARCH);
    console::print(format_args!("cpu: {name}{mark}"))?;
    let memory = cpu.memory_bytes.map(|memory| format!("; memory {}", bytes(memory))).unwrap_or_default();
    let sets = cpu.isas.join(", ");
    console::print(format_args!("  {}; instruction sets {sets}{memory}", counted(cpu.threads, "thread")))
}

fn print_gpu(gpu: &Description, mark: &str) -> Result<()> {
    let Description { index, name, kind, interface, driver, pci, .. } = gpu;
    let pci = pci.as_ref().map(|address| format!(", PCI {address}")).unwrap_or_default();
    console::print(format_args!("gpu:{index}: {name}: {kind}, {interface}, driver {driver}{pci}{mark}"))?;
    let (buffer, binding) = (bytes(gpu.buffer_bytes), bytes(gpu.binding_bytes));
    console::print(format_args!("  buffers up to {buffer}, of which a shader sees {binding} at once"))?;
    let shared = bytes(u64::from(gpu.workgroup_bytes));
    let half = if gpu.half_precision { "half precision" } else { "no half precision" };
    console::print(format_args!(
        "  workgroups of {} invocations, sharing {shared}; {half}",
        gpu.invocations
    ))?;
    if !console::says(Level::Verbose) {
        return Ok(());
    }
    let features: Vec<&str> = gpu.features.iter().map(String::as_str).collect();
    features.chunks(4).try_for_each(|some| console::print(format_args!("  feature {}", some.join(", "))))
}
