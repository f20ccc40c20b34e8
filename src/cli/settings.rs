//! The table of settings as options: names, help, variables and values of each follow from its row.

use clap::builder::{BoolValueParser, StringValueParser, TypedValueParser, ValueParser};
use clap::error::ErrorKind;
use clap::{Arg, ArgMatches, Args, Command, FromArgMatches, ValueHint};
use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

use super::options::{count, image_size};
use super::values::{joined, one_of};
use crate::ops::augment::{Augmentations, forms};
use crate::train::finetune_defaults::{MANY, defaults};
use crate::train::optimizers::{OPTIMIZERS, Optimizer};
use crate::train::settings::choices::table;
use crate::train::settings::class_weights::ClassWeights;
use crate::train::settings::finetune::{Blocks, FINETUNE_SETTINGS, Finetune, FinetuneChoices};
use crate::train::settings::{
    Choices, PHOTOS, RECIPES, Recipe, SETTINGS, Setting, Settings, Usual, ValueKind,
};

/// `--recipe`, which chooses what no option gives.
static RECIPE: Setting = Setting {
    name: "recipe",
    kind: ValueKind::Name(|| RECIPES.iter().map(|one| (one.name, one.about)).collect()),
    value_name: "NAME",
    help: "Settings to begin with; every other option overrides one",
    usual: Usual::Told("default"),
    ..Setting::NONE
};

/// The options of `train`: a recipe stands before what it is about.
fn all() -> impl Iterator<Item = &'static Setting> {
    let (before, after) = SETTINGS.split_at(2);
    before.iter().chain([&RECIPE]).chain(after)
}

/// The setting that an option is of.
pub fn setting(name: &str) -> Option<&'static Setting> {
    all().chain(FINETUNE_SETTINGS).find(|setting| setting.name == name && setting.is_option())
}

/// Options that are the choices of a table's settings.
macro_rules! options_of {
    ($Choices:ident, $rows:expr) => {
        impl Args for $Choices {
            fn augment_args(command: Command) -> Command {
                command.args($rows.filter_map(option))
            }

            fn augment_args_for_update(command: Command) -> Command {
                $Choices::augment_args(command)
            }
        }

        impl FromArgMatches for $Choices {
            fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
                chosen($rows, matches)
            }

            fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
                *self = chosen($rows, matches)?;
                Ok(())
            }
        }
    };
}

options_of!(Choices, all());
options_of!(FinetuneChoices, FINETUNE_SETTINGS.iter());

/// The choices among the values of options.
fn chosen<'a, T: DeserializeOwned>(
    rows: impl Iterator<Item = &'a Setting>,
    matches: &ArgMatches,
) -> Result<T, clap::Error> {
    let value = |row: &Setting| Some((row.name.to_string(), matches.get_one::<Value>(row.name)?.clone()));
    let table: Table = rows.filter(|row| row.is_option()).filter_map(value).collect();
    // Each value was read as its kind.
    table.try_into().map_err(|error: toml::de::Error| clap::Error::raw(ErrorKind::ValueValidation, error))
}

/// The option of a setting, if it has one.
fn option(row: &Setting) -> Option<Arg> {
    let arg = Arg::new(row.name).long(row.option()?).value_name(row.value_name).help(help_in_train(row));
    let arg = arg.value_parser(parser(row)).env(row.variable()?).hide_env(true);
    Some(match row.kind {
        ValueKind::Path | ValueKind::ClassWeights => arg.value_hint(ValueHint::AnyPath),
        ValueKind::Switch => arg.num_args(0..=1).default_missing_value("true").require_equals(true),
        ValueKind::Every => arg.num_args(0..=1).default_missing_value("1").require_equals(true),
        _ => arg,
    })
}

