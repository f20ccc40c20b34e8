//! `replay`: what it shows of a step is what the step computes, and the proof tells a run from what
//! is none of it.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Output};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cifar_engine::error::Error;
use cifar_engine::exec::Device;
use cifar_engine::exec::cpu::Cpu;
use cifar_engine::inspect::replay::picture::level;
use cifar_engine::kernels::rng::{Stream, permutation};
use cifar_engine::kernels::simd::Isa;
use cifar_engine::models::MODELS;
use cifar_engine::train::checkpoint::Checkpoint;
use cifar_engine::train::run_folder::RunFolder;
use cifar_engine::train::settings::Settings;
use cifar_engine::train::{self, plans};
use cifar_engine::weights;
use common::browser::chromium;
use common::data::load;
use common::mobilenet::write_weights;
use common::program::{Bench, QUICK, json};
use common::stopped::Stopped;
use flate2::read::ZlibDecoder;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Three epochs of nine steps, of which all checkpoints are kept.
const KEPT: &str = "train --data . --batch-size 32 --validation 40 --lr 0.02 --epochs 3 --keep-checkpoints";

fn kept(bench: &Bench, run: &str, epoch: usize) -> std::path::PathBuf {
    bench.path(run).join(format!("checkpoints/epoch-{epoch:04}.safetensors"))
}

fn sha256(values: &[f32]) -> String {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What the program says on standard error.
fn told(bench: &Bench, command: &str) -> String {
    String::from_utf8(bench.run(command).stderr).unwrap()
}

/// The content of a page.
fn content(page: &str) -> Value {
    let (_, rest) = page.split_once("<script type=\"application/json\" id=\"content\">").unwrap();
    json(rest.split_once("</script>").unwrap().0)
}

/// The levels of a page's pictures.
fn levels(content: &Value) -> Vec<u8> {
    let packed = STANDARD.decode(content["levels"].as_str().unwrap()).unwrap();
    let mut levels = Vec::new();
    ZlibDecoder::new(packed.as_slice()).read_to_end(&mut levels).unwrap();
    levels
}

/// A step of a run as a plan of its own makes it, after those of its epoch before, from the
/// checkpoint kept before the epoch: the batch, the logits and their gradient, and all states after
/// it.
struct Step {
    device: Cpu,
    plan: cifar_engine::exec::PlanId,
    /// The states before it.
    before: BTreeMap<String, Vec<f32>>,
}

fn computed(bench: &Bench, run: &str, epoch: usize, step: usize) -> Step {
    let settings = RunFolder::settings(&bench.path(run)).unwrap();
    let mut data = load(bench.dir.path()).unwrap();
    let spec = train::spec(&settings, &data).unwrap();
    data.split_validation(settings.validation, settings.seed).unwrap();
    let images = data.train.len();
    let mut graph = plans::training(&spec, &settings, images).unwrap().graph;
    let output = |op: &str, layer: &str| {
        let is_it = |node: &&cifar_engine::graph::Node| node.op.name() == op && node.layer == layer;
        graph.nodes().iter().find(is_it).unwrap().outputs[0]
    };
    let [batch, logits, gradient] =
        [("augment", "input"), ("matmul", "fc2"), ("softmax_cross_entropy_grad", "loss")]
            .map(|(op, layer)| output(op, layer));
    [("batch", batch), ("logits", logits), ("gradient", gradient)]
        .iter()
        .for_each(|(name, value)| graph.output(name, *value));
    let mut device = Cpu::new(1, Isa::detect()).unwrap();
    let plan = device.load(&graph).unwrap();
    plans::upload(&mut device, plan, "train", &data.train).unwrap();
    let mut before = Checkpoint::load(&kept(bench, run, epoch - 1)).unwrap().states;
    before.iter().for_each(|(name, values)| {
        device.write_state(plan, name, values.as_slice().into()).unwrap();
    });
    let steps = settings.config(images).steps();
    let mut order = permutation(images, settings.seed, Stream::Shuffle, epoch as u32);
    order.extend_from_within(..(steps * settings.batch_size).saturating_sub(images));
    device.write(plan, "loss_gradient", [1.0f32].as_slice().into()).unwrap();
    for of_epoch in 0..step {
        for (name, values) in &mut before {
            *values = device.read_state(plan, name).unwrap();
        }
        let (first, number) = (of_epoch * settings.batch_size, (epoch - 1) * steps + of_epoch);
        let rate = settings.schedule.rate(settings.rate, number, settings.epochs * steps);
        device.write(plan, "indices", order[first..][..settings.batch_size].into()).unwrap();
        device.write(plan, "step", [number as u32].as_slice().into()).unwrap();
        device.write(plan, "rate", [rate].as_slice().into()).unwrap();
        device.run(plan).unwrap();
    }
    Step { device, plan, before }
}

/// The tensor that a step of the plan writes first, by its op and layer.
fn written<'a>(record: &'a Value, op: &str, layer: &str) -> &'a Value {
    let steps = record["steps"].as_array().unwrap();
    let step = steps.iter().find(|step| step["op"] == op && step["layer"] == layer).unwrap();
    &record["values"][step["writes"][0].as_u64().unwrap() as usize]
}

