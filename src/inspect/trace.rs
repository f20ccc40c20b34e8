//! The time of every step of a plan, beside what the machine could do at most.
//!
//! That is the roofline of Williams, Waterman and Patterson (2009): a step takes at least the time
//! of its operations at the machine's rate of arithmetic, and of its bytes at that of its memory.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::exec::plan::Step;
use crate::exec::{Device, PlanId};
use crate::kernels::peak::{Bound, Peak};

/// Notes of what a trace leaves out.
pub const NOT_SHOWN: &str = "not shown: what the host does between steps, steps that run once, and \
    times below the grain of the clock; without a clock for shaders a GPU's times have their submission in them";

/// A step and its time.
pub struct TimedStep {
    /// Number in the plan.
    pub number: usize,
    /// Name of its op.
    pub op: &'static str,
    /// Layer of the model that it belongs to.
    pub layer: String,
    /// Multiplications and additions.
    pub flops: u64,
    /// Bytes read and written.
    pub bytes: u64,
    /// Seconds that it takes.
    pub seconds: f64,
}

impl TimedStep {
    /// A step that took the middle one of `times`.
    fn new(number: usize, step: &Step, mut times: Vec<f64>) -> TimedStep {
        let cost = step.op.cost(&step.types);
        TimedStep {
            number,
            op: step.op.name(),
            layer: step.layer.clone(),
            flops: cost.flops,
            bytes: cost.bytes,
            seconds: median(&mut times),
        }
    }

    /// Op and layer, as messages name them.
    pub fn name(&self) -> String {
        format!("{} '{}'", self.op, self.layer)
    }

    /// An amount a second; none where the clock saw no time go by, or there is nothing.
    pub fn rate(&self, amount: u64) -> Option<f64> {
        (self.seconds > 0.0 && amount > 0).then(|| amount as f64 / self.seconds)
    }

    /// The shortest time in seconds that these peaks allow.
    pub fn floor(&self, peak: Peak) -> f64 {
        peak.floor(self.flops, self.bytes)
    }

    /// What that follows from.
    pub fn bound(&self, peak: Peak) -> Bound {
        peak.bound(self.flops, self.bytes)
    }
}

/// Times and costs of the steps of a plan, those left out that run once.
pub struct Trace {
    /// Steps in the order in which they run.
    pub steps: Vec<TimedStep>,
    /// Peak rates of the device, if it can measure them.
    pub peak: Option<Peak>,
    /// Seconds of a run as a whole, without a clock between its steps.
    pub unprofiled: f64,
}

/// A loaded plan that is to be traced.
pub struct Traced {
    /// The plan.
    pub plan: PlanId,
    /// Its first so many steps run once, and are left out.
    pub constants: usize,
    /// How often each step is timed: the medians count.
    pub runs: u32,
    /// Seconds of a run as a whole, measured before.
    pub unprofiled: f64,
}

/// The figures of a step as text; empty where there is none.
pub struct Figures {
    /// Milliseconds.
    pub ms: String,
    /// Multiplications and additions a second, in 10⁹.
    pub gflops: String,
    /// Bytes a second, in 10⁹.
    pub gbs: String,
    /// Share of the peak.
    pub share: String,
    /// What binds it.
    pub bound: &'static str,
}

impl Trace {
    /// Times every step of a plan by itself. `stopped` is asked before each run.
    ///
    /// # Errors
    /// If the device fails; [`Error::Interrupted`] where it is to stop.
    pub fn measure(device: &mut dyn Device, traced: &Traced, stopped: fn() -> bool) -> Result<Trace> {
        let Traced { plan, constants, runs, unprofiled } = *traced;
        let mut timed: BTreeMap<usize, (Step, Vec<f64>)> = BTreeMap::new();
        for _ in 0..runs {
            if stopped() {
                return Err(Error::Interrupted);
            }
            device.profile(plan, &mut |number, step, seconds| {
                timed.entry(number).or_insert_with(|| (step.clone(), Vec::new())).1.push(seconds);
            })?;
        }
        let timed = timed.into_iter().filter(|(number, _)| *number >= constants);
        let steps = timed.map(|(number, (step, times))| TimedStep::new(number, &step, times)).collect();
        Ok(Trace { steps, peak: device.peak()?, unprofiled })
    }

    /// Seconds of all steps.
    pub fn sum(&self) -> f64 {
        self.steps.iter().map(|step| step.seconds).sum()
    }

    /// The share of the peak that a step reaches: its shortest time by its time. Above 1 from a
    /// cache, or where fewer products do.
    pub fn share(&self, step: &TimedStep) -> Option<f64> {
        share(step.floor(self.peak?), step.seconds)
    }

    /// The same of all steps together.
    pub fn share_of_all(&self) -> Option<f64> {
        let peak = self.peak?;
        share(self.steps.iter().map(|step| step.floor(peak)).sum(), self.sum())
    }

    /// The figures of a step for a table.
    pub fn figures(&self, step: &TimedStep) -> Figures {
        let rate = |amount| step.rate(amount).map_or(String::new(), |rate| format!("{:.1}", rate / 1e9));
        Figures {
            ms: milliseconds(step.seconds),
            gflops: rate(step.flops),
            gbs: rate(step.bytes),
            share: percent(self.share(step)),
            bound: self.peak.map_or("", |peak| step.bound(peak).name()),
        }
    }

    fn arguments(&self, step: &TimedStep) -> Value {
        json!({
            "step": step.number,
            "op": step.op,
            "layer": step.layer,
            "ms": step.seconds * 1e3,
            "flops": step.flops,
            "bytes": step.bytes,
            "floor_ms": self.peak.map(|peak| step.floor(peak) * 1e3),
            "share_of_peak": self.share(step),
            "bound": self.peak.map(|peak| step.bound(peak).name()),
        })
    }

    /// All figures, for programs.
    pub fn json(&self) -> Value {
        json!({
            "peak_flop_per_s": self.peak.map(|peak| peak.flops),
            "peak_bytes_per_s": self.peak.map(|peak| peak.bytes),
            "sum_ms": self.sum() * 1e3,
            "unprofiled_step_ms": self.unprofiled * 1e3,
            "steps": self.steps.iter().map(|step| self.arguments(step)).collect::<Vec<_>>(),
        })
    }

    /// The steps end to end in Chrome's trace format, which `chrome://tracing` and
    /// `ui.perfetto.dev` open. Times are in microseconds; `about` goes beside the peaks.
    pub fn chrome(&self, about: &Value) -> Value {
        let mut begin = 0.0;
        let events = self.steps.iter().map(|step| {
            let (ts, dur) = (begin, step.seconds * 1e6);
            begin += dur;
            json!({"ph": "X", "name": step.name(), "cat": step.op, "ts": ts, "dur": dur,
                "pid": 1, "tid": 1, "args": self.arguments(step)})
        });
        let events: Vec<Value> = events.collect();
        let mut other = self.json();
        if let Some(other) = other.as_object_mut() {
            other.remove("steps");
            other.extend(about.as_object().cloned().unwrap_or_default());
        }
        json!({"traceEvents": events, "displayTimeUnit": "ms", "otherData": other})
    }
}

fn share(floor: f64, seconds: f64) -> Option<f64> {
    (floor > 0.0 && seconds > 0.0).then(|| floor / seconds)
}

/// A time as tables have it.
pub fn milliseconds(seconds: f64) -> String {
    format!("{:.3}", seconds * 1e3)
}

/// A share of the peak, where there is one.
pub fn percent(share: Option<f64>) -> String {
    share.map_or(String::new(), |share| format!("{:.0} %", 100.0 * share))
}

/// The middle one.
pub fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}
