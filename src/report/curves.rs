//! `curves.png`: loss and accuracy over the epochs, training and validation.

use std::path::Path;

use plotters::style::RGBColor;
use plotters::style::text_anchor::HPos;

use super::axis::{Axis, LARGEST};
use super::canvas::{self, Canvas, Face, INK};
use super::metrics::{self, EpochMetrics};
use super::panel::{COLORS, LABEL, LINE, LineStyle, MUTED, Panel, Series, ring};
use super::reading::{Reading, capitalised};
use crate::error::{Error, Result};

/// Size of the picture in pixels.
pub const SIZE: (u32, u32) = (1600, 680);

const TRAIN: RGBColor = COLORS[0];
const VALIDATION: RGBColor = COLORS[1];

const TITLE: Face = Face::bold(30.0);
const MARGIN: f64 = 40.0;
/// Top of the panels: below the title, the legend, a line of text and the panels' names.
const TOP: f64 = 190.0;

/// Draws the epochs, in the order given, to a PNG of [`SIZE`]: loss on the left, accuracy in per
/// cent on the right. Epochs without validation are passed over in the validation line. The epoch
/// whose weights are kept is marked. Figures that are
/// not finite, or larger than a billion, leave a gap and are counted under the title.
///
/// # Errors
/// [`Error::File`] where `path` cannot be written; [`Error::Failed`] where there is no epoch.
pub fn draw(path: impl AsRef<Path>, title: &str, reading: &Reading, epochs: &[EpochMetrics]) -> Result<()> {
    let (Some(first), Some(last)) =
        (epochs.iter().map(|row| row.epoch).min(), epochs.iter().map(|row| row.epoch).max())
    else {
        return Err(Error::Failed("no epoch has ended yet, so there are no curves to draw".into()));
    };
    let losses = Lines::of(epochs, |row| Some(row.train_loss), |row| row.validation_loss);
    let accuracies = Lines::of(
        epochs,
        |row| Some(100.0 * row.train_accuracy),
        |row| row.validation_accuracy.map(|share| 100.0 * share),
    );
    let best = Best::of(epochs);
    let (width, height) = (f64::from(SIZE.0), f64::from(SIZE.1));
    let panel = |left: f64, right: f64, name, lines, limits| Panel {
        left,
        right,
        top: TOP,
        bottom: height - 72.0,
        name,
        x_name: "epoch",
        x: Axis::of_epochs(first, last),
        y: Axis::of_values(Lines::values(lines), limits),
    };
    let middle = width / 2.0;
    let left = panel(MARGIN + 58.0, middle - 24.0, "Loss (cross-entropy)", &losses, (0.0, f64::INFINITY));
    let right = panel(middle + 82.0, width - MARGIN, "Accuracy (%)", &accuracies, (0.0, 100.0));

    let picture = canvas::paint(SIZE, 3, |canvas| {
        canvas.text((MARGIN, 48.0), HPos::Left, TITLE, INK, &TITLE.fit(title, width - 2.0 * MARGIN))?;
        let validated = !losses.validation.is_empty() || !accuracies.validation.is_empty();
        legend(canvas, validated, best.as_ref(), losses.undrawn + accuracies.undrawn)?;
        if let Some(text) = reading.loss.as_ref().filter(|_| validated) {
            let text = LABEL.fit(&capitalised(text), width - 2.0 * MARGIN);
            canvas.text((MARGIN, 124.0), HPos::Left, LABEL, MUTED, &text)?;
        }
        for (panel, lines) in [(&left, &losses), (&right, &accuracies)] {
            panel.draw_axes(canvas)?;
            if let Some(epoch) = reading.second_stage.filter(|epoch| (first..=last).contains(epoch)) {
                panel.divide(canvas, epoch as f64 - 0.5, "stage 2")?;
            }
            if let Some(best) = &best {
                panel.mark(canvas, best.epoch as f64)?;
            }
            panel.draw_line(canvas, &lines.train, LineStyle::of(TRAIN))?;
            panel.draw_line(canvas, &lines.validation, LineStyle::of(VALIDATION))?;
            if let Some(best) = &best {
                panel.ring(canvas, &lines.validation, best.epoch as f64, VALIDATION)?;
            }
        }
        Ok(())
    })?;
    canvas::save(path, &picture)
}

struct Lines {
    train: Series,
    validation: Series,
    /// How many figures cannot be drawn.
    undrawn: usize,
}

impl Lines {
    fn of(
        epochs: &[EpochMetrics],
        train: impl Fn(&EpochMetrics) -> Option<f64>,
        validation: impl Fn(&EpochMetrics) -> Option<f64>,
    ) -> Lines {
        let train = series(epochs, train);
        let validation = series(epochs, validation);
        let undrawn = train.iter().chain(&validation).filter(|(_, value)| value.is_none()).count();
        Lines { train, validation, undrawn }
    }

    fn values(&self) -> impl Iterator<Item = f64> + Clone {
        self.train.iter().chain(&self.validation).filter_map(|(_, value)| *value)
    }
}

fn series(epochs: &[EpochMetrics], figure: impl Fn(&EpochMetrics) -> Option<f64>) -> Series {
    let drawable = |value: &f64| value.abs() <= LARGEST; // false for NaN as well
    epochs.iter().filter_map(|row| Some((row.epoch as f64, Some(figure(row)?).filter(drawable)))).collect()
}

/// The epoch whose weights a run would keep.
struct Best {
    epoch: usize,
    text: String,
}

impl Best {
    fn of(epochs: &[EpochMetrics]) -> Option<Best> {
        let best = metrics::best(epochs)?;
        let (epoch, accuracy) = (best.epoch, 100.0 * best.validation_accuracy?);
        let text = match best.validation_loss.filter(|_| metrics::loss_decides(epochs)) {
            Some(loss) => format!("best validation loss {loss:.4}, accuracy {accuracy:.2} % (epoch {epoch})"),
            None => format!("best validation accuracy {accuracy:.2} % (epoch {epoch})"),
        };
        Some(Best { epoch, text })
    }
}

/// The row under the title.
fn legend(canvas: &Canvas<'_>, validated: bool, best: Option<&Best>, undrawn: usize) -> Result<()> {
    const BASELINE: f64 = 88.0;
    const MIDDLE: f64 = BASELINE - 6.0; // of the small letters
    const SAMPLE: f64 = 38.0;
    let mut x = MARGIN;
    let mut entry = |sample: &dyn Fn(f64) -> Result<()>, length: f64, color: RGBColor, text: &str| {
        sample(x)?;
        x += length + 10.0;
        canvas.text((x, BASELINE), HPos::Left, LABEL, color, text)?;
        x += LABEL.width(text) + 34.0;
        Ok(())
    };
    let line = |color| move |x| canvas.line((x + 2.0, MIDDLE), (x + SAMPLE - 2.0, MIDDLE), LINE, color);
    entry(&line(TRAIN), SAMPLE, INK, "train")?;
    if validated {
        entry(&line(VALIDATION), SAMPLE, INK, "validation")?;
    }
    if let Some(best) = best {
        entry(&|x| ring(canvas, (x + 9.0, MIDDLE), VALIDATION), 18.0, INK, &best.text)?;
    }
    if undrawn > 0 {
        let text = match undrawn {
            1 => "1 value is not finite or too large, and not drawn".to_string(),
            many => format!("{many} values are not finite or too large, and not drawn"),
        };
        entry(&|_| Ok(()), 0.0, MUTED, &text)?;
    }
    Ok(())
}

#[cfg(test)]
#[path = "curves_tests.rs"]
mod tests;
