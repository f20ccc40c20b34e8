//! An observer that ends a training.

use cifar_engine::report::EpochMetrics;
use cifar_engine::train::{Observer, StepProgress};

/// Stops after so many steps.
pub struct Stopped(pub usize);

impl Observer for Stopped {
    fn step(&mut self, _: &StepProgress) {
        self.0 -= 1;
    }

    fn keep_going(&self) -> bool {
        self.0 > 0
    }

    fn epoch(&mut self, _: &EpochMetrics) {}
}
