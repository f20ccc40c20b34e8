//! Folders of images: layouts, what is left out, formats; good input and every kind of bad.

mod common;

use std::fs;
use std::path::Path;

use cifar_engine::data::{self, DataSource, Dataset, Options};
use image::{Rgb, RgbImage};
use tempfile::TempDir;

use common::data::{assert_has, load, message, options};

/// `train` with `ants` (2) and `bees` (1), `test` with `bees` (1); colours tell the images apart.
fn images() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (i, name) in
        ["train/bees/x.png", "train/ants/b.jpg", "train/ants/a.PNG", "test/bees/y.jpeg"].iter().enumerate()
    {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        // PNG content whatever the name: the format is told by content.
        let image = RgbImage::from_pixel(8 + i as u32, 8, Rgb([10 * i as u8, 50, 60]));
        image.save_with_format(&path, image::ImageFormat::Png).unwrap();
    }
    dir
}

#[test]
fn an_image_folder_is_read_in_order_of_names() {
    let dir = images();
    fs::write(dir.path().join("train/ants/notes.txt"), "x").unwrap();
    fs::write(dir.path().join("train/ants/.hidden.png"), "x").unwrap();
    fs::create_dir(dir.path().join("train/.git")).unwrap();
    let data = load(dir.path()).unwrap();
    assert_eq!(data.classes, ["ants", "bees"]);
    assert_eq!((data.train.labels.as_slice(), data.test.labels.as_slice()), (&[0, 0, 1][..], &[1][..]));
    let reds: Vec<u8> = (0..3).map(|i| data.train.image(i).unwrap()[0]).collect();
    assert_eq!(reds, [20, 10, 0]);
    assert_eq!(data.train.image(0).unwrap().len(), 32 * 32 * 3);
    assert_eq!(data.name, dir.path().file_name().unwrap().to_str().unwrap());
    let train = dir.path().join("train").display().to_string();
    let line = format!(
        "left out: 2 hidden files (such as {train}/.git), 1 file of another type ({train}/ants/notes.txt)"
    );
    assert_eq!(data.left_out.summary().unwrap(), line);
    assert_eq!(data.train.files, ["train/ants/a.PNG", "train/ants/b.jpg", "train/bees/x.png"]);
    let small = data::load(&DataSource::Path(dir.path().into()), &options(dir.path(), Some(8))).unwrap();
    assert_eq!((small.train.size, small.test.pixels.len()), (8, 192));
}

#[test]
fn an_unreadable_image_names_itself_and_the_first_one_wins() {
    let dir = images();
    for name in ["train/ants/c.png", "train/bees/a.png"] {
        fs::write(dir.path().join(name), "not an image").unwrap();
    }
    for _ in 0..5 {
        assert_has(
            &message(dir.path()),
            &["ants/c.png: none of PNG, JPEG, WebP, GIF, BMP, TIFF", "; `skip_bad` leaves out"],
        );
    }
}

#[test]
fn empty_folders_and_lone_classes_are_refused() {
    let dir = images();
    fs::create_dir(dir.path().join("train/wasps")).unwrap();
    assert_has(&message(dir.path()), &["wasps: a class needs at least a .png"]);
    fs::write(dir.path().join("train/wasps/a.txt"), "x").unwrap();
    assert_has(&message(dir.path()), &["wasps: a class needs at least a .png"]);
    fs::remove_dir_all(dir.path().join("train/wasps")).unwrap();
    fs::rename(dir.path().join("train/ants"), dir.path().join("test/ants")).unwrap();
    assert_has(&message(dir.path()), &["train: only one class (bees)"]);
    fs::remove_dir_all(dir.path().join("train/bees")).unwrap();
    assert_has(&message(dir.path()), &["train: no training images: expected images of each class"]);
}

#[test]
fn a_test_class_unknown_to_train_is_refused() {
    let dir = images();
    fs::rename(dir.path().join("test/bees"), dir.path().join("test/birds")).unwrap();
    assert_has(&message(dir.path()), &["train: has no training images of the class birds"]);
    fs::remove_dir_all(dir.path().join("test/birds")).unwrap();
    assert_has(&message(dir.path()), &["test: empty"]);
}

