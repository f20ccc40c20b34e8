//! What helps a training along: averaged weights, clipped gradients, the plateau, the probe for
//! dead layers.

mod common;

use cifar_engine::data::shapes;
use cifar_engine::error::Result;
use cifar_engine::exec::cpu::Cpu;
use cifar_engine::exec::{Data, Device, PlanId};
use cifar_engine::kernels::simd::Isa;
use cifar_engine::report::EpochMetrics;
use cifar_engine::train::checkpoint::Checkpoint;
use cifar_engine::train::optimizers::adam::ADAM;
use cifar_engine::train::optimizers::sgd::SGD;
use cifar_engine::train::run_folder::RunFolder;
use cifar_engine::train::schedules::CONSTANT;
use cifar_engine::train::settings::Settings;
use cifar_engine::train::{self, Observer, StepProgress};
use cifar_engine::weights;
use common::hooked::{Hook, Hooked};
use tempfile::TempDir;

/// An accident at a step of the training.
struct Accident {
    step: u32,
    at: u32,
    then: fn(&mut Cpu, PlanId) -> Result<()>,
    /// A parameter after each run.
    weights: Vec<Vec<f32>>,
}

/// The tensor that is recorded.
const RECORDED: &str = "fc2.bias";

impl Hook<Cpu> for Accident {
    fn before(&mut self, _: &mut Cpu, _: PlanId) -> Result<()> {
        Ok(())
    }

    fn after(&mut self, cpu: &mut Cpu, plan: PlanId) -> Result<()> {
        self.weights.push(cpu.read_state(plan, RECORDED)?);
        if self.step == self.at { (self.then)(cpu, plan) } else { Ok(()) }
    }

    fn wrote(&mut self, input: &str, data: Data) {
        if let ("step", Data::U32(&[step])) = (input, data) {
            self.step = step;
        }
    }
}

#[derive(Default)]
struct Listening {
    notes: Vec<String>,
    epochs: Vec<EpochMetrics>,
}

impl Observer for Listening {
    fn step(&mut self, _: &StepProgress) {}

    fn keep_going(&self) -> bool {
        true
    }

    fn epoch(&mut self, metrics: &EpochMetrics) {
        self.epochs.push(metrics.clone());
    }

    fn warn(&mut self, text: &str) {
        // So few steps end at chance, which is told too.
        if !text.starts_with("the training ended at chance") {
            self.notes.push(text.to_string());
        }
    }
}

struct Run {
    folder: TempDir,
    heard: Listening,
    weights: Vec<Vec<f32>>,
}

/// Five steps an epoch.
fn settings() -> Settings {
    Settings { epochs: 2, batch_size: 16, validation: 16, rate: 0.02, ..Settings::default() }
}

fn train(settings: &Settings, at: u32, then: fn(&mut Cpu, PlanId) -> Result<()>) -> Result<Run> {
    let folder = tempfile::tempdir().unwrap();
    let run = RunFolder::create(Some(folder.path().join("run")), settings, "shapes").unwrap();
    let cpu = Cpu::new(2, Isa::detect()).unwrap();
    let mut device = Hooked { device: cpu, hook: Accident { step: 0, at, then, weights: Vec::new() } };
    let mut heard = Listening::default();
    let data = shapes::sized(96, 20, 32, 0).unwrap();
    train::train(&mut device, settings, data, &run, &mut heard)?;
    Ok(Run { folder, heard, weights: device.hook.weights })
}

fn no_accident(_: &mut Cpu, _: PlanId) -> Result<()> {
    Ok(())
}

#[test]
fn a_dead_layer_is_named_and_a_living_one_is_not() {
    for optimizer in [&SGD, &ADAM] {
        let settings = Settings { optimizer, epochs: 1, rate: 0.002, dropout: 0.0, ..settings() };
        let run = train(&settings, 0, no_accident).unwrap();
        assert_eq!(run.heard.notes, Vec::<String>::new());
        // All units of fc1 switched off: nothing before it learns, and fc2 sees nothing but zeros.
        let dead =
            |cpu: &mut Cpu, plan| cpu.write_state(plan, "fc1.bias", vec![-1e6f32; 128].as_slice().into());
        let run = train(&settings, 1, dead).unwrap();
        let [note] = &run.heard.notes[..] else { panic!("{:?}", run.heard.notes) };
        assert!(
            note.contains("after 3 steps no gradient reaches conv1.weight, conv1.bias, bn1.weight"),
            "{note}"
        );
        assert!(note.contains("fc1.weight, fc1.bias, fc2.weight: they do not learn"), "{note}");
        assert!(!note.contains("fc2.bias"), "{note}");
    }
}

