//! `cifar-engine trace`: shows how long each step of a training or a prediction takes, beside what
//! the machine could do at most.

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde_json::json;

use super::device::{DeviceOptions, OpenDevice};
use super::stopped;
use super::table::{Side, Table};
use super::which_model::WhichModel;
use super::workload::Mode;
use crate::console;
use crate::error::{Result, escaped};
use crate::files::{check_no_picture, write_atomic};
use crate::inspect::time_line;
use crate::inspect::trace::{Figures, NOT_SHOWN, Trace, milliseconds, percent};
use crate::text::rate;

#[derive(Args)]
#[command(after_help = "Examples:
  cifar-engine trace cnn
  cifar-engine trace cnn --format html --out step.html
  cifar-engine trace fast --mode infer --format json --out step.json    for ui.perfetto.dev
  cifar-engine trace runs/cnn-cifar10-1 --device gpu --batch-size 512

Nothing that a GPU computes here is checked: that is for `doctor`.")]
pub struct TraceCommand {
    #[command(flatten)]
    model: WhichModel,

    /// A training step, or a prediction.
    #[arg(long, value_enum, default_value_t = Mode::Train)]
    mode: Mode,

    /// Images a step [default: those of the run, without one 128].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    batch_size: Option<u32>,

    /// Runs, of whose times the medians are shown, after ten that are not timed.
    #[arg(long, default_value_t = 20, value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..))]
    steps: u32,

    /// How the times are printed: json is for Chrome and Perfetto, html is a page with a time line
    /// and a roofline.
    #[arg(long, value_enum, default_value_t)]
    format: Format,

    /// Where to write them, instead of printing them.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,

    #[command(flatten)]
    device: DeviceOptions,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    #[default]
    Text,
    Json,
    Html,
}

impl TraceCommand {
    pub fn run(self) -> Result<()> {
        if let Some(out) = &self.out {
            self.model.check_output(out)?;
            check_no_picture(out, if self.format == Format::Html { "html" } else { "json" })?;
        }
        let workload = self.model.workload(self.mode, self.batch_size)?;
        let OpenDevice { mut device, is_gpu, name, json, .. } =
            self.device.in_precision(workload.settings.precision)?.open()?;
        console::info(format_args!("device: {name}"));
        let device = device.as_mut();
        let loaded = workload.load(device)?;
        let step = workload.time(device, loaded.plan, is_gpu, self.steps)?;
        let trace = Trace::measure(device, &loaded.traced(self.steps, step), stopped)?;
        let title = format!("{}, on {name}", workload.title());
        let about = json!({"model": workload.spec.architecture, "mode": self.mode,
            "batch_size": workload.batch_size, "image_size": workload.spec.image_size,
            "device": json, "runs": self.steps, "not_shown": NOT_SHOWN});
        let text = |room| match self.format {
            Format::Text => format!("{}\n{}\n{NOT_SHOWN}", escaped(&title), table(&trace, room)),
            Format::Json => trace.chrome(&about).to_string(),
            Format::Html => time_line::page(&trace, &title).trim_end().to_string(),
        };
        match (&self.out, self.format) {
            (Some(path), _) => write_atomic(path, |file| writeln!(file, "{}", text(None))),
            (None, Format::Json) => console::print_json(&trace.chrome(&about)),
            (None, _) => console::print_own(text(console::width())),
        }
    }
}

/// The steps of a trace as lines of text, in blocks no wider than `room`; the peaks stand above.
pub fn table(trace: &Trace, room: Option<usize>) -> String {
    let mut lines = Vec::new();
    if let Some(peak) = trace.peak {
        let (flops, bytes) = (rate(peak.flops, "FLOP"), rate(peak.bytes, "B"));
        lines.push(format!("peak: {flops}, {bytes} from memory"));
        lines.push(
            "of peak: of whichever of the two binds; over 100 % from the cache, or by fewer products".into(),
        );
    }
    let right = |title| (title, Side::Right);
    let left = |title| (title, Side::Left);
    let mut table = Table::new([
        right("step"),
        left("op"),
        right("ms"),
        right("GFLOP/s"),
        right("GB/s"),
        right("of peak"),
        left("bound by"),
        left("layer"),
    ]);
    for step in &trace.steps {
        let Figures { ms, gflops, gbs, share, bound } = trace.figures(step);
        let (number, op, layer) = (step.number.to_string(), step.op.to_string(), step.layer.clone());
        table.push([number, op, ms, gflops, gbs, share, bound.into(), layer]);
    }
    let all = percent(trace.share_of_all());
    let whole = [("sum", trace.sum(), all), ("unprofiled step", trace.unprofiled, String::new())];
    for (name, seconds, share) in whole {
        let none = String::new;
        table.push([none(), name.into(), milliseconds(seconds), none(), none(), share, none(), none()]);
    }
    let blocks = table.blocks(room);
    lines.push(blocks.iter().map(|block| block.join("\n")).collect::<Vec<_>>().join("\n\n"));
    lines.join("\n")
}
