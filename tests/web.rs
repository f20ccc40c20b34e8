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

use cifar_engine::data::{self, image_file};
use cifar_engine::inspect::web::program::Shaders;
use cifar_engine::models::cnn::CNN;
use cifar_engine::models::{Architecture, LoadedModel, MODELS};
use cifar_engine::train::{self, plans, settings::Settings};
use common::browser::chromium;
use common::mobilenet::write_weights;
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

/// The outcome of self tests of a page: it logs that in a line. Asserts that nothing else goes
/// wrong on the page.
fn selftest(chromium: &str, page: &Path, what: &str) -> Value {
    selftest_with(chromium, &[], page, what)
}

/// [`selftest`] in a browser with more options.
fn selftest_with(chromium: &str, options: &[&str], page: &Path, what: &str) -> Value {
    let profile = tempfile::tempdir().unwrap();
    let mut browser = Command::new(chromium)
        .args(FLAGS)
        .args(options)
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

/// What a page knows.
fn content(page: &str) -> Value {
    let (_, rest) = page.split_once("<script type=\"application/json\" id=\"content\">").unwrap();
    json(rest.split_once("</script>").unwrap().0)
}

/// A run of small images, whose pipelines compile fastest, and its page. At a higher rate a
/// training on so few images grows the last bit's difference to a hundredth within twenty steps.
/// Its steps take all that a step can: rates of groups, which change, and weights of classes.
fn page(bench: &Bench) -> String {
    bench.ok("train --data . --image-size 8 --epochs 1 --batch-size 32 --validation 40 --lr 0.005 \
        --bias-lr 0.002 --schedule one-cycle --class-weights auto --out run");
    let said = bench.ok("export run --web page.html --images 12");
    assert!(said.starts_with("page.html: ") && said.contains(" MB"), "{said}");
    fs::read_to_string(bench.path("page.html")).unwrap()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(f64::INFINITY) // JSON has no other way to say what is not finite
}

/// All in one start of the browser: what programs share compiles once.
#[test]
fn a_browser_computes_what_the_cpu_does() {
    let bench = Bench::new();
    let page = page(&bench);
    check_closed(&page);
    check_inputs(&content(&page)["train"]);
    let Some(chromium) = chromium() else { return };
    let what = "selftest=logits,layers,training,benchmark";
    let outcome = selftest(&chromium, &bench.path("page.html"), what);
    assert!(number(&outcome["logits"]) < 1e-4, "{outcome}");
    assert!(number(&outcome["losses"]) < 1e-3 && outcome["first"] != outcome["last"], "{outcome}");
    let ops = outcome["check"].as_object().unwrap();
    assert!(ops.len() > 30 && ops.values().all(|op| op["right"] == true), "{outcome}");
    let layers = outcome["layers"].as_array().unwrap();
    assert!(layers.len() > 4 && layers.iter().all(|layer| layer[1].is_number()), "{outcome}");
    assert!(outcome["heat"][0].is_number(), "{outcome}");
    check_benchmark(&outcome);
}

/// Asserts that rates are those of the times, and that all that an issue needs is there.
fn check_benchmark(found: &Value) {
    let timed = &found["benchmark"];
    for (work, images) in
        [(&timed["predict"]["one"], 1.0), (&timed["predict"]["batch"], 32.0), (&timed["train"], 12.0)]
    {
        let (ms, rate) = (number(&work["ms"]), number(&work["images_per_s"]));
        assert!(work["images"] == images && ms > 0.0, "{found}");
        assert!((rate * ms / 1e3 - images).abs() < 1e-3 * images, "{found}");
    }
    assert!(timed["works"].as_array().unwrap().len() >= 2, "{found}");
    assert_eq!(found["program"], concat!("cifar-engine ", env!("CARGO_PKG_VERSION")));
    assert!(found["model"] == "cnn" && found["adapter"]["browser"].is_string(), "{found}");
    assert!(number(&found["limits"]["maxStorageBufferBindingSize"]) >= 128.0 * 1024.0 * 1024.0, "{found}");
}

/// Asserts that a training writes all inputs of its program, with rates that change together.
fn check_inputs(train: &Value) {
    let names = |list: &Value, name: fn(&Value) -> &Value| -> Vec<String> {
        list.as_array().unwrap().iter().map(|item| name(item).as_str().unwrap().into()).collect()
    };
    let (rates, constant) =
        (names(&train["rates"], |rate| rate), names(&train["constant"], |input| &input[0]));
    let written = [vec!["indices".into(), "step".into()], rates.clone(), constant.clone()].concat();
    let inputs = names(&train["program"]["inputs"], |input| &input["name"]);
    assert_eq!(BTreeSet::from_iter(inputs), BTreeSet::from_iter(written));
    assert!(rates.len() == 2 && constant == ["loss_gradient", "class_weights"], "{rates:?} {constant:?}");
    let steps = train["steps"].as_array().unwrap();
    let rates = |step: &Value| [0, 1].map(|group| number(&step["rates"][group]));
    let [all, biases] = rates(&steps[0]);
    let apart = |step: &Value| (rates(step)[1] / rates(step)[0] - biases / all).abs();
    assert!(steps.iter().all(|step| apart(step) < 1e-4), "{steps:?}");
    assert!(steps.iter().any(|step| rates(step)[0] > 2.0 * all), "the rates do not change");
}

/// Asserts that a page loads nothing.
fn check_closed(page: &str) {
    for outside in ["src=", "@import", "url(", "<link", "http:", "https:"] {
        assert!(!page.contains(outside), "{outside}");
    }
    assert!(page.contains("default-src 'none'"));
}

/// Steps of twelve images, where the run's had 32.
#[test]
fn a_page_trains_as_its_run_did() {
    let bench = Bench::new();
    bench.ok("train --data . --epochs 1 --batch-size 32 --validation 40 --lr 0.02 \
        --optimizer lion --schedule constant --out run");
    bench.ok("export run --web page.html --images 12");
    let content = self::content(&fs::read_to_string(bench.path("page.html")).unwrap());
    let train = &content["train"];
    let rate = 0.02 * (12.0f64 / 32.0).sqrt();
    let rates: Vec<f64> =
        train["steps"].as_array().unwrap().iter().map(|step| number(&step["rates"][0])).collect();
    assert!(rates.iter().all(|found| (found - rate).abs() < 1e-6), "{rates:?}");
    assert!(train["recipe"].as_str().unwrap().contains("lion, constant, weight decay"), "{train}");
    assert!(content["settings"].as_str().unwrap().contains("optimizer = \"lion\""));
    let facts = content["facts"].as_array().unwrap();
    let fact = |name: &str| facts.iter().find(|fact| fact[0] == name).map(|fact| fact[1].as_str().unwrap());
    let result = json(&fs::read_to_string(bench.path("run/result.json")).unwrap());
    let accuracy = format!("{:.2} %", 100.0 * number(&result["test_accuracy"]));
    assert_eq!(fact("test accuracy"), Some(&*accuracy));
    let row = json(fs::read_to_string(bench.path("run/metrics.jsonl")).unwrap().lines().last().unwrap());
    assert_eq!(fact("sha256 of the weights"), row["weights_sha256"].as_str());
    let calibration = LoadedModel::open(&bench.path("run/best.safetensors")).unwrap().spec.calibration;
    let single = |value: &Value| value.as_f64().map(|number| number as f32);
    assert_eq!(single(&content["temperature"]), Some(calibration.temperature));
    assert_eq!(single(&content["unsure_below"]), calibration.unsure_below);
    bench.ok("export run --web whole.html");
    let bytes = fs::metadata(bench.path("whole.html")).unwrap().len();
    assert!(bytes < 8_000_000, "{bytes} bytes");
    // Weights alone tell of no run.
    fs::copy(bench.path("run/best.safetensors"), bench.path("alone.safetensors")).unwrap();
    bench.ok("export alone.safetensors --data . --web alone.html --images 12");
    let alone = self::content(&fs::read_to_string(bench.path("alone.html")).unwrap());
    assert!(alone["settings"].is_null(), "{}", alone["settings"]);
    assert!(alone["train"]["recipe"].as_str().unwrap().contains("of a default training"));
}

#[test]
fn a_camera_is_taken_or_the_page_says_why_not() {
    let Some(chromium) = chromium() else { return };
    let bench = Bench::new();
    page(&bench);
    let test =
        |options: &[&str]| selftest_with(&chromium, options, &bench.path("page.html"), "selftest=camera");
    let fake = "--use-fake-device-for-media-stream";
    let shown = test(&[fake, "--use-fake-ui-for-media-stream"]);
    assert!(shown["seen"] == true && shown["problem"].is_null(), "{shown}");
    let refused = test(&[fake, "--deny-permission-prompts"]);
    assert!(refused["seen"] == false, "{refused}");
    assert!(refused["problem"].as_str().unwrap().starts_with("no camera: it was refused"), "{refused}");
}

/// A MobileNet that was fine-tuned, whose training goes on from its weights.
#[test]
fn a_finetuned_mobilenet_has_a_page() {
    let bench = Bench::new();
    write_weights(&bench.path("pretrained.safetensors"));
    bench.ok("finetune --pretrained pretrained.safetensors --data . --image-size 32 --epochs 2 \
        --head-epochs 1 --batch-size 32 --validation 40 --out run");
    bench.ok("export run --web page.html --images 12");
    let page = fs::read_to_string(bench.path("page.html")).unwrap();
    check_closed(&page);
    let content = self::content(&page);
    let initial = content["train"]["initial"].as_array().unwrap();
    assert!(initial.len() == 2 && content["weights"].as_array().unwrap().len() > 100, "{initial:?}");
    assert!(content["train"]["recipe"].as_str().unwrap().contains("as a fine-tuning does"));
    let Some(chromium) = chromium() else { return };
    let what = "selftest=logits,layers,training";
    let outcome = selftest(&chromium, &bench.path("page.html"), what);
    assert!(number(&outcome["logits"]) < 1e-4, "{outcome}");
    assert!(number(&outcome["losses"]) < 1e-3 && outcome["first"] != outcome["last"], "{outcome}");
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

/// An image of a side, in colours that a page can calculate, too.
fn pattern(side: usize) -> Vec<u8> {
    (0..3 * side * side).map(|i| (i * 7919 % 251) as u8 ^ (i / side) as u8).collect()
}

/// What the page makes of an image that is dropped is what `predict` makes of it, but for a step of
/// a colour where a sum lies between two.
#[test]
fn a_page_scales_images_as_the_program_does() {
    let Some(chromium) = chromium() else { return };
    let bench = Bench::new();
    let script = include_str!("../src/inspect/web/image.js");
    let pairs = [(97, 32), (33, 32), (640, 96), (8, 32), (31, 96), (1, 8)];
    let page = format!(
        "<script>{script}
        const pattern = (side) => Uint8Array.from({{ length: 3 * side * side }},
          (_, i) => (i * 7919 % 251) ^ (Math.floor(i / side) & 255));
        const found = {pairs}.map(([from, to]) => Array.from(scaled(pattern(from), from, to)));
        console.log(`SELFTEST ${{JSON.stringify(found)}}`);
        </script>",
        pairs = serde_json::to_string(&pairs).unwrap()
    );
    fs::write(bench.path("scale.html"), page).unwrap();
    let found = selftest(&chromium, &bench.path("scale.html"), "");
    for ((from, to), found) in pairs.into_iter().zip(found.as_array().unwrap()) {
        let expected = image_file::resize_square(&pattern(from), from, to).unwrap();
        let found: Vec<i64> = found.as_array().unwrap().iter().map(|byte| byte.as_i64().unwrap()).collect();
        let apart: Vec<i64> = expected
            .iter()
            .zip(&found)
            .map(|(a, b)| (i64::from(*a) - b).abs())
            .filter(|apart| *apart > 0)
            .collect();
        assert!(found.len() == expected.len() && apart.iter().all(|apart| *apart == 1), "{from} to {to}");
        assert!(100 * apart.len() <= expected.len(), "{from} to {to}: {} differ", apart.len());
    }
}

/// A page that compiles pipelines, and logs the names of those that do not compile.
fn compiling(shaders: &Value) -> String {
    let engine = include_str!("../src/inspect/web/engine.js");
    format!(
        "<script>{engine}
        (async () => {{
          const shaders = {shaders};
          const engine = await Engine.open(shaders);
          const wrong = [];
          const compile = ({{ shader, entry, constants }}, number) =>
            engine.compile(number).catch((error) =>
              wrong.push([shaders.texts[shader].name, entry, JSON.stringify(constants), error.message].join(' ')));
          await Promise.all(shaders.pipelines.map(compile));
          return {{ compiled: shaders.pipelines.length - wrong.length, wrong, fault: engine.fault }};
        }})()
          .catch((error) => ({{ problem: error.message }}))
          .then((outcome) => console.log(`SELFTEST ${{JSON.stringify(outcome)}}`));
        </script>"
    )
}

/// Compiles pipelines in the browser; what the page says.
fn compile(chromium: &str, bench: &Bench, shaders: &Value) -> Value {
    fs::write(bench.path("compile.html"), compiling(shaders)).unwrap();
    selftest(chromium, &bench.path("compile.html"), "")
}

/// The shaders and pipelines of a model: of its training, and of a prediction of one image.
fn shaders(model: &'static Architecture) -> Value {
    let settings = Settings { model, ..Settings::default() };
    let data = data::shapes::sized(settings.batch_size, 10, settings.image_size, 1).unwrap();
    let spec = train::spec(&settings, &data).unwrap();
    let mut shaders = Shaders::default();
    for program in
        [plans::training(&spec, &settings, data.train.len()), plans::evaluation(&spec, "test", 1, 1)]
    {
        shaders.graph(&program.unwrap().graph).unwrap_or_else(|error| panic!("{model}: {error}"));
    }
    serde_json::to_value(&shaders).unwrap()
}

/// What a compiler sees of a pipeline, but for its constants.
fn kind(shaders: &Value, pipeline: &Value) -> String {
    let shader = &shaders["texts"][pipeline["shader"].as_u64().unwrap() as usize];
    format!("{} {} {}", shader["text"], pipeline["entry"], pipeline["writes"])
}

/// A kind and its constants, but for the number of elements: an elementwise shader compiles for a
/// thousand as for a million.
fn described(shaders: &Value, pipeline: &Value) -> String {
    let mut constants = pipeline["constants"].clone();
    constants.as_object_mut().unwrap().remove("LENGTH");
    format!("{} {constants}", kind(shaders, pipeline))
}

/// A browser's compiler is another than the one that the program uses on a GPU. Most kinds compile
/// in [`a_browser_computes_what_the_cpu_does`]; here those that its page is without.
#[test]
fn a_browser_compiles_a_pipeline_of_every_kind() {
    let bench = Bench::new();
    let shaders = content(&page(&bench))["shaders"].take();
    let of_page = shaders["pipelines"].as_array().unwrap().iter().map(|pipeline| kind(&shaders, pipeline));
    let compiled = check_compiled(of_page.collect(), kind);
    assert!(compiled > 60, "{compiled} kinds");
}

#[test]
#[ignore = "takes many minutes: SwiftShader compiles some 800 pipelines, one or two a second"]
fn a_browser_compiles_the_pipelines_of_every_model() {
    check_compiled(BTreeSet::new(), described);
}

/// Asserts that of all models the pipelines compile that are like none that is known; how many are
/// known then.
fn check_compiled(mut known: BTreeSet<String>, describe: fn(&Value, &Value) -> String) -> usize {
    let bench = Bench::new();
    let chromium = chromium();
    for &model in MODELS {
        let mut shaders = shaders(model);
        let mut pipelines = shaders["pipelines"].as_array().unwrap().clone();
        let all = pipelines.len();
        pipelines.retain(|pipeline| known.insert(describe(&shaders, pipeline)));
        let count = pipelines.len();
        shaders["pipelines"] = pipelines.into();
        let Some(chromium) = chromium.iter().find(|_| count > 0) else { continue };
        let outcome = compile(chromium, &bench, &shaders);
        println!("{model}: {count} of {all} pipelines are like none before, and compile");
        assert!(outcome["compiled"] == count && outcome["fault"].is_null(), "{outcome}");
    }
    known.len()
}

/// A constant that the shader does not have, and an entry.
#[test]
fn a_pipeline_that_does_not_compile_is_named() {
    let Some(chromium) = chromium() else { return };
    let bench = Bench::new();
    let mut shaders = shaders(&CNN);
    let pipelines = shaders["pipelines"].as_array_mut().unwrap();
    pipelines.truncate(3);
    pipelines[1]["constants"]["NONE"] = 1.into();
    pipelines[2]["entry"] = "nowhere".into();
    let outcome = compile(&chromium, &bench, &shaders);
    let wrong: Vec<&str> =
        outcome["wrong"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    assert!(outcome["compiled"] == 1 && wrong.len() == 2, "{outcome}");
    for text in ["NONE", "nowhere"] {
        assert!(wrong.iter().any(|name| name.contains(text)), "{outcome}");
    }
}
