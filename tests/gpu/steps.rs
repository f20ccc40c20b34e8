//! Plans taken apart: each step as a plan of its own.

use cifar_engine::exec::plan::{IoBinding, Location, Plan, Step};
use cifar_engine::exec::{Device, PlanId};
use cifar_engine::tensor::TensorType;

use super::write;

/// A plan of this one step. Every place that the step touches becomes a slot; inputs `in0`, ..,
/// outputs `out0`, ..
pub fn alone(step: &Step) -> Plan {
    let operands =
        || step.inputs.iter().zip(&step.types.inputs).chain(step.outputs.iter().zip(&step.types.outputs));
    let mut locations: Vec<Location> = Vec::new();
    let mut slots: Vec<usize> = Vec::new();
    for (location, ty) in operands() {
        match locations.iter().position(|known| known == location) {
            Some(slot) => slots[slot] = slots[slot].max(ty.len()),
            None => {
                locations.push(*location);
                slots.push(ty.len());
            }
        }
    }
    let slot =
        |location: &Location| Location::Slot(locations.iter().position(|known| known == location).unwrap());
    let binding = |(name, (location, ty)): (String, (&Location, &TensorType))| IoBinding {
        name,
        ty: ty.clone(),
        location: slot(location),
    };
    let inputs = step.inputs.iter().zip(&step.types.inputs).enumerate();
    let outputs = step.outputs.iter().zip(&step.types.outputs).enumerate();
    Plan {
        inputs: inputs.map(|(i, operand)| binding((format!("in{i}"), operand))).collect(),
        outputs: outputs.map(|(i, operand)| binding((format!("out{i}"), operand))).collect(),
        constants: 0,
        steps: vec![Step {
            inputs: step.inputs.iter().map(slot).collect(),
            outputs: step.outputs.iter().map(slot).collect(),
            ..step.clone()
        }],
        slots,
        states: Vec::new(),
    }
}

/// Runs a step alone; integers travel as the bits of floats.
pub fn run(device: &mut dyn Device, plan: PlanId, step: &Step, inputs: &[Vec<f32>]) -> Vec<Vec<f32>> {
    for (i, (ty, values)) in step.types.inputs.iter().zip(inputs).enumerate() {
        write(ty.dtype, values, &mut |data| device.write(plan, &format!("in{i}"), data).unwrap());
    }
    device.run(plan).unwrap();
    (0..step.outputs.len()).map(|i| device.read(plan, &format!("out{i}")).unwrap()).collect()
}
