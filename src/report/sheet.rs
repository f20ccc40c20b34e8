//! A sheet of images in rows, each row under its name.

use std::borrow::Cow;
use std::path::Path;

use image::imageops::{self, FilterType};
use image::{Rgb, RgbImage};
use plotters::style::text_anchor::HPos;

use super::canvas::{self, Canvas, Face, INK};
use crate::error::{Error, Result};

/// A row of images, each `[size, size, 3]`.
pub struct Row<'a> {
    /// What they are.
    pub name: String,
    /// The pixels of each.
    pub images: Vec<Cow<'a, [u8]>>,
}

/// Rows under a heading.
pub struct Section<'a> {
    /// What the rows are.
    pub heading: String,
    /// The rows.
    pub rows: Vec<Row<'a>>,
}

/// Side of the square an image is shown in.
const SHOWN: u32 = 96;
const GAP: u32 = 8;
const MARGIN: u32 = 16;
const NAMES: u32 = 176;
const HEAD: u32 = 44;
const HEADING: Face = Face::bold(22.0);
const NAME: Face = Face::plain(16.0);

/// Draws the sections below each other to a PNG. Images are `[size, size, 3]`; small ones are
/// enlarged without smoothing.
///
/// # Errors
/// If there is no image, an image's bytes do not fill its size, or the file cannot be written.
pub fn draw(path: &Path, sections: &[Section], size: usize) -> Result<()> {
    let rows: usize = sections.iter().map(|section| section.rows.len()).sum();
    let widest = sections.iter().flat_map(|section| &section.rows).map(|row| row.images.len()).max();
    let Some(columns) = widest.filter(|columns| *columns > 0) else {
        return Err(Error::Failed("a sheet needs an image".into()));
    };
    let width = 2 * MARGIN + NAMES + columns as u32 * (SHOWN + GAP);
    let height = 2 * MARGIN + sections.len() as u32 * HEAD + rows as u32 * (SHOWN + GAP);
    let mut sheet = RgbImage::from_pixel(width, height, Rgb([255; 3]));
    let mut top = MARGIN;
    for section in sections {
        let room = f64::from(width - 2 * MARGIN);
        text(&mut sheet, (MARGIN, top), (width - 2 * MARGIN, HEAD), |canvas| {
            canvas.text((0.0, 30.0), HPos::Left, HEADING, INK, &HEADING.fit(&section.heading, room))
        })?;
        top += HEAD;
        for row in &section.rows {
            text(&mut sheet, (MARGIN, top), (NAMES - GAP, SHOWN), |canvas| {
                let name = NAME.fit(&row.name, f64::from(NAMES - 2 * GAP));
                canvas.text((0.0, f64::from(SHOWN) / 2.0 + 6.0), HPos::Left, NAME, INK, &name)
            })?;
            for (column, pixels) in row.images.iter().enumerate() {
                let left = MARGIN + NAMES + column as u32 * (SHOWN + GAP);
                imageops::replace(&mut sheet, &shown(pixels, size)?, i64::from(left), i64::from(top));
            }
            top += SHOWN + GAP;
        }
    }
    canvas::save(path, &sheet)
}

/// Draws a part of the sheet by itself: all of it drawn finely would take nine times its memory.
fn text(
    sheet: &mut RgbImage,
    (left, top): (u32, u32),
    size: (u32, u32),
    draw: impl FnOnce(&Canvas<'_>) -> Result<()>,
) -> Result<()> {
    let drawn = canvas::paint(size, 3, draw)?;
    imageops::replace(sheet, &drawn, i64::from(left), i64::from(top));
    Ok(())
}

fn shown(pixels: &[u8], size: usize) -> Result<RgbImage> {
    let image = u32::try_from(size).ok().and_then(|side| RgbImage::from_raw(side, side, pixels.to_vec()));
    let image = image.ok_or_else(|| Error::Failed(format!("{} bytes are no image", pixels.len())))?;
    let filter = if image.width() > SHOWN { FilterType::Triangle } else { FilterType::Nearest };
    Ok(imageops::resize(&image, SHOWN, SHOWN, filter))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_image_stands_in_its_row() {
        let pixels: Vec<Vec<u8>> = (0..3).map(|i| vec![40 * (i + 1); 4 * 4 * 3]).collect();
        let row = |name: &str, images: &[usize]| Row {
            name: name.into(),
            images: images.iter().map(|&i| pixels[i].as_slice().into()).collect(),
        };
        let sections = [
            Section {
                heading: "Classes".into(),
                rows: vec![row("猫", &[0, 1]), row(&"long ".repeat(99), &[2])],
            },
            Section { heading: "Augmented".into(), rows: vec![row("", &[1])] },
        ];
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sheet.png");
        draw(&path, &sections, 4).unwrap();
        let sheet = image::open(&path).unwrap().into_rgb8();
        let (left, first) = (MARGIN + NAMES + 5, MARGIN + HEAD + 5);
        let places = [(0, 0, 0), (1, 0, 1), (0, 1, 2)];
        for (column, row, image) in places {
            let at = (left + column * (SHOWN + GAP), first + row * (SHOWN + GAP));
            assert_eq!(sheet.get_pixel(at.0, at.1).0, [pixels[image][0]; 3]);
        }
        assert_eq!(sheet.get_pixel(left, first + 2 * (SHOWN + GAP) + HEAD).0, [80; 3]);
        assert!(draw(&path, &[], 4).is_err() && draw(&path, &sections, 5).is_err());
    }
}
