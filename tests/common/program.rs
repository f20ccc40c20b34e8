//! The program as a user runs it, in a folder of its own.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use cifar_engine::data::{Images, shapes};
use tempfile::TempDir;

/// A folder with images, 320 to train on and 70 to test on, and a place for runs.
pub struct Bench {
    pub dir: TempDir,
}

impl Bench {
    pub fn new() -> Bench {
        Bench::with(320, 70)
    }

    /// With 100 training and 20 test images, for what is done with every model.
    pub fn small() -> Bench {
        Bench::with(100, 20)
    }

    fn with(training: usize, test: usize) -> Bench {
        let dir = tempfile::tempdir().unwrap();
        let data = shapes::sized(training, test, 32, 1).unwrap();
        let size = training as u32 / 5;
        for batch in 0..5 {
            let indices: Vec<u32> = (batch * size..(batch + 1) * size).collect();
            let name = format!("data_batch_{}.bin", batch + 1);
            fs::write(dir.path().join(name), records(&data.train.subset(&indices))).unwrap();
        }
        fs::write(dir.path().join("test_batch.bin"), records(&data.test)).unwrap();
        Bench { dir }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn run(&self, command: &str) -> Output {
        let mut program = Command::new(env!("CARGO_BIN_EXE_cifar-engine"));
        program
            .current_dir(self.dir.path())
            .args(command.split_whitespace())
            .env("CIFAR_ENGINE_OFFLINE", "1")
            .env("CIFAR_ENGINE_DEVICE", "cpu");
        program.output().unwrap()
    }

    /// Runs a command that must succeed, and returns its standard output.
    pub fn ok(&self, command: &str) -> String {
        let output = self.run(command);
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a command that must fail with this code, in one line that says all of `parts`.
    pub fn fails(&self, code: i32, command: &str, parts: &[&str]) {
        let output = self.run(command);
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{command}: {message}");
        let error = message.lines().find(|line| line.starts_with("error: ")).unwrap_or_default();
        for part in parts {
            assert!(error.contains(part), "{command}: no {part:?} in {message:?}");
        }
    }
}

/// CIFAR-10's records: a label, then the three colour planes.
fn records(images: &Images) -> Vec<u8> {
    let mut bytes = Vec::new();
    for i in 0..images.len() {
        let image = images.image(i).unwrap();
        bytes.push(images.labels[i] as u8);
        for channel in 0..3 {
            bytes.extend(image.iter().skip(channel).step_by(3));
        }
    }
    bytes
}

/// A training of a few seconds.
pub const QUICK: &str = "train --data . --epochs 2 --batch-size 32 --validation 40 --lr 0.02";

pub fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap()
}
