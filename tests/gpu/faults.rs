//! What fails ends with one clear message, and leaves on disk what was finished.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use cifar_engine::data::{self, Dataset};
use cifar_engine::error::Result;
use cifar_engine::exec::gpu::Gpu;
use cifar_engine::exec::gpu::adapter::Adapter;
use cifar_engine::exec::{Device, PlanId};
use cifar_engine::models::LoadedModel;
use cifar_engine::report::EpochMetrics;
use cifar_engine::train::optimizers::sgd::SGD;
use cifar_engine::train::run_folder::RunFolder;
use cifar_engine::train::settings::Settings;
use cifar_engine::train::{self, Observer, StepProgress};

use super::Training;
use super::common::gpu;
use super::common::hooked::{Hook, Hooked};
use super::common::program::Bench;
use super::training::{load, start};

/// The GPU is lost after so many runs.
struct LostAfter(usize);

impl Hook<Gpu> for LostAfter {
    fn before(&mut self, gpu: &mut Gpu, _: PlanId) -> Result<()> {
        if self.0 == 0 {
            gpu.destroy();
        }
        self.0 = self.0.saturating_sub(1);
        Ok(())
    }
}

/// Counts the epochs.
#[derive(Default)]
struct Epochs(usize);

impl Observer for Epochs {
    fn step(&mut self, _: &StepProgress) {}

    fn keep_going(&self) -> bool {
        true
    }

    fn epoch(&mut self, _: &EpochMetrics) {
        self.0 += 1;
    }
}

#[test]
fn a_lost_gpu_ends_the_training_and_leaves_the_last_checkpoint() {
    let Some(gpu) = gpu::open() else { return };
    let folder = tempfile::tempdir().unwrap();
    let training = Training::new(&SGD, 16);
    let settings = Settings { epochs: 3, validation: 0, ..training.settings };
    let data: Dataset = data::shapes::sized(64, 10, settings.image_size, 1).unwrap();
    let run = RunFolder::create(Some(folder.path().join("run")), &settings, "shapes").unwrap();
    // Four steps an epoch: it is lost in the second.
    let (mut device, mut epochs) = (Hooked { device: gpu, hook: LostAfter(6) }, Epochs::default());
    let error = train::train(&mut device, &settings, data, &run, &mut epochs).unwrap_err();
    assert_eq!(epochs.0, 1);
    assert!(error.to_string().contains("the GPU was lost"), "{error}");
    LoadedModel::open(&run.last()).unwrap();
    assert_eq!(run.checkpoint().unwrap().unwrap().progress.history.len(), 1);
}

/// Whatever is asked of it afterwards says what happened first.
#[test]
fn a_lost_gpu_answers_nothing() {
    let Some(mut gpu) = gpu::open() else { return };
    let training = Training::new(&SGD, 4);
    let program = training.program();
    let plan = gpu.load(&program.graph).unwrap();
    training.prepare(&mut gpu, plan, &program.parameters);
    gpu.write(plan, "indices", training.indices(0).as_slice().into()).unwrap();
    gpu.write(plan, "step", [0u32].as_slice().into()).unwrap();
    gpu.write(plan, "rate", [0.5f32].as_slice().into()).unwrap();
    gpu.write(plan, "loss_gradient", [1.0f32].as_slice().into()).unwrap();
    gpu.run(plan).unwrap();
    gpu.destroy();
    let errors = [
        gpu.run(plan).unwrap_err(),
        gpu.read(plan, "totals").unwrap_err(),
        gpu.write(plan, "rate", [0.5f32].as_slice().into()).unwrap_err(),
        gpu.load(&program.graph).unwrap_err(),
    ];
    for error in errors {
        assert!(error.to_string().contains("the GPU was lost"), "{error}");
    }
}

/// What a driver gave up and reported as done is no result.
#[test]
fn a_run_that_did_not_end_gives_no_values() {
    for seconds in [f64::INFINITY, 0.0] {
        let Some(mut gpu) = gpu::open() else { return };
        gpu.set_submission_seconds(seconds);
        let training = Training::new(&SGD, 4);
        let plan = load(&mut gpu, &training);
        start(&mut gpu, plan, &training, 0);
        let mut runs = 0;
        gpu.collect(plan, true, &mut |_| runs += 1).unwrap();
        gpu.lose_submission(plan).unwrap();
        start(&mut gpu, plan, &training, 1);
        let error = gpu.collect(plan, true, &mut |_| runs += 1).unwrap_err().to_string();
        assert_eq!(runs, 1);
        assert!(error.contains("reported a run as done that its driver gave up"), "{error}");
    }
}

/// The program on a GPU that takes its memory from the system. One heap: others reserve address
/// space as they please.
fn on_software(name: &str, shell: &str) -> Command {
    let mut program = Command::new("bash");
    program.args(["-c", shell]).stdout(Stdio::null()).stderr(Stdio::piped());
    program.envs([("WGPU_ADAPTER_NAME", name), ("CIFAR_ENGINE_DEVICE", "gpu"), ("MALLOC_ARENA_MAX", "1")]);
    program
}

/// The most address space that a command ever had, in KiB.
fn peak_kib(mut command: Command) -> usize {
    let mut child = command.stderr(Stdio::null()).spawn().unwrap();
    let mut peak = 0;
    while child.try_wait().unwrap().is_none() {
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmPeak:")).unwrap_or_default();
        peak = peak.max(line.trim().trim_end_matches(" kB").parse().unwrap_or(0));
        std::thread::sleep(Duration::from_millis(5));
    }
    peak
}

/// A software adapter promises any amount of memory, unless the process may have no more
/// than it has: here as much as a step of one image takes, and half of what the batch needs
/// besides.
#[test]
fn a_gpu_without_memory_ends_the_training_and_leaves_the_checkpoint() {
    let limitable = |adapter: &Adapter| cfg!(target_os = "linux") && adapter.is_software();
    let Some(gpu) = Adapter::all().unwrap().into_iter().find(limitable) else {
        return println!(
            "not tested: only of a GPU that is played by a program, on Linux, is the memory limited"
        );
    };
    const BATCH: usize = 320;
    let (bench, program) = (Bench::new(), env!("CARGO_BIN_EXE_cifar-engine"));
    let train = format!("--data . --batch-size {BATCH} --validation 0 --schedule constant --lr 0.01");
    bench.ok(&format!("train {train} --epochs 1 --out run --quiet"));
    let before = fs::read(bench.path("run/checkpoint.safetensors")).unwrap();

    let small = format!("exec {program} bench --batch-size 1 --steps 1");
    let needed =
        Gpu::open(&gpu).unwrap().plan(&Training::new(&SGD, BATCH).program().graph).unwrap().slot_bytes()
            >> 10;
    let limit = peak_kib(on_software(&gpu.name(), &small)) + needed / 2;
    let limited =
        format!("ulimit -v {limit}; exec {program} train --resume run --epochs 2 --quiet --no-check");
    let output = on_software(&gpu.name(), &limited).current_dir(bench.dir.path()).output().unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.contains("error: the GPU is out of memory; choose a smaller batch"), "{message}");
    assert!(fs::read(bench.path("run/checkpoint.safetensors")).unwrap() == before);
    bench.ok("train --resume run --epochs 2 --quiet");
}
