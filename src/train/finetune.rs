//! Fine-tuning: a model that knows other images learns these, in two stages.
//!
//! 1. The head. A classifier for the new classes is trained on the outputs of the pretrained
//!    layers, which is computed once ([`super::features`]); were they trained together with a
//!    classifier that knows nothing yet, its gradients would destroy what they know.
//! 2. The last blocks, or all. They follow at a lower rate than the classifier. What stays frozen
//!    is again computed once; batch normalisation in it uses its stored statistics.
//!
//! [`find_rate`] searches for the rate of the second.

use std::path::Path;

use super::advice::TrainingSample;
use super::checkpoint::{Progress, RunFingerprint};
use super::evaluate::{BATCH_SIZE, Evaluator};
use super::features::{BatchSource, FeatureJob, Features};
use super::logistic;
use super::lr_find::{Curve, Range, rise};
use super::plans::{self, ModelGraph};
use super::run_folder::RunFolder;
use super::session::Session;
use super::settings::Settings;
use super::settings::class_weights::ClassWeights;
use super::settings::finetune::Finetune;
use super::split_table;
use super::stage::{Ended, Stage, StageConfig};
use super::together::{Together, check_team};
use super::{Observer, Outcome, Phase, check_precision, finish, note_end};
use crate::data::{Dataset, Images};
use crate::error::{Error, Result};
use crate::exec::{Device, PlanId};
use crate::models::pretrained::Pretrained;
use crate::models::{self, Calibration, Spec, Variant};
use crate::nn::Parameter;
use crate::ops::augment::Augment;
use crate::team::Team;
use crate::weights;

/// For every image so many differently augmented sets of features are computed.
const COPIES: usize = 2;

impl Finetune {
    /// The first of so many units that is trained in the second stage.
    fn first_unfrozen(&self, units: usize) -> usize {
        (units - 1).saturating_sub(self.unfreeze.0)
    }
}

/// The units that a stage trains, and how.
struct Part {
    from: usize,
    config: StageConfig,
}

impl Part {
    /// Description of what is trained, and how long.
    fn description(&self, units: usize) -> String {
        let (epochs, steps) = (self.config.settings.epochs, self.config.steps());
        let plural = |n: usize| if n == 1 { "" } else { "s" };
        let what = match (self.from, units - 1 - self.from) {
            (0, _) => "all layers".to_string(),
            (_, 0) => "the classifier".to_string(),
            (_, blocks) => format!("the classifier and the last {blocks} block{}", plural(blocks)),
        };
        let of_features = if self.from > 0 { " on features, which images/s counts" } else { "" };
        format!("{what}, {epochs} epoch{} of {steps} step{}{of_features}", plural(epochs), plural(steps))
    }
}

/// The stages of a training of so many units on `images` images; those without epochs are left
/// out.
fn parts(settings: &Settings, finetune: &Finetune, units: usize, images: usize) -> Vec<Part> {
    let config = |epochs, rate, backbone| StageConfig {
        backbone,
        ..Settings { epochs, rate, ..settings.clone() }.config(images)
    };
    let head = config(finetune.head_epochs, finetune.head_rate, 1.0);
    let blocks = config(settings.epochs - finetune.head_epochs, settings.rate, finetune.backbone);
    let from = finetune.first_unfrozen(units);
    let parts = [Part { from: units - 1, config: head }, Part { from, config: blocks }];
    parts.into_iter().filter(|part| part.config.settings.epochs > 0).collect()
}

/// The first units that the stages train.
///
/// # Errors
/// None but those of a model whose units cannot be told.
pub(super) fn beginnings(settings: &Settings, finetune: &Finetune, spec: &Spec) -> Result<Vec<usize>> {
    let parts = parts(settings, finetune, spec.architecture.units()?.len(), settings.batch_size);
    let mut beginnings: Vec<usize> = parts.iter().map(|part| part.from).collect();
    beginnings.dedup();
    Ok(beginnings)
}