#[test]
fn another_layout_is_answered_with_the_one_expected() {
    let dir = tempfile::tempdir().unwrap();
    assert_has(&message(dir.path()), &["expected CLASS/*.png", "train/CLASS/*", "found nothing"]);
    for file in ["a.txt", "b.txt", "c.txt", "d.txt"] {
        fs::write(dir.path().join(file), "x").unwrap();
    }
    assert_has(&message(dir.path()), &["found a.txt, b.txt, c.txt, ..."]);
    fs::write(dir.path().join("data_batch_1"), "pickle").unwrap();
    assert_has(&message(dir.path()), &["this is the Python version of CIFAR-10, get the binary version"]);
}

#[test]
fn a_class_without_test_images_may_have_an_empty_folder_or_none() {
    let dir = images();
    let without = load(dir.path()).unwrap();
    fs::create_dir(dir.path().join("test/ants")).unwrap();
    assert_eq!(load(dir.path()).unwrap(), without);
    fs::remove_dir_all(dir.path().join("test/bees")).unwrap();
    assert_has(&message(dir.path()), &["test: empty: expected a folder of images"]);
}

/// Competitions hand out test images without their classes, in a folder `test` or `test1`.
#[test]
fn test_images_without_classes_are_left_out_and_are_no_class() {
    let dir = images();
    let [train, test] = ["train", "test"].map(|part| dir.path().join(part));
    fs::rename(test.join("bees/y.jpeg"), test.join("1.jpeg")).unwrap();
    fs::remove_dir(test.join("bees")).unwrap();
    let data = load(dir.path()).unwrap();
    assert_eq!((data.classes.len(), data.train.labels.len(), data.test.labels.len()), (2, 3, 0));
    let told = data.left_out.summary().unwrap();
    assert_has(&told, &["1 test image without a class", "test/1.jpeg"]);
    let measured = Options { test_only: true, ..options(dir.path(), None) };
    let error = data::load(&DataSource::Path(dir.path().into()), &measured).unwrap_err().to_string();
    assert_has(&error, &["test: holds 1 images but no folders of classes"]);

    fs::rename(train.join("ants/b.jpg"), train.join("b.jpg")).unwrap();
    ["ants", "bees"].iter().for_each(|class| fs::remove_dir_all(train.join(class)).unwrap());
    for other in ["test1", "Test_2", "validation3"] {
        fs::rename(&test, dir.path().join(other)).unwrap();
        assert_has(&message(dir.path()), &["train", other, "no folders of classes", "CLASS/*", "rename"]);
        fs::rename(dir.path().join(other), &test).unwrap();
    }
    // Trains and buses.
    fs::rename(&test, dir.path().join("bus")).unwrap();
    assert_eq!(load(dir.path()).unwrap().classes, ["bus", "train"]);
}

#[test]
fn class_names_must_be_fit_to_print() {
    let dir = images();
    let ants = dir.path().join("train/ants");
    for (name, problem) in
        [("a\nb", "has control characters"), (&"x".repeat(101), "more than 100 characters")]
    {
        let odd = dir.path().join("train").join(name);
        fs::rename(&ants, &odd).unwrap();
        assert_has(&message(dir.path()), &[problem]);
        fs::rename(&odd, &ants).unwrap();
    }
}

#[cfg(target_os = "linux")]
#[test]
fn names_that_are_not_utf8_matter_only_where_they_name_a_class() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let dir = images();
    let train = dir.path().join("train");
    for name in [&b".hidden\xff"[..], b"note\xff"] {
        fs::write(train.join(OsStr::from_bytes(name)), "x").unwrap();
    }
    fs::rename(train.join("ants/b.jpg"), train.join(OsStr::from_bytes(b"ants/b\xff.jpg"))).unwrap();
    assert_eq!(load(dir.path()).unwrap().train.labels, [0, 0, 1]);
    let alike = train.join(r"ants/b\xff.jpg");
    fs::copy(train.join("ants/a.PNG"), &alike).unwrap();
    assert_has(&message(dir.path()), &[r"b\xff.jpg", "is written as the name of another image"]);
    fs::remove_file(alike).unwrap();
    fs::rename(train.join("ants"), train.join(OsStr::from_bytes(b"ants\xff"))).unwrap();
    assert_has(&message(dir.path()), &["the name is not valid UTF-8"]);
}

