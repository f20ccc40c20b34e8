//! What one's own photographs need beyond a training: measures, unequal classes, reasons.

mod common;

use std::fs;

use cifar_engine::data::shapes;
use cifar_engine::exec::device;
use cifar_engine::model::Model;
use cifar_engine::report::Measures;
use cifar_engine::weights;
use common::program::{Bench, QUICK, json};

/// The share that `predict` gives the best class of test image 3, and whether it is unsure of it.
fn predicted(bench: &Bench, weights: &str) -> (f64, serde_json::Value) {
    let told = json(&bench.ok(&format!("predict --sample 3 --data . --weights {weights} --json")));
    (told["predictions"][0]["probability"].as_f64().unwrap(), told["unsure"].clone())
}

#[test]
fn measures_and_temperature_are_told_kept_and_used() {
    let bench = Bench::new();
    let told = json(&bench.ok(&format!("{QUICK} --out run --json")));
    let written = json(&fs::read_to_string(bench.path("run/result.json")).unwrap());
    let evaluated = json(&bench.ok("evaluate run --json"));
    let mut model = Model::load_on(device::cpu().unwrap(), bench.path("run")).unwrap();
    let images = shapes::sized(320, 70, 32, 1).unwrap().test;
    let logits = model.evaluate(&images).unwrap().logits;
    let calibration = model.spec().calibration;
    let measures = Measures::of(logits.view(), &images.labels, calibration);
    for (name, value) in measures.entries() {
        let of_weights = ["temperature", "unsure_below"].contains(&name.as_str());
        let of_test = if of_weights { name.clone() } else { format!("test_{name}") };
        let found = [&told[&of_test], &written[&of_test], &evaluated[&name]];
        let near = |found: &serde_json::Value| match (found.as_f64(), value.as_f64()) {
            (Some(found), Some(value)) => (found - value).abs() < 1e-9,
            _ => *found == value && found.is_null(),
        };
        assert!(found.into_iter().all(near), "{name}: {value} {found:?}");
    }
    assert!(calibration.temperature != 1.0);
    let powers: Vec<f64> =
        logits.row(3).iter().map(|z| (f64::from(*z) / f64::from(calibration.temperature)).exp()).collect();
    let largest = powers.iter().copied().fold(0.0, f64::max) / powers.iter().sum::<f64>();
    assert!((predicted(&bench, "run/best.safetensors").0 - largest).abs() < 1e-5);
    // 40 images are few: the last epoch's weights have no calibration of their own.
    assert!(
        !weights::outline(bench.path("run/last.safetensors")).unwrap().metadata.contains_key("temperature")
    );
    let page = fs::read_to_string(bench.path("run/report.html")).unwrap();
    assert!(["balanced accuracy", "AUROC", "top-5"].iter().all(|part| page.contains(part)));
}

#[test]
fn what_is_below_the_threshold_of_the_weights_is_unsure() {
    let bench = Bench::new();
    bench.ok(&format!("{QUICK} --out run --validation 0"));
    assert_eq!(predicted(&bench, "run/best.safetensors").1, serde_json::Value::Null);
    let mut file = weights::load(bench.path("run/best.safetensors")).unwrap();
    for (least, unsure) in [("0.9999", true), ("0.01", false)] {
        file.metadata.insert("unsure_below".into(), least.into());
        weights::save(bench.path("marked.safetensors"), &file).unwrap();
        assert_eq!(predicted(&bench, "marked.safetensors").1, unsure);
        let predict = "predict sample-3.png --weights marked.safetensors --format";
        assert_eq!(bench.ok(&format!("{predict} text")).contains("unsure: below 99.99 %"), unsure);
        let table = bench.ok(&format!("{predict} csv"));
        assert!(table.trim_end().ends_with(&format!(",{unsure}")) && table.contains(",unsure\n"), "{table}");
    }
    for (key, value) in [("temperature", "0"), ("temperature", "warm"), ("unsure_below", "7")] {
        let mut file = file.clone();
        file.metadata.insert(key.into(), value.into());
        weights::save(bench.path("odd.safetensors"), &file).unwrap();
        bench.fails(1, "predict sample-3.png --weights odd.safetensors", &[key, "makes no sense"]);
    }
}