/// Parser of a value of an option, as a file of settings would have it.
fn parser(row: &Setting) -> ValueParser {
    match row.kind {
        ValueKind::Path | ValueKind::InFile => StringValueParser::new().map(Value::from).into(),
        ValueKind::Count | ValueKind::Every => {
            (|text: &str| count(text).map(|number| Value::Integer(number as i64))).into()
        }
        ValueKind::Size => (|text: &str| image_size(text).map(|size| Value::Integer(size as i64))).into(),
        ValueKind::Seed => (|text: &str| seed(text).map(Value::from)).into(),
        ValueKind::Number => (|text: &str| text.parse::<f64>().map(Value::Float)).into(),
        ValueKind::Switch => BoolValueParser::new().map(Value::from).into(),
        ValueKind::Blocks => (|text: &str| as_value(text.parse::<Blocks>())).into(),
        ValueKind::Augmentations => (|text: &str| as_value(text.parse::<Augmentations>())).into(),
        ValueKind::ClassWeights => (|text: &str| as_value(text.parse::<ClassWeights>())).into(),
        ValueKind::Name(names) => one_of(row.name, names()).into(),
    }
}

/// A seed.
fn seed(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| format!("must be a whole number, no larger than {}", u32::MAX))
}

fn as_value(read: crate::error::Result<impl Serialize>) -> Result<Value, String> {
    let value = read.map_err(|error| error.to_string())?;
    Value::try_from(value).map_err(|error| error.to_string())
}

/// Help of a setting's option: its description and its default.
fn help(row: &Setting, text: &str, usual: &str) -> String {
    let text = text.trim().trim_end_matches('.');
    let text = match row.kind {
        ValueKind::Augmentations => format!("{text}: {}", forms()),
        _ => text.to_string(),
    };
    if usual.is_empty() { text } else { format!("{text} [default: {usual}]") }
}

fn help_in_train(row: &Setting) -> String {
    let usual = match row.usual {
        Usual::OfRecipe(words) => of_recipes(row, words),
        Usual::OfOptimizer(usual) => of_optimizers(usual),
        Usual::Told(words) => words.into(),
        Usual::Untold => String::new(),
    };
    help(row, row.help, &usual)
}

/// Values of the recipes for a setting: that of the first, with these words, and of those that
/// differ from it.
fn of_recipes(row: &Setting, words: &str) -> String {
    let value = |recipe: &&Recipe| (recipe.name, shown(row, &values(&recipe.settings())));
    let mut groups = grouped(RECIPES.iter().filter(of_train).map(value)).into_iter();
    let first = groups.next().map_or(String::new(), |(value, _)| value);
    let others = groups.map(|(value, names)| {
        let noun = if names.len() > 1 { "recipes" } else { "recipe" };
        format!("; {value} in the {} {noun}", joined(&names, "and"))
    });
    format!("{first}{words}{}", others.collect::<String>())
}

fn of_train(recipe: &&&Recipe) -> bool {
    recipe.command() == "train"
}

/// Values of the optimizers for a setting: `1 for a, 2 for b and c`.
fn of_optimizers(usual: fn(&Optimizer) -> f32) -> String {
    let groups = grouped(OPTIMIZERS.iter().map(|optimizer| (optimizer.name, number(usual(optimizer)))));
    let groups = groups.iter().map(|(value, names)| format!("{value} for {}", joined(names, "and")));
    groups.collect::<Vec<_>>().join(", ")
}

/// The names of each value.
fn grouped<'a>(all: impl Iterator<Item = (&'a str, String)>) -> Vec<(String, Vec<&'a str>)> {
    let mut groups: Vec<(String, Vec<&str>)> = Vec::new();
    for (name, value) in all {
        match groups.iter_mut().find(|(known, _)| *known == value) {
            Some((_, names)) => names.push(name),
            None => groups.push((value, vec![name])),
        }
    }
    groups
}

/// Values of these settings for every row, those that only fine-tuning has included.
fn values(settings: &Settings) -> Table {
    let mut values = table(&Finetune::default());
    values.extend(table(settings));
    values
}

/// The value that a table has for a setting, as a user would write it.
fn shown(row: &Setting, table: &Table) -> String {
    match &table[row.name] {
        Value::String(text) => text.clone(),
        Value::Float(value) => number(*value as f32),
        value if matches!(row.kind, ValueKind::Augmentations) => {
            let read: Result<Augmentations, _> = value.clone().try_into();
            read.map_or(String::new(), |chosen| chosen.to_string())
        }
        value => value.to_string(),
    }
}

