//! A folder whose decoded images are read from a file, a batch at a time, is in every respect the
//! folder that is in memory: the same images, the same bits of weights, the same answers.

mod common;

use std::cell::{Cell, RefCell};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use cifar_engine::data::watch::Watch;
use cifar_engine::data::{self, DataSource, Dataset, Images, Options, Pixels, shapes};
use cifar_engine::error::Error;
use cifar_engine::exec::cpu::Cpu;
use cifar_engine::exec::plan::Plan;
use cifar_engine::kernels::simd::Isa;
use cifar_engine::report::EpochMetrics;
use cifar_engine::train::augmented::draws;
use cifar_engine::train::plans::{self, ImageSet};
use cifar_engine::train::run_folder::RunFolder;
use cifar_engine::train::settings::{FAST, Settings};
use cifar_engine::train::{self, Observer, StepProgress};
use common::mobilenet::write_weights;
use common::program::{Bench, json};
use image::RgbImage;
use tempfile::TempDir;

const SIZE: usize = 16;

/// A folder `photos` of images in class folders, without a split, and the place of a cache.
fn photos(count: usize) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    write_photos(&dir.path().join("photos"), count);
    dir
}

fn write_photos(folder: &Path, count: usize) {
    let images = shapes::sized(count, 0, SIZE, 3).unwrap().train;
    for i in 0..count {
        let class = folder.join(["ants", "bees", "cows"][images.labels[i] as usize % 3]);
        fs::create_dir_all(&class).unwrap();
        let pixels = images.image(i).unwrap().into_owned();
        let image = RgbImage::from_raw(SIZE as u32, SIZE as u32, pixels).unwrap();
        image.save(class.join(format!("{i:04}.png"))).unwrap();
    }
}

/// What was said while the data was loaded.
#[derive(Debug, Default)]
struct Told(std::sync::Mutex<Vec<String>>);

impl Watch for Told {
    fn note(&self, line: &str) {
        self.0.lock().unwrap().push(line.into());
    }
}

impl Told {
    fn lines(self) -> Vec<String> {
        self.0.into_inner().unwrap()
    }
}

fn options<'a>(dir: &Path, in_memory: u64, watch: &'a dyn Watch) -> Options<'a> {
    let cache = Some(dir.join("cache"));
    Options { image_size: Some(SIZE), cache, in_memory: Some(in_memory), watch, ..Options::default() }
}

const ALL: u64 = u64::MAX;

fn load(dir: &Path, in_memory: u64) -> Dataset {
    load_with(dir, &options(dir, in_memory, &Told::default())).unwrap()
}

fn load_with(dir: &Path, options: &Options) -> cifar_engine::error::Result<Dataset> {
    data::load(&DataSource::Path(dir.join("photos")), options)
}

fn cached(dir: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(dir.join("cache/decoded")).into_iter().flatten();
    files.map(|entry| entry.unwrap().path()).collect()
}

fn assert_same(one: &Images, other: &Images) {
    assert_eq!((one.size, &one.labels, &one.files), (other.size, &other.labels, &other.files));
    assert_eq!(one.array().unwrap(), other.array().unwrap());
    assert_eq!(one.digest().unwrap(), other.digest().unwrap());
}

/// The set in memory, and the same in a file.
fn both(dir: &Path, change: impl Fn(&mut Options)) -> [Dataset; 2] {
    [ALL, 0].map(|in_memory| {
        let told = Told::default();
        let mut options = options(dir, in_memory, &told);
        change(&mut options);
        load_with(dir, &options).unwrap()
    })
}

