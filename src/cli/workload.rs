//! What `bench`, `plan` and `trace` are about: a training step of a model, or a prediction.

use std::time::Instant;

use clap::ValueEnum;
use serde::Serialize;

use super::stopped;
use crate::data::Images;
use crate::error::{Error, Result};
use crate::exec::{Device, PlanId};
use crate::inspect::trace::{Traced, median};
use crate::models::Spec;
use crate::train::groups::Group;
use crate::train::plans::{self, ModelGraph, initial_values, upload, write_parameters};
use crate::train::settings::Settings;
use crate::train::settings::class_weights::ClassWeights;

/// Which of a model's programs.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    Train,
    Infer,
}

impl Mode {
    /// What one run of it is.
    pub fn run(self) -> &'static str {
        match self {
            Mode::Train => "training step",
            Mode::Infer => "prediction",
        }
    }
}

/// A program of a model, for batches of a size.
pub struct Workload {
    pub spec: Spec,
    pub mode: Mode,
    pub batch_size: u32,
    /// What a training step does besides; its model and its batch size are those above. Of a
    /// fine-tuning it is a step of all layers.
    pub settings: Settings,
}

/// A workload on a device, with a batch of made-up images.
pub struct LoadedWorkload {
    pub plan: PlanId,
    /// Bytes that its runs need.
    pub planned_bytes: usize,
    /// Steps that run once: the first ones.
    pub constants: usize,
    /// Launches of a run, on a GPU.
    pub launches: Option<usize>,
}

impl LoadedWorkload {
    /// What a trace of so many runs is about; `unprofiled` is the time of one in seconds.
    pub fn traced(&self, runs: u32, unprofiled: f64) -> Traced {
        Traced { plan: self.plan, constants: self.constants, runs, unprofiled }
    }
}

/// More than a device holds in flight, so that its first steps are not timed.
const WARM_UP: u32 = 10;

impl Workload {
    /// What it is, in words.
    pub fn title(&self) -> String {
        let Workload { spec, mode, batch_size, .. } = self;
        let (model, size, what) = (spec.architecture, spec.image_size, mode.run());
        let by = match mode {
            Mode::Train => format!(", {}", self.settings.optimizer),
            Mode::Infer => String::new(),
        };
        format!("{model}, a {what} of {batch_size} images of {size} x {size}{by}")
    }

    /// Its graph and parameters.
    ///
    /// # Errors
    /// If the model cannot be made of its description.
    pub fn program(&self) -> Result<ModelGraph> {
        let batch_size = self.batch_size as usize;
        let settings =
            Settings { batch_size, shards: 1, model: self.spec.architecture, ..self.settings.clone() };
        match self.mode {
            Mode::Train => plans::training(&self.spec, &settings, batch_size),
            Mode::Infer => plans::evaluation(&self.spec, "test", batch_size, batch_size),
        }
    }

    /// A made-up batch.
    pub fn images(&self) -> Images {
        let (batch_size, size) = (self.batch_size as usize, self.spec.image_size);
        let pixels = (0..batch_size * 3 * size * size).map(|i| (i * 7919 % 251) as u8);
        let classes = self.spec.classes.len() as u32;
        let labels = (0..self.batch_size).map(|i| i % classes).collect();
        Images { pixels: pixels.collect::<Vec<u8>>().into(), labels, size, files: Vec::new() }
    }

    /// Loads it with a made-up batch.
    ///
    /// # Errors
    /// If the device fails, or has too little memory.
    pub fn load(&self, device: &mut dyn Device) -> Result<LoadedWorkload> {
        let ModelGraph { graph, parameters, .. } = self.program()?;
        let plan = device.plan(&graph)?;
        let (planned_bytes, groups) = (device.planned_bytes(&plan), Group::in_plan(&plan));
        let constants = plan.constants;
        let id = device.load_plan(plan, None)?;
        let images = self.images();
        let set = if self.mode == Mode::Train { "train" } else { "test" };
        upload(device, id, set, &images)?;
        write_parameters(device, id, &parameters, &initial_values(&parameters, 0))?;
        let indices: Vec<u32> = (0..self.batch_size).collect();
        device.write(id, "indices", indices.as_slice().into())?;
        device.write(id, "step", [0u32].as_slice().into())?;
        if self.mode == Mode::Train {
            for group in groups {
                device.write(id, group.input(), [1e-3f32].as_slice().into())?;
            }
            let scale = self.settings.precision.loss_scale(self.batch_size as usize);
            device.write(id, "loss_gradient", [scale].as_slice().into())?;
            if self.settings.class_weights != ClassWeights::None {
                let weights = vec![1.0f32; self.spec.classes.len()];
                device.write(id, plans::CLASS_WEIGHTS, weights.as_slice().into())?;
            }
        }
        Ok(LoadedWorkload { plan: id, planned_bytes, constants, launches: device.launches(id)? })
    }

    /// Seconds from the start of a run to the start of the next, as a training starts them, of
    /// `steps` runs.
    ///
    /// # Errors
    /// If the device fails, or the user interrupts.
    pub fn time(&self, device: &mut dyn Device, plan: PlanId, is_gpu: bool, steps: u32) -> Result<f64> {
        // A training's steps end with the totals, an evaluation's with the logits.
        let output = if self.mode == Mode::Train { "totals" } else { "logits" };
        device.record(plan, &[output])?;
        let mut times = Vec::new();
        for step in 0..WARM_UP + steps {
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
        // A GPU works on several steps at once, of which each ends when it will; the CPU has no
        // step but the one.
        let mean = times.iter().sum::<f64>() / times.len() as f64;
        Ok(if is_gpu { mean } else { median(&mut times) })
    }
}
