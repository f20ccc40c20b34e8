//! Groups of parameters that are trained alike.
//!
//! Each has a rate of its own, which the host gives to every step; all of them follow the rate of
//! the training, as a share of it.

use super::settings::Settings;
use super::stage::{StageConfig, StepContext};
use crate::exec::plan::Plan;
use crate::nn::{Parameter, Role};

/// Epochs in which a stem's bias learns.
pub(super) const STEM_EPOCHS: usize = 3;

/// Parameters with a rate of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Parameters in no other group.
    Main,
    /// Parameters that the optimizer leaves to SGD.
    Left,
    /// Biases, and the scales and shifts of normalisations, where a rate is chosen for them.
    Biases,
    /// Biases that learn in the first epochs only; their highest rate is that of other biases.
    StemBiases,
    /// The classifier's weights, where a rate is chosen for them.
    Classifier,
    /// In fine-tuning, what lies before the classifier.
    Backbone,
}

impl Group {
    /// All of them.
    pub(super) const ALL: [Group; 6] =
        [Group::Main, Group::Left, Group::Biases, Group::StemBiases, Group::Classifier, Group::Backbone];

    /// The group of a parameter.
    pub fn of(parameter: &Parameter, settings: &Settings) -> Group {
        let Settings { optimizer, bias_rate, classifier_rate, .. } = *settings;
        if settings.finetune.is_some() {
            return if parameter.classifier { Group::Main } else { Group::Backbone };
        }
        match parameter.role {
            Role::StemBias => Group::StemBiases,
            Role::Bias if bias_rate > 0.0 => Group::Biases,
            Role::Weight if parameter.classifier && classifier_rate > 0.0 => Group::Classifier,
            _ if (optimizer.leaves)(parameter) => Group::Left,
            _ => Group::Main,
        }
    }

    /// The input of a training's plan that takes its rate, `f32 [1]`.
    pub fn input(self) -> &'static str {
        match self {
            Group::Main => "rate",
            Group::Left => "left_rate",
            Group::Biases => "bias_rate",
            Group::StemBiases => "stem_rate",
            Group::Classifier => "classifier_rate",
            Group::Backbone => "backbone_rate",
        }
    }

    /// The groups that a plan has.
    pub fn in_plan(plan: &Plan) -> Vec<Group> {
        let is_input = |group: &Group| plan.inputs.iter().any(|input| input.name == group.input());
        Group::ALL.into_iter().filter(is_input).collect()
    }

    /// Its rate in a step.
    pub(super) fn rate(self, config: &StageConfig, at: &StepContext) -> f32 {
        let Settings { optimizer, rate, bias_rate, classifier_rate, .. } = config.settings;
        match self {
            Group::Main => at.rate,
            Group::Left => at.rate * optimizer.left_share,
            Group::Biases => at.rate * (bias_rate / rate),
            Group::StemBiases if bias_rate > 0.0 => at.stem_rate * (bias_rate / rate),
            Group::StemBiases => at.stem_rate * optimizer.left_share,
            Group::Classifier => at.rate * (classifier_rate / rate),
            Group::Backbone => at.rate * config.backbone,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Graph;
    use crate::nn::Init;
    use crate::tensor::{Shape, TensorType};
    use crate::train::optimizers::muon::MUON;
    use crate::train::schedules::LINEAR;
    use crate::train::settings::finetune::Finetune;
    use crate::weights::Layout;

    fn parameter(role: Role, layout: Layout, classifier: bool) -> Parameter {
        let shape = Shape::from([1, 1, 2, 2]);
        let value = Graph::new().input("p", TensorType::f32(shape.clone()));
        Parameter { name: "p".into(), value, shape, layout, init: Init::Constant(0.0), role, classifier }
    }

    /// The groups of a filter, a dense layer's weights, a bias, a stem's bias, and the classifier's
    /// weights and bias.
    fn groups(settings: &Settings) -> [Group; 6] {
        [
            (Role::Weight, Layout::Convolution, false),
            (Role::Weight, Layout::Dense, false),
            (Role::Bias, Layout::AsIs, false),
            (Role::StemBias, Layout::AsIs, false),
            (Role::Weight, Layout::Dense, true),
            (Role::Bias, Layout::AsIs, true),
        ]
        .map(|(role, layout, classifier)| Group::of(&parameter(role, layout, classifier), settings))
    }

    #[test]
    fn a_parameter_is_in_a_group_of_its_own_where_a_rate_is_chosen() {
        use Group::{Backbone, Biases, Classifier, Left, Main, StemBiases};
        let plain = Settings::default();
        assert_eq!(groups(&plain), [Main, Main, Main, StemBiases, Main, Main]);
        let chosen = Settings { bias_rate: 0.5, classifier_rate: 0.5, ..plain.clone() };
        assert_eq!(groups(&chosen), [Main, Main, Biases, StemBiases, Classifier, Biases]);
        let muon = Settings { optimizer: &MUON, ..plain.clone() };
        assert_eq!(groups(&muon), [Main, Left, Left, StemBiases, Left, Left]);
        let muon = Settings { optimizer: &MUON, ..chosen };
        assert_eq!(groups(&muon), [Main, Left, Biases, StemBiases, Classifier, Biases]);
        let finetune = Settings { finetune: Some(Finetune::default()), ..plain };
        assert_eq!(groups(&finetune), [Backbone, Backbone, Backbone, Backbone, Main, Main]);
    }

    #[test]
    fn rates_are_shares_of_one_and_that_of_stems_ends_sooner() {
        let settings = Settings { rate: 0.25, bias_rate: 0.5, classifier_rate: 2.0, ..Settings::default() };
        let settings = Settings { epochs: 8, batch_size: 100, schedule: &LINEAR, ..settings };
        let config = settings.config(1000);
        let at = StepContext { epoch: 1, step: 0, rate: 0.125, stem_rate: 0.0625 };
        let rates = [Group::Main, Group::Biases, Group::StemBiases, Group::Classifier];
        assert_eq!(rates.map(|group| group.rate(&config, &at)), [0.125, 0.25, 0.125, 1.0]);
        let stem: Vec<f32> = (0..40).map(|step| config.stem_rate(step)).collect();
        assert!(stem[0] > 0.24 && stem[29] > 0.0 && stem[29] < 0.01 && stem[30..] == [0.0; 10]);
        let short = Settings { epochs: 1, ..settings }.config(1000);
        assert!(short.stem_rate(9) > 0.0 && short.stem_rate(10) == 0.0);
    }

    #[test]
    fn what_the_optimizer_leaves_has_its_share_without_a_rate_of_its_own() {
        let settings = Settings { optimizer: &MUON, rate: 0.5, ..Settings::default() };
        let (config, at) = (settings.config(1000), StepContext::at_rate(0.25, 0));
        let expected = 0.25 * MUON.left_share;
        let found = [Group::Left, Group::StemBiases].map(|group| group.rate(&config, &at));
        assert_eq!(found, [expected; 2]);
    }
}
