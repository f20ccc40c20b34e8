//! The file of `export --onnx`: whole by itself, and in ONNX Runtime what `predict` says.

mod common;

use std::collections::HashSet;
use std::path::Path;
use std::process::Command;

use cifar_engine::error::Result;
use cifar_engine::graph::Value;
use cifar_engine::kernels::function::Function;
use cifar_engine::models::{self, Architecture, Calibration, Config, LoadedModel, MODELS, Views};
use cifar_engine::nn::Builder;
use cifar_engine::onnx::{self, proto};
use cifar_engine::train;
use cifar_engine::train::plans;
use common::program::Bench;
use prost::Message;

/// A training after which no statistic is what it began as.
const TRAIN: &str = "--data . --epochs 1 --batch-size 20 --validation 20 --optimizer sgd --lr 0.01";
const PLAIN: Views = Views { flip: false, shift: false };
const SIX: Views = Views { flip: true, shift: true };

/// A model as it begins, for three classes.
fn fresh(architecture: &'static Architecture, image_size: usize) -> LoadedModel {
    let mut spec = train::bare_spec(architecture, image_size, 3);
    spec.classes = ["crème brûlée", "a \"b\"", "日本"].map(String::from).to_vec();
    let parameters = plans::evaluation(&spec, "test", 1, 1).unwrap().parameters;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fresh.safetensors");
    models::save(&path, &spec, &parameters, &plans::initial_values(&parameters, 0)).unwrap();
    LoadedModel::open(&path).unwrap()
}

fn graph(model: &LoadedModel, views: Views) -> proto::Graph {
    proto::Model::decode(onnx::file(model, views).unwrap().as_slice()).unwrap().graph.unwrap()
}

/// Every name that is read was written before, once.
fn check_names(graph: &proto::Graph) {
    let mut known: HashSet<&str> = HashSet::from(["", "images"]);
    for constant in &graph.initializer {
        assert!(known.insert(&constant.name), "{} twice", constant.name);
        let size = constant.raw_data.len() as i64;
        let elements = constant.dims.iter().product::<i64>();
        assert!(size == 4 * elements || size == 8 * elements, "{}: {size} bytes", constant.name);
    }
    let mut names = HashSet::new();
    for node in &graph.node {
        for input in &node.input {
            assert!(known.contains(input.as_str()), "{} reads {input}", node.name);
        }
        assert!(names.insert(&node.name), "two nodes {}", node.name);
        assert!(node.output.iter().all(|output| known.insert(output)), "{} writes again", node.name);
    }
    assert!(graph.output.iter().all(|output| known.contains(output.name.as_str())));
}

#[test]
fn all_models_are_whole_with_their_weights_by_one_view_and_by_six() {
    for architecture in MODELS {
        let model = fresh(architecture, architecture.usual_size);
        for (views, images) in [(PLAIN, 1), (SIX, 6)] {
            let graph = graph(&model, views);
            check_names(&graph);
            let joined = graph.node.iter().find(|node| node.op_type == "Concat");
            assert_eq!(joined.map_or(1, |node| node.input.len()), images, "{architecture}");
            for parameter in model.parameters().unwrap() {
                let tensor = graph.initializer.iter().find(|tensor| tensor.name == parameter.name).unwrap();
                assert_eq!(tensor.dims.iter().product::<i64>(), parameter.shape.len() as i64);
            }
        }
    }
}

#[test]
fn metadata_hold_the_classes_as_they_are_called() {
    let model = fresh(MODELS[0], 32);
    let file = proto::Model::decode(onnx::file(&model, SIX).unwrap().as_slice()).unwrap();
    let told = |key: &str| &file.metadata_props.iter().find(|entry| entry.key == key).unwrap().value;
    let classes: Vec<String> = serde_json::from_str(told("classes")).unwrap();
    assert_eq!(classes, model.spec.classes);
    assert_eq!((told("image_size").as_str(), told("views").as_str()), ("32", "6"));
    assert!(told("preprocessing").contains("32 x 32"));
    assert_eq!(file.opset_import[0].version, onnx::OPSET);
}

#[test]
fn a_temperature_is_in_the_probabilities_and_in_the_metadata() {
    let mut model = fresh(MODELS[0], 32);
    model.spec.calibration = Calibration { temperature: 1.7, unsure_below: Some(0.625) };
    let file = proto::Model::decode(onnx::file(&model, PLAIN).unwrap().as_slice()).unwrap();
    let told =
        |key: &str| file.metadata_props.iter().find(|entry| entry.key == key).map(|e| e.value.as_str());
    assert_eq!((told("temperature"), told("unsure_below")), (Some("1.7"), Some("0.625")));
    let graph = file.graph.unwrap();
    check_names(&graph);
    let writes = |name: &str| graph.node.iter().find(|node| node.output[0] == name).unwrap();
    let softmax = writes("probabilities");
    let divided = writes(&softmax.input[0]);
    assert_eq!((divided.op_type.as_str(), divided.input[0].as_str()), ("Div", "logits"));
    let temperature = graph.initializer.iter().find(|tensor| tensor.name == divided.input[1]).unwrap();
    assert_eq!(temperature.raw_data, 1.7f32.to_le_bytes());
}