/// A folder of three classes with 40, 12 and 4 training images of 16 pixels, and some to validate
/// with and to test.
fn uneven(bench: &Bench) {
    let images = shapes::sized(600, 30, 16, 1).unwrap().train;
    for (class, name) in ["=a, \"b\"", "dog", "cat #1"].iter().enumerate() {
        let of_class = (0..images.len()).filter(|&i| images.labels[i] as usize == class);
        for (part, skip, count) in [("train", 0, [40, 12, 4][class]), ("val", 40, 8), ("test", 48, 6)] {
            let folder = bench.path("p").join(part).join(name);
            fs::create_dir_all(&folder).unwrap();
            for i in of_class.clone().skip(skip).take(count) {
                let image = image::RgbImage::from_raw(16, 16, images.image(i).unwrap().into_owned()).unwrap();
                image.save(folder.join(format!("{i} %41.png"))).unwrap();
            }
        }
    }
}

const UNEVEN: &str = "train --data p --image-size 16 --epochs 3 --batch-size 8";

#[test]
fn trainings_with_weights_or_balanced_go_on_and_are_repeated_bit_for_bit() {
    let bench = Bench::new();
    uneven(&bench);
    fs::write(bench.path("w.csv"), "class,weight\n\"'=a, \"\"b\"\"\",1\ndog,2.5\ncat #1,4\n").unwrap();
    let weights = |run: &str| fs::read(bench.path(run).join("last.safetensors")).unwrap();
    bench.ok(&format!("{UNEVEN} --out plain"));
    for (run, option) in
        [("balanced", "--balanced"), ("auto", "--class-weights auto"), ("file", "--class-weights w.csv")]
    {
        let longer = "--schedule constant";
        bench.ok(&format!("{UNEVEN} {option} {longer} --out {run} --threads 1"));
        bench.ok(&format!("{UNEVEN} {option} {longer} --out {run}-2 --threads 2 --epochs 1"));
        // The run holds what it needs.
        if run == "file" {
            fs::remove_file(bench.path("w.csv")).unwrap();
        }
        bench.ok(&format!("resume {run}-2 --epochs 3"));
        assert!(weights(run) == weights(&format!("{run}-2")), "{run}");
        assert!(weights(run) != weights("plain"), "{run} changes nothing");
        assert!(bench.ok(&format!("verify {run} --all")).contains("3 epochs are the run's"));
        assert!(bench.ok(&format!("replay {run} --epoch 2 --step 3")).contains("proved"));
        // Its settings are those of another such training.
        bench.ok(&format!("train --config {run}/settings.toml --out {run}-3"));
        assert!(weights(run) == weights(&format!("{run}-3")), "{run}");
        bench.fails(
            2,
            &format!("train --resume {run} --balanced=false --class-weights none"),
            &["begun with other settings"],
        );
    }
}

#[test]
fn weights_that_do_not_fit_the_classes_are_refused_before_anything_is_made() {
    let bench = Bench::new();
    uneven(&bench);
    for (text, parts) in [
        ("dog,1\ncat #1,2\n", &["--class-weights has no weight for the class =a, \"b\""][..]),
        ("dog,1\ncow,2\n", &["has a class cow, which the data has not", "cat #1, dog"]),
        ("dog,none\n", &["w.csv: line 1 has no positive number"]),
    ] {
        fs::write(bench.path("w.csv"), text).unwrap();
        for command in [UNEVEN, "finetune --data p --pretrained m.safetensors --epochs 1"] {
            common::mobilenet::write_weights(&bench.path("m.safetensors"));
            bench.fails(2, &format!("{command} --class-weights w.csv --out run"), parts);
        }
    }
    bench.fails(2, &format!("{UNEVEN} --balanced --class-weights auto"), &["choose one of them"]);
    assert!(!bench.path("run").exists());
}

