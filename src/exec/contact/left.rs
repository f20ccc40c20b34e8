//! What a run leaves, outputs and states, and whether two devices left the same.

use std::collections::BTreeMap;
use std::fmt;

use crate::error::Result;
use crate::exec::plan::Plan;
use crate::exec::{Device, PlanId, Precision};
use crate::tensor::DType;

/// Largest distance of a value of an output, as a share of the output's largest value; of a state
/// it is the mean distance. Devices sum in different orders, and a backward pass multiplies the
/// last digits that differ: where they decide which pixel is the largest of a window, or whether an
/// activation passes a gradient on, single elements differ by far more. For the models here, in
/// batches of 32, the mean distance is 0.0008 at most.
const TOLERANCE: f32 = 0.01;
/// Largest distance of a single element of a state that is no parameter; it is 0.04 at most for
/// the models here.
const MOST_TOLERANCE: f32 = 0.5;
/// Largest mean distance of a parameter with moments. An optimizer that goes by the sign of a
/// gradient (Adam, Lion) may move an element the other way where the gradient is little more than
/// rounding: 0.022 for a bias of MobileNet v2. Its moments, which are not so, are held to more.
const MOVED_TOLERANCE: f32 = 0.1;
/// So many times as far may outputs be from each other where the device stores activations in half
/// precision, by a 2048th part of each.
const LOOSER_OUTPUT: f32 = 4.0;
/// The same of states. A backward pass multiplies that, not the last digits of single precision: in
/// a batch of 32 images of 32 pixels, the mean distance of the momentum of MobileNet v1's first
/// weights is 0.085.
const LOOSER_STATE: f32 = 25.0;
/// But no mean distance is larger: values that are all zero are off by up to 1, and with the wrong
/// sign by up to 2.
const LOOSEST: f32 = 0.25;
/// Nor the distance of a single element of a state that is no parameter.
const LOOSEST_ELEMENT: f32 = 1.0;
/// A tensor whose largest value is a smaller share than this of the largest among those named alike
/// (the moments of one kind, a layer's own) may be nothing but rounding, such as the gradient of a
/// scale that the next layer undoes.
const FLOOR: f32 = 1e-3;

/// An output or a state after a run.
pub struct Tensor {
    name: String,
    is_output: bool,
    values: Vec<f32>,
}

/// All that a run left, outputs first.
pub type Left = Vec<Tensor>;

/// Reads what a run of a plan left.
///
/// # Errors
/// If the device fails.
pub fn left(device: &dyn Device, id: PlanId, plan: &Plan) -> Result<Left> {
    let outputs = plan.outputs.iter().map(|output| {
        Ok(Tensor { name: output.name.clone(), is_output: true, values: device.read(id, &output.name)? })
    });
    let states = plan.written_states().filter(|(_, ty)| ty.dtype == DType::F32);
    let states = states.map(|(name, _)| {
        Ok(Tensor { name: name.clone(), is_output: false, values: device.read_state(id, name)? })
    });
    outputs.chain(states).collect()
}

/// A tensor that a device computed wrongly.
#[derive(Clone, Debug, PartialEq)]
pub struct Wrong {
    /// Name of the output or state.
    pub tensor: String,
    /// Distance, as a share of the largest value; infinite where a value is no finite number.
    pub off: f32,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.off.is_finite() {
            true => write!(f, "{} is off by {:.1} % of its largest value", self.tensor, 100.0 * self.off),
            false => write!(f, "{} has values that are not finite numbers", self.tensor),
        }
    }
}

