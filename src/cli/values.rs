//! Values of options that completions can offer.

use std::ffi::OsStr;

use clap::builder::{PossibleValue, TypedValueParser};
use clap::{Arg, Command};

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

/// Reads a value by [`std::str::FromStr`].
pub fn read<T: std::str::FromStr<Err: ToString>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: T::Err| error.to_string())
}
