//! What each optimizer of the list makes of given parameters and gradients in a few steps: what
//! PyTorch's numbers are (`tools/optimizer_goldens.py` writes the file), by the references of its
//! ops, on a CPU and on a GPU.

mod common;

use std::path::Path;

use cifar_engine::exec::cpu::Cpu;
use cifar_engine::exec::{Data, Device, PlanId};
use cifar_engine::graph::{Graph, Value};
use cifar_engine::kernels::simd::Isa;
use cifar_engine::nn::{Init, Parameter, Role};
use cifar_engine::selftest::check::{Values, interpret};
use cifar_engine::tensor::{Shape, TensorType};
use cifar_engine::train::optimizers::sgd::MOMENTUM;
use cifar_engine::train::optimizers::{OPTIMIZERS, Optimizer, ParameterStep};
use cifar_engine::weights::{self, WeightsFile, layout::Layout};
use common::{exact, gpu};
use ndarray::ArrayD;

const STEPS: usize = 4;
const DECAY: f32 = 0.1;
/// The inputs of rates.
const RATES: [&str; 2] = ["rate", "left_rate"];

/// The rate of a step, from 0.
fn rate(step: usize) -> f32 {
    0.0625 * (step + 1) as f32
}

/// Filters with more weights than outputs and with fewer, one a channel, a matrix, and a bias.
const PARAMETERS: [(&str, &[usize], Layout, Role); 5] = [
    ("tall", &[3, 3, 4, 6], Layout::Convolution, Role::Weight),
    ("wide", &[1, 1, 4, 6], Layout::Convolution, Role::Weight),
    ("depthwise", &[3, 3, 1, 4], Layout::Convolution, Role::Weight),
    ("dense", &[5, 7], Layout::Dense, Role::Weight),
    ("bias", &[6], Layout::AsIs, Role::Bias),
];

fn decay(parameter: &Parameter) -> f32 {
    if parameter.role == Role::Weight { DECAY } else { 0.0 }
}

/// Numbers in [-1, 1), as in the script.
fn numbers(len: usize, seed: usize) -> Vec<f32> {
    (0..len).map(|i| (((i * 7919 + seed * 104_729 + 17) % 1009) as f64 / 504.5 - 1.0) as f32).collect()
}

/// One step of all parameters.
struct Training {
    graph: Graph,
    parameters: Vec<Parameter>,
    gradients: Vec<Value>,
    /// That of the optimizer, and that of what it leaves to SGD.
    rates: [Value; 2],
    number: Value,
    left_share: f32,
}

impl Training {
    fn new(optimizer: &Optimizer) -> Training {
        let mut graph = Graph::new();
        let rates = RATES.map(|name| graph.input(name, TensorType::f32([1])));
        let number = graph.input("number", TensorType::u32([1]));
        let (mut parameters, mut gradients) = (Vec::new(), Vec::new());
        for (name, dims, layout, role) in PARAMETERS {
            let shape = Shape::from(dims);
            let ty = TensorType::f32(shape.clone());
            let value = graph.state(name, ty.clone()).unwrap();
            gradients.push(graph.input(&format!("gradient.{name}"), ty));
            let (name, init) = (name.to_string(), Init::Constant(0.0));
            parameters.push(Parameter { name, value, shape, layout, init, role, classifier: false });
        }
        for (parameter, &gradient) in parameters.iter().zip(&gradients) {
            let (decay, rate) = (decay(parameter), rates[usize::from((optimizer.leaves)(parameter))]);
            let step = ParameterStep { parameter, gradient, decay, momentum: MOMENTUM, rate, number };
            optimizer.add_update(&mut graph, &step).unwrap();
        }
        Training { graph, parameters, gradients, rates, number, left_share: optimizer.left_share }
    }

    /// The rates of a step whose rate is this.
    fn rates(&self, rate: f32) -> [f32; 2] {
        [rate, rate * self.left_share]
    }

    fn write_rates(&self, device: &mut dyn Device, plan: PlanId, rate: f32) {
        for (name, rate) in RATES.iter().zip(self.rates(rate)) {
            device.write(plan, name, Data::F32(&[rate])).unwrap();
        }
    }

    /// The gradient of a parameter in a step.
    fn gradient(&self, parameter: usize, step: usize) -> Vec<f32> {
        numbers(self.parameters[parameter].shape.len(), 10 * (step + 1) + parameter)
    }

    /// The parameters after all steps, by the references of the ops.
    fn exact(&self) -> Vec<ArrayD<f64>> {
        let wide = |value, numbers: Vec<f32>| (value, exact(&self.graph, value, &numbers));
        let zeros = |&(state, _): &(Value, Value)| (state, ArrayD::zeros(self.graph.dims(state)));
        let mut states: Values = self.graph.updates().iter().map(zeros).collect();
        for (i, parameter) in self.parameters.iter().enumerate() {
            states.extend([wide(parameter.value, numbers(parameter.shape.len(), i))]);
        }
        for step in 0..STEPS {
            let mut values = states.clone();
            let rates = self.rates(rate(step));
            values.extend(self.rates.iter().zip(rates).map(|(&input, rate)| wide(input, vec![rate])));
            values.extend([wide(self.number, vec![step as f32])]);
            values.extend(self.gradients.iter().enumerate().map(|(i, &g)| wide(g, self.gradient(i, step))));
            let values = interpret(&self.graph, values).unwrap();
            self.graph
                .updates()
                .iter()
                .for_each(|(state, new)| drop(states.insert(*state, values[new].clone())));
        }
        self.parameters.iter().map(|parameter| states[&parameter.value].clone()).collect()
    }

