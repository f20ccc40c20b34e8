//! The program on folders of one's own images, in every layout.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use image::{Rgb, RgbImage};
use tempfile::TempDir;

/// A folder in which the program runs.
struct Location(TempDir);

impl Location {
    fn new() -> Location {
        Location(tempfile::tempdir().unwrap())
    }

    /// `count` images in each folder; those of one class have one colour.
    fn images(&self, folders: &[&str], count: usize) {
        for folder in folders {
            let path = self.0.path().join(folder);
            fs::create_dir_all(&path).unwrap();
            let red = if folder.contains("cat") { 200 } else { 20 };
            for n in 0..count {
                let image = RgbImage::from_fn(16, 16, |x, y| Rgb([red, (x * y + n as u32) as u8, n as u8]));
                image.save(path.join(format!("{n}.png"))).unwrap();
            }
        }
    }

    fn run(&self, command: &str) -> Output {
        Command::new(env!("CARGO_BIN_EXE_cifar-engine"))
            .current_dir(self.0.path())
            .args(command.split_whitespace())
            .env("CIFAR_ENGINE_OFFLINE", "1")
            .env("CIFAR_ENGINE_DEVICE", "cpu")
            .output()
            .unwrap()
    }

    /// Trains for an epoch; returns what was said.
    fn train(&self, options: &str) -> String {
        self.ok(&format!("train --image-size 16 --batch-size 4 --epochs 1 --out run {options}"))
    }

    /// Runs a command that must succeed; returns what it printed on either stream.
    fn ok(&self, command: &str) -> String {
        let output = self.run(command);
        let [out, err] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
        assert!(output.status.success(), "{command}: {err}");
        err + &out
    }

    fn fails(&self, code: i32, command: &str, part: &str) {
        let output = self.run(command);
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(code) && message.contains(part), "{command}: {message}");
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.0.path().join(name)).unwrap()
    }
}

fn has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
}

/// As competitions hand them out: the test images have no classes.
#[test]
fn a_run_beside_unlabelled_test_images_is_measured_on_what_it_held_back() {
    let place = Location::new();
    place.images(&["p/train/cat", "p/train/dog"], 10);
    place.images(&["p/test"], 2);
    has(&place.train("--data p --validation 4"), &["left out: 2 test images without a class"]);
    has(&place.ok("evaluate run"), &["validation"]);
    place.ok("predict --sample 0 --weights run");
    let told = place.ok("evaluate run --data p");
    assert!(told.contains("4 validation images") && !told.contains("beside"), "{told}");
}

#[test]
fn a_run_on_folders_of_classes_remembers_what_it_was_tested_on() {
    let place = Location::new();
    place.images(&["p/cat", "p/dog"], 20);
    let said = place.train("--data p --validation 6 --keep-checkpoints");
    let data = "data: p, 26 training, 6 validation and 8 test images of 16x16 in 2 classes; \
                validation: 6 of the 32 training images";
    has(&said, &[data, "warning: 6 validation images: one is 16.7 points", "p: test accuracy"]);
    let split = place.read("run/split.csv");
    let count = |part: &str| split.lines().filter(|line| line.ends_with(part)).count();
    assert_eq!((count(",train"), count(",validation"), count(",test")), (26, 6, 8));
    // What has come since is not tested, and what was tested is, by the run or by its weights.
    place.images(&["p/dog/more"], 5);
    let accuracy = said.lines().find_map(|line| line.strip_prefix("p: test accuracy ")).unwrap();
    let kept = "run/checkpoints/weights-0001.safetensors";
    for weights in ["run", "run/best.safetensors", "run --data p", kept] {
        let said = place.ok(&format!("evaluate {weights}"));
        has(&said, &["data: p, 8 test images", accuracy.split(" %").next().unwrap()]);
    }
    has(&place.ok("predict --sample 7 --weights run"), &["original label:  dog"]);
    place.fails(2, "predict --sample 8 --weights run", "there is no test image 8; they are numbered 0 to 7");
    place.fails(1, "train --resume run", "split.csv: the data is not what this run was begun with: ");
    // Another folder is tested whole, also one with some of the classes.
    place.images(&["q/cat"], 3);
    has(&place.ok("evaluate run --data q"), &["data: q, 3 test images", "(0 of 0)"]);
    place.images(&["q/cow"], 1);
    place.fails(1, "evaluate run --data q", "q has cow, which is not among them, and has no dog");
}

