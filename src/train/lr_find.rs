//! The learning-rate range test (Smith 2017): a training whose rate rises from step to step, until
//! the loss explodes.

use super::features::BatchSource;
use super::plans::{self, Totals};
use super::schedules::Schedule;
use super::settings::Settings;
use super::stage::{Stage, StepContext};
use super::{Observer, Phase};
use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::exec::Device;
use crate::report::Trial;

/// The test ends where a loss is so many times the first, and that of guessing.
const EXPLODED: f64 = 4.0;
/// A loss is smoothed over so many steps before and after it.
const WINDOW: usize = 5;
/// A loss that falls by less than this share of it has not fallen.
const LEAST_FALL: f64 = 0.005;
/// A fall of fewer standard errors may be chance: of all rates it is the largest.
const SURE: f64 = 3.0;
/// A rise of more standard errors is harm.
const HARM: f64 = 2.0;
/// Steps that change no weight, in which statistics become those of the new images: otherwise their
/// change, which no rate is to blame for, would look like harm.
const STATISTICS: usize = 30;
/// Fewer images that are held back tell nothing.
const LEAST_HELD_BACK: usize = 20;

/// The rates of a test.
#[derive(Clone, Copy, Debug)]
pub struct Range {
    /// That of the first step.
    pub from: f32,
    /// That of the last.
    pub to: f32,
    /// How many steps there are at most.
    pub steps: usize,
}

impl Range {
    /// The rate of a step, from 0: each is the same multiple of the one before.
    fn rate(&self, step: usize) -> f32 {
        self.from * (self.to / self.from).powf(step as f32 / (self.steps.max(2) - 1) as f32)
    }
}

/// The losses of a test.
#[derive(Clone, Debug, Default)]
pub struct Curve {
    /// Every step.
    pub trials: Vec<Trial>,
    /// By how much the smoothed loss falls, from the first step to the lowest.
    pub fall: f64,
    /// Standard error of that: what other images would change it by.
    pub error: f64,
    /// Images held back on which the loss was measured; 0 where it is that of the steps' own.
    pub held_back: usize,
    /// The steps before the first that does harm: after which the loss of the images held back has
    /// risen by more than chance. A classifier that is fitted has little to gain in so few steps,
    /// but much to lose.
    pub harmless: usize,
}

/// Why a rate is suggested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The loss is lowest there.
    Lowest,
    /// It is the highest that does no harm; none does good.
    Harmless,
}

/// A test that suggests no rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nothing {
    /// The loss never fell.
    NoFall,
    /// It fell by no more than chance makes it fall with so few images.
    Chance,
    /// The lowest rate already raised the loss of images that are held back.
    Harm,
}

impl Nothing {
    /// Says it in a few words.
    pub fn in_short(self) -> &'static str {
        match self {
            Nothing::NoFall => "no learning rate lowered the loss",
            Nothing::Chance => "the loss fell by no more than chance may do",
            Nothing::Harm => "every learning rate raised the loss of images that are held back",
        }
    }
}

/// Trains with the settings' model and optimizer at the rates of a range. No weights are kept.
///
/// # Errors
/// If the settings do not fit the data, the device fails, or the observer stops it
/// ([`Error::Interrupted`]).
pub fn find(
    device: &mut dyn Device,
    settings: &Settings,
    data: &Dataset,
    range: Range,
    observer: &mut dyn Observer,
) -> Result<Curve> {
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
    let curve = rise(device, (&stage, spec.classes.len()), range, observer)?;
    stage.unload(device)?;
    Ok(curve)
}