/// The first tensor that is further from what is expected than rounding makes it. `parameters` are
/// the names of those that an optimizer moves.
pub fn first_wrong(
    found: &Left,
    expected: &Left,
    parameters: &[String],
    precision: Precision,
) -> Option<Wrong> {
    let scales = Scales::of(expected);
    let mut wrong = expected.iter().filter_map(|expected| {
        let name = &expected.name;
        let found = found.iter().find(|found| found.name == *name && found.is_output == expected.is_output);
        let (most, mean) = found.map_or((f32::INFINITY, f32::INFINITY), |found| distances(found, expected));
        let is_parameter = parameters.contains(name);
        let scale = scales.of_tensor(expected);
        let looser = match precision {
            Precision::F32 => 1.0,
            Precision::F16 if expected.is_output => LOOSER_OUTPUT,
            Precision::F16 => LOOSER_STATE,
        };
        let single = looser * if expected.is_output { TOLERANCE } else { MOST_TOLERANCE };
        let single = single.min(LOOSEST_ELEMENT);
        let tolerance = if is_parameter { scales.tolerance_of_parameter(name) } else { Some(TOLERANCE) };
        // What is no number is further off than any.
        let tolerance = tolerance.map_or(f32::MAX, |tolerance| (looser * tolerance).min(LOOSEST));
        let off = if !most.is_finite() {
            f32::INFINITY
        } else if !is_parameter && most / scale > single {
            most / scale
        } else {
            mean / scale
        };
        (off > tolerance).then(|| Wrong { tensor: name.clone(), off })
    });
    wrong.next()
}

/// The largest values of tensors, and of all that are named alike.
struct Scales<'a> {
    tensors: BTreeMap<&'a str, f32>,
    kinds: BTreeMap<&'a str, f32>,
}

