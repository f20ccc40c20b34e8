//! What fails ends with one clear message, and leaves on disk what was finished.

use cifar_engine::data::{self, Dataset};
use cifar_engine::error::Result;
use cifar_engine::exec::Device;
use cifar_engine::exec::gpu::Gpu;
use cifar_engine::report::EpochMetrics;
use cifar_engine::train::evaluate::Trained;
use cifar_engine::train::optimizer::Optimizer;
use cifar_engine::train::run_folder::RunFolder;
use cifar_engine::train::settings::Settings;
use cifar_engine::train::{self, Observer, StepProgress};

use super::Training;
use super::common::gpu;
use super::common::hooked::{Hook, Hooked};

/// The GPU is lost after so many runs.
struct LostAfter(usize);

impl Hook<Gpu> for LostAfter {
    fn before(&mut self, gpu: &mut Gpu) -> Result<()> {
        if self.0 == 0 {
            gpu.destroy();
        }
        self.0 = self.0.saturating_sub(1);
        Ok(())
    }
}

/// Counts the epochs.
#[derive(Default)]
struct Epochs(usize);

impl Observer for Epochs {
    fn step(&mut self, _: &StepProgress) {}

    fn keep_going(&self) -> bool {
        true
    }

    fn epoch(&mut self, _: &EpochMetrics) {
        self.0 += 1;
    }
}

#[test]
fn a_lost_gpu_ends_the_training_and_leaves_the_last_checkpoint() {
    let Some(gpu) = gpu::open() else { return };
    let folder = tempfile::tempdir().unwrap();
    let training = Training::new(Optimizer::Sgd, 16);
    let settings = Settings { epochs: 3, validation: 0, ..training.settings };
    let data: Dataset = data::shapes::sized(64, 10, settings.image_size, 1).unwrap();
    let run = RunFolder::create(Some(folder.path().join("run")), &settings, "shapes").unwrap();
    // Four steps an epoch: it is lost in the second.
    let (mut device, mut epochs) = (Hooked { device: gpu, hook: LostAfter(6) }, Epochs::default());
    let error = train::train(&mut device, &settings, data, &run, &mut epochs).unwrap_err();
    assert_eq!(epochs.0, 1);
    assert!(error.to_string().contains("the GPU was lost"), "{error}");
    Trained::open(&run.last()).unwrap();
    assert_eq!(run.checkpoint().unwrap().unwrap().progress.history.len(), 1);
}

/// Whatever is asked of it afterwards says what happened first.
#[test]
fn a_lost_gpu_answers_nothing() {
    let Some(mut gpu) = gpu::open() else { return };
    let training = Training::new(Optimizer::Sgd, 4);
    let plan = gpu.load(training.program().plan).unwrap();
    gpu.run(plan).unwrap();
    gpu.destroy();
    let errors = [
        gpu.run(plan).unwrap_err(),
        gpu.read(plan, "totals").unwrap_err(),
        gpu.write(plan, "rate", [0.5f32].as_slice().into()).unwrap_err(),
        gpu.load(training.program().plan).unwrap_err(),
    ];
    for error in errors {
        assert!(error.to_string().contains("the GPU was lost"), "{error}");
    }
}
