//! A loss that stops being a number in the middle of a training costs nothing that was finished.

mod common;

use cifar_engine::data::shapes;
use cifar_engine::error::Result;
use cifar_engine::exec::cpu::Cpu;
use cifar_engine::exec::{Data, Device, PlanId};
use cifar_engine::kernels::simd::Isa;
use cifar_engine::report::{EpochMetrics, metrics};
use cifar_engine::train::run_folder::RunFolder;
use cifar_engine::train::settings::Settings;
use cifar_engine::train::{self, Observer, StepProgress};
use cifar_engine::weights;
use common::hooked::{Hook, Hooked};

/// Turns a weight into NaN at a step of the training.
struct Poison {
    /// The training's step counter.
    at: u32,
    /// Before the step runs, so that its loss shows it; else after, as an update that overflows
    /// would.
    before: bool,
    step: u32,
}

impl Poison {
    fn poison(&mut self, cpu: &mut Cpu, plan: PlanId, before: bool) -> Result<()> {
        if self.step == self.at && self.before == before {
            let mut weights = cpu.read_state(plan, "conv3.weight")?;
            weights[17] = f32::NAN;
            cpu.write_state(plan, "conv3.weight", weights.as_slice().into())?;
        }
        Ok(())
    }
}

impl Hook<Cpu> for Poison {
    fn before(&mut self, cpu: &mut Cpu, plan: PlanId) -> Result<()> {
        self.poison(cpu, plan, true)
    }

    fn after(&mut self, cpu: &mut Cpu, plan: PlanId) -> Result<()> {
        self.poison(cpu, plan, false)
    }

    fn wrote(&mut self, input: &str, data: Data) {
        if let ("step", Data::U32(&[step])) = (input, data) {
            self.step = step;
        }
    }
}

struct Silent;

impl Observer for Silent {
    fn step(&mut self, _: &StepProgress) {}

    fn keep_going(&self) -> bool {
        true
    }

    fn epoch(&mut self, _: &EpochMetrics) {}
}

/// Trains for three epochs of four steps with a NaN at one of them; returns the error.
fn train_poisoned(run: &RunFolder, settings: &Settings, at: u32, before: bool) -> String {
    let device = Cpu::new(2, Isa::detect()).unwrap();
    let mut device = Hooked { device, hook: Poison { at, before, step: 0 } };
    let data = shapes::sized(80, 20, 32, 0).unwrap();
    train::train(&mut device, settings, data, run, &mut Silent).unwrap_err().to_string()
}

#[test]
fn a_nan_names_epoch_and_step_and_keeps_the_last_good_weights() {
    // Steps are counted from 0: step 9 is the second of epoch 3, and step 11 its last, after which
    // no loss of a training step can show what the update did; with a validation set the validation
    // would.
    for (validation, at, before, place) in [
        (16, 9, true, "epoch 3, step 2"),
        (16, 11, false, "epoch 3, step 4"),
        (0, 14, false, "epoch 3, step 5"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings { epochs: 3, batch_size: 16, validation, ..Settings::default() };
        let run = RunFolder::create(Some(folder.path().join("run")), &settings, "shapes").unwrap();
        let error = train_poisoned(&run, &settings, at, before);
        assert!(error.contains(place) && error.contains("the weights of epoch 2"), "{error}");
        let kept = weights::load(run.last()).unwrap();
        assert!(kept.tensors.values().all(|tensor| tensor.data.iter().all(|value| value.is_finite())));
        assert_eq!(metrics::read_csv(run.path().join("metrics.csv")).unwrap().len(), 2);
    }
}
