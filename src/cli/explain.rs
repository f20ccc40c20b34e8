//! `cifar-engine explain`: tells what an op is, from its formula to its kernels.

use std::collections::BTreeMap;
use std::fmt::Write;

use clap::Args;
use serde_json::{Value, json};

use super::device::{DeviceOptions, OpenDevice};
use super::examine::examine;
use super::values::{known, model_names, read};
use crate::console;
use crate::error::{Error, Result};
use crate::exec::cpu::Cpu;
use crate::inspect::explain::source::Code;
use crate::inspect::explain::uses::{self, LayerOp};
use crate::inspect::explain::{Chapter, Example, Explanation, NO_LAUNCH, book, unknown_op};
use crate::kernels::peak::Peak;
use crate::models::Architecture;
use crate::registry::unknown;
use crate::selftest::case::Case;
use crate::selftest::finding::{Finding, Yardstick, by_op};
use crate::text::{counted, figure, nearest, rate};
use crate::train::bare_spec;

#[derive(Args)]
#[command(after_help = "Examples:
  cifar-engine explain                         all ops, a line each
  cifar-engine explain conv2d
  cifar-engine explain conv2 --model cnn       the ops of a layer
  cifar-engine explain matmul --measure --json
  cifar-engine explain --html > book.html      the kernel book")]
pub struct Explain {
    /// The op, or with --model a layer of a model; without one all ops are listed.
    #[arg(value_name = "OP|LAYER")]
    name: Option<String>,

    #[arg(long, value_name = "NAME", requires = "name", hide_possible_values = true,
        help = format!("The model that the layer is of: {}", model_names()),
        value_parser = known(Architecture::names(), read::<&Architecture>))]
    model: Option<&'static Architecture>,

    /// Measure the peaks of the device, and say which of them binds.
    #[arg(long, requires = "name")]
    measure: bool,

    /// Print a page of all ops and shaders.
    #[arg(long, conflicts_with_all = ["name", "json", "model", "measure"])]
    html: bool,

    /// Print the result as JSON.
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    device: DeviceOptions,
}

/// A device, and what it is held to.
struct Machine {
    open: OpenDevice,
    yardstick: Cpu,
    peak: Option<Peak>,
    /// The cases that the device can compute.
    cases: BTreeMap<&'static str, Vec<Case>>,
}

impl Explain {
    pub fn run(self) -> Result<()> {
        let explanations = match (&self.name, self.model) {
            (None, _) => Explanation::all()?,
            (Some(layer), Some(model)) => self.layer(model, layer)?,
            (Some(op), None) => {
                let ops = by_op();
                vec![Explanation::of_first(ops.get(op.as_str()).ok_or_else(|| unknown_op(op))?)?]
            }
        };
        if self.name.is_none() && !self.html && !self.json {
            let line = |told: &Explanation| format!("{:<28} {}", told.op, told.summary());
            return explanations.iter().map(line).try_for_each(console::print_own);
        }
        let mut machine = self.machine()?;
        let chapters = machine.chapters(explanations)?;
        if self.html {
            return console::print_own(book::page(&chapters, &machine.open.name).trim_end());
        }
        if self.json {
            let ops: Vec<Value> = chapters.iter().map(|chapter| machine.json(chapter)).collect();
            return console::print_json(&json!({"device": machine.open.json, "ops": ops}));
        }
        let sheets: Vec<String> = chapters.iter().map(|chapter| machine.sheet(chapter)).collect();
        console::print_own(sheets.join("\n\n\n"))
    }

    fn machine(&self) -> Result<Machine> {
        let mut open = self.device.open_with(|_, _| ())?;
        let peak = if self.measure { open.device.peak()? } else { None };
        let mut cases = by_op();
        cases.values_mut().for_each(|cases| cases.retain(|case| !open.is_gpu || case.has_shaders()));
        Ok(Machine { open, yardstick: self.device.cpu()?, peak, cases })
    }

    /// The ops of a layer.
    fn layer(&self, model: &'static Architecture, layer: &str) -> Result<Vec<Explanation>> {
        let spec = bare_spec(model, model.usual_size, 10);
        let device = self.device.planner()?;
        let steps = uses::of_layer(&spec, device.as_ref(), layer)?;
        let steps = steps.map_err(|layers| {
            let near = nearest(layer, layers.iter().map(String::as_str));
            Error::Usage(match near {
                Some(near) => format!("{model} has no layer '{layer}'; did you mean '{near}'?"),
                None => unknown("layer", layer, layers.iter().map(String::as_str)),
            })
        })?;
        let ops = by_op();
        let explain = |LayerOp { plan, op, types }: LayerOp| {
            let cases = ops.get(op.name()).map_or(&[][..], Vec::as_slice);
            let from = format!("layer '{layer}' of {model}, {plan}");
            Explanation::of(op.as_ref(), &types, from, cases)
        };
        steps.into_iter().map(explain).collect()
    }
}

