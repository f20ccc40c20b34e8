//! Learning-rate schedules: a row each of [`SCHEDULES`], where options, help and settings find it.

use std::f32::consts::PI;

use crate::registry::registry;

/// All schedules.
pub static SCHEDULES: &[&Schedule] = &[&ONE_CYCLE, &COSINE, &LINEAR, &CONSTANT];

/// Up in a straight line over the first quarter, then down to zero.
pub static ONE_CYCLE: Schedule = Schedule {
    name: "one-cycle",
    about: "Up in a straight line over the first quarter, then down to zero (after Smith 2018)",
    rate_at: |peak, t| if t < WARM_UP { peak * t / WARM_UP } else { peak * (1.0 - t) / (1.0 - WARM_UP) },
};

/// Half a cosine.
pub static COSINE: Schedule = Schedule {
    name: "cosine",
    about: "Half a cosine from the rate to zero (Loshchilov and Hutter 2017)",
    rate_at: |peak, t| peak * 0.5 * (1.0 + (PI * t).cos()),
};

/// Down in a straight line.
pub static LINEAR: Schedule = Schedule {
    name: "linear",
    about: "Down in a straight line from the rate to zero",
    rate_at: |peak, t| peak * (1.0 - t),
};

/// One rate, which no number of epochs changes: [`Schedule::is_constant`].
pub static CONSTANT: Schedule =
    Schedule { name: "constant", about: "The same rate throughout", rate_at: |peak, _| peak };

/// The share of a one-cycle training in which the rate rises.
const WARM_UP: f32 = 0.25;

/// How the rate moves over a training.
#[derive(Debug)]
pub struct Schedule {
    /// In options, files and messages.
    pub name: &'static str,
    /// Description in one line of a help text.
    pub about: &'static str,
    /// The rate when the share `t` of a training is over, for a highest rate `peak`.
    pub rate_at: fn(peak: f32, t: f32) -> f32,
}

registry!(Schedule, "schedule", SCHEDULES);

impl Schedule {
    /// The rate of step `step` (from 0) of `steps`, for a highest rate `peak`.
    pub fn rate(&self, peak: f32, step: usize, steps: usize) -> f32 {
        // The middle of the step, so that neither the first nor the last is wasted on a rate of
        // zero.
        (self.rate_at)(peak, (step as f32 + 0.5) / steps as f32)
    }

    /// Whether a training under it can be made longer, or its rate be lowered by something else.
    pub fn is_constant(&self) -> bool {
        *self == CONSTANT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_cycle_peaks_after_a_quarter_and_ends_near_zero() {
        let rates: Vec<f32> = (0..100).map(|step| ONE_CYCLE.rate(2.0, step, 100)).collect();
        let peak = (0..100).fold(0, |best, i| if rates[i] > rates[best] { i } else { best });
        assert!((24..=25).contains(&peak) && rates[peak] > 1.95);
        assert!(rates[0] > 0.0 && rates[0] < 0.1 && rates[99] > 0.0 && rates[99] < 0.1);
        assert!((0.99..1.01).contains(&COSINE.rate(2.0, 50, 101)));
        assert_eq!(LINEAR.rate(2.0, 50, 101), 1.0);
        assert_eq!(CONSTANT.rate(2.0, 99, 100), 2.0);
    }

    #[test]
    fn no_schedule_rises_over_its_peak_and_all_but_one_end_near_zero() {
        for schedule in SCHEDULES {
            let rates: Vec<f32> = (0..100).map(|step| schedule.rate(2.0, step, 100)).collect();
            assert!(rates.iter().all(|rate| (0.0..=2.0).contains(rate)), "{schedule}");
            assert_eq!(rates[99] < 0.1, !schedule.is_constant(), "{schedule}");
        }
    }
}
