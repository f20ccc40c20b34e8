//! The CNN as the tests and benches need it: a training or inference graph of any size, with named
//! inputs.

use cifar_engine::grad::differentiate;
use cifar_engine::graph::{Graph, Value};
use cifar_engine::models::Training;
use cifar_engine::models::cnn::{self, sized_cnn};
use cifar_engine::nn::{Builder, Mode, Norm, Parameter};
use cifar_engine::ops::augment::Augment;
use cifar_engine::ops::loss::softmax_cross_entropy::SoftmaxCrossEntropy;
use cifar_engine::tensor::TensorType;
use cifar_engine::train::optimizers::sgd::MOMENTUM;
use cifar_engine::train::optimizers::{Optimizer, ParameterStep};

pub const CLASSES: usize = 10;
pub const SMOOTHING: f32 = 0.1;

/// What is built.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    pub batch: usize,
    pub height: usize,
    pub width: usize,
    pub widths: [usize; 3],
    pub features: usize,
    pub dropout: f32,
    pub norm: Norm,
    /// Images in the data set on the device; 0 for images given as the input `x`.
    pub data: usize,
}

impl Size {
    /// The model that is trained on CIFAR-10.
    pub const fn full(batch: usize) -> Size {
        let norm = Norm { epsilon: 1e-3, momentum: 0.01 };
        let (widths, features) = (cnn::WIDTHS, cnn::FEATURES);
        Size { batch, height: 32, width: 32, widths, features, dropout: 0.5, norm, data: 0 }
    }

    /// The same structure, quick to run.
    pub const fn narrow(batch: usize) -> Size {
        Size { height: 8, width: 8, widths: [4, 6, 8], features: 16, ..Size::full(batch) }
    }
}

/// A built graph and what a test asks about.
pub struct Network {
    pub graph: Graph,
    pub parameters: Vec<Parameter>,
    /// Of the trainable parameters, in their order; empty in inference.
    pub gradients: Vec<Value>,
}

impl Network {
    pub fn trainable(&self) -> Vec<&Parameter> {
        self.parameters.iter().filter(|p| p.trainable()).collect()
    }
}

/// One training step: inputs `x` and `labels` (or `indices`), `step`, `rate` and `one`, the
/// gradient of the loss; outputs `loss`, `totals` and `logits`.
pub fn training(size: &Size, optimizer: &'static Optimizer) -> Network {
    let mut graph = Graph::new();
    let step = graph.input("step", TensorType::u32([1]));
    let rate = graph.input("rate", TensorType::f32([1]));
    let one = graph.input("one", TensorType::f32([1]));
    let (x, labels) = images(&mut graph, size, step);
    let mut builder = Builder::new(&mut graph, Mode::Train { step, seed: 1 }, size.norm);
    let logits = model(&mut builder, size, x);
    let parameters = builder.parameters;
    graph.set_layer("loss");
    let loss = graph.apply(SoftmaxCrossEntropy { smoothing: SMOOTHING }, &[logits, labels]).unwrap();
    let mut network = Network { graph, parameters, gradients: Vec::new() };
    let trained: Vec<Parameter> = network.trainable().into_iter().cloned().collect();
    let wanted: Vec<Value> = trained.iter().map(|p| p.value).collect();
    network.gradients = differentiate(&mut network.graph, &[(loss[0], one)], &wanted).unwrap();
    for (parameter, &gradient) in trained.iter().zip(&network.gradients) {
        let update =
            ParameterStep { parameter, gradient, decay: 0.0, momentum: MOMENTUM, rate, number: step };
        optimizer.add_update(&mut network.graph, &update).unwrap();
    }
    for (name, value) in [("loss", loss[0]), ("totals", loss[1]), ("logits", logits)] {
        network.graph.output(name, value);
    }
    network
}

/// Input `x`, output `logits`.
pub fn inference(size: &Size) -> Network {
    let mut graph = Graph::new();
    let x = graph.input("x", TensorType::f32([size.batch, size.height, size.width, 3]));
    let mut builder = Builder::new(&mut graph, Mode::Infer, size.norm);
    let logits = model(&mut builder, size, x);
    let parameters = builder.parameters;
    graph.output("logits", logits);
    Network { graph, parameters, gradients: Vec::new() }
}

fn model(builder: &mut Builder, size: &Size, x: Value) -> Value {
    let training = Training { dropout: size.dropout, zero_classifier: false };
    sized_cnn(builder, x, CLASSES, training, size.widths, size.features).unwrap()
}

/// The batch and its labels.
fn images(graph: &mut Graph, size: &Size, step: Value) -> (Value, Value) {
    let label_type = TensorType::u32([size.batch]);
    if size.data == 0 {
        let x = TensorType::f32([size.batch, size.height, size.width, 3]);
        return (graph.input("x", x), graph.input("labels", label_type));
    }
    graph.set_layer("augment");
    let (mean, std) = ([125.3, 123.0, 113.9], [63.0, 62.1, 66.7]);
    let op = Augment {
        size: size.height,
        mean,
        std,
        changes: "flip,shift=4".parse().unwrap(),
        seed: 1,
        epoch_steps: 1,
        by_place: false,
    };
    let data = graph.state("data", TensorType::u32([size.data, Augment::record(size.height)])).unwrap();
    let labels = graph.state("data.labels", TensorType::u32([size.data])).unwrap();
    let indices = graph.input("indices", label_type);
    let batch = graph.apply(op, &[data, labels, indices, step]).unwrap();
    (batch[0], batch[1])
}
