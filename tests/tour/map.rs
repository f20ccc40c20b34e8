//! The map: a line for each file, in the order of the rooms, and one call followed through them.

use std::fs;

use crate::{assert_derived, path, read};

/// Characters that a file may be described with: two lines of a list.
const LONGEST: usize = 170;

/// The Rust files below `src`, sorted, but for the two that begin the program and the library.
pub fn files() -> Vec<String> {
    fn below(folder: &str, found: &mut Vec<String>) {
        for entry in fs::read_dir(path(folder)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let file = format!("{folder}/{name}");
            if path(&file).is_dir() {
                below(&file, found);
            } else if name.ends_with(".rs") && !["src/main.rs", "src/lib.rs"].contains(&file.as_str()) {
                found.push(file);
            }
        }
    }
    let mut found = Vec::new();
    below("src", &mut found);
    found.sort();
    found
}

/// The first paragraph of a file's documentation, which is what lists of modules show. Without
/// links: they may not lead anywhere from here.
fn first_paragraph(text: &str) -> String {
    let lines = text.lines().map_while(|line| line.strip_prefix("//!")).map(str::trim);
    let paragraph = lines.take_while(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
    let mut text = paragraph.replace("[`", "`");
    while let Some(at) = text.find("`]") {
        let target = text[at + 2..].starts_with('(').then(|| text[at..].find(')')).flatten();
        text.replace_range(at + 1..at + target.map_or(2, |end| end + 1), "");
    }
    text
}

/// The path of a file's module in the library, if all of it is public.
fn public_module(file: &str) -> Option<String> {
    let names = file.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("/mod");
    let names: Vec<&str> = names.trim_end_matches("/lib").split('/').collect();
    for depth in 0..names.len() {
        let parent = format!("src/{}", names[..depth].join("/"));
        let candidates = [format!("{parent}/mod.rs"), format!("{parent}/lib.rs"), format!("{parent}.rs")];
        let parent = candidates.iter().find(|file| path(file).is_file())?;
        let declared = format!("pub mod {};", names[depth]);
        let is_public = names[..=depth] == ["kernels"] || read(parent).lines().any(|line| line == declared);
        is_public.then_some(())?;
    }
    Some(format!("crate::{}", names.join("::")))
}

/// Rooms and what they are, as `src/lib.rs` lists them, and the crate below them.
fn rooms() -> Vec<(String, String)> {
    let text = read("src/lib.rs");
    let list = text.split("//! # Rooms").nth(1).unwrap().split("```").nth(1).unwrap();
    let room = |line: &str| {
        let (name, about) = line.strip_prefix("//! ")?.split_once(' ')?;
        Some((name.to_string(), about.trim().to_string()))
    };
    let kernels = ("kernels".to_string(), "a crate of its own, below all rooms".to_string());
    list.lines().skip(1).filter_map(room).chain([kernels]).collect()
}

#[test]
fn the_map_is_that_of_the_source() {
    let mut map = String::new();
    let mut listed = 0;
    for (room, about) in rooms() {
        map += &format!("\n## {room}: {about}\n\n");
        let own =
            |file: &&String| **file == format!("src/{room}.rs") || file.starts_with(&format!("src/{room}/"));
        for file in files().iter().filter(own) {
            let shown = match public_module(file) {
                Some(module) => format!("[`{file}`]({module})"),
                None => format!("`{file}`"),
            };
            let about = first_paragraph(&read(file));
            let length = about.chars().count();
            assert!(length > 0, "{file} has no documentation");
            assert!(length <= LONGEST, "{file}: end its first paragraph after a sentence: {about}");
            map += &format!("- {shown}: {about}\n");
            listed += 1;
        }
    }
    assert_eq!(listed, files().len(), "every file is in a room");
    assert_derived("map.md", &map);
}

/// File and function of each stop of the call, from lines `1. FILE, NAME: ..`.
fn stops(page: &str) -> Vec<(String, String)> {
    let numbered = |line: &str| {
        let (number, stop) = line.strip_prefix("//! ")?.split_once(". `")?;
        number.parse::<usize>().ok()?;
        let (file, rest) = stop.split_once("`, `")?;
        Some((file.to_string(), rest.split_once('`')?.0.to_string()))
    };
    page.lines().filter_map(numbered).collect()
}

#[test]
fn the_call_can_be_followed() {
    let stops = stops(&read("src/tour/map.rs"));
    assert_eq!(stops.len(), 22, "ten stops, and six on either device");
    for (file, function) in stops {
        let text = read(&file);
        let is_there = ["(", "<"].iter().any(|next| text.contains(&format!("fn {function}{next}")));
        assert!(is_there, "{file} has no function {function}");
    }
}

#[test]
fn the_first_paragraph_is_found() {
    assert_eq!(first_paragraph("//! One\n//! line.\n//!\n//! Two.\n"), "One line.");
    let links = "//! See [`super::x`] and [`y`](crate::y), `[N]`:\nmod x;";
    assert_eq!(first_paragraph(links), "See `super::x` and `y`, `[N]`:");
}
