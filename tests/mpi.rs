//! The program under `mpirun`: needs the feature `mpi`, and Open MPI or MPICH.
#![cfg(feature = "mpi")]

mod common;

use std::fs;
use std::process::{Child, Command, Output, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use common::program::{Bench, QUICK, json};

/// Eight shards, as is usual for a launched program, on as many threads as there are processes.
const TRAIN: &str = "train --data . --batch-size 32 --validation 40 --lr 0.02 --threads 1";

/// A command in so many processes, of which each may have words of its own.
fn launch(bench: &Bench, processes: &[&str]) -> Command {
    let mut command = Command::new("mpirun");
    command
        .current_dir(bench.dir.path())
        .env("CIFAR_ENGINE_OFFLINE", "1")
        .env("CIFAR_ENGINE_DEVICE", "cpu")
        .env("OMPI_ALLOW_RUN_AS_ROOT", "1")
        .env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")
        .env("OMPI_MCA_rmaps_base_oversubscribe", "1")
        .env("TMPDIR", bench.dir.path());
    for (number, words) in processes.iter().enumerate() {
        if number > 0 {
            command.arg(":");
        }
        command.args(["-n", "1", env!("CARGO_BIN_EXE_cifar-engine")]).args(words.split_whitespace());
    }
    command
}

fn run(bench: &Bench, size: usize, words: &str) -> Output {
    launch(bench, &vec![words; size]).output().expect("mpirun is there where the feature mpi is")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn last(bench: &Bench, run: &str) -> Vec<u8> {
    fs::read(bench.path(run).join("last.safetensors")).unwrap()
}

/// Folders that processes other than the first have left.
fn left_apart(bench: &Bench) -> usize {
    let names = fs::read_dir(bench.dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
    names.filter(|name| name.to_string_lossy().starts_with("cifar-engine-run-")).count()
}

#[test]
fn two_processes_make_the_run_of_one() {
    let bench = Bench::new();
    bench.ok(&format!("{TRAIN} --epochs 2 --shards 8 --out alone"));
    let output = run(&bench, 2, &format!("{TRAIN} --epochs 2 --out two"));
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(last(&bench, "two") == last(&bench, "alone"));
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(out.matches("test accuracy").count(), 1, "one process speaks: {out}");
    assert_eq!(err.matches("epoch  2/2").count(), 1, "one process speaks: {err}");
    assert!(err.contains("2 processes on ") && err.contains("8 shards of 4 images a step"), "{err}");
    assert_eq!(left_apart(&bench), 0);
}

#[test]
fn what_does_not_fit_is_told_once() {
    let bench = Bench::new();
    let train = format!("{TRAIN} --epochs 1 --out run");
    let refused = |processes: &[&str], code: i32, parts: &[&str]| {
        let output = launch(&bench, processes).output().unwrap();
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{message}");
        let errors: Vec<&str> = message.lines().filter(|line| line.starts_with("error: ")).collect();
        assert_eq!(errors.len(), 1, "{message}");
        parts.iter().for_each(|part| assert!(errors[0].contains(part), "no {part:?} in {message}"));
    };
    refused(&[train.as_str(); 3], 2, &["takes 1, 2, 4, 8 .. processes, not 3"]);
    refused(&[format!("{train} --shards 1").as_str(); 2], 2, &["--shards 1 is too few for 2 processes"]);
    refused(
        &[&train, &format!("{train} --seed 1")],
        1,
        &["process 1, on ", "in the settings: seed = 1, not seed = "],
    );
    refused(&[&train, &format!("{train} --isa portable")], 1, &["in the device: cpu, portable, not cpu, "]);
    refused(&[&train, "bench --steps 1"], 1, &["process 1, on ", "in the command: bench, not train"]);
    refused(&[&train, &format!("{train} --data nowhere")], 1, &["process 1, on ", "nowhere"]);
    refused(&[format!("{train} --data nowhere").as_str(); 2], 1, &["nowhere"]);
    // None of them has left anything that is in the way.
    assert!(run(&bench, 2, &train).status.success());
    bench.ok(&train.replace("run", "whole"));
    refused(&["resume whole"; 2], 1, &["begun with --shards 1, ", "go on with it in 1 process at most"]);
}

/// A run that goes on for long, once it has finished an epoch.
fn started(bench: &Bench, size: usize, out: &str) -> Child {
    let words = format!("{TRAIN} --epochs 400 --schedule constant --out {out}");
    let mut command = launch(bench, &vec![words.as_str(); size]);
    let mpirun = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let begin = Instant::now();
    while !bench.path(out).join("metrics.csv").exists() {
        assert!(begin.elapsed() < Duration::from_secs(300), "no epoch ends");
        sleep(Duration::from_millis(20));
    }
    mpirun
}

/// The processes that `mpirun` has started.
fn children(mpirun: &Child) -> Vec<String> {
    let id = mpirun.id();
    let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
    children.split_whitespace().map(String::from).collect()
}

fn signal(name: &str, process: &str) {
    assert!(Command::new("kill").args([name, process]).status().unwrap().success());
}

/// Goes on with a run, in other numbers of processes to the same end.
fn check_goes_on(bench: &Bench, out: &str) {
    let history = fs::read_to_string(bench.path(out).join("metrics.csv")).unwrap();
    let epochs = history.lines().count() - 1 + 2;
    // It may be made longer, not shorter: its settings are made those of a shorter one first.
    let settings = bench.path(out).join("settings.toml");
    let shorter =
        fs::read_to_string(&settings).unwrap().replace("epochs = 400", &format!("epochs = {epochs}"));
    fs::write(&settings, shorter).unwrap();
    let resumed = run(bench, 4, &format!("resume {out} --threads 1"));
    assert!(resumed.status.success(), "{}", text(&resumed.stderr));
    let train = format!("{TRAIN} --epochs {epochs} --schedule constant --shards 8 --out whole-{out}");
    bench.ok(&train);
    assert!(last(bench, out) == last(bench, &format!("whole-{out}")));
}

#[test]
fn a_process_that_is_killed_ends_all_and_its_run_goes_on() {
    let bench = Bench::new();
    let mut mpirun = started(&bench, 2, "run");
    signal("-KILL", &children(&mpirun)[1]);
    let begin = Instant::now();
    while mpirun.try_wait().unwrap().is_none() {
        assert!(begin.elapsed() < Duration::from_secs(30), "the others do not end");
        sleep(Duration::from_millis(20));
    }
    assert!(!mpirun.wait().unwrap().success());
    check_goes_on(&bench, "run");
    assert_eq!(left_apart(&bench), 0, "what the killed one left is cleared by the next");
}

#[test]
fn a_signal_to_one_saves_the_run_of_all() {
    let bench = Bench::new();
    let mpirun = started(&bench, 2, "run");
    signal("-TERM", &children(&mpirun)[1]);
    let output = mpirun.wait_with_output().unwrap();
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{message}");
    assert_eq!(message.matches("interrupted, saved").count(), 1, "{message}");
    check_goes_on(&bench, "run");
}

/// Of two processes each sends as many numbers as a step has to add up.
#[test]
fn the_throughput_of_a_team_is_measured() {
    let bench = Bench::new();
    let words = "bench --mode train --batch-size 16 --threads 1 --steps 2 --json";
    let output = run(&bench, 2, words);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let found = json(&text(&output.stdout));
    let (sent, parameters) = (found["sent_bytes_a_step"].as_f64().unwrap(), 551_466.0);
    // Statistics of normalisations and totals are few beside the gradients.
    assert!((4.0 * parameters..1.01 * 4.0 * parameters).contains(&sent), "{found}");
    let share = |name: &str| found[name].as_f64().unwrap();
    assert!(
        share("waiting_share") > 0.0 && share("waiting_share") < 1.0 && share("scaling") > 0.0,
        "{found}"
    );
    assert_eq!(found["processes"], 2);
    bench.fails(2, "bench --mode infer --shards 2", &["--shards and mpirun are for --mode train"]);
}

#[test]
fn alone_the_program_is_as_ever() {
    let bench = Bench::new();
    bench.ok(&format!("{QUICK} --out run"));
    let settings = fs::read_to_string(bench.path("run/settings.toml")).unwrap();
    assert!(settings.contains("shards = 1\n"), "{settings}");
}