/// A number as briefly as one would write it.
fn number(value: f32) -> String {
    if value != 0.0 && value.abs() < 0.01 { format!("{value:e}") } else { value.to_string() }
}

/// Says in the help of `finetune` what the settings that `train` has too mean and are there.
pub fn in_finetune(command: Command) -> Command {
    let (settings, photos) = (values(&defaults(MANY, None)), values(&PHOTOS.settings()));
    let text = |row: &Setting| {
        let (text, usual) = row.in_finetune.unwrap_or((row.help, row.usual));
        match usual {
            Usual::Told(words) => help(row, text, words),
            Usual::Untold => help(row, text, ""),
            Usual::OfRecipe(words) => {
                let (usual, other) = (shown(row, &settings), shown(row, &photos));
                let recipe =
                    if usual == other { String::new() } else { format!("; {other} in the photos recipe") };
                help(row, text, &format!("{usual}{words}{recipe}"))
            }
            Usual::OfOptimizer(_) => help(row, text, &shown(row, &settings)),
        }
    };
    command.mut_args(|arg| match all().find(|row| row.name == arg.get_id().as_str()) {
        Some(row) if row.name == RECIPE.name => arg.help(help(row, row.help, "none")),
        Some(row) => arg.help(text(row)),
        None => arg,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn help_of(command: &str) -> String {
        let mut command = crate::cli::command().find_subcommand(command).unwrap().clone();
        let text = command.render_long_help().to_string();
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn every_setting_stands_in_the_help_of_its_commands() {
        let (train, finetune) = (help_of("train"), help_of("finetune"));
        let says = |help: &str, option: &str| help.contains(&format!(" --{option}"));
        for row in all().filter(|row| row.is_option()) {
            let option = row.option().unwrap();
            assert!(says(&train, &option), "train --{option}");
            assert!(says(&finetune, &option), "finetune --{option}");
            assert!(!row.help.trim().is_empty() && !row.value_name.is_empty(), "{option}");
        }
        for row in FINETUNE_SETTINGS.iter().filter(|row| row.is_option()) {
            let option = row.option().unwrap();
            assert!(says(&finetune, &option) && !says(&train, &option), "finetune --{option}");
        }
    }

    #[test]
    fn help_tells_the_defaults_of_recipes_and_optimizers() {
        let (train, finetune) = (help_of("train"), help_of("finetune"));
        for default in [
            "--data <DATA> auto, cifar10",
            "[default: auto]",
            "[default: 0.3; 0.5 in the keras recipe; 0 in the fast and accurate recipes]",
            "[default: flip,shift=4; none in the keras recipe; flip=alternate,border=reflect,shift=2 in the fast",
            "0.1 for sgd, 4e-3 for adam, 1e-3 for keras-adam",
            "0 for adam and keras-adam",
            "[default: 5000, at most a tenth; 0 in the fast and accurate recipes]",
            "[default: sgd; keras-adam in the keras recipe; muon in the fast and accurate recipes]",
            "[default: 0, off]",
        ] {
            assert!(train.contains(default), "{default}: {train}");
        }
        for default in [
            "[default: 0.2]",
            "[default: 1e-4]",
            "[default: 2500, at most a tenth]",
            "[default: all]",
            "[default: 0, off; 0.98 in the photos recipe]",
            "[default: 0.1; 0 in the photos recipe]",
            "[default: 20]",
        ] {
            assert_eq!(finetune.contains(default), default != "[default: 20]", "{default}: {finetune}");
        }
    }

    #[test]
    fn options_and_variables_are_named_after_settings() {
        let named = |name: &str| setting(name).and_then(|row| Some((row.option()?, row.variable()?)));
        let expected =
            |option: &str, variable: &str| Some((option.into(), format!("CIFAR_ENGINE_{variable}")));
        assert_eq!(named("batch_size"), expected("batch-size", "BATCH_SIZE"));
        assert_eq!(named("rate"), expected("lr", "LR"));
        assert_eq!(named("backbone"), expected("backbone-lr", "BACKBONE_LR"));
        assert_eq!(named("norm"), None);
    }
}
