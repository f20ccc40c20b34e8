//! Divergence: which value of a training was the first that is no finite number, and what led to
//! it.
//!
//! A training looks at nothing but its losses, which costs nothing. When one is not finite, the
//! steps since the last checkpoint are repeated, bit for bit as they were, until the step after
//! which a parameter or a loss is not finite; that step runs again, one op at a time.

use std::collections::{BTreeMap, HashMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::batch_rows::BatchRows;
use super::plans::Totals;
use super::stage::{Epoch, Stage};
use super::walk::Walk;
use crate::error::{Error, Result};
use crate::exec::Device;
use crate::exec::plan::{Location, Step};
use crate::exec::stepwise::{Stepwise, Values};
use crate::nn::Parameter;
use crate::tensor::TensorType;

/// Values of a training's states, by name.
pub(super) type States = BTreeMap<String, Vec<f32>>;

/// Steps before the one at fault of which the gradients are told as well.
const BEFORE: usize = 3;

/// Where and why a training diverged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Divergence {
    /// The epoch, from 1.
    pub epoch: usize,
    /// The step of the epoch, from 1, that made the first value which is not finite.
    pub step: usize,
    /// The learning rate of that step.
    pub rate: f64,
    /// What the repetition found.
    pub cause: Cause,
    /// Norms of the gradients in that step and some before it, oldest first.
    pub norms: Vec<Norms>,
}

/// Causes of a divergence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Cause {
    /// A step of the plan made it.
    Step(Culprit),
    /// A state was not finite before the first step.
    State(Operand),
    /// All values of the steps were finite, but not those of the validation.
    Validation,
    /// All values were finite when the steps were repeated: the device, or something outside of the
    /// training, is at fault.
    NotRepeated,
}

/// The step of a plan that made the first value which is not finite.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Culprit {
    /// Its number in the plan, from 0, as the command `plan` has it.
    pub plan_step: usize,
    /// Name of its op.
    pub op: String,
    /// The layer that it belongs to.
    pub layer: String,
    /// The output with the value.
    pub output: Operand,
    /// The training image that the value belongs to, counted from 0, where it belongs to one.
    pub image: Option<u32>,
    /// What the step computed it from.
    pub inputs: Vec<Operand>,
}

/// The range of a tensor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Operand {
    /// A state's or an input's name, or the step that wrote it: `step 22, batch_norm 'bn2', mean`.
    pub what: String,
    /// Shape and element type.
    pub ty: String,
    /// Smallest finite value.
    pub smallest: Option<f32>,
    /// Largest finite value.
    pub largest: Option<f32>,
    /// How many values are not finite.
    pub not_finite: usize,
    /// The first of these.
    pub first: Option<Element>,
}

/// An element of a tensor that is not finite.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Element {
    /// Its index along every dimension.
    pub place: Vec<usize>,
    /// `+inf`, `-inf` or `NaN`.
    pub value: String,
}

/// Euclidean norms of a step's gradients, as the optimizer gets them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Norms {
    /// The step of the epoch, from 1.
    pub step: usize,
    /// The mean loss of its batch; none where it is not finite.
    pub loss: Option<f64>,
    /// By the parameter's name; none where the norm is not finite.
    pub gradients: Vec<(String, Option<f64>)>,
}

impl Operand {
    fn of(what: String, ty: &TensorType, values: &[f32]) -> Operand {
        let finite = || values.iter().copied().filter(|value| value.is_finite());
        let first = values.iter().position(|value| !value.is_finite());
        Operand {
            what,
            ty: ty.to_string(),
            smallest: finite().reduce(f32::min),
            largest: finite().reduce(f32::max),
            not_finite: values.len() - finite().count(),
            first: first.map(|at| Element { place: place(at, ty.dims()), value: shown(values[at]) }),
        }
    }
}

/// Indices along the dimensions of element `at`.
fn place(mut at: usize, dims: &[usize]) -> Vec<usize> {
    let mut place: Vec<usize> = dims.iter().rev().map(|&size| (at % size, at /= size).0).collect();
    place.reverse();
    place
}

