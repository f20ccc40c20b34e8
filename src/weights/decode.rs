//! Little-endian bytes of a file to `f32`.
//!
//! Every F16 and BF16 value has an exact `f32`; one of F64 is rounded to the nearest.

use half::{bf16, f16};
use safetensors::Dtype;

/// The function that decodes one value, and how many bytes it takes; none where the type cannot
/// stand for a weight.
pub(super) enum ValueDecoder {
    Eight(fn([u8; 8]) -> f32),
    Four(fn([u8; 4]) -> f32),
    Two(fn([u8; 2]) -> f32),
}

impl ValueDecoder {
    pub(super) fn of(dtype: Dtype) -> Option<ValueDecoder> {
        match dtype {
            Dtype::F64 => Some(ValueDecoder::Eight(|bytes| f64::from_le_bytes(bytes) as f32)),
            Dtype::F32 => Some(ValueDecoder::Four(f32::from_le_bytes)),
            Dtype::F16 => Some(ValueDecoder::Two(|bytes| f16::from_le_bytes(bytes).to_f32())),
            Dtype::BF16 => Some(ValueDecoder::Two(|bytes| bf16::from_le_bytes(bytes).to_f32())),
            _ => None,
        }
    }

    /// Bytes of a value.
    pub(super) fn bytes(&self) -> usize {
        match self {
            ValueDecoder::Eight(_) => 8,
            ValueDecoder::Four(_) => 4,
            ValueDecoder::Two(_) => 2,
        }
    }

    /// Bytes that do not fill a whole value are left out; the header was checked against that.
    pub(super) fn decode(&self, bytes: &[u8], to: &mut Vec<f32>) {
        match self {
            ValueDecoder::Eight(one) => to.extend(bytes.as_chunks::<8>().0.iter().map(|value| one(*value))),
            ValueDecoder::Four(one) => to.extend(bytes.as_chunks::<4>().0.iter().map(|value| one(*value))),
            ValueDecoder::Two(one) => to.extend(bytes.as_chunks::<2>().0.iter().map(|value| one(*value))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The value of a file that has these two bytes.
    fn decoded(dtype: Dtype, bits: u16) -> f32 {
        let mut values = Vec::new();
        ValueDecoder::of(dtype).unwrap().decode(&bits.to_le_bytes(), &mut values);
        values[0]
    }

    #[test]
    fn every_f16_has_the_value_of_its_definition() {
        for bits in 0..=u16::MAX {
            let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
            let (exponent, fraction) = (i32::from(bits >> 10 & 31), f64::from(bits & 1023));
            let got = decoded(Dtype::F16, bits);
            if exponent == 31 {
                assert_eq!(got.is_nan(), fraction != 0.0);
                assert_eq!(got.is_infinite(), fraction == 0.0);
            } else {
                let expected = match exponent {
                    0 => sign * 2f64.powi(-14) * (fraction / 1024.0),
                    _ => sign * 2f64.powi(exponent - 15) * (1.0 + fraction / 1024.0),
                };
                assert_eq!(f64::from(got), expected, "{bits:#06x}");
            }
            assert_eq!(got.is_sign_negative(), bits & 0x8000 != 0);
        }
    }

    #[test]
    fn bf16_known_values() {
        for (bits, value) in [(0x3f80, 1.0), (0xc040, -3.0), (0x4049, 3.140625), (0x0000, 0.0)] {
            assert_eq!(decoded(Dtype::BF16, bits), value);
        }
        assert!(decoded(Dtype::BF16, 0x7fc0).is_nan());
    }
}
