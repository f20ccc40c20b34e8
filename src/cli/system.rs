//! Facts about this machine: for `devices`, `doctor` and `--verbose`.

use std::fs;

use serde::Serialize;

use crate::kernels::simd::Isa;

/// The processor and its memory.
#[derive(Debug, Serialize)]
pub struct Processor {
    /// Name by its maker, where the system tells.
    pub name: Option<String>,
    /// Threads that this process may use at once.
    pub threads: usize,
    /// The instruction sets of the kernels that it has, the one that is taken first.
    pub isas: Vec<String>,
    pub isa: String,
    /// Memory of the machine.
    pub memory_bytes: Option<u64>,
}

/// The processor of this machine.
pub fn processor() -> Processor {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let isas = Isa::available().iter().map(Isa::to_string).collect();
    let name = field("/proc/cpuinfo", "model name");
    let total = field("/proc/meminfo", "MemTotal");
    let kib: Option<u64> = total.and_then(|total| total.split_whitespace().next()?.parse().ok());
    let memory_bytes = kib.map(|kib| kib << 10);
    Processor { name, threads, isas, isa: Isa::detect().to_string(), memory_bytes }
}

/// The value of the first line `NAME : VALUE` of a file of Linux.
fn field(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let value = |line: &str| {
        line.split_once(':').filter(|(key, _)| key.trim() == name).map(|(_, v)| v.trim().to_string())
    };
    text.lines().find_map(value)
}