fn shown(value: f32) -> String {
    match value {
        value if value.is_nan() => "NaN",
        value if value > 0.0 => "+inf",
        _ => "-inf",
    }
    .into()
}

/// The search for a culprit.
pub(super) struct Search<'a> {
    pub stage: &'a Stage,
    pub epoch: &'a Epoch<'a>,
    pub parameters: &'a [Parameter],
    /// The states that the training is repeated from, and how many steps of the epoch that is
    /// after.
    pub start: (States, usize),
    /// How many steps of the epoch had run when it was noticed.
    pub until: usize,
    /// Whether it was noticed by the validation.
    pub by_validation: bool,
}

/// A step of the training that is to run again: its states before, and the loss that it had.
struct Kept {
    step: usize,
    before: States,
    loss: f64,
}

impl Search<'_> {
    /// Repeats the training from its start. `goes_on` is told how many steps are done, of how many,
    /// and may stop the search.
    ///
    /// # Errors
    /// If the device fails, or [`Error::Interrupted`].
    pub fn run(
        &self,
        device: &mut dyn Device,
        goes_on: &mut dyn FnMut(usize, usize) -> bool,
    ) -> Result<Divergence> {
        self.stage.restore(device, &self.start.0)?;
        for (name, values) in &self.start.0 {
            if values.iter().any(|value| !value.is_finite()) {
                let ty = self.parameters.iter().find(|parameter| parameter.name == *name);
                let shape = ty.map_or([values.len()].into(), |parameter| parameter.shape.clone());
                let state = Operand::of(name.clone(), &TensorType::f32(shape), values);
                return Ok(self.divergence(self.start.1, Cause::State(state), Vec::new()));
            }
        }
        let (kept, found) = self.repeat(device, goes_on)?;
        let Some(last) = kept.back().filter(|_| found) else {
            let cause = if self.by_validation { Cause::Validation } else { Cause::NotRepeated };
            return Ok(self.divergence(self.until - 1, cause, Vec::new()));
        };
        let at = last.step;
        let walk = Walk::begin(device, self.stage)?;
        let gradients = gradients(&walk.stepwise, self);
        let mut norms = Vec::new();
        let mut culprit = None;
        for kept in &kept {
            let seen = self.step(device, &walk, &gradients, kept)?;
            norms.push(seen.norms);
            culprit = seen.culprit;
        }
        walk.stepwise.unload(device)?;
        Ok(self.divergence(at, culprit.map_or(Cause::NotRepeated, Cause::Step), norms))
    }

    /// Runs the one step that the states of the start are before.
    ///
    /// # Errors
    /// If the device fails.
    pub fn examine(&self, device: &mut dyn Device) -> Result<Divergence> {
        let (before, step) = self.start.clone();
        let walk = Walk::begin(device, self.stage)?;
        let gradients = gradients(&walk.stepwise, self);
        let seen = self.step(device, &walk, &gradients, &Kept { step, before, loss: f64::NAN })?;
        walk.stepwise.unload(device)?;
        Ok(self.divergence(step, seen.culprit.map_or(Cause::NotRepeated, Cause::Step), vec![seen.norms]))
    }

    /// Runs a step one op at a time; `gradients` are where those of the parameters are.
    fn step(
        &self,
        device: &mut dyn Device,
        walk: &Walk,
        gradients: &[(String, usize, usize)],
        kept: &Kept,
    ) -> Result<Seen> {
        walk.prepare(device, self.epoch, &kept.before, kept.step)?;
        let stepwise = &walk.stepwise;
        let mut writers = HashMap::new();
        let mut rows = BatchRows::new(stepwise.inputs(), self.epoch.images(kept.step).len());
        let mut norms = Vec::new();
        let mut culprit = None;
        for (number, step) in stepwise.steps().iter().enumerate() {
            let inputs = read(device, stepwise, &step.inputs, &step.types.inputs)?;
            for (name, _, input) in gradients.iter().filter(|(_, at, _)| *at == number) {
                norms.push((name.clone(), norm(&inputs[*input])));
            }
            stepwise.run(device, number)?;
            let of_batch = rows.run(step);
            if culprit.is_none() {
                let outputs = read(device, stepwise, &step.outputs, &step.types.outputs)?;
                let at = outputs.iter().position(|output| !is_finite(output));
                culprit = at.map(|output| {
                    let images = if of_batch[output] { self.epoch.images(kept.step) } else { &[] };
                    let about = Context { stepwise, writers: &writers, images };
                    about.culprit(number, step, &inputs, (output, &outputs[output]))
                });
            }
            writers.extend(step.outputs.iter().enumerate().map(|(i, location)| (*location, (number, i))));
        }
        let loss = Some(kept.loss).filter(|loss| loss.is_finite());
        Ok(Seen { norms: Norms { step: kept.step + 1, loss, gradients: norms }, culprit })
    }

    fn divergence(&self, step: usize, cause: Cause, norms: Vec<Norms>) -> Divergence {
        let rate = super::session::shortest(self.epoch.rate(step));
        Divergence { epoch: self.epoch.number, step: step + 1, rate, cause, norms }
    }

    fn states(&self, device: &dyn Device) -> Result<States> {
        let read = |name: &String| Ok((name.clone(), device.read_state(self.stage.plan, name)?));
        self.start.0.keys().map(read).collect()
    }

    /// Runs the steps until one after which something is not finite; whether there is one. It comes
    /// back as the last of those that are kept.
    fn repeat(
        &self,
        device: &mut dyn Device,
        goes_on: &mut dyn FnMut(usize, usize) -> bool,
    ) -> Result<(VecDeque<Kept>, bool)> {
        let mut kept = VecDeque::new();
        let mut before = self.start.0.clone();
        // What was collected so far is none of these steps.
        self.stage.collect(device, true)?;
        for step in self.start.1..self.until {
            if !goes_on(step - self.start.1, self.until - self.start.1) {
                return Err(Error::Interrupted);
            }
            self.epoch.run(device, step)?;
            let totals = self.stage.collect(device, true)?.pop().unwrap_or_default();
            let loss = Totals::mean_loss(&totals);
            let after = self.states(device)?;
            kept.push_back(Kept { step, before: std::mem::replace(&mut before, after), loss });
            if kept.len() > 1 + BEFORE {
                kept.pop_front();
            }
            let is_finite = |values: &Vec<f32>| values.iter().all(|value| value.is_finite());
            if !totals.loss.is_finite() || !before.values().all(is_finite) {
                return Ok((kept, true));
            }
        }
        Ok((kept, false))
    }
}

