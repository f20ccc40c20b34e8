//! A run that is stopped and continued, anywhere and any number of times, is bit for bit the run
//! that never stopped.

use std::cell::Cell;
use std::fs;
use std::path::Path;

use cifar_engine::data::{Dataset, Pixels, shapes};
use cifar_engine::error::{Error, Result};
use cifar_engine::exec::cpu::Cpu;
use cifar_engine::kernels::simd::Isa;
use cifar_engine::report::EpochMetrics;
use cifar_engine::train::checkpoint::Checkpoint;
use cifar_engine::train::optimizers::OPTIMIZERS;
use cifar_engine::train::run_folder::RunFolder;
use cifar_engine::train::schedules::CONSTANT;
use cifar_engine::train::settings::{FAST, Settings};
use cifar_engine::train::{self, Observer, Outcome, StepProgress};

/// Stops a training after a number of questions whether to go on: one a step, and one a batch of
/// validation.
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

/// Six steps an epoch.
fn settings() -> Settings {
    Settings { epochs: 4, batch_size: 16, validation: 24, rate: 0.05, ..Settings::default() }
}

fn images() -> Dataset {
    shapes::sized(120, 20, 32, 0).unwrap()
}

/// Opens or creates the folder and trains until the end or the stop.
fn train(folder: &Path, settings: &Settings, stop_after: usize) -> (Result<Outcome>, usize) {
    let run = match folder.join("settings.toml").exists() {
        true => RunFolder::open(folder.to_path_buf()).unwrap().0,
        false => RunFolder::create(Some(folder.to_path_buf()), settings, "shapes").unwrap(),
    };
    let mut observer = Stopping { left: Cell::new(stop_after), steps: 0 };
    let mut device = Cpu::new(2, Isa::detect()).unwrap();
    let outcome = train::train(&mut device, settings, images(), &run, &mut observer);
    (outcome, observer.steps)
}

/// Everything a run leaves, but for the time that it took.
fn left_in(folder: &Path) -> (Checkpoint, Vec<u8>, Vec<u8>) {
    let mut checkpoint = Checkpoint::load(&folder.join("checkpoint.safetensors")).unwrap();
    for row in &mut checkpoint.progress.history {
        (row.images_per_s, row.seconds) = (0.0, 0.0);
    }
    (checkpoint.progress.seconds, checkpoint.progress.elapsed) = (0.0, 0.0);
    checkpoint.fingerprint.settings.clear();
    let bytes = |name: &str| fs::read(folder.join(name)).unwrap();
    (checkpoint, bytes("best.safetensors"), bytes("last.safetensors"))
}

/// Trains in one go, and again with a stop after each number of questions; both must leave the
/// same. Returns the epochs.
fn check(settings: &Settings, stops: &[usize]) -> Vec<EpochMetrics> {
    let dir = tempfile::tempdir().unwrap();
    let (whole, parts) = (dir.path().join("whole"), dir.path().join("parts"));
    let (outcome, all) = train(&whole, settings, usize::MAX);
    let Outcome { history, test: whole_test, .. } = outcome.unwrap();
    let mut steps = 0;
    for &stop in stops {
        let (outcome, done) = train(&parts, settings, stop);
        assert!(matches!(outcome, Err(Error::Interrupted)), "{outcome:?}");
        steps += done;
    }
    let (outcome, done) = train(&parts, settings, usize::MAX);
    let parts_test = outcome.unwrap().test;
    assert_eq!(steps + done, all, "a step was repeated or left out");
    assert!(left_in(&whole) == left_in(&parts), "{settings:?}: not the same bits after stops at {stops:?}");
    assert!(whole_test.logits == parts_test.logits);
    history
}

#[test]
fn stops_within_epochs_at_their_ends_and_in_validation_leave_no_trace() {
    // An epoch asks seven times: after each of six steps, and before the one batch of validation.
    check(&settings(), &[1, 2, 5, 9, 7, 1]);
}

/// With all that it keeps, and whatever it does to the weights; and the loss falls.
#[test]
fn every_optimizer_learns_and_goes_on_where_it_stopped() {
    for &optimizer in OPTIMIZERS {
        let (rate, weight_decay) = (optimizer.usual_rate / 2.0, optimizer.usual_decay);
        let settings = Settings { optimizer, rate, weight_decay, validation: 0, ..settings() };
        let history = check(&settings, &[3, 7, 6]);
        let [first, .., last] = &history[..] else { panic!("{optimizer}: {history:?}") };
        assert!(last.train_loss < first.train_loss, "{optimizer}: {history:?}");
    }
}

