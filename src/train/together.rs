//! A training by several processes: what they must have in common, and what they decide together.

use super::checkpoint::RunFingerprint;
use super::verify::without_threads;
use super::walk::Witness;
use super::{Observer, Phase, StepProgress};
use crate::error::Result;
use crate::exec::Device;
use crate::report::EpochMetrics;
use crate::team::Team;

/// Checks that the processes of a team are about to make the same run, in the same bits.
///
/// # Errors
/// If not: what differs, and on which machines.
pub(super) fn check_team(team: &Team, device: &dyn Device, of: &RunFingerprint) -> Result<()> {
    let text = |fact: &Option<String>| fact.clone().unwrap_or_default();
    team.check_alike(&[
        ("version of the program", env!("CARGO_PKG_VERSION").into()),
        ("device", without_threads(&device.name())),
        // Some settings follow from the images.
        ("classes", text(&of.classes)),
        ("digest of the training images", of.images.clone()),
        ("digest of the test images", text(&of.test)),
        ("settings", of.settings.clone()),
        ("digest of the pretrained weights", text(&of.pretrained)),
    ])
}

/// Observer of a process in a team: none goes on where one is to stop.
pub(super) struct Together<'a> {
    pub team: &'a Team,
    pub observer: &'a mut dyn Observer,
}

impl Observer for Together<'_> {
    fn step(&mut self, progress: &StepProgress) {
        self.observer.step(progress);
    }

    fn phase(&mut self, phase: Phase, done: usize, of: usize) {
        self.observer.phase(phase, done, of);
    }

    fn keep_going(&self) -> bool {
        self.team.all(self.observer.keep_going())
    }

    fn epoch(&mut self, metrics: &EpochMetrics) {
        self.observer.epoch(metrics);
    }

    fn note(&mut self, text: &str) {
        self.observer.note(text);
    }

    fn warn(&mut self, text: &str) {
        self.observer.warn(text);
    }

    fn needs_room(&self) -> bool {
        self.observer.needs_room()
    }

    fn witness(&mut self, epoch: usize, step: usize) -> Option<&mut dyn Witness> {
        self.observer.witness(epoch, step)
    }
}