/// The hashes of all tensors.
fn hashes(record: &Value) -> Vec<&Value> {
    record["values"].as_array().unwrap().iter().map(|value| &value["sha256"]).collect()
}

#[test]
fn what_is_shown_is_what_the_step_computes() {
    let bench = Bench::new();
    bench.ok(&format!("{KEPT} --ema 0.9 --clip 5 --out run"));
    let shown = json(&bench.ok("replay run --epoch 3 --step 4 --json"));
    assert_eq!(shown["proved"], true);
    let record = &shown["record"];
    let step = computed(&bench, "run", 3, 4);
    let read = |name: &str| step.device.read(step.plan, name).unwrap();
    for (output, op, layer) in [
        ("batch", "augment", "input"),
        ("logits", "matmul", "fc2"),
        ("gradient", "softmax_cross_entropy_grad", "loss"),
    ] {
        let (values, shown) = (read(output), written(record, op, layer));
        assert_eq!(shown["sha256"], sha256(&values), "{output}");
        let [least, most] = [f32::min, f32::max].map(|pick| values.iter().copied().reduce(pick).unwrap());
        assert_eq!(
            (shown["smallest"].as_f64(), shown["largest"].as_f64()),
            (Some(f64::from(least)), Some(f64::from(most)))
        );
        let mean = values.iter().map(|&value| f64::from(value)).sum::<f64>() / values.len() as f64;
        assert!((shown["mean"].as_f64().unwrap() - mean).abs() < 1e-12, "{output}");
        let zeros = values.iter().filter(|value| **value == 0.0).count() as f64 / values.len() as f64;
        assert_eq!(shown["zeros"].as_f64(), Some(zeros), "{output}");
    }
    // Of every state the last tensor of its name is what the step leaves.
    let values = record["values"].as_array().unwrap();
    for name in step.before.keys() {
        let last = values.iter().rev().find(|value| value["name"] == name.as_str()).unwrap();
        let after = step.device.read_state(step.plan, name).unwrap();
        assert_eq!(last["sha256"], sha256(&after), "{name}");
        let differences = after.iter().zip(&step.before[name]).map(|(after, before)| after - before);
        let largest = differences.fold(0.0f32, |largest, value| largest.max(value.abs()));
        assert_eq!(last["change"]["largest"].as_f64(), Some(f64::from(largest)), "{name}");
    }
    // Links lead back, and each part of the step comes once.
    let steps = record["steps"].as_array().unwrap();
    let mut phases: Vec<&str> = steps.iter().map(|step| step["phase"].as_str().unwrap()).collect();
    phases.dedup();
    assert_eq!(phases, ["constants", "images", "forward", "loss", "backward", "update"]);
    for (number, step) in steps.iter().enumerate() {
        let reads = step["reads"].as_array().unwrap().iter();
        let makers = reads.map(|read| &values[read.as_u64().unwrap() as usize]["from"]);
        assert!(makers.flat_map(Value::as_u64).all(|from| (from as usize) < number), "{step}");
        let writes = step["writes"].as_array().unwrap();
        assert!(writes.iter().all(|write| values[write.as_u64().unwrap() as usize]["from"] == number));
    }

    // The page has the same, with pictures.
    bench.ok("replay run --epoch 3 --step 4 --no-proof --out page.html");
    let page = fs::read_to_string(bench.path("page.html")).unwrap();
    assert!(page.len() < 10_000_000, "{} bytes", page.len());
    let content = content(&page);
    assert_eq!((&content["record"]["steps"], hashes(&content["record"])), (&record["steps"], hashes(record)));
    let levels = levels(&content);
    let (shown, values) = (written(record, "matmul", "fc2"), read("logits"));
    let picture = &shown["picture"];
    assert_eq!((&picture["form"], picture["dims"].to_string()), (&"matrix".into(), "[1,1,32,10]".into()));
    let scale = picture["scale"].as_f64().unwrap() as f32;
    assert_eq!(scale, values.iter().fold(0.0f32, |most, value| most.max(value.abs())));
    let first = picture["first"].as_u64().unwrap() as usize;
    let expected: Vec<u8> = values.iter().map(|&value| level(value, scale)).collect();
    assert_eq!(levels[first..][..values.len()], expected);
    // Of the batch, channel 2 of image 3.
    let (shown, values) = (written(record, "augment", "input"), read("batch"));
    let picture = &shown["picture"];
    assert_eq!((&picture["form"], picture["dims"].to_string()), (&"channels".into(), "[4,3,32,32]".into()));
    let scale = picture["scale"].as_f64().unwrap() as f32;
    let first = picture["first"].as_u64().unwrap() as usize + (3 * 3 + 2) * 1024;
    let channel = values[3 * 3072..][..3072].iter().skip(2).step_by(3);
    let expected: Vec<u8> = channel.map(|&value| level(value, scale)).collect();
    assert_eq!(levels[first..][..1024], expected);
}

