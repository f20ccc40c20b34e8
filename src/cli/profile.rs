//! The profile of a plan: every step's time beside what the machine could do at most.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::bench::median;
use super::stopped;
use super::table::{Side, Table};
use crate::console;
use crate::error::{Error, Result};
use crate::exec::plan::Step;
use crate::exec::{Device, PlanId};
use crate::kernels::peak::Peak;

/// One step of the plan.
struct Row {
    op: &'static str,
    layer: String,
    flops: f64,
    bytes: f64,
    times: Vec<f64>,
    /// The median of the times, in seconds.
    time: f64,
}

impl Row {
    fn new(step: &Step) -> Row {
        let cost = step.op.cost(&step.types);
        let (op, layer) = (step.op.name(), step.layer.clone());
        let (flops, bytes) = (cost.flops as f64, cost.bytes as f64);
        Row { op, layer, flops, bytes, times: Vec::new(), time: 0.0 }
    }

    /// The time that the machine's peaks allow.
    fn floor(&self, peak: Peak) -> f64 {
        (self.flops / peak.flops).max(self.bytes / peak.bytes)
    }
}

/// Time and traffic of every step of a plan.
pub struct Profile {
    rows: Vec<Row>,
    /// Peak rates of a CPU, where they are measured.
    peak: Option<Peak>,
}

impl Profile {
    /// Times every step of the plan by itself in `runs` runs.
    ///
    /// # Errors
    /// If the device fails, or the user interrupts.
    pub fn measure(device: &mut dyn Device, plan: PlanId, runs: u32) -> Result<Profile> {
        let mut rows: BTreeMap<usize, Row> = BTreeMap::new();
        for _ in 0..runs {
            if stopped() {
                return Err(Error::Interrupted);
            }
            device.profile(plan, &mut |index, step, seconds| {
                rows.entry(index).or_insert_with(|| Row::new(step)).times.push(seconds);
            })?;
        }
        let mut rows: Vec<Row> = rows.into_values().collect();
        rows.iter_mut().for_each(|row| row.time = median(&mut row.times));
        Ok(Profile { rows, peak: device.peak() })
    }

    /// The share of the peak that is reached in `time`, of which the peaks would need `floor`.
    fn share(&self, floor: impl Fn(Peak) -> f64, time: f64) -> Option<f64> {
        self.peak.map(|peak| floor(peak) / time).filter(|share| *share > 0.0)
    }

    /// Prints the medians; `unprofiled` is the time in seconds of a step as a whole.
    ///
    /// # Errors
    /// If standard output cannot be written.
    pub fn print(&self, unprofiled: f64) -> Result<()> {
        if let Some(peak) = self.peak {
            let (gflops, gbs) = (peak.flops / 1e9, peak.bytes / 1e9);
            console::print(format_args!("peak: {gflops:.0} GFLOP/s, {gbs:.1} GB/s from memory"))?;
            console::print(
                "of peak: of whichever of the two binds; over 100 % from the cache, or by fewer products",
            )?;
        }
        let right = |title| (title, Side::Right);
        let of_peak = if self.peak.is_some() { "of peak" } else { "" };
        let mut table = Table::new([
            ("op", Side::Left),
            ("layer", Side::Left),
            right("ms"),
            right("GFLOP/s"),
            right("GB/s"),
            right(of_peak),
        ]);
        let percent =
            |share: Option<f64>| share.map_or(String::new(), |share| format!("{:.0} %", 100.0 * share));
        for row in &self.rows {
            let gflops =
                if row.flops > 0.0 { format!("{:.1}", row.flops / row.time / 1e9) } else { String::new() };
            table.push([
                row.op.to_string(),
                row.layer.clone(),
                format!("{:.3}", row.time * 1e3),
                gflops,
                format!("{:.1}", row.bytes / row.time / 1e9),
                percent(self.share(|peak| row.floor(peak), row.time)),
            ]);
        }
        let sum: f64 = self.rows.iter().map(|row| row.time).sum();
        let share = percent(self.share(|peak| self.rows.iter().map(|row| row.floor(peak)).sum(), sum));
        for (name, seconds, share) in [("sum", sum, share), ("unprofiled step", unprofiled, String::new())] {
            let ms = format!("{:.3}", seconds * 1e3);
            table.push([name.to_string(), String::new(), ms, String::new(), String::new(), share]);
        }
        table.print()
    }

    /// The same for programs.
    pub fn json(&self) -> Value {
        let row = |row: &Row| {
            json!({
                "op": row.op,
                "layer": row.layer,
                "ms": row.time * 1e3,
                "flop": row.flops,
                "bytes": row.bytes,
                "share_of_peak": self.share(|peak| row.floor(peak), row.time),
            })
        };
        json!({
            "peak_flop_per_s": self.peak.map(|peak| peak.flops),
            "peak_bytes_per_s": self.peak.map(|peak| peak.bytes),
            "steps": self.rows.iter().map(row).collect::<Vec<_>>(),
        })
    }
}
