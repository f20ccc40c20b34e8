//! A sheet of images, each with what was predicted for it and, where known, its true label.

use std::path::Path;

use image::imageops::FilterType;
use image::{RgbImage, imageops};
use plotters::style::RGBColor;
use plotters::style::text_anchor::HPos;

use super::canvas::{self, Canvas, Face, INK};
use crate::error::{Error, Result};

/// One image and its prediction.
pub struct Sample<'a> {
    /// `size` x `size` x 3 bytes: rows from the top, each pixel red, green, blue.
    pub pixels: &'a [u8],
    /// Width and height in pixels.
    pub size: usize,
    /// What the class is to the image, for the words before its name: [`PREDICTION`] or
    /// [`HEAT_MAP`].
    pub what: &'static str,
    /// Name of the predicted class.
    pub predicted: &'a str,
    /// The model's probability for it, 0 to 1.
    pub probability: f32,
    /// Name of the true class, where it is known.
    pub label: Option<&'a str>,
    /// The model's probability for the label, where that is to be shown.
    pub label_probability: Option<f32>,
}

/// The words before a class that is predicted.
pub const PREDICTION: &str = "predicted: ";
/// The words before a class whose places in the image are coloured.
pub const HEAT_MAP: &str = "seen here: ";
/// The same where no place speaks for the class more than against it.
pub const NO_HEAT: &str = "seen in no one place: ";

// A green and a red that differ in lightness too; the marks say the same without colour.
const RIGHT: RGBColor = RGBColor(0, 122, 84);
const WRONG: RGBColor = RGBColor(190, 24, 40);
const MUTED: RGBColor = RGBColor(95, 95, 95);

/// The title's faces; one that has no room gives way to the next.
const TITLES: [Face; 3] = [Face::bold(24.0), Face::bold(20.0), Face::bold(16.0)];
const PREDICTED_FACE: Face = Face::bold(16.0);
const LABEL: Face = Face::plain(16.0);

/// Side of the square an image is shown in.
const SHOWN: u32 = 192;
/// A cell: the image, room for long names on both sides, and two lines of text.
const CELL: (u32, u32) = (256, 256);
const MARGIN: u32 = 12;
/// Room for the title.
const HEAD: u32 = 48;
/// Sheets of more pixels than this are refused: they would take gigabytes to draw.
const MOST_PIXELS: u64 = 100_000_000;

