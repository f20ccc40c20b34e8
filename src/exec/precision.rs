//! How a device stores what the steps of a plan hand to each other.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How a device stores activations and their gradients. Whatever it is, it computes in single
/// precision; parameters, moments, statistics, inputs and outputs are always stored so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// In single precision, as they are computed.
    #[default]
    F32,
    /// In half precision, where the GPU and the shaders of a plan can: in half of the memory, and
    /// half of the bytes are moved.
    F16,
}

impl Precision {
    /// All of them, by name, each with a line about it.
    pub const NAMES: [(&'static str, &'static str); 2] = [
        ("f32", "Single precision"),
        ("f16", "Half precision for activations and their gradients, on a GPU that has it"),
    ];

    /// What the mean loss of so many images is multiplied by, so that its gradients stay numbers in
    /// half precision: 32 for each image, whose own gradients do not depend on how many there are.
    /// A power of two changes no digit of a number that stays in range.
    pub fn loss_scale(self, images: usize) -> f32 {
        match self {
            Precision::F32 => 1.0,
            Precision::F16 => 32.0 * images.next_power_of_two() as f32,
        }
    }
}

impl FromStr for Precision {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = [Precision::F32, Precision::F16];
        all.into_iter()
            .find(|one| one.to_string() == text)
            .ok_or_else(|| format!("'{text}' is none: f32 or f16"))
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::NAMES[*self as usize].0)
    }
}
