//! The profile of a plan: every step's time beside the least that the machine could need for it.

use std::collections::BTreeMap;

use super::bench::median;
use super::stopped;
use crate::console;
use crate::error::{Error, Result};
use crate::exec::{Device, PlanId};
use crate::graph::plan::Step;
use crate::kernels::peak::Peak;

/// One step of the plan.
struct Row {
    name: String,
    flops: f64,
    bytes: f64,
    times: Vec<f64>,
}

impl Row {
    /// Each operand counts once, of the data set only the batch's part.
    fn new(step: &Step) -> Row {
        let outputs: usize = step.types.outputs.iter().map(|ty| ty.bytes()).sum();
        let inputs: usize = match step.op.name() {
            "augment" => 0,
            _ => step.types.inputs.iter().map(|ty| ty.bytes()).sum(),
        };
        Row {
            name: format!("{:<26} {}", step.op.title(), step.layer),
            flops: step.op.flops(&step.types) as f64,
            bytes: (inputs + outputs) as f64,
            times: Vec::new(),
        }
    }

    /// The time that the machine's peaks allow.
    fn floor(&self, peak: Peak) -> f64 {
        (self.flops / peak.flops).max(self.bytes / peak.bytes)
    }
}

/// Times every step of the plan by itself in `runs` runs, and prints the medians.
pub fn print(device: &mut dyn Device, plan: PlanId, runs: u32, unprofiled: f64) -> Result<()> {
    let mut rows: BTreeMap<usize, Row> = BTreeMap::new();
    for _ in 0..runs {
        if stopped() {
            return Err(Error::Interrupted);
        }
        device.profile(plan, &mut |index, step, seconds| {
            rows.entry(index).or_insert_with(|| Row::new(step)).times.push(seconds);
        })?;
    }
    let peak = device.peak();
    if let Some(peak) = peak {
        let (gflops, gbs) = (peak.flops / 1e9, peak.bytes / 1e9);
        console::print(format_args!(
            "peak: {gflops:.0} GFLOP/s, {gbs:.1} GB/s; floor: the time of the nearer of the two"
        ))?;
    }
    let of_floor = if peak.is_some() { "of floor" } else { "" };
    console::print(format_args!("{:<40} {:>9} {:>9} {:>9} {of_floor:>9}", "step", "ms", "GFLOP/s", "GB/s"))?;
    let (mut sum, mut floor) = (0.0, 0.0);
    for row in rows.values_mut() {
        let time = median(&mut row.times);
        let least = peak.map_or(0.0, |peak| row.floor(peak));
        sum += time;
        floor += least;
        let gflops = if row.flops > 0.0 { format!("{:.1}", row.flops / time / 1e9) } else { String::new() };
        let (name, ms, gbs) = (&row.name, time * 1e3, row.bytes / time / 1e9);
        let share = percent(least / time);
        console::print(format_args!("{name:<40} {ms:>9.3} {gflops:>9} {gbs:>9.1} {share:>9}"))?;
    }
    let (ms, share, unprofiled) = (sum * 1e3, percent(floor / sum), unprofiled * 1e3);
    console::print(format_args!("{:<40} {ms:>9.3} {:>9} {:>9} {share:>9}", "sum", "", ""))?;
    console::print(format_args!("{:<40} {unprofiled:>9.3}", "unprofiled step"))
}

/// Nothing, where the floor is not known.
fn percent(share: f64) -> String {
    if share > 0.0 { format!("{:.0} %", share * 100.0) } else { String::new() }
}
