//! Shares of a run that are submitted one after the other.
//!
//! Drivers take a GPU for hung that works on one submission for some seconds (2 s by Windows' and
//! Linux' watchdogs), and reset it. So a run that may take a slow GPU long goes in several.

use std::ops::Range;

use crate::ops::Cost;

/// Multiplications and additions a second of a slow integrated GPU.
const SLOW_FLOPS: f64 = 1e11;
/// Bytes a second of one.
const SLOW_BYTES: f64 = 1e10;
/// Seconds that one submission may take it: far from two, because a GPU is shared with a screen.
pub const INTEGRATED: f64 = 0.25;
/// The same for a discrete GPU, the slowest of which are twenty times as fast.
pub const DISCRETE: f64 = 20.0 * INTEGRATED;

/// Seconds that a step takes a slow integrated GPU.
pub fn seconds(cost: Cost) -> f64 {
    (cost.flops as f64 / SLOW_FLOPS).max(cost.bytes as f64 / SLOW_BYTES)
}

/// Steps of each submission: as many as stay below `limit` seconds, but one at least. There is
/// always one submission.
pub fn split(costs: impl IntoIterator<Item = Cost>, limit: f64) -> Vec<Range<usize>> {
    let mut shares: Vec<Range<usize>> = Vec::new();
    let mut taken = 0.0;
    for (step, cost) in costs.into_iter().enumerate() {
        taken += seconds(cost);
        match shares.last_mut() {
            Some(last) if taken <= limit => last.end = step + 1,
            _ => {
                shares.push(step..step + 1);
                taken = seconds(cost);
            }
        }
    }
    if shares.is_empty() {
        shares.push(0..0);
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_submission_ends_before_it_takes_too_long() {
        let second = Cost { flops: SLOW_FLOPS as u64, bytes: 0 };
        let half = Cost { flops: 0, bytes: SLOW_BYTES as u64 / 2 };
        assert_eq!(split([half, half, second, half, second], 1.0), [0..2, 2..3, 3..4, 4..5]);
        assert_eq!(split([second, second], 0.1), [0..1, 1..2], "one step cannot be cut");
        assert_eq!(split([half; 3], 10.0).len(), 1);
        assert_eq!(split([], 1.0).len(), 1);
    }
}
