//! The program from outside: train, evaluate and predict on a small data set in CIFAR-10's format,
//! and everything that can be wrong with what they are given.

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;

use cifar_engine::data::shapes;
use cifar_engine::exec::{Precision, device};
use cifar_engine::kernels::simd::Isa;
use cifar_engine::report::run;
use cifar_engine::train::run_folder::RunFolder;
use cifar_engine::train::settings::Settings;
use cifar_engine::train::{self, Unobserved};
use common::program::{Bench, QUICK, json};

#[test]
fn train_evaluate_and_predict_work_on_what_train_wrote() {
    let bench = Bench::new();
    let result = json(&bench.ok(&format!("{QUICK} --out run --json")));
    assert_eq!((result["epochs"].as_u64(), result["run"].as_str()), (Some(2), Some("run")));

    let table = fs::read_to_string(bench.path("run/metrics.csv")).unwrap();
    let header = "epoch,train_loss,train_accuracy,validation_loss,validation_accuracy,rate,images_per_s,\
                  seconds,validation_images";
    assert_eq!(table.lines().next(), Some(header));
    assert_eq!(table.lines().count(), 3);
    assert_eq!(fs::read_to_string(bench.path("run/metrics.jsonl")).unwrap().lines().count(), 2);
    let weights = ["best.safetensors", "last.safetensors", "checkpoint.safetensors"];
    for file in ["settings.toml", "curves.png", "result.json"].into_iter().chain(weights).chain(run::FILES) {
        assert!(bench.path("run").join(file).metadata().unwrap().len() > 0, "{file}");
    }

    // Every table says the same as the result.
    let text = |file: &str| fs::read_to_string(bench.path("run").join(file)).unwrap();
    let right = 70.0 * result["test_accuracy"].as_f64().unwrap();
    let rows =
        |file: &str| text(file).lines().skip(1).map(|l| l.split(',').map(String::from).collect()).collect();
    let matrix: Vec<Vec<String>> = rows("confusion.csv");
    let diagonal: f64 = (0..10).map(|i| matrix[i][i + 1].parse::<f64>().unwrap()).sum();
    let predictions: Vec<Vec<String>> = rows("predictions.csv");
    let same = predictions.iter().filter(|row| row[1] == row[2]).count();
    assert_eq!((predictions.len(), diagonal.round(), same as f64), (70, right.round(), right.round()));
    assert_eq!(json(&text("result.json"))["test_accuracy"], result["test_accuracy"]);
    let page = text("report.html");
    assert!(page.contains("automobile") && page.contains("seed = 0") && !page.contains("http"));

    let evaluation = json(&bench.ok("evaluate run/best.safetensors --data . --json"));
    assert_eq!(evaluation["accuracy"], result["test_accuracy"]);
    assert_eq!(evaluation["loss"], result["test_loss"]);
    assert_eq!(evaluation["accuracy_without_flip"], result["test_accuracy_without_flip"]);
    bench.ok("evaluate run/best.safetensors --data . --report again");
    let file = |path: &str| fs::read(bench.path(path)).unwrap();
    assert!(file("again/confusion.csv") == file("run/confusion.csv"));
    let plain = json(&bench.ok("evaluate run/best.safetensors --data . --json --test-flip=false"));
    assert_eq!(plain["accuracy"], evaluation["accuracy_without_flip"]);
    assert_ne!(plain["loss"], evaluation["loss"]);
    assert_eq!(evaluation["per_class"].as_object().unwrap().len(), 10);

    let sample = json(&bench.ok("predict --sample 5 --weights run/best.safetensors --data . --json"));
    assert_eq!(sample["label"], "dog", "the sixth of CIFAR-10's classes");
    assert!(bench.path("sample-5.png").exists());
    let image = json(&bench.ok("predict sample-5.png --weights run/best.safetensors --json"));
    let top = image[0]["predictions"].as_array().unwrap();
    assert_eq!(top.len(), 5);
    assert!(top[0]["probability"].as_f64() >= top[4]["probability"].as_f64());
}

