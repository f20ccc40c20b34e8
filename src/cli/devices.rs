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
        let gpus: Vec<Description> = Adapter::all()?.iter().map(Adapter::description).collect();
        let taken = Adapter::choose(&Choice::Real).ok().map(|adapter| adapter.description());
        let auto = |gpu: &Description| taken.as_ref().is_some_and(|taken| taken.name == gpu.name);
        let cpu = system::processor();
        if self.json {
            let auto = taken.as_ref().map_or("cpu".into(), |gpu| format!("gpu:{}", gpu.name));
            return console::print_json(&json!({"cpu": cpu, "gpus": gpus, "auto": auto}));
        }
        let mark = |auto: bool| if auto { "  <- auto" } else { "" };
        print_cpu(&cpu, mark(taken.is_none()))?;
        for gpu in &gpus {
            print_gpu(gpu, mark(auto(gpu)))?;
        }
        if gpus.is_empty() {
            console::print("gpu: none (no Vulkan, Metal or DirectX 12 driver answers)")?;
        }
        Ok(())
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
    let Description { name, kind, interface, driver, .. } = gpu;
    console::print(format_args!("gpu:{name}: {kind}, {interface}, driver {driver}{mark}"))?;
    let (buffer, binding) = (bytes(gpu.buffer_bytes), bytes(gpu.binding_bytes));
    console::print(format_args!("  buffers up to {buffer}, of which a shader sees {binding} at once"))?;
    let shared = bytes(u64::from(gpu.workgroup_bytes));
    console::print(format_args!("  workgroups of {} invocations, sharing {shared}", gpu.invocations))?;
    if !console::says(Level::Verbose) {
        return Ok(());
    }
    let features: Vec<&str> = gpu.features.iter().map(String::as_str).collect();
    features.chunks(4).try_for_each(|some| console::print(format_args!("  feature {}", some.join(", "))))
}
