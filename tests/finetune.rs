//! Fine-tuning: what is frozen stays as it was, features give what the whole model gives, a run
//! that is stopped and continued is the run that never stopped.

mod common;

use std::cell::Cell;
use std::path::{Path, PathBuf};

use cifar_engine::data::{Dataset, shapes};
use cifar_engine::error::{Error, Result};
use cifar_engine::exec::cpu::Cpu;
use cifar_engine::kernels::simd::Isa;
use cifar_engine::models::LoadedModel;
use cifar_engine::models::mobilenet_v1::MOBILENET_V1;
use cifar_engine::models::pretrained::{Attributes, Pretrained};
use cifar_engine::report::EpochMetrics;
use cifar_engine::train::evaluate::EvalOptions;
use cifar_engine::train::finetune::finetune;
use cifar_engine::train::run_folder::RunFolder;
use cifar_engine::train::schedules::CONSTANT;
use cifar_engine::train::settings::Settings;
use cifar_engine::train::settings::finetune::{Blocks, Finetune};
use cifar_engine::train::{Observer, Outcome, StepProgress};
use cifar_engine::weights;
use common::mobilenet::write_weights;

/// A MobileNet v1 of width 0.25 that knows five classes of nothing, in a folder that lives as long
/// as it.
struct Setting {
    folder: tempfile::TempDir,
}

impl Setting {
    fn new() -> Setting {
        let setting = Setting { folder: tempfile::tempdir().unwrap() };
        write_weights(&setting.weights());
        setting
    }

    fn weights(&self) -> PathBuf {
        self.folder.path().join("pretrained.safetensors")
    }

    /// Two epochs of the head and two of the last blocks, six steps each.
    fn settings(&self, unfreeze: usize) -> Settings {
        let finetune = Finetune {
            pretrained: self.weights().to_string_lossy().into_owned(),
            input_size: 40,
            unfreeze: Blocks(unfreeze),
            head_epochs: 2,
            head_rate: 0.01,
            backbone: 0.5,
            fit_head: false,
            frozen_statistics: false,
            attributes: Attributes::default(),
        };
        Settings {
            model: &MOBILENET_V1,
            epochs: 4,
            batch_size: 16,
            rate: 0.05,
            validation: 24,
            finetune: Some(finetune),
            ..Settings::default()
        }
    }

    /// Trains in a folder of this name, until the end or the stop.
    fn train(&self, name: &str, settings: &Settings, stop_after: usize) -> (Result<Outcome>, usize) {
        let (outcome, steps, _) = self.train_asking(name, settings, stop_after);
        (outcome, steps)
    }

    /// Tells also how often it was asked whether to go on.
    fn train_asking(
        &self,
        name: &str,
        settings: &Settings,
        stop_after: usize,
    ) -> (Result<Outcome>, usize, usize) {
        let folder = self.folder.path().join(name);
        let run = match folder.join("settings.toml").exists() {
            true => RunFolder::open(folder).unwrap().0,
            false => RunFolder::create(Some(folder), settings, "shapes").unwrap(),
        };
        let pretrained = Pretrained::open(&self.weights(), &Attributes::default()).unwrap();
        let mut observer = Stopping { left: Cell::new(stop_after), steps: 0 };
        let mut device = Cpu::new(2, Isa::detect()).unwrap();
        let outcome = finetune(&mut device, settings, pretrained, images(), &run, &mut observer);
        (outcome, observer.steps, stop_after - observer.left.get())
    }

    fn last(&self, name: &str) -> PathBuf {
        self.folder.path().join(name).join("last.safetensors")
    }
}

fn images() -> Dataset {
    shapes::sized(120, 20, 32, 0).unwrap()
}

/// Stops a training after a number of questions whether to go on.
struct Stopping {
    left: Cell<usize>,
    steps: usize,
}

impl Observer for Stopping {
    fn step(&mut self, _: &StepProgress) {
        self.steps += 1;
    }

