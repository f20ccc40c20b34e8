//! How far the probabilities of a trained model are to be believed.

use std::collections::BTreeMap;

use ndarray::ArrayView1;

/// What validation has shown of a model's probabilities; travels in the weights file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Calibration {
    /// Logits are divided by it before the softmax: over 1 the model was too sure of itself (Guo et
    /// al. 2017). The order of the classes stays.
    pub temperature: f32,
    /// A prediction of a lower probability is unsure; none where nothing is known of that.
    pub unsure_below: Option<f32>,
}

impl Default for Calibration {
    /// Nothing is known.
    fn default() -> Calibration {
        Calibration { temperature: 1.0, unsure_below: None }
    }
}

impl Calibration {
    /// The probability of each class, from a row of logits.
    pub fn probabilities(&self, logits: ArrayView1<f32>) -> Vec<f32> {
        let largest = logits.fold(f32::NEG_INFINITY, |a, &b| a.max(b));
        let power = |z: &f32| (f64::from(z - largest) / f64::from(self.temperature)).exp();
        let powers: Vec<f64> = logits.iter().map(power).collect();
        let total: f64 = powers.iter().sum();
        powers.iter().map(|power| (power / total) as f32).collect()
    }

    /// Whether a prediction of this probability is unsure; none where that is not known.
    pub fn is_unsure(&self, probability: f32) -> Option<bool> {
        self.unsure_below.map(|least| probability < least)
    }

    /// The entries of metadata that say so; none where nothing is known.
    pub fn entries(&self) -> Vec<(&'static str, String)> {
        let temperature = (self.temperature != 1.0).then(|| (TEMPERATURE, self.temperature.to_string()));
        let least = self.unsure_below.map(|least| (UNSURE_BELOW, least.to_string()));
        temperature.into_iter().chain(least).collect()
    }

    /// Reads such entries out of metadata.
    ///
    /// # Errors
    /// The name of one that is no number.
    pub(super) fn read(metadata: &BTreeMap<String, String>) -> Result<Calibration, &'static str> {
        let number = |key| metadata.get(key).map(|text| text.trim().parse().map_err(|_| key)).transpose();
        let temperature = number(TEMPERATURE)?.unwrap_or(1.0);
        Ok(Calibration { temperature, unsure_below: number(UNSURE_BELOW)? })
    }
}

const TEMPERATURE: &str = "temperature";
const UNSURE_BELOW: &str = "unsure_below";
