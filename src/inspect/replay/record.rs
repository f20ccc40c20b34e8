//! The record of a step while it runs one op at a time: what every op reads and writes.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::picture::Picture;
use crate::error::Result;
use crate::exec::Device;
use crate::exec::plan::{Location, Step};
use crate::exec::stepwise::{Stepwise, Values};
use crate::inspect::explain::Told;
use crate::report::norms::norm;
use crate::tensor::{DType, TensorType};
use crate::text::hex;
use crate::train::walk::{Scene, Witness};

/// A step of a training, op by op.
#[derive(Default, Serialize)]
pub struct Record {
    /// The epoch, from 1.
    pub epoch: usize,
    /// The step of the epoch, from 1.
    pub step: usize,
    /// Steps of the epoch.
    pub steps_of_epoch: usize,
    /// The learning rate.
    pub rate: f64,
    /// The training images of the batch, counted from 0.
    pub images: Vec<u32>,
    /// Steps of the plan, in the order in which they run.
    pub steps: Vec<StepSeen>,
    /// All tensors, in the order in which they came to be.
    pub values: Vec<ValueSeen>,
    /// What each op is.
    pub ops: BTreeMap<&'static str, Told>,
    /// Whether the step left the same bits as the training's, which runs as a whole.
    pub same_as_whole: bool,
    /// Levels of all pictures.
    #[serde(skip)]
    pub levels: Vec<u8>,
}

/// A step of the plan.
#[derive(Serialize)]
pub struct StepSeen {
    /// Part of the training step: `constants`, which no step changes, `images`, `forward`, `loss`,
    /// `backward` or `update`.
    pub phase: &'static str,
    /// Name of its op.
    pub op: &'static str,
    /// Layer that it belongs to.
    pub layer: String,
    /// The op with its constants.
    pub settings: String,
    /// Numbers of the tensors that it reads.
    pub reads: Vec<usize>,
    /// Numbers of those that it writes.
    pub writes: Vec<usize>,
}

/// A tensor, as it was when the step that wrote it had run.
#[derive(Serialize)]
pub struct ValueSeen {
    /// Name of the state or of the input that it is; none for one in temporary memory.
    pub name: Option<String>,
    /// The step that wrote it; none for what was there before.
    pub from: Option<usize>,
    /// Shape and element type.
    #[serde(rename = "type")]
    pub ty: String,
    /// What its values are like; none of a data set, which is not read.
    #[serde(flatten)]
    pub figures: Option<Figures>,
    /// Some of them.
    pub picture: Picture,
    /// Of a state that the step wrote, how far it moved.
    pub change: Option<Change>,
}

/// Difference of a state to what it was before the training step.
#[derive(Serialize)]
pub struct Change {
    /// The largest, without its sign; none where one is no finite number.
    pub largest: Option<f32>,
    /// Its Euclidean norm, as a share of that of the state; none of one that was zero.
    pub share: Option<f64>,
    /// Some of it.
    pub picture: Picture,
}

/// Figures of all values of a tensor.
#[derive(Serialize)]
pub struct Figures {
    /// The smallest finite one.
    pub smallest: Option<f32>,
    /// The largest finite one.
    pub largest: Option<f32>,
    /// The mean of the finite ones.
    pub mean: Option<f64>,
    /// Share of zeros.
    pub zeros: f64,
    /// How many are no finite number.
    pub not_finite: usize,
    /// SHA-256 of all of them, as little-endian words.
    pub sha256: String,
}

impl Figures {
    fn of(values: &Values) -> Figures {
        let words: Vec<u32> = match values {
            Values::F32(values) => values.iter().map(|value| value.to_bits()).collect(),
            Values::U32(values) => values.clone(),
        };
        let number = |&word: &u32| match values {
            Values::F32(_) => f32::from_bits(word),
            Values::U32(_) => word as f32,
        };
        let finite = || words.iter().map(number).filter(|value| value.is_finite());
        let count = finite().count();
        let zeros = finite().filter(|value| *value == 0.0).count();
        let sum: f64 = finite().map(f64::from).sum();
        Figures {
            smallest: finite().reduce(f32::min),
            largest: finite().reduce(f32::max),
            mean: (count > 0).then(|| sum / count as f64),
            zeros: zeros as f64 / words.len().max(1) as f64,
            not_finite: words.len() - count,
            sha256: hex(Sha256::new_with_prefix(bytemuck::cast_slice(&words_in_order(words)))),
        }
    }
}

/// Words whose bytes are in little-endian order, whatever the machine's.
fn words_in_order(mut words: Vec<u32>) -> Vec<u32> {
    words.iter_mut().for_each(|word| *word = word.to_le());
    words
}

/// The witness of a step, who writes the record.
#[derive(Default)]
pub struct Recorder {
    /// The record so far.
    pub record: Record,
    /// Whether the step has run.
    pub is_done: bool,
    /// The tensor that lies at each location.
    now: HashMap<Location, usize>,
    /// The states as they were before the step.
    before: HashMap<Location, Vec<f32>>,
    /// Dimensions of the parameters.
    parameters: Vec<Vec<usize>>,
    /// Their names.
    names: Vec<String>,
}

