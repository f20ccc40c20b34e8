//! A step of a training that somebody wants to see.

use super::super::divergence::States;
use super::super::stage::{Epoch, Stage};
use super::super::walk::{Scene, Walk, Witness};
use super::{Session, shortest};
use crate::error::Result;
use crate::exec::Device;

impl Session<'_> {
    /// Starts a step, after it has run one op at a time before a witness.
    pub(super) fn run_before(
        &self,
        device: &mut dyn Device,
        (stage, epoch): (&Stage, &Epoch),
        step: usize,
        witness: &mut dyn Witness,
    ) -> Result<()> {
        let before = self.states(device, stage)?;
        let walk = Walk::begin(device, stage)?;
        walk.prepare(device, epoch, &before, step)?;
        let stepwise = &walk.stepwise;
        let scene = Scene {
            stepwise,
            parameters: &self.parameters,
            images: epoch.images(step),
            epoch: epoch.number,
            step: step + 1,
            steps: epoch.steps(),
            rate: shortest(epoch.rate(step)),
        };
        witness.begin(device, &scene)?;
        for number in 0..stepwise.steps().len() {
            stepwise.run(device, number)?;
            witness.ran(device, stepwise, number)?;
        }
        walk.stepwise.unload(device)?;
        let one_by_one = self.states(device, stage)?;
        stage.restore(device, &before)?;
        epoch.run(device, step)?;
        witness.end(is_same(&one_by_one, &self.states(device, stage)?));
        Ok(())
    }
}

/// Whether states are the same, bit for bit.
fn is_same(one: &States, other: &States) -> bool {
    let bits = |values: &Vec<f32>| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    one.keys().eq(other.keys()) && one.values().zip(other.values()).all(|(a, b)| bits(a) == bits(b))
}
