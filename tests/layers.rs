//! The output of a layer, and the gradient of a class by it, are found by the layer's name, in a
//! model that is used and not trained: what saliency maps and Grad-CAM are made of.

mod common;

use cifar_engine::data::shapes;
use cifar_engine::exec::Device;
use cifar_engine::exec::cpu::Cpu;
use cifar_engine::grad::differentiate;
use cifar_engine::kernels::simd::Isa;
use cifar_engine::models::cnn::CNN;
use cifar_engine::models::mobilenet_v1::MOBILENET_V1;
use cifar_engine::models::{Architecture, Spec, Variant};
use cifar_engine::nn::value_of;
use cifar_engine::tensor::{Shape, TensorType};
use cifar_engine::train::plans::{self, ModelGraph};
use cifar_engine::train::settings::Settings;
use cifar_engine::train::spec;

/// The class whose logit is explained.
const CLASS: usize = 3;
const SEED: u32 = 4;

struct Explained {
    activation: Vec<f32>,
    gradient: Vec<f32>,
    shape: Shape,
    logits: Vec<f32>,
}

/// A layer's activation for the first test image, and the gradient of a logit by it.
fn explain(device: &mut dyn Device, spec: &Spec, layer: &str) -> Explained {
    let images = shapes::sized(12, 6, 32, 0).unwrap().test;
    let ModelGraph { mut graph, parameters, layers, .. } =
        plans::evaluation(spec, "test", images.len(), 1).unwrap();
    let activation = value_of(&layers, layer).unwrap();
    graph.output("activation", activation);
    let logits = value_of(&layers, &layers.last().unwrap().name).unwrap();
    let seed = graph.input("seed", TensorType::f32(graph.dims(logits)));
    let gradient = differentiate(&mut graph, &[(logits, seed)], &[activation]).unwrap()[0];
    graph.output("gradient", gradient);
    let plan = device.load(&graph).unwrap();
    let values = plans::initial_values(&parameters, SEED);
    plans::write_parameters(device, plan, &parameters, &values).unwrap();
    plans::upload(device, plan, "test", &images).unwrap();
    device.write(plan, "indices", [0u32].as_slice().into()).unwrap();
    device.write(plan, "step", [0u32].as_slice().into()).unwrap();
    let mut one = vec![0.0f32; spec.classes.len()];
    one[CLASS] = 1.0;
    device.write(plan, "seed", one.as_slice().into()).unwrap();
    device.run(plan).unwrap();
    let [activation, gradient, logits] =
        ["activation", "gradient", "logits"].map(|name| device.read(plan, name).unwrap());
    let shape = Shape::from(&layers.iter().find(|l| l.name == layer).unwrap().output.dims()[1..]);
    device.unload(plan).unwrap();
    Explained { activation, gradient, shape, logits }
}

/// The model from a unit on, as a function of the outputs of the units before: the class's logit.
fn rest<'a>(
    device: &'a mut dyn Device,
    spec: &Spec,
    from: usize,
    shape: &Shape,
) -> impl FnMut(&[f32]) -> Vec<f32> + use<'a> {
    let whole = plans::evaluation(spec, "test", 1, 1).unwrap().parameters;
    let ModelGraph { graph, parameters, .. } = plans::evaluation_on_features(spec, from, shape, 1).unwrap();
    let plan = device.load(&graph).unwrap();
    // The values that these parameters have in the whole model.
    for (parameter, values) in whole.iter().zip(plans::initial_values(&whole, SEED)) {
        if parameters.iter().any(|own| own.name == parameter.name) {
            device.write_state(plan, &parameter.name, values.as_slice().into()).unwrap();
        }
    }
    move |features| {
        device.write(plan, "features", features.into()).unwrap();
        device.run(plan).unwrap();
        device.read(plan, "logits").unwrap()
    }
}

/// `layer` is the last of the unit before `from`.
fn activations_and_gradients(device: &mut dyn Device, spec: &Spec, layer: &str, from: usize) {
    let Explained { activation, gradient, shape, logits } = explain(device, spec, layer);
    assert_eq!([activation.len(), gradient.len()], [shape.len(); 2]);
    let mut rest = rest(device, spec, from, &shape);
    let found = rest(&activation);
    let close = |a: f32, b: f32| (a - b).abs() <= 1e-4 * b.abs().max(1.0);
    assert!(found.iter().zip(&logits).all(|(a, b)| close(*a, *b)), "{layer}: {found:?}, not {logits:?}");
    // Along the gradient the logit rises by its square: here by a thousandth.
    let square = gradient.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>();
    let step = 1e-3 * f64::from(logits[CLASS]).abs() / square;
    let mut moved = |by: f64| {
        let moved = activation.iter().zip(&gradient).map(|(x, g)| x + (by * f64::from(*g)) as f32);
        f64::from(rest(&moved.collect::<Vec<f32>>())[CLASS])
    };
    let slope = (moved(step) - moved(-step)) / (2.0 * step);
    assert!(square > 0.0 && (slope / square - 1.0).abs() < 0.02, "{layer}: {slope}, not {square}");
}

fn spec_of(model: &'static Architecture) -> Spec {
    let settings = Settings { model, ..Settings::default() };
    spec(&settings, &shapes::sized(12, 6, 32, 0).unwrap()).unwrap()
}

fn of_both_models(device: &mut dyn Device) {
    let cnn = spec_of(&CNN);
    activations_and_gradients(device, &cnn, "pool1", 1);
    activations_and_gradients(device, &cnn, "pool2", 2);
    activations_and_gradients(device, &cnn, "relu7", 4);
    let mobilenet = spec_of(&MOBILENET_V1);
    let variant = Variant { width: 0.25, ..mobilenet.variant };
    let mobilenet = Spec { variant, ..mobilenet };
    activations_and_gradients(device, &mobilenet, "relu", 1);
    activations_and_gradients(device, &mobilenet, "blocks.2.1.relu2", 6);
    activations_and_gradients(device, &mobilenet, "global_pool", 14);
}

#[test]
fn on_the_cpu() {
    of_both_models(&mut Cpu::new(2, Isa::detect()).unwrap());
}

#[test]
fn on_a_gpu() {
    let Some(mut gpu) = common::gpu::open() else { return };
    of_both_models(&mut gpu);
}

#[test]
fn a_name_that_no_layer_has_is_told() {
    let layers = plans::evaluation(&spec_of(&CNN), "test", 1, 1).unwrap().layers;
    let told = value_of(&layers, "conv2d_3").unwrap_err().to_string();
    assert!(told.contains("conv2d_3: is no layer of the model; there are: conv1, bn1"), "{told}");
}
