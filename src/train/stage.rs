//! Stages of a training: a plan on a device, and how often it runs.
//!
//! [`super::session`] runs it, and knows nothing of what is in the plan.

use super::checkpoint::Progress;
use super::divergence::States;
use super::evaluate::{BATCH_SIZE, Evaluator};
use super::features::BatchSource;
use super::groups::{Group, STEM_EPOCHS};
use super::plans::{CLASS_WEIGHTS, ModelGraph, Totals};
use super::settings::Settings;
use super::shards::{self, Shards};
use super::{balanced, probe, score};
use crate::console;
use crate::data::Images;
use crate::error::Result;
use crate::exec::plan::Plan;
use crate::exec::{Device, PlanId};
use crate::kernels::rng::{self, Stream};
use crate::models::Spec;
use crate::nn::Parameter;
use crate::report::EpochMetrics;
use crate::team::Team;
use crate::text::bytes;

/// How many steps there are, over which images, at which rates.
#[derive(Clone, Debug)]
pub struct StageConfig {
    /// Training images.
    pub images: usize,
    /// Labels of the images, where each class is to be drawn equally often; else none.
    pub labels: Vec<u32>,
    /// Weights of the classes in the loss; none where they count alike.
    pub class_weights: Vec<f32>,
    /// Rate of what lies before the classifier, as a share of the rate; in fine-tuning only.
    pub backbone: f32,
    /// The processes that share the steps and the validation.
    pub team: Team,
    /// Everything else; epochs and rate are those of the stage.
    pub settings: Settings,
}

/// Factor of the rate on a plateau.
const ON_PLATEAU: f32 = 0.1;

/// Why a stage ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Ended {
    /// After all its epochs.
    Complete,
    /// After so many epochs without a better validation accuracy.
    Stale(usize),
    /// At a validation accuracy, 0 to 1, that was aimed at.
    Target(f64),
}

impl StageConfig {
    /// The same for images with these labels.
    ///
    /// # Errors
    /// As for [`ClassWeights::of`](super::settings::class_weights::ClassWeights::of).
    pub fn of_images(self, labels: &[u32], classes: &[String]) -> Result<StageConfig> {
        let Settings { balanced, class_weights, .. } = &self.settings;
        let class_weights = class_weights.of(classes, labels, *balanced)?;
        let labels = if *balanced { labels.to_vec() } else { Vec::new() };
        Ok(StageConfig { labels, class_weights, ..self })
    }

    /// Steps of an epoch. The incomplete last batch is left out, another one each time; where that
    /// would cost more than a hundredth of the images, it is filled up with the first of the epoch
    /// instead.
    pub fn steps(&self) -> usize {
        let batch_size = self.settings.batch_size;
        let (whole, rest) = (self.images / batch_size, self.images % batch_size);
        if 100 * rest > self.images { whole + 1 } else { whole }
    }

    /// The rate of a step of the stage, from 0.
    fn rate(&self, step: usize) -> f32 {
        let Settings { schedule, rate, epochs, .. } = self.settings;
        schedule.rate(rate, step, epochs * self.steps())
    }

    /// The rate for the biases of stems: their schedule is over after [`STEM_EPOCHS`].
    pub(super) fn stem_rate(&self, step: usize) -> f32 {
        let Settings { schedule, rate, epochs, .. } = self.settings;
        let steps = epochs.min(STEM_EPOCHS) * self.steps();
        if step < steps { schedule.rate(rate, step, steps) } else { 0.0 }
    }

    /// The rates of groups in a step, from 0, by the schedule alone.
    pub fn rates(&self, groups: &[Group], step: usize) -> Vec<f32> {
        let (rate, stem_rate) = (self.rate(step), self.stem_rate(step));
        let at = StepContext { epoch: 1 + step / self.steps(), step, rate, stem_rate };
        groups.iter().map(|group| group.rate(self, &at)).collect()
    }

