//! Imports run one way: as the list of rooms in `src/lib.rs` says.

use std::fs;
use std::path::{Path, PathBuf};

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// The rooms, as the crate's documentation lists them: each may use those after it.
fn rooms() -> Vec<String> {
    let text = fs::read_to_string(source().join("lib.rs")).unwrap();
    let list = text.split("//! # Rooms").nth(1).unwrap().split("```").nth(1).unwrap();
    let first = |line: &str| line.strip_prefix("//! ")?.split_whitespace().next().map(String::from);
    list.lines().skip(1).filter_map(first).collect()
}

/// Every file of Rust in a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let (folders, files): (Vec<PathBuf>, Vec<PathBuf>) = entries.partition(|path| path.is_dir());
    let here = files.into_iter().filter(|path| path.extension().is_some_and(|ext| ext == "rs"));
    here.chain(folders.iter().flat_map(|folder| self::files(folder))).collect()
}

/// The room that a file lies in; none for the crate's root, and for the kernels, a crate.
fn room_of(path: &Path) -> Option<String> {
    let below = path.strip_prefix(source()).unwrap();
    let room = below.components().next().unwrap().as_os_str().to_str().unwrap();
    let room = room.trim_end_matches(".rs");
    (!["lib", "main", "kernels"].contains(&room)).then(|| room.to_string())
}

/// The rooms that a text names as `crate::ROOM`, outside comments, with the lines.
fn named(text: &str) -> Vec<(usize, String)> {
    let code = text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//"));
    let rooms = code.flat_map(|(number, line)| {
        let after = line.split("crate::").skip(1);
        let word =
            |rest: &str| rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().map(String::from);
        after.filter_map(word).filter(|word| !word.is_empty()).map(move |room| (number + 1, room))
    });
    rooms.collect()
}

/// What a file in a room may not use of what it names.
fn upward(rooms: &[String], own: &str, text: &str) -> Vec<(usize, String)> {
    let rank = |room: &str| rooms.iter().position(|other| other == room);
    let forbidden = |room: &str| room != "kernels" && rank(room) < rank(own);
    named(text).into_iter().filter(|(_, room)| forbidden(room)).collect()
}

#[test]
fn the_list_of_rooms_is_whole() {
    let mut found: Vec<String> = files(&source()).iter().filter_map(|path| room_of(path)).collect();
    found.sort();
    found.dedup();
    let mut listed = rooms();
    listed.sort();
    assert_eq!(found, listed, "the folders and files of src, and the list in src/lib.rs");
}

#[test]
fn imports_run_one_way() {
    let rooms = rooms();
    let mut wrong = Vec::new();
    for path in files(&source()) {
        let Some(own) = room_of(&path) else { continue };
        let text = fs::read_to_string(&path).unwrap();
        for (line, room) in upward(&rooms, &own, &text) {
            wrong.push(format!("{}:{line}: {own} uses {room}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn an_import_that_runs_the_other_way_is_seen() {
    let rooms = rooms();
    let seen = |own, text| upward(&rooms, own, text).len();
    assert_eq!(seen("graph", "use crate::tensor::Shape;\nuse crate::ops::sgd::Sgd;\n"), 1);
    assert_eq!(seen("exec", "    use crate::train::plans;"), 1);
    assert_eq!(seen("exec", "use crate::{error::Result, memory};"), 0);
    assert_eq!(
        seen("ops", "//! See [`crate::exec`].\nuse crate::graph::Graph;\nuse crate::kernels::rows;"),
        0
    );
    // A name that is no room at all.
    assert_eq!(seen("cli", "use crate::nothing::X;"), 1);
}

/// Lines of code in rooms below `cli`, but for the pages that `report` writes for its users, and
/// for `console`, which turns the names of settings into those of options.
fn library_lines() -> Vec<(PathBuf, usize, String)> {
    let is_library = |path: &PathBuf| {
        room_of(path).is_some_and(|room| !["cli", "console"].contains(&room.as_str()))
            && !path.ends_with("report/page.rs")
    };
    let lines = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        let code = text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//"));
        code.map(|(i, line)| (path.clone(), i + 1, line.to_string())).collect::<Vec<_>>()
    };
    files(&source()).into_iter().filter(is_library).flat_map(lines).collect()
}

/// Whether a line has an option of the command line in it, such as `--epochs`.
fn names_an_option(line: &str) -> bool {
    line.split("--").skip(1).any(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase()))
}

#[test]
fn the_library_knows_no_command_line() {
    assert!(names_an_option("\"choose --epochs\"") && !names_an_option("i -- 1 --2"));
    for (path, number, line) in library_lines() {
        let at = format!("{}:{number}: {line}", path.display());
        assert!(!names_an_option(&line), "an option; a library's message says `epochs`: {at}");
        assert!(!line.contains("clap::") && !line.contains("indicatif"), "{at}");
    }
}

/// Lines of a kernel's text where an iterator's `for_each` is called, outside comments.
fn closures_called_apart(text: &str) -> Vec<usize> {
    let code = text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//"));
    code.filter(|(_, line)| line.contains(".for_each(")).map(|(number, _)| number + 1).collect()
}

/// Once GELU's gradient ran in a `for_each` that was a function of its own, without the instruction
/// set that its caller enables, and took a fifth of a step.
#[test]
fn kernels_have_plain_loops() {
    for path in files(&source().join("kernels")) {
        let lines = closures_called_apart(&fs::read_to_string(&path).unwrap());
        assert!(lines.is_empty(), "{}: lines {lines:?} want a plain loop", path.display());
    }
    assert_eq!(closures_called_apart("// y.for_each(f)\nparallel::for_each(y)\ny.for_each(f)"), [3]);
}