#[test]
fn the_number_of_threads_changes_no_bit_and_the_seed_does() {
    let bench = Bench::new();
    for (run, options) in [("one", "--threads 1"), ("two", "--threads 2"), ("three", "--threads 3 --seed 1")]
    {
        bench.ok(&format!("{QUICK} --out {run} {options}"));
    }
    let weights = |run: &str| fs::read(bench.path(run).join("last.safetensors")).unwrap();
    assert!(weights("one") == weights("two"));
    assert!(weights("one") != weights("three"));
}

#[test]
fn training_learns() {
    let bench = Bench::new();
    // 320 images by heart: augmentation, smoothing and dropout would only be in the way.
    let options = "--epochs 20 --validation 0 --augment none --label-smoothing 0 --dropout 0 --lr 0.05";
    bench.ok(&format!("train --data . --batch-size 32 --out run {options}"));
    let table = fs::read_to_string(bench.path("run/metrics.csv")).unwrap();
    let last: Vec<f64> =
        table.lines().last().unwrap().split(',').map(|cell| cell.parse().unwrap_or(-1.0)).collect();
    assert!(last[2] > 0.95, "training accuracy {}", last[2]);
    assert_eq!(last[4], -1.0, "there is no validation accuracy");
}

#[test]
fn bad_options_are_usage_errors() {
    let bench = Bench::new();
    bench.fails(2, "train --data . --validation 320 --out run", &["validation"]);
    bench.fails(2, "train --data . --lr -1", &["--lr", "-1"]);
    bench.fails(2, "train --data . --lr 1e300", &["--lr", "not inf (numbers end at 3.4e38)"]);
    bench.fails(2, "train --data . --epochs 0", &["--epochs"]);
    bench.fails(2, "train --data . --validation -1", &["'-1'", "--validation", "a whole number"]);
    bench.fails(2, "train --data . --seed -1", &["'-1'", "--seed", "no larger than 4294967295"]);
    bench.fails(2, "bench --steps -1", &["-1", "--steps"]);
    bench.fails(1, "train --data /dev/null", &["/dev/null", "is neither a file nor a folder"]);
    bench.fails(2, "train --data . --dropout 1", &["--dropout"]);
    bench.fails(2, "train --data . --isa abacus", &["abacus", "portable"]);
    bench.fails(2, "train --data . --ema 1", &["--ema"]);
    bench.fails(2, "train --data . --early-stop 18446744073709551615", &["--early-stop", "no larger than"]);
    bench.fails(2, "train --data . --clip -1", &["--clip"]);
    bench.fails(2, "train --data . --target 0.9", &["--target", "per cent"]);
    bench.fails(2, "train --data . --plateau 3", &["--plateau", "--schedule constant"]);
    bench.fails(2, "train --data . --early-stop 3 --validation 0", &["--early-stop", "validation"]);
    bench.fails(2, "lr-find --data . --from 1 --to 0.1", &["--from 1", "--to 0.1"]);
    bench.fails(2, "train --data . --augment shift=32", &["shift=32", "32 pixels"]);
    bench.fails(2, "train --data . --epochs 99999999999", &["99999999999", "20000"]);
    // What is wrong with the options alone shows before the data is even looked for.
    bench.fails(2, "train --data nowhere --epochs 0", &["--epochs"]);
    assert_eq!(bench.run("summary cnn --image-size 4").status.code(), Some(2));
    assert_eq!(bench.run("bench --threads 100000").status.code(), Some(2));
    assert_eq!(bench.run("train --augment flop").status.code(), Some(2));
    assert_eq!(bench.run("train --model gpt").status.code(), Some(2));
    assert_eq!(bench.run("frobnicate").status.code(), Some(2));
}

