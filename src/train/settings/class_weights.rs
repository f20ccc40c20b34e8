//! Weights of the classes in the loss of a training.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::data::balance::counts;
use crate::data::composed;
use crate::error::{Error, Result};
use crate::files::read_text;
use crate::report::csv;

/// How much an image of a class counts in the loss.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum ClassWeights {
    /// All alike.
    #[default]
    None,
    /// The fewer images a class has, the more each of them: every class counts alike.
    Auto,
    /// As a file said; by the names of the classes.
    Given(BTreeMap<String, f32>),
}

/// A table of classes is no longer.
const MOST: u64 = 4 << 20;
const HEADER: &str = "class,weight";
/// Beyond this, the gradients of the one are lost in the rounding of the other's.
const MOST_RATIO: f64 = 1e6;

impl ClassWeights {
    /// The weight of each class for a training on images with these labels; empty where all count
    /// alike. Only their ratios matter: the mean over the images that an epoch draws is 1, where
    /// each class is drawn equally often if `balanced`.
    ///
    /// # Errors
    /// A usage error that names a class without a weight, or a weight without a class.
    pub fn of(&self, classes: &[String], labels: &[u32], balanced: bool) -> Result<Vec<f32>> {
        let counts = counts(labels, classes.len());
        let with_images = counts.iter().filter(|count| **count > 0).count();
        // Of a class without images nothing is asked.
        let raw: Vec<f64> = match self {
            ClassWeights::None => return Ok(Vec::new()),
            ClassWeights::Auto => counts.iter().map(|count| 1.0 / (*count).max(1) as f64).collect(),
            ClassWeights::Given(weights) => given(weights, classes)?,
        };
        let share = |count: usize| match balanced {
            true => f64::from(u8::from(count > 0)) / with_images as f64,
            false => count as f64 / labels.len() as f64,
        };
        let mean: f64 = raw.iter().zip(&counts).map(|(weight, count)| weight * share(*count)).sum();
        let weights: Vec<f64> = raw.iter().map(|weight| weight / mean).collect();
        // Only of what a file says; images of a class that there are none of may weigh anything.
        let of_images = || weights.iter().zip(&counts).zip(classes).filter(|((_, count), _)| **count > 0);
        let largest = of_images().map(|((weight, _), _)| *weight).fold(0.0, f64::max);
        let given = matches!(self, ClassWeights::Given(_));
        if let Some(((weight, _), class)) =
            of_images().find(|((weight, _), _)| **weight < largest / MOST_RATIO)
            && given
        {
            let ratio = largest / weight;
            let problem = format!(
                "`class_weights` has a class {class} that weighs {ratio:.0e} times less than another"
            );
            return Err(Error::Usage(format!(
                "{problem}: at most {MOST_RATIO:.0e} times can be computed with"
            )));
        }
        Ok(weights.into_iter().map(|weight| weight as f32).collect())
    }
}

/// The weights in the order of the classes.
fn given(weights: &BTreeMap<String, f32>, classes: &[String]) -> Result<Vec<f64>> {
    if let Some(unknown) = weights.keys().find(|name| !classes.contains(*name)) {
        let problem = format!("`class_weights` has a class {unknown}, which the data has not");
        return Err(Error::Usage(format!("{problem}; it has {}", classes.join(", "))));
    }
    let of = |class: &String| {
        let missing = || Error::Usage(format!("`class_weights` has no weight for the class {class}"));
        weights.get(class).map(|weight| f64::from(*weight)).ok_or_else(missing)
    };
    classes.iter().map(of).collect()
}

/// Reads a table of classes and weights, with or without a header.
fn read(path: &Path) -> Result<BTreeMap<String, f32>> {
    let text = read_text(path, MOST)?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let mut weights = BTreeMap::new();
    for (line, number) in text.lines().zip(1..).filter(|(line, _)| !line.trim().is_empty()) {
        if number == 1 && line.trim().eq_ignore_ascii_case(HEADER) {
            continue;
        }
        let wrong = |problem: &str| Error::file(path, format!("line {number} {problem}"));
        let [class, weight] = <[String; 2]>::try_from(csv::row(line))
            .map_err(|_| wrong("is not a class and its weight, such as: cat,2.5"))?;
        let weight = weight.trim().parse().ok().filter(|weight| is_weight(*weight));
        let weight = weight.ok_or_else(|| wrong("has no positive number as its weight"))?;
        if weights.insert(composed(class.trim()), weight).is_some() {
            return Err(wrong("names a class that is named above"));
        }
    }
    Ok(weights)
}

fn is_weight(weight: f32) -> bool {
    weight.is_finite() && weight > 0.0
}

impl FromStr for ClassWeights {
    type Err = Error;

    /// `auto`, `none`, or the path of a file.
    fn from_str(text: &str) -> Result<ClassWeights> {
        match text {
            "auto" => Ok(ClassWeights::Auto),
            "none" => Ok(ClassWeights::None),
            path => read(Path::new(path)).map(ClassWeights::Given),
        }
    }
}

impl fmt::Display for ClassWeights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClassWeights::None => f.write_str("none"),
            ClassWeights::Auto => f.write_str("auto"),
            ClassWeights::Given(weights) => {
                let pairs: Vec<String> =
                    weights.iter().map(|(class, weight)| format!("{class} {weight}")).collect();
                f.write_str(&pairs.join(", "))
            }
        }
    }
}

