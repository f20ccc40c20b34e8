//! Tables that give images their classes: what is read of them, and every kind of bad.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use cifar_engine::data::{self, DataSource, Dataset, Options};
use cifar_engine::error::Result;
use image::{Rgb, RgbImage};
use tempfile::TempDir;

use common::data::{assert_has, load, options};
use common::program::Bench;

/// Images of these names, each of another colour, in a new folder.
fn images(names: &[&str]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (i, name) in names.iter().enumerate() {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let image = RgbImage::from_pixel(8 + i as u32, 8, Rgb([(7 * i % 256) as u8, 50, 60]));
        image.save_with_format(&path, image::ImageFormat::Png).unwrap();
    }
    dir
}

fn table(dir: &Path, text: impl AsRef<[u8]>) -> PathBuf {
    let path = dir.join("labels.csv");
    fs::write(&path, text).unwrap();
    path
}

fn load_with(path: &Path, skip_bad: bool) -> Result<Dataset> {
    let options = Options { skip_bad, ..options(path.parent().unwrap(), None) };
    data::load(&DataSource::Path(path.into()), &options)
}

fn message(dir: &Path, text: impl AsRef<[u8]>) -> String {
    common::data::message(&table(dir, text))
}

/// Files and classes of a set.
fn told(images: &data::Images, classes: &[String]) -> Vec<(String, String)> {
    let class = |label: &u32| classes[*label as usize].clone();
    images.files.iter().cloned().zip(images.labels.iter().map(class)).collect()
}

#[test]
fn a_table_with_parts_is_what_folders_with_parts_are() {
    let names = ["train/cat/1.png", "train/cat/2.png", "train/dog/3.png", "val/dog/4.png", "test/cat/5.png"];
    let dir = images(&names);
    let expected = load(dir.path()).unwrap();
    let rows = names.map(|name| {
        let (part, class) = (name.split('/').next().unwrap(), name.split('/').nth(1).unwrap());
        format!("{name},{class},{part}\n")
    });
    // In any order.
    let text = format!("file,label,split\n{}", rows.iter().rev().map(String::as_str).collect::<String>());
    let found = load(&table(dir.path(), &text)).unwrap();
    assert_eq!(
        (found.train, found.validation, found.test),
        (expected.train, expected.validation, expected.test)
    );
    assert_eq!(found.name, "labels.csv");
    for (separator, end) in [(";", "\n"), ("\t", "\r\n")] {
        let text =
            format!("\u{feff}{}", text.replace(',', separator).replace('\n', end).replace("file", " File "));
        assert_eq!(load(&table(dir.path(), text)).unwrap().classes, expected.classes);
    }
}