    /// Whether a training with these finished epochs is at its end, and why.
    pub(super) fn ended(&self, epochs: &[EpochMetrics]) -> Option<Ended> {
        let (stale, best) = (score::stale_epochs(epochs), score::best_accuracy(epochs).unwrap_or(0.0));
        let Settings { target, early_stop, .. } = self.settings;
        if target > 0.0 && 100.0 * best >= target {
            Some(Ended::Target(best))
        } else if early_stop > 0 && stale >= early_stop {
            Some(Ended::Stale(stale))
        } else {
            (epochs.len() >= self.settings.epochs).then_some(Ended::Complete)
        }
    }

    /// Factor of the rate after these epochs.
    fn factor(&self, epochs: &[EpochMetrics]) -> f32 {
        let patience = self.settings.plateau;
        if patience == 0 { 1.0 } else { ON_PLATEAU.powi(score::plateaus(epochs, patience)) }
    }

    /// The images of an epoch (from 1, counted over the whole run), in the order of its steps.
    pub fn order(&self, epoch: usize) -> Vec<u32> {
        let (seed, number) = (self.settings.seed, epoch as u32);
        let mut order = match self.settings.balanced {
            true => balanced::order(&self.labels, seed, number),
            false => rng::permutation(self.images, seed, Stream::Shuffle, number),
        };
        let missing = (self.steps() * self.settings.batch_size).saturating_sub(self.images);
        order.extend_from_within(..missing);
        order
    }
}

/// A training plan that is loaded on a device.
pub struct Stage {
    /// The step, or where it has shards what follows them.
    pub(super) plan: PlanId,
    /// What is loaded as `plan`.
    pub(super) planned: Plan,
    shards: Option<Shards>,
    batch_source: BatchSource,
    /// Those whose rates the plan takes.
    groups: Vec<Group>,
    /// Names and lengths of what the steps change in addition to the model's parameters: moments.
    states: Vec<(String, usize)>,
    pub(super) config: StageConfig,
    pub(super) validation: Option<Evaluator>,
}

/// Says what the steps of a training are.
fn tell_plan(operations: usize, plan: &Plan) {
    let (steps, memory) = (plan.steps.len(), bytes((plan.slot_bytes() + plan.state_bytes()) as u64));
    console::detail(format_args!(
        "plan of a training step: {operations} operations, fused into {steps} steps over {memory}"
    ));
}

impl Stage {
    /// Loads a step as [`super::plans::training`] makes them: with the inputs `step`,
    /// `loss_gradient`, rates, and those that `batch_source` writes, and with the output `totals`.
    /// `parameters` are the model's, trained by this plan or not; if there is a plan `beside`, they
    /// are its own. The images that the plan reads are for the caller to write.
    ///
    /// # Errors
    /// If the device cannot take the plan.
    pub fn load(
        device: &mut dyn Device,
        beside: Option<PlanId>,
        program: &ModelGraph,
        parameters: &[Parameter],
        batch_source: BatchSource,
        config: StageConfig,
    ) -> Result<Stage> {
        let count = config.settings.shards;
        let halves = if count > 1 { Some(shards::halves(program)?) } else { None };
        let planned = device.plan(halves.as_ref().map_or(&program.graph, |halves| &halves.second))?;
        let is_parameter = |name: &str| parameters.iter().any(|parameter| parameter.name == name);
        let states = planned.written_states().filter(|(name, _)| !is_parameter(name));
        let states = states.map(|(name, ty)| (name.clone(), ty.len())).collect();
        let groups = Group::in_plan(&planned);
        let plan = device.load_plan(planned.clone(), beside)?;
        tell_plan(program.graph.nodes().len(), &planned);
        let shards = match halves {
            Some(halves) => Some(Shards::load(device, plan, &halves.first, program, (count, &config.team))?),
            None => None,
        };
        let stage = Stage { plan, planned, shards, batch_source, groups, states, config, validation: None };
        stage.write_loss_inputs(device, stage.shards.as_ref().map_or(plan, Shards::plan))?;
        device.record(plan, &["totals"])?;
        Ok(stage)
    }

