//! A small drawing surface: lines, dots, text and pixels, positioned in picture points with
//! fractions, over the plotters bitmap backend.

use std::path::Path;

use image::{ExtendedColorType, ImageEncoder, RgbImage};
use plotters::coord::Shift;
use plotters::drawing::{DrawingArea, DrawingAreaErrorKind, IntoDrawingArea};
use plotters::element::{Circle, Polygon, Rectangle, Text};
use plotters::prelude::BitMapBackend;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, FontDesc, FontStyle, RGBColor, ShapeStyle, TextStyle};

use super::font;
use crate::error::{Error, Result};
use crate::files::{check_picture, write_atomic};

pub(super) const INK: RGBColor = RGBColor(38, 38, 38);
pub(super) const WHITE: RGBColor = RGBColor(255, 255, 255);

/// A position in points: right and down from the upper left corner.
pub(super) type Point = (f64, f64);

/// Size and weight of a text.
#[derive(Clone, Copy)]
pub(super) struct Face {
    /// Height of a line in points; capital letters take about 0.63 of it.
    pub size: f64,
    pub bold: bool,
}

impl Face {
    pub(super) const fn plain(size: f64) -> Face {
        Face { size, bold: false }
    }

    pub(super) const fn bold(size: f64) -> Face {
        Face { size, bold: true }
    }

    fn font(self, scale: f64) -> FontDesc<'static> {
        let style = if self.bold { FontStyle::Bold } else { FontStyle::Normal };
        FontDesc::new(font::FAMILY, self.size * scale, style)
    }

    /// Width of `text` in points; 0 where it cannot be told.
    pub(super) fn width(self, text: &str) -> f64 {
        if font::register().is_err() {
            return 0.0;
        }
        // Measured large, for the library rounds to whole pixels.
        const FINE: f64 = 8.0;
        self.font(FINE).box_size(text).map_or(0.0, |(width, _)| f64::from(width) / FINE)
    }

    /// `text` as it can be drawn ([`font::drawable`]), cut to `width` points, with an ellipsis
    /// where something is left out.
    pub(super) fn fit(self, text: &str, width: f64) -> String {
        // No text of more letters than this fits a picture; what comes from a file may be long.
        const MOST: usize = 300;
        let text = font::drawable(text);
        let mut kept: Vec<char> = text.chars().take(MOST).collect();
        if text.chars().nth(MOST).is_none() && self.width(&text) <= width {
            return text.into_owned();
        }
        while kept.pop().is_some() {
            let cut = format!("{}…", kept.iter().collect::<String>().trim_end());
            if self.width(&cut) <= width {
                return cut;
            }
        }
        String::new()
    }
}

type Backend<'a> = BitMapBackend<'a>;
type Drawn = std::result::Result<
    (),
    DrawingAreaErrorKind<<Backend<'static> as plotters::prelude::DrawingBackend>::ErrorType>,
>;

pub(super) struct Canvas<'a> {
    area: DrawingArea<Backend<'a>, Shift>,
    scale: f64,
}

/// Draws a white picture of `width` x `height` points, one pixel each. `smooth` times as many
/// pixels are drawn each way and then averaged, which gives sloped lines even edges.
pub(super) fn paint(
    (width, height): (u32, u32),
    smooth: u32,
    draw: impl FnOnce(&Canvas<'_>) -> Result<()>,
) -> Result<RgbImage> {
    font::register()?;
    let (fine_width, fine_height) = (width * smooth, height * smooth);
    let mut pixels = vec![255; fine_width as usize * fine_height as usize * 3];
    {
        let area = Backend::with_buffer(&mut pixels, (fine_width, fine_height)).into_drawing_area();
        let canvas = Canvas { area, scale: f64::from(smooth) };
        draw(&canvas)?;
        canvas.area.present().map_err(undrawable)?;
    }
    let fine = RgbImage::from_raw(fine_width, fine_height, pixels)
        .ok_or_else(|| Error::Failed("a picture has the wrong number of pixels".into()))?;
    Ok(if smooth == 1 { fine } else { average(&fine, smooth) })
}

/// Encodes as PNG.
pub(super) fn png(picture: &RgbImage) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    image::codecs::png::PngEncoder::new(&mut bytes)
        .write_image(picture.as_raw(), picture.width(), picture.height(), ExtendedColorType::Rgb8)
        .map_err(|error| Error::Failed(format!("a picture cannot be encoded: {error}")))?;
    Ok(bytes)
}