#[test]
fn without_test_images_the_validation_images_are_measured_and_called_so() {
    let place = Location::new();
    place.images(&["p/train/cat", "p/train/dog"], 12);
    place.images(&["p/val/cat", "p/val/dog"], 3);
    let said = place.train("--data p");
    has(&said, &["24 training and 6 validation images", "; validation: val/", "p: validation accuracy"]);
    has(&place.read("run/result.json"), &["validation_accuracy"]);
    let page = place.read("run/report.html");
    has(&page, &["validation accuracy", "Validation images"]);
    assert!(!page.contains("test accuracy"));
    has(&place.ok("evaluate run"), &["data: p, 6 validation images", "p: validation accuracy"]);
    place.fails(2, "train --data p --validation 5 --out other", "p has 6 validation images of its own");
    place.fails(2, "train --data p --batch-size 4 --validation 0 --out other", "there are no test images");
    assert!(!place.0.path().join("other").exists());
}

#[test]
fn reports_name_the_files_and_losses_have_no_sign() {
    let place = Location::new();
    place.images(&["p/train/cat", "p/train/dog"], 12);
    place.images(&["p/test/cat", "p/test/dog"], 3);
    let options = "evaluate run --report report --data";
    place.train("--data p --image-size 16");
    place.images(&["odd/dog", "odd/cat"], 1);
    // A cat among the dogs.
    fs::copy(place.0.path().join("p/train/cat/3.png"), place.0.path().join("odd/dog/cat.png")).unwrap();
    place.ok(&format!("{options} odd"));
    let table = place.read("report/predictions.csv");
    assert_eq!(table.lines().next(), Some("index,label,predicted,probability,loss,file"));
    has(&table, &["dog/cat.png"]);
    assert!(!table.contains(",-0,"));
    let wrong = table.lines().skip(1).filter(|line| {
        let cells: Vec<&str> = line.split(',').collect();
        cells[1] != cells[2]
    });
    let page = place.read("report/report.html");
    wrong.for_each(|line| has(&page, &[line.rsplit(',').next().unwrap()]));
    // A report takes the place of no other, and does not lie among images.
    place.fails(1, "evaluate run --report run", "run: is a run, whose own report this one would replace");
    place.fails(1, "evaluate run --report p/test/cat", "holds images of the data (p/test/cat/");
    place.fails(1, "evaluate run --report p/train/cat", "holds images of the data (p/train/cat/");
    place.fails(1, "evaluate run --report p/train/cat/new", "p, whose images are read");
    assert!(!place.0.path().join("p/train/cat/new").exists());
    place.fails(1, "evaluate run --report run/settings.toml", "is not a folder");
}

#[test]
fn the_only_image_of_a_class_is_trained_on_and_told() {
    let place = Location::new();
    place.images(&["p/train/cat", "p/train/dog", "p/test/cat"], 20);
    place.images(&["p/train/rare1", "p/train/rare2"], 1);
    let said = place.train("--data p --validation 30");
    has(
        &said,
        &["12 training, 30 validation and 20 test images", "warning: class rare1 (and 1 more) has a single"],
    );
    let split = place.read("run/split.csv");
    has(&split, &["train/rare1/0.png,train", "train/rare2/0.png,train"]);
}

#[test]
fn names_of_many_bytes_can_be_read_again() {
    let place = Location::new();
    let (cat, dog) = ("\u{732b}".repeat(80), "\u{72ac}".repeat(80));
    for part in ["train", "test"] {
        for (name, red) in [(&cat, 200), (&dog, 20)] {
            let folder = place.0.path().join("p").join(part).join(name);
            fs::create_dir_all(&folder).unwrap();
            for n in 0..6 {
                RgbImage::from_pixel(16, 16, Rgb([red, n, 9])).save(folder.join(format!("{n}.png"))).unwrap();
            }
        }
    }
    place.train("--data p --validation 0");
    has(&place.ok("evaluate run"), &[&cat]);
}

#[test]
fn a_good_image_among_bad_ones_is_predicted_and_nothing_left_is_an_error() {
    let place = Location::new();
    place.images(&["p"], 1);
    fs::write(place.0.path().join("bad.png"), "no image").unwrap();
    let output = place.run("predict bad.png p/0.png --weights builtin --format jsonl");
    let [out, err] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    assert_eq!((output.status.code(), out.lines().count()), (Some(1), 1));
    has(&out, &["p/0.png"]);
    has(&err, &["error: bad.png: none of PNG", "--skip-bad leaves out"]);
    place.fails(1, "predict bad.png --skip-bad --json --weights builtin", "error: bad.png: none of PNG");
}

#[test]
fn a_reader_that_leaves_ends_the_work_in_peace() {
    let place = Location::new();
    place.images(&["p"], 300);
    let mut child = Command::new(env!("CARGO_BIN_EXE_cifar-engine"))
        .current_dir(place.0.path())
        .args(["predict", "p", "--weights", "builtin", "--device", "cpu", "-q"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr), (Some(0), Vec::new()));
}

#[test]
fn a_name_is_never_taken_for_a_folder_and_a_folder_of_a_name_has_a_path() {
    let place = Location::new();
    fs::create_dir_all(place.0.path().join("shapes/train")).unwrap();
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("none.safetensors");
    place.fails(1, &format!("finetune --data shapes --pretrained {}", path.display()), "none.safetensors");
    place.fails(1, "train --data ./shapes", "shapes");
}

