//! A plan as it can be shown: its steps, the lives of its values in memory, and what the rules of
//! the device did to the graph that it was made of.

use serde::Serialize;

use crate::error::Result;
use crate::exec::Device;
use crate::exec::plan::{IoBinding, Location, Plan, Step};
use crate::graph::Graph;
use crate::graph::rewrite::{Rewrite, Rule, traffic};
use crate::tensor::TensorType;

/// A plan, to be printed, drawn or written as JSON.
#[derive(Serialize)]
pub struct PlanView {
    /// Steps in the order in which they run.
    pub steps: Vec<StepView>,
    /// What lies in temporary memory, one life after the other.
    pub lives: Vec<Life>,
    /// Bytes of every slot.
    pub slots: Vec<usize>,
    /// Names and bytes of the states.
    pub states: Vec<(String, usize)>,
    /// The step while which most bytes are alive; none for a plan without steps.
    pub peak: Option<Peak>,
    /// What the rules did, in order; empty for a plan of the graph as it was built.
    pub rewrites: Vec<RewriteView>,
    /// Nodes of the graph before the rules.
    pub nodes_before: usize,
    /// Bytes that the nodes read and write, before the rules and after.
    pub traffic: [i64; 2],
}

/// A step.
#[derive(Serialize)]
pub struct StepView {
    /// Name of its op.
    pub op: String,
    /// The op with its constants.
    pub settings: String,
    /// Layer of the model that it belongs to.
    pub layer: String,
    /// What it reads.
    pub inputs: Vec<Operand>,
    /// What it writes.
    pub outputs: Vec<Operand>,
    /// Multiplications and additions.
    pub flops: u64,
    /// Bytes read and written.
    pub bytes: u64,
    /// Whether it depends on nothing but states that the plan leaves alone, and runs once.
    pub once: bool,
}

/// A tensor that a step reads or writes.
#[derive(Serialize)]
pub struct Operand {
    /// `#3` for slot 3, or the name of a state.
    pub place: String,
    /// Shape and element type: `f32[2, 3]`.
    pub ty: String,
    /// The step that wrote it, if one did in this run.
    pub from: Option<usize>,
}

/// A value in a slot, from the step that writes it to the last one that reads it.
#[derive(Serialize)]
pub struct Life {
    /// Number of the slot.
    pub slot: usize,
    /// Bytes.
    pub bytes: usize,
    /// The step that writes it; 0 for an input.
    pub first: usize,
    /// The last step that reads it, or the last of all for what the host reads.
    pub last: usize,
    /// Layer and op that write it, or the name of an input.
    pub written_by: String,
    /// Layer of the step that writes it; empty for an input.
    pub layer: String,
}

/// The moment of most memory.
#[derive(Serialize)]
pub struct Peak {
    /// Number of the step.
    pub step: usize,
    /// Bytes of temporary memory that hold what is still read.
    pub bytes: usize,
}

/// The work of a rule at one place.
#[derive(Serialize)]
pub struct RewriteView {
    /// Name of the rule.
    pub rule: String,
    /// Form that it replaces, and by what.
    pub replaces: String,
    /// Layer of the node that it was applied to.
    pub layer: String,
    /// Bytes that a run no longer reads or writes; negative where more are.
    pub saved_bytes: i64,
}

impl PlanView {
    /// The plan that a device makes of a graph; without its rules if it is to be `unfused`.
    ///
    /// # Errors
    /// As for [`Device::rewrite`].
    pub fn of(graph: &Graph, device: &dyn Device, unfused: bool) -> Result<PlanView> {
        let (mut before, mut after, mut rewrites) = (graph.clone(), graph.clone(), Vec::new());
        before.remove_dead_nodes();
        if !unfused {
            (after, rewrites) = device.rewrite(graph)?;
        }
        after.remove_dead_nodes();
        let plan = if unfused { Plan::compile(&after)? } else { device.plan(graph)? };
        let (steps, lives) = steps_and_lives(&plan);
        let peak = peak(plan.steps.len(), &lives);
        let rules = device.rules();
        Ok(PlanView {
            steps,
            lives,
            slots: plan.slots.iter().map(|len| 4 * len).collect(),
            states: plan.states.iter().map(|(name, ty)| (name.clone(), ty.bytes())).collect(),
            peak,
            rewrites: rewrites.iter().map(|rewrite| RewriteView::of(rewrite, rules)).collect(),
            nodes_before: before.nodes().len(),
            traffic: [traffic(&before), traffic(&after)],
        })
    }