/// Runs the program on the instruction set that every processor has.
fn on_portable(bench: &Bench, command: &str) -> Output {
    let mut program = Command::new(env!("CARGO_BIN_EXE_cifar-engine"));
    program.current_dir(bench.dir.path()).args(command.split(' ')).args(["--device", "cpu"]);
    program.env("CIFAR_ENGINE_ISA", "portable").output().unwrap()
}

/// Flips the lowest bit of a weight in a kept checkpoint, which then is whole all the same.
fn forge(path: &Path) {
    let mut checkpoint = Checkpoint::load(path).unwrap();
    let weight = &mut checkpoint.states.get_mut("conv2.weight").unwrap()[7];
    *weight = f32::from_bits(weight.to_bits() ^ 1);
    checkpoint.save(path).unwrap();
}

#[test]
fn the_proof_tells_a_run_from_what_is_none_of_it() {
    let bench = Bench::new();
    bench.ok(&format!("{KEPT} --out run"));
    let command = "replay run --epoch 3 --step 9";
    let (said, whole) = (told(&bench, command), bench.ok(&format!("{command} --json")));
    assert!(said.contains("from the checkpoint kept after epoch 2"), "{said}");
    let shown = bench.ok(command);
    assert!(shown.contains("proved: the weights after epoch 3 have the hash of the run"), "{shown}");
    assert!(bench.ok("verify run --epoch 3").contains("epoch 3: equal"));
    assert!(told(&bench, "verify run --epoch 3").contains("kept after epoch 2"));
    let open = bench.ok(&format!("{command} --no-proof"));
    assert!(open.contains("not proved: epoch 3 was not run to its end"), "{open}");

    // Where the run's newest is gone or damaged, the newest that was kept stands in for it.
    let newest = fs::read(bench.path("run/checkpoint.safetensors")).unwrap();
    fs::write(bench.path("run/checkpoint.safetensors"), &newest[..newest.len() / 2]).unwrap();
    let stands_in = "kept after epoch 3 stands in for it";
    assert!(told(&bench, command).contains(stands_in) && told(&bench, "verify run").contains(stands_in));
    fs::remove_file(bench.path("run/checkpoint.safetensors")).unwrap();
    assert!(bench.ok("verify run --all").contains("3 epochs are the run's"));
    fs::write(bench.path("run/checkpoint.safetensors"), newest).unwrap();
    // A damaged one is passed over, and so is one of another run; what comes out is the same.
    let path = kept(&bench, "run", 2);
    let good = fs::read(&path).unwrap();
    let mut bytes = good.clone();
    let at = bytes.len() - 5;
    bytes[at] ^= 4;
    fs::write(&path, bytes).unwrap();
    let said = told(&bench, command);
    assert!(said.contains("epoch-0002.safetensors is damaged") && said.contains("after epoch 1"), "{said}");
    let same = |one: &str, other: &str| json(one)["record"] == json(other)["record"];
    assert!(same(&whole, &bench.ok(&format!("{command} --json"))));
    // That of the same settings by another instruction set, and one under another's name.
    on_portable(&bench, &format!("{KEPT} --out other"));
    fs::copy(kept(&bench, "other", 2), &path).unwrap();
    let said = told(&bench, command);
    assert!(said.contains("epoch-0002.safetensors is none of this run"), "{said}");
    fs::copy(kept(&bench, "run", 1), &path).unwrap();
    fs::write(kept(&bench, "run", 1), "none").unwrap();
    let said = told(&bench, command);
    assert!(said.contains("epoch-0002.safetensors is none of this run"), "{said}");
    assert!(said.contains("epoch-0001.safetensors is damaged") && said.contains("from the beginning"));
    assert!(same(&whole, &bench.ok(&format!("{command} --json"))));

    // One whose digest is right, but not a bit of a weight.
    fs::write(&path, good).unwrap();
    forge(&path);
    bench.fails(1, command, &["epoch 3 differs from the run's", "changed afterwards"]);
    let page = fs::read_to_string(bench.path("replay.html")).unwrap();
    assert!(page.contains("NOT the step of the run: epoch 3 differs"));
    let output = bench.run(&format!("{command} --json"));
    let shown = json(&String::from_utf8(output.stdout).unwrap());
    assert!(!output.status.success() && shown["proved"] == false, "{}", shown["proved"]);
    assert!(!same(&whole, &shown.to_string()));
    bench.fails(1, "verify run --epoch 3", &["epoch 3 differs"]);

    // Another instruction set, from the beginning on; the step is to be seen all the same.
    fs::remove_dir_all(bench.path("run/checkpoints")).unwrap();
    let output = on_portable(&bench, command);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("epoch 1 differs") && said.contains("now by cpu, portable, which round"), "{said}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("page: replay.html"));

    bench.fails(2, &format!("{command} --data shapes"), &["images are not those"]);
}

