//! The picture of a search for a learning rate: the loss over the rate.

use std::path::Path;

use plotters::style::RGBColor;
use plotters::style::text_anchor::HPos;

use super::axis::{Axis, LARGEST};
use super::canvas::{self, Face, INK};
use super::metrics::Trial;
use super::panel::{COLORS, LABEL, LineStyle, Panel, Series};
use crate::error::{Error, Result};

const SIZE: (u32, u32) = (1000, 640);
/// Colour of single steps, behind the smoothed line.
const FAINT: RGBColor = RGBColor(176, 176, 176);

const TITLE: Face = Face::bold(30.0);
const MARGIN: f64 = 40.0;

/// Draws the loss of each trial, and smoothed, and marks the suggested rate, or says why there is
/// none.
///
/// # Errors
/// [`Error::File`] where `path` cannot be written; [`Error::Failed`] where there is no trial.
pub fn draw(
    path: impl AsRef<Path>,
    title: &str,
    trials: &[Trial],
    suggested: std::result::Result<f32, &str>,
) -> Result<()> {
    let (Some(first), Some(last)) = (trials.first(), trials.last()) else {
        return Err(Error::Failed("the loss is no finite number at the lowest rate: nothing to draw".into()));
    };
    let exponent = |rate: f32| f64::from(rate).log10();
    let series = |loss: fn(&Trial) -> f64| -> Series {
        let drawable = |loss: &f64| loss.abs() <= LARGEST;
        trials.iter().map(|trial| (exponent(trial.rate), Some(loss(trial)).filter(drawable))).collect()
    };
    let (raw, smooth) = (series(|trial| trial.loss), series(|trial| trial.smooth));
    let values = raw.iter().chain(&smooth).filter_map(|(_, loss)| *loss);
    let panel = Panel {
        left: MARGIN + 58.0,
        right: f64::from(SIZE.0) - MARGIN,
        top: 150.0,
        bottom: f64::from(SIZE.1) - 72.0,
        name: "Loss (cross-entropy)",
        x_name: "learning rate",
        x: Axis::of_decades(exponent(first.rate), exponent(last.rate)),
        y: Axis::of_values(values, (0.0, f64::INFINITY)),
    };
    let picture = canvas::paint(SIZE, 3, |canvas| {
        canvas.text(
            (MARGIN, 48.0),
            HPos::Left,
            TITLE,
            INK,
            &TITLE.fit(title, f64::from(SIZE.0) - 2.0 * MARGIN),
        )?;
        let text = match suggested {
            Ok(rate) => format!("suggested: {rate:.1e} (dashed); blue: smoothed, grey: each step"),
            Err(why) => format!("{why}; blue: smoothed, grey: each step"),
        };
        let text = LABEL.fit(&text, f64::from(SIZE.0) - 2.0 * MARGIN);
        canvas.text((MARGIN, 88.0), HPos::Left, LABEL, INK, &text)?;
        panel.draw_axes(canvas)?;
        if let Ok(rate) = suggested {
            panel.mark(canvas, exponent(rate))?;
        }
        panel.draw_line(canvas, &raw, LineStyle::of(FAINT))?;
        panel.draw_line(canvas, &smooth, LineStyle::of(COLORS[0]))
    })?;
    canvas::save(path, &picture)
}
