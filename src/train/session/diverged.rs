//! Errors of a training whose values are no finite numbers any more, with what made them so.

use super::super::divergence::{Cause, Divergence, Search};
use super::super::stage::{Epoch, Stage};
use super::super::{Observer, Phase};
use super::{Checkpoint, Session, shortest};
use crate::error::{Error, Result};
use crate::exec::Device;

impl Session<'_> {
    /// The error of a loss that is not finite, noticed after so many steps of the epoch; with what
    /// the search for the first such value found, which the run folder keeps.
    pub(super) fn diverged(
        &self,
        device: &mut dyn Device,
        (stage, epoch): (&Stage, &Epoch),
        step: usize,
        observer: &mut dyn Observer,
    ) -> Error {
        let (number, rate) = (epoch.number, shortest(epoch.rate(step - 1)));
        let kept = match number {
            1 => "no epoch was finished".to_string(),
            _ => format!("the weights of epoch {} are in {}", number - 1, self.run.last().display()),
        };
        let found = self.search(device, (stage, epoch), step, observer);
        let cause = match &found {
            Ok(divergence) => format!(": {}", divergence.summary()),
            Err(_) => String::new(),
        };
        let advice = match found.and_then(|divergence| self.run.write_divergence(&divergence)) {
            Ok(()) => "try a lower `rate`; `why-nan` with this run tells more",
            Err(_) => "try a lower `rate`",
        };
        Error::Failed(format!(
            "the loss is not a finite number at epoch {number}, step {step} (rate {rate}){cause}; {kept}; {advice}"
        ))
    }

    /// The error of a gradient that the probe found not to be finite: the last step shows why, if
    /// it left a parameter that is not, or the next one, if it is so there as well.
    pub(super) fn without_finite_gradient(
        &self,
        device: &mut dyn Device,
        (stage, epoch): (&Stage, &Epoch),
        name: &str,
        observer: &mut dyn Observer,
    ) -> Error {
        let next = self.progress.step.min(epoch.steps() - 1);
        let found = self.states(device, stage).and_then(|states| {
            if !states.values().flatten().all(|value| value.is_finite()) {
                return self.search(device, (stage, epoch), self.progress.step, observer);
            }
            let (parameters, start, by_validation) = (&self.parameters, (states, next), false);
            Search { stage, epoch, parameters, start, until: next, by_validation }.examine(device)
        });
        let found = found.ok().filter(|found| found.cause != Cause::NotRepeated);
        let problem = format!("the gradient of {name} is not finite after {} steps", self.progress.step);
        let told = found.and_then(|found| self.run.write_divergence(&found).ok().map(|()| found));
        Error::Failed(match told {
            Some(found) => {
                format!(
                    "{problem}: {}; try a lower `rate`; `why-nan` with this run tells more",
                    found.summary()
                )
            }
            None => format!("{problem}; try a lower `rate`"),
        })
    }

    fn search(
        &self,
        device: &mut dyn Device,
        (stage, epoch): (&Stage, &Epoch),
        until: usize,
        observer: &mut dyn Observer,
    ) -> Result<Divergence> {
        let start = match (&self.start, self.run.checkpoint()?) {
            (Some(start), _) => start.clone(),
            (None, Some(Checkpoint { states, progress, .. })) => (states, progress.step),
            (None, None) => return Err(self.run.not_its_checkpoint()),
        };
        // All steps had finite losses.
        let by_validation = self.progress.step == epoch.steps() && self.progress.totals.loss.is_finite();
        let parameters = &self.parameters;
        let search = Search { stage, epoch, parameters, start, until, by_validation };
        search.run(device, &mut |done, of| observer.goes_on(Phase::Search, done, of))
    }
}
