//! No bytes from outside end in a panic, an endless loop, or more memory than they may take. Valid
//! files are changed at random and read; alone in its binary, for the allocator counts everything.
//!
//! `CIFAR_ENGINE_FUZZ_SECONDS` sets how long each reader is tried, `CIFAR_ENGINE_FUZZ_SEED` where
//! the changes begin. A finding is left in the temporary folder, and its name is printed.

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use cifar_engine::cli::compare::{self, Run};
use cifar_engine::data::image_file::read_image;
use cifar_engine::data::read_class_names;
use cifar_engine::data::{self, DataSource, Images, Options, shapes};
use cifar_engine::kernels::rng::{self, Stream};
use cifar_engine::models::pretrained::{Attributes, Pretrained};
use cifar_engine::report::{EpochMetrics, metrics};
use cifar_engine::train::checkpoint::{Checkpoint, Progress, RunFingerprint};
use cifar_engine::train::finetune_defaults::defaults;
use cifar_engine::train::run_folder::RunFolder;
use cifar_engine::train::settings::finetune::{Blocks, Finetune, FinetuneChoices};
use cifar_engine::train::settings::{Choices, KERAS, Settings};
use cifar_engine::weights::{self, Tensor, WeightsFile};
use flate2::Compression;
use flate2::write::GzEncoder;
use image::{ExtendedColorType, ImageEncoder};

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator, counting.
struct Counting;

// SAFETY: every call goes to the system's allocator as it came; counting touches no memory of the
// caller.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        PEAK.fetch_max(NOW.fetch_add(layout.size(), Relaxed) + layout.size(), Relaxed);
        // SAFETY: the caller's promises are those of this method.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// One reader at a time: what is allocated must be its own.
static ALONE: Mutex<()> = Mutex::new(());

const MIB: usize = 1 << 20;
/// No input of a few kilobytes takes longer on any machine; one that does hangs.
const HANGS: Duration = Duration::from_secs(300);

fn variable(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |value| value.parse().unwrap())
}

/// Random numbers of one input.
struct Dice {
    seed: u32,
    input: u32,
    drawn: u32,
}

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.drawn += 1;
        rng::below(rng::draw(self.seed, Stream::Split, self.input, self.drawn)[0], bound.max(1) as u32)
            as usize
    }
}

/// Changes some bytes: single bits, numbers at the edges of their range, blocks that are cut,
/// doubled or moved.
fn change(bytes: &mut Vec<u8>, others: &[Vec<u8>], dice: &mut Dice) {
    const EDGES: [u64; 8] = [0, 1, 0x7f, 0xff, 0x7fff_ffff, 0xffff_ffff, 0x7fff_ffff_ffff_ffff, u64::MAX];
    for _ in 0..1 + dice.below(6) {
        let (len, at) = (bytes.len(), dice.below(bytes.len()));
        let size = 1 + dice.below(64.min(len.max(1)));
        let end = (at + size).min(len);
        match dice.below(9) {
            0 | 1 if len > 0 => bytes[at] ^= 1 << dice.below(8),
            2 if len > 0 => bytes[at] = dice.below(256) as u8,
            3 => {
                let edge = EDGES[dice.below(EDGES.len())].to_le_bytes();
                let width = [1, 2, 4, 8][dice.below(4)];
                let part = if dice.below(2) == 0 {
                    edge[..width].to_vec()
                } else {
                    edge[..width].iter().rev().copied().collect()
                };
                bytes.splice(at..(at + width).min(len), part);
            }
            4 => bytes.truncate(at),
            5 => drop(bytes.drain(at..end)),
            6 => {
                let block = bytes[at..end].to_vec();
                (0..1 + dice.below(20)).for_each(|_| drop(bytes.splice(at..at, block.iter().copied())));
            }
            7 => {
                let other = &others[dice.below(others.len())];
                let from = dice.below(other.len());
                let part = other[from..(from + size).min(other.len())].to_vec();
                bytes.splice(at..end, part);
            }
            // Text: a digit becomes many.
            _ => {
                if let Some(digit) = bytes[at..].iter().position(u8::is_ascii_digit) {
                    let many = ["-1", "99999999999999999999", "1e308", "0", "NaN", "-0.0"][dice.below(6)];
                    bytes.splice(at + digit..at + digit + 1, many.bytes());
                }
            }
        }
    }
}