impl Recorder {
    /// Enters a tensor, and what its values are like.
    fn enter(
        &mut self,
        (name, from): (Option<String>, Option<usize>),
        ty: &TensorType,
        values: Option<&Values>,
        location: Location,
    ) -> usize {
        let picture = values.map_or_else(Picture::untold, |values| self.picture(values, ty));
        let change = from.and_then(|_| self.change(values?, ty, location));
        let (ty, figures) = (ty.to_string(), values.map(Figures::of));
        self.record.values.push(ValueSeen { name, from, ty, figures, picture, change });
        let number = self.record.values.len() - 1;
        self.now.insert(location, number);
        number
    }

    fn picture(&mut self, values: &Values, ty: &TensorType) -> Picture {
        let is_parameter = self.parameters.iter().any(|dims| dims == ty.dims());
        Picture::of(values, ty.dims(), is_parameter, &mut self.record.levels)
    }

    /// How far what lies at a location has moved, if it is a state.
    fn change(&mut self, now: &Values, ty: &TensorType, location: Location) -> Option<Change> {
        let (Values::F32(now), Some(before)) = (now, self.before.get(&location)) else { return None };
        let difference: Vec<f32> = now.iter().zip(before).map(|(now, before)| now - before).collect();
        let largest = difference.iter().fold(0.0f32, |largest, value| match value.is_finite() {
            true => largest.max(value.abs()),
            false => f32::INFINITY,
        });
        let share = norm(difference.iter().copied()) / norm(before.iter().copied());
        let (largest, share) =
            (Some(largest).filter(|n| n.is_finite()), Some(share).filter(|n| n.is_finite()));
        Some(Change { largest, share, picture: self.picture(&Values::F32(difference), ty) })
    }

    /// The part of the training step that a step of the plan belongs to, after those that are
    /// recorded.
    fn phase(&self, step: &Step, is_constant: bool) -> &'static str {
        let is_update =
            self.names.contains(&step.layer) || ["unscale", "clip", "average"].contains(&&*step.layer);
        let after_loss = self.record.steps.iter().any(|seen| seen.phase == "loss");
        match step.layer.as_str() {
            _ if is_constant => "constants",
            "input" => "images",
            "loss" if !step.op.name().ends_with("_grad") => "loss",
            _ if !after_loss => "forward",
            _ if is_update => "update",
            _ => "backward",
        }
    }
}

impl Witness for Recorder {
    /// Enters the inputs of the plan and the states that its steps read, as they are before it.
    fn begin(&mut self, device: &dyn Device, scene: &Scene) -> Result<()> {
        let Scene { stepwise, parameters, images, epoch, step, steps, rate } = *scene;
        self.parameters = parameters.iter().map(|parameter| parameter.shape.dims().to_vec()).collect();
        self.names = parameters.iter().map(|parameter| parameter.name.clone()).collect();
        let images = images.to_vec();
        self.record = Record { epoch, step, steps_of_epoch: steps, rate, images, ..Record::default() };
        for input in stepwise.inputs() {
            let values = stepwise.read(device, input.location, &input.ty)?;
            self.enter((Some(input.name.clone()), None), &input.ty, Some(&values), input.location);
        }
        let operands = |step: &Step| step.inputs.clone().into_iter().zip(step.types.inputs.clone());
        for (location, ty) in stepwise.steps().iter().flat_map(operands) {
            if stepwise.is_slot(location) || self.now.contains_key(&location) {
                continue;
            }
            // Whole numbers in states are the data set.
            let values = match ty.dtype {
                DType::F32 | DType::F16 => Some(stepwise.read(device, location, &ty)?),
                DType::U32 => None,
            };
            let name = Some(stepwise.name(location).to_string());
            if let Some(Values::F32(values)) = &values {
                self.before.insert(location, values.clone());
            }
            self.enter((name, None), &ty, values.as_ref(), location);
        }
        Ok(())
    }

    fn ran(&mut self, device: &dyn Device, stepwise: &Stepwise, number: usize) -> Result<()> {
        let step = &stepwise.steps()[number];
        let reads = step.inputs.iter().filter_map(|location| self.now.get(location).copied()).collect();
        let phase = self.phase(step, number < stepwise.constants());
        let mut writes = Vec::new();
        for (&location, ty) in step.outputs.iter().zip(&step.types.outputs) {
            let values = stepwise.read(device, location, ty)?;
            let name = (!stepwise.is_slot(location)).then(|| stepwise.name(location).to_string());
            writes.push(self.enter((name, Some(number)), ty, Some(&values), location));
        }
        let (op, layer, settings) = (step.op.name(), step.layer.clone(), format!("{:?}", step.op));
        if !self.record.ops.contains_key(op) {
            self.record.ops.extend(Told::of(step.op.as_ref()).map(|told| (op, told)));
        }
        self.record.steps.push(StepSeen { phase, op, layer, settings, reads, writes });
        Ok(())
    }

    fn end(&mut self, is_same: bool) {
        self.record.same_as_whole = is_same;
        self.is_done = true;
    }
}
