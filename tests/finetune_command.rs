//! The command `finetune`: what does not fit is explained, and settings come from a file. Apart
//! from `finetune.rs`, which trains in its own process: a program that is being started holds that
//! process's locks of run folders for a moment.

mod common;

use std::path::Path;
use std::process::Command;

use common::mobilenet::write_weights;

const WEIGHTS: &str = "pretrained.safetensors";

/// A folder with weights to begin with.
fn pretrained() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    write_weights(&folder.path().join(WEIGHTS));
    folder
}

fn run(arguments: &[&str]) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_cifar-engine")).args(arguments).output().unwrap();
    (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn what_does_not_fit_is_explained() {
    let folder = pretrained();
    let weights = folder.path().join(WEIGHTS);
    let weights = weights.to_str().unwrap();
    for (arguments, code, part) in [
        (&["--pretrained", "nowhere.safetensors"][..], 1, "does not exist"),
        (&["--pretrained", weights, "--model", "mobilenet-v2"], 1, "holds a mobilenet-v1"),
        (&["--pretrained", weights, "--head-epochs", "30"], 2, "--head-epochs 30 are more than --epochs"),
        (&["--pretrained", weights, "--image-size", "16"], 2, "--image-size must lie in 32"),
        (&["--pretrained", weights, "--unfreeze", "some"], 2, "a number of blocks, or all"),
        (&["--pretrained", weights, "--precision", "f16", "--device", "cpu"], 2, "f16 needs a GPU"),
        (&["--pretrained", weights, "--mean", "0.5,0.5"], 2, "--mean takes three numbers"),
    ] {
        let (found, message) = run(&[&["finetune", "--data", "shapes"], arguments].concat());
        assert!(found == code && message.contains(part), "{arguments:?}: {found} {message}");
    }
}

/// A fine-tuning of one or two steps, of the program, in this folder.
fn program(folder: &Path, command: &str, variables: &[(&str, &str)]) -> (i32, String) {
    let mut program = Command::new(env!("CARGO_BIN_EXE_cifar-engine"));
    program.current_dir(folder).args(command.split_whitespace());
    program.env("CIFAR_ENGINE_OFFLINE", "1").env("CIFAR_ENGINE_DEVICE", "cpu");
    let output = program.envs(variables.iter().copied()).output().unwrap();
    (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Eight images to train on and four to test with, in two classes.
fn write_images(folder: &Path) {
    for (set, count) in [("train", 4), ("test", 2)] {
        for class in ["bright", "dark"] {
            let place = folder.join("images").join(set).join(class);
            std::fs::create_dir_all(&place).unwrap();
            for number in 0..count {
                let level = if class == "dark" { 10 } else { 200 } + 8 * number as u8;
                let image = image::RgbImage::from_pixel(40, 40, image::Rgb([level; 3]));
                image.save(place.join(format!("{number}.png"))).unwrap();
            }
        }
    }
}

#[test]
fn settings_come_from_a_file_and_options_and_variables_win() {
    let folder = pretrained();
    write_images(folder.path());
    let settings = |run: &str| std::fs::read_to_string(folder.path().join(run).join("settings.toml"));
    let run = |command: &str, variables: &[(&str, &str)]| {
        let (code, message) = program(folder.path(), command, variables);
        assert_eq!(code, 0, "{command}: {message}");
    };
    let first = "finetune --pretrained pretrained.safetensors --data images --image-size 40 --batch-size 4 \
                 --validation 0 --epochs 2 --head-epochs 1 --unfreeze 2 --seed 3 --padding symmetric --out first";
    run(first, &[]);
    run("finetune --config first/settings.toml --out same", &[]);
    assert_eq!(settings("same").unwrap(), settings("first").unwrap());
    let last = |run: &str| std::fs::read(folder.path().join(run).join("last.safetensors")).unwrap();
    assert!(last("first") == last("same"));

    let variables =
        [("CIFAR_ENGINE_SEED", "7"), ("CIFAR_ENGINE_UNFREEZE", "1"), ("CIFAR_ENGINE_HEAD_LR", "0.5")];
    run("finetune --config first/settings.toml --out other --head-lr 0.25", &variables);
    let expected = settings("first").unwrap();
    let expected = expected.replace("seed = 3", "seed = 7").replace("unfreeze = 2", "unfreeze = 1");
    let old_rate = expected.lines().find(|line| line.starts_with("head_rate")).unwrap();
    assert_eq!(settings("other").unwrap(), expected.replace(old_rate, "head_rate = 0.25"));

    // Neither command takes the other's file, and a run goes on with its own settings.
    let train = "train --data images --validation 0 --batch-size 4 --epochs 1 --out scratch";
    run(train, &[]);
    let black = "[finetune]\npretrained = 'pretrained.safetensors'\nattributes = { std = [0, 0, 0] }\n";
    std::fs::write(folder.path().join("black.toml"), black).unwrap();
    for (command, code, part) in [
        (
            "finetune --config scratch/settings.toml",
            2,
            "scratch/settings.toml says nothing about fine-tuning",
        ),
        ("train --config first/settings.toml", 2, "first/settings.toml is about fine-tuning"),
        (
            "train --data images --recipe photos",
            2,
            "--recipe photos is for finetune; train has default, keras",
        ),
        (
            "finetune --recipe fast --pretrained pretrained.safetensors",
            2,
            "--recipe fast is for train; finetune has photos",
        ),
        ("finetune --resume first --recipe photos", 2, "cannot be used with"),
        ("finetune --resume first --head-lr 0.5", 2, "begun with other settings"),
        ("finetune --resume first --padding same", 2, "begun with other settings"),
        ("finetune --resume first --head-epochs 2", 2, "finetune.head_epochs = 1, now 2"),
        (
            "finetune --resume scratch",
            1,
            "scratch: was begun by train; go on with: cifar-engine resume scratch",
        ),
        ("finetune --resume first --config first/settings.toml", 2, "cannot be used with"),
        ("finetune --config nowhere.toml", 1, "nowhere.toml"),
        ("finetune --config black.toml", 1, "pretrained.safetensors: the std given for it makes no sense"),
    ] {
        let (found, message) = program(folder.path(), command, &[]);
        assert!(found == code && message.contains(part), "{command}: {found} {message}");
    }
}

/// A run in the way is nobody's business: once the newest cnn in runs/ was evaluated at the end,
/// unasked, and where its tensors did not fit the MobileNet's, the command failed after a good
/// training.
#[test]
fn a_cnn_on_the_same_images_is_left_alone() {
    let folder = pretrained();
    write_images(folder.path());
    let train = "train --data images --image-size 40 --validation 0 --batch-size 4 --epochs 1";
    let finetune = "finetune --pretrained pretrained.safetensors --data images --image-size 40 --batch-size 4 \
                    --validation 0 --epochs 1 --head-epochs 1 --unfreeze 0";
    for command in [train, finetune] {
        let (code, message) = program(folder.path(), command, &[]);
        assert!(code == 0 && !message.contains("error"), "{command}: {message}");
    }
}

/// Under a constant rate a run may be made longer, also where all epochs are those of the
/// classifier.
#[test]
fn a_run_of_the_classifier_only_can_be_made_longer() {
    let folder = pretrained();
    write_images(folder.path());
    let run = |command: &str| {
        let (code, message) = program(folder.path(), command, &[]);
        assert_eq!(code, 0, "{command}: {message}");
    };
    run("finetune --pretrained pretrained.safetensors --data images --image-size 40 --batch-size 4 \
         --validation 0 --unfreeze 0 --schedule constant --epochs 1 --out run");
    run("finetune --resume run --epochs 2");
    let text = |file: &str| std::fs::read_to_string(folder.path().join("run").join(file)).unwrap();
    assert_eq!(text("metrics.csv").lines().count(), 3);
    let settings = text("settings.toml");
    assert!(settings.contains("head_epochs = 2") && !settings.contains("attributes"), "{settings}");

    // train would go on with it as if it were its own; and other weights at the same place are
    // other features.
    let fails = |command: &str, code, part: &str| {
        let (found, message) = program(folder.path(), command, &[]);
        assert!(found == code && message.contains(part), "{command}: {found} {message}");
    };
    let bytes = |file: &str| std::fs::read(folder.path().join("run").join(file)).unwrap();
    let before = ["last.safetensors", "checkpoint.safetensors", "metrics.csv"].map(bytes);
    fails("train --resume run", 1, "run: was begun by finetune; go on with: cifar-engine resume run");
    let weights = folder.path().join(WEIGHTS);
    let mut other = std::fs::read(&weights).unwrap();
    let last = other.len() - 2;
    other[last] ^= 1;
    std::fs::rename(&weights, folder.path().join("moved.safetensors")).unwrap();
    std::fs::write(&weights, other).unwrap();
    fails("resume run --epochs 3", 2, "pretrained.safetensors\": these are not the weights");
    assert!(before == ["last.safetensors", "checkpoint.safetensors", "metrics.csv"].map(bytes));
    run("resume run --epochs 3 --pretrained moved.safetensors");
    assert_eq!(text("metrics.csv").lines().count(), 4);
}

/// As a search prints it in JSON.
fn searched(folder: &Path, command: &str) -> serde_json::Value {
    let mut program = Command::new(env!("CARGO_BIN_EXE_cifar-engine"));
    program.current_dir(folder).args(command.split_whitespace()).arg("--json");
    let output = program.env("CIFAR_ENGINE_OFFLINE", "1").env("CIFAR_ENGINE_DEVICE", "cpu").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_rate_of_fine_tuning_is_searched_on_images_that_are_held_back() {
    let folder = pretrained();
    let search = "lr-find --data shapes --pretrained pretrained.safetensors --image-size 32 --batch-size 8 --steps 20 \
                  --unfreeze 1";
    let found = searched(folder.path(), search);
    let (rate, steps) = (found["suggested"].as_f64().unwrap(), found["steps"].as_u64().unwrap());
    assert!((1e-5..10.1).contains(&rate) && steps <= 20, "{found}");
    assert_eq!((found["option"].as_str(), found["held_back_images"].as_u64()), (Some("--lr"), Some(128)));
    let table = std::fs::read_to_string(folder.path().join("lr-find.csv")).unwrap();
    assert_eq!(table.lines().count() as u64, 1 + steps);
    assert!(folder.path().join("lr-find.png").exists());

    // A run's settings are those of its command, and the classifier alone has a rate of its own.
    let settings = "[finetune]\npretrained = 'pretrained.safetensors'\nunfreeze = 0\ninput_size = 32\n";
    std::fs::write(folder.path().join("mine.toml"), settings).unwrap();
    let found = searched(folder.path(), "lr-find --data shapes --config mine.toml --steps 20 --batch-size 8");
    assert_eq!(found["option"], "--head-lr");
}

#[test]
fn a_search_with_few_images_says_that_they_are_few() {
    let folder = pretrained();
    write_images(folder.path());
    let search = "lr-find --data images --pretrained pretrained.safetensors --image-size 40 --steps 12";
    let (code, message) = program(folder.path(), search, &[]);
    assert!(code == 1, "{message}");
    assert!(
        message.contains("which may be chance") || message.contains("no learning rate lowered"),
        "{message}"
    );
    let (code, message) = program(folder.path(), &format!("{search} --out a.jpg"), &[]);
    assert!(code == 1 && message.contains("a.jpg: pictures are written as PNG, not jpg"), "{message}");
}