impl<'a> Scales<'a> {
    fn of(all: &'a Left) -> Scales<'a> {
        let (mut tensors, mut kinds) = (BTreeMap::new(), BTreeMap::new());
        for tensor in all {
            let largest = largest(tensor);
            tensors.insert(tensor.name.as_str(), largest);
            let kind: &mut f32 = kinds.entry(kind(&tensor.name)).or_default();
            *kind = kind.max(largest);
        }
        Scales { tensors, kinds }
    }

    /// What a distance is a share of.
    fn of_tensor(&self, tensor: &Tensor) -> f32 {
        largest(tensor).max(self.floor(&tensor.name)).max(f32::MIN_POSITIVE)
    }

    fn floor(&self, name: &str) -> f32 {
        FLOOR * self.kinds.get(kind(name)).copied().unwrap_or_default()
    }

    /// Largest mean distance of a parameter, by its moments, which are named after it: none where
    /// these may be nothing but rounding.
    fn tolerance_of_parameter(&self, parameter: &str) -> Option<f32> {
        let is_moment = |name: &str| name.split_once('.').is_some_and(|(_, of)| of == parameter);
        let mut moments = self.tensors.iter().filter(|(name, _)| is_moment(name)).peekable();
        if moments.peek().is_none() {
            Some(TOLERANCE)
        } else if moments.all(|(name, largest)| *largest < self.floor(name)) {
            None
        } else {
            Some(MOVED_TOLERANCE)
        }
    }
}

fn largest(tensor: &Tensor) -> f32 {
    tensor.values.iter().fold(0.0, |most, value| most.max(value.abs()))
}

/// What a name begins with: that of a layer, or of a kind of moments.
fn kind(name: &str) -> &str {
    name.split('.').next().unwrap_or(name)
}

/// The largest and the mean distance of two tensors; infinite where a value is no finite number.
fn distances(found: &Tensor, expected: &Tensor) -> (f32, f32) {
    let (mut most, mut sum) = (0.0f32, 0.0f64);
    for (found, expected) in found.values.iter().zip(&expected.values) {
        let distance = (found - expected).abs();
        if !distance.is_finite() {
            return (f32::INFINITY, f32::INFINITY);
        }
        most = most.max(distance);
        sum += f64::from(distance);
    }
    (most, (sum / expected.values.len().max(1) as f64) as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(name: &str, is_output: bool, values: &[f32]) -> Tensor {
        Tensor { name: name.into(), is_output, values: values.to_vec() }
    }

    /// What a made-up training leaves: `changed` of its values are these.
    fn training(changed: &[(&str, &[f32])]) -> Left {
        let all: [(&str, &[f32]); 6] = [
            ("totals", &[230.0, 10.0, 100.0]),
            ("conv.weight", &[0.5, -0.25, 0.125, 0.0]),
            ("conv.bias", &[0.001, -0.001]),
            ("m.conv.weight", &[0.1, 0.2, -0.4, 0.0]),
            ("m.conv.bias", &[1e-8, -1e-8]),
            ("average.conv.weight", &[0.0, 0.25, 0.5, 1.0]),
        ];
        let value = |name: &str| changed.iter().find(|(other, _)| *other == name).map(|(_, values)| *values);
        all.iter()
            .map(|(name, values)| tensor(name, *name == "totals", value(name).unwrap_or(values)))
            .collect()
    }

    fn wrong(changed: &[(&str, &[f32])]) -> Option<String> {
        wrong_in(Precision::F32, changed)
    }

    fn wrong_in(precision: Precision, changed: &[(&str, &[f32])]) -> Option<String> {
        let parameters = ["conv.weight", "conv.bias"].map(String::from);
        let wrong = first_wrong(&training(changed), &training(&[]), &parameters, precision);
        wrong.map(|wrong| wrong.to_string())
    }

    #[test]
    fn what_is_off_by_half_precision_alone_passes_there() {
        let rounded: [(&str, &[f32]); 2] =
            [("totals", &[232.5, 11.0, 100.0]), ("m.conv.weight", &[0.1, 0.22, -0.42, 0.01])];
        for changed in rounded {
            assert!(wrong(&[changed]).is_some(), "{changed:?}");
            assert_eq!(wrong_in(Precision::F16, &[changed]), None);
        }
        let wrong: [(&str, &[f32]); 5] = [
            ("totals", &[200.0, 10.0, 100.0]),
            ("m.conv.weight", &[-0.1, -0.2, 0.4, 0.0]),
            ("m.conv.weight", &[0.1, 0.2, 0.1, 0.0]),
            ("conv.weight", &[0.0; 4]),
            ("conv.weight", &[-0.5, 0.25, -0.125, 0.0]),
        ];
        for changed in wrong {
            assert!(wrong_in(Precision::F16, &[changed]).is_some(), "{changed:?}");
        }
        assert!(wrong_in(Precision::F16, &[("conv.bias", &[f32::NAN; 2])]).is_some());
    }

    #[test]
    fn rounding_passes() {
        assert_eq!(wrong(&[]), None);
        assert_eq!(wrong(&[("totals", &[230.5, 11.0, 100.0])]), None, "one image more is right");
        assert_eq!(wrong(&[("m.conv.weight", &[0.1, 0.21, -0.4, 0.001])]), None);
        // An element whose gradient is rounding goes either way, and so does a bias.
        assert_eq!(wrong(&[("conv.weight", &[0.5, -0.25, 0.125, 0.1])]), None);
        assert_eq!(wrong(&[("conv.bias", &[-0.001, 0.001]), ("m.conv.bias", &[-1e-8, 2e-8])]), None);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let found = wrong(&[("totals", &[200.0, 10.0, 100.0]), ("conv.weight", &[9.0; 4])]).unwrap();
        assert_eq!(found, "totals is off by 13.0 % of its largest value");
        let off =
            |name: &str, values: &[f32]| wrong(&[(name, values)]).is_some_and(|text| text.starts_with(name));
        assert!(off("conv.weight", &[0.5, -0.25, 0.125, 0.3]));
        assert!(off("m.conv.weight", &[0.1, 0.2, -0.4, 0.1]));
        assert!(off("average.conv.weight", &[0.0, 0.25, 0.5, 0.4]));
        // A gradient that should be nothing and is not.
        assert!(off("m.conv.bias", &[0.1, -0.1]));
    }

    #[test]
    fn no_number_never_passes() {
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for name in ["conv.weight", "conv.bias", "m.conv.bias"] {
                let found = wrong(&[(name, &[value; 2])]).unwrap();
                assert_eq!(found, format!("{name} has values that are not finite numbers"));
            }
        }
        let both = training(&[("totals", &[f32::NAN; 3])]);
        assert!(first_wrong(&both, &both, &[], Precision::F32).is_some(), "nor where both devices have none");
        let infinite = training(&[("totals", &[f32::INFINITY; 3])]);
        assert!(first_wrong(&infinite, &infinite, &[], Precision::F32).is_some());
    }
}