/// The description of the model that comes out.
pub(super) fn spec(pretrained: &Spec, settings: &Settings, finetune: &Finetune, data: &Dataset) -> Spec {
    Spec {
        classes: data.classes.clone(),
        image_size: data.train.size,
        variant: Variant { input_size: finetune.input_size, ..pretrained.variant },
        views: settings.views(),
        calibration: Calibration::default(),
        data: data.name.clone(),
        ..pretrained.clone()
    }
}

/// Initial values: the pretrained ones, and for the classifier those of a new model.
pub(super) fn initial_values(
    pretrained: &Pretrained,
    parameters: &[Parameter],
    settings: &Settings,
) -> Result<Vec<Vec<f32>>> {
    let path = settings.finetune.as_ref().map_or("", |finetune| finetune.pretrained.as_str());
    let mut file = pretrained.file.clone();
    let (new, known): (Vec<Parameter>, Vec<Parameter>) =
        parameters.iter().cloned().partition(|p| p.classifier);
    new.iter().for_each(|p| drop(file.tensors.remove(&p.name)));
    let mut known = models::values(&file, &known, Path::new(path))?.into_iter();
    let values = parameters.iter().zip(plans::initial_values(parameters, settings.seed));
    Ok(values.map(|(p, new)| if p.classifier { new } else { known.next().unwrap_or(new) }).collect())
}

/// Fine-tunes a model, or goes on with the training in the run folder, and evaluates it once on the
/// test set.
///
/// # Errors
/// If the weights are of another model or damaged; otherwise as for [`super::train`].
pub fn finetune(
    device: &mut dyn Device,
    settings: &Settings,
    pretrained: Pretrained,
    mut data: Dataset,
    run: &RunFolder,
    observer: &mut dyn Observer,
) -> Result<Outcome> {
    let Some(finetune) = &settings.finetune else {
        return Err(Error::Usage("these are no settings of a fine-tuning".into()));
    };
    settings.check()?;
    check_precision(device, settings)?;
    run.team().check_shards(settings.shards)?;
    let observer = &mut Together { team: run.team(), observer };
    data.check_labels()?;
    let spec = spec(&pretrained.spec, settings, finetune, &data);
    spec.check()?;
    let whole = plans::evaluation(&spec, "weights", 1, 1)?;
    let parameters = whole.parameters.clone();
    let digest = weights::digest(&pretrained.file)?;
    let fingerprint = RunFingerprint::of(settings, &data, Some(digest))?;
    check_team(run.team(), device, &fingerprint)?;
    data.split_validation(settings.validation, settings.seed)?;
    split_table::check(run.path(), &data)?;
    settings.check_against(data.training_len(settings.validation))?;
    let reading = settings.reading(spec.classes.len());
    if let Some(loss) = &reading.loss {
        observer.note(&format!("note: {loss}"));
    }
    let mut session = Session::begin(run, &spec, parameters.clone(), fingerprint, reading, observer)?;
    let whole = load_whole(device, &whole, settings, pretrained)?;
    run.write_settings(settings)?;
    split_table::write(run.path(), &data)?;
    let units = spec.architecture.units()?.len();
    let parts = parts_of(settings, finetune, units, (&data, run.team()))?;
    for (number, part) in parts.iter().enumerate().skip(session.progress().stage) {
        observer.note(&format!("stage {} of {}: {}", number + 1, parts.len(), part.description(units)));
        let (fresh, images) = (*session.progress() == Progress::default(), &data.train);
        let stages = StageBuilder {
            settings,
            spec: &spec,
            whole,
            units,
            folder: run.path(),
            team: run.team(),
            images,
            validation: &data.validation,
            fresh,
        };
        let stage = stages.stage(device, part, &parameters, observer)?;
        let ended = session.fit(device, &stage, parts.len(), observer)?;
        stage.unload(device)?;
        note_end(ended, observer);
        if let Ended::Target(_) = ended {
            break;
        }
    }
    device.unload(whole)?;
    let sample = TrainingSample::of(&data.train, settings, spec.classes.len());
    finish(device, run, settings, session.progress().history.clone(), &sample, &data, observer)
}