/// What a step of the training, run one op at a time, had in it.
struct Seen {
    norms: Norms,
    culprit: Option<Culprit>,
}

/// The step of the plan, and the number of its input, that is the gradient of each trained
/// parameter: the last one as long as the parameter, of the step that writes its moment.
fn gradients(stepwise: &Stepwise, search: &Search) -> Vec<(String, usize, usize)> {
    let optimizer = search.stage.config.settings.optimizer;
    let of = |parameter: &Parameter| {
        let moment = optimizer.moment_of(parameter);
        let writes = |step: &Step| step.outputs.iter().any(|&output| stepwise.name(output) == moment);
        let number = stepwise.steps().iter().position(writes)?;
        let step = &stepwise.steps()[number];
        let operands = step.inputs.iter().zip(&step.types.inputs);
        let is_one = |(&location, ty): (&Location, &TensorType)| {
            stepwise.is_slot(location) && ty.len() == parameter.shape.len()
        };
        Some((
            parameter.name.clone(),
            number,
            operands.rev().position(is_one).map(|back| step.inputs.len() - 1 - back)?,
        ))
    };
    search.parameters.iter().filter_map(of).collect()
}

fn read(
    device: &dyn Device,
    stepwise: &Stepwise,
    locations: &[Location],
    types: &[TensorType],
) -> Result<Vec<Values>> {
    locations.iter().zip(types).map(|(&location, ty)| stepwise.read(device, location, ty)).collect()
}

