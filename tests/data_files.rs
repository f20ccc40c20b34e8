//! Data from files: CIFAR-10 batches and archives; good input and every kind of bad.

mod common;

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use cifar_engine::data::{self, DataSource};
use tempfile::TempDir;

use common::data::{assert_has, load, message, options};

const RECORD: usize = 3073;
const TRAIN: [&str; 5] =
    ["data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin", "data_batch_5.bin"];

/// `n` records; in record `i` the red plane is `i`, the green one `100`, the blue one counts
/// pixels.
fn batch(n: usize, first_label: usize) -> Vec<u8> {
    let record = |i: usize| {
        let mut bytes = vec![((first_label + i) % 10) as u8];
        bytes.extend([i as u8; 1024]);
        bytes.extend([100; 1024]);
        bytes.extend((0..1024).map(|p| p as u8));
        bytes
    };
    (0..n).flat_map(record).collect()
}

fn write_batches(dir: &Path) {
    fs::create_dir_all(dir).unwrap();
    for (k, name) in TRAIN.iter().enumerate() {
        fs::write(dir.join(name), batch(4, k)).unwrap();
    }
    fs::write(dir.join("test_batch.bin"), batch(3, 7)).unwrap();
}

fn batches() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    write_batches(dir.path());
    dir
}

fn archive(dir: &Path, name: &str, compress: bool) -> PathBuf {
    let path = dir.join(name);
    let file = File::create(&path).unwrap();
    let level = if compress { flate2::Compression::fast() } else { flate2::Compression::none() };
    let mut tar = tar::Builder::new(flate2::write::GzEncoder::new(file, level));
    tar.append_dir_all("cifar-10-batches-bin", dir.join("cifar-10-batches-bin")).unwrap();
    tar.into_inner().unwrap().finish().unwrap();
    path
}

#[test]
fn batches_become_interleaved_images() {
    let dir = batches();
    let data = load(dir.path()).unwrap();
    assert_eq!((data.train.len(), data.test.len(), data.train.size), (20, 3, 32));
    assert_eq!(data.train.labels[..8], [0, 1, 2, 3, 1, 2, 3, 4]);
    assert_eq!(data.test.labels, [7, 8, 9]);
    assert_eq!(data.train.image(6).unwrap()[..6], [2, 100, 0, 2, 100, 1]);
    assert_eq!(data.train.image(19).unwrap()[3069..], [3, 100, 255]);
    let own_name = dir.path().file_name().unwrap().to_str().unwrap();
    assert_eq!((data.name.as_str(), data.classes[9].as_str()), (own_name, "truck"));
}

#[test]
fn the_parent_folder_the_archive_and_a_plain_tar_give_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let inner = dir.path().join("cifar-10-batches-bin");
    write_batches(&inner);
    let names: String = (0..10).map(|i| format!("class{i}\n")).collect();
    fs::write(inner.join("batches.meta.txt"), names + "\n").unwrap();
    let mut expected = load(&inner).unwrap();
    assert_eq!(expected.name, "cifar-10-batches-bin");
    assert_eq!(expected.classes[3], "class3");
    assert_eq!(load(dir.path()).unwrap(), expected);
    expected.name = "any-name.tgz".into();
    assert_eq!(load(&archive(dir.path(), "any-name.tgz", true)).unwrap(), expected);
    let plain = dir.path().join("plain.tar");
    let mut tar = tar::Builder::new(File::create(&plain).unwrap());
    tar.append_dir_all("x", &inner).unwrap();
    tar.finish().unwrap();
    expected.name = "plain.tar".into();
    assert_eq!(load(&plain).unwrap(), expected);
}

#[test]
fn a_cached_copy_is_found_without_a_network() {
    let dir = tempfile::tempdir().unwrap();
    write_batches(&dir.path().join("cifar-10-batches-bin"));
    for source in [DataSource::Auto, DataSource::Cifar10] {
        let data = data::load(&source, &options(dir.path(), None)).unwrap();
        assert_eq!((data.name.as_str(), data.train.len()), ("cifar-10-batches-bin", 20));
    }
    let data = data::load(&DataSource::Cifar10, &options(dir.path(), Some(16))).unwrap();
    assert_eq!((data.train.size, data.train.image(3).unwrap().len()), (16, 768));
    assert!(data.train.image(3).unwrap().chunks(3).all(|p| p[..2] == [3, 100]));
}

