//! The confusion matrix as an image.

use std::path::Path;

use ndarray::{Array2, ArrayView1};
use plotters::style::RGBColor;
use plotters::style::text_anchor::HPos;

use super::canvas::{self, Canvas, Face, INK, WHITE};
use super::panel::MUTED;
use crate::error::Result;

const TITLE: Face = Face::bold(26.0);
const NAME: Face = Face::plain(17.0);
const MARGIN: f64 = 30.0;
/// Room for the names of the rows, and for the title and the names of the columns.
const LEFT: f64 = 190.0;
const TOP: f64 = 120.0;
/// The side of the matrix, and the least side of a cell, in points.
const SIDE: f64 = 760.0;
/// With more classes than this, cells have no room for a figure, and names none in a column.
const MOST_FIGURES: usize = 20;
/// With more than this, rows have no room for names.
const MOST_NAMES: usize = 50;

/// Figures in the cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cells {
    /// How many images.
    Counts,
    /// Which share of the images of the row, in per cent.
    Shares,
}

/// Draws `[label][predicted]`, a row for each label. The colour is by the share of the row, so that
/// classes with few images show too.
///
/// # Errors
/// If `path` cannot be written.
pub fn draw(
    path: impl AsRef<Path>,
    title: &str,
    names: &[String],
    confusion: &Array2<usize>,
    cells: Cells,
) -> Result<()> {
    let side = SIDE / confusion.nrows() as f64;
    let (width, height) = (LEFT + SIDE + MARGIN, TOP + SIDE + 50.0);
    let image = canvas::paint((width as u32, height as u32), 2, |canvas| {
        canvas.text((MARGIN, 42.0), HPos::Left, TITLE, INK, &TITLE.fit(title, width - 2.0 * MARGIN))?;
        let below = "rows: labels; columns: predictions";
        canvas.text((LEFT, TOP + SIDE + 32.0), HPos::Left, NAME, MUTED, below)?;
        for (label, row) in confusion.outer_iter().enumerate() {
            let y = TOP + label as f64 * side;
            if confusion.nrows() <= MOST_NAMES {
                let name = NAME.fit(&names[label], LEFT - MARGIN - 12.0);
                canvas.text((LEFT - 12.0, y + side / 2.0 + 6.0), HPos::Right, NAME, INK, &name)?;
            }
            draw_row(canvas, row, y, side, cells)?;
        }
        if confusion.nrows() <= MOST_FIGURES { column_names(canvas, names, side) } else { Ok(()) }
    })?;
    canvas::save(path, &image)
}

fn draw_row(canvas: &Canvas<'_>, row: ArrayView1<usize>, y: f64, side: f64, cells: Cells) -> Result<()> {
    let total = row.sum().max(1) as f64;
    for (predicted, &count) in row.iter().enumerate() {
        let (x, share) = (LEFT + predicted as f64 * side, count as f64 / total);
        // A hairline between the cells, where they are large enough for it.
        let gap = if side >= 8.0 { 1.0 } else { 0.0 };
        canvas.rectangle((x, y), (x + side - gap, y + side - gap), shade(share))?;
        if row.len() <= MOST_FIGURES && count > 0 {
            let text = match cells {
                Cells::Counts => count.to_string(),
                Cells::Shares => format!("{:.1}", 100.0 * share),
            };
            let color = if share > 0.3 { WHITE } else { INK };
            canvas.text((x + side / 2.0, y + side / 2.0 + 6.0), HPos::Center, NAME, color, &text)?;
        }
    }
    Ok(())
}

/// Every second name stands higher, so that each has the room of two columns.
fn column_names(canvas: &Canvas<'_>, names: &[String], side: f64) -> Result<()> {
    for (class, name) in names.iter().enumerate() {
        let (x, y) = (LEFT + (class as f64 + 0.5) * side, TOP - 10.0 - 22.0 * (class % 2) as f64);
        canvas.text((x, y), HPos::Center, NAME, INK, &NAME.fit(name, 2.0 * side - 14.0))?;
    }
    Ok(())
}

/// White to blue; by the root, which tells small shares apart.
fn shade(share: f64) -> RGBColor {
    let part = share.sqrt();
    let channel = |blue: f64| (255.0 + (blue - 255.0) * part).round() as u8;
    RGBColor(channel(0.0), channel(84.0), channel(148.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(classes: usize) -> image::RgbImage {
        let kept = std::env::var_os("CIFAR_ENGINE_TEST_PICTURES").map(std::path::PathBuf::from);
        let folder = tempfile::tempdir().unwrap();
        let path = kept.as_deref().unwrap_or(folder.path()).join(format!("confusion-{classes}.png"));
        let names: Vec<String> =
            (0..classes).map(|class| format!("a class with the number {class}")).collect();
        let cell = |(label, p)| if p == label { 90 } else { 10 * usize::from(p == 0) };
        let confusion = Array2::from_shape_fn([classes, classes], cell);
        draw(&path, "cnn on images", &names, &confusion, Cells::Shares).unwrap();
        image::open(path).unwrap().into_rgb8()
    }

    #[test]
    fn cells_are_shaded_by_their_share_for_any_number_of_classes() {
        for classes in [2, 10, 50, 300] {
            let image = drawn(classes);
            let side = SIDE / classes as f64;
            let at = |label: usize, predicted: usize| {
                // A quarter into the cell, away from its figure.
                let place = |offset: f64, index: usize| (offset + (index as f64 + 0.2) * side) as u32;
                image.get_pixel(place(LEFT, predicted), place(TOP, label)).0
            };
            let RGBColor(r, g, b) = shade(0.9);
            assert_eq!(at(1, 1), [r, g, b], "{classes} classes");
            let RGBColor(r, g, b) = shade(0.1);
            assert_eq!(at(1, 0), [r, g, b], "{classes} classes");
            assert_eq!(at(0, 1), [255; 3]);
        }
    }
}
