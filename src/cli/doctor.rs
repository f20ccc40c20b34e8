//! `cifar-engine doctor`: is what the device computes right, and what does it run on?

use std::collections::BTreeMap;
use std::thread;

use clap::Args;
use serde_json::{Value, json};

use super::device::{DeviceOptions, OpenDevice};
use super::examine::{Pair, examine_all};
use super::system;
use super::train::quoted;
use crate::console;
use crate::data::{self, decoded::kept};
use crate::error::{Error, Result};
use crate::exec::Device;
use crate::exec::cpu::Cpu;
use crate::exec::device;
use crate::exec::gpu::adapter::Adapter;
use crate::files::free_space;
use crate::inspect::explain::unknown_op;
use crate::memory;
use crate::selftest::case::Case;
use crate::selftest::finding::{Finding, Yardstick, by_op, one_of_each_shader};
use crate::text::{bytes, counted};

/// A GPU is opened so often at most: each has memory of its own.
const MOST_DEVICES: usize = 8;

/// A device, and the CPU that it is held against; the CPU itself is held against the definitions.
type Held = (Box<dyn Device>, Option<Cpu>);

#[derive(Args)]
#[command(after_help = "Examples:
  cifar-engine doctor                  the device that auto takes
  cifar-engine doctor --device gpu     each op against the CPU
  cifar-engine doctor --device gpu --quick
  cifar-engine doctor --op conv2d --op matmul --json

On a GPU most of the time goes to its compiler, on several devices at once.")]
pub struct Doctor {
    /// An op to check; several times for several [default: all].
    #[arg(long = "op", value_name = "NAME")]
    ops: Vec<String>,

    /// Leave out the cases that run no shader but those of smaller ones of their op: other shapes,
    /// strides, attributes and tiles.
    #[arg(long)]
    quick: bool,

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
        let OpenDevice { device, is_gpu, adapter, name, json } = self.device.open_with(|_, _| ())?;
        let mut ops = self.chosen()?;
        ops.values_mut().for_each(|cases| cases.retain(|case| !is_gpu || case.has_shaders()));
        ops.retain(|_, cases| !cases.is_empty());
        let count = |ops: &BTreeMap<_, Vec<Case>>| ops.values().map(Vec::len).sum::<usize>();
        let all = count(&ops);
        if self.quick {
            ops.values_mut().for_each(|cases| *cases = one_of_each_shader(cases));
        }
        let left_out = all - count(&ops);
        if !self.json {
            print_machine()?;
            print_device(&name, &json, is_gpu)?;
        }
        let mut findings = BTreeMap::new();
        let cases = ops.iter().map(|(op, cases)| (*op, cases.as_slice())).collect();
        let mut devices = self.devices(device, adapter)?;
        let pairs = devices.iter_mut().map(|(device, cpu)| -> Pair {
            (device.as_mut(), cpu.as_mut().map_or(Yardstick::Definition, |cpu| Yardstick::Device(cpu)))
        });
        examine_all(&cases, pairs.collect(), |op, finding| {
            if !self.json {
                print(&finding, op)?;
            }
            findings.insert(op, finding);
            Ok(())
        })?;
        let wrong = findings.values().filter(|finding| !finding.is_right()).count();
        if self.json {
            let mut result = json!({"program": concat!("cifar-engine ", env!("CARGO_PKG_VERSION"))});
            result.as_object_mut().into_iter().for_each(|result| {
                result.extend(json.as_object().into_iter().flatten().map(|(k, v)| (k.clone(), v.clone())));
            });
            (result["right"], result["ops"]) = (json!(wrong == 0), json!(findings));
            result["left_out_cases"] = json!(left_out);
            result["cache"] = json!(data::Options::default().cache);
            result["decoded"] = data::Options::default()
                .cache
                .as_deref()
                .map(kept)
                .map_or(Value::Null, |kept| json!({"folder": kept.0, "files": kept.1, "bytes": kept.2}));
            console::print_json(&result)?;
        }
        if !self.json && self.quick {
            console::print(format_args!(
                "--quick left out {left_out} of {all} cases, whose shaders ran in others: other shapes, strides, \
                 attributes and tiles"
            ))?;
        }
        match wrong {
            0 if self.json => Ok(()),
            0 => console::print(format_args!("all {} ops are right on: {name}", ops.len())),
            _ => Err(Error::Failed(format!("{wrong} of {} ops are wrong on: {name}", ops.len()))),
        }
    }

    /// The device that is checked; a GPU several times, each beside a CPU, so that its driver
    /// compiles on several threads.
    fn devices(&self, device: Box<dyn Device>, adapter: Option<Adapter>) -> Result<Vec<Held>> {
        let Some(adapter) = adapter else { return Ok(vec![(device, None)]) };
        let threads = thread::available_parallelism().map_or(1, usize::from).min(MOST_DEVICES);
        // Where memory is short, there are fewer.
        let more = (1..threads).map_while(|_| device::open(&adapter).ok());
        let options = DeviceOptions { threads: 1, ..self.device.clone() };
        [device].into_iter().chain(more).map(|device| Ok((device, Some(options.cpu()?)))).collect()
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
    if let Some((folder, files, size)) = options.cache.as_deref().map(kept).filter(|(_, files, _)| *files > 0)
    {
        let (folder, files) = (quoted(&folder.to_string_lossy()), counted(files, "file"));
        console::print(format_args!(
            "decoded:  {files} of decoded images, {}, deleted where no run uses them for 30 days; at once by: rm -r {folder}",
            bytes(size)
        ))?;
    }
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