fn is_finite(values: &Values) -> bool {
    match values {
        Values::F32(values) => values.iter().all(|value| value.is_finite()),
        Values::U32(_) => true,
    }
}

/// The Euclidean norm; none where it is not finite.
fn norm(values: &Values) -> Option<f64> {
    let Values::F32(values) = values else { return None };
    let squares: f64 = values.iter().map(|&value| f64::from(value).powi(2)).sum();
    Some(squares.sqrt()).filter(|norm| norm.is_finite())
}

/// What is known of a step while it runs.
struct Context<'a> {
    stepwise: &'a Stepwise,
    /// The last step that wrote to each location, and which of its outputs that was.
    writers: &'a HashMap<Location, (usize, usize)>,
    /// The images that the rows of the output belong to, if it has one for each.
    images: &'a [u32],
}

impl Context<'_> {
    fn culprit(&self, number: usize, step: &Step, inputs: &[Values], output: (usize, &Values)) -> Culprit {
        let operand = |(location, ty, values): (Location, &TensorType, &Values)| match values {
            Values::F32(values) => Some(Operand::of(self.what(location), ty, values)),
            Values::U32(_) => None,
        };
        let (index, values) = output;
        let (location, ty) = (step.outputs[index], &step.types.outputs[index]);
        let Values::F32(values) = values else { unreachable!("only numbers are not finite") };
        let what = if self.stepwise.is_slot(location) {
            step.op.output_names().get(index).map_or(format!("output {index}"), |name| name.to_string())
        } else {
            self.stepwise.name(location).to_string()
        };
        let output = Operand::of(what, ty, values);
        let row = output.first.as_ref().and_then(|first| first.place.first());
        let image = row.and_then(|&row| self.images.get(row).copied());
        let locations = step.inputs.iter().zip(&step.types.inputs).zip(inputs);
        let inputs = locations.filter_map(|((&location, ty), values)| operand((location, ty, values)));
        Culprit {
            plan_step: number,
            op: step.op.name().to_string(),
            layer: step.layer.clone(),
            output,
            image,
            inputs: inputs.collect(),
        }
    }

    /// What lies at a location.
    fn what(&self, location: Location) -> String {
        if !self.stepwise.is_slot(location) {
            return self.stepwise.name(location).to_string();
        }
        if let Some(&(writer, output)) = self.writers.get(&location) {
            let step = &self.stepwise.steps()[writer];
            let which = step.op.output_names().get(output);
            let which = which.map(|name| format!(", {name}")).unwrap_or_default();
            return format!("step {writer}, {} '{}'{which}", step.op.name(), step.layer);
        }
        self.stepwise.input_at(location).unwrap_or("an input").to_string()
    }
}

impl Divergence {
    /// The cause in half a line, for a message.
    pub fn summary(&self) -> String {
        let Divergence { epoch, step, .. } = self;
        let first = |operand: &Operand| match &operand.first {
            Some(Element { place, value }) => {
                // Single precision might have held it.
                let is_half = operand.ty.starts_with("f16") && value.ends_with("inf");
                let end =
                    if is_half { " (half precision ends at 65504; `precision` f32 does not)" } else { "" };
                format!("{value} at {place:?} of {}{end}", operand.ty)
            }
            None => operand.ty.clone(),
        };
        match &self.cause {
            Cause::Step(Culprit { plan_step, op, layer, output, image, .. }) => {
                let of = if output.what.starts_with("output") { "" } else { &format!(", {}", output.what) };
                let image = image.map(|image| format!(", training image {image}")).unwrap_or_default();
                let first = first(output);
                format!(
                    "in step {step}, {op} '{layer}' (step {plan_step} of the plan) gave {first}{of}{image}"
                )
            }
            Cause::State(state) => {
                format!("before step {step} of epoch {epoch}, {} had {}", state.what, first(state))
            }
            Cause::Validation => "all values of the training were finite, those of the validation not".into(),
            Cause::NotRepeated => {
                "repeated, the same steps gave finite values: the device is at fault".into()
            }
        }
    }
}