    /// Bytes that are alive while each step runs.
    pub fn alive(&self) -> Vec<usize> {
        (0..self.steps.len()).map(|step| alive(step, &self.lives)).collect()
    }

    /// Layer and op of a step, for messages.
    pub fn name(&self, step: usize) -> String {
        self.steps.get(step).map(|step| format!("{} '{}'", step.op, step.layer)).unwrap_or_default()
    }
}

impl RewriteView {
    fn of(rewrite: &Rewrite, rules: &[&Rule]) -> RewriteView {
        let rule = rules.iter().find(|rule| rule.name == rewrite.rule);
        RewriteView {
            rule: rewrite.rule.to_string(),
            replaces: rule.map(|rule| rule.replaces.to_string()).unwrap_or_default(),
            layer: rewrite.layer.clone(),
            saved_bytes: rewrite.saved_bytes,
        }
    }
}

/// The lives that a walk over the steps has found so far.
struct Walk<'a> {
    plan: &'a Plan,
    lives: Vec<Life>,
    /// Of every slot, the life in it and, if a step began it, that step.
    now: Vec<Option<(usize, Option<usize>)>>,
}

fn steps_and_lives(plan: &Plan) -> (Vec<StepView>, Vec<Life>) {
    let mut walk = Walk { plan, lives: Vec::new(), now: plan.slots.iter().map(|_| None).collect() };
    for IoBinding { name, ty, location } in &plan.inputs {
        walk.begin(*location, ty, (0, None), (name.clone(), String::new()));
    }
    let steps = plan.steps.iter().enumerate().map(|(number, step)| walk.step(number, step)).collect();
    let end = plan.steps.len().saturating_sub(1);
    for IoBinding { location, .. } in &plan.outputs {
        walk.read(*location, end);
    }
    (steps, walk.lives)
}

impl Walk<'_> {
    fn step(&mut self, number: usize, step: &Step) -> StepView {
        let once = number < self.plan.constants;
        let inputs = step.inputs.iter().zip(&step.types.inputs);
        let inputs = inputs.map(|(location, ty)| self.operand(*location, ty)).collect();
        step.inputs.iter().for_each(|location| self.read(*location, number));
        let name = format!("{} '{}'", step.op.name(), step.layer);
        for (location, ty) in step.outputs.iter().zip(&step.types.outputs) {
            self.begin(*location, ty, (number, Some(number)), (name.clone(), step.layer.clone()));
            if once {
                self.read(*location, self.plan.steps.len() - 1);
            }
        }
        let outputs = step.outputs.iter().zip(&step.types.outputs);
        let cost = step.op.cost(&step.types);
        StepView {
            op: step.op.name().to_string(),
            settings: format!("{:?}", step.op),
            layer: step.layer.clone(),
            inputs,
            outputs: outputs.map(|(location, ty)| self.operand(*location, ty)).collect(),
            flops: cost.flops,
            bytes: cost.bytes,
            once,
        }
    }

    fn begin(
        &mut self,
        location: Location,
        ty: &TensorType,
        (first, from): (usize, Option<usize>),
        (written_by, layer): (String, String),
    ) {
        let Location::Slot(slot) = location else { return };
        self.now[slot] = Some((self.lives.len(), from));
        self.lives.push(Life { slot, bytes: ty.bytes(), first, last: first, written_by, layer });
    }

    fn read(&mut self, location: Location, step: usize) {
        if let Location::Slot(slot) = location
            && let Some((life, _)) = self.now[slot]
        {
            self.lives[life].last = self.lives[life].last.max(step);
        }
    }

    fn operand(&self, location: Location, ty: &TensorType) -> Operand {
        let (place, from) = match location {
            Location::Slot(slot) => (format!("#{slot}"), self.now[slot].and_then(|(_, from)| from)),
            Location::State(state) => (self.plan.states[state].0.clone(), None),
        };
        Operand { place, ty: ty.to_string(), from }
    }
}

/// Bytes of the slots' values that are alive while a step runs. Where it works in place, its input
/// and its output are one.
fn alive(step: usize, lives: &[Life]) -> usize {
    let here = lives.iter().filter(|life| (life.first..=life.last).contains(&step));
    let mut largest = std::collections::BTreeMap::new();
    for life in here {
        let bytes: &mut usize = largest.entry(life.slot).or_default();
        *bytes = life.bytes.max(*bytes);
    }
    largest.values().sum()
}

fn peak(steps: usize, lives: &[Life]) -> Option<Peak> {
    // The first of several.
    let alive = (0..steps).rev().map(|step| Peak { step, bytes: alive(step, lives) });
    alive.max_by_key(|peak| peak.bytes)
}
