//! `cifar-engine data`: what it says of folders whose faults are known, and what it draws.

mod common;

use std::fs;

use cifar_engine::data::{Images, shapes};
use cifar_engine::exec::device;
use cifar_engine::ops::augment::Augmentations;
use cifar_engine::train::augmented::draws;
use cifar_engine::train::settings::Settings;
use common::program::{Bench, json};
use image::imageops::{FilterType, resize};
use image::{Rgb, RgbImage};

/// An image of its own for each number, of an odd size.
fn photo(number: u32) -> RgbImage {
    let wave = |x: u32, y: u32, by: u32| {
        let phase = f64::from(x * (1 + number % 5) + y * (1 + number % 7) + by * number) / 17.0;
        (127.0 + 120.0 * phase.sin()) as u8
    };
    RgbImage::from_fn(101 + number, 80 + 2 * number, |x, y| {
        Rgb([wave(x, y, 3), wave(x, y, 5), wave(x, y, 11)])
    })
}

/// Two classes with an image that is broken, one that is in both classes, one whose smaller copy is
/// a test image, and a name that is not plain.
fn photos(bench: &Bench) {
    for folder in ["train/cats", "train/dögs", "test/cats", "test/dögs"] {
        fs::create_dir_all(bench.path("photos").join(folder)).unwrap();
    }
    let save = |image: &RgbImage, path: &str| image.save(bench.path("photos").join(path)).unwrap();
    for number in 0..12 {
        let class = if number < 8 { "cats" } else { "dögs" };
        save(&photo(number), &format!("train/{class}/{number}.png"));
    }
    save(&photo(20), "test/cats/20.png");
    save(&photo(3), "train/dögs/again 3.png");
    save(&resize(&photo(9), 55, 49, FilterType::Triangle), "test/dögs/small.jpg");
    fs::write(bench.path("photos/train/cats/broken.jpg"), [0xff, 0xd8, 0xff, 0xe0, 0, 16]).unwrap();
}

fn photo_in(bench: &Bench, path: &str) {
    photo(path.len() as u32).save(bench.path(path)).unwrap();
}

#[test]
fn classes_sizes_doubles_and_broken_images_are_told() {
    let bench = Bench::new();
    photos(&bench);
    let found = json(&bench.ok("data photos --json"));
    let class = |number: usize, what: &str| found["classes"][number][what].clone();
    assert_eq!((class(0, "class"), class(1, "class")), ("cats".into(), "dögs".into()));
    let taken =
        |number| class(number, "training").as_u64().unwrap() + class(number, "validation").as_u64().unwrap();
    assert_eq!((taken(0), taken(1), class(0, "test"), class(1, "test")), (8, 5, 1.into(), 1.into()));
    let doubles = found["doubles"].as_array().unwrap();
    let told: Vec<[&str; 5]> = doubles
        .iter()
        .map(|double| {
            let text = |value: &'static str, key: &str| double[value][key].as_str().unwrap();
            let kind = double["kind"].as_str().unwrap();
            [
                kind,
                text("first", "image"),
                text("second", "image"),
                text("first", "set"),
                text("second", "set"),
            ]
        })
        .collect();
    assert_eq!(
        told,
        [
            ["same", "train/cats/3.png", "train/dögs/again 3.png", "training", "training"],
            ["alike", "train/dögs/9.png", "test/dögs/small.jpg", "training", "test"],
        ]
    );
    let sizes = found["sizes"].as_array().unwrap();
    let small = sizes.iter().find(|size| size["image"] == "test/dögs/small.jpg").unwrap();
    assert_eq!((sizes.len(), &small["width"], &small["height"]), (15, &55.into(), &49.into()));
    assert!(found["left_out"][0].as_str().unwrap().contains("broken.jpg"), "{}", found["left_out"]);

    let text = bench.ok("data photos");
    for part in [
        "sizes: 55x49 (test/dögs/small.jpg) to 121x120 (test/cats/20.png)",
        "2 images there before, the same or alike: 1 of them in another set, 1 in another class",
        "train/dögs/again 3.png (training, dögs) is train/cats/3.png (training, cats)",
        "test/dögs/small.jpg (test, dögs) is like train/dögs/9.png (training, dögs)",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let said = bench.run("data photos").stderr;
    assert!(String::from_utf8(said).unwrap().contains("left out: 1 image that cannot be read"));
}

#[test]
fn cifar_is_looked_at_and_drawn_and_what_is_wrong_is_told() {
    let bench = Bench::new();
    let text = bench.ok("data . --out sheet.png --augment flip,cutout=8 --seed 3");
    assert!(text.contains(" 320 ") || text.contains("288"), "{text}");
    assert!(text.contains("no image is there twice") && !text.contains("sizes:"), "{text}");
    // A row for each of ten classes and of six images.
    let sheet = image::open(bench.path("sheet.png")).unwrap();
    assert!(sheet.height() > 16 * 96 && sheet.width() > 8 * 96);
    bench.fails(1, "data nowhere", &["nowhere", "no such file or folder"]);
    bench.fails(2, "data . --augment twist", &["twist"]);
    bench.fails(2, "data . --augment shift=99", &["shift"]);
    bench.fails(2, "data", &["required arguments"]);
    photos(&bench);
    let photo = bench.path("photos/train/cats/3.png");
    let before = fs::read(&photo).unwrap();
    bench.fails(2, "data photos --out photos/train/cats/3.png", &["3.png", "would be lost"]);
    assert_eq!(fs::read(&photo).unwrap(), before);
    bench.fails(2, "data photos --out photos/train/cats/new.png", &["new.png", "in photos", "elsewhere"]);
    for _ in 0..2 {
        bench.ok("data photos --out photos/sheet.png");
        bench.ok("data . --out sheet.png");
    }
    bench.fails(2, "data . --out test_batch.bin", &["test_batch.bin", "would be lost"]);
    #[cfg(unix)]
    {
        // What an image is a link to is it, too.
        let kept = bench.path("kept.png");
        fs::rename(&photo, &kept).unwrap();
        std::os::unix::fs::symlink(&kept, &photo).unwrap();
        for out in ["photos/train/cats/3.png", "kept.png"] {
            bench.fails(2, &format!("data photos --out {out}"), &[out, "would be lost"]);
        }
        assert_eq!(fs::read(&kept).unwrap(), before);
    }
    // Of each class a single image.
    for class in ["a", "b"] {
        fs::create_dir_all(bench.path("few").join(class)).unwrap();
        photo_in(&bench, &format!("few/{class}/1.png"));
    }
    assert!(bench.ok("data few").contains("warning: nothing is left to measure a training on"));
}

#[test]
fn what_is_drawn_is_what_a_training_sees() {
    let images = shapes::sized(6, 1, 24, 1).unwrap().train;
    let drawn = |augment: &str| {
        let settings = Settings { augment: augment.parse::<Augmentations>().unwrap(), ..Settings::default() };
        draws(device::cpu().unwrap().as_mut(), &images, &settings, 4).unwrap()
    };
    assert!(drawn("none").iter().all(|epoch| epoch.pixels == images.pixels));
    let epochs = drawn("flip=alternate");
    let mirrored = images.mirrored().unwrap();
    for (epoch, other) in epochs.iter().zip(&epochs[1..]) {
        for i in 0..images.len() {
            let image = |images: &Images| images.image(i).unwrap().into_owned();
            let (sides, shown) = ([image(&images), image(&mirrored)], [image(epoch), image(other)]);
            assert!(shown.iter().all(|image| sides.contains(image)));
            assert!(shown[0] != shown[1] || sides[0] == sides[1], "image {i} is flipped by turns");
        }
    }
}
