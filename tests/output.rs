//! What the program says: tables whose columns hold, help, completions, and results that are none.

mod common;

use std::process::Command;

use cifar_engine::models::MODELS;
use common::program::{Bench, json};

const BUILT_IN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/weights/fast-cifar10.safetensors");
const COMMANDS: [&str; 14] = [
    "train",
    "resume",
    "finetune",
    "evaluate",
    "predict",
    "lr-find",
    "compare",
    "summary",
    "plan",
    "export",
    "bench",
    "completions",
    "devices",
    "doctor",
];

#[test]
fn the_columns_of_a_summary_hold_for_long_names() {
    let bench = Bench::new();
    for model in ["cnn", "mobilenet-v1", "mobilenet-v2"] {
        let text = bench.ok(&format!("summary {model} --batch-size 4"));
        let rows: Vec<&str> = text.lines().skip(1).take_while(|line| !line.is_empty()).collect();
        assert!(rows[0].starts_with("layer ") && rows.last().unwrap().starts_with("total "), "{text}");
        for title in ["kind", "kernel", "output"] {
            let at = rows[0].find(title).unwrap();
            assert!(rows.iter().all(|row| row.get(at - 2..at) == Some("  ")), "{title}: {text}");
        }
        assert!(rows.iter().all(|row| row.chars().count() <= 80), "{text}");
    }
}

#[test]
fn a_summary_is_of_a_model_of_weights_or_of_a_run() {
    let bench = Bench::new();
    let fast = json(&bench.ok("summary fast --json"));
    let of_weights = json(&bench.ok(&format!("summary {BUILT_IN} --json")));
    assert_eq!(fast, of_weights);
    let sum = |key: &str| {
        fast["layers"].as_array().unwrap().iter().map(|layer| layer[key].as_u64().unwrap()).sum::<u64>()
    };
    let all = fast["trained_parameters"].as_u64().unwrap() + fast["running_statistics"].as_u64().unwrap();
    assert_eq!(sum("parameters"), all);
    assert_eq!(fast["layers"][0]["kernel"], 2);
    std::fs::create_dir(bench.path("run")).unwrap();
    std::fs::copy(BUILT_IN, bench.path("run/best.safetensors")).unwrap();
    assert_eq!(json(&bench.ok("summary run --json")), fast);
    // Models have the size that they are trained at.
    assert_eq!(json(&bench.ok("summary mobilenet-v1 --json --batch-size 1"))["image_size"], 96);
    std::fs::remove_file(bench.path("run/best.safetensors")).unwrap();
    for command in ["summary run", "evaluate run"] {
        bench.fails(1, command, &["run: holds no best.safetensors; name a run folder or"]);
    }
    std::fs::copy(BUILT_IN, bench.path("run/best.safetensors")).unwrap();
    bench.fails(2, "summary resnet", &["resnet", "the models are: cnn, fast, accurate, mobilenet-v1"]);
    bench.fails(2, "summary run --classes 3", &["--classes"]);
}

#[test]
fn a_profile_is_printed_as_json_too() {
    let bench = Bench::new();
    let command = "bench --batch-size 2 --steps 1 --mode infer --profile";
    let result = json(&bench.ok(&format!("{command} --json")));
    let steps = result["profile"]["steps"].as_array().unwrap();
    assert!(steps.iter().all(|step| step["ms"].as_f64().unwrap() >= 0.0) && steps.len() > 3, "{result}");
    assert!(steps.iter().all(|step| step["op"] != "augment"), "inference augments nothing: {result}");
    let text = bench.ok(command);
    assert!(text.contains("of peak") && text.contains("unprofiled step"), "{text}");
}

#[test]
fn a_search_without_a_suggestion_is_an_error() {
    let bench = Bench::new();
    let command = "lr-find --data . --batch-size 32 --steps 10 --from 1e-12 --to 2e-12 --json";
    assert_eq!(bench.run(command).stdout, b"");
    bench.fails(1, command, &["no learning rate lowered the loss", "--steps 200", "lr-find.png"]);
    assert!(bench.path("lr-find.png").exists(), "the image shows why");
    let search = "lr-find --data . --batch-size 32 --steps 10 --out";
    std::fs::write(bench.path("metrics.csv"), "of a run").unwrap();
    bench.fails(2, &format!("{search} metrics.png"), &["metrics.csv", "would be lost"]);
    bench.fails(1, &format!("{search} new/lr.png"), &["new", "create it first"]);
    bench.fails(1, &format!("{search} lr.csv"), &["lr.csv", ".png"]);
}

#[cfg(target_os = "linux")]
#[test]
fn results_and_help_that_cannot_be_written_are_an_error() {
    for arguments in ["--help", "--version", "train --help", "help train", "completions bash"] {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let mut program = Command::new(env!("CARGO_BIN_EXE_cifar-engine"));
        let output = program.args(arguments.split(' ')).stdout(full).output().unwrap();
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments}: {message}");
        assert!(message.starts_with("error: standard output: cannot be written: "), "{message}");
    }
}

