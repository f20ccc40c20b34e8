//! What is shown of a plan is what runs: its steps, the lives of its values, what the rules did.

mod common;

use cifar_engine::exec::Device;
use cifar_engine::inspect::forms;
use cifar_engine::inspect::plan::{Life, PlanView};
use cifar_engine::prelude::*;
use common::program::{Bench, json};
use serde_json::Value as Json;

fn cpu() -> Box<dyn Device> {
    device::cpu().unwrap()
}

/// Two products in a row, whose result is added to a constant.
fn chain() -> PlanView {
    let mut graph = Graph::new();
    let x = graph.input("x", TensorType::f32([4, 4]));
    let w = graph.state("w", TensorType::f32([4, 4])).unwrap();
    graph.set_layer("one");
    let y = graph.matmul(x, w).unwrap();
    graph.set_layer("two \"<odd>\"");
    let z = graph.matmul(y, w).unwrap();
    let t = graph.map(Function::Tanh, z).unwrap();
    let unused = graph.matmul(x, x).unwrap();
    graph.output("t", t);
    assert_ne!(unused, t);
    PlanView::of(&graph, cpu().as_ref(), false).unwrap()
}

#[test]
fn the_lives_of_a_chain_are_those_on_paper() {
    let view = chain();
    let ops: Vec<&str> = view.steps.iter().map(|step| step.op.as_str()).collect();
    assert_eq!(ops, ["matmul", "matmul", "tanh"]);
    let lives: Vec<(&str, usize, usize)> =
        view.lives.iter().map(|life| (life.written_by.as_str(), life.first, life.last)).collect();
    let expected = [
        ("x", 0, 0),
        ("matmul 'one'", 0, 1),
        ("matmul 'two \"<odd>\"'", 1, 2),
        ("tanh 'two \"<odd>\"'", 2, 2),
    ];
    assert_eq!(lives, expected);
    let read: Vec<(&str, Option<usize>)> =
        view.steps[1].inputs.iter().map(|operand| (operand.place.as_str(), operand.from)).collect();
    assert_eq!(read[0].1, Some(0));
    assert_eq!(read[1], ("w", None));
    assert_eq!(view.states, [("w".to_string(), 64)]);
    // The largest moment: x and y, or y and z; tanh works in place.
    assert_eq!(view.alive(), [128, 128, 64]);
    assert_eq!(view.peak.as_ref().map(|peak| (peak.step, peak.bytes)), Some((0, 128)));
    assert_eq!(view.nodes_before, 3);
}

#[test]
fn odd_names_do_not_break_a_page_or_a_graph() {
    let view = chain();
    let page = forms::page(&view, "a <b>");
    assert!(page.contains("<title>a &lt;b&gt;</title>") && !page.contains("<odd>"), "{page}");
    assert_eq!(page.matches("<rect ").count(), view.lives.len());
    assert!(!page.contains("http") && !page.contains("<script"), "a page loads nothing");
    let dot = forms::dot(&view);
    assert!(dot.contains("\\ntwo \\\"<odd>\\\"\"]"), "{dot}");
    assert_eq!(dot.matches(" -> ").count(), 2);
}

/// Values in one slot follow each other; only a step that works in place ends one and begins the
/// next.
fn check_lives(lives: &[Life], slots: &[usize]) {
    for (slot, &room) in slots.iter().enumerate() {
        let mut own: Vec<&Life> = lives.iter().filter(|life| life.slot == slot).collect();
        own.sort_by_key(|life| (life.first, life.last));
        assert!(own.iter().all(|life| life.bytes <= room && life.first <= life.last));
        let follow = |pair: &[&Life]| pair[0].last <= pair[1].first;
        assert!(
            own.windows(2).all(follow),
            "slot {slot}: {:?}",
            own.iter().map(|l| (l.first, l.last)).collect::<Vec<_>>()
        );
    }
}

#[test]
fn the_plans_of_models_are_consistent_and_the_sums_are_right() {
    use cifar_engine::models::MODELS;
    use cifar_engine::train::settings::Settings;
    use cifar_engine::train::{bare_spec, plans};
    let device = cpu();
    for &model in MODELS {
        let spec = bare_spec(model, model.usual_size, 10);
        let settings = Settings { batch_size: 4, model, ..Settings::default() };
        let graph = plans::training(&spec, &settings, 8).unwrap().graph;
        for unfused in [false, true] {
            let view = PlanView::of(&graph, device.as_ref(), unfused).unwrap();
            check_lives(&view.lives, &view.slots);
            assert!(view.steps.iter().enumerate().all(|(number, step)| {
                step.inputs.iter().all(|operand| operand.from.is_none_or(|from| from < number))
            }));
            let saved: i64 = view.rewrites.iter().map(|rewrite| rewrite.saved_bytes).sum();
            assert_eq!(view.traffic[0] - view.traffic[1], saved, "{model}");
            assert_eq!(view.rewrites.is_empty(), unfused, "{model}");
            let peak = view.peak.as_ref().unwrap();
            assert_eq!(Some(peak.bytes), view.alive().into_iter().max());
            assert!(peak.bytes <= view.slots.iter().sum());
            let named = view.rewrites.iter().all(|rewrite| rewrite.replaces.contains("=>"));
            assert!(named, "every rule says what it replaces");
        }
    }
}

#[test]
fn the_program_prints_the_plan_that_runs() {
    let bench = Bench::new();
    let told = json(&bench.ok("plan cnn --batch-size 8 --json"));
    let summary = json(&bench.ok("summary cnn --batch-size 8 --json"));
    let steps = told["plan"]["steps"].as_array().unwrap();
    assert_eq!(Json::from(steps.len()), summary["training"]["steps"]);
    let flops: u64 = steps.iter().map(|step| step["flops"].as_u64().unwrap()).sum();
    assert!((flops as f64 / 1e9 - summary["training"]["gflop"].as_f64().unwrap()).abs() < 1e-9);
    let text = bench.ok("plan cnn --batch-size 8");
    assert!(text.contains("a training step of 8 images of 32 x 32, by the rules of cpu"), "{text}");
    assert!(text.contains("memory: at most ") && text.contains("not shown: "), "{text}");
    let rows = text.lines().filter(|line| line.trim_start().starts_with(|c: char| c.is_ascii_digit()));
    assert!(rows.count() >= steps.len(), "{text}");
    let same = json(&bench.ok("plan cnn --batch-size 8 --format json"));
    assert_eq!(same, told);

    let infer = json(&bench.ok("plan cnn --mode infer --batch-size 8 --json"));
    assert_eq!(Json::from(infer["plan"]["steps"].as_array().unwrap().len()), summary["inference"]["steps"]);
    assert!(bench.ok("plan cnn --mode infer").contains("*: runs once"));
    let diff = bench.ok("plan cnn --diff");
    assert!(diff.contains("pooling: max_pool(batch_norm_infer(x, ..)) => "), "{diff}");
    assert!(diff.contains("nodes became") && diff.contains("statistics"), "{diff}");
    let unfused = json(&bench.ok("plan cnn --unfused --json"));
    assert!(unfused["plan"]["steps"].as_array().unwrap().len() > steps.len());
    assert!(bench.ok("plan cnn --format html").starts_with("<!doctype html>"));
    assert!(bench.ok("plan cnn --format dot").starts_with("digraph plan {"));
    bench.fails(2, "plan vgg", &["there is no model, file or folder 'vgg'; the models are: cnn"]);
    bench.fails(2, "plan cnn --json --format dot", &["--format"]);
    bench.fails(2, "plan cnn --diff --unfused", &["--diff"]);
}
