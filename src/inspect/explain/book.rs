//! The kernel book as a page: a chapter an op, a chapter a shader, each linked to the other.

use std::collections::BTreeMap;
use std::fmt::Write;

use pulldown_cmark::{Event, Options, Parser, html};

use super::source::{Code, Entry, Place};
use super::{Chapter, Example, Explanation, NO_LAUNCH};
use crate::graph::op::dispatch::INCLUDES;
use crate::report::page::{escape, shell};
use crate::selftest::finding::by_op;
use crate::text::counted;

/// The chapters of the shaders.
const SHADERS: &str = include_str!("../../../shaders/README.md");

/// The page of these chapters, whose errors are those of this device.
pub fn page(chapters: &[Chapter], device: &str) -> String {
    let mut body = String::from("<h1>The kernel book of cifar-engine</h1>");
    let _ = write!(
        body,
        "<p class=\"muted\">Every op from its formula to its kernels, and every shader. Errors are those of the cases \
         on {}.</p><h2>Ops</h2><p>",
        escape(device)
    );
    chapters.iter().for_each(|chapter| {
        let _ = write!(body, "{} ", op_link(&chapter.explanation.op));
    });
    body.push_str("</p><h2>Shaders</h2><p>");
    let (introduction, shaders) = shader_chapters();
    for (name, _) in &shaders {
        let _ = write!(body, "<a href=\"#{}\">{}</a> ", anchor("shader", name), escape(name));
    }
    body.push_str("</p>");
    chapters.iter().for_each(|chapter| op(&mut body, chapter));
    body.push_str("<h1>Shaders</h1>");
    body.push_str(&markdown(introduction));
    let (sources, users) = (sources(), users(chapters));
    for (name, text) in shaders {
        let _ = write!(body, "<h2 id=\"{}\">{}</h2>", anchor("shader", name), escape(name));
        if let Some(ops) = users.get(name) {
            let links: Vec<String> = ops.iter().map(|op| op_link(op)).collect();
            let _ = write!(body, "<p class=\"muted\">Launched by {}.</p>", links.join(", "));
        }
        body.push_str(&markdown(text));
        if let Some(source) = sources.get(name) {
            folded(&mut body, &format!("shaders/{name}.wgsl"), source);
        }
    }
    body.push_str("<h1>Included in shaders</h1>");
    for (name, text) in INCLUDES {
        let _ = write!(body, "<h2 id=\"{}\">{name}</h2>", anchor("include", name));
        folded(&mut body, &format!("shaders/include/{name}.wgsl"), text);
    }
    shell("The kernel book of cifar-engine", &body)
}

fn op(body: &mut String, chapter: &Chapter) {
    let Chapter { explanation: told, error, uses } = chapter;
    let _ = write!(body, "<h2 id=\"{}\">{}</h2>", anchor("op", &told.op), escape(&told.op));
    body.push_str(&markdown(&told.documentation));
    body.push_str(&markdown(&told.operands));
    body.push_str("<div class=\"wide\"><table>");
    let mut row = |name: &str, html: String| {
        if !html.is_empty() {
            let _ = write!(body, "<tr><th class=\"name\">{name}<td class=\"text\">{html}");
        }
    };
    let list = |list: &[Code]| list.iter().map(|code| place(&code.place)).collect::<Vec<_>>().join(", ");
    row("type", format!("{} <code>{}</code>", place(&told.definition), escape(&told.definition.name)));
    row("function", told.function.iter().map(|row| format!("<pre>{}</pre>", escape(&row.text))).collect());
    row("shapes", list(&told.shapes));
    row("gradient", gradient(told, list(&told.gradient)));
    row("reference", list(&told.reference));
    let kernels = told.kernels.iter().map(|file| format!("<code>{}</code>", escape(file)));
    row("cpu", [list(&told.cpu)].into_iter().chain(kernels).collect::<Vec<_>>().join(", "));
    row("shaders", told.shaders.iter().map(shader).collect::<Vec<_>>().join("<br>"));
    example(&mut row, &told.example);
    let verdict = if error.is_right() { "" } else { " <b class=\"wrong\">WRONG</b>" };
    row("error", format!("{:.1e} at most, of {}{verdict}", error.largest, counted(error.cases, "case")));
    let uses: Vec<String> = uses.iter().map(|of_model| escape(&of_model.to_string())).collect();
    row("in models", uses.join("<br>"));
    body.push_str("</table></div>");
    let rules = [("gradient", &told.gradient), ("reference", &told.reference), ("cpu", &told.cpu)];
    for (name, list) in rules {
        for Code { place, text } in list {
            folded(body, &format!("{name}, {place}"), text);
        }
    }
}