#[test]
fn without_cifar10_auto_draws_shapes_and_an_explicit_wish_fails() {
    let empty = tempfile::tempdir().unwrap();
    let data = data::load(&DataSource::Auto, &options(empty.path(), Some(8))).unwrap();
    assert_eq!(data.name, "shapes");
    let cached = empty.path().join("cifar-10-binary.tar.gz");
    for (content, reason, advice) in [
        (None, "offline", "place cifar-10-binary.tar.gz in"),
        (Some("half"), "has 4 bytes, expected 170052171", "delete it or replace it"),
    ] {
        if let Some(text) = content {
            fs::write(&cached, text).unwrap();
        }
        let error = data::load(&DataSource::Cifar10, &options(empty.path(), None)).unwrap_err().to_string();
        let cache = empty.path().display().to_string();
        assert_has(&error, &[reason, advice, &cache, "`data` PATH", "`data` shapes"]);
        assert!(!error.contains('\n'));
    }
    let error = data::load(&DataSource::Auto, &options(empty.path(), None)).unwrap_err().to_string();
    assert_has(&error, &["has 4 bytes, expected 170052171"]);
}

#[test]
fn only_full_batches_with_the_official_classes_are_called_cifar10() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("cifar10");
    write_batches(&dir);
    assert_eq!(load(&dir).unwrap().name, "cifar10-files", "a folder's name is no proof");
    for name in TRAIN.iter().chain(&["test_batch.bin"]) {
        fs::write(dir.join(name), vec![0; 10_000 * RECORD]).unwrap();
    }
    assert_eq!(load(&dir).unwrap().name, "cifar10");
    let names: String = (0..10).map(|i| format!("class{i}\n")).collect();
    fs::write(dir.join("batches.meta.txt"), names).unwrap();
    assert_eq!(load(&dir).unwrap().name, "cifar10-files");
}

#[test]
fn a_folder_in_the_place_of_a_batch_is_no_file() {
    let dir = batches();
    fs::remove_file(dir.path().join(TRAIN[2])).unwrap();
    fs::create_dir(dir.path().join(TRAIN[2])).unwrap();
    assert_has(&message(dir.path()), &["data_batch_3.bin: not a file"]);
}

#[test]
fn a_truncated_or_empty_batch_names_itself() {
    let dir = batches();
    for length in [0, 1, RECORD - 1, 4 * RECORD - 7, 10_001 * RECORD] {
        fs::write(dir.path().join(TRAIN[2]), vec![0; length]).unwrap();
        assert_has(
            &message(dir.path()),
            &[
                "data_batch_3.bin: ",
                &format!("{length} bytes are not"),
                "records of 3073 bytes",
                "truncated?",
            ],
        );
    }
}

#[test]
fn a_missing_batch_names_itself() {
    let dir = batches();
    fs::remove_file(dir.path().join("test_batch.bin")).unwrap();
    assert_has(
        &message(dir.path()),
        &["test_batch.bin: missing; CIFAR-10 (binary version) is data_batch_1.bin"],
    );
}

#[test]
fn a_label_out_of_range_names_file_and_record() {
    let dir = batches();
    let mut bytes = batch(4, 0);
    bytes[2 * RECORD] = 10;
    fs::write(dir.path().join(TRAIN[4]), bytes).unwrap();
    assert_has(
        &message(dir.path()),
        &["data_batch_5.bin: record 2 (of 4, from 0) has label 10, expected 0 to 9"],
    );
}

#[test]
fn wrong_class_names_are_refused() {
    let dir = batches();
    fs::write(dir.path().join("batches.meta.txt"), "cat\ndog\n").unwrap();
    assert_has(&message(dir.path()), &["batches.meta.txt: 2 class names, expected 10"]);
    let with = |last: &str| format!("a\nb\nc\nd\ne\nf\ng\nh\ni\n{last}\n");
    for (text, problem) in [
        (with("b"), "the class name b occurs twice"),
        (with("x\x1b[2Jy"), r"the class name x\u{1b}[2Jy has control characters"),
        (with(&"x".repeat(101)), "more than 100 characters"),
        (with(&"ä".repeat(3000)), "too long for a list of class names"),
    ] {
        fs::write(dir.path().join("batches.meta.txt"), text).unwrap();
        assert_has(&message(dir.path()), &["batches.meta.txt: ", problem]);
    }
    fs::write(dir.path().join("batches.meta.txt"), b"\xff\xfe").unwrap();
    assert_has(&message(dir.path()), &["batches.meta.txt: not UTF-8 text"]);
    fs::write(dir.path().join("batches.meta.txt"), with(&"ä".repeat(100))).unwrap();
    assert_eq!(load(dir.path()).unwrap().classes[9], "ä".repeat(100));
}

