//! The page of `export`: what a browser computes with it is what the CPU does.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use cifar_engine::data;
use cifar_engine::inspect::web::program::Library;
use cifar_engine::models::cnn::CNN;
use cifar_engine::models::{Architecture, MODELS};
use cifar_engine::train::{self, plans, settings::Settings};
use common::browser::chromium;
use common::program::{Bench, json};
use serde_json::Value;

/// Chromium on its software renderer, which has WebGPU only if it is told all of this.
const FLAGS: [&str; 12] = [
    "--headless=new",
    "--no-sandbox",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--enable-unsafe-webgpu",
    "--ignore-gpu-blocklist",
    "--enable-gpu",
    "--enable-features=Vulkan",
    "--use-vulkan=swiftshader",
    "--use-webgpu-adapter=swiftshader",
    "--enable-logging=stderr",
];

/// A browser that says nothing for so long hangs.
const PATIENCE: Duration = Duration::from_secs(540);

/// The outcome of the page's own test: it logs that in a line. Asserts that nothing else goes
/// wrong on the page.
fn selftest(chromium: &str, page: &Path, what: &str) -> Value {
    let profile = tempfile::tempdir().unwrap();
    let mut browser = Command::new(chromium)
        .args(FLAGS)
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(format!("file://{}#{what}", page.display()))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(browser.stderr.take().unwrap()).lines();
    let (send, console) = mpsc::channel();
    thread::spawn(move || {
        let said = lines.map_while(Result::ok).filter(|line| line.contains("CONSOLE"));
        said.for_each(|line| drop(send.send(line)));
    });
    let line = console.recv_timeout(PATIENCE);
    browser.kill().unwrap();
    browser.wait().unwrap();
    let line = line.expect("the page says nothing");
    let outcome = line.split("SELFTEST ").nth(1).unwrap_or_else(|| panic!("the page says {line}"));
    json(outcome.rsplit_once("\", source:").unwrap().0)
}

/// A run of small images, and its page.
fn page(bench: &Bench) -> String {
    bench.ok("train --data . --image-size 16 --epochs 1 --batch-size 32 --validation 40 --lr 0.02 --out run");
    let said = bench.ok("export run --web page.html --images 12");
    assert!(said.starts_with("page.html: ") && said.contains(" MB"), "{said}");
    fs::read_to_string(bench.path("page.html")).unwrap()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(f64::INFINITY) // JSON has no other way to say what is not finite
}

#[test]
fn a_browser_computes_what_the_cpu_does() {
    let bench = Bench::new();
    let page = page(&bench);
    for outside in ["src=", "@import", "url(", "<link", "http:", "https:"] {
        assert!(!page.contains(outside), "{outside}");
    }
    assert!(page.contains("default-src 'none'"));
    let Some(chromium) = chromium() else { return };
    let outcome = selftest(&chromium, &bench.path("page.html"), "selftest");
    assert!(number(&outcome["logits"]) < 1e-4, "{outcome}");
    assert!(number(&outcome["losses"]) < 1e-3 && outcome["first"] != outcome["last"], "{outcome}");
    let ops = outcome["check"].as_object().unwrap();
    assert!(ops.len() > 30 && ops.values().all(|op| op["right"] == true), "{outcome}");
    let layers = outcome["layers"].as_array().unwrap();
    assert!(layers.len() > 4 && layers.iter().all(|layer| layer[1].is_number()), "{outcome}");
    assert!(outcome["heat"][0].is_number(), "{outcome}");
}

#[test]
fn a_corrupted_shader_is_found() {
    let Some(chromium) = chromium() else { return };
    let bench = Bench::new();
    let page = page(&bench);
    let right = "MOMENTUM * b[i] + g";
    assert!(page.contains(right), "the shader of sgd");
    fs::write(bench.path("page.html"), page.replace(right, "MOMENTUM + b[i] + g")).unwrap();
    let outcome = selftest(&chromium, &bench.path("page.html"), "selftest=sgd");
    let ops = outcome["check"].as_object().unwrap();
    let wrong: Vec<&String> = ops.iter().filter(|(_, op)| op["right"] == false).map(|(op, _)| op).collect();
    assert_eq!(wrong, ["sgd"], "{outcome}");
}

#[test]
fn what_cannot_be_exported_is_told() {
    let bench = Bench::new();
    bench.fails(2, "export", &["required arguments"]);
    bench.fails(1, "export nowhere --web page.html", &["nowhere"]);
    fs::write(bench.path("bad.safetensors"), "x").unwrap();
    bench.fails(1, "export bad.safetensors --web page.html", &["bad.safetensors"]);
}