fn gradient(told: &Explanation, places: String) -> String {
    let ops: Vec<String> = told.gradient_ops.iter().map(|op| op_link(op)).collect();
    match (places.is_empty(), ops.is_empty()) {
        (true, _) => "none".into(),
        (_, true) => places,
        _ => format!("{places}: {}", ops.join(", ")),
    }
}

fn example(row: &mut impl FnMut(&str, String), example: &Example) {
    let types = format!("{} → {}", example.inputs.join(", "), example.outputs.join(", "));
    row(
        "example",
        format!("{}<br><code>{}</code><br>{}", example.from, escape(&example.settings), escape(&types)),
    );
    if example.launches.is_empty() {
        row("launch", NO_LAUNCH.into());
    }
    for launch in &example.launches {
        let includes: Vec<String> = launch
            .includes
            .iter()
            .map(|name| format!("<a href=\"#{}\">{name}</a>", anchor("include", name)))
            .collect();
        let [x, y, z] = launch.workgroups;
        let from = launch.entry.as_ref().map_or(String::new(), shader);
        let with = if includes.is_empty() { String::new() } else { format!(" with {}", includes.join(", ")) };
        row("launch", format!("{from}{with}: {x} x {y} x {z} workgroups; {}", launch.settings()));
    }
    row("cost", example.cost());
}

/// The ops that launch each shader.
fn users(chapters: &[Chapter]) -> BTreeMap<&str, Vec<&str>> {
    let mut users: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for Chapter { explanation, .. } in chapters {
        for entry in &explanation.shaders {
            let ops = users.entry(&entry.shader).or_default();
            if !ops.contains(&explanation.op.as_str()) {
                ops.push(&explanation.op);
            }
        }
    }
    users
}

/// The texts of all shaders.
fn sources() -> BTreeMap<&'static str, &'static str> {
    let cases = by_op().into_values().flatten();
    let launches = cases.flat_map(|case| case.op.gpu(&case.types()).list);
    launches.map(|dispatch| (dispatch.shader.name, dispatch.shader.source)).collect()
}

/// What the chapters of the shaders begin with, and these by their titles.
fn shader_chapters() -> (&'static str, Vec<(&'static str, &'static str)>) {
    let mut chapters = SHADERS.split("\n## ");
    let introduction = chapters.next().unwrap_or_default();
    let introduction = introduction.split_once('\n').map_or("", |(_, text)| text);
    (introduction, chapters.filter_map(|chapter| chapter.split_once('\n')).collect())
}

fn anchor(kind: &str, name: &str) -> String {
    format!("{kind}-{}", escape(&name.replace(' ', "-")))
}

fn op_link(op: &str) -> String {
    format!("<a href=\"#{}\">{}</a>", anchor("op", op), escape(op))
}

fn place(place: &Place) -> String {
    format!("<code>{}</code>", escape(&place.to_string()))
}

fn shader(entry: &Entry) -> String {
    let (anchor, name) = (anchor("shader", &entry.shader), escape(&entry.shader));
    format!(
        "<a href=\"#{anchor}\">{name}</a>, {} <code>{}</code>",
        place(&entry.place),
        escape(&entry.place.name)
    )
}

/// Source behind a line that opens it.
fn folded(body: &mut String, title: &str, text: &str) {
    let (title, text) = (escape(title), escape(text));
    let _ = write!(body, "<details><summary><code>{title}</code></summary><pre>{text}</pre></details>");
}

/// Markdown as HTML; what looks like HTML in it is text.
fn markdown(text: &str) -> String {
    let events = Parser::new_ext(text, Options::ENABLE_TABLES).map(|event| match event {
        Event::Html(text) | Event::InlineHtml(text) => Event::Text(text),
        other => other,
    });
    let mut out = String::new();
    html::push_html(&mut out, events);
    // In the texts themselves these are escaped.
    out.replace("<table>", "<div class=\"wide prose\"><table>").replace("</table>", "</table></div>")
}
