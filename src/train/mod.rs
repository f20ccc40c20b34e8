//! Training: settings in, a run folder out.
//!
//! Read [`plans`] first: it builds the two programs that everything here runs. [`stage`] makes one
//! of them a training step, [`session`] is the loop around the steps, and [`checkpoint`] what the
//! loop can be continued from. [`train`] puts them together for a model that is trained from
//! scratch. [`first_contact`] tries a device before all that.

pub mod about;
pub mod advice;
pub mod augmented;
pub mod balanced;
mod batch_rows;
pub mod calibrate;
pub mod checkpoint;
pub mod divergence;
pub mod evaluate;
pub mod features;
pub mod finetune;
pub mod finetune_defaults;
pub mod first_contact;
pub mod groups;
pub mod logistic;
pub mod lr_find;
pub mod optimizers;
pub mod plans;
pub mod probe;
pub mod run_folder;
pub mod schedules;
pub mod score;
pub mod session;
pub mod settings;
mod shards;
pub mod split_table;
pub mod stage;
pub mod throughput;
mod together;
pub mod updates;
pub mod verify;
pub mod walk;

use ndarray::Array2;

use crate::data::{Dataset, Images};
use crate::error::{Error, Result};
use crate::exec::Device;
#[cfg(feature = "plots")]
use crate::inside;
use crate::models::{self, Architecture, Calibration, LoadedModel, Spec, Variant, Views};
#[cfg(feature = "plots")]
use crate::report::analysis::Analysis;
use crate::report::norms::ParameterNorms;
use crate::report::{EpochMetrics, Measures, RunReport};
use crate::team::Team;
use crate::text::counted;
use about::About;
use advice::TrainingSample;
use calibrate::Calibrated;
use checkpoint::RunFingerprint;
use evaluate::{BATCH_SIZE, EvalOptions, Evaluation};
use features::BatchSource;
use run_folder::RunFolder;
use session::Session;
use settings::{PixelScaling, Settings};
use stage::{Ended, Stage, StageConfig};
use together::{Together, check_team};
use walk::Witness;

/// Where a training is, after each step.
#[derive(Clone, Copy, Debug)]
pub struct StepProgress {
    /// The epoch under way, from 1.
    pub epoch: usize,
    /// Epochs of the training.
    pub epochs: usize,
    /// Number of the epoch, from 1.
    pub step: usize,
    /// Steps of the epoch.
    pub steps: usize,
    /// Mean loss of the epoch so far.
    pub loss: f64,
    /// Accuracy of the epoch so far, from 0 to 1.
    pub accuracy: f64,
    /// Throughput of the epoch so far.
    pub images_per_s: f64,
    /// The stage under way, from 1, of so many; only fine-tuning has several.
    pub stage: usize,
    /// Number of stages.
    pub stages: usize,
    /// Steps of the stage that were made since it was begun or, in this process, resumed; what time
    /// they took, validation and saving included; and how many are left of it.
    pub stage_done: usize,
    /// Time of these steps, validation and saving included.
    pub stage_seconds: f64,
    /// Steps of the stage that are left.
    pub stage_left: usize,
}

/// Phases of a training in which it does not train.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Computes the outputs of the frozen layers, for the training or the validation set.
    Features,
    /// Measures the accuracy on the validation set, after an epoch.
    Validation,
    /// Measures the accuracy on the test set, at the end.
    Test,
    /// Trains at rates that rise, in a search for one.
    Rates,
    /// Repeats steps to find the first value that is not finite.
    Search,
}

/// Watches a training, and may stop it.
pub trait Observer {
    /// After every step.
    fn step(&mut self, progress: &StepProgress);
    /// Before every batch of a phase between the steps: so many of its batches are done, of so
    /// many.
    fn phase(&mut self, _phase: Phase, _done: usize, _of: usize) {}
    /// Asked often; false stops the training at the next safe point.
    fn keep_going(&self) -> bool;
    /// After every epoch.
    fn epoch(&mut self, metrics: &EpochMetrics);
    /// Notes: what is done before the first epoch of a stage, and why a stage ends early.
    fn note(&mut self, _text: &str) {}
    /// Warnings: what is probably wrong.
    fn warn(&mut self, _text: &str) {}
    /// Whether there is to be a step that somebody wants to see run one op at a time, on a device
    /// in the main memory.
    fn needs_room(&self) -> bool {
        false
    }
    /// Asked before a step of an epoch, both from 1: the one who wants to see it run one op at a
    /// time, if anybody does.
    fn witness(&mut self, _epoch: usize, _step: usize) -> Option<&mut dyn Witness> {
        None
    }
}

