//! `cifar-engine doctor`: is what the device computes right, and what does it run on?

use std::collections::BTreeMap;

use clap::Args;
use serde_json::{Value, json};

use super::device::{DeviceOptions, OpenDevice};
use super::{progress, stopped, system};
use crate::console;
use crate::data;
use crate::error::{Error, Result};
use crate::exec::Device;
use crate::exec::gpu::adapter::Adapter;
use crate::files::free_space;
use crate::inspect::explain::unknown_op;
use crate::memory;
use crate::selftest::case::Case;
use crate::selftest::finding::{Finding, Yardstick, by_op};
use crate::text::{bytes, counted};

#[derive(Args)]
#[command(after_help = "Examples:
  cifar-engine doctor                  the device that auto takes
  cifar-engine doctor --device gpu     each op against the CPU
  cifar-engine doctor --op conv2d --op matmul --json")]
pub struct Doctor {
    /// An op to check; several times for several [default: all].
    #[arg(long = "op", value_name = "NAME")]
    ops: Vec<String>,

    /// Print the result as JSON.
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    device: DeviceOptions,
}

impl Doctor {
    /// Runs the test cases of every op, those of the backward pass and the optimizers included, and
    /// prints each op as it is done. A GPU is held against the CPU, the CPU against the definitions
    /// of the ops in double precision.
    pub fn run(self) -> Result<()> {
        let OpenDevice { mut device, is_gpu, name, json } = self.device.open_with(|_, _| ())?;
        let mut cpu = self.device.cpu()?;
        let mut ops = self.chosen()?;
        ops.values_mut().for_each(|cases| cases.retain(|case| !is_gpu || case.has_shaders()));
        ops.retain(|_, cases| !cases.is_empty());
        if !self.json {
            print_machine()?;
            print_device(&name, &json, is_gpu)?;
        }
        let mut yardstick = if is_gpu { Yardstick::Device(&mut cpu) } else { Yardstick::Definition };
        let mut findings = BTreeMap::new();
        for (&op, cases) in &ops {
            let finding = examine(op, cases, device.as_mut(), &mut yardstick)?;
            if !self.json {
                print(&finding, op)?;
            }
            findings.insert(op, finding);
        }
        let wrong = findings.values().filter(|finding| !finding.is_right()).count();
        if self.json {
            let mut result = json!({"program": concat!("cifar-engine ", env!("CARGO_PKG_VERSION"))});
            result.as_object_mut().into_iter().for_each(|result| {
                result.extend(json.as_object().into_iter().flatten().map(|(k, v)| (k.clone(), v.clone())));
            });
            (result["right"], result["ops"]) = (json!(wrong == 0), json!(findings));
            console::print_json(&result)?;
        }
        match wrong {
            0 if self.json => Ok(()),
            0 => console::print(format_args!("all {} ops are right on: {name}", ops.len())),
            _ => Err(Error::Failed(format!("{wrong} of {} ops are wrong on: {name}", ops.len()))),
        }
    }

    /// The cases of the ops that are to be checked.
    fn chosen(&self) -> Result<BTreeMap<&'static str, Vec<Case>>> {
        let mut all = by_op();
        if let Some(unknown) = self.ops.iter().find(|op| !all.contains_key(op.as_str())) {
            return Err(unknown_op(unknown));
        }
        all.retain(|op, _| self.ops.is_empty() || self.ops.iter().any(|chosen| chosen == op));
        Ok(all)
    }
}

/// The device, what may keep a GPU away where it is none, and the head of the table.
fn print_device(name: &str, about: &Value, is_gpu: bool) -> Result<()> {
    console::print(format_args!("device:   {name}"))?;
    if let Some(driver) = about["driver"].as_str() {
        console::print(format_args!("driver:   {driver}"))?;
    }
    if !is_gpu {
        let hints = Adapter::all().map(|adapters| Adapter::hints(&adapters)).unwrap_or_default();
        hints.iter().try_for_each(|hint| console::print(format_args!("no GPU:   {hint}")))?;
    }
    console::print("")?;
    console::print(format_args!("{:<28} {:>5}  {:>13}", "op", "cases", "largest error"))
}

/// Runs the cases of an op on a device, with a bar of how far it is: on a GPU some take minutes.
///
/// # Errors
/// If the user interrupts, or the yardstick cannot say what is right.
pub fn examine(
    op: &str,
    cases: &[Case],
    device: &mut dyn Device,
    yardstick: &mut Yardstick,
) -> Result<Finding> {
    let bar = progress::bar(op, cases.len());
    let mut finding = Finding::default();
    for case in cases {
        if stopped() {
            bar.finish_and_clear();
            return Err(Error::Interrupted);
        }
        finding.examine(device, case, yardstick)?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(finding)
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

fn print(finding: &Finding, op: &str) -> Result<()> {
    let verdict =
        if finding.is_right() { console::coloured("ok", 32) } else { console::coloured("WRONG", 31) };
    let problem = finding.problem.as_ref().map(|problem| format!(" {problem}")).unwrap_or_default();
    let (cases, largest) = (finding.cases, finding.largest);
    console::print_own(format_args!("{op:<28} {cases:>5}  {largest:>13.1e}  {verdict}{problem}"))
}
