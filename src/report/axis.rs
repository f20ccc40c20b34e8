//! An axis: which stretch of numbers it shows, at which round values it has ticks, and how those
//! are written.

/// Values larger than this are not drawn: the run has diverged, and the rest would be a flat line.
pub(crate) const LARGEST: f64 = 1e9;

#[derive(Debug, PartialEq)]
pub(crate) struct Axis {
    pub low: f64,
    pub high: f64,
    step: f64,
    first_tick: f64,
    /// No tick lies beyond this one.
    last_tick: f64,
    /// Whether values are powers of ten, of which the axis has the exponents.
    decades: bool,
}

impl Axis {
    /// Whole epochs; half an epoch of room at both ends, so that a single epoch has an axis too.
    pub(crate) fn of_epochs(first: usize, last: usize) -> Axis {
        let (first, last) = (first as f64, last as f64);
        let step = round_step((last - first) / 10.0).max(1.0);
        let room = 0.5f64.max((last - first) * 0.02);
        let first_tick = if step == 1.0 { first } else { (first / step).ceil() * step };
        Axis { low: first - room, high: last + room, step, first_tick, last_tick: last, decades: false }
    }

    /// Round ends that take in all of `values`, and stay within `limits` where values do.
    /// `values` are finite and of size [`LARGEST`] at most; there may be none.
    pub(crate) fn of_values(values: impl Iterator<Item = f64> + Clone, limits: (f64, f64)) -> Axis {
        let mut low = values.clone().fold(f64::INFINITY, f64::min);
        let mut high = values.fold(f64::NEG_INFINITY, f64::max);
        if low > high {
            (low, high) = (0.0, 1.0);
        }
        // A nearly flat line, one epoch for example, should look flat, not blown up to the panel's
        // height.
        let least = (high.abs().max(low.abs()) * 0.02).max(1e-6);
        if high - low < least {
            let middle = (low + high) / 2.0;
            let room = (middle.abs() * 0.05).max(0.01);
            (low, high) = (middle - room, middle + room);
            (low, high) = (low.max(limits.0.min(middle)), high.min(limits.1.max(middle)));
        }
        let step = round_step((high - low) / 6.0);
        let low = (low / step + 1e-9).floor() * step;
        let high = (high / step - 1e-9).ceil() * step;
        Axis { low, high, step, first_tick: low, last_tick: high, decades: false }
    }

    /// Exponents from `low` to `high`, with a tick at each whole one.
    pub(crate) fn of_decades(low: f64, high: f64) -> Axis {
        let (low, high) = (low.min(high - 0.1), high);
        Axis { low, high, step: 1.0, first_tick: low.ceil(), last_tick: high.floor(), decades: true }
    }

    pub(crate) fn ticks(&self) -> Vec<f64> {
        let most = ((self.last_tick - self.first_tick) / self.step + 1e-6).floor();
        (0..=most.clamp(0.0, 40.0) as usize).map(|i| self.first_tick + i as f64 * self.step).collect()
    }

    /// `value` as a share of the axis: 0 at its low end, 1 at its high end.
    pub(crate) fn share(&self, value: f64) -> f64 {
        (value - self.low) / (self.high - self.low)
    }

    /// A tick's label, with as many decimals as the ticks need to differ.
    pub(crate) fn label(&self, tick: f64) -> String {
        if self.decades {
            return format!("1e{tick:.0}");
        }
        let largest = self.high.abs().max(self.low.abs());
        if tick.abs() < self.step * 1e-6 {
            return "0".into();
        }
        if largest >= 1e5 {
            return format!("{tick:.2e}");
        }
        if largest < 1e-3 {
            // Learning rates, for which many zeros would need much room.
            let decimals = (tick.abs().log10() + 1e-9).floor() - (self.step.log10() + 1e-9).floor();
            return format!("{tick:.0$e}", decimals.max(0.0) as usize);
        }
        let decimals = (-self.step.log10() - 1e-9).ceil().clamp(0.0, 9.0) as usize;
        format!("{tick:.decimals$}")
    }
}

