//! Plans taken apart: each step as a plan of its own.

use cifar_engine::exec::plan::{Place, Plan, Port, Step};
use cifar_engine::exec::{Device, PlanId};
use cifar_engine::tensor::{DType, TensorType};

use super::write;

/// A plan of this one step. Every place that the step touches becomes a slot; inputs `in0`, ..,
/// outputs `out0`, ..
pub fn alone(step: &Step) -> Plan {
    let operands =
        || step.inputs.iter().zip(&step.types.inputs).chain(step.outputs.iter().zip(&step.types.outputs));
    let mut places: Vec<Place> = Vec::new();
    let mut slots: Vec<usize> = Vec::new();
    for (place, ty) in operands() {
        match places.iter().position(|known| known == place) {
            Some(slot) => slots[slot] = slots[slot].max(ty.len()),
            None => {
                places.push(*place);
                slots.push(ty.len());
            }
        }
    }
    let slot = |place: &Place| Place::Slot(places.iter().position(|known| known == place).unwrap());
    let port = |(name, (place, ty)): (String, (&Place, &TensorType))| Port {
        name,
        ty: ty.clone(),
        place: slot(place),
    };
    let inputs = step.inputs.iter().zip(&step.types.inputs).enumerate();
    let outputs = step.outputs.iter().zip(&step.types.outputs).enumerate();
    Plan {
        inputs: inputs.map(|(i, operand)| port((format!("in{i}"), operand))).collect(),
        outputs: outputs.map(|(i, operand)| port((format!("out{i}"), operand))).collect(),
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

/// The plan with all its memory as states, which plans share: so it can be run as a whole or one
/// step at a time.
pub fn with_states(plan: &Plan) -> Plan {
    let first = plan.states.len();
    let mut states = plan.states.clone();
    let slots = plan.slots.iter().enumerate();
    states.extend(
        slots.map(|(i, &len)| (format!("slot {i}"), TensorType { shape: [len].into(), dtype: DType::U32 })),
    );
    let state = |place: &Place| match place {
        Place::Slot(slot) => Place::State(first + slot),
        Place::State(state) => Place::State(*state),
    };
    let port = |port: &Port| Port { place: state(&port.place), ..port.clone() };
    let step = |step: &Step| Step {
        inputs: step.inputs.iter().map(state).collect(),
        outputs: step.outputs.iter().map(state).collect(),
        ..step.clone()
    };
    Plan {
        steps: plan.steps.iter().map(step).collect(),
        constants: plan.constants,
        slots: Vec::new(),
        states,
        inputs: plan.inputs.iter().map(port).collect(),
        outputs: plan.outputs.iter().map(port).collect(),
    }
}
