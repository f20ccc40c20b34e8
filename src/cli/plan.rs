//! `cifar-engine plan`: shows the steps of a training or a prediction, their memory, and what the
//! rules of the device did.

use clap::{Args, ValueEnum};
use serde_json::json;

use super::device::DeviceOptions;
use super::table::{Side, Table};
use super::values::{known, read};
use super::which_model::WhichModel;
use super::workload::Mode;
use crate::console;
use crate::error::Result;
use crate::exec::Precision;
use crate::inspect::forms::{self, NOT_SHOWN, signed_bytes};
use crate::inspect::plan::{Operand, PlanView};
use crate::text::bytes;

#[derive(Args)]
#[command(after_help = "Examples:
  cifar-engine plan cnn
  cifar-engine plan cnn --diff
  cifar-engine plan cnn --device gpu --precision f16
  cifar-engine plan mobilenet-v1 --mode infer --batch-size 1
  cifar-engine plan fast --format html > plan.html
  cifar-engine plan cnn --format dot | dot -Tsvg > plan.svg")]
pub struct PlanCommand {
    #[command(flatten)]
    model: WhichModel,

    /// The plan of a training step, or of a prediction.
    #[arg(long, value_enum, default_value_t = Mode::Train)]
    mode: Mode,

    /// Images a step [default: those of the run, without one 128].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    batch_size: Option<u32>,

    #[arg(long, value_name = "NAME", hide_possible_values = true, conflicts_with = "unfused",
        help = "How a GPU stores activations and their gradients: f32 or f16 [default: with --device gpu as the run, else f32]",
        value_parser = known(Precision::NAMES.map(|(name, _)| name), read::<Precision>))]
    precision: Option<Precision>,

    /// The graph as it was built, without the rules of the device.
    #[arg(long, conflicts_with = "diff")]
    unfused: bool,

    /// What each rule did to the graph, and the bytes that it saves.
    #[arg(long)]
    diff: bool,

    /// How the plan is printed: html is a page with a picture of the memory, dot is for Graphviz.
    #[arg(long, value_enum, default_value_t, conflicts_with = "diff")]
    format: Format,

    /// Print the result as JSON.
    #[arg(long, conflicts_with = "format")]
    json: bool,

    #[command(flatten)]
    device: DeviceOptions,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    #[default]
    Text,
    Json,
    Dot,
    Html,
}

impl PlanCommand {
    pub fn run(self) -> Result<()> {
        let mut workload = self.model.workload(self.mode, self.batch_size)?;
        let device = match self.precision {
            Some(precision) => {
                workload.settings.precision = precision;
                self.device.in_precision(precision)?
            }
            // A CPU shows the steps of a run on a GPU, too.
            None if self.device.names_a_gpu() => self.device.in_precision(workload.settings.precision)?,
            None => self.device.clone(),
        };
        let device = device.planner()?;
        let view = PlanView::of(&workload.program()?.graph, device.as_ref(), self.unfused)?;
        let (spec, name) = (&workload.spec, device.name());
        let rules = if self.unfused { "without rules" } else { "by the rules of" };
        let title = format!("{}, {rules} {name}", workload.title());
        if self.json || self.format == Format::Json {
            let mut about = json!({"model": spec.architecture, "mode": self.mode,
                "batch_size": workload.batch_size, "image_size": spec.image_size, "device": name,
                "unfused": self.unfused});
            match self.diff {
                true => about["rewrites"] = json!(view.rewrites),
                false => about["plan"] = json!(view),
            }
            return console::print_json(&about);
        }
        match self.format {
            Format::Dot => console::print_own(forms::dot(&view).trim_end()),
            Format::Html => console::print_own(forms::page(&view, &title).trim_end()),
            _ if self.diff => print_rewrites(&view, &title),
            _ => print_steps(&view, &title),
        }
    }
}

fn print_steps(view: &PlanView, title: &str) -> Result<()> {
    console::print(title)?;
    let right = |title| (title, Side::Right);
    let left = |title| (title, Side::Left);
    let columns = [right("step"), left("op"), left("reads"), left("writes"), right("MFLOP"), right("MB")];
    let mut table = Table::new(columns.into_iter().chain([left("layer")]));
    let places = |list: &[Operand]| {
        let places: Vec<&str> = list.iter().map(|operand| operand.place.as_str()).collect();
        places.join(" ")
    };
    for (number, step) in view.steps.iter().enumerate() {
        let once = if step.once { "*" } else { "" };
        table.push([
            format!("{number}{once}"),
            step.op.clone(),
            places(&step.inputs),
            places(&step.outputs),
            format!("{:.2}", step.flops as f64 / 1e6),
            format!("{:.2}", step.bytes as f64 / 1e6),
            step.layer.clone(),
        ]);
    }
    table.print()?;
    console::print("")?;
    let size = |count: usize| bytes(count as u64);
    if let Some(peak) = &view.peak {
        let (alive, slots) = (size(peak.bytes), size(view.slots.iter().sum()));
        let states = size(view.states.iter().map(|(_, bytes)| bytes).sum());
        console::print(format_args!(
            "memory: at most {alive} alive, at step {}, {}",
            peak.step,
            view.name(peak.step)
        ))?;
        console::print(format_args!("        {} slots of {slots}; states of {states}", view.slots.len()))?;
    }
    if view.steps.iter().any(|step| step.once) {
        console::print("*: runs once, as nothing that it reads changes")?;
    }
    console::print(NOT_SHOWN)
}

fn print_rewrites(view: &PlanView, title: &str) -> Result<()> {
    console::print(title)?;
    let mut table = Table::new([("rule", Side::Left), ("saves", Side::Right), ("layer", Side::Left)]);
    for rewrite in &view.rewrites {
        table.push([rewrite.rule.clone(), signed_bytes(rewrite.saved_bytes), rewrite.layer.clone()]);
    }
    table.print()?;
    console::print("")?;
    let mut told = Vec::new();
    for rewrite in &view.rewrites {
        if !told.contains(&&rewrite.rule) {
            told.push(&rewrite.rule);
            console::print(format_args!("{}: {}", rewrite.rule, rewrite.replaces))?;
        }
    }
    let [before, after] = view.traffic.map(signed_bytes);
    let (nodes, steps) = (view.nodes_before, view.steps.len());
    console::print(format_args!(
        "{nodes} nodes became {steps} steps; {before} read and written a run became {after}"
    ))?;
    console::print(NOT_SHOWN)
}