#[test]
fn steps_that_are_none_are_told() {
    let bench = Bench::new();
    bench.ok(&format!("{QUICK} --out run"));
    for (options, parts) in [
        ("--epoch 0 --step 1", ["--epoch 0", "has finished 2 epochs"]),
        ("--epoch 3 --step 1", ["--epoch 3", "has finished 2 epochs"]),
        ("--epoch 1 --step 0", ["--step 0", "which has 9 steps"]),
        ("--epoch 1 --step 10", ["--step 10", "which has 9 steps"]),
        ("--epoch 1 --step 1 --pretrained x", ["--pretrained", "begun by train"]),
    ] {
        bench.fails(2, &format!("replay run {options}"), &parts);
    }
    let usage = String::from_utf8(bench.run("replay run --epoch 1 --step -1").stderr).unwrap();
    assert!(usage.contains("--step"), "{usage}");
    bench.fails(1, "replay . --epoch 1 --step 1", &["is not a run folder"]);
    bench.fails(1, "replay run --epoch 1 --step 1 --no-proof --out none/page.html", &["none/page.html"]);
    fs::remove_file(bench.path("run/checkpoint.safetensors")).unwrap();
    bench.fails(1, "replay run --epoch 1 --step 1", &["has no checkpoint"]);

    // Of a run that was stopped, what it has finished can be seen.
    let path = bench.path("stopped");
    let data = bench.dir.path().to_str().unwrap().to_string();
    let settings =
        Settings { data, batch_size: 32, validation: 40, epochs: 2, rate: 0.02, ..Settings::default() };
    let run = RunFolder::create(Some(path), &settings, "some").unwrap();
    let (mut device, data) = (Cpu::new(2, Isa::detect()).unwrap(), load(bench.dir.path()).unwrap());
    let outcome = train::train(&mut device, &settings, data, &run, &mut Stopped(12));
    assert!(matches!(outcome, Err(Error::Interrupted)), "{outcome:?}");
    drop(run);
    bench.fails(2, "replay stopped --epoch 2 --step 1", &["--epoch 2", "has finished 1 epoch"]);
    assert!(bench.ok("replay stopped --epoch 1 --step 9").contains("proved: "));
}

