//! `cifar-engine doctor`: is what the device computes right, and what does it run on?

use std::collections::BTreeMap;

use clap::Args;
use ndarray::ArrayD;

use super::device::{DeviceOptions, OpenDevice};
use super::{progress, stopped, system};
use crate::console;
use crate::data;
use crate::error::{Error, Result};
use crate::exec::Device;
use crate::files::free_space;
use crate::memory;
use crate::ops::reference::views;
use crate::selftest::case::Case;
use crate::selftest::cases;
use crate::selftest::probe::{farthest, run_case};
use crate::text::{bytes, counted};

#[derive(Args)]
#[command(after_help = "Examples:
  cifar-engine doctor                  the device that auto takes
  cifar-engine doctor --device gpu     each op against the CPU")]
pub struct Doctor {
    #[command(flatten)]
    device: DeviceOptions,
}

/// Largest error, relative to the largest value of a tensor: f32 rounding through sums in another
/// order, and elementary functions as the driver computes them.
const TOLERANCE: f64 = 2e-5;

/// Result for an op.
#[derive(Default)]
struct Finding {
    largest: f64,
    problem: Option<String>,
}

impl Doctor {
    /// Runs the test cases of every op, those of the backward pass and the optimizers included, and
    /// prints each op as it is done. A GPU is held against the CPU, the CPU against the definitions
    /// of the ops in double precision.
    pub fn run(self) -> Result<()> {
        let OpenDevice { mut device, is_gpu, name, json } = self.device.open_with(|_, _| ())?;
        let mut cpu = self.device.cpu()?;
        print_machine()?;
        console::print(format_args!("device:   {name}"))?;
        if let Some(driver) = json["driver"].as_str() {
            console::print(format_args!("driver:   {driver}"))?;
        }
        let mut ops: BTreeMap<&str, Vec<Case>> = BTreeMap::new();
        for case in cases::all().into_iter().filter(|case| !is_gpu || case.has_shaders()) {
            ops.entry(case.op.name()).or_default().push(case);
        }
        console::print("")?;
        console::print(format_args!("{:<28} {:>5}  {:>13}", "op", "cases", "largest error"))?;
        let mut wrong = 0;
        for (op, cases) in &ops {
            // On a GPU some ops take minutes.
            let bar = progress::bar(op, cases.len());
            let mut finding = Finding::default();
            for case in cases {
                if stopped() {
                    bar.finish_and_clear();
                    return Err(Error::Interrupted);
                }
                let expected = if is_gpu { run_case(&mut cpu, case, 1)? } else { reference(case) };
                finding.examine(device.as_mut(), case, &expected);
                bar.inc(1);
            }
            bar.finish_and_clear();
            finding.print(op, cases.len())?;
            wrong += usize::from(!finding.is_right());
        }
        match wrong {
            0 => console::print(format_args!("all {} ops are right on: {name}", ops.len())),
            _ => Err(Error::Failed(format!("{wrong} of {} ops are wrong on: {name}", ops.len()))),
        }
    }
}

/// Facts about the machine that the program runs on, and where it keeps what it downloads.
fn print_machine() -> Result<()> {
    let (version, system, arch) = (env!("CARGO_PKG_VERSION"), std::env::consts::OS, std::env::consts::ARCH);
    console::print(format_args!("program:  cifar-engine {version}, {system}, {arch}"))?;
    let cpu = system::processor();
    let name = cpu.name.as_deref().unwrap_or(arch);
    let sets = cpu.isas.join(", ");
    console::print(format_args!("cpu:      {name}, {}, {sets}", counted(cpu.threads, "thread")))?;
    if let Some((free, all)) = memory::available().zip(cpu.memory_bytes) {
        let free = free as u64;
        console::print(format_args!("memory:   {} free of {}", bytes(free), bytes(all)))?;
    }
    let options = data::Options::default();
    let cache = match &options.cache {
        Some(cache) if cache.is_dir() => match free_space(cache) {
            Some(free) => format!("{}, {} free on its disk", cache.display(), bytes(free)),
            None => cache.display().to_string(),
        },
        Some(cache) => format!("{} (not there yet)", cache.display()),
        None => "none (there is no home folder; set CIFAR_ENGINE_CACHE)".into(),
    };
    console::print(format_args!("cache:    {cache}"))?;
    let network = match options.offline {
        true => "off: CIFAR_ENGINE_OFFLINE is set",
        false => "may be used for downloads (CIFAR_ENGINE_OFFLINE=1 forbids it)",
    };
    console::print(format_args!("network:  {network}"))
}

fn reference(case: &Case) -> Vec<ArrayD<f64>> {
    let values: Vec<ArrayD<f64>> = (0..case.inputs.len()).map(|i| case.values(i)).collect();
    case.op.reference(&views(&values))
}

impl Finding {
    fn examine(&mut self, device: &mut dyn Device, case: &Case, expected: &[ArrayD<f64>]) {
        match run_case(device, case, 1) {
            Ok(found) => self.largest = self.largest.max(farthest(case, &found, expected)),
            Err(error) => self.problem = Some(error.to_string()),
        }
    }

    fn is_right(&self) -> bool {
        self.problem.is_none() && self.largest <= TOLERANCE
    }

    fn print(&self, op: &str, cases: usize) -> Result<()> {
        let verdict =
            if self.is_right() { console::coloured("ok", 32) } else { console::coloured("WRONG", 31) };
        let problem = self.problem.as_ref().map(|problem| format!(" {problem}")).unwrap_or_default();
        let largest = self.largest;
        console::print_own(format_args!("{op:<28} {cases:>5}  {largest:>13.1e}  {verdict}{problem}"))
    }
}
