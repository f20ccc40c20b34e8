//! What a training step is: a plan on a device, and the course it follows. [`super::session`] runs it, and
//! knows nothing of what is in the plan.

use super::checkpoint::Progress;
use super::evaluate::Evaluator;
use super::features::Feed;
use super::plans::Totals;
use super::schedule::Schedule;
use crate::error::Result;
use crate::exec::{Device, PlanId};
use crate::graph::plan::Plan;
use crate::kernels::rng::{self, Stream};
use crate::nn::Parameter;

/// How many steps there are, over which pictures, at which rates.
#[derive(Clone, Copy, Debug)]
pub struct Course {
    /// Training pictures.
    pub pictures: usize,
    /// Pictures a step.
    pub batch_size: usize,
    /// Passes over the pictures.
    pub epochs: usize,
    /// The highest learning rate of the schedule.
    pub rate: f32,
    /// Of what lies before the classifier, as a share of the rate; in fine-tuning only.
    pub backbone: f32,
    pub schedule: Schedule,
    /// Decides the order of the pictures.
    pub seed: u32,
}

impl Course {
    /// Steps of an epoch: the incomplete last batch is left out, another one each time.
    pub fn steps(&self) -> usize {
        self.pictures / self.batch_size
    }

    /// The pictures of an epoch (from 1, counted over the whole run), in the order of its steps.
    fn order(&self, epoch: usize) -> Vec<u32> {
        rng::permutation(self.pictures, self.seed, Stream::Shuffle, epoch as u32)
    }
}

/// A training plan that is loaded on a device.
pub struct Stage {
    plan: PlanId,
    feed: Feed,
    /// Whether what lies before the classifier has a rate of its own.
    two_rates: bool,
    /// Names and lengths of what the steps change besides the model's parameters: moments.
    states: Vec<(String, usize)>,
    pub(super) course: Course,
    pub(super) validation: Option<Evaluator>,
}

impl Stage {
    /// Loads a plan as [`super::plans::training`] makes them: with the inputs `step`, `rate`, `loss_gradient`, perhaps
    /// `backbone_rate`, and those that `feed` writes, and with the output `totals`. `parameters` are the model's,
    /// trained by this plan or not. The pictures that the plan reads are for the caller to write.
    ///
    /// # Errors
    /// If the device cannot take the plan.
    pub fn load(
        device: &mut dyn Device,
        plan: Plan,
        parameters: &[Parameter],
        feed: Feed,
        course: Course,
        validation: Option<Evaluator>,
    ) -> Result<Stage> {
        let is_parameter = |name: &str| parameters.iter().any(|parameter| parameter.name == name);
        let states = plan.written_states().filter(|(name, _)| !is_parameter(name));
        let states = states.map(|(name, ty)| (name.clone(), ty.len())).collect();
        let two_rates = plan.inputs.iter().any(|input| input.name == "backbone_rate");
        let plan = device.load(plan)?;
        device.write(plan, "loss_gradient", [1.0f32].as_slice().into())?;
        device.record(plan, &["totals"])?;
        Ok(Stage { plan, feed, two_rates, states, course, validation })
    }

    /// Names of the states that a checkpoint must hold besides the model's parameters.
    pub(super) fn states(&self) -> impl Iterator<Item = &String> {
        self.states.iter().map(|(name, _)| name)
    }

    /// Sets these states to what they are before the first step.
    pub(super) fn clear(&self, device: &mut dyn Device) -> Result<()> {
        self.states
            .iter()
            .try_for_each(|(name, len)| device.write_state(name, vec![0.0f32; *len].as_slice().into()))
    }

    /// Prepares the epoch that `progress` is in.
    pub(super) fn epoch(&self, progress: &Progress) -> Epoch<'_> {
        let (steps, epochs) = (self.course.steps(), self.course.epochs);
        let number = progress.history.len() + 1;
        Epoch {
            stage: self,
            number,
            order: self.course.order(number),
            first: progress.stage_epochs * steps,
            of: epochs * steps,
        }
    }
}

/// One pass over the pictures.
pub(super) struct Epoch<'a> {
    stage: &'a Stage,
    /// Counted from 1, over the whole run.
    pub number: usize,
    order: Vec<u32>,
    /// The first step, counted from the beginning of the stage.
    first: usize,
    /// Steps of the stage.
    of: usize,
}

impl Epoch<'_> {
    pub fn steps(&self) -> usize {
        self.stage.course.steps()
    }

    /// The rate of a step.
    pub fn rate(&self, step: usize) -> f32 {
        self.stage.course.schedule.rate(self.stage.course.rate, self.first + step, self.of)
    }

    /// Starts a step, from 0.
    pub fn run(&self, device: &mut dyn Device, step: usize) -> Result<()> {
        let (plan, course) = (self.stage.plan, self.stage.course);
        let indices = &self.order[step * course.batch_size..][..course.batch_size];
        self.stage.feed.write(device, plan, indices, self.number)?;
        device.write(plan, "step", [(self.first + step) as u32].as_slice().into())?;
        let rate = self.rate(step);
        device.write(plan, "rate", [rate].as_slice().into())?;
        if self.stage.two_rates {
            device.write(plan, "backbone_rate", [rate * course.backbone].as_slice().into())?;
        }
        device.run(plan)
    }

    /// The sums of the steps that have ended since the last call, or of all that were started, in their order.
    pub fn collect(&self, device: &mut dyn Device, all: bool) -> Result<Vec<Totals>> {
        let mut ended = Vec::new();
        device.collect(self.stage.plan, all, &mut |totals| ended.push(Totals::from(totals)))?;
        Ok(ended)
    }
}
