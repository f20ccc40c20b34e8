//! `cifar-engine summary`.

use clap::Args;

use super::device::DeviceOptions;
use super::options::image_size;
use crate::console;
use crate::data::{CLASSES, DEFAULT_SIZE};
use crate::error::Result;
use crate::models::Architecture;
use crate::ops::Types;
use crate::train::bare_spec;
use crate::train::plans::{self, Program};
use crate::train::settings::{Recipe, Settings};

#[derive(Args)]
#[command(after_help = "Examples:
  cifar-engine summary cnn
  cifar-engine summary cnn --image-size 64 --batch-size 32")]
pub struct Summary {
    /// Which model.
    model: Architecture,

    /// Side of the pictures in pixels.
    #[arg(long, default_value_t = DEFAULT_SIZE, value_name = "PIXELS", value_parser = image_size)]
    image_size: usize,

    /// Number of classes.
    #[arg(long, default_value_t = 10, value_name = "N", value_parser = classes)]
    classes: usize,

    /// Pictures a step, for the memory of a step.
    #[arg(long, default_value_t = 128, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    batch_size: u32,

    #[command(flatten)]
    device: DeviceOptions,
}

fn classes(text: &str) -> std::result::Result<usize, String> {
    let number = text.parse().ok().filter(|number| CLASSES.contains(number));
    number.ok_or_else(|| format!("must lie between {} and {}", CLASSES.start(), CLASSES.end()))
}

impl Summary {
    pub fn run(self) -> Result<()> {
        let spec = bare_spec(self.model, self.image_size, self.classes);
        let batch_size = self.batch_size as usize;
        let settings = Settings { batch_size, model: self.model, ..Recipe::Default.settings() };
        let training = plans::training(&spec, &settings, batch_size)?;
        let inference = plans::evaluation(&spec, "test", batch_size, batch_size)?;
        print_layers(&training, batch_size)?;
        let device = self.device.open()?.device;
        let mib = |bytes: usize| bytes as f64 / f64::from(1 << 20);
        console::print("")?;
        console::print(format_args!("At batch {batch_size}:"))?;
        for (name, Program { plan, .. }) in [("training", &training), ("inference", &inference)] {
            console::print(format_args!(
                "  {name:9}  {} steps, {:.2} GFLOP, peak memory {:.1} MiB (activations and gradients {:.1}, state {:.1})",
                plan.steps.len(),
                plan.flops() as f64 / 1e9,
                mib(device.planned_bytes(plan)),
                mib(plan.slot_bytes()),
                mib(plan.state_bytes()),
            ))?;
        }
        Ok(())
    }
}

fn print_layers(program: &Program, batch_size: usize) -> Result<()> {
    let Program { layers, parameters, forward, .. } = program;
    console::print(format_args!(
        "{:<10} {:<11} {:<18} {:>10} {:>9} {:>15}",
        "layer", "kind", "output", "parameters", "MFLOP", "activation KiB"
    ))?;
    let mut total = 0.0;
    for layer in layers {
        let nodes = forward.nodes().iter().filter(|node| node.layer == layer.name);
        let flops: u64 = nodes
            .map(|node| {
                let types = |values: &[_]| values.iter().map(|&v| forward.ty(v).clone()).collect();
                node.op.flops(&Types { inputs: types(&node.inputs), outputs: types(&node.outputs) })
            })
            .sum();
        let mflop = flops as f64 / 1e6 / batch_size as f64;
        total += mflop;
        let dims: Vec<String> = layer.output.dims()[1..].iter().map(usize::to_string).collect();
        let kib = layer.output.len() as f64 / batch_size as f64 * 4.0 / 1024.0;
        let mflop = if flops > 0 { format!("{mflop:.3}") } else { String::new() };
        console::print(format_args!(
            "{:<10} {:<11} {:<18} {:>10} {mflop:>9} {kib:>15.1}",
            layer.name,
            layer.kind,
            dims.join(" x "),
            layer.parameters
        ))?;
    }
    let count = |trainable: bool| -> usize {
        parameters.iter().filter(|p| p.trainable == trainable).map(|p| p.shape.len()).sum()
    };
    console::print("")?;
    console::print(format_args!(
        "{} parameters: {} trained, {} running statistics; {total:.1} MFLOP an image forward",
        count(true) + count(false),
        count(true),
        count(false)
    ))
}
