//! A GPU as a command opens it: with what it tells about its shaders and tiles.

use std::time::Duration;

use serde_json::json;

use super::device::OpenDevice;
use crate::console;
use crate::data;
use crate::environment;
use crate::error::Result;
use crate::exec::gpu::adapter::Adapter;
use crate::exec::gpu::{Gpu, KeptTiles, Tuned, Tuning};
use crate::exec::{Device, Precision};
use crate::text::counted;

/// Time after which a GPU times no other tiles when a plan is loaded.
const TUNING: Duration = Duration::from_secs(1);

/// Opens a GPU; `compiled` hears of pipelines that it compiled, and the time it took.
///
/// # Errors
/// If it cannot be opened.
pub fn open_gpu(
    adapter: &Adapter,
    precision: Precision,
    compiled: fn(usize, Duration),
) -> Result<OpenDevice> {
    if adapter.is_software() {
        console::note(format_args!(
            "warning: {} is a software renderer, not a GPU: far slower than --device cpu",
            adapter.name()
        ));
    }
    let mut gpu = Gpu::open_in(adapter, precision)?;
    gpu.on_compile(compiled);
    let about = adapter.description();
    if environment::switch("CIFAR_ENGINE_GPU_TUNING").unwrap_or(!adapter.is_software()) {
        let folder = data::Options::default().cache.map(|cache| cache.join("tiles"));
        let kept = folder.map(|folder| KeptTiles::new(&folder, &gpu.name(), &about.driver));
        gpu.set_tuning(Some(Tuning { limit: TUNING, kept }));
        gpu.on_tune(tell_tuned);
    }
    let name = gpu.name();
    let json = json!({"device": "gpu", "adapter": about.name, "interface": about.interface, "driver": about.driver, "pci": about.pci, "precision": precision});
    Ok(OpenDevice { device: Box::new(gpu), is_gpu: true, adapter: Some(adapter.clone()), name, json })
}

fn tell_tuned(Tuned { products, changed, left, time }: Tuned) {
    let later = if left > 0 { format!("; {left} more when they run next") } else { String::new() };
    console::info(format_args!(
        "timed the tiles of {} in {:.1} s, once: {changed} other than estimated{later}",
        counted(products, "product"),
        time.as_secs_f64()
    ));
}