#[test]
fn an_infinite_gradient_is_named() {
    // Its square overflows on the way back through the batch normalisation, but not forward.
    let huge =
        |cpu: &mut Cpu, plan| cpu.write_state(plan, "bn6.weight", vec![1e38f32; 128].as_slice().into());
    let error = train(&settings(), 2, huge).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("not finite") || error.contains("not a finite number"), "{error}");
}

/// The probe runs the training plan once more; nothing may be different afterwards.
#[test]
fn the_probe_leaves_no_trace() {
    let with = train(&settings(), 0, no_accident).unwrap();
    // Steps of the training, and evaluations, are recorded alike; the probe is the fourth run.
    assert_eq!(with.weights[2], with.weights[3], "a rate of zero moved a parameter");
    assert_ne!(with.weights[3], with.weights[4]);
}

#[test]
fn averaged_weights_are_the_average_of_the_steps_and_what_is_saved() {
    let ema = 0.75f32; // exact in binary, so that the expected average is too
    let settings = Settings { ema, epochs: 1, ..settings() };
    let run = train(&settings, 0, no_accident).unwrap();
    // Five steps, with the probe after the third; then the validation, which must see the averages.
    let steps = [0, 1, 2, 4, 5].map(|i| &run.weights[i]);
    let mut expected = vec![0.0f64; steps[0].len()];
    for step in steps {
        for (average, &value) in expected.iter_mut().zip(step) {
            *average = 0.75 * *average + 0.25 * f64::from(value);
        }
    }
    expected.iter_mut().for_each(|average| *average /= 1.0 - 0.75f64.powi(5));
    let folder = run.folder.path().join("run");
    for found in [
        &weights::load(folder.join("last.safetensors")).unwrap().tensors[RECORDED].data,
        &weights::load(folder.join("best.safetensors")).unwrap().tensors[RECORDED].data,
        &run.weights[6],
    ] {
        let off = found.iter().zip(&expected).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max);
        assert!(off < 1e-6, "{off}");
    }
    // The weights that training goes on with are not the averages.
    let checkpoint = Checkpoint::load(&folder.join("checkpoint.safetensors")).unwrap();
    assert_eq!(checkpoint.states[RECORDED], run.weights[5]);
}

#[test]
fn clipped_gradients_have_the_norm_that_was_asked_for() {
    let norm = |clip: f32| {
        let settings = Settings { clip, epochs: 1, weight_decay: 0.0, zero_classifier: false, ..settings() };
        let run = train(&settings, 0, no_accident).unwrap();
        let folder = run.folder.path().join("run");
        let checkpoint = Checkpoint::load(&folder.join("checkpoint.safetensors")).unwrap();
        let squares = |data: &Vec<f32>| data.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>();
        let moments = checkpoint.states.iter().filter(|(name, _)| name.starts_with("momentum."));
        moments.map(|(_, data)| squares(data)).sum::<f64>().sqrt()
    };
    // Five steps of momentum 0.9 add up gradients of norm 0.01 to at most 1 + 0.9 + .. + 0.9^4 =
    // 4.1 times that.
    let (free, clipped) = (norm(0.0), norm(0.01));
    assert!(free > 0.3, "{free}");
    assert!((0.01..0.041).contains(&clipped), "{clipped}");
    assert_eq!(norm(1e6), free);
}

#[test]
fn the_rate_falls_on_a_plateau() {
    // The rate is far too low for anything to improve after the first epoch.
    let settings = Settings { plateau: 2, epochs: 6, schedule: &CONSTANT, rate: 1e-8, ..settings() };
    let run = train(&settings, 0, no_accident).unwrap();
    let rates: Vec<f64> = run.heard.epochs.iter().map(|epoch| epoch.rate).collect();
    let stale = run
        .heard
        .epochs
        .iter()
        .skip(1)
        .all(|e| e.validation_accuracy <= run.heard.epochs[0].validation_accuracy);
    assert!(stale);
    assert_eq!(rates[..3], [1e-8; 3]);
    assert!(rates[3..5].iter().all(|rate| (rate / 1e-9 - 1.0).abs() < 1e-5), "{rates:?}");
    assert!((rates[5] / 1e-10 - 1.0).abs() < 1e-5, "{rates:?}");
}
