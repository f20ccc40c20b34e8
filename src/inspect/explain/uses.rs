//! Where the models have an op: in their plans, as the rules of a device leave them.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use crate::error::Result;
use crate::exec::Device;
use crate::exec::plan::Step;
use crate::models::{Architecture, Spec};
use crate::ops::{Op, Types};
use crate::train::settings::Settings;
use crate::train::{bare_spec, plans};

/// Images in the batch of the plans.
const BATCH: usize = 32;

/// A model with an op in one of its plans.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Use {
    /// Name of the model.
    pub model: &'static str,
    /// `training` or `prediction`.
    pub plan: &'static str,
    /// The layers that have it, in order.
    pub layers: Vec<String>,
}

impl std::fmt::Display for Use {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        /// Layers that are named.
        const SHOWN: usize = 8;
        let Use { model, plan, layers } = self;
        let shown = layers[..layers.len().min(SHOWN)].join(" ");
        write!(f, "{model}, {plan}: {shown}")?;
        match layers.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

/// The steps of a model's training, then of its prediction, with the names of these plans.
fn steps(spec: &Spec, device: &dyn Device) -> Result<[(&'static str, Vec<Step>); 2]> {
    let settings = Settings { batch_size: BATCH, model: spec.architecture, ..Settings::default() };
    let training = plans::training(spec, &settings, BATCH)?;
    let prediction = plans::evaluation(spec, "test", BATCH, BATCH)?;
    let steps = |graph| device.plan(graph).map(|plan| plan.steps);
    Ok([("training", steps(&training.graph)?), ("prediction", steps(&prediction.graph)?)])
}

/// Where the registered models have each op, by its name.
///
/// # Errors
/// If a model cannot be planned.
pub fn by_op(device: &dyn Device) -> Result<BTreeMap<String, Vec<Use>>> {
    let mut uses: BTreeMap<String, Vec<Use>> = BTreeMap::new();
    for model in Architecture::all() {
        for (plan, steps) in steps(&bare_spec(model, model.usual_size, 10), device)? {
            for step in steps {
                let of_op = uses.entry(step.op.name().to_string()).or_default();
                match of_op.last_mut().filter(|last| (last.model, last.plan) == (model.name, plan)) {
                    Some(last) if !last.layers.contains(&step.layer) => last.layers.push(step.layer),
                    Some(_) => {}
                    None => of_op.push(Use { model: model.name, plan, layers: vec![step.layer] }),
                }
            }
        }
    }
    Ok(uses)
}

/// An op of a layer, with the types of its operands there.
pub struct LayerOp {
    /// `training` or `prediction`.
    pub plan: &'static str,
    /// The op.
    pub op: Arc<dyn Op>,
    /// Its operands' types.
    pub types: Types,
}

/// The ops of a layer of a model, each of a name once, in the order in which they run; or the
/// layers that there are.
///
/// # Errors
/// If the model cannot be planned.
pub fn of_layer(
    spec: &Spec,
    device: &dyn Device,
    layer: &str,
) -> Result<std::result::Result<Vec<LayerOp>, Vec<String>>> {
    let (mut found, mut layers): (Vec<LayerOp>, Vec<String>) = Default::default();
    for (plan, steps) in steps(spec, device)? {
        for step in steps {
            if step.layer == layer && !found.iter().any(|known| known.op.name() == step.op.name()) {
                found.push(LayerOp { plan, op: step.op.clone(), types: step.types.clone() });
            }
            if !layers.contains(&step.layer) {
                layers.push(step.layer);
            }
        }
    }
    Ok(if found.is_empty() { Err(layers) } else { Ok(found) })
}