/// Observer of a training that nobody watches.
#[derive(Clone, Copy, Debug)]
pub struct Unobserved;

impl Observer for Unobserved {
    fn step(&mut self, _progress: &StepProgress) {}

    fn keep_going(&self) -> bool {
        true
    }

    fn epoch(&mut self, _metrics: &EpochMetrics) {}
}

impl dyn Observer + '_ {
    /// Tells of a batch of a phase; whether to go on with it.
    fn goes_on(&mut self, phase: Phase, done: usize, of: usize) -> bool {
        self.phase(phase, done, of);
        self.keep_going()
    }
}

/// Result of a training.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Figures of all epochs.
    pub history: Vec<EpochMetrics>,
    /// Name of the images that the result is measured on: `test`, or `validation` where the data
    /// has no test images.
    pub set: &'static str,
    /// Evaluation of the best weights on these images.
    pub test: Evaluation,
    /// Measures of the same, beside its accuracy and its loss.
    pub measures: Measures,
}

/// A model without data: for tables and timings.
pub fn bare_spec(architecture: &'static Architecture, image_size: usize, classes: usize) -> Spec {
    Spec {
        architecture,
        classes: (0..classes).map(|class| class.to_string()).collect(),
        image_size,
        variant: Variant::plain(image_size),
        mean: [128.0; 3],
        std: [64.0; 3],
        norm: Settings::default().norm,
        views: Views::default(),
        calibration: Calibration::default(),
        data: "none".into(),
    }
}

/// The description of the model that these settings train on this data.
///
/// # Errors
/// If the images cannot be read.
pub fn spec(settings: &Settings, data: &Dataset) -> Result<Spec> {
    let (mean, std) = match settings.normalise {
        PixelScaling::Unit => ([0.0; 3], [255.0; 3]),
        PixelScaling::Statistics => statistics(&data.train)?,
    };
    Ok(Spec {
        architecture: settings.model,
        classes: data.classes.clone(),
        image_size: data.train.size,
        variant: Variant::plain(data.train.size),
        mean,
        std,
        norm: settings.norm,
        views: settings.views(),
        calibration: Calibration::default(),
        data: data.name.clone(),
    })
}

/// Mean and standard deviation of each channel, in units of 0..255.
fn statistics(images: &Images) -> Result<([f32; 3], [f32; 3])> {
    let mut sums = [[0u64; 2]; 3];
    images.for_each(|image| {
        for (i, &pixel) in image.iter().enumerate() {
            let value = u64::from(pixel);
            sums[i % 3][0] += value;
            sums[i % 3][1] += value * value;
        }
    })?;
    let count = (images.pixels.len() / 3) as f64;
    let mean = sums.map(|[sum, _]| sum as f64 / count);
    let channel = |c: usize| (sums[c][1] as f64 / count - mean[c] * mean[c]).sqrt();
    // Images of one colour have no spread; one unit keeps them finite.
    Ok((mean.map(|m| m as f32), [0, 1, 2].map(|c| channel(c).max(1.0) as f32)))
}

/// Checks that a device stores as the settings say.
fn check_precision(device: &dyn Device, settings: &Settings) -> Result<()> {
    let (wanted, is) = (settings.precision, device.precision());
    let problem = format!("`precision` is {wanted}, but the device ({}) stores in {is}", device.name());
    if wanted == is { Ok(()) } else { Err(Error::Usage(problem + "; open a GPU in that precision")) }
}