#[test]
fn an_output_folder_that_cannot_be_used_fails_before_the_training() {
    let bench = Bench::new();
    fs::write(bench.path("file"), "x").unwrap();
    bench.fails(1, &format!("{QUICK} --out file/run"), &["file/run", "cannot be created"]);
    bench.ok(&format!("{QUICK} --epochs 1 --out run"));
    bench.fails(1, &format!("{QUICK} --out run"), &["holds a run already", "--out"]);

    // Files of something else are not overwritten, and the folder stays as it was.
    fs::create_dir(bench.path("mine")).unwrap();
    fs::write(bench.path("mine/predictions.csv"), "precious").unwrap();
    bench.fails(1, &format!("{QUICK} --out mine"), &["mine: ", "predictions.csv", "--out"]);
    assert_eq!(fs::read(bench.path("mine/predictions.csv")).unwrap(), b"precious");
    assert_eq!(fs::read_dir(bench.path("mine")).unwrap().count(), 1);
}

/// A run that fails before it has saved anything is in nobody's way.
#[test]
fn a_failed_start_is_in_nobodys_way() {
    let bench = Bench::new();
    // What a divergence leaves to be looked at is replaced like nothing.
    bench.fails(1, &format!("{QUICK} --lr 1e30 --schedule constant --out run"), &["no epoch was finished"]);
    assert!(bench.ok("why-nan run").contains("gave"));
    bench.ok(&format!("{QUICK} --epochs 1 --out run"));
    assert!(bench.ok("why-nan run").contains("has not diverged"));
    fs::remove_dir_all(bench.path("run")).unwrap();
    // As one leaves it that is killed before its first epoch.
    fs::create_dir(bench.path("run")).unwrap();
    fs::write(bench.path("run/settings.toml"), "seed = 1").unwrap();
    bench.fails(1, &format!("{QUICK} --out run"), &["holds a run already (settings.toml)"]);
    fs::write(bench.path("run/.lock"), "").unwrap();
    bench.ok(&format!("{QUICK} --epochs 1 --out run"));
}

/// Neither the image of the curves nor one of the report may cost what was trained.
#[test]
fn a_picture_that_cannot_be_drawn_is_only_warned_of() {
    let bench = Bench::new();
    fs::create_dir_all(bench.path("run/curves.png")).unwrap();
    fs::create_dir_all(bench.path("run/samples.png")).unwrap();
    let output = bench.run(&format!("{QUICK} --out run"));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{message}");
    for file in ["curves.png", "samples.png"] {
        let warned = |line: &&str| line.starts_with("warning: ") && line.contains(file);
        assert_eq!(message.lines().filter(warned).count(), 1, "{message}");
    }
    for file in ["best.safetensors", "checkpoint.safetensors", "metrics.csv", "result.json", "report.html"] {
        assert!(bench.path("run").join(file).is_file(), "{file}");
    }
}

/// The default batch, and an explicit one that is larger than the data, shrink; the rate follows
/// the batch.
#[test]
fn the_batch_fits_the_data() {
    let bench = Bench::new();
    for (run, options, batch, rate) in [
        ("usual", "", "batch_size = 16", "rate = 0.0125"),
        ("all", "--batch-size 400", "batch_size = 288", "rate = 0.1"),
    ] {
        let output = bench.run(&format!("train --data . --epochs 1 {options} --out {run}"));
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success() && message.contains("note: batches of"), "{message}");
        let settings = fs::read_to_string(bench.path(run).join("settings.toml")).unwrap();
        assert!(settings.contains(batch) && settings.contains(rate), "{settings}");
    }
}

/// The seconds of the epochs are all the time that the training took.
#[test]
fn every_clock_says_the_same() {
    let bench = Bench::new();
    let result = json(&bench.ok(&format!("{QUICK} --out run --json")));
    let table = fs::read_to_string(bench.path("run/metrics.csv")).unwrap();
    let seconds = |row: &str| row.split(',').nth(7).unwrap().parse::<f64>().unwrap();
    let sum: f64 = table.lines().skip(1).map(seconds).sum();
    assert_eq!(result["seconds"].as_f64(), Some(sum));
    let saved = json(&fs::read_to_string(bench.path("run/result.json")).unwrap());
    assert_eq!(saved["seconds"], result["seconds"]);
}

