//! The validation accuracies of several runs in one picture.

use std::path::Path;

use plotters::style::text_anchor::HPos;

use super::axis::Axis;
use super::canvas::{self, Face, INK};
use super::metrics::EpochMetrics;
use super::panel::{COLORS, LABEL, LINE, Panel, Series};
use crate::error::{Error, Result};

const WIDTH: f64 = 1200.0;
const MARGIN: f64 = 40.0;
const TITLE: Face = Face::bold(30.0);
const ROW: f64 = 30.0;
const PANEL: f64 = 520.0;

/// Draws the accuracy of each run over its epochs: of the validation, or where there was none of the training.
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
    let top = 80.0 + ROW * runs.len() as f64 + 50.0;
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
        for (index, ((name, epochs), line)) in runs.iter().zip(&lines).enumerate() {
            let (color, y) = (COLORS[index % COLORS.len()], 84.0 + ROW * index as f64);
            canvas.line((MARGIN + 2.0, y - 6.0), (MARGIN + 36.0, y - 6.0), LINE, color)?;
            let validated = epochs.iter().any(|row| row.validation_accuracy.is_some());
            let text =
                if validated { name.clone() } else { format!("{name} (training; it had no validation)") };
            canvas.text(
                (MARGIN + 48.0, y),
                HPos::Left,
                LABEL,
                INK,
                &LABEL.fit(&text, WIDTH - 2.0 * MARGIN - 48.0),
            )?;
            panel.draw_line(canvas, line, color)?;
        }
        Ok(())
    })?;
    canvas::save(path, &picture)
}
