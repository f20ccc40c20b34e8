//! The training of a page: its plan, where it begins, its rates, and what a CPU makes of it.

use serde::Serialize;

use super::content::Named;
use super::program::{Shaders, WebProgram, bytes};
use crate::data::Images;
use crate::error::Result;
use crate::exec::Device;
use crate::exec::plan::Plan;
use crate::kernels::rng::{self, Stream};
use crate::models::LoadedModel;
use crate::nn::Parameter;
use crate::train::groups::Group;
use crate::train::plans::{self, ModelGraph, Totals};
use crate::train::settings::Settings;

/// Images of a step: the first of these with which a browser can hold the plan.
pub(super) const BATCH_SIZES: [usize; 4] = [32, 16, 8, 4];

/// Passes over the images that the training of a page makes.
const EPOCHS: usize = 40;

/// Steps of which the page knows what a CPU computes.
const EXPECTED_LOSSES: usize = 20;

/// New values that a page has at most: a training of more goes on from the trained weights.
const MOST_NEW: usize = 3_000_000;

/// A training on the images of the page.
#[derive(Serialize)]
pub struct Training {
    program: WebProgram,
    /// In words.
    recipe: String,
    batch_size: usize,
    /// Parameters that begin anew, by the upper halves of their words: bfloat16. The others begin
    /// as they were trained.
    initial: Vec<Named>,
    /// Inputs that take the rates.
    rates: Vec<&'static str>,
    /// The images of every step, and its rates.
    steps: Vec<TrainStep>,
    /// Mean losses of the first steps.
    losses: Vec<f64>,
    /// The state to draw: filters of the first layer `[height, width, 3, filters]`.
    filters: Option<Filters>,
}

#[derive(Clone, Serialize)]
struct TrainStep {
    indices: Vec<u32>,
    rates: Vec<f32>,
}

#[derive(Serialize)]
struct Filters {
    name: String,
    dims: Vec<usize>,
}

/// What a training is made from.
pub struct Begin<'a> {
    /// The trained model.
    pub model: &'a LoadedModel,
    /// The settings of its run; none where that is unknown.
    pub run: Option<&'a Settings>,
    /// The images of the page.
    pub images: &'a Images,
}

impl Begin<'_> {
    /// The training; `cpu` computes its first losses.
    ///
    /// # Errors
    /// If a browser can hold the plan with no size of batch that is tried, or the weights are
    /// damaged.
    pub fn training(&self, shaders: &mut Shaders, cpu: &mut dyn Device) -> Result<Training> {
        let images = self.images.len();
        let mut planned = |batch_size: usize| -> Result<_> {
            let settings = self.settings(batch_size.min(images));
            let graph = plans::training(&self.model.spec, &settings, images)?;
            let program = shaders.graph(&graph.graph)?;
            Ok((settings, graph, program))
        };
        let mut found = planned(BATCH_SIZES[0]);
        for &smaller in &BATCH_SIZES[1..] {
            found = found.or_else(|_| planned(smaller));
        }
        let (settings, graph, program) = found?;
        let is_new = self.begins_anew(&graph.parameters);
        let values = self.values(&graph.parameters, &settings, &is_new)?;
        let groups = Group::in_plan(&Plan::compile(&graph.graph)?);
        let steps = steps(&settings, images, &groups);
        let rates: Vec<_> = groups.into_iter().map(Group::input).collect();
        let losses = losses(&graph, (self.images, &values), &rates, &steps, cpu)?;
        let new = graph.parameters.iter().zip(&values).filter(|(parameter, _)| is_new(parameter));
        Ok(Training {
            program,
            recipe: self.recipe(&settings, &graph.parameters),
            batch_size: settings.batch_size,
            initial: new.map(|(parameter, values)| Named::new(parameter, halves(values))).collect(),
            rates,
            steps,
            losses,
            filters: graph.parameters.iter().find_map(Filters::of),
        })
    }

    /// The settings of the run, or the default ones, in batches of another size, at the rate that
    /// suits these.
    fn settings(&self, batch_size: usize) -> Settings {
        let known = self.run.cloned().unwrap_or_default();
        let [rate, bias_rate, classifier_rate] = known.rates_in_batches(batch_size, known.batch_size);
        Settings {
            model: self.model.spec.architecture,
            image_size: self.model.spec.image_size,
            batch_size,
            epochs: EPOCHS,
            rate,
            bias_rate,
            classifier_rate,
            ..known
        }
    }

    fn is_finetuning(&self) -> bool {
        self.run.is_some_and(|run| run.finetune.is_some())
    }

    /// Which parameters begin anew: all, or, as in a fine-tuning, those of the classifier.
    fn begins_anew(&self, parameters: &[Parameter]) -> impl Fn(&Parameter) -> bool + use<> {
        let all = !self.is_finetuning() && count(parameters) <= MOST_NEW;
        move |parameter| all || parameter.classifier
    }

    /// The values to begin with, new ones as bfloat16, rounded towards zero.
    fn values(
        &self,
        parameters: &[Parameter],
        settings: &Settings,
        is_new: &impl Fn(&Parameter) -> bool,
    ) -> Result<Vec<Vec<f32>>> {
        let rounded = |value: f32| f32::from_bits(value.to_bits() & 0xffff_0000);
        let new = plans::initial_values_for(parameters, settings.seed, &self.model.spec, self.images)?;
        let trained = self.model.values(parameters)?;
        let both = parameters.iter().zip(new.into_iter().zip(trained));
        let chosen = both.map(|(parameter, (new, trained))| match is_new(parameter) {
            true => new.into_iter().map(rounded).collect(),
            false => trained,
        });
        Ok(chosen.collect())
    }

    fn recipe(&self, settings: &Settings, parameters: &[Parameter]) -> String {
        let from = match (self.is_finetuning(), count(parameters) > MOST_NEW) {
            (true, _) => "from the trained weights with a new classifier, as a fine-tuning does, all layers",
            (_, true) => {
                "from the trained weights with a new classifier (new values for all of so large a model \
                 are not in the page)"
            }
            _ => "from new weights",
        };
        let whose = match self.run {
            Some(run) => {
                format!("the run's settings, with rates for such a batch instead of {}", run.batch_size)
            }
            None => "the settings of a default training, with rates for such a batch".into(),
        };
        let Settings { batch_size, optimizer, schedule, rate, weight_decay, augment, .. } = settings;
        format!(
            "{from}, on the images of this page, {batch_size} a step: {whose}, {rate}; {optimizer}, \
             {schedule}, weight decay {weight_decay}, augmentation {augment}"
        )
    }
}

