//! `cifar-engine bench`: times a plan on made-up images.

use clap::Args;
use serde_json::json;

use super::device::{DeviceOptions, OpenDevice};
use super::options::image_size;
use super::stopped;
use super::team::{together, usual_shards};
use super::trace::table;
use super::values::{known, model_names, read, usual_sizes};
use super::workload::{Mode, Workload};
use crate::console;
use crate::error::{Error, Result};
use crate::exec::Precision;
use crate::inspect::trace::Trace;
use crate::models::Architecture;
use crate::team::Team;
use crate::text::{bytes, counted};
use crate::train::bare_spec;
use crate::train::settings::Settings;
use crate::train::throughput::Throughput;

#[derive(Args)]
#[command(after_help = "Examples:
  cifar-engine bench --mode train --batch-size 128 --threads 2 --json
  cifar-engine bench --mode infer --profile
  mpirun -n 2 cifar-engine bench --mode train    built with --features mpi

Nothing that a GPU computes here is checked: that is for `doctor`.")]
pub struct Bench {
    #[arg(long, default_value = "cnn", value_name = "NAME", hide_possible_values = true,
        help = format!("Which model: {}", model_names()),
        value_parser = known(Architecture::names(), read::<&Architecture>))]
    model: &'static Architecture,

    /// What to time.
    #[arg(long, value_enum, default_value_t = Mode::Train)]
    mode: Mode,

    #[arg(long, value_name = "PIXELS", value_parser = image_size,
        help = format!("Side of the images in pixels [default: {}]", usual_sizes()))]
    image_size: Option<usize>,

    /// Images a step.
    #[arg(long, default_value_t = 128, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    batch_size: u32,

    /// Steps that are timed, after some that are not.
    #[arg(long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    steps: u32,

    #[arg(long, default_value_t, value_name = "NAME", hide_possible_values = true,
        help = "How a GPU stores activations and their gradients: f32 or f16",
        value_parser = known(Precision::NAMES.map(|(name, _)| name), read::<Precision>))]
    precision: Precision,

    /// Shards of a training step, which the processes of mpirun share [default: 1, under mpirun 8].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    shards: Option<u32>,

    /// Print the time of every step of the plan, its rates and its share of the measured peak.
    #[arg(long)]
    profile: bool,

    /// Print the result as JSON.
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    device: DeviceOptions,
}

impl Bench {
    pub fn run(self) -> Result<()> {
        together("bench", |team| {
            let shards = self.shards.map_or(usual_shards(team).unwrap_or(1), |shards| shards as usize);
            if shards > 1 || team.size() > 1 { self.run_shared(team, shards) } else { self.run_alone() }
        })
    }

    /// Times training steps in shards, and the same without others.
    fn run_shared(&self, team: &Team, shards: usize) -> Result<()> {
        if self.mode != Mode::Train || self.profile {
            let problem = "--shards and mpirun are for --mode train, without --profile";
            return Err(Error::Usage(problem.into()));
        }
        let image_size = self.image_size.unwrap_or(self.model.usual_size);
        let batch_size = self.batch_size as usize;
        let precision = self.precision;
        let settings = Settings { batch_size, shards, model: self.model, precision, ..Settings::default() };
        settings.check()?;
        team.check_shards(shards)?;
        let OpenDevice { mut device, name, json, .. } = self.device.in_precision(precision)?.open()?;
        console::info(format_args!("device: {name}"));
        let spec = bare_spec(self.model, image_size, 10);
        let rate = |settings: &Settings, team: &Team| {
            let size = settings.batch_size as u32;
            let workload = Workload {
                spec: spec.clone(),
                mode: self.mode,
                batch_size: size,
                settings: settings.clone(),
            };
            let (of, images) = ((&spec, settings), workload.images());
            Throughput::measure(device.as_mut(), of, &images, team, self.steps as usize, || !stopped())
        };
        Shared::measure(&settings, team, rate)?.print(team, self.json, json)
    }

