//! The look inside a trained model: `inspect`, and the report's sections.

mod common;

use std::fs;

use cifar_engine::data::shapes;
use cifar_engine::exec::device;
use cifar_engine::inside::look::{Asked, Look};
use cifar_engine::model::Model;
use cifar_engine::models::LoadedModel;
use cifar_engine::weights;
use common::mobilenet::write_weights;
use common::program::{Bench, QUICK, json};
use ndarray::Axis;

/// A run whose best weights have a channel that is cut off: its normalisation ends far below zero.
fn run() -> Bench {
    let bench = Bench::new();
    bench.ok(&format!("{QUICK} --epochs 1 --out run"));
    let path = bench.path("run/best.safetensors");
    let mut file = weights::load(&path).unwrap();
    file.tensors.get_mut("bn3.bias").unwrap().data[5] = -1e3;
    weights::save(&path, &file).unwrap();
    bench
}

#[test]
fn a_channel_that_never_answers_is_named() {
    let bench = run();
    let inside = json(&bench.ok("inspect run --data . --json"))["inside"].clone();
    let silent = inside["silent"].as_array().unwrap();
    let names: Vec<&str> = silent.iter().map(|layer| layer["layer"].as_str().unwrap()).collect();
    assert_eq!(names, ["relu1", "relu2", "relu3", "relu4", "relu5", "relu6", "relu7"]);
    assert!(silent[2]["silent"].as_array().unwrap().contains(&5.into()), "{}", silent[2]);
    assert_eq!((inside["images"].as_u64(), silent[2]["channels"].as_u64()), (Some(70), Some(64)));
    assert!(silent[0]["silent"].as_array().unwrap().len() < 32);
}

#[test]
fn figures_are_those_of_the_library() {
    let bench = run();
    write_image(&bench);
    let shown =
        bench.ok(&format!("inspect run --image {IMAGE} --layer relu3 --layer fc1 --layer relu3 --json"));
    let inside = &json(&shown)["inside"];
    let mut model = Model::load_on(device::cpu().unwrap(), bench.path("run")).unwrap();
    let image = model.input(bench.path(IMAGE)).unwrap();
    for (place, layer) in ["relu3", "fc1"].iter().enumerate() {
        let values = model.activation(&image, layer).unwrap();
        let found = &inside["activations"][place];
        assert_eq!(found["layer"], *layer);
        let largest = values.iter().copied().fold(f32::MIN, f32::max);
        assert_eq!(found["largest"].as_f64().unwrap() as f32, largest);
        let zeros = values.iter().filter(|value| **value == 0.0).count() as f32 / values.len() as f32;
        assert!((found["zeros"].as_f64().unwrap() as f32 - zeros).abs() < 1e-6);
    }
    // Three classes, the most probable first, each with its map.
    let maps = inside["maps"].as_array().unwrap();
    let layer = inside["map_layer"].as_str().unwrap();
    let top: Vec<String> =
        model.predict(bench.path(IMAGE)).unwrap().top(3).iter().map(|(c, _)| c.to_string()).collect();
    assert_eq!((maps.len(), layer), (3, "pool3"));
    for (map, class) in maps.iter().zip(&top) {
        let expected = model.grad_cam(&image, layer, class).unwrap();
        let rows: Vec<Vec<f32>> = serde_json::from_value(map["map"].clone()).unwrap();
        let found: Vec<f32> = rows.into_iter().flatten().collect();
        assert_eq!(found, expected.index_axis(Axis(0), 0).iter().copied().collect::<Vec<_>>(), "{class}");
    }
    let filters = LoadedModel::open(&bench.path("run/best.safetensors")).unwrap();
    let parameters = filters.parameters().unwrap();
    let first = filters.values(&parameters).unwrap().swap_remove(0);
    let largest = first.iter().fold(0.0f32, |a, b| a.max(b.abs()));
    assert_eq!(inside["filters"]["largest"].as_f64().unwrap() as f32, largest);
    assert_eq!(inside["filters"]["dims"], serde_json::json!([3, 3, 32]));
}

/// An image with a name that pages must escape.
const IMAGE: &str = "cat_&_<dog>.png";

fn write_image(bench: &Bench) {
    let picture = image::RgbImage::from_fn(40, 30, |x, y| image::Rgb([6 * x as u8, 8 * y as u8, 99]));
    picture.save(bench.path(IMAGE)).unwrap();
}

#[test]
fn pages_show_it_and_load_nothing() {
    let bench = run();
    write_image(&bench);
    bench.ok("inspect run --data . --out mistakes.html");
    bench.ok(&format!("inspect run --image {IMAGE} --out image.html"));
    bench.ok(&format!("inspect builtin --image {IMAGE} --out builtin.html"));
    let page = |name: &str| fs::read_to_string(bench.path(name)).unwrap();
    for (name, sections) in [
        (
            "mistakes.html",
            &["Where classes are seen", "What layers make", "First filters", "never answer"][..],
        ),
        ("image.html", &["Where classes are seen", "What layers make", "First filters"]),
        ("builtin.html", &["Where classes are seen", "What layers make", "First filters"]),
        ("run/report.html", &["Calibration", "Where classes are seen", "First filters", "never answer"]),
    ] {
        let text = page(name);
        assert!(sections.iter().all(|section| text.contains(section)), "{name}");
        assert!(!text.contains("http") && !text.contains("<script"), "{name} loads something");
        assert_eq!(text.matches("<figure>").count(), text.matches("</figure>").count(), "{name}");
    }
    assert!(page("image.html").contains("cat_&amp;_&lt;dog&gt;.png"));
    assert!(!page("image.html").contains("never answer"), "of one image that says nothing");
    let result = json(&page("run/result.json"));
    let error = result["test_calibration_error"].as_f64().unwrap();
    assert!((0.0..=1.0).contains(&error), "{result}");
    bench.fails(1, "inspect run --data . --layer relu99", &["relu99", "is no layer", "relu1"]);
    bench.fails(1, "inspect run --image nothing.png", &["nothing.png", "does not exist"]);
    bench.fails(1, "inspect .", &["best.safetensors"]);
}

/// A signal is heeded between runs of the model: those of large images are of few.
#[test]
fn large_images_are_looked_into_by_few() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.safetensors");
    write_weights(&path);
    let runs = |side: usize| {
        let model = LoadedModel::open(&path).unwrap().sized(side).unwrap();
        let images = shapes::sized(6, 10, side, 1).unwrap().train;
        let classes: Vec<(usize, usize)> = (0..6).map(|image| (image, image % 5)).collect();
        let asked = Asked { sample: &images, images: &images, classes: &classes, layers: &[] };
        let mut runs = 0;
        let mut goes_on = || {
            runs += 1;
            Ok(())
        };
        Look::at(&model, device::cpu().unwrap().as_mut(), &asked, &mut goes_on).unwrap();
        runs
    };
    // All silent channels, the activations, all maps, and once before these.
    assert_eq!(runs(32), 4);
    // The silent channels one by one, the maps two by two.
    assert_eq!(runs(384), 6 + 2 + 3);
}
