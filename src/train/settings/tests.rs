//! Tests of settings by themselves; `tests/train.rs` has the program's.

use super::*;
use crate::train::optimizers::adam::ADAM;

#[test]
fn what_comes_from_a_file_is_checked_as_options_are() {
    let good = Settings::default();
    good.check().unwrap();
    let norm = |epsilon, momentum| Settings { norm: Norm { epsilon, momentum }, ..good.clone() };
    for (wrong, part) in [
        (norm(0.0, 0.1), "norm.epsilon"),
        (norm(f32::NAN, 0.1), "norm.epsilon"),
        (norm(1e-5, -0.1), "norm.momentum"),
        (norm(1e-5, f32::NAN), "norm.momentum"),
        (Settings { rate: f32::NAN, ..good.clone() }, "`rate`"),
        (Settings { weight_decay: f32::INFINITY, ..good.clone() }, "`weight_decay`"),
        (Settings { ema: f32::NAN, ..good.clone() }, "`ema`"),
        (Settings { target: f64::NAN, ..good.clone() }, "`target`"),
        (Settings { epochs: MOST_EPOCHS + 1, ..good.clone() }, "`epochs`"),
    ] {
        assert!(wrong.check().unwrap_err().to_string().contains(part), "{part}");
    }
    let text = format!("{}surprise = 1\n", good.to_toml().split('[').next().unwrap());
    assert!(toml::from_str::<Settings>(&text).unwrap_err().message().contains("surprise"));
}

#[test]
fn the_batch_follows_the_data() {
    let batches = [45_000, 1280, 1279, 280, 81, 20, 3].map(|images| usual_batch(128, images));
    assert_eq!(batches, [128, 128, 64, 16, 8, 8, 8]);
    assert_eq!([50_000, 4999, 1000, 3].map(|images| usual_batch(500, images)), [500, 250, 62, 8]);
}

#[test]
fn settings_survive_their_file_and_are_the_rows_of_the_table() {
    for recipe in RECIPES {
        let text = recipe.settings().to_toml();
        assert_eq!(toml::from_str::<Settings>(&text).unwrap(), recipe.settings());
        let mut table: toml::Table = text.parse().unwrap();
        assert_eq!(table.remove("finetune").is_some(), recipe.command() == "finetune");
        let mut names: Vec<&str> = SETTINGS.iter().map(|setting| setting.name).collect();
        names.sort_unstable();
        assert!(table.keys().eq(names), "{recipe}");
    }
}

#[test]
fn pretrained_layers_keep_their_norms() {
    for optimizer in OPTIMIZERS {
        let scratch = Settings { optimizer, ..Settings::default() };
        scratch.check().unwrap();
        let message = match (Settings { finetune: Some(Finetune::default()), ..scratch }).check() {
            Ok(()) => String::new(),
            Err(error) => error.to_string(),
        };
        assert_eq!(message.contains("which pretrained layers do not survive"), optimizer.sets_norms);
    }
}

#[test]
fn rates_and_momentum_are_refused_where_they_do_nothing() {
    let own = Settings { bias_rate: 0.1, classifier_rate: 0.1, momentum: 0.5, ..Settings::default() };
    own.check().unwrap();
    let adam = Settings { optimizer: &ADAM, ..own.clone() };
    let message = adam.check().unwrap_err().to_string();
    assert!(message.contains("`momentum` 0.5 is for sgd and muon; adam"), "{message}");
    let finetune = Settings { finetune: Some(Finetune::default()), ..own };
    let message = finetune.check().unwrap_err().to_string();
    assert!(message.contains("`bias_rate` 0.1 is for train"), "{message}");
}

/// As runs have it whose version knew one rate.
#[test]
fn settings_of_runs_without_groups_are_read() {
    let mut table = toml::Table::try_from(Settings::default()).unwrap();
    for new in ["bias_rate", "classifier_rate", "momentum", "bias_decay"] {
        table.remove(new).unwrap();
    }
    assert_eq!(table.try_into::<Settings>().unwrap(), Settings::default());
}

#[test]
fn every_number_is_checked_under_its_name() {
    let begin = Settings { finetune: Some(Finetune::default()), ..Settings::default() };
    begin.check().unwrap();
    let numbers =
        |table: &'static [Setting]| table.iter().filter(|row| matches!(row.kind, ValueKind::Number));
    let with = |inner: bool, name: &str, value: f64| {
        let mut table = toml::Table::try_from(&begin).unwrap();
        let place = match inner {
            true => table["finetune"].as_table_mut().unwrap(),
            false => &mut table,
        };
        place.insert(name.into(), value.into());
        table.try_into::<Settings>().unwrap()
    };
    for (inner, table) in [(false, SETTINGS), (true, FINETUNE_SETTINGS)] {
        for row in numbers(table) {
            let name = format!("`{}` ", row.name);
            for value in [f64::NAN, f64::INFINITY, -1.0] {
                let message = with(inner, row.name, value).check().unwrap_err().to_string();
                assert!(message.contains(&name), "{name} {value}: {message}");
            }
        }
    }
}
