//! What fails ends with one clear message, and leaves on disk what was finished.

use cifar_engine::data::{self, Dataset};
use cifar_engine::error::Result;
use cifar_engine::exec::gpu::Gpu;
use cifar_engine::exec::{Data, Device, PlanId};
use cifar_engine::graph::plan::{Plan, Step};
use cifar_engine::report::EpochMetrics;
use cifar_engine::train::evaluate::Trained;
use cifar_engine::train::optimizer::Optimizer;
use cifar_engine::train::run_folder::RunFolder;
use cifar_engine::train::settings::Settings;
use cifar_engine::train::{self, Observer, StepProgress};

use super::Training;
use super::common::gpu;

/// A GPU that is lost before a run.
struct Doomed {
    gpu: Gpu,
    runs_left: usize,
}

impl Device for Doomed {
    fn load(&mut self, plan: Plan) -> Result<PlanId> {
        self.gpu.load(plan)
    }

    fn run(&mut self, plan: PlanId) -> Result<()> {
        if self.runs_left == 0 {
            self.gpu.destroy();
        }
        self.runs_left = self.runs_left.saturating_sub(1);
        self.gpu.run(plan)
    }

    fn planned_bytes(&self, plan: &Plan) -> usize {
        self.gpu.planned_bytes(plan)
    }

    fn profile(&mut self, plan: PlanId, visit: &mut dyn FnMut(usize, &Step, f64)) -> Result<()> {
        self.gpu.profile(plan, visit)
    }

    fn record(&mut self, plan: PlanId, outputs: &[&str]) -> Result<()> {
        self.gpu.record(plan, outputs)
    }

    fn collect(&mut self, plan: PlanId, all: bool, visit: &mut dyn FnMut(&[f32])) -> Result<()> {
        self.gpu.collect(plan, all, visit)
    }

    fn wait(&self) -> Result<()> {
        self.gpu.wait()
    }

    fn write(&mut self, plan: PlanId, input: &str, data: Data) -> Result<()> {
        self.gpu.write(plan, input, data)
    }

    fn read(&self, plan: PlanId, output: &str) -> Result<Vec<f32>> {
        self.gpu.read(plan, output)
    }

    fn write_state(&mut self, name: &str, data: Data) -> Result<()> {
        self.gpu.write_state(name, data)
    }

    fn read_state(&self, name: &str) -> Result<Vec<f32>> {
        self.gpu.read_state(name)
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
    let (mut device, mut epochs) = (Doomed { gpu, runs_left: 6 }, Epochs::default());
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
