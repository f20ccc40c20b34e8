//! The validation accuracies of several runs in one picture.

use std::path::Path;

use plotters::style::text_anchor::HPos;

use super::axis::Axis;
use super::canvas::{self, Canvas, Face, INK};
use super::metrics::EpochMetrics;
use super::panel::{COLORS, LABEL, LineStyle, Panel, Series};
use crate::error::{Error, Result};

const WIDTH: f64 = 1200.0;
const MARGIN: f64 = 40.0;
const TITLE: Face = Face::bold(30.0);
const ROW: f64 = 30.0;
const PANEL: f64 = 520.0;

/// Draws the accuracy of each run over its epochs: of the validation, or where there was none of
/// the training.
///
/// # Errors
/// [`Error::File`] where `path` cannot be written; [`Error::Failed`] where no run has an epoch.
pub fn draw(path: impl AsRef<Path>, runs: &[(String, Vec<EpochMetrics>)]) -> Result<()> {
    let accuracy = |row: &EpochMetrics| 100.0 * row.validation_accuracy.unwrap_or(row.train_accuracy);
    let line = |(_, epochs): &(String, Vec<EpochMetrics>)| -> Series {
        epochs.iter().map(|row| (row.epoch as f64, Some(accuracy(row)).filter(|a| a.is_finite()))).collect()
    };
    let lines: Vec<Series> = runs.iter().map(line).collect();
    let Some(last) = runs.iter().flat_map(|(_, epochs)| epochs).map(|row| row.epoch).max() else {
        return Err(Error::Failed("no epoch has ended yet, so there is nothing to draw".into()));
    };
    let legend = Legend::of(runs);
    let top = 80.0 + ROW * legend.rows as f64 + 50.0;
    let height = top + PANEL + 72.0;
    let panel = Panel {
        left: MARGIN + 58.0,
        right: WIDTH - MARGIN,
        top,
        bottom: height - 72.0,
        name: "Accuracy (%)",
        x_name: "epoch",
        x: Axis::of_epochs(1, last),
        y: Axis::of_values(lines.iter().flatten().filter_map(|(_, value)| *value), (0.0, 100.0)),
    };
    let picture = canvas::paint((WIDTH as u32, height as u32), 3, |canvas| {
        canvas.text((MARGIN, 48.0), HPos::Left, TITLE, INK, "Validation accuracy")?;
        panel.draw_axes(canvas)?;
        legend.draw(canvas)?;
        lines.iter().enumerate().try_for_each(|(index, line)| panel.draw_line(canvas, line, style(index)))
    })?;
    canvas::save(path, &picture)
}

/// Each run has a colour, and when these are used up another kind of dashes.
fn style(index: usize) -> LineStyle {
    const DASHES: [f64; 4] = [0.0, 16.0, 7.0, 2.0];
    let dash = DASHES[index / COLORS.len() % DASHES.len()];
    LineStyle { dash, ..LineStyle::of(COLORS[index % COLORS.len()]) }
}

/// The names of the runs, in as many columns as they have room in.
struct Legend {
    names: Vec<String>,
    rows: usize,
    /// Width of a column, in points.
    width: f64,
}

impl Legend {
    const SAMPLE: f64 = 48.0;
    const GAP: f64 = 24.0;

    fn of(runs: &[(String, Vec<EpochMetrics>)]) -> Legend {
        let name = |(name, epochs): &(String, Vec<EpochMetrics>)| {
            let validated = epochs.iter().any(|row| row.validation_accuracy.is_some());
            if validated { name.clone() } else { format!("{name} (training; it had no validation)") }
        };
        let room = WIDTH - 2.0 * MARGIN;
        let names: Vec<String> =
            runs.iter().map(|run| LABEL.fit(&name(run), room - Self::SAMPLE - Self::GAP)).collect();
        let widest = names.iter().map(|name| LABEL.width(name)).fold(0.0, f64::max);
        let columns = (room / (Self::SAMPLE + widest + Self::GAP)).floor().max(1.0);
        let rows = names.len().div_ceil(columns as usize);
        Legend { names, rows, width: room / columns }
    }

    fn draw(&self, canvas: &Canvas<'_>) -> Result<()> {
        for (index, name) in self.names.iter().enumerate() {
            let x = MARGIN + (index / self.rows) as f64 * self.width;
            let y = 84.0 + (index % self.rows) as f64 * ROW;
            style(index).draw(canvas, &[(x + 2.0, y - 6.0), (x + 36.0, y - 6.0)])?;
            canvas.text((x + Self::SAMPLE, y), HPos::Left, LABEL, INK, name)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_the_legend_stand_beside_each_other() {
        let names = ["runs/cnn-shapes-1", "runs/mobilenet-v1-photos-1", "c"];
        for count in 1..=names.len() {
            let runs: Vec<_> = names[..count].iter().map(|name| (name.to_string(), Vec::new())).collect();
            let legend = Legend::of(&runs);
            let columns = legend.names.len().div_ceil(legend.rows) as f64;
            let widest = legend.names.iter().map(|name| LABEL.width(name)).fold(0.0, f64::max);
            assert!(widest > 100.0 && legend.width > Legend::SAMPLE + widest, "{count} runs");
            assert!(columns * legend.width <= WIDTH - 2.0 * MARGIN + 1e-9, "{count} runs");
        }
    }
}