/// Encodes as PNG and writes the file.
///
/// # Errors
/// If the file's name says that it is another kind of picture, or it cannot be written.
pub(super) fn save(path: impl AsRef<Path>, picture: &RgbImage) -> Result<()> {
    check_picture(path.as_ref())?;
    let bytes = png(picture)?;
    write_atomic(path, |file| std::io::Write::write_all(file, &bytes))
}

impl Canvas<'_> {
    /// A thick line with round ends.
    pub(super) fn line(&self, from: Point, to: Point, width: f64, color: RGBColor) -> Result<()> {
        let (dx, dy) = (to.0 - from.0, to.1 - from.1);
        let length = dx.hypot(dy);
        if length > 0.0 {
            let (nx, ny) = (-dy / length * width / 2.0, dx / length * width / 2.0);
            let corners = [
                (from.0 + nx, from.1 + ny),
                (to.0 + nx, to.1 + ny),
                (to.0 - nx, to.1 - ny),
                (from.0 - nx, from.1 - ny),
            ];
            let corners: Vec<(i32, i32)> = corners.iter().map(|corner| self.pixel(*corner)).collect();
            done(self.area.draw(&Polygon::new(corners, color.filled())))?;
        }
        self.dot(from, width / 2.0, color)?;
        self.dot(to, width / 2.0, color)
    }

    /// A filled rectangle between two corners.
    pub(super) fn rectangle(&self, from: Point, to: Point, color: RGBColor) -> Result<()> {
        let (from, to) = (self.pixel(from), self.pixel(to));
        // The library draws the last row and column as well.
        done(self.area.draw(&Rectangle::new([from, (to.0 - 1, to.1 - 1)], color.filled())))
    }

    pub(super) fn dot(&self, center: Point, radius: f64, color: RGBColor) -> Result<()> {
        let radius = (radius * self.scale).round() as i32;
        let style: ShapeStyle = color.filled();
        done(self.area.draw(&Circle::new(self.pixel(center), radius, style)))
    }

    /// Writes `text` with its baseline at `y`; `side` says which end of it, or its middle, is at
    /// `x`.
    pub(super) fn text(
        &self,
        (x, y): Point,
        side: HPos,
        face: Face,
        color: RGBColor,
        text: &str,
    ) -> Result<()> {
        // The library puts the baseline half a line under the top of the text's box.
        let top = self.pixel((x, y - face.size / 2.0));
        let style = TextStyle::from(face.font(self.scale)).color(&color).pos(Pos::new(side, VPos::Top));
        done(self.area.draw(&Text::new(text.to_string(), top, style)))
    }

    fn pixel(&self, (x, y): Point) -> (i32, i32) {
        ((x * self.scale).round() as i32, (y * self.scale).round() as i32)
    }
}

fn done(drawn: Drawn) -> Result<()> {
    drawn.map_err(undrawable)
}

fn undrawable<E: std::error::Error + Send + Sync>(error: DrawingAreaErrorKind<E>) -> Error {
    Error::Failed(format!("a picture cannot be drawn: {error}"))
}

/// The mean of each `factor` x `factor` block.
fn average(fine: &RgbImage, factor: u32) -> RgbImage {
    let blocks = factor * factor;
    RgbImage::from_fn(fine.width() / factor, fine.height() / factor, |x, y| {
        let mut sums = [0u32; 3];
        for dy in 0..factor {
            for dx in 0..factor {
                let pixel = fine.get_pixel(x * factor + dx, y * factor + dy);
                sums.iter_mut().zip(pixel.0).for_each(|(sum, value)| *sum += u32::from(value));
            }
        }
        image::Rgb(sums.map(|sum| ((sum + blocks / 2) / blocks) as u8))
    })
}