#[test]
fn images_of_which_none_can_be_held_back_are_an_error_before_the_training() {
    let place = Location::new();
    place.images(&["data/cat", "data/dog", "data/owl"], 1);
    for validation in [0, 1, 2] {
        let command = format!("train --data data --image-size 16 --validation {validation} --out run");
        place.fails(2, &command, "none that can be held back for validation");
        assert!(!place.0.path().join("run").exists());
    }
}

#[test]
fn what_has_changed_in_a_folder_is_told_when_a_run_goes_on() {
    let place = Location::new();
    place.images(&["data/cat", "data/dog"], 20);
    place.train("--data data --schedule constant");
    let tested = place.read("run/split.csv");
    let tested = tested.lines().find_map(|line| line.strip_suffix(",test")).unwrap();
    let path = |name: &str| place.0.path().join("data").join(name);
    fs::rename(path(tested), place.0.path().join("elsewhere.png")).unwrap();
    let said = place.ok("resume run --epochs 2");
    assert!(said.contains("warning: the test images are not those"), "{said}");
    assert!(said.contains(&format!("image of the run that is gone ({tested})")), "{said}");
    fs::copy(path("cat/1.png"), path("cat/new.png")).unwrap();
    place.fails(1, "resume run --epochs 3", "cat/new.png is new");
    fs::remove_file(path("cat/new.png")).unwrap();
    fs::remove_file(place.0.path().join("run/best.safetensors")).unwrap();
    place.fails(1, "resume run --epochs 3", "best.safetensors: is gone");
}

#[test]
fn images_that_were_moved_change_no_byte_of_the_weights() {
    let place = Location::new();
    place.images(&["data/cat", "data/dog"], 20);
    place.train("--data data --schedule constant");
    let at = |name: &str| place.0.path().join(name);
    fs::create_dir(at("other")).unwrap();
    for entry in fs::read_dir(at("run")).unwrap().map(|entry| entry.unwrap()) {
        fs::copy(entry.path(), at("other").join(entry.file_name())).unwrap();
    }
    place.ok("resume run --epochs 2");
    fs::rename(at("data"), at("moved")).unwrap();
    place.ok("resume other --epochs 2 --data moved");
    for name in ["last.safetensors", "best.safetensors"] {
        assert!(
            fs::read(at("run").join(name)).unwrap() == fs::read(at("other").join(name)).unwrap(),
            "{name}"
        );
    }
}

#[test]
fn a_list_of_files_in_the_folder_of_a_new_run_is_nobodys_but_its_owners() {
    let place = Location::new();
    place.images(&["data/cat", "data/dog"], 10);
    fs::create_dir(place.0.path().join("run")).unwrap();
    fs::write(place.0.path().join("run/split.csv"), "mine").unwrap();
    place.fails(1, "train --data data --image-size 16 --epochs 1 --out run", "run already (split.csv)");
    assert_eq!(place.read("run/split.csv"), "mine");
    // What a killed start has left is in nobody's way.
    fs::write(place.0.path().join("run/.lock"), "").unwrap();
    place.train("--data data");
    assert!(place.read("run/split.csv").contains("cat/0.png,"));
}

#[test]
fn runs_may_lie_in_the_folder_of_the_images() {
    let place = Location::new();
    place.images(&["cat", "dog"], 10);
    for _ in 0..2 {
        let said = place.ok("train --data . --image-size 16 --epochs 1 --schedule constant");
        assert!(said.contains("in 2 classes"), "{said}");
    }
    let said = place.ok(&format!("resume runs/{} --epochs 2", first_run(&place)));
    assert!(said.contains("in 2 classes") && said.contains("1 folder of runs"), "{said}");
}

/// The first of the runs that have no name of their own.
fn first_run(place: &Location) -> String {
    let runs = fs::read_dir(place.0.path().join("runs")).unwrap();
    runs.map(|run| run.unwrap().file_name().into_string().unwrap()).min().unwrap()
}

#[test]
fn no_run_is_written_among_the_images() {
    let place = Location::new();
    place.images(&["p/cat", "p/dog/deep"], 8);
    for (out, image) in [("p/cat", "p/cat/0.png"), ("p/dog", "p/dog/deep/0.png"), ("p", "p/cat/0.png")] {
        let command = format!("train --data p --image-size 16 --out {out}");
        place.fails(1, &command, &format!("error: {out}: holds images of the data ({image}); choose"));
        assert!(!place.0.path().join(out).join(".lock").exists());
    }
    place.train("--data p --out p/cat/run");
    has(&place.train("--data p --out run"), &["in 2 classes", "1 folder of runs (p/cat/run)"]);
}