/// Reads changed inputs until the time is over.
fn fuzz(name: &str, corpus: Vec<Vec<u8>>, bound: usize, read: impl Fn(&[u8]) -> bool) {
    let _alone = ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    for bytes in &corpus {
        assert!(read(bytes), "{name}: an unchanged file was refused");
    }
    let time = Duration::from_secs(variable("CIFAR_ENGINE_FUZZ_SECONDS", 2));
    let seed = variable("CIFAR_ENGINE_FUZZ_SEED", 0) as u32;
    let (begin, mut input, mut accepted, mut most) = (Instant::now(), 0, 0, 0);
    while begin.elapsed() < time {
        let mut dice = Dice { seed, input, drawn: 0 };
        let mut bytes = corpus[dice.below(corpus.len())].clone();
        change(&mut bytes, &corpus, &mut dice);
        let before = NOW.load(Relaxed);
        PEAK.store(before, Relaxed);
        let started = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| read(&bytes)));
        let taken = PEAK.load(Relaxed).saturating_sub(before);
        most = most.max(taken);
        if outcome.is_err() || taken > bound || started.elapsed() > HANGS {
            let path = std::env::temp_dir().join(format!("fuzz-{name}-{seed}-{input}"));
            fs::write(&path, &bytes).unwrap();
            let kept = path.display();
            panic!("{name}: panicked: {}, {taken} bytes, {:?}: {kept}", outcome.is_err(), started.elapsed());
        }
        accepted += usize::from(outcome.unwrap_or(false));
        input += 1;
    }
    let (seconds, most, bound) = (time.as_secs(), most / MIB, bound / MIB);
    println!(
        "{name}: {input} inputs in {seconds} s, {accepted} accepted, at most {most} MiB (bound {bound} MiB)"
    );
    assert!(input > 0);
}

fn in_folder<T>(files: &[(&str, &[u8])], read: impl FnOnce(&Path) -> T) -> T {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    read(folder.path())
}

/// CIFAR-10's records of a few drawn images.
fn records(count: usize) -> Vec<u8> {
    let images = shapes::sized(count, 0, 32, 0).unwrap().train;
    let mut bytes = Vec::new();
    for i in 0..images.len() {
        let image = images.image(i).unwrap();
        bytes.push(images.labels[i] as u8);
        (0..3).for_each(|channel| bytes.extend(image.iter().skip(channel).step_by(3)));
    }
    bytes
}

const BATCHES: [&str; 6] = [
    "data_batch_1.bin",
    "data_batch_2.bin",
    "data_batch_3.bin",
    "data_batch_4.bin",
    "data_batch_5.bin",
    "test_batch.bin",
];

fn load(path: &Path) -> bool {
    let options = Options { offline: true, ..Options::default() };
    data::load(&DataSource::Path(path.to_path_buf()), &options).is_ok()
}

#[test]
fn cifar_batches() {
    let (good, meta) = (records(2), b"a\nb\nc\nd\ne\nf\ng\nh\ni\nj\n".to_vec());
    fuzz("cifar", vec![good.clone(), meta.clone()], 64 * MIB, |bytes| {
        // What looks like names goes where the names are.
        let is_meta = bytes.len() < 1000;
        let (batch, names) = if is_meta { (&good[..], bytes) } else { (bytes, &meta[..]) };
        let mut files: Vec<(&str, &[u8])> = BATCHES.iter().map(|name| (*name, &good[..])).collect();
        files[3].1 = batch;
        files.push(("batches.meta.txt", names));
        in_folder(&files, load)
    });
}

fn tar() -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for name in BATCHES {
        let bytes = records(1);
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, format!("cifar-10-batches-bin/{name}"), &bytes[..]).unwrap();
    }
    archive.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn archives() {
    // Changed before and after compression: after it, little gets past the checksum.
    let read = |bytes: &[u8]| in_folder(&[("a.tar.gz", bytes)], |folder| load(&folder.join("a.tar.gz")));
    let compressed = |bytes: &[u8]| read(&gzip(bytes));
    fuzz("tar", vec![tar()], 128 * MIB, compressed);
    fuzz("tar.gz", vec![gzip(&tar())], 128 * MIB, read);
}

fn small_weights() -> WeightsFile {
    let mut file = weights::load("weights/fast-cifar10.safetensors").unwrap();
    // Shapes that no longer fit, but a file of a size that can be changed often.
    for tensor in file.tensors.values_mut() {
        tensor.data.truncate(2);
        tensor.shape = vec![tensor.data.len()];
    }
    file
}

fn saved(file: &WeightsFile) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    weights::save(folder.path().join("w"), file).unwrap();
    fs::read(folder.path().join("w")).unwrap()
}

