//! Throughput of training steps that the processes of a team share.

use std::time::Instant;

use super::features::BatchSource;
use super::plans;
use super::settings::Settings;
use super::stage::{Stage, StageConfig, StepContext};
use crate::data::Images;
use crate::error::{Error, Result};
use crate::exec::Device;
use crate::models::Spec;
use crate::team::Team;

/// Means over steps of a process, but for the first few.
#[derive(Clone, Copy, Debug)]
pub struct Throughput {
    /// Seconds of a step.
    pub step: f64,
    /// Seconds of it in which others were waited for, and nothing was computed.
    pub waited: f64,
    /// Bytes that the process has sent in it.
    pub sent: f64,
}

/// Steps that are not timed: memory is touched for the first time, pipelines are compiled.
const WARM_UP: usize = 3;

impl Throughput {
    /// Measures steps of a training from scratch, each on all of the images, a batch of them. All
    /// processes of the team call it. `goes_on` is asked before each step.
    ///
    /// # Errors
    /// If the device fails, the images are no batch, or `goes_on` says no: [`Error::Interrupted`].
    pub fn measure(
        device: &mut dyn Device,
        (spec, settings): (&Spec, &Settings),
        images: &Images,
        team: &Team,
        steps: usize,
        goes_on: impl Fn() -> bool,
    ) -> Result<Throughput> {
        let program = plans::training(spec, settings, images)?;
        let config = StageConfig { team: team.clone(), ..settings.config(images.len()) };
        let source = BatchSource::of(images);
        let stage = Stage::load(device, None, &program, &program.parameters, source, config)?;
        plans::upload(device, stage.plan, "train", images)?;
        let values = plans::initial_values(&program.parameters, settings.seed);
        plans::write_parameters(device, stage.plan, &program.parameters, &values)?;
        stage.clear(device)?;
        let indices: Vec<u32> = (0..images.len() as u32).collect();
        let (mut begin, mut before) = (Instant::now(), team.traffic());
        for step in 0..WARM_UP + steps {
            if step == WARM_UP {
                stage.collect(device, true)?;
                (begin, before) = (Instant::now(), team.traffic());
            }
            if !team.all(goes_on()) {
                return Err(Error::Interrupted);
            }
            stage.run(device, &indices, StepContext::at_rate(1e-3, step))?;
            stage.collect(device, false)?;
        }
        stage.collect(device, true)?;
        let (seconds, after) = (begin.elapsed().as_secs_f64(), team.traffic());
        stage.unload(device)?;
        let (steps, waited) = (steps as f64, after.waited - before.waited);
        Ok(Throughput {
            step: seconds / steps,
            waited: waited.as_secs_f64() / steps,
            sent: (after.bytes - before.bytes) as f64 / steps,
        })
    }
}
