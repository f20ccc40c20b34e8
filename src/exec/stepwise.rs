//! A plan that runs one step at a time, with every value readable in between.

use half::f16;

use crate::error::Result;
use crate::exec::plan::{IoBinding, Location, Plan, Step};
use crate::exec::{Data, Device, PlanId};
use crate::tensor::{DType, TensorType};

/// Values of a tensor, as [`Data`] that is owned.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// Numbers.
    F32(Vec<f32>),
    /// Labels, indices, seeds, pixels and places.
    U32(Vec<u32>),
}

/// A plan with all its memory as states, and each of its steps as a plan of its own beside it: so
/// no step does anything else than it does in the plan.
pub struct Stepwise {
    whole: PlanId,
    plan: Plan,
    singles: Vec<PlanId>,
}

impl Stepwise {
    /// Loads a plan, with the states of another one if there is a plan `beside`. Of plans that
    /// share their states one can be loaded so at a time.
    ///
    /// # Errors
    /// As for [`Device::load_plan`].
    pub fn load(device: &mut dyn Device, plan: &Plan, beside: Option<PlanId>) -> Result<Stepwise> {
        let plan = with_states(plan);
        let whole = device.load_plan(plan.clone(), beside)?;
        let single = |step: &Step| Plan { steps: vec![step.clone()], constants: 0, ..plan.clone() };
        let singles = plan.steps.iter().map(|step| device.load_plan(single(step), Some(whole)));
        let singles = singles.collect::<Result<_>>()?;
        Ok(Stepwise { whole, plan, singles })
    }

    /// The plan to write inputs and states to.
    pub fn id(&self) -> PlanId {
        self.whole
    }

    /// The steps, in the order in which they run.
    pub fn steps(&self) -> &[Step] {
        &self.plan.steps
    }

    /// Names and types of all its memory: the plan's states, then its slots.
    pub fn states(&self) -> &[(String, TensorType)] {
        &self.plan.states
    }

    /// The name of what lies at a location: a state's, or that of a slot, `slot 3`.
    pub fn name(&self, location: Location) -> &str {
        match location {
            Location::State(state) => &self.plan.states[state].0,
            Location::Slot(_) => unreachable!("all memory is states"),
        }
    }

    /// Whether a location is temporary memory of the plan.
    pub fn is_slot(&self, location: Location) -> bool {
        self.name(location).starts_with(SLOT)
    }

    /// How many steps, the first ones, do not run every time ([`Plan::constants`]).
    pub fn constants(&self) -> usize {
        self.plan.constants
    }

    /// The inputs of the plan.
    pub fn inputs(&self) -> &[IoBinding] {
        &self.plan.inputs
    }

    /// The name of the input of the plan at a location, if there is one.
    pub fn input_at(&self, location: Location) -> Option<&str> {
        let found = self.plan.inputs.iter().find(|input| input.location == location);
        found.map(|input| input.name.as_str())
    }

    /// Runs a step, by its number.
    ///
    /// # Errors
    /// As for [`Device::run`].
    pub fn run(&self, device: &mut dyn Device, step: usize) -> Result<()> {
        device.run(self.singles[step])
    }

    /// The values of a tensor of this type at a location, as they are now.
    ///
    /// # Errors
    /// If the device fails.
    pub fn read(&self, device: &dyn Device, location: Location, ty: &TensorType) -> Result<Values> {
        let Location::State(state) = location else { unreachable!("all memory is states") };
        let (name, stored) = &self.plan.states[state];
        // Slots are words that hold one type after the other.
        let bits = match stored.dtype {
            DType::U32 => device.read_state_u32(self.whole, name)?,
            DType::F32 | DType::F16 => {
                device.read_state(self.whole, name)?.into_iter().map(f32::to_bits).collect()
            }
        };
        let bits = bits.into_iter().take(ty.words());
        Ok(match ty.dtype {
            DType::U32 => Values::U32(bits.collect()),
            DType::F32 => Values::F32(bits.map(f32::from_bits).collect()),
            DType::F16 => {
                let halves = bits.flat_map(|word| [word as u16, (word >> 16) as u16]);
                Values::F32(halves.take(ty.len()).map(|half| f16::from_bits(half).to_f32()).collect())
            }
        })
    }

    /// Writes an input of the plan.
    ///
    /// # Errors
    /// As for [`Device::write`].
    pub fn write(&self, device: &mut dyn Device, input: &str, data: Data) -> Result<()> {
        device.write(self.whole, input, data)
    }

    /// Gives the device back what it took.
    ///
    /// # Errors
    /// If the device fails.
    pub fn unload(self, device: &mut dyn Device) -> Result<()> {
        self.singles.into_iter().try_for_each(|single| device.unload(single))?;
        device.unload(self.whole)
    }
}

/// How the names of the states begin that stand for slots.
const SLOT: &str = "slot ";

/// The plan with all its memory as states, which plans share: so it can be run as a whole or one
/// step at a time.
fn with_states(plan: &Plan) -> Plan {
    let first = plan.states.len();
    let mut states = plan.states.clone();
    let slots = plan.slots.iter().enumerate();
    states.extend(slots.map(|(i, &len)| (format!("{SLOT}{i}"), TensorType::u32([len]))));
    let state = |location: &Location| match location {
        Location::Slot(slot) => Location::State(first + slot),
        Location::State(state) => Location::State(*state),
    };
    let binding = |binding: &IoBinding| IoBinding { location: state(&binding.location), ..binding.clone() };
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
        inputs: plan.inputs.iter().map(binding).collect(),
        outputs: plan.outputs.iter().map(binding).collect(),
    }
}
