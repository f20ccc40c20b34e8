//! Tensors of a step that have a row for each image of the batch.
//!
//! A tensor `[32]` of a batch of 32 images may hold their losses, or means of 32 channels. Those
//! are told apart by what their shape would be with one image more.

use std::collections::HashSet;

use crate::exec::plan::{IoBinding, Location, Step};
use crate::tensor::{Shape, TensorType};

/// Inputs of a plan that are of a batch.
const OF_BATCH: [&str; 4] = ["indices", "images", "features", "labels"];

/// Places of a plan that hold rows of a batch, while its steps run one after the other.
pub(super) struct BatchRows {
    batch_size: usize,
    places: HashSet<Location>,
}

impl BatchRows {
    /// Those of the inputs, before the first step.
    pub fn new(inputs: &[IoBinding], batch_size: usize) -> BatchRows {
        let of_batch = inputs.iter().filter(|input| OF_BATCH.contains(&input.name.as_str()));
        BatchRows { batch_size, places: of_batch.map(|input| input.location).collect() }
    }

    /// Takes note of a step; tells of each of its outputs whether it has such rows.
    pub fn run(&mut self, step: &Step) -> Vec<bool> {
        let larger = |(&location, ty): (&Location, &TensorType)| match self.places.contains(&location) {
            true => self.with_one_more(ty),
            false => ty.clone(),
        };
        let inputs: Vec<TensorType> = step.inputs.iter().zip(&step.types.inputs).map(larger).collect();
        let of_batch = inputs.iter().zip(&step.types.inputs).any(|(larger, ty)| larger != ty);
        let outputs = step.op.output_types(&inputs.iter().collect::<Vec<_>>());
        let types = &step.types.outputs;
        let found: Vec<bool> = match outputs {
            Ok(larger) => larger
                .iter()
                .zip(types)
                .map(|(larger, ty)| larger != ty && *larger == self.with_one_more(ty))
                .collect(),
            // An op that holds its shape, as that of a reshape, takes no other.
            Err(_) => types.iter().map(|ty| of_batch && self.with_one_more(ty) != *ty).collect(),
        };
        for (&location, &is_of_batch) in step.outputs.iter().zip(&found) {
            match is_of_batch {
                true => self.places.insert(location),
                false => self.places.remove(&location),
            };
        }
        found
    }

    /// The type with one image more, if the first dimension can be that of images.
    fn with_one_more(&self, ty: &TensorType) -> TensorType {
        let mut dims = ty.dims().to_vec();
        if dims.first() == Some(&self.batch_size) {
            dims[0] += 1;
        }
        TensorType { shape: Shape::from(dims.as_slice()), ..ty.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::shapes;
    use crate::exec::plan::Plan;
    use crate::models::MODELS;
    use crate::train::settings::Settings;
    use crate::train::{plans, spec};

    /// The steps of a training whose plan has one image more differ where it says so, and nowhere
    /// else. In batches of 32 some tensors of the models have 32 channels or features in front.
    #[test]
    fn they_are_those_that_another_batch_size_changes() {
        let (mut of_batch, mut alike) = (0, 0);
        for &model in MODELS {
            let plan = |batch_size| {
                let settings = Settings { model, batch_size, ..Settings::default() };
                let data = shapes::sized(64, 10, settings.image_size, 1).unwrap();
                let graph = plans::training(&spec(&settings, &data).unwrap(), &settings, 64).unwrap().graph;
                Plan::compile(&graph).unwrap()
            };
            let (plan, larger) = (plan(32), plan(33));
            assert_eq!(plan.steps.len(), larger.steps.len(), "{model}");
            let mut rows = BatchRows::new(&plan.inputs, 32);
            for (step, larger) in plan.steps.iter().zip(&larger.steps) {
                let types = step.types.outputs.iter().zip(&larger.types.outputs);
                let expected: Vec<bool> = types
                    .map(|(ty, larger)| ty.dims().first() == Some(&32) && larger.dims().first() == Some(&33))
                    .collect();
                assert_eq!(rows.run(step), expected, "{model}: {} '{}'", step.op.name(), step.layer);
                of_batch += expected.iter().filter(|is| **is).count();
                let with_32 = step.types.outputs.iter().filter(|ty| ty.dims().first() == Some(&32));
                alike += with_32.count();
            }
        }
        assert!(of_batch > 100 && of_batch + 10 < alike, "{of_batch} of {alike}");
    }
}
