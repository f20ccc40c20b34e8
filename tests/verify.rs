//! `verify`: a run is what its settings make of its images, and what is not is found.

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;

use cifar_engine::models::LoadedModel;
use cifar_engine::report::norms;
use common::mobilenet::write_weights;
use common::program::{Bench, QUICK, json};

/// Flips the lowest bit of the last number of a file of weights.
fn flip(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let at = bytes.len() - 4;
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_run_is_itself_on_any_number_of_threads() {
    let bench = Bench::new();
    // Of two processes, and with averaged weights.
    bench.ok(&format!("{QUICK} --ema 0.9 --schedule constant --epochs 1 --out run"));
    bench.ok("resume run --epochs 2");
    let text = fs::read_to_string(bench.path("run/metrics.jsonl")).unwrap();
    let hash = |line: &str| json(line)["weights_sha256"].as_str().unwrap().to_string();
    let hashes: Vec<String> = text.lines().map(hash).collect();
    assert!(hashes.len() == 2 && hashes[0] != hashes[1], "{text}");

    let shown = bench.ok("verify run --all --threads 1");
    assert!(shown.contains(&format!("epoch 2: equal, {}", hashes[1])), "{shown}");
    assert!(
        shown.contains("last.safetensors: of epoch 2") && shown.contains("2 epochs are the run's"),
        "{shown}"
    );
    let certificate = json(&bench.ok("verify run --threads 3 --json"));
    assert!(certificate["equal"] == true && certificate["weights_sha256"] == hashes[1], "{certificate}");
    assert!(certificate["repeated"][0]["found"] == hashes[0], "{certificate}");
    assert_eq!(certificate["training_images_sha256"].as_str().unwrap().len(), 64);

    bench.fails(2, "verify run --epochs 3", &["has finished 2 epochs, not 3"]);
    bench.fails(2, "verify run --pretrained x", &["begun by train"]);
    bench.fails(2, "verify run --data shapes", &["images are not those"]);
    bench.fails(1, "verify .", &["is not a run folder"]);

    // Another instruction set rounds differently.
    let mut program = Command::new(env!("CARGO_BIN_EXE_cifar-engine"));
    program.current_dir(bench.dir.path()).args(["verify", "run", "--device", "cpu", "-q"]);
    let output = program.env("CIFAR_ENGINE_ISA", "portable").output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && message.contains("now by cpu, portable, which round"), "{message}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("epoch 1: DIFFERENT"));

    let other = text.replace(&hashes[0], &hashes[1]);
    for (written, what) in
        [(other.as_str(), "changed or replaced"), ("", "changed or replaced"), ("{\n", "epoch 1")]
    {
        fs::write(bench.path("run/metrics.jsonl"), written).unwrap();
        bench.fails(1, "verify run", &["metrics.jsonl", what]);
    }
    fs::remove_file(bench.path("run/metrics.jsonl")).unwrap();
    bench.fails(1, "verify run", &["metrics.jsonl"]);
    fs::write(bench.path("run/metrics.jsonl"), &text).unwrap();
    bench.fails(2, "verify run --epochs 0", &["--epochs must be at least 1"]);

    let settings = fs::read_to_string(bench.path("run/settings.toml")).unwrap();
    for (good, bad, told) in
        [("momentum = 0.9", "momentum = 1.5", "'momentum' must lie in"), ("seed", "sead", "line ")]
    {
        fs::write(bench.path("run/settings.toml"), settings.replacen(good, bad, 1)).unwrap();
        bench.fails(1, "verify run", &["settings.toml", told]);
    }
    fs::write(bench.path("run/settings.toml"), &settings).unwrap();

    flip(&bench.path("run/last.safetensors"));
    bench.fails(1, "verify run", &["last.safetensors", "no epoch of this run"]);
    fs::copy(bench.path("run/best.safetensors"), bench.path("run/last.safetensors")).unwrap();
    flip(&bench.path("run/best.safetensors"));
    bench.fails(1, "verify run", &["best.safetensors", "no epoch of this run"]);
    fs::remove_file(bench.path("run/checkpoint.safetensors")).unwrap();
    bench.fails(1, "verify run", &["has no checkpoint"]);
}

#[test]
fn a_fine_tuning_is_itself_too() {
    let bench = Bench::new();
    write_weights(&bench.path("known.safetensors"));
    bench.ok("finetune --pretrained known.safetensors --data . --batch-size 32 --epochs 2 --head-epochs 1 \
         --unfreeze 2 --out run");
    let shown = bench.ok("verify run --all --threads 1");
    assert!(shown.contains("epoch 1: equal") && shown.contains("epoch 2: equal"), "{shown}");
    flip(&bench.path("known.safetensors"));
    bench.fails(2, "verify run", &["are not the weights that this run was begun with"]);
}

/// The norms are those of the weights, whether the run was interrupted between epochs or not.
#[test]
fn norms_follow_from_the_weights() {
    let bench = Bench::new();
    let options = "--schedule constant --weight-decay 0";
    bench.ok(&format!("{QUICK} {options} --epochs 1 --out run"));
    let first = LoadedModel::open(&bench.path("run/last.safetensors")).unwrap();
    bench.ok("resume run --epochs 2");
    let second = LoadedModel::open(&bench.path("run/last.safetensors")).unwrap();
    let rows = norms::read(&bench.path("run/norms.csv")).unwrap();
    let parameters = first.parameters().unwrap();
    let trained = parameters.iter().filter(|parameter| parameter.trainable()).count();
    assert_eq!(rows.len(), 2 * trained);
    let values = [&first, &second].map(|model| model.values(&parameters).unwrap());
    for row in &rows {
        let index = parameters.iter().position(|parameter| parameter.name == row.parameter).unwrap();
        let [before, after] = [&values[0][index], &values[1][index]];
        // A bias before a normalisation has no gradient.
        assert!(row.moment.unwrap() > 0.0 || row.parameter.ends_with(".bias"), "{row:?}");
        if row.epoch == 2 {
            assert_eq!(row.weight, norms::norm(after.iter().copied()));
            let moved = norms::norm(before.iter().zip(after).map(|(before, after)| after - before));
            assert_eq!(row.update, Some(moved), "{}", row.parameter);
        } else {
            assert_eq!(row.weight, norms::norm(before.iter().copied()));
        }
    }
    bench.ok(&format!("{QUICK} {options} --out whole"));
    let read = |run: &str| fs::read_to_string(bench.path(run).join("norms.csv")).unwrap();
    assert_eq!(read("run"), read("whole"), "an interrupted run has other norms");
    let report = fs::read_to_string(bench.path("whole/report.html")).unwrap();
    assert!(report.contains("Weights by epoch") && report.contains("<td>conv1.weight"));

    // What others have in the folder is left alone.
    fs::create_dir(bench.path("mine")).unwrap();
    fs::write(bench.path("mine/norms.csv"), "precious").unwrap();
    bench.fails(1, &format!("{QUICK} --out mine"), &["mine: ", "norms.csv", "--out"]);
    // What a killed start left is not.
    fs::write(bench.path("mine/.lock"), "").unwrap();
    bench.ok(&format!("{QUICK} --epochs 1 --out mine"));
    assert_eq!(norms::read(&bench.path("mine/norms.csv")).unwrap().len(), trained);
}

#[test]
fn what_is_not_where_it_was_is_told() {
    let bench = Bench::new();
    let batches =
        ["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"];
    fs::create_dir(bench.path("images")).unwrap();
    for file in batches.map(|name| format!("{name}.bin")) {
        fs::rename(bench.path(&file), bench.path("images").join(file)).unwrap();
    }
    bench.ok(&format!("{QUICK} --data images --epochs 1 --out run").replacen("--data . ", "", 1));
    fs::rename(bench.path("images"), bench.path("moved")).unwrap();
    for command in ["verify run", "replay run --epoch 1 --step 1", "inspect run", "resume run"] {
        bench.fails(
            1,
            command,
            &["images: the images of the run are not there", "--data where they are now"],
        );
    }
    bench.ok("verify run --data moved");
    bench.ok("inspect run --data moved --json");
    fs::write(bench.path("run/checkpoints"), "").unwrap();
    for command in ["verify run --data moved --epoch 1", "replay run --data moved --epoch 1 --step 1"] {
        bench.fails(1, command, &["run/checkpoints: is a file, where a run has the folder"]);
    }
}