    fn keep_going(&self) -> bool {
        self.left.set(self.left.get().saturating_sub(1));
        self.left.get() > 0
    }

    fn epoch(&mut self, _: &EpochMetrics) {}
}

/// Names of the tensors that differ between two files.
fn changed(a: &Path, b: &Path) -> Vec<String> {
    let (a, b) = (weights::load(a).unwrap(), weights::load(b).unwrap());
    assert!(a.tensors.keys().eq(b.tensors.keys()));
    let differ = a.tensors.iter().filter(|(name, tensor)| b.tensors[*name] != **tensor);
    differ.map(|(name, _)| name.clone()).collect()
}

#[test]
fn what_is_frozen_stays_as_it_was_statistics_included() {
    let setting = Setting::new();
    let head = Settings { epochs: 2, ..setting.settings(0) };
    setting.train("head", &head, usize::MAX).0.unwrap();
    let found = changed(&setting.weights(), &setting.last("head"));
    assert_eq!(found, ["classifier.bias", "classifier.weight"]);

    setting.train("two", &setting.settings(2), usize::MAX).0.unwrap();
    let found = changed(&setting.weights(), &setting.last("two"));
    let expected = |name: &String| name.starts_with("blocks.4.") || name.starts_with("classifier.");
    assert!(found.iter().all(expected), "{found:?}");
    // Two blocks of two layers: a convolution, and four tensors of its batch norm.
    assert_eq!(found.len(), 2 * 2 * 5 + 2);

    setting.train("all", &setting.settings(99), usize::MAX).0.unwrap();
    let all = weights::load(setting.last("all")).unwrap().tensors.len();
    assert_eq!(changed(&setting.weights(), &setting.last("all")).len(), all);
}

/// Validation runs on features; the weights it leaves must do as well from the images on.
#[test]
fn features_give_what_the_whole_model_gives() {
    let setting = Setting::new();
    let settings = setting.settings(2);
    let outcome = setting.train("run", &settings, usize::MAX).0.unwrap();
    let mut images = images().train;
    let validation = images.split_validation(settings.validation, settings.seed).unwrap();
    let mut device = Cpu::new(2, Isa::detect()).unwrap();
    let trained = LoadedModel::open(&setting.last("run")).unwrap();
    let options = EvalOptions { batch_size: 24, views: trained.spec.views };
    let whole = trained.evaluate(&mut device, "test", &validation, options, |_, _| true).unwrap();
    let last = &outcome.history[3];
    assert_eq!(last.validation_accuracy, Some(whole.accuracy));
    assert!((last.validation_loss.unwrap() - whole.loss).abs() < 1e-5 * whole.loss, "{last:?} {whole:?}");
    assert_ne!(outcome.history[0].validation_loss, last.validation_loss);
}

/// What few images get by default: the classifier fitted, and stored statistics throughout.
fn gentle(settings: Settings) -> Settings {
    let finetune = settings.finetune.map(|finetune| Finetune {
        fit_head: true,
        frozen_statistics: true,
        head_rate: 1e-5,
        backbone: 1.0,
        ..finetune
    });
    Settings { finetune, rate: 5e-4, ..settings }
}

#[test]
fn statistics_that_are_frozen_stay_where_everything_is_trained() {
    let setting = Setting::new();
    setting.train("all", &gentle(setting.settings(99)), usize::MAX).0.unwrap();
    let found = changed(&setting.weights(), &setting.last("all"));
    let (statistics, trained): (Vec<_>, Vec<_>) = weights::load(setting.last("all"))
        .unwrap()
        .tensors
        .into_keys()
        .partition(|name| name.contains("running") || name.contains("num_batches"));
    assert!(statistics.len() >= 2 * 27 && statistics.iter().all(|name| !found.contains(name)), "{found:?}");
    assert!(trained.iter().all(|name| found.contains(name)), "{found:?}");
}

