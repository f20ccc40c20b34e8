//! A training by several processes: the bits of one process, however many there are.

mod common;

use std::cell::Cell;
use std::path::Path;

use cifar_engine::data::{Dataset, shapes};
use cifar_engine::error::{Error, Result};
use cifar_engine::exec::cpu::Cpu;
use cifar_engine::kernels::rng::{Stream, permutation};
use cifar_engine::kernels::simd::Isa;
use cifar_engine::models::mobilenet_v1::MOBILENET_V1;
use cifar_engine::models::pretrained::{Attributes, Pretrained};
use cifar_engine::report::EpochMetrics;
use cifar_engine::team::Team;
use cifar_engine::train::finetune::finetune;
use cifar_engine::train::run_folder::RunFolder;
use cifar_engine::train::settings::Settings;
use cifar_engine::train::settings::finetune::{Blocks, Finetune};
use cifar_engine::train::{self, Observer, Outcome, StepProgress};
use common::mobilenet::write_weights;
use common::team::together;

/// Numbers of many sizes, whose sum depends on the order.
fn numbers(len: usize, process: usize) -> Vec<f32> {
    let order = permutation(1000, 7, Stream::Shuffle, process as u32);
    (0..len).map(|i| (order[i % 1000] as f32 - 500.0) * 10f32.powi(i as i32 % 9 - 4)).collect()
}

