//! `cifar-engine bench`: times a plan on made-up images.

use std::time::Instant;

use clap::{Args, ValueEnum};
use serde_json::json;

use super::device::{DeviceOptions, OpenDevice};
use super::options::image_size;
use super::profile::Profile;
use super::stopped;
use super::values::{known, model_names, read, usual_sizes};
use crate::console;
use crate::data::Images;
use crate::error::{Error, Result};
use crate::exec::{Device, PlanId};
use crate::models::Architecture;
use crate::text::bytes;
use crate::train::bare_spec;
use crate::train::groups::Group;
use crate::train::plans::{self, ModelGraph, initial_values, upload, write_parameters};
use crate::train::settings::Settings;

#[derive(Args)]
#[command(after_help = "Examples:
  cifar-engine bench --mode train --batch-size 128 --threads 2 --json
  cifar-engine bench --mode infer --profile")]
pub struct Bench {
    #[arg(long, default_value = "cnn", value_name = "NAME", hide_possible_values = true,
        help = format!("Which model: {}", model_names()),
        value_parser = known(Architecture::names(), read::<&Architecture>))]
    model: &'static Architecture,

    /// What to time.
    #[arg(long, value_enum, default_value_t = BenchMode::Train)]
    mode: BenchMode,

    #[arg(long, value_name = "PIXELS", value_parser = image_size,
        help = format!("Side of the images in pixels [default: {}]", usual_sizes()))]
    image_size: Option<usize>,

    /// Images a step.
    #[arg(long, default_value_t = 128, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    batch_size: u32,

    /// Steps that are timed, after ten that are not.
    #[arg(long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    steps: u32,

    /// Print the time of every step of the plan, its rates and, of a CPU, its share of the measured
    /// peak.
    #[arg(long)]
    profile: bool,

    /// Print the result as JSON.
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    device: DeviceOptions,
}

/// Which of a model's plans.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BenchMode {
    Train,
    Infer,
}

/// More than a device holds in flight, so that its first steps are not timed.
const WARM_UP: usize = 10;

impl Bench {
    pub fn run(self) -> Result<()> {
        let OpenDevice { mut device, is_gpu, name, json } = self.device.open()?;
        console::info(format_args!("device: {name}"));
        let device = device.as_mut();
        let (plan, planned) = self.prepare(device)?;
        let mut times = self.time(device, plan)?;
        // A GPU works on several steps at once, of which each ends when it will; the CPU has no
        // step but the one.
        let mean = times.iter().sum::<f64>() / times.len() as f64;
        let step = if is_gpu { mean } else { median(&mut times) };
        let rate = f64::from(self.batch_size) / step;
        if self.json {
            let mut result = json!({
                "model": self.model,
                "mode": if self.mode == BenchMode::Train { "train" } else { "infer" },
                "image_size": self.image_size(),
                "batch_size": self.batch_size,
                "images_per_s": rate,
                "step_ms": step * 1e3,
                "peak_bytes_planned": planned,
            });
            let about = json.as_object().into_iter().flatten();
            about.for_each(|(key, value)| result[key] = value.clone());
            if self.profile {
                result["profile"] = Profile::measure(device, plan, self.steps)?.json();
            }
            return console::print_json(&result);
        }
        let (ms, memory) = (step * 1e3, bytes(planned as u64));
        console::print(format_args!("{rate:.1} images/s, {ms:.2} ms a step, {memory} planned"))?;
        match self.profile {
            true => Profile::measure(device, plan, self.steps)?.print(step),
            false => Ok(()),
        }
    }

    fn image_size(&self) -> usize {
        self.image_size.unwrap_or(self.model.usual_size)
    }

    /// Seconds between the starts of steps, as a training starts them.
    fn time(&self, device: &mut dyn Device, plan: PlanId) -> Result<Vec<f64>> {
        // A training's steps end with the totals, an evaluation's with the logits.
        let output = if self.mode == BenchMode::Train { "totals" } else { "logits" };
        device.record(plan, &[output])?;
        let mut times = Vec::new();
        for step in 0..WARM_UP + self.steps as usize {
            if stopped() {
                return Err(Error::Interrupted);
            }
            let begin = Instant::now();
            device.run(plan)?;
            device.collect(plan, false, &mut |_| ())?;
            if step >= WARM_UP {
                times.push(begin.elapsed().as_secs_f64());
            }
        }
        Ok(times)
    }

    /// Loads the plan with a made-up batch; returns the bytes it was planned to need.
    fn prepare(&self, device: &mut dyn Device) -> Result<(PlanId, usize)> {
        let batch_size = self.batch_size as usize;
        let size = self.image_size();
        let spec = bare_spec(self.model, size, 10);
        let settings = Settings { batch_size, model: self.model, ..Settings::default() };
        let (name, program) = match self.mode {
            BenchMode::Train => ("train", plans::training(&spec, &settings, batch_size)?),
            BenchMode::Infer => ("test", plans::evaluation(&spec, "test", batch_size, batch_size)?),
        };
        let ModelGraph { graph, parameters, .. } = program;
        let plan = device.plan(&graph)?;
        let (planned, groups) = (device.planned_bytes(&plan), Group::in_plan(&plan));
        let id = device.load_plan(plan, None)?;
        let pixels = (0..batch_size * 3 * size * size).map(|i| (i * 7919 % 251) as u8);
        let labels = (0..self.batch_size).map(|i| i % 10).collect();
        upload(device, id, name, &Images { pixels: pixels.collect(), labels, size, files: Vec::new() })?;
        write_parameters(device, id, &parameters, &initial_values(&parameters, 0))?;
        let indices: Vec<u32> = (0..self.batch_size).collect();
        device.write(id, "indices", indices.as_slice().into())?;
        device.write(id, "step", [0u32].as_slice().into())?;
        if self.mode == BenchMode::Train {
            for group in groups {
                device.write(id, group.input(), [1e-3f32].as_slice().into())?;
            }
            device.write(id, "loss_gradient", [1.0f32].as_slice().into())?;
        }
        Ok((id, planned))
    }
}

/// The middle one.
pub fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
