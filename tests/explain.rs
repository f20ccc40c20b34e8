//! What `explain` tells of the ops: every op has an explanation, every place that it names is
//! there, and its error is that of `doctor`.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use cifar_engine::inspect::explain::Explanation;
use cifar_engine::inspect::explain::source::{Code, OpSource, Place};
use cifar_engine::selftest::cases;
use common::program::{Bench, json};
use serde_json::Value as Json;

/// What is wrong with a place, read from the repository itself.
fn fault(place: &Place) -> Option<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(&place.file);
    let Ok(text) = fs::read_to_string(path) else { return Some(format!("there is no {}", place.file)) };
    let line = text.lines().nth(place.line - 1);
    let is_there = line.is_some_and(|line| line.contains(&place.name));
    (!is_there).then(|| format!("{}:{} has no '{}'", place.file, place.line, place.name))
}

/// What is wrong with a piece of source: a place, or lines that stand elsewhere.
fn fault_of_code(code: &Code) -> Option<String> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(&code.place.file)).ok()?;
    let trimmed = |text: &str| text.lines().map(str::trim).collect::<Vec<_>>().join("\n");
    let is_there = trimmed(&text).contains(&trimmed(&code.text));
    let wrong = || format!("{} is not: {}", code.place, code.text);
    fault(&code.place).or_else(|| (!is_there || code.text.lines().count() < 2).then(wrong))
}

/// All that is wrong with an explanation.
fn faults(told: &Explanation) -> Vec<String> {
    let mut faults: Vec<String> = fault(&told.definition).into_iter().collect();
    for (name, list) in [("shapes", &told.shapes), ("reference", &told.reference), ("cpu", &told.cpu)] {
        if list.is_empty() {
            faults.push(format!("nothing is said of {name}"));
        }
    }
    let codes = [&told.shapes, &told.gradient, &told.reference, &told.cpu].into_iter().flatten();
    faults.extend(codes.chain(&told.function).filter_map(fault_of_code));
    let entries = told.example.launches.iter().flat_map(|launch| &launch.entry).chain(&told.shaders);
    faults.extend(entries.filter_map(|entry| fault(&entry.place)));
    if told.example.launches.iter().any(|launch| launch.entry.is_none()) {
        faults.push("a launch begins nowhere".into());
    }
    let missing = |file: &&String| !Path::new(env!("CARGO_MANIFEST_DIR")).join(file).is_file();
    faults.extend(told.kernels.iter().filter(missing).map(|file| format!("there is no {file}")));
    if [&told.formula, &told.operands, &told.example.settings].iter().any(|text| text.trim().is_empty()) {
        faults.push("something is not explained".into());
    }
    if told.gradient.is_empty() && !told.gradient_ops.is_empty() {
        faults.push("a gradient without a rule".into());
    }
    faults
}

#[test]
fn every_op_is_explained_and_every_place_is_there() {
    let explained = Explanation::all().unwrap();
    for told in &explained {
        assert_eq!(faults(told), [""; 0], "{}", told.op);
        assert!(!told.summary().is_empty() && !told.summary().contains('\n'), "{}", told.op);
    }
    let names: BTreeSet<&str> = explained.iter().map(|told| told.op.as_str()).collect();
    assert_eq!(names, cases::all().iter().map(|case| case.op.name()).collect());
    // What shows only where an op's source is followed further.
    let of = |name: &str| explained.iter().find(|told| told.op == name).unwrap();
    let conv = of("conv2d");
    assert!(conv.formula.contains("`y[n, p, q, o] = sum"), "{}", conv.formula);
    assert_eq!(conv.gradient_ops, ["conv2d_input_grad", "conv2d_weight_grad", "sum_rows"]);
    assert!(conv.reference.iter().any(|code| code.place.file == "src/ops/conv/reference.rs"));
    assert!(conv.kernels.iter().any(|file| file == "src/kernels/winograd/mod.rs"), "{:?}", conv.kernels);
    assert!(conv.shaders.iter().any(|entry| entry.shader == "conv2d"), "{:?}", conv.shaders);
    assert_eq!(of("relu").summary(), "`max(x, 0)`");
    assert!(of("sgd").gradient.is_empty() && of("sgd").gradient_ops.is_empty());
}

#[test]
fn a_wrong_explanation_is_seen() {
    let right = Explanation::all().unwrap().remove(0);
    let planted = |plant: fn(&mut Explanation)| {
        let mut wrong = right.clone();
        plant(&mut wrong);
        faults(&wrong)
    };
    assert_eq!(faults(&right), [""; 0]);
    assert!(planted(|told| told.definition.line += 1)[0].contains("has no 'Unary'"));
    assert!(planted(|told| told.shaders[0].place.line = 1)[0].contains("has no 'fn main'"));
    assert!(planted(|told| told.shaders[0].place.file = "shaders/no.wgsl".into())[0].contains("there is no"));
    assert!(planted(|told| told.reference[0].text.push('!'))[0].contains("is not"));
    assert!(planted(|told| told.cpu.clear())[0].contains("nothing is said of cpu"));
    assert!(planted(|told| told.formula.clear())[0].contains("not explained"));
    assert!(planted(|told| told.kernels.push("src/kernels/no.rs".into()))[0].contains("there is no"));
    assert!(OpSource::of("another_program::ops::mine::Op").is_none());
    assert!(OpSource::of("cifar_engine::ops::map::nothing::Op").is_none());
}