#[test]
fn weights_files() {
    let small = saved(&small_weights());
    let mut timm = WeightsFile::default();
    for (name, shape) in
        [("conv_stem.weight", [8usize, 3, 3, 3]), ("blocks.4.1.conv_pw.weight", [256, 1, 1, 1])]
    {
        let data = vec![0.5; shape.iter().product()];
        timm.tensors.insert(name.into(), Tensor { shape: shape.to_vec(), data });
    }
    fuzz("safetensors", vec![small, saved(&timm)], 64 * MIB, |bytes| {
        let parsed = weights::parse(bytes, "w");
        parsed.and_then(|file| Pretrained::of(file, Path::new("w"), &Attributes::default())).is_ok()
    });
}

#[test]
fn checkpoints() {
    let row = EpochMetrics {
        epoch: 1,
        train_loss: 1.5,
        train_accuracy: 0.25,
        validation_loss: Some(1.25),
        validation_accuracy: Some(0.5),
        rate: 0.1,
        images_per_s: 1000.0,
        seconds: 2.0,
        validation_images: 100,
        proof: None,
    };
    let checkpoint = Checkpoint {
        fingerprint: RunFingerprint {
            settings: Settings::default().to_toml(),
            images: "abc".into(),
            test: Some("def".into()),
            classes: Some("cat\ndog".into()),
            pretrained: None,
            graph: None,
        },
        progress: Progress { stage_epochs: 1, history: vec![row], ..Progress::default() },
        states: [("conv1.weight".to_string(), vec![0.5; 30])].into(),
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("checkpoint.safetensors");
    checkpoint.save(&path).unwrap();
    let whole = fs::read(&path).unwrap();
    fuzz("checkpoint", vec![whole.clone()], 64 * MIB, |bytes| {
        fs::write(&path, bytes).unwrap();
        let loaded = Checkpoint::load(&path);
        assert!(
            loaded.as_ref().is_ok_and(|c| *c == checkpoint) || loaded.is_err(),
            "other content was accepted"
        );
        loaded.is_ok()
    });
    // Changed before the digest is made: a file that was written so, by whoever.
    let text = serde_json::to_string(&checkpoint.progress).unwrap();
    fuzz("progress", vec![text.into_bytes()], 64 * MIB, |bytes| {
        let mut file = weights::parse(&whole, "w").unwrap();
        file.metadata.remove("digest");
        file.metadata.insert("progress".into(), String::from_utf8_lossy(bytes).into_owned());
        let digest = weights::checksum(&file).unwrap();
        file.metadata.insert("digest".into(), digest);
        weights::save(&path, &file).unwrap();
        Checkpoint::load(&path).is_ok()
    });
}

#[test]
fn tables_and_settings() {
    let rows = "epoch,train_loss,train_accuracy,validation_loss,validation_accuracy,rate,images_per_s,seconds,\
                validation_images\n1,2.5,0.1,,,0.1,1000,1,0\n2,1.5,0.5,1.25,0.5,0.05,1000.5,1.5,90\n";
    fuzz("metrics", vec![rows.into()], 64 * MIB, |bytes| {
        in_folder(&[("metrics.csv", bytes)], |folder| metrics::read_csv(folder.join("metrics.csv")).is_ok())
    });
    fuzz("settings", settings(), 64 * MIB, |bytes| {
        in_folder(&[("settings.toml", bytes)], |folder| {
            let settings = RunFolder::open(folder.to_path_buf()).map(|(_, settings)| settings);
            settings.is_ok_and(|settings| !settings.to_toml().is_empty() && settings.check().is_ok())
        })
    });
}

/// The settings of runs.
fn settings() -> Vec<Vec<u8>> {
    let finetune = Finetune {
        pretrained: "weights.safetensors".into(),
        input_size: 96,
        unfreeze: Blocks(3),
        head_epochs: 3,
        head_rate: 2e-3,
        backbone: 0.5,
        fit_head: true,
        frozen_statistics: true,
        attributes: Attributes { mean: Some([127.5; 3]), epsilon: Some(1e-3), ..Attributes::default() },
    };
    let finetune = Settings { finetune: Some(finetune), ..Settings::default() };
    [Settings::default(), KERAS.settings(), finetune]
        .iter()
        .map(|settings| settings.to_toml().into_bytes())
        .collect()
}

/// `--config`, in both commands that have it.
#[test]
fn files_of_choices() {
    let mut corpus = settings();
    corpus.push(b"recipe = 'keras'\nepochs = 3\noptimizer = 'adam'\n".to_vec());
    corpus.push(b"epochs = 9\nimage_size = 64\n[finetune]\nunfreeze = 'all'\n".to_vec());
    fuzz("choices", corpus, 64 * MIB, |bytes| {
        in_folder(&[("mine.toml", bytes)], |folder| {
            let path = folder.join("mine.toml");
            let none = Choices::default();
            let train = none.with_file(Some(&path)).map(|choices| choices.settings());
            let checked = train.and_then(|settings| settings.check());
            let own = FinetuneChoices::default().with_file(&none, Some(&path));
            let applied = own.and_then(|(choices, own)| own.apply_to(&choices, &defaults(100, None)));
            checked.is_ok() || applied.is_ok()
        })
    });
}

#[test]
fn runs_to_compare() {
    let table =
        b"epoch,train_loss,train_accuracy,validation_loss,validation_accuracy,rate,images_per_s,seconds\n\
                  1,2.5,0.1,,,0.1,1000,1\n2,1.5,0.5,1.25,0.5,0.05,1000.5,1.5\n";
    let result = br#"{"test_accuracy": 0.5, "test_loss": 1.25, "parameters": 551466, "seconds": 2.5}"#;
    let settings = settings().swap_remove(0);
    fuzz("compare", vec![table.to_vec(), result.to_vec(), settings.clone()], 64 * MIB, |bytes| {
        let mut files: [(&str, &[u8]); 3] =
            [("metrics.csv", table), ("result.json", result), ("settings.toml", &settings)];
        files[if bytes.starts_with(b"epoch,") { 0 } else { 2 - usize::from(bytes.starts_with(b"{")) }].1 =
            bytes;
        in_folder(&files, |folder| {
            let Ok(run) = Run::read(folder) else { return false };
            let other = in_folder(&[("settings.toml", b"")], |folder| Run::read(folder).unwrap());
            let runs = [run, other];
            assert_eq!(compare::table(&runs).lines().len(), 3);
            compare::draw(&runs, &folder.join("compare.png")).is_ok()
        })
    });
}

#[test]
fn names_of_classes() {
    let corpus = vec![b"background\ncat\ndog\nbird\n".to_vec(), "kočka\r\npes\r\npták".into()];
    fuzz("labels", corpus, 64 * MIB, |bytes| {
        in_folder(&[("labels.txt", bytes)], |folder| read_class_names(&folder.join("labels.txt"), 3).is_ok())
    });
}

fn image(encode: impl FnOnce(&mut Vec<u8>, &Images)) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(&mut bytes, &shapes::sized(1, 0, 24, 0).unwrap().train);
    bytes
}