#[test]
fn every_model_can_be_replayed() {
    let bench = Bench::small();
    for model in MODELS {
        bench.ok(&format!(
            "train --data . --batch-size 20 --validation 20 --model {model} --epochs 1 --out {model}"
        ));
        let shown = json(&bench.ok(&format!("replay {model} --epoch 1 --step 2 --json")));
        assert_eq!((&shown["proved"], &shown["record"]["same_as_whole"]), (&true.into(), &true.into()));
        let steps = shown["record"]["steps"].as_array().unwrap();
        assert!(steps.iter().any(|step| step["phase"] == "update"), "{model}");
    }
    write_weights(&bench.path("known.safetensors"));
    bench.ok("finetune --pretrained known.safetensors --data . --batch-size 16 --epochs 3 --head-epochs 1 \
         --unfreeze 2 --keep-checkpoints --out tuned");
    for (epoch, reads) in [(1, "features"), (2, "features"), (3, "features")] {
        let shown = json(&bench.ok(&format!("replay tuned --epoch {epoch} --step 3 --json")));
        let values = shown["record"]["values"].as_array().unwrap();
        assert!(shown["proved"] == true && values.iter().any(|value| value["name"] == reads), "{epoch}");
    }
    assert!(bench.ok("verify tuned --epoch 3").contains("epoch 3: equal"));
}

#[test]
fn kept_checkpoints_change_nothing_else() {
    let bench = Bench::new();
    let options = "train --data . --batch-size 32 --validation 40 --schedule constant";
    bench.ok(&format!("{options} --epochs 4 --out plain"));
    assert!(!bench.path("plain/checkpoints").exists());
    bench.ok(&format!("{options} --epochs 2 --keep-checkpoints=2 --out run"));
    bench.ok("resume run --epochs 4");
    let epochs: Vec<usize> =
        RunFolder::kept(&bench.path("run")).unwrap().into_iter().map(|(epoch, _)| epoch).collect();
    assert_eq!(epochs, [2, 4]);
    let states = |path: &Path| Checkpoint::load(path).unwrap().states;
    let plain = states(&bench.path("plain/checkpoint.safetensors"));
    assert!(
        plain == states(&bench.path("run/checkpoint.safetensors"))
            && plain == states(&kept(&bench, "run", 4))
    );
    let digest = |path: &str| weights::digest(&weights::load(bench.path(path)).unwrap()).unwrap();
    assert_eq!(digest("run/checkpoints/weights-0004.safetensors"), digest("plain/last.safetensors"));
    assert_ne!(digest("run/checkpoints/weights-0002.safetensors"), digest("plain/last.safetensors"));
    bench.ok("evaluate run/checkpoints/weights-0002.safetensors --data .");
    let file = "run/checkpoints/epoch-0002.safetensors";
    bench.fails(1, &format!("evaluate {file} --data ."), &[file, "is a checkpoint", "weights-"]);
    // Nobody has a run begin where checkpoints are that it would overwrite.
    fs::create_dir_all(bench.path("mine/checkpoints")).unwrap();
    bench.fails(1, &format!("{options} --epochs 1 --out mine"), &["mine: ", "checkpoints", "--out"]);
}

