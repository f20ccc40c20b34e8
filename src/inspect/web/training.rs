//! The training of a page: its plan, where it begins, its rates, and what a CPU makes of it.

use serde::Serialize;

use super::content::Named;
use super::program::{Shaders, WebProgram, bytes};
use crate::data::Images;
use crate::error::Result;
use crate::exec::plan::Plan;
use crate::exec::{Device, Precision};
use crate::models::LoadedModel;
use crate::nn::Parameter;
use crate::train::groups::Group;
use crate::train::plans::{self, CLASS_WEIGHTS, ModelGraph, Totals};
use crate::train::settings::Settings;
use crate::train::settings::class_weights::ClassWeights;
use crate::train::stage::StageConfig;

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
    /// Inputs that are the same in every step: a factor of the loss, the weights of classes.
    constant: Vec<(&'static str, Vec<f32>)>,
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

impl Training {
    /// Mean losses of the first steps, with these images from these values.
    fn losses_on(
        &self,
        cpu: &mut dyn Device,
        model: &ModelGraph,
        images: &Images,
        values: &[Vec<f32>],
    ) -> Result<Vec<f64>> {
        let plan = cpu.load(&model.graph)?;
        plans::upload(cpu, plan, "train", images)?;
        plans::write_parameters(cpu, plan, &model.parameters, values)?;
        self.constant
            .iter()
            .try_for_each(|(name, values)| cpu.write(plan, name, values.as_slice().into()))?;
        let mut losses = Vec::new();
        for (number, step) in self.steps.iter().take(EXPECTED_LOSSES).enumerate() {
            cpu.write(plan, "indices", step.indices.as_slice().into())?;
            cpu.write(plan, "step", [number as u32].as_slice().into())?;
            for (input, rate) in self.rates.iter().zip(&step.rates) {
                cpu.write(plan, input, [*rate].as_slice().into())?;
            }
            cpu.run(plan)?;
            losses.push(Totals::from(cpu.read(plan, "totals")?.as_slice()).mean_loss());
        }
        cpu.unload(plan)?;
        Ok(losses)
    }
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
        let config = self.config(&settings)?;
        let mut constant = vec![("loss_gradient", vec![1.0])];
        if !config.class_weights.is_empty() {
            constant.push((CLASS_WEIGHTS, config.class_weights.clone()));
        }
        let new = graph.parameters.iter().zip(&values).filter(|(parameter, _)| is_new(parameter));
        let mut training = Training {
            program,
            recipe: self.recipe(&settings, &graph.parameters),
            batch_size: settings.batch_size,
            initial: new.map(|(parameter, values)| Named::new(parameter, halves(values))).collect(),
            constant,
            steps: steps(&config, &groups),
            rates: groups.into_iter().map(Group::input).collect(),
            losses: Vec::new(),
            filters: graph.parameters.iter().find_map(Filters::of),
        };
        training.losses = training.losses_on(cpu, &graph, self.images, &values)?;
        Ok(training)
    }

    /// The training as the program would do it on the images of the page.
    fn config(&self, settings: &Settings) -> Result<StageConfig> {
        let mut config = settings.config(self.images.len());
        config.backbone = settings.finetune.as_ref().map_or(1.0, |finetune| finetune.backbone);
        config.of_images(&self.images.labels, &self.model.spec.classes)
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
            shards: 1,
            precision: Precision::F32,
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
            Some(run) if run.rate == settings.rate => "the run's settings".into(),
            Some(run) => {
                format!("the run's settings, with rates for such a batch instead of {}", run.batch_size)
            }
            None => "the settings of a default training, with rates for such a batch".into(),
        };
        let Settings { epochs, batch_size, optimizer, schedule, rate, weight_decay, augment, .. } = settings;
        let classes = match (settings.balanced, &settings.class_weights) {
            (true, _) => ", classes drawn equally often",
            (_, ClassWeights::None) => "",
            _ => ", classes weighted in the loss",
        };
        format!(
            "{from}, {epochs} times over the images of this page, {batch_size} a step: {whose}, {rate}; \
             {optimizer}, {schedule}, weight decay {weight_decay}, augmentation {augment}{classes}"
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

/// The steps of all epochs.
fn steps(config: &StageConfig, groups: &[Group]) -> Vec<TrainStep> {
    let (each, batch_size) = (config.steps(), config.settings.batch_size);
    let epoch = |epoch: usize| {
        let order = config.order(1 + epoch);
        let batches: Vec<_> = order.chunks_exact(batch_size).take(each).map(<[u32]>::to_vec).collect();
        (epoch * each..).zip(batches)
    };
    let all = (0..config.settings.epochs).flat_map(epoch);
    all.map(|(step, indices)| TrainStep { indices, rates: config.rates(groups, step) }).collect()
}
