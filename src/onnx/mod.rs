//! A trained model as an ONNX file, which other programs run: ONNX Runtime, and through converters
//! CoreML, TensorFlow Lite and OpenVINO.
//!
//! The file holds everything between pixels and probabilities: scaling of the channels, enlargement
//! where the model sees larger images, the network by a single view or by all that predictions
//! have, and the softmax. Its metadata say what is left to do with a photograph, and what the
//! classes are called.
//!
//! Input: `images` `[N, 3, size, size]`, red, green and blue from 0 to 255. Outputs: `logits` and
//! `probabilities`, both `[N, classes]`.

mod nodes;
pub mod proto;
mod writer;

use std::collections::HashMap;

use prost::Message;

use crate::data::CHANNELS;
use crate::error::{Error, Result};
use crate::graph::{Graph, Value};
use crate::models::{Calibration, LoadedModel, Network, Spec, View, Views};
use crate::tensor::TensorType;
use crate::weights::{Layout, layout};
use proto::{ElementType, Size};
use writer::{Attribute, Writer};

/// Version of the operators: the first whose `Resize` takes the sizes of two dimensions.
pub const OPSET: i64 = 18;
/// Version of the format that came with it.
const IR_VERSION: i64 = 8;

/// The file of a model that predicts by these views.
///
/// # Errors
/// If the model has an op that ONNX does not have; names its layer.
pub fn file(model: &LoadedModel, views: Views) -> Result<Vec<u8>> {
    Ok(of_model(model, views)?.encode_to_vec())
}

fn of_model(model: &LoadedModel, views: Views) -> Result<proto::Model> {
    let spec = &model.spec;
    let mut writer = Writer::default();
    let views = views.list();
    let images = seen(&mut writer, spec, &views);
    let logits = network(&mut writer, model, &images)?;
    let logits = mean(&mut writer, logits, &views, spec.classes.len());
    let logits = renamed(&mut writer, &logits, "logits");
    let calibrated = calibrated(&mut writer, &logits, spec.calibration);
    let probabilities = writer.apply("Softmax", &[&calibrated], vec![("axis", Attribute::Int(-1))]);
    renamed(&mut writer, &probabilities, "probabilities");
    let (side, classes) = (spec.image_size as i64, spec.classes.len() as i64);
    let graph = proto::Graph {
        node: writer.nodes,
        name: spec.architecture.to_string(),
        initializer: writer.constants,
        input: vec![value("images", &[CHANNELS as i64, side, side], "red, green and blue from 0 to 255")],
        output: vec![
            value("logits", &[classes], "one a class"),
            value("probabilities", &[classes], "softmax of the logits, divided by the temperature"),
        ],
    };
    Ok(proto::Model {
        ir_version: IR_VERSION,
        producer_name: env!("CARGO_PKG_NAME").into(),
        producer_version: env!("CARGO_PKG_VERSION").into(),
        doc_string: format!("{} trained on {}", spec.architecture, spec.data),
        graph: Some(graph),
        opset_import: vec![proto::OperatorSet { domain: String::new(), version: OPSET }],
        metadata_props: metadata(spec, views.len()),
    })
}

/// What a program needs to know to feed the model, and to name what it says.
fn metadata(spec: &Spec, views: usize) -> Vec<proto::Entry> {
    let size = spec.image_size;
    let preprocessing = format!(
        "apply the EXIF orientation; lay transparency on white; cut the square in the middle; scale it to \
         {size} x {size} pixels (smaller: mean over the covered pixels by a triangle; larger: Catmull-Rom); \
         8-bit red, green, blue as numbers from 0 to 255, planes in this order"
    );
    let classes = serde_json::to_string(&spec.classes).unwrap_or_default();
    let entries = [
        ("model", spec.architecture.to_string()),
        ("data", spec.data.clone()),
        ("classes", classes),
        ("image_size", size.to_string()),
        ("preprocessing", preprocessing),
        ("views", views.to_string()),
    ];
    let calibration = spec.calibration.entries();
    let entries = entries.into_iter().chain(calibration);
    entries.map(|(key, value)| proto::Entry { key: key.into(), value }).collect()
}

/// The images as the network is to see them: scaled, one view after the other.
fn seen(writer: &mut Writer, spec: &Spec, views: &[View]) -> String {
    writer.layer = "input".into();
    let mean = writer.floats("input/mean", &[1, CHANNELS, 1, 1], &spec.mean);
    let std = writer.floats("input/std", &[1, CHANNELS, 1, 1], &spec.std);
    let centred = writer.apply("Sub", &["images", &mean], vec![]);
    let scaled = writer.apply("Div", &[&centred, &std], vec![]);
    let of_view = |view: &View| seen_by(writer, &scaled, view, spec.image_size);
    let all: Vec<String> = views.iter().map(of_view).collect();
    match &all[..] {
        [one] => one.clone(),
        all => {
            let all: Vec<&str> = all.iter().map(String::as_str).collect();
            writer.apply("Concat", &all, vec![("axis", Attribute::Int(0))])
        }
    }
}

