//! What is shown of a plan is what runs: its steps, the lives of its values, what the rules did,
//! how long each step takes.

mod common;

use cifar_engine::exec::gpu::adapter::{Adapter, Choice};
use cifar_engine::exec::{Device, Precision};
use cifar_engine::inspect::plan::{Life, PlanView};
use cifar_engine::inspect::trace::{TimedStep, Trace};
use cifar_engine::inspect::{forms, time_line};
use cifar_engine::kernels::peak::Peak;
use cifar_engine::prelude::*;
use common::program::{Bench, json};
use serde_json::Value as Json;

fn cpu() -> Box<dyn Device> {
    device::cpu().unwrap()
}

/// Two products in a row, and a function of the result, which no rule joins to them.
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
    PlanView::of(&graph, cpu().as_ref(), true).unwrap()
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
    assert!(text.contains("a training step of 8 images of 32 x 32, sgd, by the rules of cpu"), "{text}");
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
    let found = json(&bench.ok("plan cnn --diff --json"));
    assert!(found["rewrites"].as_array().unwrap().len() > 10 && found["plan"].is_null(), "{found}");
}

/// A trace of three steps: one without arithmetic, one that the clock did not see.
fn three_steps() -> Trace {
    let step = |number, op, seconds, flops, bytes| TimedStep {
        number,
        op,
        layer: "a <layer>".into(),
        flops,
        bytes,
        seconds,
    };
    let steps = vec![
        step(2, "copy", 0.001, 0, 1_000_000),
        step(3, "conv2d", 0.004, 2_000_000_000, 1_000_000),
        step(4, "matmul", 0.0, 100, 4_000),
    ];
    Trace { steps, peak: Some(Peak { flops: 1e12, bytes: 2e9 }), unprofiled: 0.0055 }
}

/// What is wrong with a trace in Chrome's format, held against the steps of its plan; whoever reads
/// it takes no figure on trust.
fn faults(trace: &Json, plan: &Json) -> Vec<&'static str> {
    let number = |value: &Json| value.as_f64().unwrap_or(f64::NAN);
    let near = |a: f64, b: f64| (a - b).abs() <= 1e-9 * a.abs().max(b.abs());
    let mut faults = Vec::new();
    let mut fault = |is: bool, what| {
        if is {
            faults.push(what)
        }
    };
    let events = trace["traceEvents"].as_array().unwrap();
    let about = &trace["otherData"];
    let steps =
        plan["steps"].as_array().unwrap().iter().enumerate().filter(|(_, step)| step["once"] == false);
    let told = |event: &Json| (event["args"]["step"].clone(), event["args"]["op"].clone());
    let expected: Vec<_> = steps.map(|(number, step)| (Json::from(number), step["op"].clone())).collect();
    fault(events.iter().map(told).collect::<Vec<_>>() != expected, "not every step once");
    let mut end = 0.0;
    for event in events {
        let (args, ms) = (&event["args"], number(&event["dur"]) / 1e3);
        fault(event["ph"] != "X" || !near(number(&event["ts"]), end), "not end to end");
        end += number(&event["dur"]);
        let by_flops = number(&args["flops"]) / number(&about["peak_flop_per_s"]) * 1e3;
        let by_bytes = number(&args["bytes"]) / number(&about["peak_bytes_per_s"]) * 1e3;
        let floor = by_flops.max(by_bytes);
        let bound = if by_flops > by_bytes { "arithmetic" } else { "memory" };
        fault(floor == 0.0, "a step without a floor");
        fault(!near(floor, number(&args["floor_ms"])) || args["bound"] != bound, "another floor");
        fault(ms > 0.0 && !near(floor / ms, number(&args["share_of_peak"])), "another share");
    }
    fault(!near(end / 1e3, number(&about["sum_ms"])), "another sum");
    faults
}

#[test]
fn a_trace_adds_up_and_a_wrong_one_is_seen() {
    let plan = serde_json::json!({"steps": [
        {"op": "fold", "once": true}, {"op": "fold", "once": true},
        {"op": "copy", "once": false}, {"op": "conv2d", "once": false}, {"op": "matmul", "once": false}]});
    let right = three_steps().chrome(&serde_json::json!({"model": "made up"}));
    assert_eq!(faults(&right, &plan), [""; 0]);
    assert_eq!(right["otherData"]["model"], "made up");
    assert_eq!(right["traceEvents"][1]["args"]["share_of_peak"], 0.5);
    let events = |trace: &mut Json| std::mem::take(trace["traceEvents"].as_array_mut().unwrap());
    type Plant = fn(&mut Vec<Json>);
    let plants: [(Plant, &str); 6] = [
        (|events| drop(events.remove(1)), "not every step once"),
        (|events| events.swap(0, 1), "not every step once"),
        (|events| events[0]["args"]["bytes"] = 0.into(), "a step without a floor"),
        (|events| events[1]["args"]["flops"] = 1.into(), "another share"),
        (|events| events[1]["ts"] = 0.into(), "not end to end"),
        (|events| events[2]["dur"] = 9.into(), "another sum"),
    ];
    for (plant, what) in plants {
        let mut wrong = right.clone();
        let mut planted = events(&mut wrong);
        plant(&mut planted);
        wrong["traceEvents"] = planted.into();
        assert!(faults(&wrong, &plan).contains(&what), "{what}");
    }
}

