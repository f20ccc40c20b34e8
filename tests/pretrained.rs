//! Weights from elsewhere: which model a file is recognised as, whose names it has, what is known
//! about it, and what is said about files that do not fit.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cifar_engine::data::image_file::{CROP, FILTER};
use cifar_engine::models::LoadedModel;
use cifar_engine::models::mobilenet_v1::MOBILENET_V1;
use cifar_engine::models::mobilenet_v2::MOBILENET_V2;
use cifar_engine::models::pretrained::{Attributes, Pretrained};
use cifar_engine::models::resnet18::RESNET18;
use cifar_engine::models::{self, PaddingStyle, Spec, Variant};
use cifar_engine::nn::Parameter;
use cifar_engine::train;
use cifar_engine::train::plans;
use cifar_engine::weights::{self, Tensor, WeightsFile, layout};

fn open(path: &Path) -> cifar_engine::error::Result<Pretrained> {
    Pretrained::open(path, &Attributes::default())
}

fn parameters(spec: &Spec) -> Vec<Parameter> {
    plans::evaluation(spec, "test", 1, 1).unwrap().parameters
}

/// A v2 of width 0.35 with 7 classes, in timm's names, every value its own.
fn timm() -> WeightsFile {
    // Enough of a file for the model to be recognised, whose spec then tells all tensors.
    let tensor = |shape: &[usize]| Tensor { shape: shape.to_vec(), data: vec![0.0; shape.iter().product()] };
    let stem = [("conv_stem.weight", &[16, 3, 3, 3][..]), ("blocks.6.0.conv_pwl.weight", &[112, 336, 1, 1])];
    let tensors = stem.map(|(name, shape)| (name.to_string(), tensor(shape))).into();
    let mut file = WeightsFile { tensors, metadata: BTreeMap::new() };
    file.tensors.insert("classifier.bias".into(), tensor(&[7]));
    let spec = Pretrained::of(file, Path::new("stem"), &Attributes::default()).unwrap().spec;
    assert_eq!((spec.architecture, spec.variant.width), (&MOBILENET_V2, 0.35));
    numbered(&spec)
}

/// A file of such a model, every value its own.
fn numbered(spec: &Spec) -> WeightsFile {
    let (mut tensors, mut count) = (BTreeMap::new(), 0);
    for p in parameters(spec) {
        let shape = layout::disk_shape(p.layout, p.shape.dims()).unwrap();
        let data = (count..count + p.shape.len()).map(|i| i as f32).collect();
        count += p.shape.len();
        tensors.insert(p.name, Tensor { shape, data });
    }
    WeightsFile { tensors, metadata: BTreeMap::new() }
}

/// timm's name in torchvision's way, worked out from the architecture.
fn torchvision(name: &str) -> String {
    let blocks = [1, 2, 3, 4, 3, 3, 1];
    let parts: Vec<&str> = name.split('.').collect();
    match parts[..] {
        ["conv_stem", tensor] => format!("features.0.0.{tensor}"),
        ["bn1", tensor] => format!("features.0.1.{tensor}"),
        ["conv_head", tensor] => format!("features.18.0.{tensor}"),
        ["bn2", tensor] => format!("features.18.1.{tensor}"),
        ["classifier", tensor] => format!("classifier.1.{tensor}"),
        ["blocks", "0", "0", layer, tensor] => {
            let place = [("conv_dw", "0.0"), ("bn1", "0.1"), ("conv_pw", "1"), ("bn2", "2")];
            let place = place.iter().find(|(ours, _)| *ours == layer).unwrap().1;
            format!("features.1.conv.{place}.{tensor}")
        }
        ["blocks", stage, block, layer, tensor] => {
            let before: usize = blocks[..stage.parse::<usize>().unwrap()].iter().sum();
            let number = before + block.parse::<usize>().unwrap() + 1;
            let place = [
                ("conv_pw", "0.0"),
                ("bn1", "0.1"),
                ("conv_dw", "1.0"),
                ("bn2", "1.1"),
                ("conv_pwl", "2"),
                ("bn3", "3"),
            ];
            let place = place.iter().find(|(ours, _)| *ours == layer).unwrap().1;
            format!("features.{number}.conv.{place}.{tensor}")
        }
        _ => unreachable!("{name}"),
    }
}