#[test]
fn the_error_is_that_of_doctor() {
    let bench = Bench::new();
    let doctor = bench.ok("doctor --threads 2");
    let book = json(&bench.ok("explain --json --threads 2"));
    let ops = book["ops"].as_array().unwrap();
    assert_eq!(ops.len(), Explanation::all().unwrap().len());
    for op in ops {
        let name = op["op"].as_str().unwrap();
        let line = doctor.lines().find(|line| line.split_whitespace().next() == Some(name)).unwrap();
        let (cases, largest) = (&op["error"]["cases"], op["error"]["largest"].as_f64().unwrap());
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(words[1..3], [cases.to_string(), format!("{largest:.1e}")], "{name}: {line}");
    }
    let matmul = ops.iter().find(|op| op["op"] == "matmul").unwrap();
    let uses = matmul["uses"].as_array().unwrap();
    let cnn = uses.iter().find(|of| of["model"] == "cnn" && of["plan"] == "prediction").unwrap();
    assert_eq!(cnn["layers"], Json::from(vec!["fc1", "fc2"]));
}

#[test]
fn the_program_explains_ops_and_layers() {
    let bench = Bench::new();
    let list = bench.ok("explain");
    assert!(list.lines().any(|line| line.starts_with("conv2d ") && line.contains("convolution")), "{list}");
    let text = bench.ok("explain matmul");
    for part in [
        "`y [m, n] = op(a) op(b) + bias`",
        "type       src/ops/linear/matmul.rs:",
        "FLOP a byte",
        "in models ",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(text.contains("ok\n") && text.contains("    fn reference("), "{text}");
    let measured = json(&bench.ok("explain conv2 --model cnn --measure --json"));
    let ops: Vec<&str> =
        measured["ops"].as_array().unwrap().iter().map(|op| op["op"].as_str().unwrap()).collect();
    assert!(ops.contains(&"conv2d") && ops.contains(&"conv2d_weight_grad"), "{ops:?}");
    let conv = measured["ops"].as_array().unwrap().iter().find(|op| op["op"] == "conv2d").unwrap();
    assert_eq!(conv["example"]["inputs"][0], "f32[32, 32, 32, 32]");
    let number = |key: &str| conv[key].as_f64().unwrap();
    let floor = (conv["example"]["flops"].as_f64().unwrap() / number("peak_flop_per_s"))
        .max(conv["example"]["bytes"].as_f64().unwrap() / number("peak_bytes_per_s"));
    assert!((floor * 1e3 - number("floor_ms")).abs() < 1e-9, "{conv}");
    // The statistics that a convolution of a CPU's plan gathers are none of a GPU's.
    assert!(bench.ok("explain conv2 --model cnn").contains("launch     none: only the rules of a CPU"));
    bench.fails(2, "explain con2d", &["there is no op 'con2d'; did you mean 'conv2d'?"]);
    bench.fails(2, "explain quite-something-else", &["there is no op", "the ops are: abs,"]);
    bench.fails(2, "explain conv9 --model cnn", &["cnn has no layer 'conv9'; did you mean 'conv"]);
    bench.fails(2, "explain conv2 --model vgg", &["vgg"]);
    bench.fails(2, "explain --model cnn", &["required arguments"]);
    bench.fails(2, "explain relu --html", &["--html"]);
}

#[test]
fn the_book_is_one_page_whose_links_lead_somewhere() {
    let book = Bench::new().ok("explain --html");
    assert!(book.starts_with("<!doctype html>"));
    for outside in ["src=", "@import", "url(", "<script", "<link"] {
        assert!(!book.contains(outside), "{outside}");
    }
    let after = |mark: &str| -> BTreeSet<&str> {
        book.split(mark).skip(1).map(|rest| rest.split('"').next().unwrap()).collect()
    };
    let (links, anchors) = (after("href=\"#"), after("id=\""));
    let dangling: Vec<_> = links.difference(&anchors).collect();
    assert!(dangling.is_empty(), "{dangling:?}");
    for case in cases::all() {
        assert!(anchors.contains(format!("op-{}", case.op.name()).as_str()), "{}", case.op.name());
    }
    for file in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("shaders")).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "wgsl") {
            let name = path.file_stem().unwrap().to_string_lossy();
            assert!(links.contains(format!("shader-{name}").as_str()), "{name}");
            assert!(book.contains(&format!("<code>shaders/{name}.wgsl</code>")), "the text of {name}");
        }
    }
}