    /// Writes what the loss of every step takes to a plan like the stage's.
    pub(super) fn write_loss_inputs(&self, device: &mut dyn Device, plan: PlanId) -> Result<()> {
        // The mean over a batch is that over its shards.
        let Settings { precision, shards, batch_size, .. } = self.config.settings;
        let factor = precision.loss_scale(batch_size) / shards as f32;
        device.write(plan, "loss_gradient", [factor].as_slice().into())?;
        match self.config.class_weights.as_slice() {
            [] => Ok(()),
            weights => device.write(plan, CLASS_WEIGHTS, weights.into()),
        }
    }

    /// Validates on these images, if there are any, after every epoch.
    ///
    /// # Errors
    /// As for [`Evaluator::new`].
    pub fn validate_on(&mut self, device: &mut dyn Device, spec: &Spec, images: &Images) -> Result<()> {
        if !images.is_empty() {
            let beside = Some(self.plan);
            let evaluator = Evaluator::new(device, beside, spec, "validation", images, BATCH_SIZE)?;
            self.validation = Some(evaluator.shared_by(&self.config.team));
        }
        Ok(())
    }

    /// Gives the device back what it took.
    ///
    /// # Errors
    /// If the device fails.
    pub fn unload(self, device: &mut dyn Device) -> Result<()> {
        if let Some(validation) = self.validation {
            validation.unload(device)?;
        }
        if let Some(shards) = self.shards {
            device.unload(shards.plan())?;
        }
        device.unload(self.plan)
    }

    /// Names of the states that a checkpoint must hold in addition to the model's parameters.
    pub(super) fn states(&self) -> impl Iterator<Item = &String> {
        self.states.iter().map(|(name, _)| name)
    }

    /// Sets these states to what they are before the first step.
    pub(super) fn clear(&self, device: &mut dyn Device) -> Result<()> {
        self.states.iter().try_for_each(|(name, len)| {
            device.write_state(self.plan, name, vec![0.0f32; *len].as_slice().into())
        })
    }

    /// Gives states of the plan these values.
    pub(super) fn restore(&self, device: &mut dyn Device, states: &States) -> Result<()> {
        states
            .iter()
            .try_for_each(|(name, values)| device.write_state(self.plan, name, values.as_slice().into()))
    }

    /// Prepares the epoch that `progress` is in.
    pub(super) fn epoch(&self, progress: &Progress) -> Epoch<'_> {
        let number = progress.history.len() + 1;
        Epoch {
            stage: self,
            number,
            order: self.config.order(number),
            first: progress.stage_epochs * self.config.steps(),
            factor: self.config.factor(progress.of_stage()),
        }
    }

    /// How much of the averages of the weights comes from weights after so many steps; the rest is
    /// the zero that they began with. 0 where there are no averages.
    pub(super) fn average_weight(&self, steps: usize) -> f64 {
        let ema = self.config.settings.ema;
        // As the op has it, which adds a share of 1 - ema in f32.
        if ema > 0.0 { 1.0 - (1.0 - f64::from(1.0 - ema)).powf(steps as f64) } else { 0.0 }
    }

    /// Starts a step.
    pub(super) fn run(&self, device: &mut dyn Device, images: &[u32], at: StepContext) -> Result<()> {
        match &self.shards {
            Some(shards) => shards.run(device, (&self.batch_source, images), at, self.plan)?,
            None => self.batch_source.write(device, self.plan, images, at.epoch)?,
        }
        self.write_rates(device, self.plan, at)?;
        device.run(self.plan)
    }

    /// Writes the inputs of a step to a plan that has them.
    fn feed(&self, device: &mut dyn Device, plan: PlanId, images: &[u32], at: StepContext) -> Result<()> {
        self.batch_source.write(device, plan, images, at.epoch)?;
        self.write_rates(device, plan, at)
    }

    /// Writes number and rates of a step.
    fn write_rates(&self, device: &mut dyn Device, plan: PlanId, at: StepContext) -> Result<()> {
        // What follows shards may do without.
        if self.planned.inputs.iter().any(|input| input.name == "step") {
            device.write(plan, "step", [at.step as u32].as_slice().into())?;
        }
        for group in &self.groups {
            let rate = group.rate(&self.config, &at);
            device.write(plan, group.input(), [rate].as_slice().into())?;
        }
        Ok(())
    }

    /// The sums of the steps that have ended since the last call, or of all that were started, in
    /// their order.
    pub(super) fn collect(&self, device: &mut dyn Device, all: bool) -> Result<Vec<Totals>> {
        let mut ended = Vec::new();
        device.collect(self.plan, all, &mut |totals| ended.push(Totals::from(totals)))?;
        Ok(ended)
    }
}