/// Trains a model, or goes on with the training in the run folder, and evaluates it once on the
/// test set. See
/// [`session::Session::fit`] for what the run folder holds meanwhile.
///
/// # Errors
/// If the settings do not fit the data ([`Settings::check_against`]) or the run in the folder; and
/// those of
/// [`session::Session::fit`].
pub fn train(
    device: &mut dyn Device,
    settings: &Settings,
    mut data: Dataset,
    run: &RunFolder,
    observer: &mut dyn Observer,
) -> Result<Outcome> {
    settings.check()?;
    check_precision(device, settings)?;
    run.team().check_shards(settings.shards)?;
    let observer = &mut Together { team: run.team(), observer };
    // The weights that it writes hold these names, and are read at its end.
    settings.model.register()?;
    settings.optimizer.register()?;
    settings.schedule.register()?;
    data.check_labels()?;
    let spec = spec(settings, &data)?;
    spec.check()?;
    let fingerprint = RunFingerprint::of(settings, &data, None)?;
    check_team(run.team(), device, &fingerprint)?;
    data.split_validation(settings.validation, settings.seed)?;
    split_table::check(run.path(), &data)?;
    settings.check_against(data.training_len(settings.validation))?;
    let config = settings.config(data.train.len()).of_images(&data.train.labels, &data.classes)?;
    let config = StageConfig { team: run.team().clone(), ..config };
    let program = plans::training(&spec, settings, &data.train)?;
    let parameters = program.parameters.clone();
    let reading = settings.reading(spec.classes.len());
    if let Some(loss) = &reading.loss {
        observer.note(&format!("note: {loss}"));
    }
    // A run may go on where there is more memory, or less.
    let of_all = plans::training(&spec, settings, data.train.len())?;
    let fingerprint = fingerprint.with_graph(settings, &of_all.graph);
    let mut session = Session::begin(run, &spec, parameters.clone(), fingerprint, reading, observer)?;
    run.write_settings(settings)?;
    split_table::write(run.path(), &data)?;
    let images = std::mem::take(&mut data.train);
    let batch_source = BatchSource::of(&images);
    let mut stage = Stage::load(device, None, &program, &parameters, batch_source, config)?;
    stage.validate_on(device, &spec, &data.validation)?;
    plans::upload(device, stage.plan, "train", &images)?;
    let sample = TrainingSample::of(&images, settings, spec.classes.len());
    let values = plans::initial_values_for(&parameters, settings.seed, &spec, &images)?;
    drop(images);
    plans::write_parameters(device, stage.plan, &parameters, &values)?;
    note_end(session.fit(device, &stage, 1, observer)?, observer);
    stage.unload(device)?;
    finish(device, run, settings, session.progress().history.clone(), &sample, &data, observer)
}

/// Says why a training ended, where that is before its last epoch.
fn note_end(ended: Ended, observer: &mut dyn Observer) {
    match ended {
        Ended::Complete => {}
        Ended::Stale(epochs) => {
            observer.note(&format!(
                "stopped: no better validation accuracy in {epochs} epoch{}",
                if epochs == 1 { "" } else { "s" }
            ));
        }
        Ended::Target(accuracy) => {
            observer.note(&format!("stopped: the target is reached with {:.2} %", 100.0 * accuracy));
        }
    }
}

/// Evaluates the best weights of a run on the test images, or on the validation images where there
/// are no others, and writes its result and its report. Weights and result are what a run is for; a
/// page or image that cannot be written is only warned of.
fn finish(
    device: &mut dyn Device,
    run: &RunFolder,
    settings: &Settings,
    history: Vec<EpochMetrics>,
    sample: &TrainingSample,
    data: &Dataset,
    observer: &mut dyn Observer,
) -> Result<Outcome> {
    let (set, test) = data.measured();
    // From the file, which thereby is known to be good.
    let mut trained = LoadedModel::open(&run.best())?;
    let options = EvalOptions { batch_size: BATCH_SIZE, views: settings.views() };
    let validated = calibrate(device, run.team(), &mut trained, (&data.validation, options), observer)?;
    let tested = |done, of| observer.goes_on(Phase::Test, done, of);
    let (result, validated) = match validated {
        Some(validated) if data.test.is_empty() => (validated, None),
        validated => (trained.evaluate_in(run.team(), device, ("test", test), options, tested)?, validated),
    };
    let calibration = trained.spec.calibration;
    let inside = look_inside(device, &trained, (test, &result), &run.norms(history.len()), observer);
    let images = |what: &str, number: usize| (what.to_string(), counted(number, "image"));
    let about = About::read(run.path()).unwrap_or_else(|error| {
        observer.warn(&format!("{error}; the report is without"));
        About::default()
    });
    let mut facts = about.facts();
    facts.extend([
        ("data".to_string(), settings.data.clone()),
        images("trained on", sample.all),
        images("validated on", data.validation.len()),
        images("tested on", data.test.len()),
        ("device".to_string(), device.name()),
    ]);
    let report = RunReport {
        title: &format!("{} on {}", trained.spec.architecture, trained.spec.data),
        facts: &facts,
        classes: &trained.spec.classes,
        history: &history,
        reading: settings.reading(trained.spec.classes.len()),
        accuracy: result.accuracy,
        plain_accuracy: result.plain_accuracy,
        loss: result.loss,
        logits: result.logits.view(),
        calibration,
        images: test,
        validation: validated.as_ref().map(|result| (&data.validation, result.logits.view())),
        folder: data.folder.as_deref(),
        set,
        parameters: trained.trained_parameters,
        settings: &settings.to_toml(),
        inside: &inside,
    };
    run.write_result(&report)?;
    if let Err(error) = run.write_report(&report) {
        observer.warn(&format!("the report is incomplete: {error}"));
    }
    advise(device, &trained, settings, &history, sample, observer);
    advice::mirrored(settings, &trained.spec.classes, &result, &test.labels)
        .iter()
        .for_each(|warning| observer.warn(warning));
    let measures = Measures::of(result.logits.view(), &test.labels, calibration);
    Ok(Outcome { history, set, test: result, measures })
}