#[test]
fn images() {
    use image::codecs::{jpeg::JpegEncoder, png::PngEncoder};
    let deep: Vec<u8> = (0..24 * 24 * 8).map(|i| (i * 31 % 251) as u8).collect();
    let corpus = vec![
        image(|out, images| {
            PngEncoder::new(out)
                .write_image(&images.image(0).unwrap(), 24, 24, ExtendedColorType::Rgb8)
                .unwrap();
        }),
        image(|out, _| {
            PngEncoder::new(out).write_image(&deep, 24, 24, ExtendedColorType::Rgba16).unwrap();
        }),
        image(|out, _| {
            PngEncoder::new(out).write_image(&deep[..576], 24, 24, ExtendedColorType::L8).unwrap();
        }),
        image(|out, images| {
            let mut encoder = JpegEncoder::new_with_quality(out, 80);
            encoder
                .set_exif_metadata(
                    b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0".to_vec(),
                )
                .unwrap();
            encoder.write_image(&images.image(0).unwrap(), 24, 24, ExtendedColorType::Rgb8).unwrap();
        }),
        image(|out, _| {
            JpegEncoder::new(out).write_image(&deep[..576], 24, 24, ExtendedColorType::L8).unwrap();
        }),
    ];
    // 300 MiB of decoded pixels, what the decoder needs beside them, and the same as 8-bit RGB.
    fuzz("pictures", corpus, 1024 * MIB, |bytes| read_image(bytes, "image", 32).is_ok());
}

#[test]
fn the_checks_notice_a_panic_and_too_much_memory() {
    let finding = |read: fn(&[u8]) -> bool| {
        let found = catch_unwind(|| fuzz("planted", vec![vec![0; 64]], MIB, read)).unwrap_err();
        let text = found.downcast_ref::<String>().cloned().unwrap_or_default();
        let kept = text.rsplit(": ").next().unwrap_or_default();
        fs::remove_file(kept).unwrap();
        text
    };
    let text = finding(|bytes| {
        assert!(bytes == [0; 64], "planted");
        true
    });
    assert!(text.contains("panicked: true"), "{text}");
    let text = finding(|bytes| {
        !std::hint::black_box(vec![1u8; if bytes == [0; 64] { 1 } else { 2 * MIB }]).is_empty()
    });
    // How many bytes it says depends on what the other tests allocate meanwhile.
    assert!(text.contains("panicked: false"), "{text}");
}
