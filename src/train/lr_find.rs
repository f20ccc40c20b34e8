//! The learning-rate range test (Smith 2017): a training whose rate rises from step to step, until
//! the loss explodes.

use super::features::BatchSource;
use super::plans::{self, Totals};
use super::schedules::Schedule;
use super::settings::Settings;
use super::stage::{Stage, StepContext};
use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::exec::Device;
use crate::report::Trial;

/// The test ends where a loss is so many times the first.
const EXPLODED: f64 = 4.0;
/// A loss is smoothed over so many steps before and after it.
const WINDOW: usize = 5;

/// Trains with the settings' model and optimizer for at most `steps` steps, at rates from `range.0`
/// to `range.1`. No weights are kept.
///
/// # Errors
/// If the settings do not fit the data, the device fails, or `goes_on`, which hears how many steps
/// are done of how many, says no ([`Error::Interrupted`]).
pub fn find(
    device: &mut dyn Device,
    settings: &Settings,
    data: &Dataset,
    range: (f32, f32),
    steps: usize,
    mut goes_on: impl FnMut(usize, usize) -> bool,
) -> Result<Vec<Trial>> {
    settings.check()?;
    data.check_labels()?;
    settings.check_against(data.train.len())?;
    let spec = super::spec(settings, data)?;
    let program = plans::training(&spec, settings, &data.train)?;
    let config = settings.config(data.train.len()).of_images(&data.train.labels, &data.classes)?;
    let stage =
        Stage::load(device, None, &program, &program.parameters, BatchSource::of(&data.train), config)?;
    plans::upload(device, stage.plan, "train", &data.train)?;
    let values = plans::initial_values_for(&program.parameters, settings.seed, &spec, &data.train)?;
    plans::write_parameters(device, stage.plan, &program.parameters, &values)?;
    let mut trials: Vec<Trial> = Vec::new();
    for step in 0..steps {
        if !goes_on(step, steps) {
            return Err(Error::Interrupted);
        }
        let config = &stage.config;
        let order = config.order(step / config.steps());
        let batch = &order[step % config.steps() * settings.batch_size..][..settings.batch_size];
        let rate = range.0 * (range.1 / range.0).powf(step as f32 / (steps.max(2) - 1) as f32);
        stage.run(device, batch, StepContext::at_rate(rate, step))?;
        let loss = stage.collect(device, true)?.iter().map(Totals::mean_loss).sum::<f64>();
        let first = trials.first().map_or(loss, |trial| trial.loss);
        if !loss.is_finite() || loss > EXPLODED * first {
            break;
        }
        trials.push(Trial { rate, loss, smooth: loss });
    }
    stage.unload(device)?;
    smooth(&mut trials);
    Ok(trials)
}

/// The mean over the neighbours, so that the smoothed loss does not lag behind the rate.
fn smooth(trials: &mut [Trial]) {
    let losses: Vec<f64> = trials.iter().map(|trial| trial.loss).collect();
    for (i, trial) in trials.iter_mut().enumerate() {
        let near = &losses[i.saturating_sub(WINDOW)..losses.len().min(i + WINDOW + 1)];
        trial.smooth = near.iter().sum::<f64>() / near.len() as f64;
    }
}

/// The rate to train with; none where the loss never falls. Where the loss is lowest, it is about
/// to rise: a schedule that only passes its highest rate can go as far, a constant rate should stay
/// at a tenth.
pub fn suggest(trials: &[Trial], schedule: &Schedule) -> Option<f32> {
    let lowest = trials.iter().reduce(|low, trial| if trial.smooth < low.smooth { trial } else { low })?;
    let fell = lowest.smooth < 0.995 * trials[0].smooth;
    let share = if schedule.is_constant() { 0.1 } else { 1.0 };
    fell.then_some(share * lowest.rate)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::schedules::{CONSTANT, ONE_CYCLE};

    fn trials(losses: &[f64]) -> Vec<Trial> {
        let trial = |(i, &loss): (usize, &f64)| Trial { rate: 10f32.powi(i as i32 - 4), loss, smooth: loss };
        losses.iter().enumerate().map(trial).collect()
    }

    #[test]
    fn the_suggestion_lies_below_the_lowest() {
        let falling = trials(&[2.3, 2.2, 1.9, 1.5, 3.0]);
        for (schedule, expected) in [(&CONSTANT, 0.01), (&ONE_CYCLE, 0.1)] {
            let found = suggest(&falling, schedule).unwrap();
            assert!((found / expected - 1.0).abs() < 1e-5, "{found}");
        }
        assert_eq!(suggest(&trials(&[2.3, 2.299, 2.31]), &ONE_CYCLE), None);
        assert_eq!(suggest(&[], &ONE_CYCLE), None);
    }

    #[test]
    fn smoothing_does_not_shift() {
        let valley: Vec<f64> = (0..31).map(|i: i32| f64::from((i - 15).abs())).collect();
        let mut trials = trials(&valley);
        smooth(&mut trials);
        let lowest = (0..31).fold(0, |low, i| if trials[i].smooth < trials[low].smooth { i } else { low });
        assert_eq!(lowest, 15);
        assert!((trials[15].smooth - 30.0 / 11.0).abs() < 1e-12 && (trials[0].smooth - 12.5).abs() < 1e-12);
    }
}
