//! The source of the ops and kernels, which the program carries with it: where a thing is defined,
//! and its lines.
//!
//! It is read as `rustfmt` leaves it: an item ends with a brace in the column of its first line.

use include_dir::{Dir, include_dir};
use serde::Serialize;

use crate::graph::op::dispatch::{INCLUDE, INCLUDES, Shader};
use crate::kernels;

static OPS: Dir = include_dir!("$CARGO_MANIFEST_DIR/src/ops");

/// The folder of the ops, from the root of the repository.
const OPS_FOLDER: &str = "src/ops/";
/// The folder of the kernels.
const KERNELS_FOLDER: &str = "src/kernels/";

/// A line of a file that has a name in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    /// From the root of the repository.
    pub file: String,
    /// Counted from 1.
    pub line: usize,
    /// What is defined there.
    pub name: String,
}

/// An item of the source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Code {
    /// Where it begins.
    #[serde(flatten)]
    pub place: Place,
    /// Its lines.
    pub text: String,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// The text of a file of the ops or the kernels.
pub fn text(file: &str) -> Option<&'static str> {
    let found = match (file.strip_prefix(OPS_FOLDER), file.strip_prefix(KERNELS_FOLDER)) {
        (Some(own), _) => OPS.get_file(own),
        (_, Some(own)) => kernels::SOURCES.get_file(own),
        _ => None,
    };
    found.and_then(|file| file.contents_utf8())
}

/// The file of a module in a folder: `FOLDER/NAME.rs`, or `FOLDER/NAME/mod.rs`.
fn module(folder: &str, name: &str) -> Option<String> {
    let files = [format!("{folder}{name}.rs"), format!("{folder}{name}/mod.rs")];
    files.into_iter().find(|file| text(file).is_some())
}

/// The file of the kernels in which a name stands, and its line.
pub fn in_kernels(module_name: &str, name: &str) -> Option<Place> {
    let file = module(KERNELS_FOLDER, module_name)?;
    let line = text(&file)?.lines().position(|line| line.contains(name))? + 1;
    Some(Place { file, line, name: name.into() })
}

/// The source of a type of op.
pub struct OpSource {
    file: String,
    text: &'static str,
    /// The type's name.
    pub name: String,
}

impl OpSource {
    /// That of a type with this path; none of a type of another program.
    pub fn of(path: &str) -> Option<OpSource> {
        let own = path.strip_prefix(env!("CARGO_CRATE_NAME"))?.strip_prefix("::ops::")?;
        let (module_path, name) = own.rsplit_once("::")?;
        let file = module(OPS_FOLDER, &module_path.replace("::", "/"))?;
        let text = text(&file)?;
        Some(OpSource { file, text, name: name.into() })
    }

    /// The file's documentation.
    pub fn documentation(&self) -> String {
        let lines = self.text.lines().map_while(|line| line.strip_prefix("//!"));
        let lines: Vec<&str> = lines.map(|line| line.strip_prefix(' ').unwrap_or(line)).collect();
        plain(&lines.join("\n"))
    }

    /// Where the type is defined, and its documentation.
    pub fn definition(&self) -> Option<(Place, String)> {
        let line = self.line_of(|line| {
            let rest =
                line.strip_prefix("pub struct ").and_then(|rest| rest.strip_prefix(self.name.as_str()));
            rest.is_some_and(|rest| !rest.starts_with(char::is_alphanumeric))
        })?;
        let above: Vec<&str> = self.text.lines().take(line).collect();
        let above = above.into_iter().rev().skip_while(|line| !line.starts_with("///"));
        let mut lines: Vec<&str> = above.map_while(|line| line.strip_prefix("///")).map(str::trim).collect();
        lines.reverse();
        Some((self.place(line, &self.name), plain(&lines.join("\n"))))
    }

    /// A method of its `impl Op`.
    pub fn method(&self, method: &str) -> Option<Code> {
        let head = format!("impl Op for {} {{", self.name);
        let begin = self.line_of(|line| line == head)?;
        let start = format!("    fn {method}(");
        let own = self.text.lines().skip(begin).take_while(|line| *line != "}");
        let line = begin + own.into_iter().position(|line| line.starts_with(&start))?;
        Some(Code { place: self.place(line, &format!("fn {method}")), text: item(self.text, line) })
    }

    /// The method, and the functions of neighbouring files that it hands its work to.
    pub fn method_with_helpers(&self, method: &str) -> Vec<Code> {
        let Some(own) = self.method(method) else { return Vec::new() };
        let folder = self.file.rsplit_once('/').map_or("", |(folder, _)| folder);
        let helpers = calls(&own.text).into_iter().filter_map(|(module_name, function)| {
            let file = module(&format!("{folder}/"), module_name).filter(|file| *file != self.file)?;
            let text = text(&file)?;
            let name = format!("fn {function}");
            let line = text.lines().position(|line| {
                let rest = line.split_once(&name).filter(|(before, _)| !before.contains("//"));
                rest.is_some_and(|(_, rest)| rest.starts_with(['(', '<']))
            })?;
            Some(Code { place: Place { file, line: line + 1, name }, text: item(text, line) })
        });
        let helpers: Vec<Code> = helpers.collect();
        std::iter::once(own).chain(helpers).collect()
    }

    /// The files of the kernels that the work of a CPU uses.
    pub fn kernels(&self) -> Vec<String> {
        let mut files = Vec::new();
        for code in self.method_with_helpers("cpu") {
            // A helper's file is there for nothing else.
            let file = text(&code.place.file).unwrap_or_default();
            let used = if code.place.file == self.file { code.text.as_str() } else { file };
            for (module_name, names) in kernel_imports(file) {
                let is_used = names.iter().any(|name| words(used).any(|word| word == *name));
                files.extend(module(KERNELS_FOLDER, module_name).filter(|_| is_used));
            }
        }
        files.sort();
        files.dedup();
        files
    }

