//! Progress of work as it goes on: a bar on a terminal, a line an epoch elsewhere.

use std::io::{IsTerminal, stderr};
use std::time::Instant;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::stopped;
use crate::console::{self, Level};
use crate::error::escaped;
use crate::report::EpochMetrics;
use crate::text::{duration, figure, grouped};
use crate::train::{Observer, Phase, StepProgress};

/// A bar on standard error, of `length` steps of what `prefix` says; hidden where nobody watches.
pub fn bar(prefix: &str, length: usize) -> ProgressBar {
    if !console::says(Level::Normal) || !stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let target = ProgressDrawTarget::stderr_with_hz(5);
    let template = match is_narrow() {
        true => "{prefix} {bar:10} {pos}/{len} {wide_msg}",
        false => "{prefix} {bar:20} {pos}/{len} {wide_msg}",
    };
    let style = ProgressStyle::with_template(template);
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::with_draw_target(Some(length as u64), target).with_style(style);
    bar.with_prefix(prefix.to_string())
}

/// Whether the terminal has no room for a line of an epoch with all that it has to say.
fn is_narrow() -> bool {
    const WIDE: usize = 116;
    console::error_width().is_some_and(|width| width < WIDE)
}

/// Shows a training on standard error.
pub struct Display {
    bar: ProgressBar,
    epochs: usize,
    /// When the phase between steps began that is under way.
    begin: Instant,
    /// Whether lines are to fit 80 columns.
    narrow: bool,
}

impl Display {
    pub fn new(epochs: usize) -> Self {
        Display { bar: bar("", 0), epochs, begin: Instant::now(), narrow: is_narrow() }
    }

    /// Ends the bar, so that what follows begins on a line of its own.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }

    /// A line above the bar.
    fn line(&self, line: &str) {
        if console::says(Level::Normal) {
            self.print(line);
        }
    }

    fn print(&self, line: &str) {
        // A bar that has begun nothing yet would be drawn as one that is done.
        match self.bar.is_hidden() || self.bar.length() == Some(0) {
            true => console::note(line),
            false => self.bar.println(escaped(&console::with_options(line))),
        }
    }
}

/// The time left, of the stage where there are several: others may be a hundred times faster.
fn time_left(p: &StepProgress) -> String {
    let left = duration(p.stage_seconds / p.stage_done.max(1) as f64 * p.stage_left as f64);
    match p.stages {
        0..=1 => format!("{left} left"),
        stages => format!("{left} left of stage {}/{stages}", p.stage),
    }
}

/// The figures of a step beside the bar.
fn step_figures(p: &StepProgress, narrow: bool) -> String {
    let (left, loss, accuracy) = (time_left(p), p.loss, 100.0 * p.accuracy);
    match narrow {
        true => format!("{left}, loss {loss:.4} {accuracy:.1} %"),
        false => {
            let speed = grouped(p.images_per_s as usize);
            format!("{left}, loss {loss:.4} accuracy {accuracy:.2} %, {speed} images/s")
        }
    }
}

/// The figures of an epoch in a line.
fn epoch_line(m: &EpochMetrics, epochs: usize, narrow: bool) -> String {
    let figures = |loss: f64, accuracy: f64| match narrow {
        true => format!("{loss:.4} {:.2} %", 100.0 * accuracy),
        false => format!("loss {loss:.4} accuracy {:.2} %", 100.0 * accuracy),
    };
    let train = figures(m.train_loss, m.train_accuracy);
    let validation = match (m.validation_loss, m.validation_accuracy) {
        (Some(loss), Some(accuracy)) => format!("  validation {}", figures(loss, accuracy)),
        _ => String::new(),
    };
    let (epoch, rate, time) = (m.epoch, figure(m.rate), duration(m.seconds));
    match narrow {
        true => format!("epoch {epoch:>2}/{epochs}  loss {train}{validation}  {time}"),
        false => {
            let speed = grouped(m.images_per_s.min(1e15) as usize);
            format!("epoch {epoch:>2}/{epochs}  {train}{validation}  rate {rate}  {speed} images/s  {time}")
        }
    }
}

impl Observer for Display {
    fn step(&mut self, p: &StepProgress) {
        if self.bar.is_hidden() {
            return;
        }
        self.bar.set_length(p.steps as u64);
        self.bar.set_position(p.step as u64);
        self.bar.set_prefix(format!("epoch {}/{}", p.epoch, p.epochs));
        // What does not fit the terminal is cut at the end.
        self.bar.set_message(step_figures(p, self.narrow));
    }

    fn phase(&mut self, phase: Phase, done: usize, of: usize) {
        if self.bar.is_hidden() {
            return;
        }
        if done == 0 {
            self.begin = Instant::now();
        }
        self.bar.set_length(of as u64);
        self.bar.set_position(done as u64);
        self.bar.set_prefix(match phase {
            Phase::Features => "features of the frozen layers",
            Phase::Validation => "validation",
            Phase::Test => "test",
            Phase::Rates => "learning rates",
            Phase::Search => "search for the first value that is not finite",
        });
        let left = self.begin.elapsed().as_secs_f64() / done.max(1) as f64 * (of - done) as f64;
        self.bar.set_message(if done > 0 { format!("{} left", duration(left)) } else { String::new() });
    }

    fn keep_going(&self) -> bool {
        !stopped()
    }

    fn epoch(&mut self, m: &EpochMetrics) {
        self.line(&epoch_line(m, self.epochs, self.narrow));
    }

    fn note(&mut self, text: &str) {
        self.line(text);
    }

    fn warn(&mut self, text: &str) {
        self.print(&format!("warning: {text}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A run that was resumed near its end, in the second of two stages.
    #[test]
    fn the_time_left_follows_from_what_this_process_did() {
        let p = StepProgress {
            epoch: 16,
            epochs: 20,
            step: 10,
            steps: 100,
            loss: 1.0,
            accuracy: 0.5,
            images_per_s: 100.0,
            stage: 1,
            stages: 1,
            stage_done: 10,
            stage_seconds: 5.0,
            stage_left: 490,
        };
        assert_eq!(time_left(&p), "4m05s left");
        let second = StepProgress { stage: 2, stages: 2, accuracy: 1.0, ..p };
        assert_eq!(time_left(&second), "4m05s left of stage 2/2");
        let before = "epoch 100/100 ".len() + 10 + " 1000/1000 ".len();
        let long = StepProgress { stage_left: 359_000, ..second };
        assert_eq!(step_figures(&long, true), "49h51m left of stage 2/2, loss 1.0000 100.0 %");
        assert!(before + step_figures(&long, true).len() <= 80);
    }

    #[test]
    fn a_line_of_an_epoch_fits_the_terminal() {
        let m = EpochMetrics {
            epoch: 100,
            train_loss: 2.2495,
            train_accuracy: 1.0,
            validation_loss: Some(2.0783),
            validation_accuracy: Some(1.0),
            rate: 0.00671,
            images_per_s: 1_234_567.8,
            seconds: 3599.0,
            validation_images: 5000,
            proof: None,
        };
        let (wide, narrow) = (epoch_line(&m, 100, false), epoch_line(&m, 100, true));
        assert!(narrow.len() < 80, "{narrow}");
        assert!(
            wide.contains("validation loss 2.0783 accuracy 100.00 %  rate 0.00671  1,234,567 images/s"),
            "{wide}"
        );
        let unvalidated = EpochMetrics { validation_loss: None, validation_accuracy: None, ..m };
        assert!(!epoch_line(&unvalidated, 100, true).contains("validation"));
    }
}