impl Serialize for ClassWeights {
    fn serialize<S: Serializer>(&self, file: S) -> std::result::Result<S::Ok, S::Error> {
        match self {
            ClassWeights::Given(weights) => weights.serialize(file),
            word => file.serialize_str(&word.to_string()),
        }
    }
}

impl<'de> Deserialize<'de> for ClassWeights {
    fn deserialize<D: Deserializer<'de>>(file: D) -> std::result::Result<Self, D::Error> {
        let wrong = |problem: String| serde::de::Error::custom(format!("class_weights {problem}"));
        match toml::Value::deserialize(file)? {
            toml::Value::String(text) => text.parse().map_err(serde::de::Error::custom),
            toml::Value::Table(table) => {
                let number = |value: &toml::Value| {
                    value.as_float().or_else(|| value.as_integer().map(|number| number as f64))
                };
                let weight = |(class, value): (String, toml::Value)| {
                    let weight = number(&value).map(|number| number as f32).filter(|w| is_weight(*w));
                    let problem = || wrong(format!("has no positive number for the class {class}"));
                    Ok((class.clone(), weight.ok_or_else(problem)?))
                };
                table.into_iter().map(weight).collect::<std::result::Result<_, _>>().map(ClassWeights::Given)
            }
            _ => Err(wrong("must be \"auto\", \"none\", a file, or a table of classes".into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classes() -> Vec<String> {
        ["cat", "dog", "'=x"].map(String::from).to_vec()
    }

    /// Of 6, 3 and 1 images.
    const LABELS: [u32; 10] = [0, 0, 0, 0, 0, 0, 1, 1, 1, 2];

    #[test]
    fn classes_count_alike_or_as_they_are_told() {
        let of = |weights: &ClassWeights, balanced| weights.of(&classes(), &LABELS, balanced).unwrap();
        assert!(of(&ClassWeights::None, false).is_empty());
        let auto = of(&ClassWeights::Auto, false);
        for (found, expected) in auto.iter().zip([10.0 / 18.0, 10.0 / 9.0, 10.0 / 3.0]) {
            assert!((found - expected).abs() < 1e-6, "{auto:?}");
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.csv");
        std::fs::write(&path, "\u{feff}Class,Weight\ncat,1\r\n\ndog,3\n\"''=x\",2\n").unwrap();
        let given: ClassWeights = path.to_str().unwrap().parse().unwrap();
        // (6 x 1 + 3 x 3 + 1 x 2) / 10 = 1.7, and (1 + 3 + 2) / 3 = 2 of equally many of each.
        for (balanced, mean) in [(false, 1.7), (true, 2.0)] {
            let found = of(&given, balanced);
            let near = |(found, weight): (&f32, f32)| (found - weight / mean).abs() < 1e-6;
            assert!(found.iter().zip([1.0, 3.0, 2.0]).all(near), "{found:?}");
        }
        // In a file of settings they need no other file.
        let table = toml::Value::try_from(&given).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(table.try_into::<ClassWeights>().unwrap(), given);
    }

    #[test]
    fn weights_that_no_gradient_survives_are_refused() {
        let given = |dog: f32| {
            let weights = [("cat", 1.0), ("dog", dog), ("'=x", 2.0)].map(|(name, w)| (name.to_string(), w));
            ClassWeights::Given(weights.into()).of(&classes(), &LABELS, false)
        };
        assert!(given(1e-5).is_ok() && given(1e5).is_ok());
        for (dog, class) in [(1e-30, "dog"), (1e38, "cat")] {
            let message = given(dog).unwrap_err().to_string();
            assert!(message.contains(&format!("a class {class} that weighs")), "{message}");
        }
        // Of a class without images nothing is learnt anyway.
        let none = ClassWeights::Given(
            [("cat", 1e-30), ("dog", 1.0), ("'=x", 1.0)].map(|(n, w)| (n.into(), w)).into(),
        );
        assert!(none.of(&classes(), &[1, 2, 2], false).is_ok());
    }

    #[test]
    fn what_is_wrong_with_a_table_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.csv");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            path.to_str().unwrap().parse::<ClassWeights>()
        };
        for (text, problem) in [
            ("cat\n", "w.csv: line 1 is not a class and its weight"),
            ("class,weight\ncat,1\ndog,-1\n", "line 3 has no positive number"),
            ("cat,NaN\n", "line 1 has no positive number"),
            ("cat,1\ncat,2\n", "line 2 names a class that is named above"),
        ] {
            let message = read(text).unwrap_err().to_string();
            assert!(message.contains(problem), "{message}");
        }
        for (text, problem) in [
            ("cat,1\ndog,1\n", "has no weight for the class '=x"),
            ("cat,1\ndog,1\ncow,2\n''=x,1\n", "has a class cow, which the data has not; it has cat, dog"),
        ] {
            let message = read(text).unwrap().of(&classes(), &LABELS, false).unwrap_err().to_string();
            assert!(message.contains(problem), "{message}");
        }
        assert!("nowhere.csv".parse::<ClassWeights>().unwrap_err().to_string().contains("nowhere.csv"));
    }
}