#[test]
fn damaged_archives_are_refused_wherever_they_break() {
    let dir = tempfile::tempdir().unwrap();
    write_batches(&dir.path().join("cifar-10-batches-bin"));
    // Stored, not compressed, so that a flipped byte is noticed by the checksum alone.
    let path = archive(dir.path(), "a.tar.gz", false);
    let whole = fs::read(&path).unwrap();
    for kept in [20, 600, whole.len() / 2, whole.len() - 4] {
        fs::write(&path, &whole[..kept]).unwrap();
        assert_has(&message(&path), &["a.tar.gz"]);
    }
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    fs::write(&path, &flipped).unwrap();
    assert_has(&message(&path), &["a.tar.gz: damaged archive: "]);
    fs::write(&path, "<html>").unwrap();
    assert_has(&message(&path), &["not a CIFAR-10 archive (expected cifar-10-binary.tar.gz)"]);
}

#[test]
fn an_archive_is_checked_like_a_folder_and_before_anything_is_allocated() {
    let dir = tempfile::tempdir().unwrap();
    let inner = dir.path().join("cifar-10-batches-bin");
    write_batches(&inner);
    fs::remove_file(inner.join(TRAIN[1])).unwrap();
    let text = message(&archive(dir.path(), "b.tar.gz", true));
    assert_has(&text, &["b.tar.gz", "data_batch_2.bin: missing from the archive"]);
    // A header that promises 4 GB, with nothing behind it.
    let path = dir.path().join("huge.tar");
    let mut header = tar::Header::new_ustar();
    header.set_path("x/data_batch_1.bin").unwrap();
    header.set_size(4 << 30);
    header.set_cksum();
    fs::write(&path, header.as_bytes()).unwrap();
    assert_has(&message(&path), &["data_batch_1.bin: 4294967296 bytes are not 1 to 10000 whole records"]);
}

#[test]
fn a_path_that_is_not_there_says_so() {
    assert_has(&message(Path::new("no/such/place")), &["no/such/place: no such file or folder"]);
}

#[test]
fn an_archive_may_have_several_members_but_nothing_foreign_after_them() {
    use std::io::Write;
    let dir = tempfile::tempdir().unwrap();
    write_batches(&dir.path().join("cifar-10-batches-bin"));
    let mut plain = Vec::new();
    let whole = fs::read(archive(dir.path(), "a.tar.gz", true)).unwrap();
    std::io::copy(&mut flate2::read::GzDecoder::new(&whole[..]), &mut plain).unwrap();
    let member = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let (first, second) = plain.split_at(plain.len() / 2);
    let path = dir.path().join("b.tar.gz");
    fs::write(&path, [member(first), member(second)].concat()).unwrap();
    assert_eq!(load(&path).unwrap().train, load(dir.path()).unwrap().train);
    fs::write(&path, [&whole[..], b"something else"].concat()).unwrap();
    assert_has(&message(&path), &["b.tar.gz: damaged archive"]);
}

/// The real images, where `CIFAR_ENGINE_TEST_DATA` says they are: `cifar-10-batches-bin` and
/// `images`.
#[test]
fn real_cifar10_reads_alike_from_batches_and_folders() {
    let Some(root) = std::env::var_os("CIFAR_ENGINE_TEST_DATA").map(PathBuf::from) else {
        println!("CIFAR_ENGINE_TEST_DATA is not set");
        return;
    };
    let batches = load(&root).unwrap();
    assert_eq!((batches.train.len(), batches.test.len()), (50_000, 10_000));
    assert_eq!((batches.train.counts(10), batches.test.counts(10)), (vec![5000; 10], vec![1000; 10]));
    assert_eq!(batches.classes, data::cifar10::CLASSES);
    let folder = load(&root.join("images")).unwrap();
    assert_eq!(folder.classes, batches.classes);
    assert_eq!((folder.train.len(), folder.test.len()), (50_000, 10_000));
    // Sorted otherwise, the mean colour of a class must be the same.
    let mean = |images: &data::Images, class: u32| {
        let of_class: Vec<u32> =
            (0..images.len() as u32).filter(|&i| images.labels[i as usize] == class).collect();
        let images = images.subset(&of_class);
        let pixels = images.pixels.bytes().unwrap();
        pixels.iter().map(|&b| f64::from(b)).sum::<f64>() / pixels.len() as f64
    };
    for class in 0..10 {
        let (a, b) = (mean(&batches.test, class), mean(&folder.test, class));
        assert!((a - b).abs() < 0.5, "class {class}: {a} and {b}");
    }
}