/// The sum of rows in a binary tree.
fn tree(rows: &[Vec<f32>]) -> Vec<f32> {
    if let [row] = rows {
        return row.clone();
    }
    let (low, high) = rows.split_at(rows.len() / 2);
    tree(low).iter().zip(tree(high)).map(|(a, b)| a + b).collect()
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

#[test]
fn sums_have_the_form_of_the_tree_in_every_process() {
    for size in [1, 2, 4, 8, 16] {
        // The last is more than are added up at a time.
        for len in [0, 1, 5, 16, 1003, 150_001] {
            let rows: Vec<_> = (0..size).map(|process| numbers(len, process)).collect();
            let expected = tree(&rows);
            if len > 16 && size > 2 {
                let (first, rest) = rows.split_first().unwrap();
                let one_by_one = rest.iter().fold(first.clone(), |sum, row| tree(&[sum, row.clone()]));
                assert!(bits(&one_by_one) != bits(&expected), "no order shows in these numbers");
            }
            let sums = together(size, |team| {
                let mut values = rows[team.rank()].clone();
                team.add_up(&mut values).unwrap();
                values
            });
            assert!(sums.iter().all(|sum| bits(sum) == bits(&expected)), "{len} by {size} processes");
        }
    }
}

/// As few as can be: a process sends `2 (P - 1) / P` times the numbers.
#[test]
fn what_is_sent_is_counted() {
    for size in [1, 2, 4, 8] {
        let sent = together(size, |team| {
            team.add_up(&mut vec![1.0; 64]).unwrap();
            team.traffic().bytes
        });
        assert_eq!(sent, vec![(4 * 64 * 2 * (size - 1) / size) as u64; size]);
    }
}

#[test]
fn answers_are_those_of_all() {
    let no = together(4, |team| (team.all(true), team.has_agreed_to_stop(), team.all(team.rank() != 2)));
    assert_eq!(no, [(true, false, false); 4]);
    let told = together(4, |team| team.from_first(|| Ok(vec![7 + team.rank() as u8])).unwrap());
    assert_eq!(told, vec![vec![7]; 4]);
    let hosts = together(2, |team| team.hosts().unwrap());
    assert_eq!(hosts, vec![["host0", "host1"]; 2]);
    let alone = Team::default();
    assert!(alone.all(true) && !alone.all(false) && alone.from_first(|| Ok(vec![1])).unwrap() == [1]);
}

#[test]
fn what_differs_is_named() {
    let facts = |team: &Team| [("day", "Monday".to_string()), ("hour", (team.rank() / 3).to_string())];
    for found in together(4, |team| team.check_alike(&facts(team))) {
        let error = found.unwrap_err().to_string();
        assert!(
            error.starts_with("process 3, on host3, differs from process 0, on host0, in the hour: 1, not 0")
        );
    }
    let other = |team: &Team| if team.rank() == 1 { facts(team)[..1].to_vec() } else { facts(team).to_vec() };
    let found = together(2, |team| team.check_alike(&other(team)).unwrap_err().to_string());
    assert!(found.iter().all(|error| error.contains("not of one version")), "{found:?}");
    assert!(together(2, |team| team.check_alike(&facts(team))).iter().all(Result::is_ok));
}

/// Stops after a number of questions whether to go on.
struct Stopping {
    left: Cell<usize>,
}

impl Observer for Stopping {
    fn step(&mut self, _: &StepProgress) {}

    fn keep_going(&self) -> bool {
        self.left.set(self.left.get().saturating_sub(1));
        self.left.get() > 0
    }

    fn epoch(&mut self, _: &EpochMetrics) {}
}

/// 70 test images and 24 for validation: no number of processes shares out their batches evenly.
fn images() -> Dataset {
    shapes::sized(184, 290, 32, 0).unwrap()
}

/// Five steps an epoch.
fn settings() -> Settings {
    Settings {
        epochs: 2,
        batch_size: 32,
        shards: 8,
        validation: 24,
        ema: 0.9,
        clip: 1.0,
        ..Settings::default()
    }
}

/// A fine-tuning of the head and of two blocks.
fn finetuning(pretrained: &Path) -> Settings {
    let finetune = Finetune {
        pretrained: pretrained.to_string_lossy().into_owned(),
        input_size: 32,
        unfreeze: Blocks(2),
        head_epochs: 1,
        head_rate: 0.01,
        backbone: 0.5,
        fit_head: true,
        frozen_statistics: false,
        attributes: Attributes::default(),
    };
    Settings { model: &MOBILENET_V1, ema: 0.0, rate: 0.01, finetune: Some(finetune), ..settings() }
}

/// What each process comes to that begins or goes on with the run in a folder; process 0 is to stop
/// after a number of questions.
fn train(size: usize, folder: &Path, settings: &Settings, stop_after: usize) -> Vec<Result<Outcome>> {
    let own = || match folder.join("settings.toml").exists() {
        true => Ok(RunFolder::open(folder.to_path_buf()).unwrap().0),
        false => RunFolder::create(Some(folder.to_path_buf()), settings, "shapes"),
    };
    together(size, |team| {
        let run = RunFolder::of_team(team, own)?;
        let left = if team.is_first() { stop_after } else { usize::MAX };
        let (observer, device) = (&mut Stopping { left: Cell::new(left) }, &mut Cpu::new(1, Isa::detect())?);
        match &settings.finetune {
            None => train::train(device, settings, images(), &run, observer),
            Some(tuned) => {
                let pretrained = Pretrained::open(Path::new(&tuned.pretrained), &Attributes::default())?;
                finetune(device, settings, pretrained, images(), &run, observer)
            }
        }
    })
}

/// What a run comes to, but for the time that it took.
fn left_in(folder: &Path) -> (Vec<u8>, Vec<u8>, Vec<String>) {
    let bytes = |name: &str| std::fs::read(folder.join(name)).unwrap();
    let text = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap();
    let timeless = |line: &str| {
        let row: EpochMetrics = serde_json::from_str(line).unwrap();
        format!("{:?}", EpochMetrics { images_per_s: 0.0, seconds: 0.0, ..row })
    };
    let mut rows: Vec<String> = text("metrics.jsonl").lines().map(timeless).collect();
    let result = text("result.json");
    rows.extend(result.lines().filter(|line| !line.contains("\"seconds\"")).map(String::from));
    (bytes("best.safetensors"), bytes("last.safetensors"), rows)
}

fn check_any_number(settings: &Settings, folder: &Path) {
    let alone = folder.join("alone");
    assert!(train(1, &alone, settings, usize::MAX)[0].is_ok());
    for size in [2, 4, 8] {
        let own = folder.join(size.to_string());
        let outcomes = train(size, &own, settings, usize::MAX);
        let accuracies: Vec<f64> =
            outcomes.into_iter().map(|outcome| outcome.unwrap().test.accuracy).collect();
        assert!(accuracies.windows(2).all(|pair| pair[0] == pair[1]), "{accuracies:?}");
        let (found, expected) = (left_in(&own), left_in(&alone));
        assert_eq!(found.2, expected.2);
        assert!(found == expected, "{size} processes come to something else than one");
    }
    // Stopped by one, and gone on with by others.
    for (stop_after, sizes) in [(4, [2, 4]), (9, [8, 1])] {
        let own = folder.join(format!("stopped after {stop_after}"));
        let stopped = train(sizes[0], &own, settings, stop_after);
        assert!(stopped.iter().all(|outcome| matches!(outcome, Err(Error::Interrupted))), "{stopped:?}");
        assert!(train(sizes[1], &own, settings, usize::MAX).iter().all(Result::is_ok));
        assert!(left_in(&own) == left_in(&alone), "stopped after {stop_after}, it is another run");
    }
}

#[test]
fn any_number_of_processes_makes_the_same_run() {
    let folder = tempfile::tempdir().unwrap();
    check_any_number(&settings(), folder.path());
}

#[test]
fn any_number_of_processes_makes_the_same_fine_tuning() {
    let folder = tempfile::tempdir().unwrap();
    let pretrained = folder.path().join("pretrained.safetensors");
    write_weights(&pretrained);
    check_any_number(&finetuning(&pretrained), folder.path());
}

#[test]
fn a_process_with_other_data_or_settings_is_named_before_anything_is_trained() {
    let folder = tempfile::tempdir().unwrap();
    let start = |name: &str, other: Settings, data: Dataset| {
        let path = folder.path().join(name);
        let errors = together(2, |team| {
            let (settings, data) =
                if team.is_first() { (settings(), images()) } else { (other.clone(), data.clone()) };
            let run =
                RunFolder::of_team(team, || RunFolder::create(Some(path.clone()), &settings, "shapes"))?;
            let mut device = Cpu::new(1, Isa::detect())?;
            train::train(&mut device, &settings, data, &run, &mut Stopping { left: Cell::new(usize::MAX) })
        });
        assert!(!path.exists(), "a run that was refused leaves nothing");
        errors.into_iter().map(|error| error.unwrap_err().to_string()).collect::<Vec<_>>()
    };
    let mut data = images();
    let mut pixels = data.train.pixels.bytes().unwrap().into_owned();
    pixels[0] ^= 1;
    data.train.pixels = pixels.into();
    for error in start("data", settings(), data) {
        assert!(
            error.contains("process 1, on host1, differs")
                && error.contains("in the digest of the training images: "),
            "{error}"
        );
    }
    for error in start("settings", Settings { seed: 1, ..settings() }, images()) {
        assert!(
            error.contains("on host1, differs") && error.contains("in the settings: seed = 1, not seed = 0"),
            "{error}"
        );
    }
}

#[test]
fn a_team_fits_the_shards() {
    let alone = together(4, |team| (team.share(8), team.check_shards(4).is_ok(), team.check_shards(2)));
    let shares: Vec<_> = alone.iter().map(|(share, ..)| share.clone()).collect();
    assert_eq!(shares, [0..2, 2..4, 4..6, 6..8]);
    let three = together(3, |team| team.check_shards(8).unwrap_err().to_string());
    assert!(three[0].contains("1, 2, 4, 8 .. processes, not 3"), "{three:?}");
    let error = alone[0].2.as_ref().unwrap_err().to_string();
    assert!(
        alone[0].1 && error == "`shards` 2 is too few for 4 processes; choose 4 or more, or start fewer",
        "{error}"
    );
}
