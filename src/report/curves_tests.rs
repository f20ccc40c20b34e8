//! The picture is read back and its pixels are counted.

use image::RgbImage;

use super::*;

/// A run as they look: the loss falls, validation lags behind and wavers.
fn run(count: usize) -> Vec<EpochMetrics> {
    let wave = |epoch: usize, speed: f64| (epoch as f64 * speed).sin();
    (1..=count)
        .map(|epoch| {
            let done = 1.0 - (-(epoch as f64) / 6.0).exp();
            EpochMetrics {
                epoch,
                train_loss: 2.1 - 1.75 * done,
                train_accuracy: 0.24 + 0.68 * done,
                validation_loss: Some(2.0 - 1.35 * done + 0.06 * wave(epoch, 2.3)),
                validation_accuracy: Some(0.28 + 0.53 * done + 0.012 * wave(epoch, 1.7)),
                rate: 1e-3,
                images_per_s: 5000.0,
                seconds: 10.0,
                validation_images: 1000,
                proof: None,
            }
        })
        .collect()
}

/// Of a fine-tuning with everything that a training loss can hold.
fn reading() -> Reading {
    Reading { second_stage: Some(4), ..Reading::of(0.1, 0.3, true, 10) }
}

fn drawn(name: &str, epochs: &[EpochMetrics]) -> RgbImage {
    // Set this to a folder to look at the pictures.
    let kept = std::env::var_os("CIFAR_ENGINE_TEST_PICTURES").map(std::path::PathBuf::from);
    let folder = tempfile::tempdir().unwrap();
    let path = kept.as_deref().unwrap_or(folder.path()).join(format!("curves-{name}.png"));
    draw(&path, "small cnn on CIFAR-10, batch 128, seed 1", &reading(), epochs).unwrap();
    let picture = image::open(&path).unwrap().into_rgb8();
    assert_eq!(picture.dimensions(), SIZE);
    picture
}

/// Pixels of exactly this colour below the legend, in the left (0) or right (1) half.
fn count(picture: &RgbImage, half: u32, color: RGBColor) -> usize {
    let wanted = image::Rgb([color.0, color.1, color.2]);
    let middle = SIZE.0 / 2;
    picture
        .enumerate_pixels()
        .filter(|(x, y, pixel)| *y > 140 && x / middle == half && **pixel == wanted)
        .count()
}

#[test]
fn both_lines_cross_both_panels() {
    let picture = drawn("20", &run(20));
    for half in [0, 1] {
        for color in [TRAIN, VALIDATION] {
            // A line at least as wide as the panel, two full pixels thick.
            assert!(count(&picture, half, color) > 1200, "{half} {color:?}");
        }
    }
    let colors: std::collections::HashSet<_> = picture.pixels().collect();
    assert!(colors.len() > 100, "text and lines have smooth edges");
}

#[test]
fn higher_values_are_drawn_higher() {
    let picture = drawn("20", &run(20));
    let blue = image::Rgb([TRAIN.0, TRAIN.1, TRAIN.2]);
    let row = |left: u32, right: u32| {
        let rows: Vec<f64> = picture
            .enumerate_pixels()
            .filter(|(x, y, pixel)| *y > 140 && (left..right).contains(x) && **pixel == blue)
            .map(|(_, y, _)| f64::from(y))
            .collect();
        rows.iter().sum::<f64>() / rows.len() as f64
    };
    assert!(row(100, 200) + 100.0 < row(650, 780), "the loss falls");
    assert!(row(890, 990) > row(1450, 1560) + 100.0, "the accuracy rises");
}

#[test]
fn one_epoch_has_a_dot_for_each_figure() {
    let picture = drawn("1", &run(1));
    for half in [0, 1] {
        assert!((30..200).contains(&count(&picture, half, TRAIN)));
        assert!((30..300).contains(&count(&picture, half, VALIDATION)), "a ring");
    }
}

#[test]
fn without_validation_there_is_one_line() {
    let mut epochs = run(12);
    for row in &mut epochs {
        (row.validation_loss, row.validation_accuracy) = (None, None);
    }
    let picture = drawn("train-only", &epochs);
    assert!(count(&picture, 0, TRAIN) > 1000);
    assert_eq!(count(&picture, 0, VALIDATION) + count(&picture, 1, VALIDATION), 0);
}

#[test]
fn validation_now_and_then_is_joined() {
    let mut epochs = run(200);
    for row in epochs.iter_mut().filter(|row| row.epoch % 5 != 0) {
        (row.validation_loss, row.validation_accuracy) = (None, None);
    }
    let picture = drawn("200", &epochs);
    assert!(count(&picture, 0, VALIDATION) > 800);
}

#[test]
fn figures_that_cannot_be_drawn_leave_gaps() {
    let whole = count(&drawn("20", &run(20)), 0, TRAIN);
    let mut epochs = run(20);
    epochs[7].train_loss = f64::NAN;
    epochs[8].train_loss = f64::INFINITY;
    epochs[9].train_loss = -1e300;
    epochs[12].validation_accuracy = Some(f64::NAN);
    let broken = count(&drawn("gaps", &epochs), 0, TRAIN);
    assert!(broken > whole / 2 && broken < whole, "{broken} of {whole}");

    for row in &mut epochs {
        (row.train_loss, row.train_accuracy) = (f64::NAN, f64::NAN);
        (row.validation_loss, row.validation_accuracy) = (Some(f64::INFINITY), Some(f64::NEG_INFINITY));
    }
    let nothing = drawn("nan", &epochs);
    assert_eq!(count(&nothing, 0, TRAIN) + count(&nothing, 1, VALIDATION), 0);
}

#[test]
fn the_epoch_whose_weights_are_kept_is_marked() {
    let mut epochs = run(5);
    for (row, accuracy) in epochs.iter_mut().zip([0.3, 0.7, 0.7, 0.7, f64::NAN]) {
        row.validation_accuracy = Some(accuracy);
    }
    for (row, loss) in epochs.iter_mut().zip([0.1, 0.9, 0.5, 0.5, 0.1]) {
        row.validation_loss = Some(loss);
    }
    let best = Best::of(&epochs).unwrap();
    assert_eq!((best.epoch, best.text.as_str()), (3, "best validation accuracy 70.00 % (epoch 3)"));
    // Of few images the loss decides, and is what is said.
    epochs.iter_mut().for_each(|row| row.validation_images = 24);
    let best = Best::of(&epochs).unwrap();
    let text = "best validation loss 0.1000, accuracy 30.00 % (epoch 1)";
    assert_eq!((best.epoch, best.text.as_str()), (1, text));
    epochs.iter_mut().for_each(|row| row.validation_accuracy = None);
    assert!(Best::of(&epochs).is_none());
}

#[test]
fn errors() {
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(
        draw(folder.path().join("no/c.png"), "t", &reading(), &run(1)),
        Err(Error::File { .. })
    ));
    assert!(matches!(draw(folder.path().join("c.png"), "t", &reading(), &[]), Err(Error::Failed(_))));
    let path = folder.path().join("long.png");
    draw(&path, &"a very long title\n".repeat(1000), &reading(), &run(2)).unwrap();
    assert_eq!(image::image_dimensions(&path).unwrap(), SIZE);
}