#[test]
fn a_class_that_was_renamed_is_told_without_the_list_of_files_too() {
    let place = Location::new();
    place.images(&["p/cat", "p/dog"], 12);
    place.train("--data p");
    let path = |name: &str| place.0.path().join(name);
    fs::remove_file(path("run/split.csv")).unwrap();
    fs::rename(path("p/dog"), path("p/fox")).unwrap();
    place.fails(2, "resume run", "the class dog of this run is called fox in the data now; give it its name");
}

#[cfg(unix)]
#[test]
fn folders_without_permission_are_called_so() {
    use std::os::unix::fs::PermissionsExt;
    let place = Location::new();
    place.images(&["p/cat", "p/dog"], 8);
    place.train("--data p");
    let close = |name: &str, mode: u32| {
        let path = place.0.path().join(name);
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        fs::read_dir(path).is_err()
    };
    if close("p/dog", 0) && close("run", 0) {
        let advice = "no permission to read it; change its permissions";
        let skip = "--skip-bad leaves out what cannot be read";
        place.fails(1, "train --data p --out other", &format!("p/dog: {advice}; {skip}"));
        place.fails(1, "predict p --weights builtin", &format!("p/dog: {advice}; {skip}"));
        place.fails(1, "data p", &format!("p/dog: {advice}; {skip}"));
        place.images(&["p/cow"], 8);
        let left_out = "left out: 1 folder without permission (p/dog)";
        let said = place.ok("train --data p --skip-bad --image-size 16 --epochs 1 --out skipped");
        has(&said, &[left_out, "in 2 classes"]);
        has(&place.ok("predict p --skip-bad --weights builtin"), &[left_out, "p/cat/0.png"]);
        for command in ["evaluate run", "compare run", "resume run", "predict p/cat --weights run"] {
            place.fails(1, command, advice);
        }
    } else {
        println!("skipped: to this user nothing is closed");
    }
    close("p/dog", 0o755);
    close("run", 0o755);
}

/// Beside this, `split_table` has tests of what may be wrong in the list.
#[test]
fn damaged_files_of_a_run_are_named_with_what_to_do() {
    let place = Location::new();
    place.images(&["p/cat", "p/dog"], 8);
    place.train("--data p");
    let path = |name: &str| place.0.path().join("run").join(name);
    for damage in ["{\"test_accuracy\":\n", "", "[1]"] {
        fs::write(path("result.json"), damage).unwrap();
        place.fails(1, "compare run", "run/result.json: is damaged in line");
    }
    fs::remove_file(path("result.json")).unwrap();
    place.ok("compare run");
    for command in ["evaluate run", "resume run"] {
        fs::write(path("split.csv"), "").unwrap();
        place.fails(1, command, "run/split.csv: is empty; put a copy of it back, or delete it");
        fs::remove_file(path("split.csv")).unwrap();
        fs::create_dir(path("split.csv")).unwrap();
        place.fails(1, command, "run/split.csv: is no plain file, where one was expected; move it away");
        fs::remove_dir(path("split.csv")).unwrap();
    }
}

#[test]
fn notes_count_the_images_that_are_really_trained_on() {
    let place = Location::new();
    place.images(&["p/train/cat", "p/test/cat"], 1);
    place.images(&["p/train/dog"], 2);
    let said = place.ok("train --data p --image-size 16 --epochs 1 --validation 2 --out run");
    has(&said, &["batches of 2 images instead of 128: 2 images to train on"]);
    has(&said, &["--validation 1 instead of 2: each class keeps an image", "2 training, 1 validation"]);
    has(&place.ok("evaluate run"), &["data: p, 1 test image of 16x16 in 2 classes"]);
}

#[test]
fn a_run_folder_is_no_folder_of_images() {
    let place = Location::new();
    place.images(&["data/cat", "data/dog"], 10);
    place.train("--data data");
    place.fails(1, "predict run", "run: is a run folder; name the images too");
    place.ok("predict data/cat --weights run");
}

#[cfg(unix)]
#[test]
fn no_name_of_a_file_acts_on_the_terminal() {
    let place = Location::new();
    place.images(&["data/cat", "data/dog"], 10);
    place.train("--data data");
    let odd = "a\u{1b}[2J\u{202e}b";
    fs::rename(place.0.path().join("run"), place.0.path().join(odd)).unwrap();
    fs::rename(place.0.path().join("data/cat/0.png"), place.0.path().join(format!("{odd}.png"))).unwrap();
    for command in
        ["compare RUN", "predict data/cat/1.png --weights RUN", "predict RUN.png --weights builtin"]
    {
        let said = place.ok(&command.replace("RUN", odd));
        assert!(said.contains(r"a\u{1b}[2J\u{202e}b") && !said.contains(['\u{1b}', '\u{202e}']), "{said:?}");
    }
}