#[test]
fn a_file_holds_the_images_that_memory_holds() {
    let dir = photos(60);
    fs::write(dir.path().join("photos/bees/broken.png"), "not an image").unwrap();
    fs::write(dir.path().join("photos/ants/notes.txt"), "x").unwrap();
    for test_only in [false, true] {
        for seed in [0, 5] {
            let [memory, file] = both(dir.path(), |options| {
                (options.skip_bad, options.test_only, options.seed) = (true, test_only, seed);
            });
            for (one, other) in [(&memory.train, &file.train), (&memory.test, &file.test)] {
                assert_same(one, other);
                assert!(!one.is_in_file() && other.is_in_file());
            }
            assert_eq!(file.train.is_empty(), test_only);
            assert_eq!((&memory.classes, &memory.left_out), (&file.classes, &file.left_out));
            assert_eq!((memory.original, memory.folder), (file.original, file.folder));
            assert!(file.left_out.lines().any(|line| line.contains("broken.png")));
        }
    }
    // One folder has one file, whatever is held back; and what is broken is an error as before.
    assert_eq!(cached(dir.path()).len(), 1);
    let message = |in_memory| {
        load_with(dir.path(), &options(dir.path(), in_memory, &Told::default())).unwrap_err().to_string()
    };
    assert!(message(0).contains("broken.png: none of PNG") && message(0) == message(ALL), "{}", message(0));
    fs::remove_file(&cached(dir.path())[0]).unwrap();
    assert_eq!(message(0), message(ALL));
    assert_eq!(cached(dir.path()), [] as [PathBuf; 0], "nothing is kept of a set that is not whole");
}

#[test]
fn a_choice_of_images_is_the_same_in_a_file() {
    let dir = photos(60);
    let [mut memory, mut file] = both(dir.path(), |_| ());
    assert_same(&memory.train.subset(&[7, 2, 7, 0]), &file.train.subset(&[7, 2, 7, 0]));
    assert_same(&memory.train.clone().part(11), &file.train.clone().part(11));
    assert_same(&memory.train.mirrored().unwrap(), &file.train.mirrored().unwrap());
    assert_same(&memory.train.shifted(1).unwrap(), &file.train.shifted(1).unwrap());
    assert_same(&memory.train, &file.train.clone().in_memory().unwrap());
    [&mut memory, &mut file].into_iter().for_each(|data| data.split_validation(9, 4).unwrap());
    assert_same(&memory.train, &file.train);
    assert_same(&memory.validation, &file.validation);
    assert_eq!(memory.training_digest().unwrap(), file.training_digest().unwrap());
    assert!(file.validation.is_in_file() && file.validation.subset(&[1]).is_in_file());
    let settings = Settings { augment: "flip=alternate,shift=2".parse().unwrap(), ..Settings::default() };
    let mut device = Cpu::new(1, Isa::detect()).unwrap();
    let mut drawn = |images| draws(&mut device, images, &settings, 2).unwrap();
    assert_eq!(drawn(&memory.validation), drawn(&file.validation));
}