/// When a step is made, and how large it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct StepContext {
    /// Counted from 1.
    pub epoch: usize,
    /// Counted from 0, over the whole stage.
    pub step: usize,
    pub rate: f32,
    /// Rate of the biases of stems.
    pub stem_rate: f32,
}

impl StepContext {
    /// A step outside of any schedule.
    pub fn at_rate(rate: f32, step: usize) -> StepContext {
        StepContext { epoch: 1, step, rate, stem_rate: rate }
    }
}

/// One pass over the images.
pub(super) struct Epoch<'a> {
    stage: &'a Stage,
    /// Counted from 1, over the whole run.
    pub number: usize,
    order: Vec<u32>,
    /// The first step, counted from the beginning of the stage.
    first: usize,
    /// Factor of the schedule's rate.
    factor: f32,
}

impl Epoch<'_> {
    pub fn steps(&self) -> usize {
        self.stage.config.steps()
    }

    /// The rate of a step, from 0.
    pub fn rate(&self, step: usize) -> f32 {
        self.stage.config.rate(self.first + step) * self.factor
    }

    /// The images of a step.
    pub fn images(&self, step: usize) -> &[u32] {
        let batch_size = self.stage.config.settings.batch_size;
        &self.order[step * batch_size..][..batch_size]
    }

    /// Starts a step, from 0.
    pub fn run(&self, device: &mut dyn Device, step: usize) -> Result<()> {
        self.stage.run(device, self.images(step), self.context(step))
    }

    /// Writes the inputs of a step to a plan like the stage's.
    pub fn feed(&self, device: &mut dyn Device, plan: PlanId, step: usize) -> Result<()> {
        self.stage.feed(device, plan, self.images(step), self.context(step))
    }

    fn context(&self, step: usize) -> StepContext {
        let stem_rate = self.stage.config.stem_rate(self.first + step) * self.factor;
        let (epoch, rate) = (self.number, self.rate(step));
        StepContext { epoch, step: self.first + step, rate, stem_rate }
    }

    /// Whether so many steps of the epoch are enough for the probe, and no more.
    pub fn is_probed(&self, steps: usize) -> bool {
        self.first == 0 && steps == probe::AFTER.min(self.steps())
    }
}

#[cfg(test)]
mod tests {
    use crate::train::settings::Settings;

    #[test]
    fn no_more_than_a_hundredth_of_an_epoch_is_left_out() {
        let config = |images, batch_size| Settings { batch_size, ..Settings::default() }.config(images);
        assert_eq!(config(45_000, 128).steps(), 351);
        assert_eq!(config(45_000, 128).order(1).len(), 45_000);
        for (images, batch_size, steps) in [(162, 64, 3), (81, 8, 11), (96, 16, 6), (9, 9, 1)] {
            let config = config(images, batch_size);
            assert_eq!(config.steps(), steps);
            let order = config.order(2);
            assert_eq!(order.len(), steps * batch_size);
            // Each image once, then the first ones again; none twice in a batch.
            let mut once = order[..images].to_vec();
            once.sort_unstable();
            assert!(once.iter().copied().eq(0..images as u32));
            assert_eq!(order[images..], order[..steps * batch_size - images]);
        }
    }
}