/// The file, written, in a folder that lives as long as the first value.
fn written(file: &WeightsFile) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.safetensors");
    weights::save(&path, file).unwrap();
    (folder, path)
}

#[test]
fn torchvisions_names_give_the_same_values_with_and_without_classifier() {
    let timm = timm();
    let renamed = |(name, tensor): (&String, &Tensor)| (torchvision(name), tensor.clone());
    let mut file =
        WeightsFile { tensors: timm.tensors.iter().map(renamed).collect(), metadata: BTreeMap::new() };
    let (_folder, path) = written(&file);
    let found = open(&path).unwrap();
    assert_eq!((found.layout, found.has_classifier().unwrap()), ("torchvision's", true));
    assert_eq!(found.file.tensors, timm.tensors);
    assert_eq!(found.spec.mean, [123.675, 116.28, 103.53]);
    LoadedModel::open(&path).unwrap();

    file.tensors.retain(|name, _| !name.starts_with("classifier"));
    let (_folder, path) = written(&file);
    let found = open(&path).unwrap();
    assert!(!found.has_classifier().unwrap());
    assert_eq!(found.file.tensors.len() + 2, timm.tensors.len());
    let message = LoadedModel::open(&path).err().unwrap().to_string();
    assert!(
        message.contains("2 missing (classifier.weight") || message.contains("classifier.bias"),
        "{message}"
    );
}

#[test]
fn metadata_and_flags_say_what_tensors_cannot() {
    let mut file = timm();
    let entries =
        [("padding", "same"), ("bn_eps", "0.001"), ("mean", "0.5,0.5,0.5"), ("std", "0.25, 0.25, 0.25")];
    file.metadata = entries.map(|(key, value)| (key.to_string(), value.to_string())).into();
    file.metadata.insert("input_size".into(), "3,160,160".into());
    let (_folder, path) = written(&file);
    let spec = open(&path).unwrap().spec;
    assert_eq!((spec.variant.padding, spec.variant.input_size), (PaddingStyle::Same, 160));
    assert_eq!((spec.norm.epsilon, spec.mean, spec.std), (1e-3, [127.5; 3], [63.75; 3]));
    let flags =
        Attributes { padding: Some(PaddingStyle::Symmetric), epsilon: Some(1e-5), ..Attributes::default() };
    let spec = Pretrained::open(&path, &flags).unwrap().spec;
    assert_eq!((spec.variant.padding, spec.norm.epsilon), (PaddingStyle::Symmetric, 1e-5));

    for (key, value) in
        [("padding", "mirror"), ("bn_eps", "-1"), ("mean", "0.5,0.5"), ("input_size", "3,x,y")]
    {
        let mut wrong = file.clone();
        wrong.metadata.insert(key.into(), value.into());
        let (_folder, path) = written(&wrong);
        let message = open(&path).err().unwrap().to_string();
        assert!(message.contains(key) || message.contains("bn_epsilon"), "{message}");
    }
}

#[test]
fn what_is_written_is_read_again_the_same() {
    let (_folder, path) = written(&timm());
    let Pretrained { spec, file, .. } = open(&path).unwrap();
    let parameters = parameters(&spec);
    let values = models::values(&file, &parameters, &path).unwrap();
    let ours = path.with_file_name("ours.safetensors");
    models::save(&ours, &spec, &parameters, &values).unwrap();
    let again = open(&ours).unwrap();
    assert_eq!((again.layout, &again.file.tensors), ("this engine's", &timm().tensors));
    assert_eq!(again.spec, spec);
    let told = |key: &str| again.file.metadata[key].as_str();
    assert_eq!((told("crop"), told("filter")), (CROP, FILTER));
}

