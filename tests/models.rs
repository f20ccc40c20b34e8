//! Every model of the list through every command, with nothing said about it but its name: what a
//! new one must do as well.

mod common;

use std::collections::BTreeMap;

use cifar_engine::graph::Graph;
use cifar_engine::models::cnn::CNN;
use cifar_engine::models::pretrained::{Attributes, Pretrained};
use cifar_engine::models::{Architecture, MODELS, Training};
use cifar_engine::nn::{Builder, Mode};
use cifar_engine::tensor::TensorType;
use cifar_engine::weights::{self, Tensor};
use common::program::{Bench, json};

/// Epochs of two steps.
const SHORT: &str = "--data . --batch-size 40 --validation 20";

fn tensors(bench: &Bench, run: &str) -> BTreeMap<String, Tensor> {
    weights::load(bench.path(run).join("best.safetensors")).unwrap().tensors
}

/// The names of the parameters that a fine-tuning of the last `blocks` blocks leaves as they are.
fn frozen(bench: &Bench, run: &str, blocks: usize) -> Vec<String> {
    let path = bench.path(run).join("best.safetensors");
    let spec = Pretrained::open(&path, &Attributes::default()).unwrap().spec;
    let until = spec.architecture.units().unwrap().len() - 1 - blocks;
    let mut graph = Graph::new();
    let x = graph.input("x", TensorType::f32([1, 32, 32, 3]));
    let mut builder = Builder::new(&mut graph, Mode::Infer, spec.norm).only(0..until);
    spec.build(&mut builder, x, Training::default()).unwrap();
    builder.parameters.into_iter().map(|parameter| parameter.name).collect()
}

/// Trains, evaluates, predicts, and fine-tunes what came out: the classifier, two blocks, all
/// layers.
fn check(bench: &Bench, model: &Architecture) {
    bench.ok(&format!("train {SHORT} --model {model} --epochs 1 --out {model}"));
    let weights = format!("{model}/best.safetensors");
    let result = json(&bench.ok(&format!("evaluate {weights} --data . --json")));
    assert!(result["loss"].as_f64().unwrap().is_finite(), "{result}");
    let predicted = bench.ok(&format!("predict --sample 0 --data . --weights {weights}"));
    assert!(predicted.contains('%'), "{predicted}");
    let summary = json(&bench.ok(&format!("summary {weights} --json")));
    let by_name = json(&bench.ok(&format!("summary {model} --image-size 32 --json")));
    assert_eq!((&summary["model"], &summary["layers"]), (&model.name.into(), &by_name["layers"]));

    let before = tensors(bench, model.name);
    for (unfreeze, head) in [("0", 1), ("2", 0), ("all", 0)] {
        let run = format!("{model}-{unfreeze}");
        bench.ok(&format!(
            "finetune {SHORT} --pretrained {weights} --image-size 32 --frozen-statistics=false --epochs 1 \
             --head-epochs {head} --unfreeze {unfreeze} --out {run}"
        ));
        let after = tensors(bench, &run);
        assert!(before.keys().eq(after.keys()), "{run}");
        let frozen = match unfreeze {
            "all" => Vec::new(),
            blocks => frozen(bench, model.name, blocks.parse().unwrap()),
        };
        for (name, tensor) in &before {
            let same = *tensor == after[name];
            // A gradient may be too small for a weight to change; statistics always do.
            let trains = name.ends_with("running_var");
            assert!(!frozen.contains(name) || same, "{run}: {name} has changed");
            assert!(frozen.contains(name) || !trains || !same, "{run}: {name} has not changed");
        }
    }
}

#[test]
fn every_model_goes_through_every_command() {
    let bench = Bench::small();
    MODELS.iter().for_each(|model| check(&bench, model));
    // The size of the images that the cnn sees is that of its weights.
    let finetune = format!(
        "finetune {SHORT} --pretrained {CNN}/best.safetensors --epochs 1 --head-epochs 1 --unfreeze 0"
    );
    bench.ok(&finetune);
    let problem = ["its cnn is for images of 32 pixels, not --image-size 64"];
    bench.fails(1, &format!("{finetune} --image-size 64"), &problem);
    let problem = ["the padding given for it has no effect: a cnn is padded one way"];
    bench.fails(1, &format!("{finetune} --padding same"), &problem);
}

#[test]
fn help_and_completions_name_every_model() {
    let bench = Bench::new();
    for command in ["train --help", "finetune --help", "bench --help", "summary --help", "completions bash"] {
        let text = bench.ok(command).split_whitespace().collect::<Vec<_>>().join(" ");
        for model in MODELS {
            assert!(text.contains(model.name), "{command}: no {model}");
        }
    }
    for model in MODELS {
        assert!(include_str!("../README.md").contains(&format!("`{model}`")), "README.md: no {model}");
    }
    bench.fails(2, "train --model vgg", &["there is no model 'vgg'"]);
}
