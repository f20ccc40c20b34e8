//! `--device`, and the device that it names.

use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

#[cfg(feature = "gpu")]
use super::gpu::open_gpu;
use super::values::{known, read};
use crate::console;
use crate::error::{Error, Result};
use crate::exec::cpu::Cpu;
use crate::exec::gpu::adapter::{Adapter, Choice};
use crate::exec::{Device, Precision};
use crate::kernels::simd::{Isa, UnknownIsa};

/// Where the computation runs.
#[derive(Args, Clone, Debug)]
pub struct DeviceOptions {
    /// auto (a real GPU if there is one, else the CPU), cpu, gpu, gpu:INDEX by the numbers of
    /// `cifar-engine devices`, or gpu:NAME, a part of a name there.
    #[arg(long, default_value = "auto", value_name = "DEVICE", env = "CIFAR_ENGINE_DEVICE", hide_env = true, hide_possible_values = true, value_parser = known(["auto", "cpu", "gpu"], read::<DeviceArg>))]
    pub device: DeviceArg,

    /// Threads of the CPU; 0 for one a core.
    #[arg(long, default_value_t = 0, value_name = "N", value_parser = clap::value_parser!(u16).range(..=1024))]
    pub threads: u16,

    /// Instruction set of the CPU kernels: avx512, avx2, neon or portable [default: the widest
    /// there is].
    #[arg(long, env = "CIFAR_ENGINE_ISA", hide_env = true, value_name = "NAME",
        hide_possible_values = true,
        value_parser = known(["avx512", "avx2", "neon", "portable"], |text| Ok(text.to_string())))]
    pub isa: Option<String>,

    /// In what a GPU stores what the steps of its plans hand to each other.
    #[arg(skip)]
    pub precision: Precision,
}

/// A value of `--device`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceArg {
    Auto,
    Cpu,
    Gpu(Choice),
}

impl FromStr for DeviceArg {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match (text, text.strip_prefix("gpu:")) {
            ("auto", _) => Ok(DeviceArg::Auto),
            ("cpu", _) => Ok(DeviceArg::Cpu),
            ("gpu", _) => Ok(DeviceArg::Gpu(Choice::Any)),
            (_, Some(name)) if !name.is_empty() => Ok(DeviceArg::Gpu(match name.parse() {
                Ok(index) => Choice::Index(index),
                Err(_) => Choice::Named(name.into()),
            })),
            _ => Err("write auto, cpu, gpu, gpu:INDEX or gpu:NAME".into()),
        }
    }
}

/// A device, and what is reported about it.
pub struct OpenDevice {
    pub device: Box<dyn Device>,
    pub is_gpu: bool,
    /// What the GPU is.
    pub adapter: Option<Adapter>,
    /// For people.
    pub name: String,
    /// For programs.
    pub json: Value,
}

impl DeviceOptions {
    /// The same device, storing in this precision.
    ///
    /// # Errors
    /// If that is half precision, and there is no such GPU or it has none.
    pub fn in_precision(&self, precision: Precision) -> Result<DeviceOptions> {
        let options = DeviceOptions { precision, ..self.clone() };
        if precision == Precision::F16 {
            let adapter = options.adapter()?.ok_or_else(|| {
                let problem =
                    "`precision` f16 needs a GPU, and this is the CPU: choose another `device`, or f32 for a new run";
                Error::Usage(problem.into())
            })?;
            adapter.check_precision(precision)?;
        }
        Ok(options)
    }

    /// Opens the device. A GPU tells of the shaders that it has compiled.
    ///
    /// # Errors
    /// If a GPU is asked for and cannot be had.
    pub fn open(&self) -> Result<OpenDevice> {
        self.open_with(tell_compiled)
    }

    /// Opens the card of an open GPU by the next interface that shows it, if there is one and what
    /// was chosen says neither the card nor the interface.
    ///
    /// # Errors
    /// If it cannot be opened.
    pub fn open_by_next_interface(&self, opened: &OpenDevice) -> Result<Option<OpenDevice>> {
        let is_open = matches!(self.device, DeviceArg::Auto | DeviceArg::Gpu(Choice::Any));
        let adapter = opened.adapter.as_ref().filter(|_| is_open && !Adapter::is_named_by_variable());
        let Some(adapter) = adapter else { return Ok(None) };
        let all = Adapter::all()?;
        adapter.by_next_interface(&all).map(|next| open_gpu(next, self.precision, tell_compiled)).transpose()
    }