/// Loads the plan that has every parameter, with its initial value.
fn load_whole(
    device: &mut dyn Device,
    program: &ModelGraph,
    settings: &Settings,
    pretrained: Pretrained,
) -> Result<PlanId> {
    let whole = device.load(&program.graph)?;
    let values = initial_values(&pretrained, &program.parameters, settings)?;
    plans::write_parameters(device, whole, &program.parameters, &values)?;
    Ok(whole)
}

/// [`parts`] on the training images of this data.
fn parts_of(
    settings: &Settings,
    finetune: &Finetune,
    units: usize,
    (data, team): (&Dataset, &Team),
) -> Result<Vec<Part>> {
    let mut parts = parts(settings, finetune, units, data.train.len());
    for part in &mut parts {
        let config = part.config.clone().of_images(&data.train.labels, &data.classes)?;
        part.config = StageConfig { team: team.clone(), ..config };
    }
    Ok(parts)
}

/// Images that the loss is measured on after each step of [`find_rate`].
const MEASURED: usize = BATCH_SIZE;

/// A range test of the last stage's rate, from a classifier that is fitted to the images which its
/// steps draw. Measured is the loss on images that are held back for validation, at most a batch of
/// an evaluation: that on the training images is low from the beginning. No weights are kept;
/// `folder` is for features too large for memory.
///
/// # Errors
/// As for [`finetune`].
pub fn find_rate(
    device: &mut dyn Device,
    settings: &Settings,
    pretrained: Pretrained,
    mut data: Dataset,
    (range, folder): (Range, &Path),
    observer: &mut dyn Observer,
) -> Result<Curve> {
    let Some(finetune) = &settings.finetune else {
        return Err(Error::Usage("these are no settings of a fine-tuning".into()));
    };
    settings.check()?;
    data.check_labels()?;
    let spec = spec(&pretrained.spec, settings, finetune, &data);
    spec.check()?;
    data.split_validation(settings.validation, settings.seed)?;
    settings.check_against(data.training_len(settings.validation))?;
    data.train = data.train.part(range.steps * settings.batch_size);
    data.validation = data.validation.part(MEASURED);
    let program = plans::evaluation(&spec, "weights", 1, 1)?;
    let parameters = &program.parameters;
    let whole = load_whole(device, &program, settings, pretrained)?;
    let units = spec.architecture.units()?.len();
    let team = &Team::default();
    let parts = parts_of(settings, finetune, units, (&data, team))?;
    let Some(part) = parts.last() else { unreachable!("there are epochs") };
    let (images, validation, fresh) = (&data.train, &data.validation, true);
    let spec = &spec;
    let stages = StageBuilder { settings, spec, whole, units, folder, team, images, validation, fresh };
    if part.from + 1 < units {
        let features = stages.training_features(device, units - 1, COPIES, observer)?;
        stages.fit_head(device, &features, parameters, observer)?;
    }
    let stage = stages.stage(device, part, parameters, observer)?;
    let curve = rise(device, (&stage, spec.classes.len()), range, observer)?;
    stage.unload(device)?;
    device.unload(whole)?;
    Ok(curve)
}

/// Everything that stages are made from.
struct StageBuilder<'a> {
    settings: &'a Settings,
    spec: &'a Spec,
    /// The plan whose parameters all stages have.
    whole: PlanId,
    /// Units of the model.
    units: usize,
    /// Where a file may be put that is too large for memory.
    folder: &'a Path,
    /// The processes that share the work.
    team: &'a Team,
    images: &'a Images,
    validation: &'a Images,
    /// Whether nothing has been trained yet.
    fresh: bool,
}