#[test]
fn a_table_without_parts_is_split_as_a_folder_is() {
    let names: Vec<String> = (0..40).map(|i| format!("{}/{i:02}.png", ["cat", "dog"][i % 2])).collect();
    let dir = images(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let expected = load(dir.path()).unwrap();
    let rows: String = names.iter().map(|name| format!("{},{name}\n", &name[..3])).collect();
    let found = load(&table(dir.path(), format!("Category,Image\n{rows}"))).unwrap();
    assert_eq!((&found.train, &found.test), (&expected.train, &expected.test));
    assert_eq!((found.train.len(), found.test.len()), (32, 8));
}

#[test]
fn competitions_name_images_without_folder_and_ending() {
    // The test images have numbers of their own, or the same.
    let dir = images(&["train/000bec18.jpg", "train/00a1.jpg", "test/000bec18.jpg", "test/00b2.jpg"]);
    let text = "id,breed\n000bec18,boston_bull\n00a1,\"dingo, wild\"\n";
    let data = load_with(&table(dir.path(), text), false).unwrap();
    assert_eq!(data.classes, ["boston_bull", "dingo, wild"]);
    let all: Vec<_> = [&data.train, &data.test].iter().flat_map(|set| told(set, &data.classes)).collect();
    assert_eq!(all.len(), 2);
    assert!(all.contains(&("train/00a1.jpg".into(), "dingo, wild".into())), "{all:?}");
    assert!(all.contains(&("train/000bec18.jpg".into(), "boston_bull".into())), "{all:?}");
}

#[test]
fn images_are_found_in_several_folders_unless_two_are_called_so() {
    let dir = images(&["part_1/a.tif", "part_2/b.JPG", "part_2/c.png", "deep/down/d.png", "1.png", "2.png"]);
    let absolute = dir.path().join("1.png").display().to_string();
    let text =
        format!("Image,Label\na,x\nb,y\nc.png,x\ndeep\\down\\d.png,y\n{absolute},x\n./part_1/../2.png,y\n");
    let data = load_with(&table(dir.path(), &text), false).unwrap();
    let mut names: Vec<&String> = data.train.files.iter().chain(&data.test.files).collect();
    names.sort();
    assert_eq!(names, ["1.png", "2.png", "deep/down/d.png", "part_1/a.tif", "part_2/b.JPG", "part_2/c.png"]);
    // Wherever the program is when it reads the table.
    let beside = std::env::current_dir().unwrap();
    let up: PathBuf = beside.components().skip(1).map(|_| "..").collect();
    let relative = up.join(dir.path().strip_prefix("/").unwrap()).join("labels.csv");
    assert_eq!(load(&relative).unwrap().train.files, data.train.files);
    fs::copy(dir.path().join("part_2/c.png"), dir.path().join("part_1/c.png")).unwrap();
    assert_has(&message(dir.path(), &text), &["line 4", "c.png is part_1/c.png or part_2/c.png"]);
}

#[test]
fn a_column_may_say_which_images_are_for_validation() {
    let dir = images(&["1.png", "2.png", "3.png", "4.png"]);
    let text = "fname,labels,is_valid\n1.png,a,False\n2.png,b,0\n3.png,a,True\n4.png,b,\n";
    let data = load_with(&table(dir.path(), text), false).unwrap();
    assert_eq!(
        (data.train.files, data.validation.files.len()),
        (["1.png", "2.png", "4.png"].map(String::from).into(), 1)
    );
    assert_has(
        &message(dir.path(), text.replace("True", "maybe")),
        &["line 4", "maybe instead of true or false"],
    );
}

#[test]
fn odd_names_are_read() {
    let odd = ["a,b.png", "line\nbreak.png", "\"quoted\".png", "ünï cödé.png"];
    let dir = images(&odd);
    let text = "file,label\n\"a,b.png\",x\n\"line\nbreak.png\",y\n\"\"\"quoted\"\".png\",x\nünï cödé.png,y\n";
    let data = load_with(&table(dir.path(), text), false).unwrap();
    assert_eq!(data.train.len() + data.test.len(), 4);
    // An accent may be a letter of its own, in a class as well.
    let text = "file,label\n\"a,b.png\",cafe\u{301}\n\"line\nbreak.png\",caf\u{e9}\nünï cödé.png,z\n";
    assert_eq!(load_with(&table(dir.path(), text), false).unwrap().classes, ["caf\u{e9}", "z"]);
}

#[test]
fn what_is_wrong_with_a_table_is_told_with_its_line() {
    let dir = images(&["1.png", "2.png", "3.png"]);
    let path = dir.path();
    fs::write(path.join("bad.png"), "no image").unwrap();
    for (text, parts) in [
        ("", &["labels.csv", "first line must name", "file,label", "it is empty"][..]),
        ("file,label\n", &["holds no rows"]),
        ("1.png,cat\n2.png,dog\n", &["first line must name", "1.png, cat"]),
        ("file,label\n1.png,cat\n2.png\n", &["line 3: has 1 cell, and the first line 2"]),
        ("file,label\n1.png,cat\n\"2.png,dog\n", &["line 3", "has 1 cell", "a quotation mark", "not closed"]),
        ("file,label,label\n1.png,cat,dog\n", &["several columns are called label"]),
        ("file,label\n1.png,cat\n2.png,\n", &["line 3", "no class is named"]),
        ("file,label\n1.png,cat\n,dog\n", &["line 3", "no image is named"]),
        (
            "file,label\n9.png,cat\n8.png,dog\n",
            &["line 2: 9.png is neither beside the table", "1 other row", "paths"],
        ),
        ("file,label\n1.png,cat\n\n8.png,dog\n9.png,dog\n", &["line 4", "8.png", "1 other row", "skip_bad"]),
        ("file,label\n1.png,cat\n2.png,dog\n1.png,dog\n", &["line 4", "1.png is dog here and cat in line 2"]),
        ("file,label,split\n1.png,cat,train\n2.png,dog,exam\n", &["line 3", "the part exam", "validation"]),
        (
            "file,label,split\n1.png,cat,train\n1.png,cat,test\n",
            &["cat in test here and cat in train in line 2"],
        ),
        ("file,label\n1.png,cat\n2.png,cat\n", &["only one class (cat)"]),
        (
            "file,label,set\n1.png,a,train\n2.png,b,train\n3.png,c,test\n",
            &["no training images of the class c"],
        ),
        ("file,label,set\n1.png,a,test\n2.png,b,test\n", &["no training images"]),
        ("file,label\n1.png,a\u{7}b\n", &["line 2", "control characters"]),
        ("file,label,set\n1.png,a,\n2.png,b,\nbad.png,b,\n", &["bad.png: none of PNG"]),
    ] {
        assert_has(&message(path, text), parts);
    }
    assert_has(&message(path, b"file,label\n1.png,\xff\n"), &["labels.csv", "UTF-8"]);
}

#[test]
fn what_is_missing_or_twice_is_left_out() {
    let dir = images(&["1.png", "2.png", "3.png"]);
    fs::write(dir.path().join("bad.png"), "no image").unwrap();
    let text =
        "file,label,split\n9.png,a,train\n1.png,a,train\n2.png,b,\n3.png,b,test\n2.png,b,\nbad.png,a,\n";
    let data = load_with(&table(dir.path(), text), true).unwrap();
    assert_eq!((data.train.len(), data.test.len()), (2, 1));
    let line = data.left_out.summary().unwrap();
    assert_has(
        &line,
        &["1 row without its image", "9.png", "1 row said before", "1 image that cannot be read"],
    );
}

/// Names with folders of another place, rows of no part, a first line that is empty, and a table
/// in a folder that is called like a part.
#[test]
fn names_are_found_in_every_such_table() {
    let names = ["test/train/1.png", "test/other/1.png", "test/other/2.png", "test/3.png"];
    let dir = images(&names);
    let within = dir.path().join("test");
    let text = "\nfile;label;split\nimages/1.png;a;\nelse\\2.png;b;\n3;b;test\nother/2.png;b;train\n";
    let data = load(&table(&within, text)).unwrap();
    let set = |images| told(images, &data.classes).into_iter().map(|(file, _)| file).collect::<Vec<_>>();
    assert_eq!(set(&data.train), ["train/1.png", "other/2.png"]);
    assert_eq!(set(&data.test), ["3.png"]);
}

/// An image in two parts would be learnt before it is measured, whatever its paths are.
#[cfg(unix)]
#[test]
fn an_image_by_two_paths_is_one() {
    let dir = images(&["a/1.png", "a/2.png"]);
    std::os::unix::fs::symlink(dir.path().join("a"), dir.path().join("link")).unwrap();
    let text = "file,label,split\na/1.png,x,train\na/2.png,y,train\nlink/1.png,x,test\n";
    assert_has(
        &message(dir.path(), text),
        &["line 4", "link/1.png is x in test here and x in train in line 2"],
    );
}

/// What a table by another name says is about images beside that name.
#[cfg(unix)]
#[test]
fn a_table_may_be_a_link() {
    let dir = images(&["photos/1.png", "photos/2.png", "photos/3.png"]);
    fs::create_dir(dir.path().join("kept")).unwrap();
    let text = "file,label,split\n1.png,a,\n2.png,b,\n3.png,b,test\n";
    let kept = table(&dir.path().join("kept"), text);
    let link = dir.path().join("photos/labels.csv");
    std::os::unix::fs::symlink(kept, &link).unwrap();
    assert_eq!(load(&link).unwrap().train.len(), 2);
}

/// From the table to a model and what is measured of it; the table is not moved by `--apply`.
#[test]
fn the_program_trains_on_a_table_and_knows_its_images_again() {
    let bench = Bench::new();
    let names: Vec<String> = (0..30).map(|i| format!("photos/{i:02}.png")).collect();
    let dir = images(&names.iter().map(String::as_str).collect::<Vec<_>>());
    fs::rename(dir.path().join("photos"), bench.path("photos")).unwrap();
    let rows: String =
        (0..30).map(|i| format!("{i:02};{};me\n", ["dark", "light"][usize::from(i > 14)])).collect();
    // One by its whole path, as another program may have written it.
    let whole = bench.path("photos/29.png").display().to_string();
    let table = format!("id;class;photographer\n{rows}").replace("29;", &format!("{whole};"));
    fs::write(bench.path("labels.csv"), table).unwrap();
    let before = fs::read(bench.path("photos/00.png")).unwrap();
    bench.fails(2, "data labels.csv --out photos/00.png", &["00.png", "image of the data"]);
    bench.fails(1, "train --data labels.csv --epochs 1 --out photos", &["photos: holds images of the data"]);
    let text = bench.ok("data labels.csv --out sheet.png");
    assert!(text.contains("dark") && text.contains("sizes:"), "{text}");
    bench.ok("train --data labels.csv --epochs 1 --image-size 16 --batch-size 8 --out run");
    let split = fs::read_to_string(bench.path("run/split.csv")).unwrap();
    assert!(split.contains("photos/00.png,"), "{split}");
    let measured = bench.ok("evaluate run --json");
    assert!(measured.contains("\"data\":\"labels.csv\",\"images\":\"test\""), "{measured}");
    bench.ok("predict --sample 0 --weights run");
    let tested = split.lines().find_map(|line| line.strip_suffix(",test")).unwrap();
    let command = format!("predict --sample 0 --weights run --out {tested}");
    bench.fails(2, &command, &[tested, "image of the data"]);
    assert_eq!(fs::read(bench.path("photos/00.png")).unwrap(), before);
    let trained = split.lines().find_map(|line| line.strip_suffix(",train")).unwrap();
    for (out, problem) in [
        (trained, "image of the data"),
        ("labels.csv", "would be lost"),
        ("run/best.safetensors", "would be lost"),
    ] {
        bench.fails(2, &format!("predict --sample 0 --weights run --out {out}"), &[out, problem]);
    }
    let search = "lr-find --data labels.csv --image-size 16";
    bench.fails(2, &format!("{search} --out labels.png"), &["labels.csv", "would be lost"]);
    bench.fails(2, &format!("{search} --out photos/00.png"), &["00.png", "image of the data"]);
    bench.ok("evaluate run --report report");
    bench.ok("evaluate run --report report");
    bench.fails(1, "evaluate run --report photos", &["photos: holds images of the data"]);
    fs::write(bench.path("moves.csv"), "file,label,predicted\nphotos/00.png,dark,light\n").unwrap();
    bench.fails(1, "data labels.csv --apply moves.csv", &["labels.csv", "change their classes there"]);
}
