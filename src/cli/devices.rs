//! `cifar-engine devices`: what `--device` can name.

use clap::Args;
use serde_json::json;

use crate::console;
use crate::error::Result;
use crate::exec::gpu::adapter::{Adapter, Choice, Description};
use crate::kernels::simd::Isa;

#[derive(Args)]
#[command(after_help = "Examples:
  cifar-engine devices
  WGPU_BACKEND=dx12 cifar-engine devices --json")]
pub struct Devices {
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

impl Devices {
    pub fn run(self) -> Result<()> {
        let gpus: Vec<Description> = Adapter::all().iter().map(Adapter::description).collect();
        let taken = Adapter::choose(&Choice::Real).ok().map(|adapter| adapter.description());
        let auto = |gpu: &Description| taken.as_ref().is_some_and(|taken| taken.name == gpu.name);
        let isa = Isa::detect().to_string();
        if self.json {
            let auto = taken.as_ref().map_or("cpu".into(), |gpu| format!("gpu:{}", gpu.name));
            return console::print_json(&json!({"cpu": {"isa": isa}, "gpus": gpus, "auto": auto}));
        }
        let mark = |auto: bool| if auto { "  <- auto" } else { "" };
        console::print(format_args!("cpu: {isa}{}", mark(taken.is_none())))?;
        for gpu in &gpus {
            print_gpu(gpu, mark(auto(gpu)))?;
        }
        if gpus.is_empty() {
            console::print("gpu: none (no Vulkan, Metal or DirectX 12 driver answers)")?;
        }
        Ok(())
    }
}

fn print_gpu(gpu: &Description, mark: &str) -> Result<()> {
    let Description { name, kind, interface, driver, .. } = gpu;
    let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
    console::print(format_args!("gpu:{name}: {kind}, {interface}, driver {driver}{mark}"))?;
    console::print(format_args!(
        "  buffers up to {:.1} GiB, {:.1} GiB of them in a shader; workgroups of {}, sharing {} KiB",
        gib(gpu.buffer_bytes),
        gib(gpu.binding_bytes),
        gpu.invocations,
        gpu.workgroup_bytes >> 10
    ))?;
    console::print(format_args!("  features: {}", gpu.features.join(", ")))
}