impl StageBuilder<'_> {
    /// Prepares a stage, which computes the features that it is trained on.
    fn stage(
        &self,
        device: &mut dyn Device,
        part: &Part,
        parameters: &[Parameter],
        observer: &mut dyn Observer,
    ) -> Result<Stage> {
        let StageBuilder { settings, spec, whole, units, images, validation, .. } = *self;
        if part.from == 0 {
            let program = plans::training(spec, settings, images)?;
            let (beside, batch_source) = (Some(whole), BatchSource::of(images));
            let mut stage =
                Stage::load(device, beside, &program, parameters, batch_source, part.config.clone())?;
            stage.validate_on(device, spec, validation)?;
            plans::upload(device, whole, "train", images)?;
            return Ok(stage);
        }
        let copies = COPIES.min(part.config.settings.epochs);
        let features = self.training_features(device, part.from, copies, observer)?;
        let is_head = part.from + 1 == units;
        if is_head && self.fresh && settings.finetune.as_ref().is_some_and(|finetune| finetune.fit_head) {
            self.fit_head(device, &features, parameters, observer)?;
        }
        let program = plans::training_on_features(spec, settings, part.from, features.shape())?;
        let (beside, batch_source) = (Some(whole), BatchSource::Features(features));
        let mut stage = Stage::load(device, beside, &program, parameters, batch_source, part.config.clone())?;
        if !validation.is_empty() {
            let plain = (plans::plain(spec), 1);
            let features = self.features(device, ("validation", validation), plain, part.from, observer)?;
            let evaluator = Evaluator::on_features(device, whole, spec, part.from, features, BATCH_SIZE)?;
            stage.validation = Some(evaluator.shared_by(self.team));
        }
        Ok(stage)
    }

    fn training_features(
        &self,
        device: &mut dyn Device,
        until: usize,
        copies: usize,
        observer: &mut dyn Observer,
    ) -> Result<Features> {
        observer.note(&format!(
            "computing frozen features once: {} training images, {copies} augmented {}",
            self.images.len(),
            if copies == 1 { "copy" } else { "copies" }
        ));
        let augment = plans::augmented(self.spec, self.settings);
        self.features(device, ("train", self.images), (augment, copies), until, observer)
    }

    /// Begins the classifier as the logistic regression that suits the features best.
    fn fit_head(
        &self,
        device: &mut dyn Device,
        features: &Features,
        parameters: &[Parameter],
        observer: &mut dyn Observer,
    ) -> Result<()> {
        let StageBuilder { spec, whole, .. } = *self;
        let classifier: Vec<&Parameter> = parameters.iter().filter(|p| p.classifier).collect();
        let [weight, bias] = classifier.as_slice() else {
            observer.note(&format!(
                "note: the classifier of {} has no bias: no logistic regression fits it, and it begins anew",
                spec.architecture
            ));
            return Ok(());
        };
        // Classes that are drawn equally often count alike here, too.
        let Settings { class_weights, balanced, .. } = self.settings;
        let alike = *balanced && *class_weights == ClassWeights::None;
        let weights = if alike { &ClassWeights::Auto } else { class_weights };
        let weights = weights.of(&spec.classes, &self.images.labels, false)?;
        let keep_going = || observer.keep_going();
        let head = logistic::fit(device, features, spec.classes.len(), &weights, &keep_going)?;
        device.write_state(whole, &weight.name, head.weight.as_slice().into())?;
        device.write_state(whole, &bias.name, head.bias.as_slice().into())
    }

    fn features(
        &self,
        device: &mut dyn Device,
        (name, images): (&str, &Images),
        (augment, copies): (Augment, usize),
        until: usize,
        observer: &mut dyn Observer,
    ) -> Result<Features> {
        let StageBuilder { whole: beside, folder, team, .. } = *self;
        let job = FeatureJob { beside, name, images, augment, copies, until, folder, team };
        Features::compute(device, self.spec, &job, |done, of| observer.goes_on(Phase::Features, done, of))
    }
}