#[test]
fn settings_in_a_file_are_checked_as_options_are() {
    let bench = Bench::new();
    for (text, part) in [
        ("norm = { epsilon = 0.0, momentum = 0.1 }", "norm.epsilon"),
        ("norm = { epsilon = 1e-5, momentum = nan }", "norm.momentum"),
        ("rate = nan", "--lr"),
    ] {
        fs::write(bench.path("mine.toml"), text).unwrap();
        bench.fails(2, "train --data . --config mine.toml --out run", &[part]);
    }
    let said = |command: &str| String::from_utf8(bench.run(command).stderr).unwrap();
    let of_file = "The value is that of the file mine.toml.";
    assert!(said("train --data . --config mine.toml --out run").contains(of_file));
    assert!(!said("train --data . --config mine.toml --out run --lr nan").contains(of_file));
    assert!(!said("train --data . --config mine.toml --out run --lr 1 --momentum 2").contains(of_file));
    assert!(!bench.path("run").exists());
    // What no version wrote is no setting of the run.
    bench.ok(&format!("{QUICK} --epochs 1 --out run"));
    let path = bench.path("run/settings.toml");
    fs::write(&path, format!("surprise = 1\n{}", fs::read_to_string(&path).unwrap())).unwrap();
    bench.fails(1, "resume run", &["settings.toml: line 1", "surprise"]);
}

#[test]
fn other_test_images_are_told_when_a_run_goes_on() {
    let bench = Bench::new();
    bench.ok(&format!("{QUICK} --schedule constant --epochs 1 --out run"));
    let path = bench.path("test_batch.bin");
    let mut bytes = fs::read(&path).unwrap();
    bytes[100] ^= 1;
    fs::write(&path, bytes).unwrap();
    let output = bench.run("resume run --epochs 2");
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(
        output.status.success() && message.contains("warning: the test images are not those"),
        "{message}"
    );
}

#[test]
fn data_and_weights_that_do_not_fit_are_explained() {
    let bench = Bench::new();
    bench.fails(1, "train --data cifar10 --out run", &["CIFAR-10", "--data PATH", "--data shapes"]);
    bench.fails(1, "train --data nowhere --out run", &["nowhere"]);
    bench.fails(1, "evaluate nothing.safetensors", &["nothing.safetensors"]);

    bench.ok(&format!("{QUICK} --epochs 1 --out run"));
    let weights = "run/best.safetensors";
    bench.fails(
        1,
        &format!("evaluate {weights} --data shapes"),
        &["10 classes", "airplane", "circle", "--data"],
    );
    bench.fails(1, &format!("predict nothing.png --weights {weights}"), &["nothing.png"]);
    bench.fails(2, &format!("predict --sample 70 --weights {weights} --data ."), &["70", "0 to 69"]);

    let bytes = fs::read(bench.path(weights)).unwrap();
    fs::write(bench.path("cut.safetensors"), &bytes[..bytes.len() / 2]).unwrap();
    bench.fails(1, "evaluate cut.safetensors --data .", &["cut.safetensors"]);
}

#[test]
fn a_rate_that_explodes_stops_the_training_and_says_where() {
    let bench = Bench::new();
    let command = format!("{QUICK} --lr 1e30 --schedule constant --out run");
    bench.fails(1, &command, &["not a finite number", "epoch 1, step", "no epoch was finished", "--lr"]);
}

/// A reader that goes away ends nothing and panics nowhere; a full disk is an error.
#[cfg(unix)]
#[test]
fn standard_output_may_be_closed_or_full() {
    let bench = Bench::new();
    let shell = |command: &str| {
        let program = env!("CARGO_BIN_EXE_cifar-engine");
        let mut bash = Command::new("bash");
        bash.current_dir(bench.dir.path()).args(["-c", &format!("set -o pipefail; {program} {command}")]);
        bash.output().unwrap()
    };
    assert_eq!(shell("summary cnn | head -1").status.code(), Some(0));
    let full = shell("summary cnn > /dev/full");
    assert_eq!(full.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&full.stderr).starts_with("error: standard output: cannot be written"));
    assert_eq!(shell(&format!("{QUICK} --out run 2> /dev/full")).status.code(), Some(0));
}