/// Runs the program with arguments that hold spaces.
fn with_arguments(bench: &Bench, arguments: &[&str]) {
    let mut program = Command::new(env!("CARGO_BIN_EXE_cifar-engine"));
    program.current_dir(bench.dir.path()).args(arguments).args(["--device", "cpu"]);
    let output = program.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_page_holds_odd_names_and_loads_nothing() {
    let bench = Bench::new();
    let run = "a run <b>猫</b> & \"more\"";
    let train = QUICK.split(' ').chain(["--model", "fast", "--out", run, "--keep-checkpoints"]);
    with_arguments(&bench, &train.collect::<Vec<_>>());
    with_arguments(&bench, &["replay", run, "--epoch", "2", "--step", "1", "--out", "the 猫 page.html"]);
    let page = fs::read_to_string(bench.path("the 猫 page.html")).unwrap();
    assert!(
        page.contains("<h1>Step 1 of epoch 2 of a run &lt;b&gt;猫&lt;/b&gt; &amp; &quot;more&quot;</h1>")
    );
    for outside in ["src=", "@import", "url(", "<link", "http:", "https:", "fetch("] {
        assert!(!page.contains(outside), "{outside}");
    }
    assert!(page.contains("default-src 'none'") && page.len() < 10_000_000, "{} bytes", page.len());

    let Some(chromium) = chromium() else { return };
    let record = content(&page)["record"].clone();
    let steps = record["steps"].as_array().unwrap();
    let forward = steps.iter().position(|step| step["phase"] == "forward").unwrap();
    for number in [forward, steps.len() - 1] {
        let document = drawn(&chromium, &bench.path("the 猫 page.html"), number);
        let (op, layer) = (steps[number]["op"].as_str().unwrap(), steps[number]["layer"].as_str().unwrap());
        assert!(document.contains(&format!("Plan step {number} of {}: {op} '{layer}'", steps.len() - 1)));
        assert!(document.contains("<canvas") && document.contains("proved: the weights"), "{document}");
    }
}

/// What a browser makes of a page at a step; nothing may go wrong there.
fn drawn(chromium: &str, page: &Path, step: usize) -> String {
    let profile = tempfile::tempdir().unwrap();
    let output = Command::new(chromium)
        .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"])
        .args(["--virtual-time-budget=10000", "--dump-dom"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(format!("file://{}#{step}", page.display()))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!said.contains("CONSOLE"), "{said}");
    String::from_utf8(output.stdout).unwrap()
}

/// The first limit of the address space under which the run can be verified leaves no room to see
/// all tensors of a step; that is told before the training.
#[cfg(target_os = "linux")]
#[test]
fn a_step_that_does_not_fit_is_refused_before_the_training() {
    let bench = Bench::new();
    bench.ok("train --data . --epochs 1 --batch-size 256 --validation 40 --lr 0.02 --out run");
    let limited = |megabytes: usize, command: &str| {
        let program = env!("CARGO_BIN_EXE_cifar-engine");
        let script =
            format!("ulimit -v {}; exec {program} {command} --device cpu --threads 1", megabytes << 10);
        let mut shell = Command::new("sh");
        shell.current_dir(bench.dir.path()).env("CIFAR_ENGINE_OFFLINE", "1").args(["-c", &script]);
        shell.output().unwrap()
    };
    let enough = (200..4000).step_by(50).find(|&limit| limited(limit, "verify run").status.success());
    let output = limited(enough.unwrap(), "replay run --epoch 1 --step 1");
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.contains("error: all tensors of a step at once need"), "{message}");
    assert!(!bench.path("replay.html").exists());
}
