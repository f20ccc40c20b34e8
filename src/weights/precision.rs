//! The precision that values are written in, and what is lost by it.

use std::io::Write;

use half::f16;
use safetensors::Dtype;

use super::WeightsFile;

/// Type of the values in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// F32, the engine's own.
    Full,
    /// F16, of half the size: values are rounded to eleven bits.
    Half,
}

impl Precision {
    pub(super) fn dtype(self) -> Dtype {
        match self {
            Precision::Full => Dtype::F32,
            Precision::Half => Dtype::F16,
        }
    }

    /// Bytes of a value.
    pub(super) fn bytes(self) -> usize {
        match self {
            Precision::Full => 4,
            Precision::Half => 2,
        }
    }

    pub(super) fn write(self, value: f32, out: &mut impl Write) -> std::io::Result<()> {
        match self {
            Precision::Full => out.write_all(&value.to_le_bytes()),
            Precision::Half => out.write_all(&f16::from_f32(value).to_le_bytes()),
        }
    }
}

/// What half precision does to the values of a file that are too large or too small for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rounding<'a> {
    /// Values beyond the largest f16, which would be infinite, and the first tensor with one.
    pub too_large: (usize, &'a str),
    /// Values that are not zero, but so near to it that they would be, and the first such tensor.
    pub vanishing: (usize, &'a str),
}

impl Rounding<'_> {
    /// Looks at every value.
    pub fn of(weights: &WeightsFile) -> Rounding<'_> {
        let mut found = Rounding::default();
        for (name, tensor) in &weights.tensors {
            for value in &tensor.data {
                let rounded = f16::from_f32(*value);
                let kind = match rounded.is_finite() {
                    false => &mut found.too_large,
                    true if rounded == f16::ZERO && *value != 0.0 => &mut found.vanishing,
                    true => continue,
                };
                *kind = (kind.0 + 1, if kind.0 == 0 { name } else { kind.1 });
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Tensor, parse, save_as};
    use super::*;

    fn file(data: &[f32]) -> WeightsFile {
        let tensor = Tensor { shape: vec![data.len()], data: data.to_vec() };
        WeightsFile { tensors: [("w".to_string(), tensor)].into(), ..WeightsFile::default() }
    }

    /// Between 1 and the next f16 lie two thousandths less a bit; a tie goes to the even one.
    #[test]
    fn values_are_rounded_to_the_nearest_f16() {
        let step = 2f32.powi(-10);
        let tie = 1.0 + 1.5 * step;
        let values = [0.0, -1.0, 1.0 + 0.4 * step, 1.0 + 0.6 * step, tie, 65504.0, 2f32.powi(-24)];
        let expected = [0.0, -1.0, 1.0, 1.0 + step, 1.0 + 2.0 * step, 65504.0, 2f32.powi(-24)];
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("half.safetensors");
        save_as(&path, &file(&values), Precision::Half).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(parse(&bytes, &path).unwrap().tensors["w"].data, expected);
        assert!(bytes.ends_with(&[0x01, 0x00]), "the smallest f16 takes two bytes");
        assert_eq!(Rounding::of(&file(&values)), Rounding::default());
    }

    #[test]
    fn what_an_f16_cannot_hold_is_counted() {
        let weights = file(&[65519.0, 65520.0, -1e9, 2.9e-8, 3.1e-8, -1e-30, 0.0]);
        let expected = Rounding { too_large: (2, "w"), vanishing: (2, "w") };
        assert_eq!(Rounding::of(&weights), expected);
    }
}