/// Also where the bias of the stem has stopped to learn.
#[test]
fn the_fast_recipe_goes_on_where_it_stopped() {
    let (batch_size, epochs) = (settings().batch_size, 5);
    let (rate, bias_rate, classifier_rate) = (0.05, 1.0, 0.01);
    let settings = Settings { batch_size, epochs, rate, bias_rate, classifier_rate, ..FAST.settings() };
    let history = check(&settings, &[3, 20, 9]);
    assert!(history[4].train_loss < history[0].train_loss, "{history:?}");
}

#[test]
fn a_run_without_its_checkpoint_says_that_it_begins_again() {
    #[derive(Default)]
    struct Warned(Vec<String>);
    impl Observer for Warned {
        fn step(&mut self, _: &StepProgress) {}

        fn keep_going(&self) -> bool {
            true
        }

        fn epoch(&mut self, _: &EpochMetrics) {}

        fn warn(&mut self, text: &str) {
            self.0.push(text.to_string());
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let (settings, path) = (settings(), folder.path().join("run"));
    train(&path, &settings, usize::MAX).0.unwrap();
    fs::remove_file(path.join("checkpoint.safetensors")).unwrap();
    let (run, settings) = RunFolder::open(path).unwrap();
    let mut warned = Warned::default();
    train::train(&mut Cpu::new(1, Isa::detect()).unwrap(), &settings, images(), &run, &mut warned).unwrap();
    assert!(warned.0.iter().any(|text| text.contains("no checkpoint.safetensors")), "{:?}", warned.0);
}

#[test]
fn ten_epochs_are_five_and_five() {
    let dir = tempfile::tempdir().unwrap();
    let (whole, parts) = (dir.path().join("whole"), dir.path().join("parts"));
    let ten = Settings { epochs: 10, schedule: &CONSTANT, ..settings() };
    let five = Settings { epochs: 5, ..ten.clone() };
    train(&whole, &ten, usize::MAX).0.unwrap();
    train(&parts, &five, usize::MAX).0.unwrap();
    assert!(left_in(&whole) != left_in(&parts));
    train(&parts, &ten, usize::MAX).0.unwrap();
    assert!(left_in(&whole) == left_in(&parts));
    // A finished run is evaluated again, and not trained.
    let (outcome, steps) = train(&parts, &ten, usize::MAX);
    assert_eq!((outcome.unwrap().history.len(), steps), (10, 0));
    assert!(left_in(&whole) == left_in(&parts));
}

#[test]
fn a_run_goes_on_with_its_own_settings_and_images_only() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("run");
    train(&folder, &settings(), 3).0.unwrap_err();
    let other = Settings { rate: 0.2, seed: 9, ..settings() };
    let message = train(&folder, &other, 3).0.unwrap_err().to_string();
    assert!(message.contains("rate = 0.05, now 0.2, seed = 0, now 9"), "{message}");

    let (run, begun) = RunFolder::open(folder.clone()).unwrap();
    assert_eq!(begun, settings());
    let mut observer = Stopping { left: Cell::new(3), steps: 0 };
    let mut data = images();
    let Pixels::Memory(pixels) = &mut data.train.pixels else { panic!("in memory") };
    pixels[70_000] ^= 1;
    let mut device = Cpu::new(2, Isa::detect()).unwrap();
    let error = train::train(&mut device, &settings(), data, &run, &mut observer).unwrap_err();
    assert!(error.exit_code() == 2 && error.to_string().contains("images are not those"), "{error}");
}

#[test]
fn a_folder_belongs_to_one_training_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("new/and new/run");
    let run = RunFolder::create(Some(folder.clone()), &settings(), "shapes").unwrap();
    for refused in [
        RunFolder::open(folder.clone()).map(|_| ()),
        RunFolder::create(Some(folder.clone()), &settings(), "shapes").map(|_| ()),
    ] {
        let message = refused.unwrap_err().to_string();
        assert!(message.contains("another training is writing to it"), "{message}");
    }
    drop(run);
    // A run that saved nothing leaves nothing.
    assert!(fs::read_dir(dir.path()).unwrap().next().is_none());
    let run = RunFolder::create(Some(folder.clone()), &settings(), "shapes").unwrap();
    fs::write(folder.join("../somebody's"), "").unwrap();
    drop(run);
    assert!(!folder.exists() && dir.path().join("new/and new/somebody's").exists());
}
