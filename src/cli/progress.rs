//! What a training shows while it runs: a bar on a terminal, a line an epoch elsewhere.

use std::io::IsTerminal;
use std::time::Instant;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::stopped;
use crate::console::{self, Level};
use crate::error::escaped;
use crate::report::EpochMetrics;
use crate::train::{Observer, StepProgress};

/// Shows a training on standard error.
pub struct Display {
    bar: Option<ProgressBar>,
    epochs: usize,
    begin: Instant,
}

impl Display {
    pub fn new(epochs: usize) -> Self {
        let bar = (console::says(Level::Normal) && std::io::stderr().is_terminal()).then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(5));
            let template = "{prefix} {bar:24} {pos}/{len} {msg}";
            bar.set_style(
                ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()),
            );
            bar
        });
        Display { bar, epochs, begin: Instant::now() }
    }

    /// Ends the bar, so that what follows begins on a line of its own.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// `3m05s`.
pub fn duration(seconds: f64) -> String {
    let seconds = seconds.round().max(0.0) as u64;
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s}s"),
        (0, m, s) => format!("{m}m{s:02}s"),
        (h, m, _) => format!("{h}h{m:02}m"),
    }
}

impl Observer for Display {
    fn step(&mut self, p: &StepProgress) {
        if let Some(bar) = &self.bar {
            let done = (p.epoch - 1) as f64 + p.step as f64 / p.steps as f64;
            let left = self.begin.elapsed().as_secs_f64() / done * (p.epochs as f64 - done);
            bar.set_length(p.steps as u64);
            bar.set_position(p.step as u64);
            bar.set_prefix(format!("epoch {}/{}", p.epoch, p.epochs));
            bar.set_message(format!(
                "loss {:.4} acc {:.2} % {:.0} images/s, {} left",
                p.loss,
                100.0 * p.accuracy,
                p.images_per_s,
                duration(left)
            ));
        }
    }

    fn keep_going(&self) -> bool {
        !stopped()
    }

    fn epoch(&mut self, m: &EpochMetrics) {
        let validation = match (m.validation_loss, m.validation_accuracy) {
            (Some(loss), Some(accuracy)) => {
                format!("  validation loss {loss:.4} accuracy {:.2} %", 100.0 * accuracy)
            }
            _ => String::new(),
        };
        let line = format!(
            "epoch {:>2}/{}  loss {:.4} accuracy {:.2} %{validation}  rate {:.2e}  {:.0} images/s  {}",
            m.epoch,
            self.epochs,
            m.train_loss,
            100.0 * m.train_accuracy,
            m.rate,
            m.images_per_s,
            duration(m.seconds)
        );
        self.line(&line);
    }

    fn note(&mut self, text: &str) {
        self.line(text);
    }

    fn warn(&mut self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(escaped(&format!("warning: {text}"))),
            None => console::note(format_args!("warning: {text}")),
        }
    }
}

impl Display {
    /// A line above the bar.
    fn line(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.println(escaped(line)),
            None => console::info(line),
        }
    }
}