/// The smallest of 1, 2, 5, 10, 20, ... (or a tenth of these, and so on) that is not below `raw`.
fn round_step(raw: f64) -> f64 {
    let power = 10f64.powf(raw.max(1e-9).log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * power >= raw * (1.0 - 1e-9));
    factor.unwrap_or(10.0) * power
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[f64], limits: (f64, f64)) -> Axis {
        Axis::of_values(values.iter().copied(), limits)
    }

    #[test]
    fn epoch_ticks_are_whole() {
        assert_eq!(Axis::of_epochs(1, 1).ticks(), [1.0]);
        assert_eq!(Axis::of_epochs(1, 5).ticks(), [1.0, 2.0, 3.0, 4.0, 5.0]);
        assert_eq!(Axis::of_epochs(1, 30).ticks(), [5.0, 10.0, 15.0, 20.0, 25.0, 30.0]);
        assert_eq!(Axis::of_epochs(1, 1).label(1.0), "1");
        for last in 1..400 {
            let axis = Axis::of_epochs(1, last);
            let ticks = axis.ticks();
            assert!(!ticks.is_empty() && ticks.len() <= 11, "{last}: {ticks:?}");
            assert!(ticks.iter().all(|tick| tick.fract() == 0.0 && *tick >= 1.0 && *tick <= last as f64));
        }
    }

    #[test]
    fn value_axes_are_round_and_take_in_every_value() {
        let loss = of(&[0.31, 2.04], (0.0, f64::INFINITY));
        assert_eq!((loss.low, loss.high), (0.0, 2.5));
        assert_eq!(loss.label(0.5), "0.5");
        let accuracy = of(&[34.2, 99.7], (0.0, 100.0));
        assert_eq!((accuracy.low, accuracy.high), (20.0, 100.0));
        assert_eq!(accuracy.label(40.0), "40");
        for (low, high) in
            [(0.0, 1e-12), (-LARGEST, LARGEST), (1e9 - 1.0, 1e9), (0.1, 0.1000001), (99.0, 100.0)]
        {
            let axis = of(&[low, high], (f64::NEG_INFINITY, f64::INFINITY));
            assert!(axis.low <= low && axis.high >= high && axis.high > axis.low, "{axis:?}");
            let ticks = axis.ticks();
            assert!((3..=12).contains(&ticks.len()), "{axis:?}");
            let labels: std::collections::BTreeSet<String> = ticks.iter().map(|t| axis.label(*t)).collect();
            assert_eq!(labels.len(), ticks.len(), "{axis:?}: {labels:?}");
        }
    }

    #[test]
    fn the_labels_of_small_values_are_short() {
        let labels = |high| {
            let axis = of(&[0.0, high], (0.0, f64::INFINITY));
            axis.ticks().into_iter().map(|tick| axis.label(tick)).collect::<Vec<_>>()
        };
        assert_eq!(labels(1.98e-4), ["0", "5e-5", "1.0e-4", "1.5e-4", "2.0e-4"]);
        for high in [1e-5, 2.5e-5, 4e-4, 9.9e-4, 0.02, 0.5, 9000.0] {
            assert!(labels(high).iter().all(|label| label.len() <= 6), "{:?}", labels(high));
        }
    }

    #[test]
    fn decades_have_a_tick_at_each_power_of_ten() {
        let axis = Axis::of_decades(-4.3, 1.0);
        assert_eq!(axis.ticks(), [-4.0, -3.0, -2.0, -1.0, 0.0, 1.0]);
        assert_eq!((axis.label(-4.0).as_str(), axis.label(0.0).as_str()), ("1e-4", "1e0"));
        assert!(Axis::of_decades(1.0, 1.0).share(1.0) == 1.0);
    }

    #[test]
    fn flat_and_missing_values_have_an_axis_within_the_limits() {
        for value in [0.0, 100.0, 37.5] {
            let axis = of(&[value, value], (0.0, 100.0));
            assert!(axis.low >= 0.0 && axis.high <= 100.0 && axis.high > axis.low, "{axis:?}");
        }
        assert_eq!(of(&[], (0.0, 100.0)).ticks().len(), 6);
    }
}
