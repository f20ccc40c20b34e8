//! `--device`, `devices` and `doctor` from outside.

use std::process::{Command, Output};

use serde_json::Value;

/// A graphics interface that this system does not have.
const FOREIGN: &str = if cfg!(windows) { "metal" } else { "dx12" };

fn run(command: &str, variables: &[(&str, &str)]) -> Output {
    let mut program = Command::new(env!("CARGO_BIN_EXE_cifar-engine"));
    program.args(command.split_whitespace()).env_remove("CIFAR_ENGINE_DEVICE");
    program.envs(variables.iter().copied()).output().unwrap()
}

fn ok(command: &str, variables: &[(&str, &str)]) -> String {
    let output = run(command, variables);
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn fails(code: i32, command: &str, variables: &[(&str, &str)], part: &str) {
    let output = run(command, variables);
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{command}: {message}");
    assert!(message.contains(part) && !message.contains("panicked"), "{command}: {message}");
}

#[test]
fn without_a_graphics_library_there_is_the_cpu() {
    let none = [("WGPU_BACKEND", FOREIGN)];
    let devices: Value = serde_json::from_str(&ok("devices --json", &none)).unwrap();
    assert_eq!((&devices["auto"], devices["gpus"].as_array().unwrap().len()), (&"cpu".into(), 0));
    assert!(ok("devices", &none).contains("gpu: none"));
    let bench = "bench --batch-size 1 --steps 1 --mode infer --json --device";
    let result: Value = serde_json::from_str(&ok(&format!("{bench} auto"), &none)).unwrap();
    assert_eq!(result["device"], "cpu");
    for device in ["gpu", "gpu:anything", "gpu:0"] {
        fails(1, &format!("{bench} {device}"), &none, "found: none at all");
    }
    if cfg!(target_os = "linux") {
        let hint = "WGPU_BACKEND allows dx12 only";
        assert!(ok("devices", &none).contains(&format!("\nhint: {hint}")));
        assert!(devices["hints"][0].as_str().unwrap().starts_with(hint));
        assert!(ok("doctor --op relu", &none).contains(&format!("\nno GPU:   {hint}")));
        fails(1, &format!("{bench} gpu"), &none, hint);
        for variable in ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"] {
            let hint = format!("{variable} names no driver's file that is there (/none.json)");
            fails(1, &format!("{bench} gpu"), &[(variable, "/none.json")], &hint);
        }
    }
}

#[test]
fn what_is_asked_for_and_not_there_is_an_error() {
    let bench = "bench --batch-size 1 --steps 1 --mode infer --device";
    fails(1, &format!("{bench} gpu:no-such-gpu"), &[], "no GPU whose name contains 'no-such-gpu'");
    fails(1, &format!("{bench} gpu"), &[("WGPU_ADAPTER_NAME", "no-such-gpu")], "no GPU whose name contains");
    fails(2, &format!("{bench} cuda"), &[], "auto, cpu, gpu, gpu:INDEX or gpu:NAME");
    fails(2, bench.strip_suffix(" --device").unwrap(), &[("CIFAR_ENGINE_DEVICE", "cuda")], "gpu:NAME");
}

/// Every GPU can be named by its number, which `devices` shows.
#[test]
fn a_gpu_is_taken_by_its_number() {
    let devices: Value = serde_json::from_str(&ok("devices --json", &[])).unwrap();
    let gpus = devices["gpus"].as_array().unwrap();
    let bench = "bench --batch-size 1 --steps 1 --mode infer --json --device";
    for (index, gpu) in gpus.iter().enumerate() {
        assert_eq!(gpu["index"], index);
        let name = gpu["name"].as_str().unwrap();
        assert!(ok("devices", &[]).contains(&format!("\ngpu:{index}: {name}: ")));
        let result: Value = serde_json::from_str(&ok(&format!("{bench} gpu:{index}"), &[])).unwrap();
        assert_eq!((&result["adapter"], &result["driver"]), (&gpu["name"], &gpu["driver"]));
    }
    let beyond = gpus.len();
    fails(1, &format!("{bench} gpu:{beyond}"), &[], &format!("there is no GPU {beyond} (found: "));
}

