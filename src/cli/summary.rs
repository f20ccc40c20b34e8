//! `cifar-engine summary`: prints a model's layers, parameters and memory.

use clap::Args;
use serde_json::{Value, json};

use super::device::DeviceOptions;
use super::table::{Side, Table};
use super::which_model::WhichModel;
use crate::console;
use crate::error::Result;
use crate::exec::Device;
use crate::models::Spec;
use crate::nn::Layer;
use crate::text::{bytes, grouped};
use crate::train::plans::{self, ModelGraph};
use crate::train::settings::Settings;

#[derive(Args)]
#[command(after_help = "Examples:
  cifar-engine summary cnn
  cifar-engine summary mobilenet-v2 --image-size 224 --classes 1000
  cifar-engine summary runs/cnn-cifar10-1
  cifar-engine summary best.safetensors --json")]
pub struct Summary {
    #[command(flatten)]
    model: WhichModel,

    /// Images a step, for the memory of a step.
    #[arg(long, default_value_t = 128, value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..))]
    batch_size: u32,

    /// Print the result as JSON.
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    device: DeviceOptions,
}

impl Summary {
    pub fn run(self) -> Result<()> {
        let spec = self.model.spec()?;
        let batch_size = self.batch_size as usize;
        let settings = Settings { batch_size, model: spec.architecture, ..Settings::default() };
        let training = plans::training(&spec, &settings, batch_size)?;
        let inference = plans::evaluation(&spec, "test", batch_size, batch_size)?;
        let device = self.device.planner()?;
        let rows: Vec<Row> =
            training.layers.iter().map(|layer| Row::of(layer, &training, batch_size)).collect();
        let memory = |program| Memory::of(program, device.as_ref());
        let memory = [memory(&training)?, memory(&inference)?];
        if self.json {
            return console::print_json(&as_json(&spec, batch_size, &rows, &training, &memory));
        }
        let (model, size, classes) = (spec.architecture, spec.image_size, spec.classes.len());
        console::print(format_args!("{model}, images of {size} x {size}, {classes} classes"))?;
        print_layers(&rows, &training)?;
        console::print("")?;
        console::print(format_args!("At batch {batch_size}:"))?;
        memory.iter().zip(["training", "inference"]).try_for_each(|(memory, name)| memory.print(name))
    }
}

/// A layer, by what one image costs in it.
struct Row<'a> {
    layer: &'a Layer,
    output: Vec<usize>,
    mflop: f64,
}

impl Row<'_> {
    fn of<'a>(layer: &'a Layer, program: &ModelGraph, batch_size: usize) -> Row<'a> {
        let forward = &program.forward;
        let nodes = forward.nodes().iter().filter(|node| node.layer == layer.name);
        let flops = nodes.map(|node| node.op.cost(&forward.types(node)).flops);
        Row {
            layer,
            output: layer.output.dims()[1..].to_vec(),
            mflop: flops.sum::<u64>() as f64 / 1e6 / batch_size as f64,
        }
    }
}

/// Memory that a plan needs.
struct Memory {
    steps: usize,
    gflop: f64,
    peak: usize,
    slots: usize,
    state: usize,
}

impl Memory {
    fn of(program: &ModelGraph, device: &dyn Device) -> Result<Memory> {
        let plan = device.plan(&program.graph)?;
        let (peak, state) = (device.planned_bytes(&plan), plan.state_bytes());
        Ok(Memory {
            steps: plan.steps.len(),
            gflop: plan.flops() as f64 / 1e9,
            peak,
            // A device that takes a few images at a time through all steps needs less than the
            // whole batch does.
            slots: plan.slot_bytes().min(peak.saturating_sub(state)),
            state,
        })
    }

    /// Scratch of kernels, and the room between what must lie at round addresses.
    fn workspace(&self) -> usize {
        self.peak.saturating_sub(self.slots + self.state)
    }

    fn print(&self, name: &str) -> Result<()> {
        let size = |count: usize| bytes(count as u64);
        console::print(format_args!("  {name:9}  {} steps, {:.2} GFLOP", self.steps, self.gflop))?;
        console::print(format_args!(
            "             memory {}: activations and gradients {}, state {}, workspace {}",
            size(self.peak),
            size(self.slots),
            size(self.state),
            size(self.workspace()),
        ))
    }

    fn json(&self) -> Value {
        json!({
            "steps": self.steps,
            "gflop": self.gflop,
            "peak_bytes": self.peak,
            "activation_bytes": self.slots,
            "state_bytes": self.state,
            "workspace_bytes": self.workspace(),
        })
    }
}

/// How many numbers of the parameters are trained, or are not: running statistics.
fn parameters(program: &ModelGraph, trained: bool) -> usize {
    program.parameters.iter().filter(|p| p.trainable() == trained).map(|p| p.shape.len()).sum()
}

fn print_layers(rows: &[Row<'_>], program: &ModelGraph) -> Result<()> {
    let left = |title| (title, Side::Left);
    let right = |title| (title, Side::Right);
    let mut table = Table::new([
        left("layer"),
        left("kind"),
        left("kernel"),
        left("output"),
        right("parameters"),
        right("MFLOP"),
    ]);
    for row in rows {
        let window = row.layer.window.map(|(kernel, stride)| format!("{kernel}x{kernel}/{stride}"));
        let output: Vec<String> = row.output.iter().map(usize::to_string).collect();
        let parameters = Some(row.layer.parameters).filter(|count| *count > 0).map(grouped);
        table.push([
            row.layer.name.clone(),
            row.layer.kind.to_string(),
            window.unwrap_or_default(),
            output.join("x"),
            parameters.unwrap_or_default(),
            if row.mflop > 0.0 { format!("{:.3}", row.mflop) } else { String::new() },
        ]);
    }
    let (trained, statistics) = (parameters(program, true), parameters(program, false));
    let mflop: f64 = rows.iter().map(|row| row.mflop).sum();
    let empty = String::new;
    let total = grouped(trained + statistics);
    table.push(["total".into(), empty(), empty(), empty(), total, format!("{mflop:.1}")]);
    table.print()?;
    console::print("")?;
    let (trained, statistics) = (grouped(trained), grouped(statistics));
    console::print(format_args!("parameters: {trained} trained, {statistics} running statistics"))?;
    console::print("kernel: size/stride; MFLOP: of one image, forward")
}

fn as_json(
    spec: &Spec,
    batch_size: usize,
    rows: &[Row<'_>],
    training: &ModelGraph,
    memory: &[Memory; 2],
) -> Value {
    let layer = |row: &Row<'_>| {
        json!({
            "name": row.layer.name,
            "kind": row.layer.kind,
            "kernel": row.layer.window.map(|(kernel, _)| kernel),
            "stride": row.layer.window.map(|(_, stride)| stride),
            "output": row.output,
            "parameters": row.layer.parameters,
            "mflop": row.mflop,
        })
    };
    json!({
        "model": spec.architecture,
        "image_size": spec.image_size,
        "classes": spec.classes.len(),
        "batch_size": batch_size,
        "trained_parameters": parameters(training, true),
        "running_statistics": parameters(training, false),
        "layers": rows.iter().map(layer).collect::<Vec<_>>(),
        "training": memory[0].json(),
        "inference": memory[1].json(),
    })
}
