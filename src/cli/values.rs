//! Values of options that completions can offer.

use std::ffi::OsStr;

use clap::builder::{PossibleValue, TypedValueParser};
use clap::{Arg, Command};

use crate::models::{Architecture, MODELS};
use crate::registry::unknown;

/// Reads a value, and knows some that are often wanted.
#[derive(Clone)]
pub struct Known<T> {
    values: Vec<&'static str>,
    read: fn(&str) -> Result<T, String>,
}

/// A parser of values that `read` takes, of which completions offer `values`: there may be more.
pub fn known<T>(
    values: impl IntoIterator<Item = &'static str>,
    read: fn(&str) -> Result<T, String>,
) -> Known<T> {
    Known { values: values.into_iter().collect(), read }
}

impl<T: Clone + Send + Sync + 'static> TypedValueParser for Known<T> {
    type Value = T;

    fn parse_ref(&self, command: &Command, arg: Option<&Arg>, value: &OsStr) -> Result<T, clap::Error> {
        TypedValueParser::parse_ref(&self.read, command, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(self.values.iter().map(PossibleValue::new)))
    }
}

/// Reads one of some names.
#[derive(Clone)]
pub struct OneOf {
    kind: &'static str,
    /// Each with a line about it, which may be empty.
    names: Vec<(&'static str, &'static str)>,
}

/// A parser of the names of a `kind` of things, each given with a line about it, which may be
/// empty.
pub fn one_of(kind: &'static str, names: Vec<(&'static str, &'static str)>) -> OneOf {
    OneOf { kind, names }
}

impl TypedValueParser for OneOf {
    type Value = toml::Value;

    fn parse_ref(
        &self,
        command: &Command,
        arg: Option<&Arg>,
        value: &OsStr,
    ) -> Result<Self::Value, clap::Error> {
        let OneOf { kind, names } = self.clone();
        let read = move |text: &str| match names.iter().any(|(name, _)| *name == text) {
            true => Ok(toml::Value::from(text)),
            false => Err(unknown(kind, text, names.iter().map(|(name, _)| *name))),
        };
        TypedValueParser::parse_ref(&read, command, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        let value = |(name, about): &(&'static str, &'static str)| match *about {
            "" => PossibleValue::new(*name),
            about => PossibleValue::new(*name).help(about),
        };
        Some(Box::new(self.names.iter().map(value)))
    }
}

/// Reads a value by [`std::str::FromStr`].
pub fn read<T: std::str::FromStr<Err: ToString>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: T::Err| error.to_string())
}

/// The models, as a help text lists them: `a, b or c`.
pub fn model_names() -> String {
    joined(&Architecture::names().collect::<Vec<_>>(), "or")
}

/// The sizes of images that models are at home with, for a help text: `32 for a and b, 96 for c`.
pub fn usual_sizes() -> String {
    let mut sizes: Vec<usize> = MODELS.iter().map(|model| model.usual_size).collect();
    sizes.sort_unstable();
    sizes.dedup();
    let models = |size| MODELS.iter().filter(move |model| model.usual_size == size).map(|model| model.name);
    let of_size = |size| format!("{size} for {}", joined(&models(size).collect::<Vec<_>>(), "and"));
    sizes.into_iter().map(of_size).collect::<Vec<_>>().join("; ")
}

/// `a, b WORD c`.
pub fn joined(names: &[&str], word: &str) -> String {
    match names {
        [rest @ .., last] if !rest.is_empty() => format!("{} {word} {last}", rest.join(", ")),
        _ => names.concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_lists_models_as_one_would_say_them() {
        assert_eq!(joined(&["a"], "or"), "a");
        assert_eq!(joined(&["a", "b", "c"], "or"), "a, b or c");
        assert!(Architecture::names().all(|name| model_names().contains(name)));
        assert!(usual_sizes().starts_with("32 for cnn"), "{}", usual_sizes());
    }
}
