//! First contact: before a device is trusted with a program, it and the CPU run it once on the same
//! values, and must find the same.
//!
//! Compilers of drivers have bugs, and a training on wrong gradients looks like one that learns
//! badly. Both devices get a plan and states of their own, so that whatever else they hold stays as
//! it is. Both are timed, too: [`Verdict::favours_cpu`] is what chooses between them.

mod left;
mod verdicts;

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::exec::{Device, PlanId, Precision};
use crate::graph::Graph;
pub use left::Wrong;
use left::{Left, first_wrong, left};
pub use verdicts::{Identity, Verdicts};

/// How long runs are repeated to find how long one takes.
const TIMED: Duration = Duration::from_millis(200);

/// Writes states and inputs to a plan that a device has loaded.
pub type Fill = Box<dyn Fn(&mut dyn Device, PlanId) -> Result<()>>;

/// A program with the values that it runs on.
pub struct Trial {
    /// The program.
    pub graph: Graph,
    /// Images of a run.
    pub images: usize,
    /// Names of the states that an optimizer moves.
    pub parameters: Vec<String>,
    /// Gives a plan of the graph its values.
    pub fill: Fill,
}

/// How long a program takes on a device that computes it as the CPU does.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// Images of a run.
    pub images: usize,
    /// Seconds of a run on the device.
    pub device_seconds: f64,
    /// Seconds of a run on the CPU.
    pub cpu_seconds: f64,
}

impl Verdict {
    /// Several programs, one after the other, as one.
    pub fn total(verdicts: &[Verdict]) -> Verdict {
        let sum = |of: fn(&Verdict) -> f64| verdicts.iter().map(of).sum();
        Verdict {
            images: verdicts.iter().map(|verdict| verdict.images).max().unwrap_or(0),
            device_seconds: sum(|verdict| verdict.device_seconds),
            cpu_seconds: sum(|verdict| verdict.cpu_seconds),
        }
    }

    /// Whether the CPU is the faster of the two.
    pub fn favours_cpu(&self) -> bool {
        self.cpu_seconds < self.device_seconds
    }

    /// Images a second on the device and on the CPU.
    pub fn rates(&self) -> [f64; 2] {
        [self.device_seconds, self.cpu_seconds].map(|seconds| self.images as f64 / seconds)
    }
}

/// Runs a program on the device and on the CPU; the inner error is what the device has wrong.
///
/// # Errors
/// If one of them fails.
pub fn compare(
    device: &mut dyn Device,
    cpu: &mut dyn Device,
    trial: &Trial,
) -> Result<std::result::Result<Verdict, Wrong>> {
    let (expected, cpu_seconds) = run(cpu, trial)?;
    let (found, device_seconds) = run(device, trial)?;
    Ok(match first_wrong(&found, &expected, &trial.parameters, device.precision()) {
        Some(wrong) => Err(wrong),
        None => Ok(Verdict { images: trial.images, device_seconds, cpu_seconds }),
    })
}

/// Runs a program: what its first run left, and the seconds that one takes when everything is
/// compiled.
fn run(device: &mut dyn Device, trial: &Trial) -> Result<(Left, f64)> {
    let plan = device.plan(&trial.graph)?;
    let id = device.load_plan(plan.clone(), None)?;
    let result = (trial.fill)(device, id).and_then(|()| {
        device.run(id)?;
        Ok((left(device, id, &plan)?, seconds(device, id)?))
    });
    device.unload(id)?;
    result
}

/// The fastest of some runs.
fn seconds(device: &mut dyn Device, plan: PlanId) -> Result<f64> {
    let (begin, mut fastest) = (Instant::now(), f64::INFINITY);
    while begin.elapsed() < TIMED {
        let begin = Instant::now();
        device.run(plan)?;
        device.wait()?;
        fastest = fastest.min(begin.elapsed().as_secs_f64());
    }
    // No clock is so coarse that this is no time at all, but rates must be finite.
    Ok(fastest.max(1e-9))
}

impl Verdicts {
    /// The verdict on the device about a program: that of an earlier contact, or of one now.
    ///
    /// # Errors
    /// If the device computes something else than the CPU, or one of them fails.
    pub fn examine(&self, device: &mut dyn Device, cpu: &mut dyn Device, trial: &Trial) -> Result<Verdict> {
        if let Some(verdict) = self.known(trial) {
            return Ok(verdict);
        }
        let verdict = compare(device, cpu, trial)?.map_err(|wrong| {
            let Identity { device: name, driver, .. } = &self.identity;
            let advice = match device.precision() {
                Precision::F32 => "`cifar-engine doctor` with the same `device` finds the op; update the driver, or choose",
                Precision::F16 => "choose `precision` f32; update the driver, or choose",
            };
            Error::Failed(format!(
                "{name} (driver {driver}) does not compute what the CPU does: after one step {wrong}; {advice} another \
                 `device`; `no_check` goes on all the same"
            ))
        })?;
        self.keep(trial, verdict);
        Ok(verdict)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_faster_is_taken() {
        let verdict = |device_seconds, cpu_seconds| Verdict { images: 100, device_seconds, cpu_seconds };
        assert!(verdict(2.0, 1.0).favours_cpu() && !verdict(1.0, 2.0).favours_cpu());
        assert!(!verdict(1.0, 1.0).favours_cpu(), "a GPU leaves the CPU to others");
        assert_eq!(verdict(2.0, 0.5).rates(), [50.0, 200.0]);
        // What is lost with one program may be won with another.
        let total = Verdict::total(&[verdict(2.0, 1.0), verdict(1.0, 4.0)]);
        assert_eq!(total, verdict(3.0, 5.0));
    }
}