/// What a model takes everything for says which class weighed most.
#[test]
fn the_class_that_weighs_most_is_what_is_predicted() {
    let bench = Bench::new();
    uneven(&bench);
    common::mobilenet::write_weights(&bench.path("m.safetensors"));
    let finetune = "finetune --data p --pretrained m.safetensors --image-size 32 --unfreeze 0 --epochs 2";
    for (number, command) in [UNEVEN, finetune].into_iter().enumerate() {
        for (heavy, light) in [("cat #1", "dog"), ("dog", "cat #1")] {
            let table = format!("{heavy},1000\n{light},0.01\n\"'=a, \"\"b\"\"\",0.01\n");
            fs::write(bench.path("w.csv"), table).unwrap();
            let out = format!("--out {number}-{} --class-weights w.csv --json", &heavy[..3]);
            let told = json(&bench.ok(&format!("{command} {out}")));
            let recall = |class: &str| told["per_class"][class].as_f64().unwrap();
            assert!(recall(heavy) == 1.0 && recall(light) == 0.0, "{command}: {told}");
        }
    }
}

#[test]
fn explained_images_show_where_their_class_is_seen() {
    let bench = Bench::new();
    bench.ok(&format!("{QUICK} --out run"));
    let images = shapes::sized(320, 70, 32, 1).unwrap().test;
    for (folder, i) in [("a", 3), ("b", 4)] {
        fs::create_dir_all(bench.path(folder)).unwrap();
        let image = image::RgbImage::from_raw(32, 32, images.image(i).unwrap().into_owned()).unwrap();
        image.save(bench.path(folder).join("x é.png")).unwrap();
    }
    let weights = "--weights run/best.safetensors";
    let told = json(&bench.ok(&format!("predict a b --explain why {weights} --json --top 1")));
    let looked = |folder: &str| {
        let image = fs::read_dir(bench.path(folder)).unwrap().next().unwrap().unwrap().path();
        fs::copy(image, bench.path("one.png")).unwrap();
        json(&bench.ok("inspect run --image one.png --json"))
    };
    for (n, (folder, name)) in
        [("a", "x é.png-explained.png"), ("b", "x é.png-2-explained.png")].into_iter().enumerate()
    {
        let picture = image::open(bench.path("why").join(name)).unwrap().into_rgb8();
        let looked = looked(folder);
        let map = &looked["inside"]["maps"][0];
        let class = &looked["classes"][map["class"].as_u64().unwrap() as usize];
        assert_eq!(told[n]["predictions"][0]["class"], *class);
        assert_eq!(bench.path(told[n]["explained"].as_str().unwrap()), bench.path("why").join(name));
        // Where the map is largest there is most yellow over the image; panels have 128 pixels.
        let rows = map["map"].as_array().unwrap();
        let cells = rows.iter().enumerate().flat_map(|(y, row)| {
            row.as_array().unwrap().iter().enumerate().map(move |(x, v)| (v.as_f64().unwrap(), x, y))
        });
        let cells: Vec<(f64, usize, usize)> = cells.collect();
        let heat = |&(_, x, y): &(f64, usize, usize)| {
            let at = |place: usize| ((place as f64 + 0.5) * 128.0 / rows.len() as f64) as u32;
            let pixel =
                |left: u32| picture.get_pixel(left + 64 + at(x), 48 + 12 + 32 + at(y)).0.map(i32::from);
            let (plain, warm) = (pixel(12), pixel(12 + 256));
            (warm[0] - plain[0]) + (warm[1] - plain[1]) - (warm[2] - plain[2])
        };
        let most = cells.iter().max_by(|a, b| a.0.total_cmp(&b.0)).unwrap();
        let least = cells.iter().min_by(|a, b| a.0.total_cmp(&b.0)).unwrap();
        assert!(heat(most) > heat(least) + 60, "{folder}: {} {}", heat(most), heat(least));
    }
    bench.fails(2, "predict --sample 3 --data . --explain why", &["cannot be used with"]);
    fs::write(bench.path("file"), "x").unwrap();
    bench.fails(1, &format!("predict a --explain file {weights}"), &["file: is not a folder"]);
    let inside = format!("predict b a --explain a/new/why {weights}");
    bench.fails(1, &inside, &["a/new/why: lies in a, whose images are read", "--explain"]);
    assert!(!bench.path("a/new").exists());
    assert_eq!(fs::read(bench.path("file")).unwrap(), b"x");
}