    /// The same, by a device.
    fn run(&self, device: &mut dyn Device) -> Vec<Vec<f32>> {
        let plan = device.load(&self.graph).unwrap();
        for (state, _) in self.graph.updates() {
            let zeros = vec![0.0f32; self.graph.ty(*state).len()];
            device.write_state(plan, self.graph.name(*state), Data::F32(&zeros)).unwrap();
        }
        for (i, parameter) in self.parameters.iter().enumerate() {
            let values = numbers(parameter.shape.len(), i);
            device.write_state(plan, &parameter.name, Data::F32(&values)).unwrap();
        }
        for step in 0..STEPS {
            self.write_rates(device, plan, rate(step));
            device.write(plan, "number", Data::U32(&[step as u32])).unwrap();
            for (i, gradient) in self.gradients.iter().enumerate() {
                let values = self.gradient(i, step);
                device.write(plan, self.graph.name(*gradient), Data::F32(&values)).unwrap();
            }
            device.run(plan).unwrap();
        }
        self.parameters.iter().map(|parameter| device.read_state(plan, &parameter.name).unwrap()).collect()
    }
}

fn goldens() -> WeightsFile {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/optimizers.safetensors");
    weights::load(&path).expect("run tools/optimizer_goldens.py")
}

fn compare(what: &str, found: impl ExactSizeIterator<Item = f64>, expected: &[f64], most: f64) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (found, expected) in found.zip(expected) {
        assert!((found - expected).abs() < most, "{what}: {found}, not {expected}");
    }
}

#[test]
fn every_optimizer_gives_the_numbers_of_pytorch() {
    let (goldens, mut gpu) = (goldens(), gpu::open());
    for optimizer in OPTIMIZERS {
        let training = Training::new(optimizer);
        let exact = training.exact();
        let on_cpu = training.run(&mut Cpu::new(2, Isa::detect()).unwrap());
        let on_gpu = gpu.as_mut().map(|gpu| training.run(gpu));
        for (i, parameter) in training.parameters.iter().enumerate() {
            let name = format!("{optimizer}.{}", parameter.name);
            let golden = goldens.tensors.get(&name);
            let golden = golden.unwrap_or_else(|| panic!("no {name}: add it to tools/optimizer_goldens.py"));
            let golden: Vec<f64> = golden.data.iter().map(|x| f64::from(*x)).collect();
            compare(&format!("{name}, reference"), exact[i].iter().copied(), &golden, 1e-6);
            for (device, found) in [("CPU", Some(&on_cpu)), ("GPU", on_gpu.as_ref())] {
                let Some(found) = found else { continue };
                compare(
                    &format!("{name}, {device}"),
                    found[i].iter().map(|x| f64::from(*x)),
                    exact[i].as_slice().unwrap(),
                    1e-5,
                );
            }
        }
    }
}

/// A gradient that is zero throughout, of layers that are cut off, makes no parameter something
/// else than a number; and the moment tells it from one that is not.
#[test]
fn gradients_of_zero_do_no_harm_and_are_noticed() {
    for optimizer in OPTIMIZERS {
        let training = Training::new(optimizer);
        let mut device = Cpu::new(2, Isa::detect()).unwrap();
        let plan = device.load(&training.graph).unwrap();
        device.write(plan, "number", Data::U32(&[0])).unwrap();
        training.write_rates(&mut device, plan, 0.5);
        for (zero, seed) in [(true, 1), (false, 2)] {
            for (i, parameter) in training.parameters.iter().enumerate() {
                let values = numbers(parameter.shape.len(), i);
                let zeros = vec![0.0; values.len()];
                device.write_state(plan, &parameter.name, Data::F32(&values)).unwrap();
                device.write_state(plan, &optimizer.moment_of(parameter), Data::F32(&zeros)).unwrap();
                let gradient = if zero { zeros } else { numbers(values.len(), seed) };
                let name = training.graph.name(training.gradients[i]);
                device.write(plan, name, Data::F32(&gradient)).unwrap();
            }
            device.run(plan).unwrap();
            for (i, parameter) in training.parameters.iter().enumerate() {
                let after = device.read_state(plan, &parameter.name).unwrap();
                assert!(after.iter().all(|value| value.is_finite()), "{optimizer}: {}", parameter.name);
                let moments = device.read_state(plan, &optimizer.moment_of(parameter)).unwrap();
                let before = numbers(after.len(), i);
                let mut pairs = moments.iter().zip(before);
                let decay = decay(parameter);
                let was_zero = pairs.all(|(m, p)| optimizer.was_zero(parameter, *m, p, decay) == Some(true));
                assert_eq!(was_zero, zero, "{optimizer}: {}", parameter.name);
            }
        }
    }
}
