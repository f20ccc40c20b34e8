//! The first contact of a command with a GPU: it must compute what the CPU does, and `auto` takes
//! the faster of the two.

use clap::Args;

use super::device::{DeviceArg, DeviceOptions, OpenDevice};
use super::stopped;
use crate::console;
use crate::data;
use crate::error::{Error, Result};
use crate::exec::contact::{Identity, Trial, Verdict, Verdicts};
use crate::exec::{Device, Precision};

/// Whether a GPU is tried.
#[derive(Args, Clone, Copy, Debug, Default)]
pub struct ContactOptions {
    /// Do not hold a GPU against the CPU before its first step; auto then takes it however slow it
    /// is.
    #[arg(long)]
    pub no_check: bool,
}

impl ContactOptions {
    /// Opens the device. A GPU first runs the trials, a step each, beside the CPU.
    ///
    /// # Errors
    /// If a GPU is asked for and cannot be had, or computes something else than the CPU does.
    pub fn open(
        self,
        options: &DeviceOptions,
        trials: impl FnOnce() -> Result<Vec<Trial>>,
    ) -> Result<OpenDevice> {
        let mut opened = options.open()?;
        if self.no_check || !opened.is_gpu {
            return Ok(opened);
        }
        let trials = trials()?;
        let verdict = loop {
            match compared(options, &mut opened, &trials) {
                Err(Error::Uncompiled(problem)) => {
                    let next = options.open_by_next_interface(&opened)?;
                    let Some(next) = next else { return Err(Error::Uncompiled(problem)) };
                    console::note(format_args!(
                        "warning: {}: {problem}; now trying {}",
                        opened.name, next.name
                    ));
                    opened = next;
                }
                verdict => break verdict?,
            }
        };
        let [gpu, cpu] = verdict.rates();
        let rates = format!("{gpu:.0} images/s on the GPU, {cpu:.0} on the CPU");
        match options.device {
            DeviceArg::Auto if verdict.favours_cpu() && options.precision == Precision::F32 => {
                console::info(format_args!("auto takes the CPU, which is faster: {rates}"));
                options.open_cpu()
            }
            DeviceArg::Auto => {
                console::info(format_args!("auto takes the GPU: {rates}"));
                Ok(opened)
            }
            _ => {
                console::detail(format_args!("first contact: {rates}"));
                Ok(opened)
            }
        }
    }
}

/// The verdict on a GPU: of earlier contacts, or of one now.
fn compared(options: &DeviceOptions, opened: &mut OpenDevice, trials: &[Trial]) -> Result<Verdict> {
    let mut cpu = options.cpu()?;
    let about = |what: &str| opened.json[what].as_str().unwrap_or_default();
    // Of two cards of one kind, one may be faulty.
    let device = [&opened.name, about("pci")].join(" ").trim_end().to_string();
    let identity = Identity { device, driver: about("driver").into(), cpu: cpu.name() };
    let folder = data::Options::default().cache.map(|cache| cache.join("contacts"));
    let verdicts = Verdicts { identity, folder };
    if !trials.iter().all(|trial| verdicts.known(trial).is_some()) {
        console::info("comparing a step on the GPU with one on the CPU, once (--no-check leaves it out)");
    }
    total(&verdicts, trials, opened.device.as_mut(), &mut cpu)
}

/// The verdict on all trials together.
fn total(known: &Verdicts, trials: &[Trial], gpu: &mut dyn Device, cpu: &mut dyn Device) -> Result<Verdict> {
    let mut verdicts = Vec::new();
    for trial in trials {
        if stopped() {
            return Err(Error::Interrupted);
        }
        verdicts.push(known.examine(gpu, cpu, trial)?);
    }
    Ok(Verdict::total(&verdicts))
}