/// Makes the steps of a stage, each at a higher rate. The loss is that of the images for
/// validation, if the stage has some, otherwise that of the step's own.
pub(super) fn rise(
    device: &mut dyn Device,
    (stage, classes): (&Stage, usize),
    range: Range,
    observer: &mut dyn Observer,
) -> Result<Curve> {
    let (config, steps) = (&stage.config, range.steps);
    let guessing = (classes as f64).ln();
    let batch_size = config.settings.batch_size;
    let batch = |step: usize| {
        let order = config.order(step / config.steps());
        order[step % config.steps() * batch_size..][..batch_size].to_vec()
    };
    let frozen = config.settings.finetune.as_ref().is_none_or(|finetune| finetune.frozen_statistics);
    for step in (0..STATISTICS).filter(|_| !frozen) {
        stage.run(device, &batch(step), StepContext::at_rate(0.0, step))?;
        stage.collect(device, true)?;
    }
    stage.clear(device)?;
    let mut trials: Vec<Trial> = Vec::new();
    // Of each step, the loss of every image that is held back.
    let mut measured: Vec<Vec<f64>> = Vec::new();
    for step in 0..steps {
        if !observer.goes_on(Phase::Rates, step, steps) {
            return Err(Error::Interrupted);
        }
        let rate = range.rate(step);
        stage.run(device, &batch(step), StepContext::at_rate(rate, step))?;
        let mut loss = stage.collect(device, true)?.iter().map(Totals::mean_loss).sum::<f64>();
        if let Some(validation) = &stage.validation {
            let losses = validation.losses(device, |_, _| observer.keep_going())?;
            loss = mean(&losses);
            measured.push(losses);
        }
        let first = trials.first().map_or(loss, |trial| trial.loss);
        if !loss.is_finite() || loss > EXPLODED * first.max(guessing) {
            break;
        }
        trials.push(Trial { rate, loss, smooth: loss });
    }
    smooth(&mut trials);
    Ok(Curve::of(trials, &measured))
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn variance(values: &[f64]) -> f64 {
    let mean = mean(values);
    values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (values.len() - 1).max(1) as f64
}

impl Curve {
    /// That of smoothed trials, and of each the losses of images that are held back, if there are
    /// any.
    fn of(trials: Vec<Trial>, measured: &[Vec<f64>]) -> Curve {
        let Some(lowest) = lowest(&trials) else { return Curve::default() };
        let fall_to = |at: usize| trials[0].smooth - trials[at].smooth;
        let (error, harmless) = match measured.first() {
            // The same images before and after: what they have in common is in no difference.
            Some(first) => {
                let error = |at: usize| {
                    let falls: Vec<f64> = first.iter().zip(&measured[at]).map(|(a, b)| a - b).collect();
                    (variance(&falls) / falls.len() as f64).sqrt()
                };
                let least = LEAST_FALL * trials[0].smooth;
                let harms = |at: &usize| -fall_to(*at) > least.max(HARM * error(*at));
                (error(lowest), (0..trials.len()).find(harms).unwrap_or(trials.len()))
            }
            // Of other images in each step, by how these differ from their neighbours' mean.
            None => {
                let around =
                    |at: usize| (trials.len().min(at + WINDOW + 1) - at.saturating_sub(WINDOW)) as f64;
                let rest: Vec<f64> =
                    trials[..=lowest].iter().map(|trial| trial.loss - trial.smooth).collect();
                ((variance(&rest) * (1.0 / around(0) + 1.0 / around(lowest))).sqrt(), 0)
            }
        };
        let (fall, held_back) = (fall_to(lowest), measured.first().map_or(0, Vec::len));
        Curve { trials, fall, error, held_back, harmless }
    }

    /// The rate to train with. Where the loss is lowest, or the last without harm, it is about to
    /// rise: a schedule that only passes its highest rate can go as far, a constant rate should
    /// stay at a tenth.
    ///
    /// # Errors
    /// If nothing is to be suggested, and why.
    pub fn suggest(&self, schedule: &Schedule) -> std::result::Result<(f32, Why), Nothing> {
        let lowest = lowest(&self.trials).ok_or(Nothing::NoFall)?;
        let falls = self.fall > LEAST_FALL * self.trials[0].smooth;
        let (at, why) = if falls && self.fall > SURE * self.error {
            (lowest, Why::Lowest)
        } else if self.held_back < LEAST_HELD_BACK {
            return Err(if falls { Nothing::Chance } else { Nothing::NoFall });
        } else if self.harmless < 2 {
            return Err(Nothing::Harm);
        } else {
            (self.harmless - 1, Why::Harmless)
        };
        let share = if schedule.is_constant() { 0.1 } else { 1.0 };
        Ok((share * self.trials[at].rate, why))
    }
}

/// The first step after which the smoothed loss is lowest.
fn lowest(trials: &[Trial]) -> Option<usize> {
    (0..trials.len()).reduce(|low, at| if trials[at].smooth < trials[low].smooth { at } else { low })
}

/// The mean over the neighbours, so that the smoothed loss does not lag behind the rate.
fn smooth(trials: &mut [Trial]) {
    let losses: Vec<f64> = trials.iter().map(|trial| trial.loss).collect();
    for (i, trial) in trials.iter_mut().enumerate() {
        let near = &losses[i.saturating_sub(WINDOW)..losses.len().min(i + WINDOW + 1)];
        trial.smooth = near.iter().sum::<f64>() / near.len() as f64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::rng::{self, Stream};
    use crate::train::schedules::{CONSTANT, ONE_CYCLE};

    fn trials(losses: &[f64]) -> Vec<Trial> {
        let trial = |(i, &loss): (usize, &f64)| Trial { rate: 10f32.powi(i as i32 - 4), loss, smooth: loss };
        losses.iter().enumerate().map(trial).collect()
    }

    #[test]
    fn the_suggestion_lies_below_the_lowest() {
        let falling = Curve::of(trials(&[2.3, 2.2, 1.9, 1.5, 3.0]), &[]);
        for (schedule, expected) in [(&CONSTANT, 0.01), (&ONE_CYCLE, 0.1)] {
            let (found, why) = falling.suggest(schedule).unwrap();
            assert_eq!(why, Why::Lowest);
            assert!((found / expected - 1.0).abs() < 1e-5, "{found}");
        }
        assert_eq!(Curve::of(trials(&[2.3, 2.299, 2.31]), &[]).suggest(&ONE_CYCLE), Err(Nothing::NoFall));
        assert_eq!(Curve::of(trials(&[]), &[]).suggest(&ONE_CYCLE), Err(Nothing::NoFall));
    }

    /// Losses that go up and down by 0.4 at random, from 2 on, and by `fall` less at the end.
    fn noisy(fall: f64, seed: u32) -> Curve {
        let noise = |i: u32| f64::from(rng::unit(rng::draw(seed, Stream::Init, 0, i)[0])) - 0.5;
        let at = |i: u32| 2.0 + 0.8 * noise(i) - fall * f64::from(i) / 60.0;
        let losses = (0..60).map(at).collect::<Vec<f64>>();
        let trial = |(i, &loss): (usize, &f64)| Trial { rate: i as f32 + 1.0, loss, smooth: loss };
        let mut trials: Vec<Trial> = losses.iter().enumerate().map(trial).collect();
        smooth(&mut trials);
        Curve::of(trials, &[])
    }

    #[test]
    fn noise_suggests_nothing_and_a_fall_beyond_it_does() {
        let found = |fall| (0..200).filter(|&seed| noisy(fall, seed).suggest(&ONE_CYCLE).is_ok()).count();
        let (chance, real) = (found(0.0), found(1.0));
        assert!(chance <= 10, "{chance} of 200 are of nothing");
        assert!(real >= 195, "{real} of 200 fall by more than their noise");
    }

    /// A fall of one image in four is chance, one of the same size that most share is none.
    #[test]
    fn images_that_are_held_back_are_compared_with_themselves() {
        let suggested = |falls: &[f64]| {
            let first: Vec<f64> = (0..falls.len()).map(|i| i as f64).collect();
            let low: Vec<f64> = first.iter().zip(falls).map(|(loss, fall)| loss - fall).collect();
            let losses = [mean(&first), mean(&low)];
            let curve = Curve::of(trials(&losses), &[first, low]);
            assert_eq!((curve.held_back, curve.trials.len()), (falls.len(), 2));
            curve.suggest(&ONE_CYCLE)
        };
        assert_eq!(suggested(&[1.2, 0.0, 0.0, 0.0]), Err(Nothing::Chance));
        assert!(suggested(&[0.3, 0.25, 0.35, 0.3]).is_ok());
    }

    #[test]
    fn where_no_rate_does_good_the_highest_without_harm_is_suggested() {
        let first: Vec<f64> = (0..40).map(|i| f64::from(i % 4)).collect();
        let moved = |by: [f64; 2]| first.iter().enumerate().map(|(i, loss)| loss + by[i % 2]).collect();
        // Up and down, which is chance; a little up, which most share; then all of it.
        let measured: Vec<Vec<f64>> = [[0.0; 2], [0.4, -0.3], [0.02, 0.03], [0.3, 0.4]].map(moved).into();
        let losses: Vec<f64> = measured.iter().map(|losses| mean(losses)).collect();
        let curve = |held_back: usize| {
            let measured: Vec<Vec<f64>> = measured.iter().map(|all| all[..held_back].to_vec()).collect();
            Curve::of(trials(&losses), &measured)
        };
        assert_eq!(curve(40).harmless, 2);
        let (rate, why) = curve(40).suggest(&ONE_CYCLE).unwrap();
        assert!((rate / 1e-3 - 1.0).abs() < 1e-5 && why == Why::Harmless, "{rate}");
        assert_eq!(curve(16).suggest(&ONE_CYCLE), Err(Nothing::NoFall), "too few to tell harm");
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