#[cfg(unix)]
#[test]
fn a_refused_value_of_a_variable_names_the_variable() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    for (name, value) in [
        ("CIFAR_ENGINE_LR", &b"x"[..]),
        ("CIFAR_ENGINE_LR", b"\xff"),
        ("CIFAR_ENGINE_TEST_FLIP", b"maybe"),
        ("CIFAR_ENGINE_MODEL", b"resnet"),
        // What is read well, and refused by its checks.
        ("CIFAR_ENGINE_LR", b"-3"),
        ("CIFAR_ENGINE_EPOCHS", b"0"),
        ("CIFAR_ENGINE_AUGMENT", b"flip,shift=32"),
        ("CIFAR_ENGINE_ISA", b"sse"),
    ] {
        let mut program = Command::new(env!("CARGO_BIN_EXE_cifar-engine"));
        let output =
            program.args(["train", "--data", "shapes"]).env(name, OsStr::from_bytes(value)).output().unwrap();
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{name}: {message}");
        assert!(message.ends_with(&format!("The value is that of the variable {name}.\n")), "{message}");
    }
    let program = Command::new(env!("CARGO_BIN_EXE_cifar-engine")).args(["train", "--lr", "x"]).output();
    assert!(!String::from_utf8(program.unwrap().stderr).unwrap().contains("variable"));
}

#[test]
fn help_has_headings_and_examples_fit_80_columns() {
    let bench = Bench::new();
    for command in COMMANDS {
        let text = bench.ok(&format!("{command} --help"));
        assert!(text.contains("\nOutput:\n"), "{command} has no headings: {text}");
        let after = text.split_once("\nExamples:\n").unwrap().1;
        let wide: Vec<&str> = after.lines().filter(|line| line.chars().count() > 80).collect();
        assert!(wide.is_empty(), "{command}: {wide:?}");
    }
    let text = bench.ok("lr-find --help");
    let (search, _) = text.split_once("\nExamples:\n").unwrap();
    for idle in ["--epochs", "--early-stop", "--test-flip", "--lr "] {
        assert!(!search.contains(idle), "lr-find does not heed {idle}");
    }
    assert!(search.contains("a tenth"), "lr-find does not say what it suggests");
}

#[test]
fn verbose_says_what_is_done_and_quiet_says_nothing() {
    let bench = Bench::new();
    let command = "train --data . --epochs 1 --batch-size 32 --validation 40 --out";
    let verbose = String::from_utf8(bench.run(&format!("{command} loud -v")).stderr).unwrap();
    for part in [
        "instruction sets of this processor",
        "plan of a training step",
        "written: loud/best.safetensors",
        "seed: 0",
        "read: loud/best.safetensors",
    ] {
        assert!(verbose.contains(part), "{part}: {verbose}");
    }
    // So short a training may end at chance, and a warning is said all the same.
    let quiet = String::from_utf8(bench.run(&format!("{command} still -q")).stderr).unwrap();
    assert!(quiet.lines().all(|line| line.starts_with("warning: ")), "{quiet}");
}

/// In a shell that completes as a user's does.
#[test]
fn every_command_has_a_manual_page() {
    let bench = Bench::new();
    let page = bench.ok("man");
    assert!(page.contains(".TH CIFAR-ENGINE 1") && page.contains("cifar\\-engine\\-train(1)"), "{page}");
    assert_eq!(bench.ok("man --out pages/man1"), "pages/man1: 23 pages\n");
    let pages = std::fs::read_dir(bench.path("pages/man1")).unwrap();
    assert_eq!(pages.count(), 1 + bench.ok("--help").lines().filter(|line| is_command(line)).count());
    let page = std::fs::read_to_string(bench.path("pages/man1/cifar-engine-lr-find.1")).unwrap();
    assert!(page.contains(".TH CIFAR-ENGINE-LR-FIND 1"), "{page}");
    assert!(page.contains("\\-\\-steps") && !page.contains("\\-\\-epochs"), "{page}");
    std::fs::write(bench.path("file"), "").unwrap();
    bench.fails(1, "man --out file", &["file", "folder"]);
}

/// Whether a line of the help describes a command that is not `help`.
fn is_command(line: &str) -> bool {
    line.strip_prefix("  ").is_some_and(|line| line.starts_with(char::is_lowercase))
        && !line.starts_with("  help")
}

#[test]
fn completions_know_the_values() {
    let bench = Bench::new();
    let script = bench.path("complete.bash");
    std::fs::write(&script, bench.ok("completions bash")).unwrap();
    let complete = |words: &str| -> Option<String> {
        let line = format!(
            "source {}; COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); \
             _cifar__engine cifar-engine \"${{COMP_WORDS[COMP_CWORD]}}\" \"${{COMP_WORDS[COMP_CWORD-1]}}\"; \
             echo \"${{COMPREPLY[@]}}\"",
            script.display()
        );
        let output = Command::new("bash").args(["-c", &line]).output().ok()?;
        Some(String::from_utf8(output.stdout).unwrap().trim().to_string())
    };
    let Some(models) = complete("cifar-engine train --model ''") else {
        return println!("there is no bash");
    };
    let known: Vec<&str> = MODELS.iter().map(|model| model.name).collect();
    assert_eq!(models, known.join(" "));
    for (words, value) in [
        ("train --optimizer ''", "keras-adam"),
        ("train --device ''", "auto cpu gpu"),
        ("bench --isa ''", "portable"),
        ("bench --model m", "mobilenet-v1 mobilenet-v2"),
        ("summary ''", "mobilenet-v2"),
        ("compare --sort ''", "accuracy"),
    ] {
        let found = complete(&format!("cifar-engine {words}")).unwrap();
        assert!(found.contains(value), "{words}: {found}");
    }
}
