//! Environment variables. One that is empty or blank counts as unset, whoever reads it: compose
//! files and CI set variables to nothing when they mean that nothing is chosen.

use std::ffi::{OsStr, OsString};

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command};

/// The value of a variable; none where it is unset or blank.
pub fn value(name: impl AsRef<OsStr>) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !is_blank(value))
}

/// [`value`] as text; in what is not text, each wrong byte is a sign of its own, so that nobody
/// takes the variable for unset.
pub fn text(name: &str) -> Option<String> {
    Some(value(name)?.to_string_lossy().into_owned())
}

/// Whether a variable switches something on: it is set, and not to `0`, `false`, `no` or `off`.
pub fn is_on(name: &str) -> bool {
    text(name).is_some_and(|value| switches_on(&value))
}

/// Takes from a command, and from those below it, the variables that are blank.
pub fn without_blank(command: Command) -> Command {
    let command = command.mut_args(|arg| match arg.get_env() {
        Some(name) if value(name).is_none() => arg.env(None::<&'static str>),
        _ => arg,
    });
    command.mut_subcommands(without_blank)
}

/// The variable that a refused value is from, which the message of the refusal does not say.
pub fn at_fault(refusal: &clap::Error, mut command: Command) -> Option<String> {
    command.build(); // only then options have names
    let said = |kind| match refusal.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    let (option, refused) = (said(ContextKind::InvalidArg), said(ContextKind::InvalidValue));
    let is_at_fault = |arg: &Arg, value: &OsStr| match refusal.kind() {
        ErrorKind::InvalidUtf8 => value.to_str().is_none(),
        _ => Some(arg.to_string().as_str()) == option && value.to_str() == refused,
    };
    command.get_subcommands().flat_map(Command::get_arguments).find_map(|arg| {
        let name = arg.get_env()?;
        value(name).filter(|value| is_at_fault(arg, value)).and(name.to_str()).map(String::from)
    })
}

/// The variable behind a value that was read well and refused later, by a message that names the
/// option or the value.
pub fn behind(message: &str, chosen: &ArgMatches, mut command: Command) -> Option<String> {
    command.build();
    let (name, chosen) = chosen.subcommand()?;
    let command = command.find_subcommand(name)?;
    let is_behind = |arg: &&Arg| {
        let is_variable = chosen.value_source(arg.get_id().as_str()) == Some(ValueSource::EnvVariable);
        let option = arg.get_long().map(|long| format!("--{long} "));
        let text =
            arg.get_env().and_then(value).and_then(|text| text.to_str().map(|text| format!("'{text}'")));
        is_variable && [option, text].into_iter().flatten().any(|part| message.contains(&part))
    };
    let arg = command.get_arguments().find(is_behind)?;
    arg.get_env()?.to_str().map(String::from)
}

fn is_blank(value: &OsStr) -> bool {
    value.to_str().is_some_and(|text| text.trim().is_empty())
}

fn switches_on(value: &str) -> bool {
    !["0", "false", "no", "off"].contains(&value.trim().to_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blank_is_unset_and_no_is_no() {
        for blank in ["", " ", "\t\n"] {
            assert!(is_blank(OsStr::new(blank)), "{blank:?}");
        }
        assert!(!is_blank(OsStr::new(" 0 ")));
        for (value, on) in
            [("1", true), ("true", true), (" 0 ", false), ("False", false), ("no", false), ("off", false)]
        {
            assert_eq!(switches_on(value), on, "{value}");
        }
    }
}