#[test]
fn a_second_run_finds_the_file_unless_something_changed() {
    let dir = photos(30);
    let lines = |size| {
        let told = Told::default();
        let options = Options { image_size: Some(size), ..options(dir.path(), 0, &told) };
        load_with(dir.path(), &options).unwrap();
        told.lines().join("\n")
    };
    let said = |text: &str, parts: &[&str]| assert!(parts.iter().all(|part| text.contains(part)), "{text}");
    said(&lines(SIZE), &["decoded images: 23.0 kB, written to", ".images"]);
    let first = cached(dir.path());
    // What only a look into the file can tell: pixels that no image has.
    let pixels = fs::read(&first[0]).unwrap();
    let image = [1; SIZE * SIZE * 3];
    let sums = crc32fast::hash(&image).to_le_bytes().repeat(30);
    fs::write(&first[0], [&image.repeat(30), &sums[..], &pixels[30 * image.len() + sums.len()..]].concat())
        .unwrap();
    said(&lines(SIZE), &["decoded images: 23.0 kB, found in"]);
    assert!(load(dir.path(), 0).train.image(3).unwrap().iter().all(|byte| *byte == 1));
    said(&lines(8), &["written to"]);
    // A file that is cut short is none, nor one without its end.
    for len in [pixels.len() - 1, pixels.len() / 2, 3, 0] {
        fs::write(&first[0], &pixels[..len]).unwrap();
        said(&lines(SIZE), &["written to"]);
        assert_eq!(fs::read(&first[0]).unwrap(), pixels);
    }
    // What a killed run left is used up.
    let left =
        first[0].with_file_name(format!(".{}.writing", first[0].file_name().unwrap().to_str().unwrap()));
    fs::write(&left, vec![1; 99_999]).unwrap();
    fs::remove_file(&first[0]).unwrap();
    said(&lines(SIZE), &["written to"]);
    assert!(fs::read(&first[0]).unwrap() == pixels && !left.exists());
    let image = dir.path().join("photos/ants/0000.png");
    let bytes = fs::read(&image).unwrap();
    fs::write(&image, bytes).unwrap();
    said(&lines(SIZE), &["written to"]);
    fs::rename(dir.path().join("photos/ants/0003.png"), dir.path().join("photos/bees/0003.png")).unwrap();
    said(&lines(SIZE), &["written to"]);
    assert_eq!(cached(dir.path()).len(), 4);
}

#[cfg(unix)]
#[test]
fn a_file_that_another_user_put_there_is_not_taken() {
    use std::os::unix::fs::{PermissionsExt, chown};
    let dir = photos(30);
    load(dir.path(), 0);
    let file = cached(dir.path()).remove(0);
    fs::set_permissions(file.parent().unwrap(), fs::Permissions::from_mode(0o777)).unwrap();
    load(dir.path(), 0);
    if chown(&file, Some(61235), None).is_err() {
        return println!("left out: only root can give files away");
    }
    let error = load_with(dir.path(), &options(dir.path(), 0, &Told::default())).unwrap_err().to_string();
    assert!(error.contains("another user's") && error.contains("CIFAR_ENGINE_CACHE"), "{error}");
}

#[test]
fn what_nobody_uses_is_deleted_and_said() {
    let dir = photos(30);
    load(dir.path(), 0);
    let folder = dir.path().join("cache/decoded");
    let aged = |name: &str, days: u64| {
        let file = File::create(folder.join(name)).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(days * 24 * 60 * 60)).unwrap();
    };
    for (name, days) in
        [("old.images", 31), ("young.images", 29), ("old.txt", 99), (".killed.images.writing", 0)]
    {
        aged(name, days);
    }
    let used = cached(dir.path()).into_iter().find(|path| path.file_stem().unwrap().len() == 32).unwrap();
    File::options().write(true).open(&used).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
    load(dir.path(), 0);
    let told = Told::default();
    let options = Options { image_size: Some(8), ..options(dir.path(), 0, &told) };
    load_with(dir.path(), &options).unwrap();
    let lines = told.lines();
    assert!(lines.iter().any(|line| line.contains("deleted: 2 files of decoded images")), "{lines:?}");
    let left = cached(dir.path());
    assert!(left.contains(&used), "what was found was used");
    let names = ["young.images", "old.txt"].map(|name| left.contains(&folder.join(name)));
    assert_eq!((names, left.len()), ([true; 2], 4), "{left:?}");
}

