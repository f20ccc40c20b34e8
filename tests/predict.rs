//! `predict` from outside: every kind of input and every format of output.

mod common;

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use cifar_engine::data::shapes;
use common::program::{Bench, json};
use image::{ExtendedColorType, ImageEncoder, codecs::png::PngEncoder};

/// A folder with two good images, one of them in a folder below, and a bad one.
fn album(bench: &Bench) {
    fs::create_dir_all(bench.path("album/deep,er")).unwrap();
    let images = shapes::sized(0, 2, 40, 0).unwrap().test;
    for (i, name) in ["album/a.png", "album/deep,er/b \"x\".png"].iter().enumerate() {
        let mut bytes = Vec::new();
        PngEncoder::new(&mut bytes)
            .write_image(&images.image(i).unwrap(), 40, 40, ExtendedColorType::Rgb8)
            .unwrap();
        fs::write(bench.path(name), bytes).unwrap();
    }
    fs::write(bench.path("album/bad.jpg"), "<html>").unwrap();
    fs::write(bench.path("album/notes.txt"), "no image").unwrap();
}

#[test]
fn the_built_in_weights_name_a_folder_of_images_in_every_format() {
    let bench = Bench::new();
    album(&bench);
    bench.fails(1, "predict album", &["album/bad.jpg", "none of PNG, JPEG", "; --skip-bad leaves out"]);
    let output = bench.run("predict album --skip-bad --format jsonl");
    let warning = String::from_utf8(output.stderr).unwrap();
    assert!(warning.contains("weights: built-in weights (fast on cifar10)"), "{warning}");
    assert!(warning.contains("warning: left out album/bad.jpg: none of"), "{warning}");
    let lines: Vec<_> = String::from_utf8(output.stdout).unwrap().lines().map(json).collect();
    let names: Vec<_> = lines.iter().map(|line| line["image"].as_str().unwrap()).collect();
    assert_eq!(names, ["album/a.png", "album/deep,er/b \"x\".png"]);

    let list = json(&bench.ok("predict album --skip-bad --json -q"));
    assert_eq!(list.as_array().unwrap(), &lines);
    let top = &lines[1]["predictions"][0];
    assert_eq!((&lines[1]["weights"], &lines[1]["model"]), (&"built-in weights".into(), &"fast".into()));
    let first = json(&bench.ok("predict album --skip-bad --json -q --top 1"));
    assert_eq!(first[1]["predictions"], serde_json::json!([top]));
    bench.fails(2, "predict album --top 0", &["at least 1"]);
    let csv = bench.ok("predict album --skip-bad --format csv -q");
    let rows: Vec<&str> = csv.lines().collect();
    assert!(rows[0].starts_with("image,class_1,probability_1,class_2"), "{csv}");
    let class = top["class"].as_str().unwrap();
    assert!(rows[2].starts_with(&format!("\"album/deep,er/b \"\"x\"\".png\",{class},0.")), "{csv}");
    assert_eq!(rows[2].split(class).count(), 2);
    let text = bench.ok("predict album/a.png -q");
    assert_eq!(text.lines().count(), 6);

    fs::create_dir(bench.path("empty")).unwrap();
    bench.fails(1, "predict empty", &["empty", "holds no"]);
}

#[test]
fn a_image_comes_from_standard_input() {
    let bench = Bench::new();
    album(&bench);
    let predict = |bytes: &[u8]| {
        let mut program = Command::new(env!("CARGO_BIN_EXE_cifar-engine"));
        program.current_dir(bench.dir.path()).args(["predict", "-", "--json", "-q"]);
        let mut child =
            program.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(bytes).unwrap();
        child.wait_with_output().unwrap()
    };
    let output = predict(&fs::read(bench.path("album/a.png")).unwrap());
    let (piped, named) =
        (json(&String::from_utf8(output.stdout).unwrap()), bench.ok("predict album/a.png --json -q"));
    assert_eq!(piped[0]["image"], "-");
    assert_eq!(piped[0]["predictions"], json(&named)[0]["predictions"]);
    let output = predict(b"");
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(
        output.status.code() == Some(1) && message.contains("standard input: empty, of no bytes"),
        "{message}"
    );
}

