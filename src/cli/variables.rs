//! Environment variables that stand in for options: which are looked at, and which is at fault.

use std::ffi::OsStr;
use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{Arg, ArgMatches, Command};

use crate::environment::value;
use crate::train::settings::SETTINGS;
use crate::train::settings::finetune::FINETUNE_SETTINGS;

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

/// The file of settings behind a value that was refused by a message which begins with its option,
/// where the option was not given.
pub fn behind_file(message: &str, chosen: &ArgMatches, mut command: Command) -> Option<PathBuf> {
    command.build();
    let (name, chosen) = chosen.subcommand()?;
    let file = chosen.try_get_one::<PathBuf>("config").ok()?.filter(|file| file.is_file())?;
    let command = command.find_subcommand(name)?;
    let is_named = |arg: &&Arg| arg.get_long().is_some_and(|long| message.starts_with(&format!("--{long} ")));
    let setting = command.get_arguments().find(is_named)?.get_id().as_str();
    let table: toml::Table = std::fs::read_to_string(file).ok()?.parse().ok()?;
    let own = table.get("finetune").and_then(toml::Value::as_table);
    let is_there = table.contains_key(setting) || own.is_some_and(|own| own.contains_key(setting));
    (chosen.value_source(setting).is_none() && is_there).then(|| file.clone())
}

/// How the library names what a user can choose, and the option for it.
pub fn options(mut command: Command) -> Vec<(String, String)> {
    command.build();
    let settings = SETTINGS.iter().chain(FINETUNE_SETTINGS);
    let settings = settings.filter_map(|setting| Some((setting.name.to_string(), setting.option()?)));
    let all = command.get_subcommands().flat_map(Command::get_arguments).filter_map(Arg::get_long);
    settings.chain(all.map(|option| (option.replace('-', "_"), option.to_string()))).collect()
}
