//! What is done to the images of a training, as settings and `--augment` write it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// What is done to the training pictures; see [`crate::ops::augment`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Augmentation {
    pub flip: bool,
    /// Largest shift in pixels.
    pub shift: usize,
    /// Side of the square that is cut out, in pixels.
    pub cutout: usize,
}

impl FromStr for Augmentation {
    type Err = Error;

    /// `none`, or a list such as `flip,shift=4,cutout=8`.
    fn from_str(text: &str) -> Result<Self> {
        let mut result = Augmentation::default();
        let wrong = |part: &str| {
            Error::Usage(format!(
                "augmentation '{part}': write none, or a list such as flip,shift=4,cutout=8"
            ))
        };
        for part in text.split(',').filter(|_| text != "none") {
            let (name, value) =
                part.split_once('=').map_or((part, None), |(name, value)| (name, Some(value)));
            let pixels = || {
                let pixels = value.and_then(|value| value.parse().ok()).filter(|pixels| *pixels <= 1024);
                pixels.ok_or_else(|| wrong(part))
            };
            match name {
                "flip" if value.is_none() => result.flip = true,
                "shift" => result.shift = pixels()?,
                "cutout" => result.cutout = pixels()?,
                _ => return Err(wrong(part)),
            }
        }
        Ok(result)
    }
}

impl fmt::Display for Augmentation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if self.flip {
            parts.push("flip".to_string());
        }
        if self.shift > 0 {
            parts.push(format!("shift={}", self.shift));
        }
        if self.cutout > 0 {
            parts.push(format!("cutout={}", self.cutout));
        }
        f.write_str(if parts.is_empty() { "none" } else { "" })?;
        f.write_str(&parts.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn augmentations_are_read_as_they_are_written() {
        for text in ["none", "flip", "flip,shift=4", "flip,shift=4,cutout=8", "cutout=16"] {
            assert_eq!(text.parse::<Augmentation>().unwrap().to_string(), text);
        }
        for text in ["", "flop", "shift", "shift=x", "flip=2", "shift=99999"] {
            assert!(text.parse::<Augmentation>().unwrap_err().to_string().contains("write none"), "{text}");
        }
    }
}
