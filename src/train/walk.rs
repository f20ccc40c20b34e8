//! A step of a training that runs one op at a time, with every value readable in between.
//!
//! The ops are those of the training's own plan, on the same states and the same batch, so they
//! give the same bits as the step does.

use super::divergence::States;
use super::stage::{Epoch, Stage};
use crate::error::{Error, Result};
use crate::exec::Device;
use crate::exec::plan::Plan;
use crate::exec::stepwise::Stepwise;
use crate::memory;
use crate::nn::Parameter;
use crate::tensor::TensorType;

/// Copies of a tensor that a witness has at a time: as it was read, and as words to be hashed.
const COPIES: usize = 2;

/// Copies of the states: before the step, after it op by op, and after it as a whole.
const STATES: usize = 3;

/// Checks that the main memory has room for a training by this plan, of which a [`Witness`] sees a
/// step: before the training, as what it needs is known then.
///
/// # Errors
/// If it has not.
fn check_room(plan: &Plan) -> Result<()> {
    let needed = room(plan);
    match memory::available() {
        Some(free) if free < needed => {
            let (needed, free) = (memory::size(needed), memory::size(free));
            let advice = "end other programs, or use a machine with more memory";
            Err(Error::Failed(format!(
                "all tensors of a step at once need {needed} of memory, and {free} is free; {advice}"
            )))
        }
        _ => Ok(()),
    }
}

/// Bytes of all that, where the device's memory is the machine's: the plan's memory twice, as the
/// ops that run one by one are a plan of their own.
fn room(plan: &Plan) -> usize {
    let outputs = plan.steps.iter().flat_map(|step| &step.types.outputs);
    let largest = outputs.map(TensorType::bytes).max().unwrap_or(0);
    let states: usize = plan.written_states().map(|(_, ty)| ty.bytes()).sum();
    2 * plan.slot_bytes() + COPIES * largest + STATES * states
}

/// Checks that a step can be run one op at a time, before a training that is to come to it.
///
/// # Errors
/// If it has shards, and so is no single plan; as for [`check_room`].
pub(super) fn check(stage: &Stage) -> Result<()> {
    check_whole(stage)?;
    check_room(&stage.planned)
}

fn check_whole(stage: &Stage) -> Result<()> {
    match stage.config.settings.shards {
        0..=1 => Ok(()),
        _ => Err(Error::Failed("a step in `shards` cannot be run one op at a time".into())),
    }
}

/// A training's plan, to be run one op at a time.
pub(super) struct Walk<'a> {
    stage: &'a Stage,
    pub stepwise: Stepwise,
}

impl<'a> Walk<'a> {
    /// Loads the plan beside the stage's, with which it shares its states.
    ///
    /// # Errors
    /// If a step has shards, and so is no single plan.
    pub fn begin(device: &mut dyn Device, stage: &'a Stage) -> Result<Walk<'a>> {
        check_whole(stage)?;
        let stepwise = Stepwise::load(device, &stage.planned, Some(stage.plan))?;
        stage.write_loss_inputs(device, stepwise.id())?;
        Ok(Walk { stage, stepwise })
    }

    /// Gives the states the values that they had before a step, and the plan the step's inputs.
    pub fn prepare(
        &self,
        device: &mut dyn Device,
        epoch: &Epoch,
        before: &States,
        step: usize,
    ) -> Result<()> {
        self.stage.restore(device, before)?;
        epoch.feed(device, self.stepwise.id(), step)
    }
}

/// A step of a training that a [`Witness`] is to see.
pub struct Scene<'a> {
    /// The plan; its inputs and states are those before the step.
    pub stepwise: &'a Stepwise,
    /// Parameters of the model, trained or not.
    pub parameters: &'a [Parameter],
    /// The training images of the batch, counted from 0.
    pub images: &'a [u32],
    /// The epoch, from 1.
    pub epoch: usize,
    /// The step of the epoch, from 1.
    pub step: usize,
    /// Steps of the epoch.
    pub steps: usize,
    /// The learning rate.
    pub rate: f64,
}

/// One who sees a step run one op at a time.
pub trait Witness {
    /// Before the first op.
    ///
    /// # Errors
    /// Those of reading a value.
    fn begin(&mut self, device: &dyn Device, scene: &Scene) -> Result<()>;

    /// After an op, by its number in the plan.
    ///
    /// # Errors
    /// Those of reading a value.
    fn ran(&mut self, device: &dyn Device, stepwise: &Stepwise, number: usize) -> Result<()>;

    /// After the training has made the same step as a whole: whether both left the same states, bit
    /// for bit.
    fn end(&mut self, is_same: bool);
}