/// Writes into the weights how far their probabilities are to be believed, by the validation
/// images; returns the evaluation of these, if there are any.
fn calibrate(
    device: &mut dyn Device,
    team: &Team,
    trained: &mut LoadedModel,
    (validation, options): (&Images, EvalOptions),
    observer: &mut dyn Observer,
) -> Result<Option<Evaluation>> {
    let goes_on = |done, of| observer.goes_on(Phase::Validation, done, of);
    let result = match validation.is_empty() {
        true => None,
        false => Some(trained.evaluate_in(team, device, ("validation", validation), options, goes_on)?),
    };
    let none = Array2::zeros([0, trained.spec.classes.len()]);
    let logits = result.as_ref().map_or(none.view(), |result| result.logits.view());
    let Calibrated { calibration, notes } = Calibrated::of(logits, &validation.labels);
    notes.iter().for_each(|note| observer.note(&format!("note: {note}")));
    trained.spec.calibration = calibration;
    let parameters = trained.parameters()?;
    let values = trained.values(&parameters)?;
    // The weights are good without; on a full disk the results should still be told, as those of
    // what is in the file.
    if let Err(error) = models::save(&trained.path, &trained.spec, &parameters, &values) {
        observer.warn(&format!("{error}; the weights are kept without their temperature"));
        trained.spec.calibration = Calibration::default();
    }
    Ok(result)
}

/// The sections of the report that show the inside of the model.
#[cfg(feature = "plots")]
fn look_inside(
    device: &mut dyn Device,
    trained: &LoadedModel,
    (images, result): (&Images, &Evaluation),
    norms: &[ParameterNorms],
    observer: &mut dyn Observer,
) -> String {
    let analysis = Analysis::calibrated(result.logits.view(), &images.labels, trained.spec.calibration);
    let goes_on = &mut || if observer.keep_going() { Ok(()) } else { Err(Error::Interrupted) };
    match inside::page::measured(trained, device, (images, &analysis), &[], goes_on) {
        Ok((_, sections)) => sections + &inside::page::norms(norms),
        Err(error) => {
            observer.warn(&format!("the report does not show the inside of the model: {error}"));
            String::new()
        }
    }
}

/// Nothing: this build makes no pages.
#[cfg(not(feature = "plots"))]
fn look_inside(
    _: &mut dyn Device,
    _: &LoadedModel,
    _: (&Images, &Evaluation),
    _: &[ParameterNorms],
    _: &mut dyn Observer,
) -> String {
    String::new()
}

/// Warns of a training that learnt nothing, or whose model knows less than it did in training.
fn advise(
    device: &mut dyn Device,
    trained: &LoadedModel,
    settings: &Settings,
    history: &[EpochMetrics],
    sample: &TrainingSample,
    observer: &mut dyn Observer,
) {
    if let Some(warning) = sample.at_chance(history) {
        return observer.warn(&warning);
    }
    if !sample.may_lag(history) {
        return;
    }
    let options = EvalOptions { batch_size: BATCH_SIZE, views: settings.views() };
    let again = trained.evaluate(device, "sample", &sample.images, options, |_, _| observer.keep_going());
    // All results are there; where this one cannot be had, there is nothing to warn of.
    let warning = again.ok().and_then(|again| sample.lag(history, again.accuracy));
    warning.into_iter().for_each(|warning| observer.warn(&warning));
}
