//! Whatever happens to a training, what it has saved is whole, and going on from there gives what
//! it would have given.
//!
//! `CIFAR_ENGINE_TEST_KILLS` sets how often a run is killed (a few times otherwise), and
//! `CIFAR_ENGINE_TEST_STRIDE` the distance in bytes between the places where a checkpoint is
//! damaged.
#![cfg(unix)]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use cifar_engine::kernels::rng::{self, Stream};
use cifar_engine::train::checkpoint::Checkpoint;
use cifar_engine::train::run_folder::RunFolder;
use cifar_engine::weights;
use common::mobilenet::write_weights;
use common::program::{Bench, json};

const TRAIN: &str = "train --data . --batch-size 32 --validation 40 --lr 0.02 --epochs 6 --quiet";
/// As many steps an epoch; one epoch of the classifier, five of all layers.
const FINETUNE: &str = "finetune --pretrained pretrained.safetensors --data . --image-size 32 --batch-size 32 \
                        --validation 40 --lr 0.02 --epochs 6 --head-epochs 1 --quiet";

fn number(variable: &str, otherwise: usize) -> usize {
    std::env::var(variable).map_or(otherwise, |value| value.parse().unwrap())
}

fn start(bench: &Bench, command: &str) -> Child {
    let mut program = Command::new(env!("CARGO_BIN_EXE_cifar-engine"));
    program.current_dir(bench.dir.path()).args(command.split_whitespace());
    program.env("CIFAR_ENGINE_OFFLINE", "1").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Waits until `ready` or the end of the child; whether it was ready.
fn wait(child: &mut Child, mut ready: impl FnMut() -> bool) -> bool {
    loop {
        if ready() {
            return true;
        }
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        std::thread::sleep(Duration::from_micros(200));
    }
}

fn checkpoint(run: &Path) -> Option<Checkpoint> {
    let path = run.join("checkpoint.safetensors");
    path.exists().then(|| Checkpoint::load(&path).unwrap())
}

/// Steps of an epoch: 280 images in batches of 32, the last one filled up.
const AN_EPOCH: usize = 9;

/// How many steps a run has made, by its checkpoint.
fn steps(checkpoint: &Option<Checkpoint>) -> usize {
    checkpoint.as_ref().map_or(0, |c| c.progress.history.len() * AN_EPOCH + c.progress.step)
}

fn assert_same_outcome(bench: &Bench, one: &str, other: &str) {
    for file in ["best.safetensors", "last.safetensors", "predictions.csv"] {
        let bytes = |run: &str| fs::read(bench.path(run).join(file)).unwrap();
        assert!(bytes(one) == bytes(other), "{file} of {one} and {other} differ");
    }
}

/// The states of the checkpoints that a run has kept, which must be whole.
fn kept(run: &Path) -> Vec<BTreeMap<String, Vec<f32>>> {
    let files = RunFolder::kept(run).unwrap().into_iter();
    files.map(|(_, path)| Checkpoint::load(&path).unwrap().states).collect()
}

/// Kills runs of a command at random moments, goes on with each every time until it ends, and holds
/// the outcome against that of a run in peace; as many runs as it takes.
fn kill_and_resume(bench: &Bench, command: &str) {
    let (subcommand, _) = command.split_once(' ').unwrap();
    let command = format!("{command} --keep-checkpoints");
    let begin = Instant::now();
    bench.ok(&format!("{command} --out whole"));
    let duration = begin.elapsed();
    let folder = bench.path("run");
    let (wanted, mut kills, mut while_writing, mut runs) = (number("CIFAR_ENGINE_TEST_KILLS", 6), 0, 0, 0);
    let (mut before, mut attempt) = (0, 0);
    loop {
        let begun = folder.join("settings.toml").exists();
        let resume = || format!("{subcommand} --resume run --quiet");
        let mut child = start(bench, &if begun { resume() } else { format!("{command} --out run") });
        let dice = rng::draw(11, Stream::Split, 0, attempt);
        attempt += 1;
        let killed = kills < wanted && until_a_moment(&mut child, &folder, duration, dice);
        if !killed {
            assert!(child.wait().unwrap().success());
            assert_same_outcome(bench, "whole", "run");
            let states = kept(&folder);
            assert!(states.len() == 6 && states == kept(&bench.path("whole")), "{} are kept", states.len());
            runs += 1;
            if kills == wanted {
                break;
            }
            fs::remove_dir_all(&folder).unwrap();
            before = 0;
            continue;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
        while_writing += usize::from(fs::read_dir(&folder).is_ok_and(|entries| {
            entries.flatten().any(|entry| entry.file_name().to_string_lossy().ends_with(".writing"))
        }));
        let after = steps(&checkpoint(&folder));
        assert!(kept(&folder).len() >= after / AN_EPOCH);
        assert!(after >= before, "a kill took back {before} steps to {after}");
        before = after;
    }
    println!("{subcommand}: {kills} kills of {runs} runs, {while_writing} of them while a file was written");
}

/// Waits for a random moment: half of them any, half up to two epochs later in the middle of
/// writing one of the files; of a large one, at some moment of it. Whether it came before the end
/// of the child.
fn until_a_moment(child: &mut Child, folder: &Path, duration: Duration, dice: [u32; 4]) -> bool {
    if !dice[0].is_multiple_of(2) {
        let moment = Instant::now() + duration.mul_f32(rng::unit(dice[1]) / 3.0);
        return wait(child, || Instant::now() >= moment);
    }
    let files = ["checkpoint.safetensors", "last.safetensors", "best.safetensors", "metrics.csv"];
    let temporary = folder.join(format!(".{}.writing", files[dice[1] as usize % files.len()]));
    let length = u64::from(dice[2]) % 5_000_000;
    let epochs = || fs::read_to_string(folder.join("metrics.csv")).map_or(0, |rows| rows.lines().count());
    let later = epochs() + dice[2] as usize % 3;
    let length = length.min(1 << (dice[3] % 23));
    wait(child, || epochs() >= later && fs::metadata(&temporary).is_ok_and(|found| found.len() >= length))
}

#[test]
fn a_run_that_is_killed_again_and_again_loses_nothing() {
    kill_and_resume(&Bench::new(), TRAIN);
}

#[test]
fn nor_does_a_fine_tuning_in_either_stage() {
    let bench = Bench::new();
    write_weights(&bench.path("pretrained.safetensors"));
    kill_and_resume(&bench, FINETUNE);
}

#[test]
fn a_run_can_be_taken_over_only_when_its_process_is_gone() {
    let bench = Bench::new();
    let mut child = start(&bench, &format!("{TRAIN} --epochs 5000 --out run"));
    let folder = bench.path("run");
    assert!(wait(&mut child, || folder.join("checkpoint.safetensors").exists()));
    bench.fails(1, "train --resume run", &["run: another training is writing to it"]);
    bench.fails(1, &format!("{TRAIN} --out run"), &["run: another training is writing to it"]);
    child.kill().unwrap();
    child.wait().unwrap();
    let saved = steps(&checkpoint(&folder));
    let mut child = start(&bench, "train --resume run");
    assert!(wait(&mut child, || checkpoint(&folder)
        .as_ref()
        .is_some_and(|c| c.progress.history.len() * AN_EPOCH > saved)));
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    checkpoint(&folder).unwrap();
}

/// As `timeout` sends its own to a program and then to the group that this is in.
#[cfg(target_os = "linux")]
#[test]
fn signals_at_once_are_one_and_a_later_one_does_not_wait() {
    let bench = Bench::new();
    // Nobody writes to it: where the program waits for that, it does not look for signals.
    assert!(Command::new("mkfifo").arg(bench.path("settings.toml")).status().unwrap().success());
    let mut child = start(&bench, "train --config settings.toml");
    let id = child.id();
    let listens = || {
        let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).map(str::trim);
        let caught = caught.and_then(|mask| u64::from_str_radix(mask, 16).ok()).unwrap_or(0);
        let [interrupt, terminate] = [2, 15].map(|signal| caught >> (signal - 1) & 1 == 1);
        interrupt && terminate && status.contains("State:\tS")
    };
    assert!(wait(&mut child, listens));
    let send = |commands: &str| Command::new("sh").args(["-c", commands]).status().unwrap();
    send(&format!("kill -INT {id}; kill -TERM {id}"));
    std::thread::sleep(Duration::from_millis(400));
    assert!(child.try_wait().unwrap().is_none(), "the second one of two at once was taken for a later one");
    send(&format!("kill -TERM {id}"));
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

/// A file may grow to this many blocks of 1 KiB: weights may, checkpoints may not. What a full disk
/// does, without one.
const LIMIT: usize = 3000;

#[test]
fn a_disk_that_fills_up_keeps_the_checkpoint_before() {
    let bench = Bench::new();
    bench.ok(&format!("{TRAIN} --out whole"));
    let mut child = start(&bench, &format!("{TRAIN} --out run"));
    let folder = bench.path("run");
    assert!(wait(&mut child, || folder.join("checkpoint.safetensors").exists()));
    child.kill().unwrap();
    child.wait().unwrap();
    let before = checkpoint(&folder);

    let program = env!("CARGO_BIN_EXE_cifar-engine");
    let limited = format!("ulimit -f {LIMIT}; exec {program} train --resume run --quiet");
    let output = Command::new("bash").current_dir(bench.dir.path()).args(["-c", &limited]).output().unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(
        message.contains("error: run/checkpoint.safetensors: ")
            && message.contains("raise the limit or choose another"),
        "{message}"
    );
    assert!(checkpoint(&folder) == before);
    assert!(!folder.join(".checkpoint.safetensors.writing").exists(), "half a file takes up the space");
    bench.ok("train --resume run --quiet");
    assert_same_outcome(&bench, "whole", "run");
}

#[test]
fn a_damaged_checkpoint_is_refused_wherever_the_damage_is() {
    let bench = Bench::new();
    bench.ok(&format!("{TRAIN} --epochs 1 --out run"));
    let path = bench.path("run/checkpoint.safetensors");
    let whole = fs::read(&path).unwrap();
    let good = Checkpoint::load(&path).unwrap();
    let (mut places, mut harmless) = (0, 0);
    for at in (0..whole.len()).step_by(number("CIFAR_ENGINE_TEST_STRIDE", 100_000)) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        fs::write(&path, &bytes).unwrap();
        match Checkpoint::load(&path) {
            Ok(loaded) => {
                assert!(loaded == good, "damage at {at} went unseen");
                harmless += 1;
            }
            Err(error) => assert!(error.to_string().contains("checkpoint.safetensors: "), "{error}"),
        }
        places += 1;
    }
    println!("{places} places, {harmless} of them without meaning");
    assert!(harmless <= 1);
    let last = fs::read(bench.path("run/last.safetensors")).unwrap();
    fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    bench.fails(1, "train --resume run", &["run/checkpoint.safetensors: ", "cut short"]);
    let mut bytes = whole.clone();
    bytes[whole.len() / 2] ^= 1;
    fs::write(&path, &bytes).unwrap();
    bench.fails(1, "train --resume run", &["run/checkpoint.safetensors: ", "damaged", "last.safetensors"]);
    assert!(fs::read(bench.path("run/last.safetensors")).unwrap() == last, "the weights are still there");
    // Without the checkpoint the run begins again, which is better than not at all.
    fs::remove_file(&path).unwrap();
    assert_eq!(json(&bench.ok("train --resume run --json -q"))["epochs"], 1);
}

#[test]
fn weights_that_do_not_fit_are_explained() {
    let bench = Bench::new();
    bench.ok(&format!("{TRAIN} --epochs 1 --out run"));
    let good = weights::load(bench.path("run/best.safetensors")).unwrap();
    let changed = |name: &str, change: &dyn Fn(&mut weights::WeightsFile)| {
        let mut file = good.clone();
        change(&mut file);
        weights::save(bench.path(name), &file).unwrap();
    };
    changed("shape.safetensors", &|file| {
        let tensor = file.tensors.get_mut("fc1.weight").unwrap();
        tensor.shape = vec![64, 4096];
    });
    changed("missing.safetensors", &|file| {
        file.tensors.remove("bn3.bias");
    });
    changed("classes.safetensors", &|file| {
        file.metadata.insert("classes".into(), r#"["cat","dog"]"#.into());
    });
    changed("nan.safetensors", &|file| file.tensors.get_mut("fc2.bias").unwrap().data[3] = f32::NAN);
    let bytes = fs::read(bench.path("run/best.safetensors")).unwrap();
    fs::write(bench.path("cut.safetensors"), &bytes[..bytes.len() - 100]).unwrap();
    fs::write(bench.path("page.safetensors"), "<html>not found</html>").unwrap();
    fs::write(bench.path("empty.safetensors"), "").unwrap();
    for (name, parts) in [
        ("shape", ["fc1.weight: [64, 4096]", "expected [128, 2048]"]),
        ("missing", ["1 missing", "bn3.bias"]),
        ("classes", ["fc2.weight: [10, 128]", "expected [2, 128]"]),
        ("nan", ["not finite numbers", "damaged"]),
        ("cut", ["cut short", "promises"]),
        ("page", ["is a web page", "no safetensors file"]),
        ("empty", ["empty or cut short", "whole copy"]),
    ] {
        let parts = [parts[0], parts[1], &format!("{name}.safetensors: ")];
        bench.fails(1, &format!("evaluate {name}.safetensors --data ."), &parts);
        bench.fails(1, &format!("predict --sample 0 --data . --weights {name}.safetensors"), &parts);
    }
}

#[test]
fn a_place_that_cannot_be_written_is_told_before_the_training() {
    let bench = Bench::new();
    fs::write(bench.path("file"), "x").unwrap();
    bench.fails(1, &format!("{TRAIN} --out file"), &["file", "not a folder"]);
    std::os::unix::fs::symlink("nowhere", bench.path("link")).unwrap();
    bench.fails(1, &format!("{TRAIN} --out link"), &["link", "not a folder"]);
    bench.fails(1, &format!("{TRAIN} --out file/run"), &["file/run", "cannot be created"]);
    bench.fails(1, &format!("{TRAIN} --out /proc/run"), &["/proc/run", "cannot be created"]);
}

/// Permissions mean nothing to root, so there the program runs as another user. Where it lies, that
/// one may not be allowed to look, so a copy is run.
fn without_privileges(bench: &Bench, arguments: &str) -> (Option<i32>, String) {
    const NOBODY: u32 = 65534;
    let mut command = Command::new(bench.path("cifar-engine"));
    command.current_dir(bench.dir.path()).args(arguments.split_whitespace()).env("CIFAR_ENGINE_OFFLINE", "1");
    if fs::metadata("/proc/self").is_ok_and(|found| found.uid() == 0) {
        command.uid(NOBODY).gid(NOBODY);
    }
    let output = command.output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_read_only_folder_keeps_what_it_has() {
    let bench = Bench::new();
    bench.ok(&format!("{TRAIN} --schedule constant --epochs 1 --out run"));
    fs::copy(env!("CARGO_BIN_EXE_cifar-engine"), bench.path("cifar-engine")).unwrap();
    let allow = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let (top, run) = (bench.path("."), bench.path("run"));
    let before = checkpoint(&run);
    fs::read_dir(&run).unwrap().for_each(|entry| allow(&entry.unwrap().path(), 0o444));
    [&top, &run].into_iter().for_each(|folder| allow(folder, 0o555));
    let resume = "train --resume run --epochs 2";
    let refused = |command: &str, part: &str| {
        let (code, message) = without_privileges(&bench, command);
        assert!(code == Some(1) && message.contains(part), "{command}: {code:?} {message}");
        assert!(checkpoint(&run) == before);
    };
    refused(resume, "error: run/.lock: no permission to write here; choose another");
    refused(
        "train --data . --epochs 1 --out run/inner",
        "error: run/inner: cannot be created: no permission",
    );
    refused("train --data . --epochs 1", "error: runs: cannot be created: no permission");
    // To look into it takes no right to write.
    for look in ["verify run", "replay run --epoch 1 --step 1 --json", "inspect run --json"] {
        let (code, message) = without_privileges(&bench, look);
        assert_eq!(code, Some(0), "{look}: {message}");
    }
    // The folder may be claimed, but nothing can be saved in it.
    allow(&run.join(".lock"), 0o666);
    refused(resume, "error: run/settings.toml: no permission");
    [&top, &run].into_iter().for_each(|folder| allow(folder, 0o755));
    assert_eq!(json(&bench.ok("train --resume run --epochs 2 --json -q"))["epochs"], 2);
}

/// A folder may be a whole class, other than an image.
#[test]
fn data_without_a_class_that_is_closed_are_no_data() {
    let bench = Bench::new();
    fs::copy(env!("CARGO_BIN_EXE_cifar-engine"), bench.path("cifar-engine")).unwrap();
    for (class, mode) in [("cat", 0o755), ("cow", 0o755), ("dog", 0o700)] {
        let folder = bench.path("pets").join(class);
        fs::create_dir_all(&folder).unwrap();
        let write = |number: u8| {
            image::RgbImage::from_pixel(16, 16, image::Rgb([40 * number; 3]))
                .save(folder.join(format!("{number}.png")))
                .unwrap();
        };
        (0..6).for_each(write);
        fs::set_permissions(&folder, fs::Permissions::from_mode(mode)).unwrap();
    }
    for name in [".", "pets"] {
        fs::set_permissions(bench.path(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    if fs::metadata("/proc/self").is_ok_and(|found| found.uid() != 0) {
        fs::set_permissions(bench.path("pets/dog"), fs::Permissions::from_mode(0o0)).unwrap();
    }
    let (code, message) = without_privileges(&bench, "data pets");
    assert!(code == Some(1) && message.contains("pets/dog: no permission to read it"), "{code:?} {message}");
    assert!(message.contains("--skip-bad leaves out what cannot be read"), "{message}");
    let (code, message) = without_privileges(&bench, "data pets --skip-bad");
    assert!(code == Some(0) && message.contains("1 folder without permission (pets/dog)"), "{message}");
    fs::remove_dir_all(bench.path("pets/cow")).unwrap();
    let (code, message) = without_privileges(&bench, "data pets --skip-bad");
    let told = "only one class (cat); two are needed to tell apart; left out: 1 folder without permission \
                (pets/dog)";
    assert!(code == Some(1) && message.contains(told), "{message}");
    fs::set_permissions(bench.path("pets/dog"), fs::Permissions::from_mode(0o755)).unwrap();
}