/// At the first step it has overshot nothing, and is ahead of one that began at zero.
#[test]
fn a_fitted_classifier_begins_below_the_loss_of_guessing() {
    let setting = Setting::new();
    let head = |settings: Settings| Settings { epochs: 2, ..settings };
    let fitted = setting.train("fitted", &head(gentle(setting.settings(0))), usize::MAX).0.unwrap();
    let stepped = setting.train("stepped", &head(setting.settings(0)), usize::MAX).0.unwrap();
    let first = |outcome: &Outcome| outcome.history[0].train_loss;
    assert!(first(&fitted) < 10f64.ln(), "{:?}", fitted.history);
    assert!(first(&fitted) < first(&stepped), "{:?} {:?}", fitted.history, stepped.history);
}

/// Steps that wreck the model may still guess more of the 24 validation images right; what is kept
/// is the classifier's.
#[test]
fn layers_that_are_wrecked_do_not_cost_the_classifier() {
    let setting = Setting::new();
    let schedule = &CONSTANT;
    let settings = Settings { rate: 10.0, clip: 0.1, schedule, ..gentle(setting.settings(99)) };
    let outcome = setting.train("wrecked", &settings, usize::MAX).0.unwrap();
    let loss = |epoch: usize| outcome.history[epoch].validation_loss.unwrap();
    assert!(loss(2).min(loss(3)) > 3.0 * loss(0), "not wrecked: {:?}", outcome.history);
    let best = setting.last("wrecked").with_file_name("best.safetensors");
    let found = changed(&setting.weights(), &best);
    assert_eq!(found, ["classifier.bias", "classifier.weight"]);
}

/// Stopped in the fit, in either stage, and just before the end.
#[test]
fn a_fitted_start_is_continued_as_well() {
    let setting = Setting::new();
    let settings = gentle(setting.settings(99));
    let (whole, _, asked) = setting.train_asking("whole", &settings, usize::MAX);
    let whole = whole.unwrap();
    // Where only the report's pictures are left, a training is not interrupted any more.
    let stops = |before_the_end: usize| {
        let name = format!("try{before_the_end}");
        setting.train(&name, &settings, asked - before_the_end).0.is_err()
    };
    let last = (1..asked).find(|before_the_end| stops(*before_the_end)).unwrap();
    for before_the_end in [last, last + 7, last + 17, asked / 2] {
        let name = format!("parts{before_the_end}");
        let stopped = setting.train(&name, &settings, asked - before_the_end).0;
        assert!(matches!(stopped, Err(Error::Interrupted)), "{stopped:?}");
        let outcome = setting.train(&name, &settings, usize::MAX).0.unwrap();
        assert_eq!(outcome.test.logits, whole.test.logits, "{name}");
        assert!(changed(&setting.last("whole"), &setting.last(&name)).is_empty());
    }
}

#[test]
fn stops_in_either_stage_leave_no_trace() {
    let setting = Setting::new();
    for unfreeze in [2, 99] {
        let (whole, parts) = (format!("whole{unfreeze}"), format!("parts{unfreeze}"));
        let settings = setting.settings(unfreeze);
        let (outcome, all) = setting.train(&whole, &settings, usize::MAX);
        let whole_test = outcome.unwrap().test;
        let mut steps = 0;
        // Features ask too: for two batches of each of two copies, and one of validation. So the
        // stops are within the features, twice within an epoch, in validation, and in the second
        // stage.
        for stop in [3, 9, 12, 8, 14] {
            let (outcome, done) = setting.train(&parts, &settings, stop);
            assert!(matches!(outcome, Err(Error::Interrupted)), "{outcome:?}");
            steps += done;
        }
        let (outcome, done) = setting.train(&parts, &settings, usize::MAX);
        assert_eq!(steps + done, all, "a step was repeated or left out");
        assert_eq!(outcome.unwrap().test.logits, whole_test.logits);
        assert!(changed(&setting.last(&whole), &setting.last(&parts)).is_empty());
    }
}
