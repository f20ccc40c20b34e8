//! Models that are on one device at once give bit for bit what they give alone, in whatever order
//! they are trained and evaluated; and what is unloaded is gone.

mod common;

use cifar_engine::data::{Dataset, Images, shapes};
use cifar_engine::exec::cpu::Cpu;
use cifar_engine::exec::{Device, PlanId};
use cifar_engine::kernels::simd::Isa;
use cifar_engine::models::LoadedModel;
use cifar_engine::models::cnn::CNN;
use cifar_engine::models::resnet20::RESNET20;
use cifar_engine::models::{self, Architecture, Spec, Views};
use cifar_engine::nn::Parameter;
use cifar_engine::train::evaluate::{EvalOptions, Evaluator};
use cifar_engine::train::plans::{self, ModelGraph};
use cifar_engine::train::settings::Settings;
use cifar_engine::train::spec;

const BATCH: usize = 4;
const STEPS: usize = 3;

fn data() -> Dataset {
    shapes::sized(12, 6, 32, 0).unwrap()
}

/// A model under training on a device, and everything that came out so far, as bits.
struct Model {
    plan: PlanId,
    evaluator: Evaluator,
    parameters: Vec<Parameter>,
    found: Vec<u32>,
}

impl Model {
    fn load(device: &mut dyn Device, model: &'static Architecture, seed: u32) -> Model {
        let settings = Settings { model, seed, batch_size: BATCH, ..Settings::default() };
        let data = data();
        let spec = spec(&settings, &data).unwrap();
        let ModelGraph { graph, parameters, .. } =
            plans::training(&spec, &settings, data.train.len()).unwrap();
        let plan = device.load(&graph).unwrap();
        plans::upload(device, plan, "train", &data.train).unwrap();
        let values = plans::initial_values(&parameters, seed);
        plans::write_parameters(device, plan, &parameters, &values).unwrap();
        device.write(plan, "loss_gradient", [1.0f32].as_slice().into()).unwrap();
        let evaluator = Evaluator::new(device, Some(plan), &spec, "test", &data.test, BATCH).unwrap();
        Model { plan, evaluator, parameters, found: Vec::new() }
    }

    fn note(&mut self, values: &[f32]) {
        self.found.extend(values.iter().map(|value| value.to_bits()));
    }

    /// A training step, and an evaluation.
    fn step(&mut self, device: &mut dyn Device, step: usize) {
        let indices: Vec<u32> = (0..BATCH).map(|i| ((BATCH * step + i) % 12) as u32).collect();
        device.write(self.plan, "indices", indices.as_slice().into()).unwrap();
        device.write(self.plan, "step", [step as u32].as_slice().into()).unwrap();
        device.write(self.plan, "rate", [1e-3f32].as_slice().into()).unwrap();
        device.run(self.plan).unwrap();
        let totals = device.read(self.plan, "totals").unwrap();
        self.note(&totals);
        let logits = self.evaluator.run(device, |_, _| true).unwrap().logits;
        self.note(logits.as_slice().unwrap());
    }

    /// Everything that came out, and the weights.
    fn finish(mut self, device: &mut dyn Device) -> Vec<u32> {
        for parameter in std::mem::take(&mut self.parameters) {
            let values = device.read_state(self.plan, &parameter.name).unwrap();
            self.note(&values);
        }
        let found = std::mem::take(&mut self.found);
        self.unload(device);
        found
    }

    fn unload(self, device: &mut dyn Device) {
        self.evaluator.unload(device).unwrap();
        device.unload(self.plan).unwrap();
    }
}

/// Two models of one name for everything, and another one that shares some names.
const MODELS: [(&Architecture, u32); 3] = [(&CNN, 1), (&CNN, 2), (&RESNET20, 1)];

fn alone(device: &mut dyn Device, (model, seed): (&'static Architecture, u32)) -> Vec<u32> {
    let mut model = Model::load(device, model, seed);
    (0..STEPS).for_each(|step| model.step(device, step));
    model.finish(device)
}

fn together(device: &mut dyn Device) -> Vec<Vec<u32>> {
    let mut models = MODELS.map(|(model, seed)| Model::load(device, model, seed));
    for step in 0..STEPS {
        models.iter_mut().for_each(|model| model.step(device, step));
    }
    models.map(|model| model.finish(device)).to_vec()
}

fn models_do_not_touch_each_other(device: &mut dyn Device) {
    let together = together(device);
    for (model, found) in MODELS.into_iter().zip(&together) {
        assert!(found.iter().all(|&bits| f32::from_bits(bits).is_finite()));
        assert!(*found == alone(device, model), "{} with seed {} is another one", model.0, model.1);
    }
    assert!(together[0] != together[1], "two seeds gave one model: nothing was compared");
}

fn cpu() -> Cpu {
    Cpu::new(2, Isa::detect()).unwrap()
}

#[test]
fn on_the_cpu() {
    models_do_not_touch_each_other(&mut cpu());
}

#[test]
fn on_a_gpu() {
    let Some(mut gpu) = common::gpu::open() else { return };
    models_do_not_touch_each_other(&mut gpu);
}

/// A file with a CNN that knows nothing, made from a seed.
fn weights(folder: &std::path::Path, seed: u32) -> LoadedModel {
    let settings = Settings::default();
    let spec: Spec = spec(&settings, &data()).unwrap();
    let parameters = plans::evaluation(&spec, "test", 1, 1).unwrap().parameters;
    let path = folder.join(format!("{seed}.safetensors"));
    models::save(&path, &spec, &parameters, &plans::initial_values(&parameters, seed)).unwrap();
    LoadedModel::open(&path).unwrap()
}

#[test]
fn two_predictors_keep_to_their_own_weights() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (weights(folder.path(), 1), weights(folder.path(), 2));
    let images: Images = data().test.subset(&[0, 1]);
    let mut device = cpu();
    let one = first.predictor(&mut device, EvalOptions { batch_size: 2, views: Views::default() }).unwrap();
    let alone = one.predict(&mut device, &images).unwrap();
    // Of another batch size, too.
    let other = second
        .predictor(&mut device, EvalOptions { batch_size: 5, views: Views { flip: true, shift: true } })
        .unwrap();
    assert_ne!(other.predict(&mut device, &images).unwrap(), alone);
    assert_eq!(one.predict(&mut device, &images).unwrap(), alone);
    other.unload(&mut device).unwrap();
    assert_eq!(one.predict(&mut device, &images).unwrap(), alone);
}

#[test]
fn a_device_moves_to_another_thread() {
    let mut device: Box<dyn Device> = Box::new(cpu());
    let here = alone(device.as_mut(), MODELS[0]);
    let there = std::thread::spawn(move || alone(device.as_mut(), MODELS[0])).join().unwrap();
    assert!(here == there);
}

/// Bytes that a GPU's driver has given out fall to what they were.
#[test]
fn a_gpu_gets_its_memory_back() {
    let Some(mut gpu) = common::gpu::open() else { return };
    alone(&mut gpu, MODELS[0]);
    let before = gpu.allocated();
    let model = Model::load(&mut gpu, &CNN, 1);
    assert!(before.is_none() || gpu.allocated() > before);
    model.unload(&mut gpu);
    assert_eq!(gpu.allocated(), before);
}