/// A bit that the disk, or another program, has turned over is no pixel of a training.
#[test]
fn an_image_that_is_damaged_is_told() {
    let dir = photos(30);
    let whole = load(dir.path(), 0).train;
    let path = cached(dir.path()).remove(0);
    let good = fs::read(&path).unwrap();
    let stride = SIZE * SIZE * 3;
    for byte in [0, 7 * stride, 8 * stride - 1, 30 * stride - 1] {
        let mut bytes = good.clone();
        bytes[byte] ^= 1;
        fs::write(&path, bytes).unwrap();
        let data = load(dir.path(), 0);
        let sets = [&data.train, &data.validation, &data.test];
        let errors: Vec<String> =
            sets.iter().filter_map(|set| set.digest().err()).map(|error| error.to_string()).collect();
        let expected = format!("its image {} is damaged", byte / stride);
        assert!(errors.len() == 1 && errors[0].contains(&expected), "{errors:?}");
        assert!(errors[0].contains("delete the file"), "{errors:?}");
    }
    // Nor is a checksum.
    let mut bytes = good.clone();
    bytes[30 * stride] ^= 1;
    fs::write(&path, bytes).unwrap();
    let data = load(dir.path(), 0);
    assert!([&data.train, &data.test].iter().any(|set| set.digest().is_err()));
    fs::write(&path, good).unwrap();
    assert_same(&load(dir.path(), 0).train, &whole);
}

/// CIFAR-10's own files, at another size than theirs.
#[test]
fn images_that_are_scaled_up_come_from_a_file_too() {
    let bench = Bench::new();
    let load = |in_memory| {
        let told = Told::default();
        let options = Options { image_size: Some(48), ..options(bench.dir.path(), in_memory, &told) };
        let data = data::load(&DataSource::Path(bench.dir.path().into()), &options).unwrap();
        (data, told.lines())
    };
    let ((memory, _), (file, lines)) = (load(ALL), load(0));
    assert!(!memory.train.is_in_file() && file.train.is_in_file() && file.test.is_in_file());
    assert_eq!((memory.train.len(), memory.test.len()), (320, 70));
    assert_same(&file.train, &memory.train);
    assert_same(&file.test, &memory.test);
    assert!(lines.iter().filter(|line| line.contains("written to")).count() == 2, "{lines:?}");
    let (_, again) = load(0);
    assert!(again.iter().filter(|line| line.contains("found in")).count() == 2, "{again:?}");
    // All that is loaded counts: a limit that the test images alone would fit.
    assert!(load(100 * 48 * 48 * 3).0.test.is_in_file() && !load(390 * 48 * 48 * 3).0.test.is_in_file());
    // Other images are another file.
    let path = bench.path("test_batch.bin");
    let mut bytes = fs::read(&path).unwrap();
    bytes[100] ^= 1;
    fs::write(&path, bytes).unwrap();
    assert_eq!(load(0).1.iter().filter(|line| line.contains("written to")).count(), 1);
    let command = "train --data . --image-size 48 --epochs 1 --batch-size 64 --validation 64";
    let weights = |out: &str, in_memory: &str| {
        let output = program(&bench, &format!("{command} --out {out}"), in_memory);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        fs::read(bench.path(out).join("last.safetensors")).unwrap()
    };
    assert!(weights("memory", "9999") == weights("file", "0"));
}

#[test]
fn a_cache_that_cannot_be_is_told_with_what_helps() {
    let bench = Bench::new();
    write_photos(&bench.path("photos"), 30);
    for cache in ["/dev/null", "test_batch.bin"] {
        let mut program = std::process::Command::new(env!("CARGO_BIN_EXE_cifar-engine"));
        program.current_dir(bench.dir.path()).args("train --data photos --epochs 1".split(' '));
        program.env("CIFAR_ENGINE_IN_MEMORY", "0").env("CIFAR_ENGINE_CACHE", cache);
        let message = String::from_utf8(program.output().unwrap().stderr).unwrap();
        assert!(message.contains("a part of this path is a file; set CIFAR_ENGINE_CACHE"), "{message}");
        assert!(!message.contains("delete it"), "{message}");
    }
}

/// Stops a training after some steps.
struct Stopping {
    left: Cell<usize>,
    seen: RefCell<Vec<String>>,
}

impl Observer for Stopping {
    fn step(&mut self, _: &StepProgress) {
        self.left.set(self.left.get().saturating_sub(1));
    }

    fn keep_going(&self) -> bool {
        self.left.get() > 0
    }