/// Numbers of the parameters.
fn count(parameters: &[Parameter]) -> usize {
    parameters.iter().map(|parameter| parameter.shape.len()).sum()
}

/// The upper halves of numbers, as text.
fn halves(values: &[f32]) -> String {
    let half = |value: &f32| ((value.to_bits() >> 16) as u16).to_le_bytes();
    bytes(&values.iter().flat_map(half).collect::<Vec<u8>>())
}

impl Filters {
    fn of(parameter: &Parameter) -> Option<Filters> {
        let dims = parameter.shape.dims();
        let is_first = matches!(dims, [_, _, 3, _]);
        is_first.then(|| Filters { name: parameter.name.clone(), dims: dims.to_vec() })
    }
}

/// Every epoch has the images in another order, and begins again with them where the last batch is
/// not full.
fn steps(settings: &Settings, images: usize, groups: &[Group]) -> Vec<TrainStep> {
    let mut config = settings.config(images);
    config.backbone = settings.finetune.as_ref().map_or(1.0, |finetune| finetune.backbone);
    let (each, batch_size) = (config.steps(), settings.batch_size);
    let step = |step: usize| {
        let order = rng::permutation(images, settings.seed, Stream::Shuffle, (step / each) as u32);
        let place = |i: usize| order[(step % each * batch_size + i) % images];
        TrainStep { indices: (0..batch_size).map(place).collect(), rates: config.rates(groups, step) }
    };
    (0..each * settings.epochs).map(step).collect()
}

/// Mean losses of the first steps, of a training with these images from these values.
fn losses(
    program: &ModelGraph,
    (images, values): (&Images, &[Vec<f32>]),
    rates: &[&str],
    steps: &[TrainStep],
    cpu: &mut dyn Device,
) -> Result<Vec<f64>> {
    let plan = cpu.load(&program.graph)?;
    plans::upload(cpu, plan, "train", images)?;
    plans::write_parameters(cpu, plan, &program.parameters, values)?;
    cpu.write(plan, "loss_gradient", [1.0f32].as_slice().into())?;
    let mut losses = Vec::new();
    for (number, step) in steps.iter().take(EXPECTED_LOSSES).enumerate() {
        cpu.write(plan, "indices", step.indices.as_slice().into())?;
        cpu.write(plan, "step", [number as u32].as_slice().into())?;
        for (input, rate) in rates.iter().zip(&step.rates) {
            cpu.write(plan, input, [*rate].as_slice().into())?;
        }
        cpu.run(plan)?;
        losses.push(Totals::from(cpu.read(plan, "totals")?.as_slice()).mean_loss());
    }
    cpu.unload(plan)?;
    Ok(losses)
}
