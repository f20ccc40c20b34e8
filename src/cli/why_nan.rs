//! `cifar-engine why-nan`: by which value a training diverged, and what led to it.

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use super::table::{Side, Table};
use super::train::quoted;
use crate::console;
use crate::error::Result;
use crate::train::divergence::{Cause, Culprit, Divergence, Norms, Operand};
use crate::train::run_folder::RunFolder;

/// Gradients of the table, those that grew most.
const MOST_GRADIENTS: usize = 8;

#[derive(Args)]
#[command(after_help = "Example:
  cifar-engine why-nan runs/cnn-cifar10-1

A training that diverges repeats the steps since its checkpoint by itself, and keeps in its folder
what it found: divergence.json.")]
pub struct WhyNan {
    /// The run's folder.
    #[arg(value_name = "RUN")]
    run: PathBuf,

    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

impl WhyNan {
    pub fn run(self) -> Result<()> {
        let divergence = RunFolder::divergence(&self.run)?;
        if self.json {
            let run = self.run.to_string_lossy();
            let found = divergence.as_ref().map_or(Value::Null, |divergence| json!(divergence));
            return console::print_json(&json!({"run": run, "divergence": found}));
        }
        match divergence {
            None => self.none(),
            Some(divergence) => print(&divergence),
        }
    }

    /// What is known of a run that left no divergence.
    fn none(&self) -> Result<()> {
        // Where the training ended, none of its losses was other than finite.
        if self.run.join("result.json").exists() {
            return console::print("this training has not diverged: all its losses were finite");
        }
        let folder = quoted(&self.run.to_string_lossy());
        console::print(format_args!(
            "no divergence is known of this training, which has not ended; go on with: cifar-engine resume {folder}"
        ))
    }
}

fn print(divergence: &Divergence) -> Result<()> {
    let Divergence { epoch, step, rate, cause, .. } = divergence;
    console::print(format_args!("epoch {epoch}, step {step} (rate {rate}): {}", divergence.summary()))?;
    if let Cause::Step(Culprit { output, inputs, .. }) = cause {
        console::print("")?;
        let mut table = Table::new([
            ("", Side::Left),
            ("type", Side::Left),
            ("smallest", Side::Right),
            ("largest", Side::Right),
            ("not finite", Side::Right),
            ("tensor", Side::Left),
        ]);
        inputs.iter().for_each(|input| table.push(row("read", input)));
        table.push(row("written", output));
        table.print()?;
    }
    print_norms(divergence)?;
    console::print("not shown: the values themselves; the steps before these")
}

fn row(role: &str, operand: &Operand) -> [String; 6] {
    let Operand { what, ty, smallest, largest, not_finite, .. } = operand;
    let number = |value: &Option<f32>| value.map_or(String::new(), |value| format!("{value:.2e}"));
    [role.into(), ty.clone(), number(smallest), number(largest), not_finite.to_string(), what.clone()]
}

/// Norms of the gradients by step: of those that grew most, for a norm that is not finite has grown
/// beyond all others.
fn print_norms(divergence: &Divergence) -> Result<()> {
    let norms = &divergence.norms;
    let Some(last) = norms.last() else { return Ok(()) };
    console::print("")?;
    let steps = norms.iter().map(|norms| format!("step {}", norms.step)).collect::<Vec<_>>();
    let columns = steps.iter().map(|step| (step.as_str(), Side::Right));
    let mut table = Table::new(columns.chain([("norm of the gradient", Side::Left)]));
    let number = |value: Option<f64>| value.map_or("not finite".into(), |value| format!("{value:.2e}"));
    let growth = |index: usize| {
        let of = |norms: &Norms| norms.gradients.get(index).map(|(_, norm)| *norm);
        let first = norms.first().and_then(of).flatten().unwrap_or(0.0);
        last.gradients[index].1.map_or(f64::INFINITY, |last| last / first.max(f64::MIN_POSITIVE))
    };
    let mut order: Vec<usize> = (0..last.gradients.len()).collect();
    order.sort_by(|&a, &b| growth(b).total_cmp(&growth(a)));
    for &index in order.iter().take(MOST_GRADIENTS) {
        let cell =
            |norms: &Norms| norms.gradients.get(index).map_or(String::new(), |(_, norm)| number(*norm));
        table.push(norms.iter().map(cell).chain([last.gradients[index].0.clone()]));
    }
    table.push(norms.iter().map(|norms| number(norms.loss)).chain(["(loss)".to_string()]));
    table.print()?;
    if order.len() > MOST_GRADIENTS {
        console::print(format_args!("{} more parameters: --json has all", order.len() - MOST_GRADIENTS))?;
    }
    Ok(())
}