    fn epoch(&mut self, metrics: &EpochMetrics) {
        self.seen.get_mut().push(metrics.proof.as_ref().unwrap().weights_sha256.clone());
    }
}

/// The hash of the weights after each epoch, and the logits of the test; the training goes on from
/// one stretch to the next, each of so many steps and with the images in memory or in a file.
fn trained(dir: &Path, settings: &Settings, stretches: &[(usize, u64)]) -> (Vec<String>, Vec<f32>) {
    let run = tempfile::tempdir().unwrap();
    let folder = run.path().join("run");
    let mut observer = Stopping { left: Cell::new(0), seen: RefCell::default() };
    let mut logits = Vec::new();
    for (number, &(steps, in_memory)) in stretches.iter().enumerate() {
        let run = match number {
            0 => RunFolder::create(Some(folder.clone()), settings, "photos").unwrap(),
            _ => RunFolder::open(folder.clone()).unwrap().0,
        };
        observer.left.set(steps);
        let mut device = Cpu::new(2, Isa::detect()).unwrap();
        match train::train(&mut device, settings, load(dir, in_memory), &run, &mut observer) {
            Ok(outcome) => logits = outcome.test.logits.into_iter().collect(),
            Err(error) => assert!(matches!(error, Error::Interrupted), "{error}"),
        }
    }
    (observer.seen.into_inner(), logits)
}

/// Batches of 16 of 72 images, so that the last one of an epoch is filled up, and that of the 24
/// for validation has empty places; six views of each in the test.
fn settings(augment: &str) -> Settings {
    Settings {
        image_size: SIZE,
        batch_size: 16,
        epochs: 2,
        validation: 24,
        rate: 0.02,
        augment: augment.parse().unwrap(),
        test_shift: true,
        ..Settings::default()
    }
}

#[test]
fn a_training_from_a_file_has_the_bits_of_one_from_memory() {
    let dir = photos(120);
    let cases = [
        settings("flip=alternate,border=reflect,shift=2"),
        Settings { balanced: true, ..settings("crop=0.5,flip,mixup=0.4") },
        settings("flip=alternate,cutmix=1,cutout=4"),
    ];
    for settings in cases {
        let expected = trained(dir.path(), &settings, &[(usize::MAX, ALL)]);
        assert_eq!((expected.0.len(), expected.1.is_empty()), (2, false));
        let augment = &settings.augment;
        assert!(trained(dir.path(), &settings, &[(usize::MAX, 0)]) == expected, "{augment}");
        // A run may go on where there is more memory, or less.
        for stretches in [[(3, 0), (usize::MAX, ALL)], [(7, ALL), (usize::MAX, 0)]] {
            assert!(trained(dir.path(), &settings, &stretches) == expected, "{augment} {stretches:?}");
        }
    }
}

#[test]
fn layers_that_begin_by_what_images_show_begin_alike() {
    let dir = photos(90);
    let settings =
        Settings { epochs: 1, batch_size: 16, validation: 20, image_size: SIZE, ..FAST.settings() };
    let [memory, file] = [ALL, 0].map(|most| trained(dir.path(), &settings, &[(usize::MAX, most)]));
    assert!(memory == file && memory.0.len() == 1);
}

#[test]
fn the_memory_of_a_plan_does_not_depend_on_how_many_images_a_file_has() {
    let settings = settings("flip=alternate,crop=0.5");
    let spec = train::bare_spec(settings.model, SIZE, 3);
    let bytes = |graph: plans::ModelGraph| {
        let plan = Plan::compile(&graph.graph).unwrap();
        plan.slot_bytes() + plan.state_bytes()
    };
    let training =
        |count, by_batch| bytes(plans::training(&spec, &settings, ImageSet { count, by_batch }).unwrap());
    let evaluation =
        |count, by_batch| bytes(plans::evaluation(&spec, "x", ImageSet { count, by_batch }, 16).unwrap());
    assert_eq!(training(100_000, true), training(100, true));
    assert_eq!(evaluation(100_000, true), evaluation(100, true));
    assert!(training(100_000, false) > training(100, false) + 99_900 * SIZE * SIZE * 3);
    let dir = photos(60);
    let [memory, file] = both(dir.path(), |_| ()).map(|data| ImageSet::from(&data.train));
    assert_eq!(memory.count, file.count);
    assert_eq!((memory.by_batch, file.by_batch), (false, true));
    assert!(matches!(load(dir.path(), 0).test.pixels, Pixels::File(_)));
}

