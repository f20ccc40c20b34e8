//! The page of `export`: what a browser computes with it is what the CPU does.

mod common;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

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
