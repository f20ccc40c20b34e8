//! `cifar-engine doctor`: is what the device computes right?

use std::collections::BTreeMap;

use clap::Args;

use super::device::{DeviceOptions, Opened};
use super::stopped;
use crate::console;
use crate::error::{Error, Result};
use crate::exec::Device;
use crate::exec::probe::{distance, run_case};
use crate::ops;
use crate::ops::case::Case;
use crate::tensor::TensorType;

#[derive(Args)]
#[command(after_help = "Examples:
  cifar-engine doctor                  the device that auto takes
  cifar-engine doctor --device gpu")]
pub struct Doctor {
    #[command(flatten)]
    device: DeviceOptions,
}

/// Largest error, relative to the largest value of a tensor: f32 rounding through sums in another order, and
/// elementary functions as the driver computes them.
const TOLERANCE: f64 = 2e-5;

/// What came out for an op.
#[derive(Default)]
struct Finding {
    cases: usize,
    largest: f64,
    problem: Option<String>,
}

impl Doctor {
    /// Runs the test cases of every op, those of the backward pass and the optimizers included. A GPU is held against
    /// the CPU, the CPU against the definitions of the ops in double precision.
    pub fn run(self) -> Result<()> {
        let Opened { mut device, is_gpu, name, .. } = self.device.open_with(|_, _| ())?;
        let mut cpu = self.device.cpu()?;
        console::info(format_args!("device: {name}"));
        let mut findings: BTreeMap<&str, Finding> = BTreeMap::new();
        for case in ops::cases() {
            if stopped() {
                return Err(Error::Interrupted);
            }
            let expected = if is_gpu { run_case(&mut cpu, &case, 1)? } else { reference(&case)? };
            findings.entry(case.op.name()).or_default().examine(device.as_mut(), &case, &expected);
        }
        console::print(format_args!("{:<28} {:>5}  {:>13}", "op", "cases", "largest error"))?;
        for (op, finding) in &findings {
            finding.print(op)?;
        }
        let wrong = findings.values().filter(|finding| !finding.is_right()).count();
        match wrong {
            0 => console::print(format_args!("all {} ops are right on: {name}", findings.len())),
            _ => Err(Error::Failed(format!("{wrong} of {} ops are wrong on: {name}", findings.len()))),
        }
    }
}

fn reference(case: &Case) -> Result<Vec<Vec<f64>>> {
    let inputs: Vec<TensorType> = case.inputs.iter().map(|(ty, _)| ty.clone()).collect();
    let outputs = case.op.output_types(&inputs.iter().collect::<Vec<_>>());
    let outputs = outputs.map_err(|problem| Error::op(case.op.name(), problem))?;
    let values: Vec<Vec<f64>> = (0..inputs.len()).map(|i| case.values(i)).collect();
    Ok(case.op.reference(&ops::Types { inputs, outputs }, &values))
}

impl Finding {
    fn examine(&mut self, device: &mut dyn Device, case: &Case, expected: &[Vec<f64>]) {
        self.cases += 1;
        match run_case(device, case, 1) {
            Ok(found) => {
                let errors = found.iter().zip(expected).map(|(found, expected)| distance(found, expected));
                self.largest = errors.fold(self.largest, f64::max);
            }
            Err(error) => self.problem = Some(error.to_string()),
        }
    }

    fn is_right(&self) -> bool {
        self.problem.is_none() && self.largest <= TOLERANCE
    }

    fn print(&self, op: &str) -> Result<()> {
        let verdict =
            if self.is_right() { console::coloured("ok", 32) } else { console::coloured("WRONG", 31) };
        let problem = self.problem.as_deref().unwrap_or_default();
        console::print_own(format_args!(
            "{op:<28} {:>5}  {:>13.1e}  {verdict} {problem}",
            self.cases, self.largest
        ))
    }
}