impl Machine {
    /// Adds what the cases find here, as `doctor` runs them, and where the models have the ops.
    fn chapters(&mut self, explanations: Vec<Explanation>) -> Result<Vec<Chapter>> {
        let Machine { open, yardstick, cases, .. } = self;
        let uses = uses::by_op(open.device.as_ref())?;
        let chapter = |explanation: Explanation| {
            let op = explanation.op.as_str();
            let cases = cases.get(op).map_or(&[][..], Vec::as_slice);
            let yardstick = if open.is_gpu { Yardstick::Device(yardstick) } else { Yardstick::Definition };
            let error = examine(op, cases, (open.device.as_mut(), yardstick))?;
            let uses = uses.get(op).cloned().unwrap_or_default();
            Ok(Chapter { explanation, error, uses })
        };
        explanations.into_iter().map(chapter).collect()
    }

    fn json(&self, chapter: &Chapter) -> Value {
        let mut value = json!(chapter);
        let Example { flops, bytes, .. } = chapter.explanation.example;
        if let Some(peak) = self.peak {
            value["peak_flop_per_s"] = json!(peak.flops);
            value["peak_bytes_per_s"] = json!(peak.bytes);
            value["floor_ms"] = json!(peak.floor(flops, bytes) * 1e3);
            value["bound"] = json!(peak.bound(flops, bytes).name());
        }
        value
    }

    /// A chapter as text.
    fn sheet(&self, chapter: &Chapter) -> String {
        let Chapter { explanation: told, error, uses } = chapter;
        let mut sheet = format!("{}\n\n{}\n\n{}\n\n", told.op, told.formula, told.operands);
        let mut line = |name: &str, text: String| {
            if !text.is_empty() {
                let _ = writeln!(sheet, "{name:<10} {text}");
            }
        };
        line("type", format!("{} {}", told.definition, told.definition.name));
        line("function", told.function.iter().map(|code| code.place.to_string()).collect());
        line("shapes", places(&told.shapes));
        line("gradient", gradient(told));
        line("reference", places(&told.reference));
        line("cpu", places(&told.cpu));
        line("", told.kernels.join(", "));
        let shaders: Vec<String> = told.shaders.iter().map(ToString::to_string).collect();
        line("shaders", shaders.join("; "));
        example(&mut line, &told.example);
        line("cost", self.cost(&told.example));
        line("error", self.found(error));
        for (index, of_model) in uses.iter().enumerate() {
            line(if index == 0 { "in models" } else { "" }, of_model.to_string());
        }
        let function: Vec<Code> = told.function.iter().cloned().collect();
        for (name, list) in
            [("function", &function), ("gradient", &told.gradient), ("reference", &told.reference)]
        {
            for Code { place, text } in list {
                let _ = write!(sheet, "\n{name}, {place}\n{}\n", indented(text));
            }
        }
        sheet.trim_end().to_string()
    }

    fn cost(&self, example: &Example) -> String {
        let Example { flops, bytes, .. } = *example;
        let Some(peak) = self.peak else { return example.cost() };
        let (bound, ms) = (peak.bound(flops, bytes).name(), figure(peak.floor(flops, bytes) * 1e3));
        let (flops, bytes) = (rate(peak.flops, "FLOP"), rate(peak.bytes, "B"));
        format!("{}; here, at {flops} and {bytes}, bound by {bound}, {ms} ms at least", example.cost())
    }

    fn found(&self, finding: &Finding) -> String {
        let against = if self.open.is_gpu { "the CPU" } else { "the definition in f64" };
        let verdict = if finding.is_right() { "ok" } else { "WRONG" };
        let problem = finding.problem.as_ref().map(|problem| format!(" {problem}")).unwrap_or_default();
        let (cases, largest) = (counted(finding.cases, "case"), finding.largest);
        format!("{largest:.1e} at most from {against}, {cases} on {}: {verdict}{problem}", self.open.name)
    }
}

fn gradient(told: &Explanation) -> String {
    match (places(&told.gradient), told.gradient_ops.join(", ")) {
        (place, _) if place.is_empty() => "none".into(),
        (place, ops) if ops.is_empty() => place,
        (place, ops) => format!("{place}: {ops}"),
    }
}

fn example(line: &mut impl FnMut(&str, String), example: &Example) {
    line("example", format!("{}: {}", example.from, example.settings));
    line("", format!("{} -> {}", example.inputs.join(", "), example.outputs.join(", ")));
    if example.launches.is_empty() {
        line("launch", NO_LAUNCH.into());
    }
    for launch in &example.launches {
        let entry = launch.entry.as_ref().map(ToString::to_string).unwrap_or_default();
        let includes = launch.includes.join(", ");
        let with = if includes.is_empty() { String::new() } else { format!(" with {includes}") };
        let [x, y, z] = launch.workgroups;
        line("launch", format!("{entry}{with}: {x} x {y} x {z} workgroups"));
        line("", launch.settings());
    }
}

fn places(list: &[Code]) -> String {
    list.iter().map(|code| code.place.to_string()).collect::<Vec<_>>().join(", ")
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n")
}