/// `count` images of a colour for each of the names, which may have folders in them.
fn write_images(dir: &Path, names: &[&str], count: usize) {
    for (i, name) in names.iter().enumerate() {
        fs::create_dir_all(dir.join(name)).unwrap();
        for n in 0..count {
            let image = RgbImage::from_pixel(8, 8, Rgb([50 * i as u8, n as u8, 9]));
            image.save(dir.join(name).join(format!("{n}.png"))).unwrap();
        }
    }
}

fn load_with<'a>(path: &Path, change: impl Fn(&mut Options<'a>)) -> cifar_engine::error::Result<Dataset> {
    let mut options: Options<'a> = options(Path::new("unused"), Some(8));
    change(&mut options);
    data::load(&DataSource::Path(path.to_path_buf()), &options)
}

#[test]
fn folders_of_classes_alone_are_split_by_class_and_seed() {
    let dir = tempfile::tempdir().unwrap();
    write_images(dir.path(), &["cat/young", "cat/old", "dog", "__MACOSX/cat"], 10);
    let first = load_with(dir.path(), |_| ()).unwrap();
    assert_eq!(first.classes, ["cat", "dog"]);
    assert_eq!((first.train.counts(2), first.test.counts(2)), (vec![16, 8], vec![4, 2]));
    let mut all = [first.train.files.clone(), first.test.files.clone()].concat();
    all.sort();
    all.dedup();
    assert_eq!((all.len(), all[0].as_str()), (30, "cat/old/0.png"));
    assert_eq!(load_with(dir.path(), |_| ()).unwrap(), first);
    assert_ne!(load_with(dir.path(), |options| options.seed = 1).unwrap().test, first.test);
    // Whoever only tests tests all, or what a run says that it was measured on.
    let all = load_with(dir.path(), |options| options.test_only = true).unwrap();
    assert_eq!((all.train.len(), all.test.len()), (0, 30));
    let files = ["dog/3.png".to_string(), "dog/gone.png".into()].into();
    let measured = data::Measured { is_test: false, files };
    let listed = load_with(dir.path(), |options| {
        (options.test_only, options.measured) = (true, Some(&measured));
    });
    let listed = listed.unwrap();
    assert_eq!(
        (listed.measured().0, &listed.measured().1.files[..]),
        ("validation", &["dog/3.png".into()][..])
    );
    assert!(listed.left_out.summary().unwrap().contains("1 image of the run that is gone (dog/gone.png)"));
}

#[test]
fn a_validation_folder_is_used_and_a_test_folder_may_be_missing() {
    for name in ["val", "valid", "validation"] {
        let dir = tempfile::tempdir().unwrap();
        write_images(&dir.path().join("train"), &["cat", "dog"], 5);
        write_images(&dir.path().join(name), &["cat", "dog"], 2);
        let mut data = load_with(dir.path(), |_| ()).unwrap();
        assert_eq!((data.train.len(), data.validation.len(), data.test.len()), (10, 4, 0));
        assert_eq!(
            (data.measured().0, data.validation.files[0].clone()),
            ("validation", format!("{name}/cat/0.png"))
        );
        data.split_validation(4, 0).unwrap();
        assert_eq!((data.train.len(), data.validation.len()), (10, 4));
        let error = data.split_validation(0, 0).unwrap_err();
        assert!(error.exit_code() == 2 && error.to_string().contains("no test images"), "{error}");
    }
    let dir = tempfile::tempdir().unwrap();
    write_images(&dir.path().join("train"), &["cat", "dog"], 10);
    let mut alone = load_with(dir.path(), |_| ()).unwrap();
    alone.split_validation(4, 0).unwrap();
    assert_eq!((alone.train.len(), alone.measured().0, alone.measured().1.len()), (16, "validation", 4));
    write_images(&dir.path().join("val"), &["cat"], 1);
    write_images(&dir.path().join("valid"), &["cat"], 1);
    assert_has(&load_with(dir.path(), |_| ()).unwrap_err().to_string(), &["valid: beside", "keep one"]);
}

