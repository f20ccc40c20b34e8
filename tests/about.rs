//! Names, tags and notes of runs: kept as they were given, shown where runs are, and no part of
//! what is trained.

mod common;

use std::fs;
use std::process::Command;

use common::program::{Bench, json};
use serde_json::Value;

const TRAIN: &str = "train --data . --epochs 1 --batch-size 64 --validation 40 --isa portable";

const NAME: &str = "\"quoted\" 'name' \u{1f431} <b>&amp;</b> = [x]";
const TAGS: [&str; 3] = ["a,b", "=SUM(A1)", "\u{e9}\u{1f600}"];
const NOTE: &str = "first line\nsecond \"line\"\t''' \\n\n\"\"\" </dl><script>alert(1)</script> \u{202e}";

/// A training with options that have spaces in them.
fn train(bench: &Bench, command: &str, more: &[&str]) -> std::process::Output {
    let mut program = Command::new(env!("CARGO_BIN_EXE_cifar-engine"));
    program.current_dir(bench.dir.path()).args(command.split_whitespace()).args(more);
    program.env("CIFAR_ENGINE_OFFLINE", "1").env("CIFAR_ENGINE_DEVICE", "cpu").output().unwrap()
}

fn compared(bench: &Bench, arguments: &str) -> Value {
    json(&bench.ok(&format!("compare {arguments} --json")))
}

#[test]
fn what_is_said_about_a_run_is_kept_and_shown() {
    let bench = Bench::new();
    let tags = TAGS.iter().flat_map(|tag| ["--tag", tag]);
    let options: Vec<&str> = ["--name", NAME, "--note", NOTE].into_iter().chain(tags).collect();
    let odd = train(&bench, &format!("{TRAIN} --out odd --json"), &options);
    assert!(odd.status.success(), "{}", String::from_utf8_lossy(&odd.stderr));
    let result = json(&String::from_utf8(odd.stdout).unwrap());
    let shown = |value: &Value| {
        assert_eq!((value["name"].as_str(), value["note"].as_str()), (Some(NAME), Some(NOTE)));
        assert!(value["tags"].as_array().unwrap().iter().eq(TAGS.iter()), "{value}");
    };
    shown(&result);
    bench.ok(&format!("{TRAIN} --out plain"));
    let list = compared(&bench, "odd plain");
    shown(&list[0]);
    assert_eq!((&list[1]["name"], &list[1]["tags"]), (&Value::Null, &json("[]")));
    assert_eq!(list[0]["finished"], true);

    let page = fs::read_to_string(bench.path("odd/report.html")).unwrap();
    let [name, note] = [NAME, NOTE].map(|text| {
        text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
    });
    assert!(page.contains(&format!("<dd>{name}")) && page.contains(&note[..20]), "no name in the page");
    assert!(!page.contains("<script>alert"), "a note is text");

    // Both are the same training.
    let weights = |run: &str| fs::read(bench.path(run).join("best.safetensors")).unwrap();
    assert!(weights("odd") == weights("plain"));

    let table = bench.ok("compare odd plain");
    let lines: Vec<&str> = table.lines().collect();
    assert!(table.contains("name") && table.contains("tags") && table.contains("\u{1f431}"), "{table}");
    assert!(lines.iter().all(|line| !line.contains("alert")), "notes are too long for a table: {table}");
    let table = bench.ok("compare plain");
    assert!(!table.contains("tags"), "nothing to show: {table}");
}

#[test]
fn a_run_that_goes_on_keeps_what_is_said_and_may_be_told_anew() {
    let bench = Bench::new();
    let begin = format!("{TRAIN} --schedule constant --out run");
    assert!(train(&bench, &begin, &["--name", "one", "--tag", "x", "--note", "n"]).status.success());
    let about = || {
        let run = &compared(&bench, "run")[0];
        json(&serde_json::json!([run["name"], run["tags"], run["note"]]).to_string())
    };
    let expected = |text: &str| json(text);
    assert_eq!(about(), expected(r#"["one", ["x"], "n"]"#));
    bench.ok("resume run --epochs 2");
    assert_eq!(about(), expected(r#"["one", ["x"], "n"]"#));
    let again = "train --resume run --epochs 3";
    assert!(train(&bench, again, &["--tag", "y", "--tag", "z", "--note", ""]).status.success());
    assert_eq!(about(), expected(r#"["one", ["y", "z"], null]"#));
    assert!(train(&bench, "resume run --epochs 4", &["--name", "two"]).status.success());
    assert_eq!(about(), expected(r#"["two", ["y", "z"], null]"#));
    // Another run by its settings is another run.
    bench.ok("train --config run/settings.toml --epochs 1 --out other");
    assert!(!bench.path("other/about.toml").exists());

    let tagged = |tags: &str| compared(&bench, &format!("run other {tags}")).as_array().unwrap().len();
    assert_eq!((tagged("--tag y"), tagged("--tag y --tag z"), tagged("")), (1, 1, 2));
    bench.fails(1, "compare run other --tag nothing", &["none of 2 runs has the tag nothing"]);

    fs::write(bench.path("run/about.toml"), "name = 3\n").unwrap();
    bench.fails(1, "compare run", &["run/about.toml: line 1", "delete it to have the run without"]);
}

#[test]
fn what_cannot_be_shown_is_refused_before_the_training() {
    let bench = Bench::new();
    for (option, text, part) in [
        ("--name", "a\nb", "--name has the character \\n"),
        ("--tag", "a\u{1b}[2Jb", "--tag has the character"),
        ("--name", &"x".repeat(201), "--name has 201 characters, and may have 200"),
        ("--note", &"x".repeat(10_001), "--note has 10001 characters"),
    ] {
        let output = train(&bench, &format!("{TRAIN} --out run"), &[option, text]);
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{message}");
        assert!(message.contains(part) && !bench.path("run").exists(), "{message}");
    }
}