/// In files of this program, which are silent about it where they are older, and of others.
#[test]
fn another_crop_or_filter_is_refused_with_what_is_known() {
    let theirs = timm();
    let (_folder, path) = written(&theirs);
    let spec = open(&path).unwrap().spec;
    let (parameters, ours) = (parameters(&spec), path.with_file_name("ours.safetensors"));
    models::save(&ours, &spec, &parameters, &models::values(&theirs, &parameters, &path).unwrap()).unwrap();
    for file in [weights::load(&ours).unwrap(), theirs] {
        for (key, known) in [("crop", CROP), ("filter", FILTER)] {
            let says = |value: Option<&str>| {
                let mut file = file.clone();
                file.metadata.remove(key);
                file.metadata.extend(value.map(|value| (key.to_string(), value.to_string())));
                weights::save(&path, &file).unwrap();
                open(&path).map(|_| ()).map_err(|error| error.to_string())
            };
            assert_eq!((says(Some(known)), says(None)), (Ok(()), Ok(())));
            let message = says(Some("bicubic\nx")).unwrap_err();
            let wanted = format!("its metadata's '{key}' is 'bicubic\\nx'; known is {known}");
            assert!(message.ends_with(&wanted), "{message}");
        }
    }
}

#[test]
fn what_does_not_fit_is_listed_with_the_nearest_name() {
    let mut file = timm();
    let tensor = file.tensors.remove("blocks.2.1.bn3.bias").unwrap();
    file.tensors.insert("blocks.2.1.bn3.bais".into(), tensor);
    file.tensors.get_mut("conv_head.weight").unwrap().shape.swap(0, 1);
    let (_folder, path) = written(&file);
    let message = LoadedModel::open(&path).err().unwrap().to_string();
    for part in [
        "1 missing (blocks.2.1.bn3.bias: the file has blocks.2.1.bn3.bais)",
        "1 of another shape (conv_head.weight: [112, 1280, 1, 1], expected [1280, 112, 1, 1])",
        "1 not used (blocks.2.1.bn3.bais",
    ] {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn other_models_are_refused_with_what_is_known() {
    let tensor = Tensor { shape: vec![10], data: vec![0.0; 10] };
    for name in ["layer1.0.conv1.weight", "features.0.0.bias", "conv_stem.weight"] {
        let mut file = WeightsFile::default();
        file.tensors.insert(name.into(), tensor.clone());
        let (_folder, path) = written(&file);
        let message = open(&path).err().unwrap().to_string();
        assert!(message.contains("known are mobilenet-v1") && !message.contains('\n'), "{message}");
    }
    // A name that both layouts claim hides no tensor.
    let mut file = timm();
    file.tensors.insert("features.0.0.weight".into(), tensor);
    let (_folder, path) = written(&file);
    let message = LoadedModel::open(&path).err().unwrap().to_string();
    assert!(message.contains("1 not used (features.0.0.weight"), "{message}");
}

#[test]
fn what_tools_put_before_names_and_into_metadata_changes_nothing() {
    let timm = timm();
    for prefix in ["module.", "_orig_mod.", "model.", "module._orig_mod.", "model.module."] {
        let tensors = timm.tensors.iter().map(|(name, tensor)| (format!("{prefix}{name}"), tensor.clone()));
        let metadata = [("format", "pt"), ("model", "resnet50"), ("classes", "many")];
        let metadata = metadata.map(|(key, value)| (key.to_string(), value.to_string())).into();
        let (_folder, path) = written(&WeightsFile { tensors: tensors.collect(), metadata });
        assert_eq!(open(&path).unwrap().file.tensors, timm.tensors, "{prefix}");
    }
}

#[test]
fn relatives_of_known_models_are_named() {
    for (name, expected) in [("blocks.1.2.conv_pw.weight", "110d"), ("conv_head.weight", "100h")] {
        let spec = Pretrained::of(timm(), Path::new("timm"), &Attributes::default()).unwrap().spec;
        let mut file = match expected {
            "100h" => numbered(&Spec { architecture: &MOBILENET_V1, ..spec }),
            _ => timm(),
        };
        file.tensors.insert(name.into(), Tensor { shape: vec![1], data: vec![0.0] });
        let (_folder, path) = written(&file);
        let message = open(&path).err().unwrap().to_string();
        assert!(message.contains(expected) && message.contains("known are mobilenet-v1"), "{message}");
    }
}

/// A ResNet-18 is recognised with and without its classifier, and its relatives are told from it.
#[test]
fn torchvisions_resnet_is_read_and_its_relatives_are_not() {
    let ours = Spec { variant: Variant::plain(224), ..train::bare_spec(&RESNET18, 224, 7) };
    let file = numbered(&ours);
    let (_folder, path) = written(&file);
    let found = open(&path).unwrap();
    assert_eq!((found.spec.architecture, found.layout), (&RESNET18, "torchvision's"));
    let Spec { classes, variant, mean, .. } = found.spec;
    assert_eq!((classes.len(), variant.input_size, mean), (7, 224, [123.675, 116.28, 103.53]));
    LoadedModel::open(&path).unwrap();
    let padding = Attributes { padding: Some(PaddingStyle::Same), ..Attributes::default() };
    let message = Pretrained::open(&path, &padding).err().unwrap().to_string();
    assert!(message.contains("a resnet18 is padded one way"), "{message}");

    let mut headless = file.clone();
    headless.tensors.retain(|name, _| !name.starts_with("fc."));
    let (_folder, path) = written(&headless);
    assert!(!open(&path).unwrap().has_classifier().unwrap());

    for (name, expected) in [
        ("layer1.0.conv3.weight", "ResNet-50"),
        ("layer1.2.conv1.weight", "ResNet-34"),
        ("conv1.0.weight", "resnet18d"),
    ] {
        let mut file = file.clone();
        file.tensors.insert(name.into(), Tensor { shape: vec![1], data: vec![0.0] });
        let (_folder, path) = written(&file);
        let message = open(&path).err().unwrap().to_string();
        assert!(message.contains(expected) && message.contains("known are mobilenet-v1"), "{message}");
    }
}

#[test]
fn a_value_that_makes_no_sense_is_damage_wherever_it_is() {
    for (name, value) in [
        ("bn1.bias", f32::NEG_INFINITY),
        ("bn2.running_var", f32::INFINITY),
        ("bn2.running_var", -0.5),
        ("bn1.weight", f32::NAN),
    ] {
        let mut file = timm();
        file.tensors.get_mut(name).unwrap().data[0] = value;
        let (_folder, path) = written(&file);
        let message = LoadedModel::open(&path).err().unwrap().to_string();
        assert!(message.contains(name) && message.contains("damaged"), "{message}");
    }
}

#[test]
fn weights_of_another_model_are_told_by_their_header() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sparse.safetensors");
    let bytes = 4u64 << 40;
    let header = format!(
        r#"{{"conv_stem.weight":{{"dtype":"F32","shape":[{}],"data_offsets":[0,{bytes}]}}}}"#,
        bytes / 4
    );
    let file = std::fs::File::create(&path).unwrap();
    std::io::Write::write_all(
        &mut &file,
        &[&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat(),
    )
    .unwrap();
    if file.set_len(8 + header.len() as u64 + bytes).is_err() {
        return println!("left out: the file system has no files with holes");
    }
    let message = open(&path).err().unwrap().to_string();
    assert!(message.contains("known are mobilenet-v1"), "{message}");
    if !cfg!(target_os = "linux") {
        return println!("left out: what memory is free is known on Linux");
    }
    let message = weights::load(&path).err().unwrap().to_string();
    assert!(message.contains("holds 4398.0 GB of values, more than there is memory for"), "{message}");
}

/// The tool that messages about other kinds of files name.
#[test]
fn the_converter_takes_prefixed_safetensors() {
    let timm = timm();
    let tensors = timm.tensors.iter().map(|(name, tensor)| (format!("module.model.{name}"), tensor.clone()));
    let metadata =
        [("padding".to_string(), "same".to_string()), ("tool".to_string(), "x".to_string())].into();
    let (folder, path) = written(&WeightsFile { tensors: tensors.collect(), metadata });
    let out = folder.path().join("converted.safetensors");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/pretrained.py");
    let converted =
        std::process::Command::new("python3").arg(script).arg("convert").arg(path).arg(&out).output();
    let Ok(converted) = converted else { return println!("left out: there is no python3") };
    assert!(converted.status.success(), "{}", String::from_utf8_lossy(&converted.stderr));
    let found = open(&out).unwrap();
    assert_eq!(found.file.tensors, timm.tensors);
    assert_eq!(found.spec.variant.padding, PaddingStyle::Same);
}