/// A page that compiles pipelines, and logs the names of those that do not compile.
fn compiling(library: &Value) -> String {
    let engine = include_str!("../src/inspect/web/engine.js");
    format!(
        "<script>{engine}
        (async () => {{
          const library = {library};
          const engine = await Engine.open(library);
          const wrong = [];
          const compile = ({{ shader, entry, constants }}, number) =>
            engine.compile(number).catch((error) =>
              wrong.push([library.shaders[shader].name, entry, JSON.stringify(constants), error.message].join(' ')));
          await Promise.all(library.pipelines.map(compile));
          return {{ compiled: library.pipelines.length - wrong.length, wrong, fault: engine.fault }};
        }})()
          .catch((error) => ({{ problem: error.message }}))
          .then((outcome) => console.log(`SELFTEST ${{JSON.stringify(outcome)}}`));
        </script>"
    )
}

/// Compiles pipelines in the browser; what the page says.
fn compile(chromium: &str, bench: &Bench, library: &Value) -> Value {
    fs::write(bench.path("compile.html"), compiling(library)).unwrap();
    selftest(chromium, &bench.path("compile.html"), "")
}

/// The shaders and pipelines of a model: of its training, and of a prediction of one image.
fn library(model: &'static Architecture) -> Value {
    let settings = Settings { model, ..Settings::default() };
    let data = data::shapes::sized(settings.batch_size, 10, settings.image_size, 1).unwrap();
    let spec = train::spec(&settings, &data);
    let mut library = Library::default();
    for program in
        [plans::training(&spec, &settings, data.train.len()), plans::evaluation(&spec, "test", 1, 1)]
    {
        library.graph(&program.unwrap().graph).unwrap_or_else(|error| panic!("{model}: {error}"));
    }
    serde_json::to_value(&library).unwrap()
}

/// A shader, its entry and its constants, but for the number of elements: an elementwise shader
/// compiles for a thousand as for a million.
fn described(library: &Value, pipeline: &Value) -> String {
    let shader = &library["shaders"][pipeline["shader"].as_u64().unwrap() as usize];
    let mut constants = pipeline["constants"].clone();
    constants.as_object_mut().unwrap().remove("LENGTH");
    format!("{} {} {constants} {}", shader["text"], pipeline["entry"], pipeline["writes"])
}

/// A browser's compiler is another than the one that the program uses on a GPU.
#[test]
fn a_browser_compiles_the_pipelines_of_the_cnn() {
    check_compiled(&[&CNN]);
}

#[test]
#[ignore = "takes many minutes: SwiftShader compiles some 800 pipelines, one or two a second"]
fn a_browser_compiles_the_pipelines_of_every_model() {
    check_compiled(MODELS);
}

fn check_compiled(models: &[&'static Architecture]) {
    let Some(chromium) = chromium() else { return };
    let bench = Bench::new();
    let mut known = BTreeSet::new();
    for &model in models {
        let mut library = library(model);
        let mut pipelines = library["pipelines"].as_array().unwrap().clone();
        let all = pipelines.len();
        pipelines.retain(|pipeline| known.insert(described(&library, pipeline)));
        library["pipelines"] = pipelines.into();
        let outcome = compile(&chromium, &bench, &library);
        let count = library["pipelines"].as_array().unwrap().len();
        println!("{model}: {count} of {all} pipelines are like none before, and compile");
        assert!(count > 10 && outcome["compiled"] == count, "{outcome}");
        assert!(outcome["fault"].is_null(), "{outcome}");
    }
}

/// A constant that the shader does not have, and an entry.
#[test]
fn a_pipeline_that_does_not_compile_is_named() {
    let Some(chromium) = chromium() else { return };
    let bench = Bench::new();
    let mut library = library(&CNN);
    let pipelines = library["pipelines"].as_array_mut().unwrap();
    pipelines.truncate(3);
    pipelines[1]["constants"]["NONE"] = 1.into();
    pipelines[2]["entry"] = "nowhere".into();
    let outcome = compile(&chromium, &bench, &library);
    let wrong: Vec<&str> =
        outcome["wrong"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    assert!(outcome["compiled"] == 1 && wrong.len() == 2, "{outcome}");
    for text in ["NONE", "nowhere"] {
        assert!(wrong.iter().any(|name| name.contains(text)), "{outcome}");
    }
}
