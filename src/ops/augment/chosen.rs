//! Which augmentations a training has, as `--augment` and files write them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{AUGMENTATIONS, Act, Augmentation, ValueForm};
use crate::error::{Error, Result};

/// No side of an image is longer.
const MOST_PIXELS: usize = 1024;

/// The value of each of [`AUGMENTATIONS`]; 0 where it is not done.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Augmentations([f32; AUGMENTATIONS.len()]);

impl Augmentations {
    /// These, with another value of one of them; 0 to leave it out.
    pub fn with(mut self, augmentation: &Augmentation, value: f32) -> Self {
        let pairs = AUGMENTATIONS.iter().zip(&mut self.0);
        pairs.filter(|(known, _)| known.name == augmentation.name).for_each(|(_, old)| *old = value);
        self
    }

    /// Those that are done, in their order, with their values.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&'static Augmentation, f32)> + use<> {
        AUGMENTATIONS.iter().zip(self.0).filter(|(_, value)| *value > 0.0)
    }

    /// The value of this one; 0 where it is not done.
    pub fn value(&self, augmentation: &Augmentation) -> f32 {
        self.iter().find(|(chosen, _)| chosen.name == augmentation.name).map_or(0.0, |(_, value)| value)
    }

    /// Whether this one is done.
    pub fn has(&self, augmentation: &Augmentation) -> bool {
        self.value(augmentation) > 0.0
    }

    /// Whether none is done.
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    /// Checks that they suit each other, images of this size, and fine-tuning, if this is one: it
    /// learns from features of single images.
    ///
    /// # Errors
    /// A usage error that names what does not.
    pub fn check(&self, image_size: usize, finetunes: bool) -> Result<()> {
        let too_large = |(augmentation, value): (&Augmentation, f32)| {
            augmentation.value == ValueForm::Pixels && value >= image_size as f32
        };
        if self.iter().any(too_large) {
            let problem = format!("`augment` {self} leaves nothing of images of {image_size} pixels");
            return Err(Error::Usage(problem));
        }
        let conflict = self.iter().find_map(|(augmentation, _)| {
            let joins = finetunes && matches!(augmentation.act, Act::Mix(_));
            let joins = joins.then_some("joins images in pairs, which fine-tuning does not");
            (augmentation.conflict)(self).or(joins).map(|problem| (augmentation.name, problem))
        });
        conflict.map_or(Ok(()), |(name, problem)| {
            Err(Error::Usage(format!("`augment` {self}: {name} {problem}")))
        })
    }
}

impl Augmentation {
    /// How it is written: `flip`, `shift=PIXELS`.
    pub fn form(&self) -> String {
        match self.value {
            ValueForm::Written(texts) => texts.join(", "),
            ValueForm::Pixels => format!("{}=PIXELS", self.name),
            ValueForm::UpTo(most) => format!("{}=0..{most}", self.name),
        }
    }

    /// The value that a part of a list gives it, if it is about this one.
    fn read(&self, part: &str) -> Option<f32> {
        let value = part.strip_prefix(self.name)?;
        match self.value {
            ValueForm::Written(texts) => {
                texts.iter().position(|text| *text == part).map(|at| (at + 1) as f32)
            }
            ValueForm::Pixels => {
                let pixels = value.strip_prefix('=')?.parse::<usize>().ok()?;
                (pixels <= MOST_PIXELS).then_some(pixels as f32)
            }
            ValueForm::UpTo(most) => {
                let number = value.strip_prefix('=')?.parse().ok()?;
                (0.0..=most).contains(&number).then_some(number)
            }
        }
    }

    /// The part of a list that gives it this value.
    fn written(&self, value: f32) -> String {
        match self.value {
            ValueForm::Written(texts) => texts[value as usize - 1].to_string(),
            ValueForm::Pixels | ValueForm::UpTo(_) => format!("{}={value}", self.name),
        }
    }
}

/// How a part of a list that is wrong should be written: as the augmentation that it names, if it
/// names one.
fn meant(part: &str) -> String {
    let name = part.split('=').next().unwrap_or_default();
    match AUGMENTATIONS.iter().find(|augmentation| augmentation.name == name) {
        Some(Augmentation { value: ValueForm::Pixels, .. }) => {
            format!("{name}=PIXELS, a whole number up to {MOST_PIXELS}")
        }
        Some(augmentation) => augmentation.form(),
        None => forms(),
    }
}

/// All that can be chosen, for help and errors.
pub fn forms() -> String {
    let forms: Vec<String> = AUGMENTATIONS.iter().map(Augmentation::form).collect();
    format!("none, or a list of {}, such as flip,shift=4", forms.join(", "))
}

impl FromStr for Augmentations {
    type Err = Error;

    /// `none`, or a list such as `flip,shift=4`.
    fn from_str(text: &str) -> Result<Self> {
        let (mut chosen, mut given) = (Augmentations::default(), BTreeSet::new());
        for part in text.split(',').filter(|_| text != "none") {
            let read = |known: &'static Augmentation| Some((known, known.read(part)?));
            let found = AUGMENTATIONS.iter().find_map(read);
            let (augmentation, value) =
                found.ok_or_else(|| Error::Usage(format!("augmentation '{part}': write {}", meant(part))))?;
            if !given.insert(augmentation.name) {
                return Err(Error::Usage(format!(
                    "augmentation '{part}': {} is given twice",
                    augmentation.name
                )));
            }
            chosen = chosen.with(augmentation, value);
        }
        Ok(chosen)
    }
}

