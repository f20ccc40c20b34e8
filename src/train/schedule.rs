//! Learning-rate schedules.

use std::f32::consts::PI;

use serde::{Deserialize, Serialize};

/// How the rate moves over a training.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Schedule {
    /// Up in a straight line over the first quarter, then down to zero (after Smith 2018).
    OneCycle,
    /// Half a cosine from the rate to zero (Loshchilov and Hutter 2017).
    Cosine,
    /// The same rate throughout.
    Constant,
}

/// The share of a one-cycle training in which the rate rises.
const WARM_UP: f32 = 0.25;

impl Schedule {
    /// The rate of step `step` (from 0) of `steps`, for a highest rate `peak`.
    pub fn rate(self, peak: f32, step: usize, steps: usize) -> f32 {
        // The middle of the step, so that neither the first nor the last is wasted on a rate of zero.
        let t = (step as f32 + 0.5) / steps as f32;
        match self {
            Schedule::OneCycle if t < WARM_UP => peak * t / WARM_UP,
            Schedule::OneCycle => peak * (1.0 - t) / (1.0 - WARM_UP),
            Schedule::Cosine => peak * 0.5 * (1.0 + (PI * t).cos()),
            Schedule::Constant => peak,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_cycle_peaks_after_a_quarter_and_ends_near_zero() {
        let rates: Vec<f32> = (0..100).map(|step| Schedule::OneCycle.rate(2.0, step, 100)).collect();
        let peak = (0..100).fold(0, |best, i| if rates[i] > rates[best] { i } else { best });
        assert!((24..=25).contains(&peak) && rates[peak] > 1.95);
        assert!(rates[0] > 0.0 && rates[0] < 0.1 && rates[99] > 0.0 && rates[99] < 0.1);
        assert!((0.99..1.01).contains(&Schedule::Cosine.rate(2.0, 50, 101)));
        assert_eq!(Schedule::Constant.rate(2.0, 99, 100), 2.0);
    }
}
