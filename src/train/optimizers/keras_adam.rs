//! Adam as Keras has it.

use super::Optimizer;
use super::adam::{ADAM, update};
use crate::ops::optim::adam::EpsilonForm;

/// Keras's Adam: the same betas as [`ADAM`], epsilon 1e-7 in Keras's place.
pub static KERAS_ADAM: Optimizer = Optimizer {
    name: "keras-adam",
    about: "Keras's Adam: the same betas, epsilon 1e-7 in Keras's place",
    usual_rate: 1e-3,
    usual_decay: 0.0,
    lowered: ADAM.lowered,
    sets_norms: false,
    moment: ADAM.moment,
    takes_momentum: false,
    leaves: |_| false,
    left_share: 1.0,
    idle: ADAM.idle,
    update: |graph, step| update(graph, step, (1e-7, EpsilonForm::Keras)),
};