impl fmt::Display for Augmentations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> =
            self.iter().map(|(augmentation, value)| augmentation.written(value)).collect();
        f.write_str(if parts.is_empty() { "none" } else { "" })?;
        f.write_str(&parts.join(","))
    }
}

/// The value behind an augmentation's name in a file: `flip = true`, `shift = 4`.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum InFile {
    Whether(bool),
    Whole(u32),
    Share(f32),
    Word(String),
}

impl Serialize for Augmentations {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut table = serializer.serialize_map(None)?;
        for (augmentation, value) in self.iter() {
            let part = augmentation.written(value);
            let value = match part.split_once('=') {
                None => InFile::Whether(true),
                Some((_, text)) => match (text.parse(), text.parse()) {
                    (Ok(whole), _) => InFile::Whole(whole),
                    (_, Ok(share)) => InFile::Share(share),
                    _ => InFile::Word(text.to_string()),
                },
            };
            table.serialize_entry(augmentation.name, &value)?;
        }
        table.end()
    }
}

impl<'de> Deserialize<'de> for Augmentations {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let table = BTreeMap::<String, InFile>::deserialize(deserializer)?;
        let parts = table.into_iter().filter_map(|(name, value)| match value {
            InFile::Whether(false) => None,
            InFile::Whether(true) => Some(name),
            InFile::Whole(value) => Some(format!("{name}={value}")),
            InFile::Share(value) => Some(format!("{name}={value}")),
            InFile::Word(value) => Some(format!("{name}={value}")),
        });
        let parts: Vec<String> = parts.collect();
        let text = if parts.is_empty() { "none".into() } else { parts.join(",") };
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn in_file(table: &str) -> std::result::Result<Augmentations, toml::de::Error> {
        toml::from_str(table)
    }

    /// Every augmentation by itself, and all of them.
    fn lists() -> Vec<Augmentations> {
        let none = Augmentations::default();
        let (mut lists, mut all) = (vec![none], none);
        for augmentation in AUGMENTATIONS {
            for value in augmentation.value.examples() {
                lists.push(none.with(augmentation, value));
                all = all.with(augmentation, value);
            }
        }
        lists.push(all);
        lists
    }

    #[test]
    fn lists_are_read_as_they_are_written_and_survive_a_file() {
        for chosen in lists() {
            assert_eq!(chosen.to_string().parse::<Augmentations>().unwrap(), chosen);
            assert_eq!(in_file(&toml::to_string(&chosen).unwrap()).unwrap(), chosen, "{chosen}");
        }
        assert_eq!("shift=4,flip".parse::<Augmentations>().unwrap().to_string(), "flip,shift=4");
        for text in ["", "flop", "shift", "shift=", "shift=x", "shift=-1", "flip=2", "flip=", "shift=99999"] {
            let error = text.parse::<Augmentations>().unwrap_err().to_string();
            let meant = if text.starts_with("shift") {
                "write shift=PIXELS, a whole number up to 1024"
            } else {
                "write"
            };
            assert!(
                error.contains(meant) && error.contains(&forms()) == ["", "flop"].contains(&text),
                "{text}"
            );
        }
    }

    /// Files as earlier versions wrote them.
    #[test]
    fn files_of_earlier_runs_are_read() {
        let old = in_file("flip = true\nshift = 4\ncutout = 0").unwrap();
        assert_eq!(old.to_string(), "flip,shift=4");
        assert!(in_file("flip = false\nshift = 0\ncutout = 0").unwrap().is_empty());
        for wrong in ["flop = true", "shift = true", "shift = -4", "flip = 3", "cutout = 'x'"] {
            let name = wrong.split(' ').next().unwrap();
            assert!(in_file(wrong).unwrap_err().to_string().contains(name), "{wrong}");
        }
    }

    #[test]
    fn pixels_are_fewer_than_an_image_has() {
        for augmentation in AUGMENTATIONS.iter().filter(|known| known.value == ValueForm::Pixels) {
            let chosen = Augmentations::default().with(augmentation, 32.0);
            assert!(chosen.check(33, false).is_ok());
            let error = chosen.check(32, false).unwrap_err().to_string();
            assert!(error.contains(&chosen.to_string()) && error.contains("32 pixels"), "{error}");
        }
    }

    #[test]
    fn each_is_told_once() {
        for text in ["shift=4,shift=5", "flip=alternate,flip", "flip,flip", "mixup=0.1,shift=2,mixup=0.1"] {
            let error = text.parse::<Augmentations>().unwrap_err().to_string();
            assert!(error.contains("is given twice"), "{error}");
        }
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        let check = |list: &str, finetunes| list.parse::<Augmentations>().unwrap().check(32, finetunes);
        assert!(check("flip,mixup=0.2", false).is_ok() && check("flip,cutout=8", true).is_ok());
        let wrong = [
            ("mixup=0.2", true, "fine-tuning"),
            ("cutmix=1", true, "fine-tuning"),
            ("mixup=1,cutmix=1", false, "exclude"),
        ];
        for (list, finetunes, part) in wrong {
            let error = check(list, finetunes).unwrap_err().to_string();
            assert!(error.contains(part) && error.contains(list), "{error}");
        }
    }

    #[test]
    fn the_guide_has_a_row_for_each() {
        let guide = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/guide.md")).unwrap();
        for augmentation in AUGMENTATIONS {
            let form = augmentation.form().replace(", ", "`, `");
            let row = format!("| `{form}` | {} |", augmentation.about);
            assert!(guide.lines().any(|line| line == row), "docs/guide.md lacks the row\n{row}");
        }
    }
}