/// The program in a folder with `photos`, with its images in memory or in a file.
fn program(bench: &Bench, command: &str, in_memory: &str) -> std::process::Output {
    let mut program = std::process::Command::new(env!("CARGO_BIN_EXE_cifar-engine"));
    program.current_dir(bench.dir.path()).args(command.split_whitespace());
    program.env("CIFAR_ENGINE_OFFLINE", "1").env("CIFAR_ENGINE_DEVICE", "cpu");
    program.env("CIFAR_ENGINE_CACHE", bench.path("cache")).env("CIFAR_ENGINE_IN_MEMORY", in_memory);
    program.output().unwrap()
}

#[test]
fn all_commands_answer_alike() {
    let bench = Bench::new();
    write_photos(&bench.path("photos"), 120);
    write_weights(&bench.path("weights.safetensors"));
    let both = |command: &str| {
        ["512", "0"].map(|in_memory| {
            let output = program(&bench, &command.replace("WHERE", &format!("run-{in_memory}")), in_memory);
            let error = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{command}: {error}");
            (String::from_utf8(output.stdout).unwrap(), error)
        })
    };
    let finetune = "finetune --data photos --image-size 32 --pretrained weights.safetensors --epochs 3 \
                    --head-epochs 1 --batch-size 16 --validation 20 --out WHERE";
    let [(_, memory), (_, file)] = both(finetune);
    assert!(
        !memory.contains("decoded images") && file.contains("decoded images: 368.6 kB, written to"),
        "{file}"
    );
    for name in ["last.safetensors", "best.safetensors", "split.csv"] {
        let [memory, file] = ["run-512", "run-0"].map(|run| fs::read(bench.path(run).join(name)).unwrap());
        assert!(memory == file, "{name}");
    }
    let result = |run: &str| json(&fs::read_to_string(bench.path(run).join("result.json")).unwrap());
    assert_eq!(result("run-512")["test_loss"], result("run-0")["test_loss"]);
    for command in [
        "data photos --image-size 32 --json --out sheet.png",
        "evaluate run-0 --json",
        "inspect run-0 --json",
        "predict --sample 3 --weights run-0/best.safetensors --data photos --json",
        "verify run-0 --json",
    ] {
        let [(memory, _), (file, _)] = both(command);
        assert_eq!(without_times(&memory), without_times(&file), "{command}");
    }
    // It may find no rate by so few images.
    let searched = ["512", "0"].map(|in_memory| {
        let search = "lr-find --data photos --image-size 16 --batch-size 16 --steps 40 --out rates.png";
        program(&bench, search, in_memory);
        let table = fs::read_to_string(bench.path("rates.csv")).unwrap();
        fs::remove_file(bench.path("rates.csv")).unwrap();
        table
    });
    assert!(searched[0] == searched[1] && searched[0].lines().count() > 20, "{searched:?}");
    let error = program(&bench, "data photos", "much");
    assert_eq!(error.status.code(), Some(2));
    let error = String::from_utf8(error.stderr).unwrap();
    assert!(error.contains("CIFAR_ENGINE_IN_MEMORY is 'much', not a whole number of mebibytes"), "{error}");
}

fn without_times(text: &str) -> String {
    text.lines().filter(|line| !line.contains("seconds")).collect()
}