    /// Times a plan in this process.
    fn run_alone(&self) -> Result<()> {
        let OpenDevice { mut device, is_gpu, name, json, .. } =
            self.device.in_precision(self.precision)?.open()?;
        console::info(format_args!("device: {name}"));
        let device = device.as_mut();
        let image_size = self.image_size.unwrap_or(self.model.usual_size);
        let spec = bare_spec(self.model, image_size, 10);
        let settings = Settings { precision: self.precision, ..Settings::default() };
        let workload = Workload { spec, mode: self.mode, batch_size: self.batch_size, settings };
        let loaded = workload.load(device)?;
        let step = workload.time(device, loaded.plan, is_gpu, self.steps)?;
        let rate = f64::from(self.batch_size) / step;
        let mut profile = || Trace::measure(device, &loaded.traced(self.steps, step), stopped);
        if self.json {
            let mut result = json!({
                "model": self.model,
                "mode": self.mode,
                "image_size": image_size,
                "batch_size": self.batch_size,
                "images_per_s": rate,
                "step_ms": step * 1e3,
                "peak_bytes_planned": loaded.planned_bytes,
            });
            let about = json.as_object().into_iter().flatten();
            about.for_each(|(key, value)| result[key] = value.clone());
            if let Some(launches) = loaded.launches {
                result["launches"] = launches.into();
            }
            if self.profile {
                result["profile"] = profile()?.json();
            }
            return console::print_json(&result);
        }
        let (ms, memory) = (step * 1e3, bytes(loaded.planned_bytes as u64));
        let launches = loaded.launches.map(|launches| format!(", {launches} launches")).unwrap_or_default();
        console::print(format_args!("{rate:.1} images/s, {ms:.2} ms a step, {memory} planned{launches}"))?;
        match self.profile {
            true => console::print_own(table(&profile()?, console::width())),
            false => Ok(()),
        }
    }
}

/// Rates of a step in shards.
struct Shared {
    batch_size: usize,
    /// As the processes share it.
    together: Throughput,
    /// Seconds of a step of the first process on its share, while the others wait.
    alone: f64,
}

impl Shared {
    fn measure(
        settings: &Settings,
        team: &Team,
        mut rate: impl FnMut(&Settings, &Team) -> Result<Throughput>,
    ) -> Result<Shared> {
        let Settings { batch_size, shards, .. } = *settings;
        let (own, size) = (Settings { shards: shards / team.size(), ..settings.clone() }, team.size());
        let own = Settings { batch_size: batch_size / size, ..own };
        let measured = || Ok(rate(&own, &Team::default())?.step.to_le_bytes().to_vec());
        let alone = team.from_first(measured)?.try_into().map_or(f64::NAN, f64::from_le_bytes);
        Ok(Shared { batch_size, together: rate(settings, team)?, alone })
    }

    /// Images a second, these as a share of what as many processes would make without each other,
    /// and the share of the time in which others are waited for.
    fn figures(&self) -> [f64; 3] {
        let Shared { batch_size, together, alone } = self;
        [*batch_size as f64 / together.step, alone / together.step, together.waited / together.step]
    }

    fn print(&self, team: &Team, as_json: bool, about: serde_json::Value) -> Result<()> {
        let ([rate, scaling, waiting], size) = (self.figures(), team.size());
        if as_json {
            let mut result = json!({
                "processes": size,
                "batch_size": self.batch_size,
                "images_per_s": rate,
                "step_ms": self.together.step * 1e3,
                "scaling": scaling,
                "waiting_share": waiting,
                "sent_bytes_a_step": self.together.sent,
            });
            about.as_object().into_iter().flatten().for_each(|(key, value)| result[key] = value.clone());
            return console::print_json(&result);
        }
        let (ms, processes) = (self.together.step * 1e3, counted(size, "process"));
        console::print(format_args!("{rate:.1} images/s by {processes}, {ms:.2} ms a step"))?;
        console::print(format_args!(
            "{:.1} % of {size} times one alone; {:.1} % of the time waiting; {} sent a step by each",
            100.0 * scaling,
            100.0 * waiting,
            bytes(self.together.sent as u64)
        ))
    }
}