#[test]
fn predictions_do_not_depend_on_how_many_there_are() {
    let bench = Bench::new();
    fs::create_dir(bench.path("many")).unwrap();
    let images = shapes::sized(0, 131, 32, 3).unwrap().test;
    for i in 0..131 {
        let mut bytes = Vec::new();
        PngEncoder::new(&mut bytes)
            .write_image(&images.image(i).unwrap(), 32, 32, ExtendedColorType::Rgb8)
            .unwrap();
        fs::write(bench.path("many").join(format!("{i:03}.png")), bytes).unwrap();
    }
    // More than fit into one batch: the last three are in a batch of their own.
    let all = json(&bench.ok("predict many --json -q"));
    assert_eq!(all.as_array().unwrap().len(), 131);
    for i in [0, 127, 128, 130] {
        let one = json(&bench.ok(&format!("predict many/{i:03}.png --json -q")));
        assert_eq!(one[0]["predictions"][0]["class"], all[i]["predictions"][0]["class"]);
        let of = |list: &serde_json::Value| list["predictions"][0]["probability"].as_f64().unwrap();
        assert!((of(&one[0]) - of(&all[i])).abs() < 1e-5);
    }
    let plain = json(&bench.ok("predict many/000.png --json -q --test-flip=false"));
    assert_ne!(plain[0], all[0], "the mirror image made no difference");
    bench.fails(2, "predict many --data .", &[]);
    bench.fails(1, "predict many --weights runs/none.safetensors", &["runs/none.safetensors"]);
}

#[test]
fn label_files_are_read_as_people_write_them() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("labels.txt");
    let read = |text: &str| {
        fs::write(&path, text).unwrap();
        cifar_engine::data::read_class_names(&path, 3).map_err(|error| error.to_string())
    };
    for text in [
        "a\nb\nc",
        "a\nb\nc\n\n",
        "\n\na\nb\nc\n",
        "\u{feff}a\r\nb\r\nc\r\n",
        "background\na\nb\nc",
        "a \n b\nc\n \n",
    ] {
        assert_eq!(read(text).unwrap(), ["a", "b", "c"], "{text:?}");
    }
    for (text, expected) in [
        ("a\nb\n", "has 2 names, but the model has 3"),
        ("x\na\nb\nc", "has 4 names, but the model has 3"),
        ("a\n\nb\nc", "there is an empty line after name 1"),
        ("", "has 0 names"),
    ] {
        let error = read(text).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn blank_variables_choose_nothing() {
    let bench = Bench::new();
    for value in ["", " "] {
        let mut program = std::process::Command::new(env!("CARGO_BIN_EXE_cifar-engine"));
        program.current_dir(bench.dir.path()).env("CIFAR_ENGINE_OFFLINE", "1").env("WGPU_BACKEND", value);
        for name in ["DEVICE", "WEIGHTS", "ISA", "MODEL", "EPOCHS", "TEST_FLIP", "DATA"] {
            program.env(format!("CIFAR_ENGINE_{name}"), value);
        }
        let output = program.args(["summary", "cnn", "--device", "cpu"]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let output = program.args(["--isa", "portable"]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

/// Graphics drivers complain there while they are looked for: Mesa's about XDG_RUNTIME_DIR, twice.
#[test]
fn a_quiet_prediction_says_nothing_on_standard_error() {
    let bench = Bench::new();
    let mut program = Command::new(env!("CARGO_BIN_EXE_cifar-engine"));
    program.current_dir(bench.dir.path()).env("CIFAR_ENGINE_OFFLINE", "1").env_remove("XDG_RUNTIME_DIR");
    program.env_remove("CIFAR_ENGINE_DEVICE");
    let command = "predict --sample 0 --data . --weights builtin --device auto --quiet";
    let output = program.args(command.split_whitespace()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}");
}