/// The images as a view has them: moved first, and then mirrored.
fn seen_by(writer: &mut Writer, images: &str, view: &View, size: usize) -> String {
    let mut x = images.to_string();
    if view.by != 0 {
        let far = view.by.unsigned_abs() as i64;
        let pads = writer.integers(&[0, 0, far, far, 0, 0, far, far]);
        let padded = writer.apply("Pad", &[&x, &pads], vec![("mode", Attribute::Word("reflect"))]);
        let first = far - view.by as i64;
        let bounds = [first, first + size as i64].map(|bound| writer.integers(&[bound, bound]));
        let axes = writer.integers(&[2, 3]);
        x = writer.apply("Slice", &[&padded, &bounds[0], &bounds[1], &axes], vec![]);
    }
    if view.mirrored {
        // From the last column back to the first.
        let [last, end, axis] = [-1, i64::MIN, 3].map(|number| writer.integers(&[number]));
        x = writer.apply("Slice", &[&x, &last, &end, &axis, &last], vec![]);
    }
    x
}

/// The network by a single view; returns its logits.
fn network(writer: &mut Writer, model: &LoadedModel, images: &str) -> Result<String> {
    let (spec, mut graph) = (&model.spec, Graph::new());
    let size = spec.image_size;
    let x = graph.input("images", TensorType::f32([1, size, size, CHANNELS]));
    let network = Network::of(spec, &mut graph, x)?;
    let mut names: HashMap<Value, String> = HashMap::from([(x, images.to_string())]);
    for (parameter, values) in network.parameters.iter().zip(model.values(&network.parameters)?) {
        let dims = parameter.shape.dims();
        let name = match parameter.layout {
            Layout::Convolution => {
                let (dims, values) = layout::to_disk(parameter.layout, dims, &values)?;
                writer.floats(&parameter.name, &dims, &values)
            }
            _ => writer.floats(&parameter.name, dims, &values),
        };
        names.insert(parameter.value, name);
    }
    for node in graph.nodes() {
        let inputs: Vec<&str> =
            node.inputs.iter().filter_map(|value| Some(names.get(value)?.as_str())).collect();
        if inputs.len() != node.inputs.len() {
            let what = format!("{} '{}'", node.op.name(), node.layer);
            return Err(Error::op(what, "reads what cannot be written as ONNX"));
        }
        let name = writer.node(&graph, node, &inputs)?;
        names.insert(node.outputs[0], name);
    }
    Ok(names.remove(&network.logits).unwrap_or_default())
}

/// The mean of the views' logits, each with its weight.
fn mean(writer: &mut Writer, logits: String, views: &[View], classes: usize) -> String {
    if views.len() == 1 {
        return logits;
    }
    writer.layer = "views".into();
    let shape = writer.integers(&[views.len() as i64, -1, classes as i64]);
    let apart = writer.apply("Reshape", &[&logits, &shape], vec![]);
    let weights: Vec<f32> = views.iter().map(|view| view.weight).collect();
    let weights = writer.floats("views/weights", &[views.len(), 1, 1], &weights);
    let weighted = writer.apply("Mul", &[&apart, &weights], vec![]);
    let axis = writer.integers(&[0]);
    writer.apply("ReduceSum", &[&weighted, &axis], vec![("keepdims", Attribute::Int(0))])
}

/// The logits divided by the temperature, where that is not 1.
fn calibrated(writer: &mut Writer, logits: &str, calibration: Calibration) -> String {
    if calibration.temperature == 1.0 {
        return logits.to_string();
    }
    writer.layer = "calibration".into();
    let temperature = writer.floats("calibration/temperature", &[1], &[calibration.temperature]);
    writer.apply("Div", &[logits, &temperature], vec![])
}

/// The value under the name of an output.
fn renamed(writer: &mut Writer, value: &str, name: &str) -> String {
    if let Some(node) = writer.nodes.iter_mut().find(|node| node.output[0] == value) {
        node.output[0] = name.to_string();
    }
    name.to_string()
}

/// An input or output, a row for each image.
fn value(name: &str, dims: &[i64], about: &str) -> proto::ValueInfo {
    let rows = Size::Name("N".into());
    let sizes = std::iter::once(rows).chain(dims.iter().map(|dim| Size::Value(*dim)));
    let dim = sizes.map(|size| proto::Dimension { size: Some(size) }).collect();
    let mut kind = proto::TensorKind { shape: Some(proto::TensorShape { dim }), elem_type: 0 };
    kind.set_elem_type(ElementType::Float);
    let ty = Some(proto::Type { tensor_type: Some(kind) });
    proto::ValueInfo { name: name.into(), ty, doc_string: about.into() }
}
