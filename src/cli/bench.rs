//! `cifar-engine bench`: times a plan on made-up images.

use clap::Args;
use serde_json::json;

use super::device::{DeviceOptions, OpenDevice};
use super::options::image_size;
use super::stopped;
use super::trace::table;
use super::values::{known, model_names, read, usual_sizes};
use super::workload::{Mode, Workload};
use crate::console;
use crate::error::Result;
use crate::inspect::trace::Trace;
use crate::models::Architecture;
use crate::text::bytes;
use crate::train::bare_spec;
use crate::train::settings::Settings;

#[derive(Args)]
#[command(after_help = "Examples:
  cifar-engine bench --mode train --batch-size 128 --threads 2 --json
  cifar-engine bench --mode infer --profile

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

    /// Steps that are timed, after ten that are not.
    #[arg(long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    steps: u32,

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
        let OpenDevice { mut device, is_gpu, name, json, .. } = self.device.open()?;
        console::info(format_args!("device: {name}"));
        let device = device.as_mut();
        let image_size = self.image_size.unwrap_or(self.model.usual_size);
        let spec = bare_spec(self.model, image_size, 10);
        let settings = Settings::default();
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
