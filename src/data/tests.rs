//! Tests of what the data sets share.

use super::*;

fn numbered(n: u32) -> Images {
    let pixels = (0..n).flat_map(|i| [i as u8; 2 * 2 * 3]).collect::<Vec<u8>>().into();
    Images { pixels, labels: (0..n).map(|i| i % 3).collect(), size: 2, files: Vec::new() }
}

#[test]
fn a_subset_keeps_image_and_label_together() {
    let subset = numbered(9).subset(&[7, 2, 7]);
    assert_eq!(subset.labels, [1, 2, 1]);
    assert_eq!(*subset.image(0).unwrap(), [7; 12]);
    assert_eq!(*subset.image(1).unwrap(), [2; 12]);
    assert_eq!(subset.counts(3), [0, 2, 1]);
}

#[test]
fn validation_split_partitions_and_depends_on_the_seed() {
    let split = |seed| {
        let mut train = numbered(100);
        let validation = train.split_validation(30, seed).unwrap();
        (train, validation)
    };
    let (train, validation) = split(5);
    assert_eq!((train.len(), validation.len()), (70, 30));
    let first = |images: &Images, i: usize| images.image(i).unwrap()[0];
    let firsts = |images: &Images| (0..images.len()).map(|i| first(images, i)).collect::<Vec<_>>();
    for part in [&train, &validation] {
        assert!(firsts(part).is_sorted());
        assert!((0..part.len()).all(|i| part.labels[i] == u32::from(first(part, i)) % 3));
    }
    let mut all = [firsts(&train), firsts(&validation)].concat();
    all.sort_unstable();
    assert_eq!(all, (0..100).collect::<Vec<u8>>());
    assert_eq!(split(5), (train, validation.clone()));
    assert_ne!(split(6).1, validation);
}

#[test]
fn a_split_must_leave_something_to_train_on() {
    let error = numbered(10).split_validation(10, 0).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    assert!(error.to_string().contains("there are 10 training images"), "{error}");
}

#[test]
fn mirroring_exchanges_left_and_right_and_nothing_else() {
    let pixels: Vec<u8> = (0..24).collect();
    let images = Images { pixels: pixels.into(), labels: vec![0, 1], size: 2, files: Vec::new() };
    let mirrored = images.mirrored().unwrap();
    assert_eq!(*mirrored.image(0).unwrap(), [3, 4, 5, 0, 1, 2, 9, 10, 11, 6, 7, 8]);
    assert_eq!((mirrored.labels.as_slice(), mirrored.mirrored().unwrap()), (&[0, 1][..], images));
}

#[test]
fn shifting_reflects_at_the_border() {
    let pixels: Vec<u8> = (0..27).collect();
    let images = Images { pixels: pixels.into(), labels: vec![4], size: 3, files: Vec::new() };
    let reds = |images: &Images| {
        let bytes = images.image(0).unwrap();
        bytes.chunks(3).map(|pixel| pixel[0] / 3).collect::<Vec<u8>>()
    };
    assert_eq!(reds(&images), [0, 1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(reds(&images.shifted(1).unwrap()), [4, 3, 4, 1, 0, 1, 4, 3, 4]);
    assert_eq!(reds(&images.shifted(-1).unwrap()), [4, 5, 4, 7, 8, 7, 4, 5, 4]);
    assert_eq!((images.shifted(0).unwrap(), images.shifted(1).unwrap().labels), (images.clone(), vec![4]));
}

#[test]
fn the_digest_sees_every_pixel_and_label() {
    let images = numbered(9);
    let (mut pixel, mut label) = (images.clone(), images.clone());
    let Pixels::Memory(bytes) = &mut pixel.pixels else { panic!("in memory") };
    bytes[50] += 1;
    label.labels[8] += 1;
    let [images, again, pixel, label] =
        [images, numbered(9), pixel, label].map(|images| images.digest().unwrap());
    assert_eq!(images, again);
    assert!(images != pixel && images != label);
}

#[test]
fn sources_are_named_or_paths() {
    for (text, source) in
        [("auto", DataSource::Auto), ("cifar10", DataSource::Cifar10), ("shapes", DataSource::Shapes)]
    {
        assert_eq!(text.parse::<DataSource>().unwrap(), source);
        assert_eq!(source.to_string(), text);
    }
    assert_eq!("./shapes".parse::<DataSource>().unwrap(), DataSource::Path("./shapes".into()));
    assert!("".parse::<DataSource>().is_err());
}

#[test]
fn mirror_lists_take_commas_spaces_and_base_addresses() {
    let list = mirrors("http://a/x.gz, http://b/data/\nhttp://c", "f.gz");
    assert_eq!(list, ["http://a/x.gz", "http://b/data/f.gz", "http://c"]);
}

#[test]
fn a_mistyped_size_is_a_usage_error() {
    let options = Options { image_size: Some(3200), ..Options::default() };
    let error = load(&DataSource::Shapes, &options).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    assert_eq!(error.to_string(), "image size 3200: choose 8 to 1024 pixels");
}

#[test]
fn the_warning_is_boxed_and_says_why_and_what_to_do() {
    let options = Options { cache: Some("some/cache".into()), ..Options::default() };
    let text = fallback_warning(&Error::Failed("no route".into()), &options);
    assert!(text.lines().filter(|line| line.starts_with("**")).count() >= 10);
    for part in ["WARNING: THIS IS NOT CIFAR-10", "no route", "some/cache", "`data` PATH", "`data` shapes"] {
        assert!(text.contains(part), "{part}");
    }
}
