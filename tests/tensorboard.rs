//! The files of `train --tensorboard`: what they say is the history, by the reader of TensorBoard
//! itself where it is installed (CIFAR_ENGINE_TEST_TENSORBOARD, a Python that has it).

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use cifar_engine::report::tensorboard::{FILE, events};
use common::program::Bench;

const TRAIN: &str = "train --data . --batch-size 64 --validation 40 --schedule constant --out run";

/// Prints `part tag step value` of every figure in the folder of a run.
const READER: &str = "
import sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
for part in ('train', 'validation'):
    events = EventAccumulator(f'{sys.argv[1]}/{part}').Reload()
    for tag in events.Tags()['scalars']:
        for event in events.Scalars(tag):
            print(part, tag, event.step, event.value)
";

/// The figures by part, name and epoch.
type Figures = BTreeMap<(String, String, i64), f32>;

/// What metrics.csv says.
fn history(run: &Path) -> Figures {
    let mut figures = Figures::new();
    let text = fs::read_to_string(run.join("metrics.csv")).unwrap();
    for line in text.lines().skip(1) {
        let cells: Vec<&str> = line.split(',').collect();
        let names = ["", "train loss", "train accuracy", "validation loss", "validation accuracy"];
        let names = names.into_iter().chain(["train learning_rate", "train images_per_s"]);
        for (name, cell) in names.zip(&cells).skip(1) {
            let (part, tag) = name.split_once(' ').unwrap();
            let value = cell.parse::<f64>().unwrap() as f32;
            figures.insert((part.into(), tag.into(), cells[0].parse().unwrap()), value);
        }
    }
    figures
}

/// What the files say.
fn written(run: &Path) -> Figures {
    let mut figures = Figures::new();
    for part in ["train", "validation"] {
        for event in events(&fs::read(run.join("tensorboard").join(part).join(FILE)).unwrap()) {
            for figure in event.summary.into_iter().flat_map(|summary| summary.value) {
                figures.insert((part.into(), figure.tag, event.step), figure.simple_value.unwrap());
            }
        }
    }
    figures
}

#[test]
fn the_files_say_what_the_history_says_through_a_resumption() {
    let bench = Bench::new();
    bench.ok(&format!("{TRAIN} --epochs 2 --tensorboard"));
    let run = bench.path("run");
    let begun = fs::read(run.join("tensorboard/train").join(FILE)).unwrap();
    bench.ok("resume run --epochs 4");
    assert!(fs::read(run.join("tensorboard/train").join(FILE)).unwrap().starts_with(&begun));
    let expected = history(&run);
    assert_eq!(expected.len(), 4 * 6);
    assert_eq!(written(&run), expected);
    let Some(python) = std::env::var_os("CIFAR_ENGINE_TEST_TENSORBOARD") else {
        return eprintln!("CIFAR_ENGINE_TEST_TENSORBOARD is not set: TensorBoard's own reader is not run");
    };
    let output = Command::new(python).args(["-c", READER]).arg(run.join("tensorboard")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut read = Figures::new();
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let [part, tag, step, value] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        read.insert((part.into(), tag.into(), step.parse().unwrap()), value.parse::<f64>().unwrap() as f32);
    }
    assert_eq!(read, expected);
}

#[test]
fn without_the_option_there_are_none_and_the_weights_are_the_same() {
    let bench = Bench::new();
    bench.ok(&format!("{TRAIN} --epochs 1"));
    bench.ok(&format!("{TRAIN}2 --epochs 1 --tensorboard"));
    assert!(!bench.path("run/tensorboard").exists() && bench.path("run2/tensorboard").exists());
    let weights = |run: &str| fs::read(bench.path(run).join("last.safetensors")).unwrap();
    assert!(weights("run") == weights("run2"));
    // A file in its place is told before the training, and stays.
    fs::create_dir(bench.path("run3")).unwrap();
    fs::write(bench.path("run3/tensorboard"), "mine").unwrap();
    let train = format!("{TRAIN}3 --epochs 1");
    bench.fails(1, &format!("{train} --tensorboard"), &["run3", "holds a file tensorboard"]);
    assert!(!bench.path("run3/settings.toml").exists());
    bench.ok(&train);
    assert_eq!(fs::read(bench.path("run3/tensorboard")).unwrap(), b"mine");
}