    fn line_of(&self, is: impl Fn(&str) -> bool) -> Option<usize> {
        self.text.lines().position(is)
    }

    fn place(&self, line: usize, name: &str) -> Place {
        Place { file: self.file.clone(), line: line + 1, name: name.into() }
    }
}

/// A function of a shader that a launch begins with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// Name of the shader: the stem of its file, and the title of its chapter in the kernel book.
    pub shader: String,
    /// Where the function is: in the shader's file, or in one that it includes.
    #[serde(flatten)]
    pub place: Place,
}

impl Entry {
    /// The function of this name, if the shader has it.
    pub fn of(shader: &Shader, name: &str) -> Option<Entry> {
        let own = (format!("shaders/{}.wgsl", shader.name), shader.source);
        let included = included(shader).into_iter().filter_map(|include| {
            let (_, text) = INCLUDES.iter().find(|(name, _)| *name == include)?;
            Some((format!("shaders/include/{include}.wgsl"), *text))
        });
        let name = format!("fn {name}");
        let place = std::iter::once(own).chain(included).find_map(|(file, text)| {
            let line = text.lines().position(|line| line.contains(&format!("{name}(")))? + 1;
            Some(Place { file, line, name: name.clone() })
        });
        Some(Entry { shader: shader.name.to_string(), place: place? })
    }
}

/// The shader and the function, as text names them.
impl std::fmt::Display for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, {}", self.shader, self.place)
    }
}

/// The names of what a shader includes; of several to choose from, the one that is chosen.
pub fn included(shader: &Shader) -> Vec<&'static str> {
    let named = shader.source.lines().filter_map(|line| line.strip_prefix(INCLUDE));
    let chosen = |names: &'static str| {
        names.split(" | ").find(|name| !names.contains('|') || shader.chosen.contains(name))
    };
    named.filter_map(chosen).collect()
}

/// The lines of an item, from its first to the brace that ends it, moved to the left edge.
fn item(text: &str, line: usize) -> String {
    let first = text.lines().nth(line).unwrap_or_default();
    let indent = first.len() - first.trim_start().len();
    let end = format!("{}}}", &first[..indent]);
    let mut lines = Vec::new();
    for line in text.lines().skip(line) {
        lines.push(line.get(indent..).unwrap_or_default());
        if line == end {
            break;
        }
    }
    lines.join("\n")
}

/// The calls `module::function` in a piece of source.
fn calls(text: &str) -> Vec<(&str, &str)> {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    let paths = text.match_indices("::").map(|(at, _)| {
        let before = text[..at].rsplit(|c| !is_part(c)).next().unwrap_or_default();
        let after = text[at + 2..].split(|c| !is_part(c)).next().unwrap_or_default();
        (before, after)
    });
    paths.filter(|(module, function)| !module.is_empty() && !function.is_empty()).collect()
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric() && c != '_')
}

/// The modules of the kernels that a file imports, with the names by which it knows what it takes
/// of each.
fn kernel_imports(file: &str) -> Vec<(&str, Vec<&str>)> {
    let mut imports = Vec::new();
    for statement in file.split("use crate::kernels::").skip(1) {
        let statement = statement.split(';').next().unwrap_or_default();
        for part in parts(statement) {
            let mut names = words(part).filter(|word| !word.is_empty());
            let Some(module_name) = names.next() else { continue };
            let rest: Vec<&str> = names.collect();
            let is_itself = rest.is_empty() || rest.contains(&"self");
            imports.push((module_name, if is_itself { [rest, vec![module_name]].concat() } else { rest }));
        }
    }
    imports
}

/// The parts of `{a, b::{c, d}}`; a text without braces is one part.
fn parts(text: &str) -> Vec<&str> {
    let Some(inner) = text.trim().strip_prefix('{').and_then(|text| text.strip_suffix('}')) else {
        return vec![text];
    };
    let mut depth = 0;
    let at_top = |c: char| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        c == ',' && depth == 0
    };
    inner.split(at_top).filter(|part| !part.trim().is_empty()).collect()
}

/// Documentation without its links, which lead to pages that are not here.
fn plain(text: &str) -> String {
    let mut text = text.replace("[`super::", "`").replace("[`", "`");
    while let Some(at) = text.find("`]") {
        let target = text[at + 2..].starts_with('(').then(|| text[at..].find(')')).flatten();
        text.replace_range(at + 1..at + target.map_or(2, |end| end + 1), "");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_end_with_their_brace() {
        let text = "impl A {\n    fn a(\n        x: u8,\n    ) {\n        if x {\n        }\n    }\n}\n";
        assert_eq!(item(text, 1), "fn a(\n    x: u8,\n) {\n    if x {\n    }\n}");
    }

    #[test]
    fn imports_are_taken_apart() {
        let text = "use crate::kernels::{conv, rows::BLOCK};\nuse crate::kernels::rng::{self, Stream};\n";
        let expected =
            [("conv", vec!["conv"]), ("rows", vec!["BLOCK"]), ("rng", vec!["self", "Stream", "rng"])];
        assert_eq!(kernel_imports(text), expected);
        assert_eq!(parts("{a::{b, c}, d}"), ["a::{b, c}", " d"]);
        assert_eq!(calls("cpu::step(self, x), Vec::new()"), [("cpu", "step"), ("Vec", "new")]);
    }

    #[test]
    fn links_become_text() {
        assert_eq!(plain("[`Conv`](crate::ops) and [`super::b`], x[0]"), "`Conv` and `b`, x[0]");
    }
}