/// A folder of two classes, in which three test images of the second lie among those of the first.
fn mislabelled(bench: &Bench) {
    let images = shapes::sized(1500, 10, 16, 1).unwrap().train;
    for (class, name) in ["a 50%", "b #1"].iter().enumerate() {
        let of_class = (0..images.len()).filter(|&i| images.labels[i] as usize == class);
        for (n, i) in of_class.enumerate() {
            let (part, wrong) =
                if n < 100 { ("train", false) } else { ("test", class == 1 && (130..133).contains(&n)) };
            let folder = bench.path("p").join(part).join(if wrong { "a 50%" } else { name });
            fs::create_dir_all(&folder).unwrap();
            let image = image::RgbImage::from_raw(16, 16, images.image(i).unwrap().into_owned()).unwrap();
            image.save(folder.join(format!("{}{i}.png", if wrong { "wrong" } else { "" }))).unwrap();
        }
    }
}

#[test]
fn planted_wrong_labels_are_listed_linked_and_moved() {
    let bench = Bench::new();
    mislabelled(&bench);
    bench.ok("train --data p --image-size 16 --epochs 12 --batch-size 16 --out run");
    let table = fs::read_to_string(bench.path("run/likely-wrong-labels.csv")).unwrap();
    let rows: Vec<&str> = table.lines().collect();
    assert_eq!(rows[0], "file,label,predicted,confidence");
    let planted: Vec<&&str> = rows.iter().filter(|row| row.starts_with("test/a 50%/wrong")).collect();
    assert!(planted.len() >= 2 && rows.len() < 10, "{table}");
    let found = planted.len();
    assert!(
        planted.iter().all(|row| row.contains(",a 50%,b #1,0.9") || row.contains(",a 50%,b #1,1")),
        "{table}"
    );
    let page = fs::read_to_string(bench.path("run/report.html")).unwrap();
    assert!(page.contains("Likely wrong labels") && page.contains("/p/test/a%2050%25/wrong"));
    // Somebody looks at them and leaves the rest where it is.
    let kept = planted.iter().map(|row| format!("{row}\r\n")).collect::<String>();
    fs::write(bench.path("mine.csv"), format!("{}\r\n{kept}", rows[0])).unwrap();
    let wrong = || {
        let count = |class: &str| {
            let files = fs::read_dir(bench.path("p/test").join(class)).unwrap();
            files
                .filter(|file| file.as_ref().unwrap().file_name().to_str().unwrap().starts_with("wrong"))
                .count()
        };
        [count("a 50%"), count("b #1")]
    };
    let said = bench.ok("data p --apply mine.csv");
    assert!(
        said.contains(&format!("{found} images would move")) && said.contains("-> test/b #1/wrong"),
        "{said}"
    );
    assert_eq!(wrong(), [3, 0]);
    assert!(bench.ok("data p --apply mine.csv --yes").contains(&format!("{found} images moved")));
    assert_eq!(wrong(), [3 - found, found]);
    assert!(bench.ok("data p --apply mine.csv --yes").contains("no image is to be moved"), "all were");
    fs::remove_dir_all(bench.path("p/test/b #1")).unwrap();
    bench.fails(1, "data p --apply mine.csv --yes", &["is no image of this folder", "nothing was moved"]);
    fs::write(bench.path("odd.csv"), "file,label\nx,y\n").unwrap();
    bench.fails(1, "data p --apply odd.csv", &["odd.csv: has no column predicted"]);
    fs::write(bench.path("odd.csv"), "file,label,predicted\nx\n").unwrap();
    bench.fails(1, "data p --apply odd.csv", &["odd.csv: line 2 has too few cells"]);
    bench.fails(2, "data shapes --apply mine.csv", &["moves the images of a folder"]);
    bench.fails(2, "data p --yes", &["required arguments"]);
}
