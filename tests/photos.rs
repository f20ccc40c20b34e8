//! What one's own photographs need beyond a training: measures, unequal classes, reasons.

mod common;

use std::fs;

use cifar_engine::data::shapes;
use cifar_engine::exec::device;
use cifar_engine::model::Model;
use cifar_engine::report::Measures;
use cifar_engine::weights;
use common::program::{Bench, QUICK, json};

/// The share that `predict` gives the best class of test image 3, and whether it is unsure of it.
fn predicted(bench: &Bench, weights: &str) -> (f64, serde_json::Value) {
    let told = json(&bench.ok(&format!("predict --sample 3 --data . --weights {weights} --json")));
    (told["predictions"][0]["probability"].as_f64().unwrap(), told["unsure"].clone())
}

#[test]
fn measures_and_temperature_are_told_kept_and_used() {
    let bench = Bench::new();
    let told = json(&bench.ok(&format!("{QUICK} --out run --json")));
    let written = json(&fs::read_to_string(bench.path("run/result.json")).unwrap());
    let evaluated = json(&bench.ok("evaluate run --json"));
    let mut model = Model::load_on(device::cpu().unwrap(), bench.path("run")).unwrap();
    let images = shapes::sized(320, 70, 32, 1).unwrap().test;
    let logits = model.evaluate(&images).unwrap().logits;
    let calibration = model.spec().calibration;
    let measures = Measures::of(logits.view(), &images.labels, calibration);
    for (name, value) in measures.entries() {
        let of_test = if name == "temperature" { name.clone() } else { format!("test_{name}") };
        let found = [&told[&of_test], &written[&of_test], &evaluated[&name]];
        let near =
            |found: &serde_json::Value| (found.as_f64().unwrap() - value.as_f64().unwrap()).abs() < 1e-9;
        assert!(found.into_iter().all(near), "{name}: {value} {found:?}");
    }
    assert!(calibration.temperature != 1.0);
    let powers: Vec<f64> =
        logits.row(3).iter().map(|z| (f64::from(*z) / f64::from(calibration.temperature)).exp()).collect();
    let largest = powers.iter().copied().fold(0.0, f64::max) / powers.iter().sum::<f64>();
    assert!((predicted(&bench, "run/best.safetensors").0 - largest).abs() < 1e-5);
    // 40 images are few: the last epoch's weights have no calibration of their own.
    assert!(
        !weights::outline(bench.path("run/last.safetensors")).unwrap().metadata.contains_key("temperature")
    );
    let page = fs::read_to_string(bench.path("run/report.html")).unwrap();
    assert!(["balanced accuracy", "AUROC", "top-5"].iter().all(|part| page.contains(part)));
}

#[test]
fn what_is_below_the_threshold_of_the_weights_is_unsure() {
    let bench = Bench::new();
    bench.ok(&format!("{QUICK} --out run --validation 0"));
    assert_eq!(predicted(&bench, "run/best.safetensors").1, serde_json::Value::Null);
    let mut file = weights::load(bench.path("run/best.safetensors")).unwrap();
    for (least, unsure) in [("0.9999", true), ("0.01", false)] {
        file.metadata.insert("unsure_below".into(), least.into());
        weights::save(bench.path("marked.safetensors"), &file).unwrap();
        assert_eq!(predicted(&bench, "marked.safetensors").1, unsure);
        let predict = "predict sample-3.png --weights marked.safetensors --format";
        assert_eq!(bench.ok(&format!("{predict} text")).contains("unsure: below 99.99 %"), unsure);
        let table = bench.ok(&format!("{predict} csv"));
        assert!(table.trim_end().ends_with(&format!(",{unsure}")) && table.contains(",unsure\n"), "{table}");
    }
    for (key, value) in [("temperature", "0"), ("temperature", "warm"), ("unsure_below", "7")] {
        let mut file = file.clone();
        file.metadata.insert(key.into(), value.into());
        weights::save(bench.path("odd.safetensors"), &file).unwrap();
        bench.fails(1, "predict sample-3.png --weights odd.safetensors", &[key, "makes no sense"]);
    }
}