/// A training of many epochs that has saved its first, and the signal that ends it, begun by
/// `shell`, which replaces itself by the program.
#[cfg(unix)]
fn ended_by(bench: &Bench, signal: &str, shell: &str) -> std::process::ExitStatus {
    let program = env!("CARGO_BIN_EXE_cifar-engine");
    let train = "train --data . --epochs 5000 --batch-size 32 --lr 0.1 --out run";
    let mut bash = Command::new("bash");
    bash.current_dir(bench.dir.path()).args(["-c", &format!("{shell} exec {program} {train}")]);
    let mut child = bash.stderr(std::process::Stdio::null()).spawn().unwrap();
    wait_for(&bench.path("run/checkpoint.safetensors"));
    fs::remove_file(bench.path("run/last.safetensors")).unwrap();
    for signal in signal.split(' ') {
        let sent = Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
        assert!(sent.success());
        if signal == "-HUP" && shell.contains("trap") {
            wait_for(&bench.path("run/last.safetensors")); // of an epoch after it
        }
    }
    child.wait().unwrap()
}

/// Whether this process, and so its children, ignore the hangup, signal 1.
#[cfg(target_os = "linux")]
fn ignores_hangup() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
    u64::from_str_radix(ignored.trim(), 16).unwrap() & 1 != 0
}

/// A container, a batch system and a terminal that closes end a training as Ctrl-C does.
#[cfg(target_os = "linux")]
#[test]
fn other_signals_save_as_an_interrupt_does() {
    for (signal, shell) in [("-TERM", ""), ("-HUP", ""), ("-HUP -TERM", "trap '' HUP;")] {
        // Under nohup, children cannot have it otherwise.
        if signal == "-HUP" && ignores_hangup() {
            continue;
        }
        let bench = Bench::new();
        assert_eq!(ended_by(&bench, signal, shell).code(), Some(130), "{signal}");
        assert!(bench.path("run/last.safetensors").exists(), "{signal}");
    }
}

/// Ctrl-C: the weights are saved and the exit code says so.
#[cfg(unix)]
#[test]
fn an_interrupt_saves_the_weights() {
    use std::os::unix::process::ExitStatusExt;
    let bench = Bench::new();
    let status = ended_by(&bench, "-INT", "");
    assert_eq!((status.code(), status.signal()), (Some(130), None));
    assert!(bench.path("run/last.safetensors").exists());

    // What it was begun with is what it goes on with, and nothing else.
    bench.fails(2, "train --resume run --lr 0.5", &["rate = 0.1, now 0.5"]);
    bench.fails(2, "train --resume run --epochs 5001", &["--epochs 5000, not 5001", "constant"]);
    bench.fails(2, "train --resume run --data shapes", &["images are not those", "--data"]);
    bench.fails(1, "train --resume elsewhere", &["elsewhere", "is not a run folder"]);
    bench.fails(1, "train --data . --out run", &["holds a run already", "--resume"]);
}

#[test]
fn a_target_and_early_stopping_end_a_training_and_say_so() {
    let bench = Bench::new();
    let options = "train --data . --batch-size 32 --validation 40 --epochs 9";
    for (name, option, said) in [
        ("target", "--target 1.1", "stopped: the target is reached with"),
        // At this rate the weights hardly move, so nothing improves for long.
        ("early", "--early-stop 2 --lr 1e-8", "stopped: no better validation accuracy in 2 epochs"),
    ] {
        let output = bench.run(&format!("{options} {option} --out {name}"));
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success() && text.contains(said), "{text}");
        let epochs = fs::read_to_string(bench.path(name).join("metrics.csv")).unwrap().lines().count() - 1;
        assert!(epochs < 9, "{name}: {epochs} epochs");
        // What has ended stays ended.
        let again = json(&bench.ok(&format!("train --resume {name} --json")));
        assert_eq!(again["epochs"], epochs);
    }
}

