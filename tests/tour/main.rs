//! The tour (`src/tour`): what it quotes, prints, draws and lists is what is there. Its numbers are
//! doctests.

mod map;
mod slots;

use std::fs;
use std::path::{Path, PathBuf};

use cifar_engine::prelude::*;
use cifar_engine::tour::Block;

/// A file of the repository.
fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// Its text.
fn read(name: &str) -> String {
    fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Checks that a file of the tour, which is derived from the source, is as it would be derived now;
/// writes it where `CIFAR_ENGINE_RENEW` is set.
fn assert_derived(name: &str, text: &str) {
    let name = format!("src/tour/{name}");
    if std::env::var_os("CIFAR_ENGINE_RENEW").is_some() {
        fs::write(path(&name), text).unwrap();
    }
    let old = fs::read_to_string(path(&name)).unwrap_or_default();
    let changed = text.lines().zip(old.lines()).find(|(new, old)| new != old);
    assert!(
        old == text,
        "{name} is stale, from {changed:?} on; renew it: CIFAR_ENGINE_RENEW=1 cargo test --release --test tour"
    );
}

/// The pages of the tour, with their names.
fn pages() -> Vec<(String, String)> {
    let entries = fs::read_dir(path("src/tour")).unwrap().map(|entry| entry.unwrap().path());
    let pages = entries.filter(|path| path.extension().is_some_and(|ext| ext == "rs"));
    pages.map(|path| (path.display().to_string(), fs::read_to_string(&path).unwrap())).collect()
}

/// The block as it learns.
fn learning() -> Block {
    let mut block = Block::new().unwrap();
    block.learn(0.5).unwrap();
    block
}

#[test]
fn what_the_tour_prints_is_what_is_printed() {
    let forward = Block::new().unwrap().graph;
    let block = learning();
    let device = device::cpu().unwrap();
    let (rewritten, rewrites) = device.rewrite(&block.graph).unwrap();
    let plan = device.plan(&block.graph).unwrap();
    let rewrites: String = rewrites.iter().map(|rewrite| format!("{rewrite}\n")).collect();
    let rules = device.rules().iter().map(|rule| format!("{}: {}\n", rule.name, rule.replaces));
    let printed = block.graph.to_string();
    let added = printed.split_inclusive('\n').skip(forward.nodes().len());
    assert_derived("printed/forward.txt", &forward.to_string());
    assert_derived("printed/backward.txt", &added.collect::<String>());
    assert_derived("printed/rules.txt", &rules.collect::<String>());
    assert_derived("printed/rewrites.txt", &rewrites);
    assert_derived("printed/rewritten.txt", &rewritten.to_string());
    assert_derived("printed/plan.txt", &plan.to_string());
    assert_derived("slots.svg", &slots::picture(&plan));
}

/// File and code of the quotes of a page: a line `> FILE:`, and a line `> CODE`, between backticks.
fn quotes(page: &str) -> Vec<(&str, &str)> {
    let quoted = |line| str::strip_prefix(line, "//! > `");
    let mut lines = page.lines().filter_map(quoted);
    let pairs = std::iter::from_fn(|| Some((lines.next()?.trim_end_matches("`:"), lines.next()?)));
    pairs.map(|(file, code)| (file, code.trim_end_matches('`'))).collect()
}

#[test]
fn the_code_that_the_tour_quotes_is_there() {
    let mut count = 0;
    for (page, text) in pages() {
        for (file, code) in quotes(&text) {
            assert!(read(file).contains(code), "{page}: {file} has no longer {code}");
            count += 1;
        }
    }
    assert!(count > 9, "{count} quotes are found only");
}

/// The anchor that rustdoc gives a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.collect::<String>().trim().to_lowercase().replace(' ', "-")
}

/// Rustdoc checks the pages that links name, but not the places in them.
#[test]
fn links_into_pages_lead_to_headings() {
    let mut count = 0;
    for (page, text) in pages() {
        for link in text.split("(super::").skip(1) {
            let Some((target, place)) = link.split(')').next().unwrap().split_once('#') else { continue };
            let target = read(&format!("src/tour/{target}.rs"));
            let mut headings = target.lines().filter_map(|line| line.strip_prefix("//! #"));
            let found = headings.any(|heading| anchor(heading.trim_start_matches('#')) == place);
            assert!(found, "{page}: there is no heading {place}");
            count += 1;
        }
    }
    assert!(count > 9, "{count} links are found only");
}

#[test]
fn pictures_have_the_colours_of_the_page() {
    for name in ["window", "backward", "slots"] {
        let text = read(&format!("src/tour/{name}.svg"));
        // Markdown ends at an empty line what it takes for HTML.
        assert!(!text.contains("\n\n") && text.starts_with("<figure>\n"), "{name}");
        for attribute in ["fill=\"", "stroke=\""] {
            let colours = text.split(attribute).skip(1).map(|rest| rest.split('"').next().unwrap());
            colours
                .for_each(|colour| assert!(["currentColor", "none"].contains(&colour), "{name}: {colour}"));
        }
    }
}

#[test]
fn the_glossary_is_sorted_and_its_words_are_used() {
    let text = read("src/tour/glossary.rs");
    let entries: Vec<&str> = text.split("//! - **").skip(1).collect();
    let words: Vec<&str> = entries.iter().map(|entry| entry.split("**").next().unwrap()).collect();
    assert!((28..=36).contains(&words.len()), "{} words", words.len());
    assert!(words.is_sorted(), "{words:?}");
    let source: String = map::files().iter().map(|file| read(file).to_lowercase()).collect();
    for (word, entry) in words.iter().zip(&entries) {
        let uses = source.match_indices(word).count();
        assert!(uses > 9, "{word}: used {uses} times");
        assert!(entry.contains("](crate::"), "{word}: no link");
    }
}