/// What wgpu warns of: here of a driver whose library is not there.
#[test]
fn warnings_of_wgpu_are_details() {
    let devices: Value = serde_json::from_str(&ok("devices --json", &[])).unwrap();
    let by_vulkan = |gpu: &Value| gpu["interface"] == "vulkan";
    if !cfg!(target_os = "linux") || !devices["gpus"].as_array().unwrap().iter().any(by_vulkan) {
        return println!("there is no GPU by Vulkan, or its loader is another");
    }
    let folder = tempfile::tempdir().unwrap();
    let driver = folder.path().join("icd.json");
    let text =
        r#"{"file_format_version": "1.0.0", "ICD": {"library_path": "/gone.so", "api_version": "1.1.0"}}"#;
    std::fs::write(&driver, text).unwrap();
    let broken = [("WGPU_DEBUG", "1"), ("VK_ICD_FILENAMES", driver.to_str().unwrap())];
    let heard = |command: &str| String::from_utf8(run(command, &broken).stderr).unwrap();
    let details = heard("devices --verbose");
    let is_warning = |line: &&str| line.starts_with("wgpu_hal: ") && line.contains("/gone.so");
    // It is looked for several times.
    assert!((1..=6).contains(&details.lines().filter(is_warning).count()), "{details}");
    assert!(!heard("devices").contains("gone.so"));
}

/// `auto` takes no software adapter; `gpu` takes one, and warns.
#[test]
fn a_software_gpu_is_taken_only_when_asked_for() {
    let devices: Value = serde_json::from_str(&ok("devices --json", &[])).unwrap();
    let gpus = devices["gpus"].as_array().unwrap();
    let real = gpus.iter().find(|gpu| gpu["kind"] != "software");
    assert_eq!(real.is_some(), devices["auto"] != "cpu", "{devices}");
    let Some(software) = gpus.iter().find(|gpu| gpu["kind"] == "software") else {
        return println!("there is no software GPU");
    };
    let name = software["name"].as_str().unwrap();
    let bench = "bench --batch-size 1 --steps 1 --mode infer --json --device";
    let only_it = [("WGPU_ADAPTER_NAME", name)];
    let device = |output: &Output| serde_json::from_slice::<Value>(&output.stdout).unwrap()["device"].clone();
    assert_eq!(device(&run(&format!("{bench} auto"), &only_it)), "cpu");
    let output = run(&format!("{bench} gpu"), &only_it);
    assert_eq!(device(&output), "gpu");
    assert!(String::from_utf8_lossy(&output.stderr).contains("is a software renderer, not a GPU"));
}

#[test]
fn the_doctor_finds_the_cpu_in_order() {
    let cache = tempfile::tempdir().unwrap();
    let report = ok("doctor --device cpu", &[("CIFAR_ENGINE_CACHE", cache.path().to_str().unwrap())]);
    assert!(!cfg!(unix) || report.contains(" free on its disk\n"), "{report}");
    assert!(report.contains("conv2d_weight_grad") && !report.contains("WRONG"), "{report}");
    assert!(report.lines().last().unwrap().starts_with("all "), "{report}");
    let some = ok("doctor --device cpu --op matmul --op conv2d --json", &[]);
    let some: serde_json::Value = serde_json::from_str(&some).unwrap();
    assert!(some["right"] == true && some["device"] == "cpu", "{some}");
    let ops: Vec<&String> = some["ops"].as_object().unwrap().keys().collect();
    assert_eq!(ops, ["conv2d", "matmul"]);
    let largest = some["ops"]["matmul"]["largest"].as_f64().unwrap();
    assert!(largest > 0.0 && largest < 2e-5 && some["ops"]["matmul"]["cases"].as_u64() > Some(5), "{some}");
    fails(2, "doctor --op matmull", &[], "did you mean 'matmul'?");
    let quick = ok("doctor --device cpu --op matmul --quick", &[]);
    assert!(quick.lines().any(|line| line.starts_with("--quick left out ")), "{quick}");
    let quick: Value =
        serde_json::from_str(&ok("doctor --device cpu --op matmul --quick --json", &[])).unwrap();
    let cases = |result: &Value| result["ops"]["matmul"]["cases"].as_u64().unwrap();
    assert_eq!(cases(&quick) + quick["left_out_cases"].as_u64().unwrap(), cases(&some));
    assert!(cases(&quick) > 0 && cases(&quick) < cases(&some), "{quick}");
}

#[test]
fn a_batch_beyond_the_memory_is_refused_with_one_that_fits() {
    fails(1, "bench --device cpu --batch-size 20000000", &[], "the largest batch that fits is about");
}