#[test]
fn images_beside_the_classes_are_told_and_alone_they_are_an_error() {
    let dir = tempfile::tempdir().unwrap();
    write_images(dir.path(), &["train", "test"], 3);
    assert_has(&message(dir.path()), &["train: holds 3 images but no folders of classes", "train/CLASS/*"]);
    // A class may be called train.
    write_images(dir.path(), &["bus"], 3);
    let [test, aside] = ["test", "tram"].map(|name| dir.path().join(name));
    fs::rename(&test, &aside).unwrap();
    assert_eq!(load_with(dir.path(), |_| ()).unwrap().classes, ["bus", "train", "tram"]);
    fs::rename(&aside, &test).unwrap();
    assert_has(&message(dir.path()), &["test and train hold images but no folders of classes"]);
    write_images(dir.path(), &["train/cat", "train/dog", "test/cat"], 1);
    let data = load_with(dir.path(), |_| ()).unwrap();
    assert_eq!(data.classes, ["cat", "dog"]);
    let line = data.left_out.summary().unwrap();
    assert!(line.contains("6 images outside of the class folders"), "{line}");
}

#[test]
fn parts_are_known_by_the_names_that_people_give_them() {
    for (train, test) in [("Train", "TEST"), ("training_set", "test-set"), ("trainset", "testing")] {
        let dir = tempfile::tempdir().unwrap();
        write_images(&dir.path().join(train), &["cat", "dog"], 3);
        write_images(&dir.path().join(test), &["cat"], 1);
        let data = load_with(dir.path(), |_| ()).unwrap();
        assert_eq!((data.classes.len(), data.train.len(), data.test.len()), (2, 6, 1), "{train}");
        write_images(dir.path(), &["extra/cat"], 1);
        write_images(dir.path(), &["."], 1);
        let line = load_with(dir.path(), |_| ()).unwrap().left_out.summary().unwrap();
        assert!(line.contains("1 folder beside those of train and test ("), "{line}");
        assert!(line.contains("1 image outside of the class folders"), "{line}");
        write_images(&dir.path().join("training"), &["cat"], 1);
        assert_has(&message(dir.path()), &["beside", "keep one of these folders"]);
    }
}

#[test]
fn folders_that_cannot_be_classes_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    write_images(dir.path(), &["first/cat", "first/dog", "second/cat", "second/dog", "second/owl"], 2);
    assert_has(&message(dir.path()), &["first, second and all others hold the same folders (cat, dog)"]);
    let dir = tempfile::tempdir().unwrap();
    write_images(dir.path(), &["pets/cat", "pets/dog"], 2);
    assert_has(&message(dir.path()), &["only one class (pets)", "if the classes are in it, give", "pets"]);
    fs::create_dir(dir.path().join("none")).unwrap();
    assert_has(
        &message(dir.path()),
        &["only one class (pets)", "left out: 1 folder without images (", "none"],
    );
    // Classes may be sorted into folders of their own, some of which are called the same.
    let dir = tempfile::tempdir().unwrap();
    write_images(dir.path(), &["cat/young", "cat/old", "dog/young", "dog/big"], 2);
    assert_eq!(load_with(dir.path(), |_| ()).unwrap().classes, ["cat", "dog"]);
}

#[test]
fn a_run_that_goes_on_keeps_its_test_images() {
    let dir = tempfile::tempdir().unwrap();
    write_images(dir.path(), &["cat", "dog"], 5);
    let files = ["cat/0.png".to_string(), "dog/gone.png".into()].into();
    let measured = data::Measured { is_test: true, files };
    let data = load_with(dir.path(), |options| options.measured = Some(&measured)).unwrap();
    assert_eq!((data.train.len(), &data.test.files[..]), (9, &["cat/0.png".to_string()][..]));
    assert!(data.left_out.summary().unwrap().contains("of the run that is gone (dog/gone.png)"));
}