/// Draws the samples row by row, `columns` to a row (fewer where there are fewer samples), to a
/// PNG, under a title if there is one. Small images are enlarged without smoothing, so that their
/// true pixels are seen; large ones are reduced. The prediction is green with a tick when it agrees
/// with the label, red with a cross when not, black where no label is known.
///
/// # Errors
/// [`Error::File`] where `path` cannot be written; [`Error::Failed`] where there is no sample, no
/// column, an image's bytes do not fill its size, or the sheet would be too large.
pub fn draw(
    path: impl AsRef<Path>,
    title: Option<&str>,
    samples: &[Sample<'_>],
    columns: usize,
) -> Result<()> {
    let (columns, width, height) = sheet_size(samples.len(), columns)?;
    let above = if title.is_some() { HEAD } else { 0 };
    let mut sheet = RgbImage::from_pixel(width, height + above, image::Rgb([255; 3]));
    if let Some(title) = title {
        let room = f64::from(width - 2 * MARGIN);
        let face = title_face(title, room);
        let head = canvas::paint((width, above), 3, |canvas| {
            canvas.text((f64::from(MARGIN), 38.0), HPos::Left, face, INK, &face.fit(title, room))
        })?;
        imageops::replace(&mut sheet, &head, 0, 0);
    }
    for (index, sample) in samples.iter().enumerate() {
        let left = MARGIN + (index % columns) as u32 * CELL.0;
        let top = above + MARGIN + (index / columns) as u32 * CELL.1;
        let image = shown(sample)?;
        let x = left + (CELL.0 - image.width()) / 2;
        let y = top + (SHOWN - image.height()) / 2;
        imageops::replace(&mut sheet, &image, i64::from(x), i64::from(y));
        // One caption at a time: the whole sheet drawn finely would take nine times its memory.
        let text = canvas::paint((CELL.0, CELL.1 - SHOWN), 3, |canvas| caption(canvas, sample))?;
        imageops::replace(&mut sheet, &text, i64::from(left), i64::from(top + SHOWN));
    }
    canvas::save(path, &sheet)
}

/// The largest face in which a title has room, or the smallest.
fn title_face(title: &str, room: f64) -> Face {
    TITLES.into_iter().find(|face| face.width(title) <= room).unwrap_or(TITLES[TITLES.len() - 1])
}

/// Columns, and the sheet's width and height in pixels.
fn sheet_size(samples: usize, columns: usize) -> Result<(usize, u32, u32)> {
    if samples == 0 || columns == 0 {
        return Err(Error::Failed("a sample sheet needs at least one sample and one column".into()));
    }
    let columns = columns.min(samples);
    let rows = samples.div_ceil(columns);
    let side =
        |cells: usize, cell: u32| u32::try_from(cells).ok()?.checked_mul(cell)?.checked_add(2 * MARGIN);
    match (side(columns, CELL.0), side(rows, CELL.1)) {
        (Some(width), Some(height)) if u64::from(width) * u64::from(height) <= MOST_PIXELS => {
            Ok((columns, width, height))
        }
        _ => Err(Error::Failed(format!("{samples} samples are too many for one sheet; show at most 1000"))),
    }
}

/// The image at the size it is shown.
fn shown(sample: &Sample<'_>) -> Result<RgbImage> {
    let bytes = sample.size.checked_mul(sample.size).and_then(|pixels| pixels.checked_mul(3));
    let filled = sample.size > 0 && bytes == Some(sample.pixels.len());
    let side = u32::try_from(sample.size).ok().filter(|_| filled);
    let image = side.and_then(|side| RgbImage::from_raw(side, side, sample.pixels.to_vec()));
    let (Some(side), Some(image)) = (side, image) else {
        let (bytes, size) = (sample.pixels.len(), sample.size);
        return Err(Error::Failed(format!("a sample of {bytes} bytes is no RGB image of {size} x {size}")));
    };
    Ok(match SHOWN / side {
        0 => imageops::resize(&image, SHOWN, SHOWN, FilterType::CatmullRom),
        // A whole factor: every pixel of the image becomes a square of the same size.
        factor => imageops::resize(&image, side * factor, side * factor, FilterType::Nearest),
    })
}

/// An image as a small PNG, and its side in pixels: as it is, or reduced.
///
/// # Errors
/// If it cannot be encoded.
pub(super) fn thumbnail(pixels: &[u8], size: usize) -> Result<(Vec<u8>, u32)> {
    const LARGEST: u32 = 128;
    let side = u32::try_from(size).ok();
    let image = side.and_then(|side| RgbImage::from_raw(side, side, pixels.to_vec()));
    let image = image.ok_or_else(|| Error::Failed(format!("{} bytes are no image", pixels.len())))?;
    let image = match image.width() > LARGEST {
        true => imageops::resize(&image, LARGEST, LARGEST, FilterType::CatmullRom),
        false => image,
    };
    Ok((canvas::png(&image)?, image.width()))
}

/// The one or two lines under an image.
fn caption(canvas: &Canvas<'_>, sample: &Sample<'_>) -> Result<()> {
    const BASELINE: f64 = 24.0;
    let middle = f64::from(CELL.0) / 2.0;
    let room = f64::from(CELL.0) - 12.0;
    let (color, mark) = match sample.label {
        None => (INK, ""),
        Some(label) if label == sample.predicted => (RIGHT, " ✓"),
        Some(_) => (WRONG, " ✗"),
    };
    let figure = format!(" {}{mark}", percent(sample.probability));
    let text = named(PREDICTED_FACE, sample.what, sample.predicted, &figure, room);
    canvas.text((middle, BASELINE), HPos::Center, PREDICTED_FACE, color, &text)?;
    match sample.label {
        None => Ok(()),
        Some(label) => {
            let figure = sample.label_probability.map(|p| format!(" {}", percent(p))).unwrap_or_default();
            let text = named(LABEL, "label: ", label, &figure, room);
            canvas.text((middle, BASELINE + 22.0), HPos::Center, LABEL, MUTED, &text)
        }
    }
}

/// `before` and `figure` are always shown whole; a long name gives way.
fn named(face: Face, before: &str, name: &str, figure: &str, room: f64) -> String {
    let name = face.fit(name, room - face.width(before) - face.width(figure));
    format!("{before}{name}{figure}")
}

/// Whole per cent; never "100 %" for less than certainty, nor "0 %" for more than nothing.
pub(super) fn percent(probability: f32) -> String {
    let percent = f64::from(probability) * 100.0;
    match percent {
        p if !p.is_finite() => "? %".into(),
        p if p > 0.0 && p < 0.5 => "<1 %".into(),
        p if (99.5..100.0).contains(&p) => ">99 %".into(),
        p => format!("{p:.0} %"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A square with a colour ramp, so that a turned or mirrored image would show.
    fn ramp(size: usize) -> Vec<u8> {
        let byte = |value: usize| (255 * value / size) as u8;
        (0..size * size).flat_map(|at| [byte(at % size), byte(at / size), 90]).collect()
    }

    fn sample<'a>(pixels: &'a [u8], size: usize, label: Option<&'a str>) -> Sample<'a> {
        let what = PREDICTION;
        Sample { pixels, size, what, predicted: "cat", probability: 0.974, label, label_probability: None }
    }

    fn drawn(name: &str, samples: &[Sample<'_>], columns: usize) -> RgbImage {
        let kept = std::env::var_os("CIFAR_ENGINE_TEST_PICTURES").map(std::path::PathBuf::from);
        let folder = tempfile::tempdir().unwrap();
        let path = kept.as_deref().unwrap_or(folder.path()).join(format!("samples-{name}.png"));
        draw(&path, None, samples, columns).unwrap();
        image::open(&path).unwrap().into_rgb8()
    }

    fn count(image: &RgbImage, color: RGBColor) -> usize {
        image.pixels().filter(|pixel| pixel.0 == [color.0, color.1, color.2]).count()
    }

    #[test]
    fn one_sample_is_enlarged_pixel_by_pixel() {
        let pixels = ramp(32);
        let sheet = drawn("one", &[sample(&pixels, 32, Some("cat"))], 8);
        assert_eq!(sheet.dimensions(), (CELL.0 + 2 * MARGIN, CELL.1 + 2 * MARGIN));
        let (left, top) = (MARGIN + (CELL.0 - 192) / 2, MARGIN);
        for (x, y) in [(0, 0), (31, 0), (5, 17)] {
            let at = 3 * (y * 32 + x);
            for (dx, dy) in [(0, 0), (5, 5)] {
                let pixel = sheet.get_pixel(left + 6 * x as u32 + dx, top + 6 * y as u32 + dy);
                assert_eq!(pixel.0, pixels[at..at + 3]);
            }
        }
        assert!(count(&sheet, RIGHT) > 50);
        assert_eq!(count(&sheet, WRONG), 0);
    }

    #[test]
    fn a_title_stands_above_the_samples() {
        let pixels = ramp(32);
        let one = sample(&pixels, 32, Some("cat"));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("titled.png");
        draw(&path, Some("Test images"), &[one], 1).unwrap();
        let titled = image::open(&path).unwrap().into_rgb8();
        let plain = drawn("plain", &[sample(&pixels, 32, Some("cat"))], 1);
        assert_eq!(titled.height(), plain.height() + HEAD);
        let head = imageops::crop_imm(&titled, 0, 0, titled.width(), HEAD).to_image();
        assert!(count(&head, INK) > 50);
        let below = imageops::crop_imm(&titled, 0, HEAD, titled.width(), plain.height()).to_image();
        assert_eq!(below, plain);
    }

    #[test]
    fn a_long_title_is_smaller_before_it_is_cut() {
        let room = f64::from(3 * CELL.0);
        let title = "mobilenet-v1 on photos: highest loss: the label got the least probability";
        assert_eq!(title_face(title, room).fit(title, room), title);
        assert_eq!(title_face("mobilenet-v1 on photos", room).width("x"), TITLES[0].width("x"));
        assert!(title_face(title, 100.0).fit(title, 100.0).ends_with('…'));
    }

    #[test]
    fn right_wrong_and_unknown_have_their_colours() {
        let (small, odd, large) = (ramp(32), ramp(28), ramp(300));
        let mut samples = vec![
            sample(&small, 32, Some("cat")),
            sample(&odd, 28, Some("automobile")),
            sample(&large, 300, None),
            sample(&small, 32, Some("a name that is far too long to be shown whole")),
        ];
        samples[2].predicted = "automobile";
        samples[3].predicted = "another name too long to be shown\nwhole";
        let sheet = drawn("sheet", &samples, 3);
        assert_eq!(sheet.dimensions(), (3 * CELL.0 + 2 * MARGIN, 2 * CELL.1 + 2 * MARGIN));
        assert!(count(&sheet, RIGHT) > 50 && count(&sheet, WRONG) > 100 && count(&sheet, INK) > 50);
        // Nothing reaches into the margins, long names included.
        let inside = |x: u32, y: u32| {
            (MARGIN..sheet.width() - MARGIN).contains(&x) && (MARGIN..sheet.height() - MARGIN).contains(&y)
        };
        assert!(sheet.enumerate_pixels().all(|(x, y, pixel)| inside(x, y) || pixel.0 == [255; 3]));
    }

    #[test]
    fn every_cifar_class_is_shown_whole() {
        let text = named(PREDICTED_FACE, PREDICTION, "automobile", " >99 % ✗", f64::from(CELL.0) - 12.0);
        assert_eq!(text, "predicted: automobile >99 % ✗");
    }

    #[test]
    fn percents() {
        let cases = [(0.974, "97 %"), (1.0, "100 %"), (0.9999, ">99 %"), (0.001, "<1 %"), (0.0, "0 %")];
        for (probability, text) in cases {
            assert_eq!(percent(probability), text);
        }
        assert_eq!(percent(f32::NAN), "? %");
    }

    #[test]
    fn errors() {
        let folder = tempfile::tempdir().unwrap();
        let (path, pixels) = (folder.path().join("s.png"), ramp(32));
        let one = || sample(&pixels, 32, None);
        assert!(matches!(draw(folder.path().join("no/s.png"), None, &[one()], 1), Err(Error::File { .. })));
        for (samples, columns) in [(vec![], 1), (vec![one()], 0)] {
            assert!(draw(&path, None, &samples, columns).is_err());
        }
        for size in [0, 31, 33, usize::MAX] {
            assert!(draw(&path, None, &[sample(&pixels, size, None)], 1).is_err());
        }
        assert!(sheet_size(100_000, 10).is_err() && sheet_size(usize::MAX, usize::MAX).is_err());
        assert!(sheet_size(1000, 10).is_ok());
    }
}
