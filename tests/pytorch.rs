//! The file of `export --torch`: read back it is the same model, in half precision the rounded one,
//! and timm and torchvision load it strictly and say what `predict` says.

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;

use cifar_engine::data::image_file::{CROP, FILTER};
use cifar_engine::models::{Architecture, LoadedModel, MODELS, PaddingStyle};
use cifar_engine::weights::{self, Tensor};
use common::program::{Bench, json};

/// A training after which no statistic is what it began as.
const TRAIN: &str = "train --data . --epochs 1 --batch-size 20 --validation 20 --optimizer sgd --lr 0.01";

/// The tensors that half precision is to give, by the definition of an f16 that is no tiny number.
fn halved(tensor: &Tensor) -> Tensor {
    let half = |value: &f32| {
        let step = 2f64.powi((value.abs().log2().floor().max(-14.0) as i32) - 10);
        ((f64::from(*value) / step).round_ties_even() * step) as f32
    };
    Tensor { shape: tensor.shape.clone(), data: tensor.data.iter().map(half).collect() }
}

/// What `timm_check.py` says of a file, if there is an interpreter with timm (tests/README.md).
fn compared(bench: &Bench, file: &str, expression: &str) -> Option<String> {
    let Ok(python) = std::env::var("CIFAR_ENGINE_TEST_TIMM") else {
        println!("timm and torchvision are not asked: CIFAR_ENGINE_TEST_TIMM is not set");
        return None;
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/timm_check.py");
    let pictures = ["0.png", "1.png"];
    let mut command = Command::new(python);
    command.arg(script).args([file, expression]).args(pictures).current_dir(bench.dir.path());
    let output = command.args(["--program", env!("CARGO_BIN_EXE_cifar-engine")]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).to_string();
    assert!(output.status.success(), "{file}: {said}{}", String::from_utf8_lossy(&output.stderr));
    Some(said)
}

fn write_pictures(bench: &Bench) {
    let shapes = cifar_engine::data::shapes::sized(2, 2, 32, 7).unwrap();
    for i in 0..2 {
        let picture = image::RgbImage::from_raw(32, 32, shapes.test.image(i).unwrap().into_owned()).unwrap();
        picture.save(bench.path(&format!("{i}.png"))).unwrap();
    }
}

#[test]
fn every_model_comes_back_and_others_load_what_they_have() {
    let bench = Bench::small();
    write_pictures(&bench);
    for model in MODELS {
        bench.ok(&format!("{TRAIN} --model {model} --out {model}"));
        let said = bench.ok(&format!("export {model} --torch whole.safetensors"));
        let whole = weights::load(bench.path("whole.safetensors")).unwrap();
        let ours = LoadedModel::open(&bench.path(&format!("{model}/best.safetensors"))).unwrap();
        let again = LoadedModel::open(&bench.path("whole.safetensors")).unwrap();
        assert_eq!(again.spec, ours.spec, "{model}");
        assert_eq!(whole.tensors, ours.for_pytorch().tensors, "{model}");
        let [theirs, mine] = ["whole.safetensors", &format!("{model}/best.safetensors")]
            .map(|file| json(&bench.ok(&format!("evaluate {file} --data . --json"))));
        assert_eq!((&theirs["loss"], &theirs["accuracy"]), (&mine["loss"], &mine["accuracy"]), "{model}");

        bench.ok(&format!("export {model} --torch half.safetensors --half"));
        let half = weights::load(bench.path("half.safetensors")).unwrap();
        let expected = whole.tensors.iter().map(|(name, tensor)| (name.clone(), halved(tensor)));
        assert_eq!(half.tensors, expected.collect(), "{model}");
        let bytes = |file: &str| fs::metadata(bench.path(file)).unwrap().len();
        assert!(bytes("half.safetensors") < bytes("whole.safetensors") * 11 / 20, "{model}");
        LoadedModel::open(&bench.path("half.safetensors")).unwrap();

        assert_eq!(whole.metadata.get("pytorch"), ours.spec.in_pytorch().as_ref());
        match ours.spec.in_pytorch() {
            Some(expression) => {
                assert!(said.trim_end().ends_with(&format!(", for {expression}")), "{said}");
                let found = compared(&bench, "whole.safetensors", &expression);
                assert!(found.is_none_or(|said| said.contains("differ by at most")), "{model}");
            }
            None => assert!(said.contains("neither timm nor torchvision has it"), "{said}"),
        }
        assert!(said.lines().count() == 1 && said.starts_with("whole.safetensors: "), "{said}");
    }
}

#[test]
fn metadata_say_how_an_image_is_prepared() {
    let bench = Bench::small();
    bench.ok("export builtin --torch file.safetensors");
    let metadata = weights::outline(bench.path("file.safetensors")).unwrap().metadata;
    let spec = LoadedModel::built_in(&Default::default(), None).unwrap().spec;
    let classes: Vec<String> = serde_json::from_str(&metadata["classes"]).unwrap();
    let channels = |key: &str| serde_json::from_str::<[f32; 3]>(&metadata[key]).unwrap();
    assert_eq!((classes, channels("mean"), channels("std")), (spec.classes, spec.mean, spec.std));
    assert_eq!(metadata["image_size"], spec.image_size.to_string());
    assert_eq!((metadata["crop"].as_str(), metadata["filter"].as_str()), (CROP, FILTER));
}

/// Of a width, padding and epsilon of its own.
#[test]
fn the_expression_says_what_the_tensors_do_not() {
    let expression = |model: &str, width: f32, padding: PaddingStyle, epsilon: f32| {
        let architecture: &Architecture = model.parse().unwrap();
        let mut spec = cifar_engine::train::bare_spec(architecture, 96, 3);
        (spec.variant.width, spec.variant.padding) = (width, padding);
        spec.norm.epsilon = epsilon;
        spec.in_pytorch().unwrap()
    };
    let (torch, keras) = (PaddingStyle::Symmetric, PaddingStyle::Same);
    for (found, expected) in [
        (
            expression("mobilenet-v1", 1.0, keras, 1e-3),
            "timm.create_model('mobilenetv1_100', num_classes=3, bn_eps=0.001, pad_type='same')",
        ),
        (
            expression("mobilenet-v2", 0.35, torch, 1e-5),
            "timm.create_model('mobilenetv2_035', num_classes=3)",
        ),
        (
            expression("mobilenet-v1", 0.5, torch, 1e-5),
            "timm.models.efficientnet._gen_mobilenet_v1('mobilenetv1_100', 0.5, num_classes=3)",
        ),
        (expression("resnet18", 1.0, torch, 1e-5), "torchvision.models.resnet18(num_classes=3)"),
        (
            expression("resnet18", 1.0, torch, 1e-3),
            "torchvision.models.resnet18(num_classes=3, \
             norm_layer=functools.partial(torch.nn.BatchNorm2d, eps=0.001))",
        ),
    ] {
        assert_eq!(found, expected);
    }
}

#[test]
fn what_half_precision_cannot_hold_is_told_or_refused() {
    let bench = Bench::small();
    bench.ok(&format!("{TRAIN} --image-size 16 --out run"));
    let path = bench.path("run/best.safetensors");
    let mut file = weights::load(&path).unwrap();
    let name = file.tensors.keys().next().unwrap().clone();
    let change = |file: &mut weights::WeightsFile, value: f32| {
        file.tensors.get_mut(&name).unwrap().data[0] = value;
        weights::save(bench.path("odd.safetensors"), file).unwrap();
    };
    change(&mut file, 1e-9);
    let output = bench.run("export odd.safetensors --torch out.safetensors --half");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && said.contains(&format!("the first in {name}, are smaller")), "{said}");
    let warnings = |said: &str| said.lines().filter(|line| line.contains("smallest f16")).count();
    assert_eq!(warnings(&said), 1, "{said}");
    change(&mut file, 7e4);
    fs::remove_file(bench.path("out.safetensors")).unwrap();
    let export = "export odd.safetensors --torch out.safetensors";
    bench.fails(1, &format!("{export} --half"), &["1 of its values", &name, "65504"]);
    assert!(!bench.path("out.safetensors").exists());
    bench.ok(export);
    bench.fails(2, "export run --half --onnx x.onnx", &["required arguments were not provided"]);
    bench.fails(2, "export run --onnx one.x --torch one.x", &["the same file"]);
    bench.fails(2, "export run --torch run/best.safetensors", &["would be lost"]);
}