#[cfg(unix)]
#[test]
fn links_to_nothing_are_told_and_names_composed_differently_are_one_class() {
    let dir = tempfile::tempdir().unwrap();
    write_images(&dir.path().join("train"), &["cafe\u{301}", "tea"], 3);
    write_images(&dir.path().join("test"), &["caf\u{e9}"], 1);
    std::os::unix::fs::symlink("nowhere/x.png", dir.path().join("train/tea/x1.png")).unwrap();
    let data = load_with(dir.path(), |_| ()).unwrap();
    assert_eq!(data.classes, ["caf\u{e9}", "tea"]);
    assert_eq!((data.train.len(), data.test.labels.as_slice()), (6, &[0][..]));
    let line = data.left_out.summary().unwrap();
    assert!(line.starts_with("left out: 1 link to nothing (") && line.contains("tea/x1.png"), "{line}");
    assert!(data.left_out.matters());
}

#[test]
fn unreadable_images_are_left_out_where_that_is_wanted() {
    let dir = images();
    fs::write(dir.path().join("train/ants/c.png"), "not an image").unwrap();
    let data = load_with(dir.path(), |options| options.skip_bad = true).unwrap();
    assert_eq!(data.train.files, ["train/ants/a.PNG", "train/ants/b.jpg", "train/bees/x.png"]);
    assert_has(
        &data.left_out.summary().unwrap(),
        &["1 image that cannot be read", "ants/c.png: none of PNG"],
    );
    fs::write(dir.path().join("test/bees/y.jpeg"), "not an image").unwrap();
    let error = load_with(dir.path(), |options| options.skip_bad = true).unwrap_err();
    assert_has(&error.to_string(), &["y.jpeg: neither this image nor any other of its set can be read"]);
}

#[test]
fn reading_stops_when_told() {
    use std::sync::atomic::AtomicBool;
    let (dir, stop) = (images(), AtomicBool::new(true));
    let options = Options { watch: &stop, ..options(dir.path(), None) };
    for source in [DataSource::Path(dir.path().into()), DataSource::Shapes] {
        assert_eq!(data::load(&source, &options).unwrap_err().exit_code(), 130);
    }
}

#[test]
fn every_format_is_read_and_refused_where_it_is_cut_short() {
    use image::ImageFormat::{Bmp, Gif, Jpeg, Png, Tiff, WebP};
    let dir = tempfile::tempdir().unwrap();
    let image = RgbImage::from_fn(16, 16, |x, _| if x < 8 { Rgb([200, 0, 0]) } else { Rgb([0, 0, 100]) });
    for (format, tolerance) in [(Png, 0), (WebP, 0), (Bmp, 0), (Tiff, 0), (Gif, 8), (Jpeg, 40)] {
        let path = dir.path().join("image");
        image.save_with_format(&path, format).unwrap();
        let read = data::image_file::load_image(&path, 16).unwrap();
        let far = read.iter().zip(image.as_raw()).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
        assert!(far <= tolerance, "{format:?}: {far}");
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        let error = data::image_file::load_image(&path, 16).unwrap_err().to_string();
        assert_has(&error, &["unreadable image: the", "cut short"]);
    }
}

#[test]
fn what_is_no_image_here_is_called_what_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image.jpg");
    for (content, name) in [
        (&b""[..], "empty, of no bytes"),
        (&b"\0\0\0\x18ftypheic\0\0\0\0mif1"[..], "a HEIC image"),
        (b"\0\0\0\x18ftypavif\0\0\0\0mif1", "an AVIF image"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
    ] {
        fs::write(&path, content).unwrap();
        assert_has(&data::image_file::load_image(&path, 8).unwrap_err().to_string(), &["image.jpg: ", name]);
    }
}
