//! A loss that stops being a number in the middle of a training costs nothing that was finished.

use cifar_engine::data::shapes;
use cifar_engine::error::Result;
use cifar_engine::exec::cpu::Cpu;
use cifar_engine::exec::{Data, Device, PlanId};
use cifar_engine::graph::plan::Plan;
use cifar_engine::kernels::simd::Isa;
use cifar_engine::report::EpochMetrics;
use cifar_engine::train::run_folder::RunFolder;
use cifar_engine::train::settings::Recipe;
use cifar_engine::train::{self, Observer, StepProgress};
use cifar_engine::weights;

/// A device that turns a weight into NaN when the training's step counter reaches a number.
struct Poisoned {
    cpu: Cpu,
    at: u32,
}

impl Device for Poisoned {
    fn load(&mut self, plan: Plan) -> Result<PlanId> {
        self.cpu.load(plan)
    }

    fn run(&mut self, plan: PlanId) -> Result<()> {
        self.cpu.run(plan)
    }

    fn write(&mut self, plan: PlanId, input: &str, data: Data) -> Result<()> {
        if let ("step", Data::U32(step)) = (input, data)
            && step == [self.at]
        {
            let mut weights = self.cpu.read_state("conv3.weight")?;
            weights[17] = f32::NAN;
            self.cpu.write_state("conv3.weight", weights.as_slice().into())?;
        }
        self.cpu.write(plan, input, data)
    }

    fn read(&self, plan: PlanId, output: &str) -> Result<Vec<f32>> {
        self.cpu.read(plan, output)
    }

    fn write_state(&mut self, name: &str, data: Data) -> Result<()> {
        self.cpu.write_state(name, data)
    }

    fn read_state(&self, name: &str) -> Result<Vec<f32>> {
        self.cpu.read_state(name)
    }
}

struct Silent;

impl Observer for Silent {
    fn step(&mut self, _: &StepProgress) -> bool {
        true
    }

    fn epoch(&mut self, _: &EpochMetrics) {}
}

#[test]
fn a_nan_names_epoch_and_step_and_keeps_the_last_good_weights() {
    let folder = tempfile::tempdir().unwrap();
    let settings = cifar_engine::train::settings::Settings {
        epochs: 3,
        batch_size: 16,
        validation: 16,
        ..Recipe::Default.settings()
    };
    let run = RunFolder::create(Some(folder.path().join("run")), &settings, "shapes").unwrap();
    // 64 training pictures are 4 steps an epoch: step 9 is the second of epoch 3.
    let mut device = Poisoned { cpu: Cpu::new(2, Isa::detect()).unwrap(), at: 9 };
    let data = shapes::sized(80, 20, 32, 0).unwrap();
    let error = train::train(&mut device, &settings, data, &run, &mut Silent).unwrap_err().to_string();
    assert!(error.contains("epoch 3, step 2") && error.contains("the weights of epoch 2"), "{error}");
    let kept = weights::load(run.last()).unwrap();
    assert!(kept.tensors.values().all(|tensor| tensor.data.iter().all(|value| value.is_finite())));
    assert_eq!(cifar_engine::report::metrics::read_csv(run.path().join("metrics.csv")).unwrap().len(), 2);
}