#[test]
fn a_learning_rate_is_found_and_drawn() {
    let bench = Bench::new();
    let found = json(
        &bench.ok("lr-find --data shapes --recipe keras --batch-size 32 --steps 60 --out found.png --json"),
    );
    let rate = found["suggested"].as_f64().unwrap();
    assert!((1e-3..2.0).contains(&rate), "{rate}");
    assert!(bench.path("found.png").metadata().unwrap().len() > 10_000);
    let table = fs::read_to_string(bench.path("found.csv")).unwrap();
    assert_eq!(table.lines().count() as u64, 1 + found["steps"].as_u64().unwrap());
}

#[test]
fn runs_are_put_side_by_side() {
    let bench = Bench::new();
    bench.ok(&format!("{QUICK} --epochs 1 --out a"));
    bench.ok(&format!("{QUICK} --epochs 2 --optimizer adam --out b"));
    let text = bench.ok("compare a b");
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert!(rows[0].starts_with(&["test", "accuracy", "to", "first", "balanced", "loss"]), "{text}");
    assert!(rows[0].ends_with(&["epochs", "optimizer", "weight_decay", "run"]), "{text}");
    assert!(rows[1].ends_with(&["1", "sgd", "0.001", "a"]), "{text}");
    assert!(rows[2].ends_with(&["2", "adam", "0.0", "b"]), "{text}");
    assert!(!text.contains("seed"), "what is the same is not shown: {text}");
    let accuracy = |row: &[&str]| row[0].parse::<f64>().unwrap();
    let sorted = bench.ok("compare a b --sort accuracy");
    let rows: Vec<Vec<&str>> = sorted.lines().map(|line| line.split_whitespace().collect()).collect();
    assert!(accuracy(&rows[1]) >= accuracy(&rows[2]), "{sorted}");
    let difference = rows[2][2].parse::<f64>().unwrap();
    assert!((difference - (accuracy(&rows[2]) - accuracy(&rows[1]))).abs() < 0.011, "{sorted}");
    assert!(bench.path("compare.png").metadata().unwrap().len() > 10_000);
    let list = json(&bench.ok("compare a b --json --out other.png"));
    let accuracy = json(&fs::read_to_string(bench.path("b/result.json")).unwrap())["test_accuracy"].clone();
    assert_eq!((&list[1]["test_accuracy"], list[1]["epochs"].as_u64()), (&accuracy, Some(2)));
    bench.fails(1, "compare a nothing", &["nothing", "not a run folder"]);
}

#[test]
fn shells_get_their_completions() {
    let bench = Bench::new();
    for shell in ["bash", "zsh", "fish"] {
        let text = bench.ok(&format!("completions {shell}"));
        assert!(text.contains("lr-find") && text.contains("label-smoothing"), "{shell}");
    }
    assert_eq!(bench.run("completions abacus").status.code(), Some(2));
}

/// As bash calls the function for a word and those before it.
#[cfg(unix)]
#[test]
fn bash_completes_commands_and_their_options() {
    let bench = Bench::new();
    let script = bench.ok("completions bash");
    for (words, expected) in [
        ("cifar-engine trai", "train"),
        ("cifar-engine finetune --con", "--config"),
        ("cifar-engine lr-find --ste", "--steps"),
    ] {
        let (before, word) = words.rsplit_once(' ').unwrap();
        let (count, last) = (before.split(' ').count(), before.rsplit(' ').next().unwrap());
        let call = format!(
            "COMP_WORDS=({words}); COMP_CWORD={count}; _cifar__engine cifar-engine {word} {last}; echo ${{COMPREPLY[@]}}"
        );
        let output = Command::new("bash").args(["-c", &format!("{script}\n{call}")]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), expected, "{words}");
    }
}