/// A model with a function that ONNX does not have.
fn odd(b: &mut Builder, x: Value, config: &Config) -> Result<Value> {
    let x = b.unit("odd", x, |b, x| {
        let x = b.map("strange", Function::GeluTanh, x)?;
        b.global_average_pool("pool", x)
    })?;
    b.classifier("fc", x, config.classes, config.training)
}

#[test]
fn an_op_that_onnx_does_not_have_is_told_with_its_layer() {
    static ODD: Architecture = Architecture::new("odd", odd);
    ODD.register().unwrap();
    let message = onnx::file(&fresh(&ODD, 32), PLAIN).unwrap_err().to_string();
    assert!(message.contains("'strange'") && message.contains("ONNX"), "{message}");
}

#[test]
fn the_command_says_what_it_needs() {
    let bench = Bench::small();
    bench.fails(2, "export best.safetensors", &["required arguments were not provided"]);
    bench.fails(1, "export none.safetensors --onnx model.onnx", &["none.safetensors"]);
    assert!(!bench.path("model.onnx").exists());
    bench.ok("export builtin --onnx model.onnx --test-flip=false --test-shift=false");
    // What is read is not written over.
    bench.ok(&format!("train {TRAIN} --image-size 16 --out run"));
    let kept = ["best.safetensors", "metrics.jsonl", "checkpoint.safetensors"];
    let before = kept.map(|file| std::fs::read(bench.path("run").join(file)).unwrap());
    for command in ["export run --onnx", "export run --web", "inspect run --out", "trace run --out"] {
        for file in kept {
            bench.fails(
                2,
                &format!("{command} run/../run/{file}"),
                &[file, "is read here and would be lost"],
            );
        }
    }
    bench.fails(2, "replay run --epoch 1 --step 1 --out run/metrics.jsonl", &["would be lost"]);
    assert!(before == kept.map(|file| std::fs::read(bench.path("run").join(file)).unwrap()));
    std::fs::write(bench.path("photo.JPG"), "somebody's").unwrap();
    for (command, ending) in [
        ("export run --onnx", "onnx"),
        ("export run --torch", "safetensors"),
        ("export run --web", "html"),
        ("inspect run --out", "html"),
        ("trace run --out", "json"),
        ("replay run --epoch 1 --step 0 --out", "html"),
    ] {
        bench.fails(
            1,
            &format!("{command} photo.JPG"),
            &["photo.JPG", "no jpg file", &format!("photo.{ending}")],
        );
    }
    assert_eq!(std::fs::read(bench.path("photo.JPG")).unwrap(), b"somebody's");
    bench.fails(2, "export run --onnx one.x --web one.x", &["the same file"]);
    bench.fails(1, "export run --onnx none/model.onnx", &["none/model.onnx", "create it first"]);
    for command in ["export run --web -", "inspect run --out -", "data . --out -"] {
        bench.fails(1, command, &["-: is not written to standard output", "./-"]);
    }
    bench.fails(1, "trace cnn --out run", &["is a folder"]);
    bench.ok("export run --onnx run/model.onnx");
    bench.ok("export run --onnx run/model.onnx");
}

/// What the script that compares says, if there are an interpreter with ONNX Runtime and
/// photographs (tests/README.md).
fn compared(bench: &Bench, weights: &str) -> Option<String> {
    let variable = |name: &str| {
        let value = std::env::var(name).ok();
        if value.is_none() {
            println!("ONNX Runtime is not asked: {name} is not set");
        }
        value
    };
    let (python, photos) =
        (variable("CIFAR_ENGINE_TEST_ONNXRUNTIME")?, variable("CIFAR_ENGINE_TEST_PHOTOS")?);
    let names = "astronaut brick cell chelsea coffee coins color horse ihc moon motorcycle_left";
    let photos = names.split(' ').map(|name| Path::new(&photos).join(format!("{name}.png")));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/onnx_check.py");
    let program = env!("CARGO_BIN_EXE_cifar-engine");
    let mut command = Command::new(python);
    command.arg(script).args([program, weights, "model.onnx"]).args(photos).current_dir(bench.dir.path());
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).to_string();
    assert!(output.status.success(), "{weights}: {said}{}", String::from_utf8_lossy(&output.stderr));
    Some(said)
}

#[test]
fn onnx_runtime_says_what_predict_says() {
    let bench = Bench::small();
    let check = |run: &str, options: &str, told: &str| {
        bench.ok(&format!("export {run} --onnx model.onnx {options}"));
        let said = compared(&bench, &format!("{run}/best.safetensors"));
        assert!(said.as_ref().is_none_or(|said| said.contains(told)), "{run}: {said:?}");
    };
    for model in MODELS {
        bench.ok(&format!("train {TRAIN} --model {model} --test-shift --out {model}"));
        check(&model.to_string(), "", "32 px, 6 views");
    }
    check("cnn", "--test-flip=false --test-shift=false", "32 px, 1 views");
    let pretrained = "--pretrained mobilenet-v1/best.safetensors --image-size 75 --validation 20";
    bench.ok(&format!("finetune --data . {pretrained} --epochs 2 --out enlarged"));
    check("enlarged", "--test-flip=false", "1 views");
}
