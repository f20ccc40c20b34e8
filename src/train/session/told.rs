//! What a session tells whoever watches it, beside its figures.

use super::{Epoch, Session, Stage};
use crate::error::Result;
use crate::exec::Device;
use crate::train::Observer;
use crate::train::probe::Probed;
use crate::train::verify::without_threads;

impl Session<'_> {
    /// Says that another device goes on with what one began.
    pub(super) fn note_device(&self, device: &dyn Device, observer: &mut dyn Observer) {
        let last = self.progress.history.last().and_then(|row| row.proof.as_ref());
        let Some(before) = last.map(|proof| proof.device.as_str()) else { return };
        let now = device.name();
        if without_threads(before) != without_threads(&now) {
            observer.note(&format!(
                "note: the run was trained on another device, {before}: on {now} it goes on to other last digits"
            ));
        }
    }

    /// Tells the observer which tensors do not learn.
    pub(super) fn probe(
        &self,
        device: &mut dyn Device,
        stage: &Stage,
        epoch: &Epoch,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        let Probed { without, not_finite } = stage.probe(device, &self.parameters, epoch.images(0))?;
        if let Some(name) = not_finite {
            return Err(self.without_finite_gradient(device, (stage, epoch), &name, observer));
        }
        if !without.is_empty() {
            let names = without.join(", ");
            observer.warn(&format!(
                "after {} steps no gradient reaches {names}: they do not learn; try a lower `rate` or \
                 another `seed`",
                self.progress.step
            ));
        }
        Ok(())
    }
}