/// A finished run can be made longer where the rate does not depend on its length.
#[test]
fn a_run_can_be_continued_from_the_command_line() {
    let bench = Bench::new();
    let constant = format!("{QUICK} --schedule constant --json");
    let whole = json(&bench.ok(&format!("{constant} --out whole")));
    bench.ok(&format!("{constant} --out parts --epochs 1"));
    let parts = json(&bench.ok("resume parts --epochs 2 --threads 1 --json"));
    assert_eq!(parts["epochs"], 2);
    assert_eq!((&parts["test_loss"], &parts["per_class"]), (&whole["test_loss"], &whole["per_class"]));
    let weights = |run: &str| fs::read(bench.path(run).join("best.safetensors")).unwrap();
    assert!(weights("whole") == weights("parts"));
    let settings = |run: &str| fs::read_to_string(bench.path(run).join("settings.toml")).unwrap();
    assert_eq!(settings("whole"), settings("parts"));
    // A run's settings are a file of settings, and options and variables win over it.
    let again = "train --config whole/settings.toml --out again --epochs 1 --json";
    assert_eq!(json(&bench.ok(again))["epochs"], 1);
    assert_eq!(settings("again"), settings("whole").replace("epochs = 2", "epochs = 1"));
}

#[cfg(unix)]
fn wait_for(path: &Path) {
    for _ in 0..1200 {
        if path.exists() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    panic!("{} did not appear within a minute", path.display());
}

/// Threads change no bit, and need no word.
#[test]
fn another_device_that_goes_on_with_a_run_is_told() {
    let bench = Bench::new();
    bench.ok(&format!("{QUICK} --schedule constant --out run --isa portable --threads 1"));
    let said = |command: &str| String::from_utf8(bench.run(command).stderr).unwrap();
    let of_other = "the run was trained on another device, cpu, ";
    let same = said("train --resume run --epochs 3 --isa portable --threads 2");
    assert!(same.contains("epoch  3/3") && !same.contains(of_other), "{same}");
    if Isa::detect() != Isa::Portable {
        let other = said("train --resume run --epochs 4");
        assert!(other.contains(of_other), "{other}");
    }
}

/// Before anything is read or written, whether an option or a file asks for it; and a run keeps the
/// precision that it was begun with.
#[test]
fn half_precision_is_for_a_gpu() {
    let bench = Bench::new();
    let parts = ["--precision f16 needs a GPU", "choose another --device"];
    bench.fails(2, &format!("{QUICK} --precision f16 --out run"), &parts);
    fs::write(bench.path("half.toml"), "precision = \"f16\"").unwrap();
    bench.fails(2, &format!("{QUICK} --config half.toml --out run"), &parts);
    bench.fails(2, "bench --precision f16 --steps 1", &parts);
    assert!(!bench.path("run").exists());
    bench.fails(2, &format!("{QUICK} --precision f8"), &["no precision 'f8'", "f32, f16"]);
    bench.ok(&format!("{QUICK} --precision f32 --out run"));
    let settings = fs::read_to_string(bench.path("run/settings.toml")).unwrap();
    assert!(settings.contains("precision = \"f32\""), "{settings}");
    fs::write(bench.path("run/settings.toml"), settings.replace("\"f32\"", "\"f16\"")).unwrap();
    bench.fails(2, "verify run", &["precision = \"f32\", now \"f16\""]);
    // The program finds no other way in.
    let settings = Settings { precision: Precision::F16, ..Settings::default() };
    let data = shapes::sized(320, 70, 32, 1).unwrap();
    let run = RunFolder::create(Some(bench.path("other")), &settings, &data.name).unwrap();
    let mut cpu = device::cpu().unwrap();
    let error = train::train(cpu.as_mut(), &settings, data, &run, &mut Unobserved).unwrap_err().to_string();
    assert!(error.contains("f16, but the device (cpu"), "{error}");
}