#[test]
fn a_page_of_a_trace_has_a_bar_and_a_dot_a_step() {
    let trace = three_steps();
    let page = time_line::page(&trace, "a <title>");
    assert_eq!(page.matches("<rect class=\"bar share").count(), 3, "{page}");
    assert_eq!(page.matches("<rect class=\"bar share\"").count(), 1, "the one that took no time");
    // One step has no arithmetic, one no time.
    assert_eq!(page.matches("<circle ").count(), 1);
    assert!(page.contains("2 steps have no dot"), "{page}");
    assert!(
        page.contains("3 conv2d 'a &lt;layer&gt;': 4 ms, 500 GFLOP/s, 0.25 GB/s, 50 % of peak, bound by")
    );
    assert!(!page.contains("http") && !page.contains("<script") && !page.contains("NaN"), "{page}");
    // A device that knows no peaks.
    let page = time_line::page(&Trace { peak: None, ..trace }, "");
    assert!(page.contains("no peaks") && !page.contains("<circle ") && !page.contains("of peak,"), "{page}");
}

#[test]
fn the_plan_of_a_gpu_in_half_precision_has_halves() {
    let bench = Bench::new();
    bench.fails(2, "plan cnn --device cpu --precision f16", &["--precision f16 needs a GPU"]);
    bench.fails(2, "plan cnn --unfused --precision f16", &["--unfused"]);
    let adapter = Adapter::choose(&Choice::Any);
    if !adapter.is_ok_and(|adapter| adapter.check_precision(Precision::F16).is_ok()) {
        println!("no GPU has half precision");
        return;
    }
    let [single, half] = ["f32", "f16"].map(|precision| {
        json(&bench.ok(&format!("plan cnn --device gpu --batch-size 64 --precision {precision} --json")))
    });
    let slots = |told: &Json| {
        let slots = told["plan"]["slots"].as_array().unwrap();
        slots.iter().map(|bytes| bytes.as_u64().unwrap()).sum::<u64>()
    };
    assert!(10 * slots(&half) < 6 * slots(&single), "{} and {} bytes", slots(&half), slots(&single));
    let has_halves = |told: &Json| told.to_string().contains("\"f16[64,");
    assert!(has_halves(&half) && !has_halves(&single));
}

#[test]
fn the_program_traces_the_plan_that_runs() {
    let bench = Bench::new();
    let devices = if Adapter::choose(&Choice::Any).is_ok() { vec!["cpu", "gpu"] } else { vec!["cpu"] };
    for mode in ["train", "infer"] {
        for device in &devices {
            let about = format!("cnn --batch-size 2 --device {device} --mode {mode}");
            let plan = json(&bench.ok(&format!("plan {about} --json")));
            let trace = json(&bench.ok(&format!("trace {about} --steps 1 --format json")));
            assert_eq!(faults(&trace, &plan["plan"]), [""; 0], "{about}: {trace}");
            let other = &trace["otherData"];
            assert_eq!(
                (&other["mode"], &other["device"]["device"]),
                (&Json::from(mode), &Json::from(*device))
            );
        }
    }
    let text = bench.ok("trace cnn --batch-size 2 --steps 1 --mode infer");
    assert!(text.starts_with("cnn, a prediction of 2 images of 32 x 32, on cpu"), "{text}");
    let ms = |line: &str| {
        line.split_whitespace().find_map(|word| word.parse::<f64>().ok().filter(|_| word.contains('.')))
    };
    let rows = text.lines().filter(|line| line.trim_start().starts_with(|c: char| c.is_ascii_digit()));
    let times: Vec<f64> = rows.filter_map(ms).collect();
    let sum = text.lines().find(|line| line.trim_start().starts_with("sum ")).and_then(ms).unwrap();
    let rounding = 5e-4 * (times.len() + 1) as f64;
    assert!((times.iter().sum::<f64>() - sum).abs() <= rounding, "{text}");
    assert!(text.contains("not shown: ") && text.contains("unprofiled step"), "{text}");
    assert_eq!(bench.ok("trace cnn --batch-size 2 --steps 1 --format html --out step.html"), "");
    assert!(std::fs::read_to_string(bench.path("step.html")).unwrap().starts_with("<!doctype html>"));
    bench.fails(2, "trace vgg", &["there is no model, file or folder 'vgg'"]);
    bench.fails(1, "trace cnn --batch-size 1 --steps 1 --out no/step.txt", &["no/step.txt"]);
}