    /// Opens the device; `compiled` hears of pipelines compiled by a GPU, and the time it took.
    ///
    /// # Errors
    /// As for [`DeviceOptions::open`].
    pub fn open_with(&self, compiled: fn(usize, Duration)) -> Result<OpenDevice> {
        match self.adapter()? {
            Some(adapter) => open_gpu(&adapter, self.precision, compiled),
            None => self.open_cpu(),
        }
    }

    /// The GPU that is taken; none where that is the CPU.
    fn adapter(&self) -> Result<Option<Adapter>> {
        match &self.device {
            DeviceArg::Cpu => Ok(None),
            DeviceArg::Auto => Ok(real_gpu()),
            DeviceArg::Gpu(choice) => Adapter::choose(choice).map(Some),
        }
    }

    /// Whether a GPU is asked for, not only allowed.
    pub fn names_a_gpu(&self) -> bool {
        matches!(self.device, DeviceArg::Gpu(_))
    }

    /// A device for plans that are only measured, not run: no GPU is looked for unless one is
    /// named, or plans are to be in half precision.
    ///
    /// # Errors
    /// As for [`DeviceOptions::open`].
    pub fn planner(&self) -> Result<Box<dyn Device>> {
        match self.device {
            DeviceArg::Auto | DeviceArg::Cpu if self.precision == Precision::F32 => Ok(Box::new(self.cpu()?)),
            _ => Ok(self.open()?.device),
        }
    }

    /// The CPU as a command uses it.
    ///
    /// # Errors
    /// As for [`DeviceOptions::cpu`].
    pub fn open_cpu(&self) -> Result<OpenDevice> {
        let cpu = self.cpu()?;
        let available: Vec<String> = Isa::available().iter().map(Isa::to_string).collect();
        let list = available.join(", ");
        console::detail(format_args!("instruction sets of this processor: {list}; taken: {}", cpu.isa()));
        let (threads, isa) = (cpu.threads(), cpu.isa().to_string());
        let name = cpu.name();
        let json = json!({"device": "cpu", "threads": threads, "isa": isa});
        Ok(OpenDevice { device: Box::new(cpu), is_gpu: false, adapter: None, name, json })
    }

    /// The CPU, whatever `--device` says.
    ///
    /// # Errors
    /// If the instruction set is unknown or not there.
    pub fn cpu(&self) -> Result<Cpu> {
        let isa = match self.isa.as_deref() {
            Some(name) => name.parse().map_err(|error: UnknownIsa| Error::Usage(error.to_string()))?,
            None => Isa::detect(),
        };
        Cpu::new(self.threads.into(), isa)
    }
}

fn tell_compiled(count: usize, time: Duration) {
    console::info(format_args!("compiled {count} pipelines in {:.1} s", time.as_secs_f64()));
}

/// The GPU that `auto` takes. That there is none needs no word; that none could be looked for does.
fn real_gpu() -> Option<Adapter> {
    match Adapter::choose(&Choice::Real) {
        Ok(adapter) => Some(adapter),
        Err(Error::Failed(_)) => None,
        Err(error) => {
            console::note(format_args!("warning: no GPU is looked for: {error}"));
            None
        }
    }
}

/// A GPU, of which this build has none.
#[cfg(not(feature = "gpu"))]
fn open_gpu(adapter: &Adapter, _: Precision, _: fn(usize, Duration)) -> Result<OpenDevice> {
    match *adapter {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_read_as_documented() {
        assert_eq!("auto".parse(), Ok(DeviceArg::Auto));
        assert_eq!("cpu".parse(), Ok(DeviceArg::Cpu));
        assert_eq!("gpu".parse(), Ok(DeviceArg::Gpu(Choice::Any)));
        assert_eq!("gpu:RTX 4090".parse(), Ok(DeviceArg::Gpu(Choice::Named("RTX 4090".into()))));
        assert_eq!("gpu:1".parse(), Ok(DeviceArg::Gpu(Choice::Index(1))));
        for text in ["", "gpu:", "GPU", "cuda", "cpu:0"] {
            assert!(text.parse::<DeviceArg>().is_err(), "{text}");
        }
    }
}
