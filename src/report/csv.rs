//! Tables as CSV (RFC 4180), harmless wherever they are opened.

use std::io::Write;
use std::path::Path;

use crate::error::{Result, escaped};
use crate::files::write_atomic;

/// Writes a table: its header, then its rows, each a line of cells.
///
/// # Errors
/// If `path` cannot be written.
pub fn write(path: &Path, header: &str, rows: impl Iterator<Item = String>) -> Result<()> {
    write_atomic(path, |file| {
        writeln!(file, "{header}")?;
        rows.into_iter().try_for_each(|row| writeln!(file, "{row}"))
    })
}

/// A cell that holds a text, in one line. A spreadsheet would take some texts for formulas and
/// compute them: an apostrophe before these, and before texts that have one of their own, keeps
/// them texts. Take the first apostrophe away to get the text back. Numbers need no such cell.
pub fn cell(text: &str) -> String {
    let mut text = escaped(text).into_owned();
    if text.starts_with(['=', '+', '-', '@', '\'']) {
        text.insert(0, '\'');
    }
    match text.contains([',', '"']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text,
    }
}

/// The texts of a row of cells; the other way round than [`cell`], but for what it escaped.
pub fn row(line: &str) -> Vec<String> {
    let (mut cells, mut cell, mut quoted) = (Vec::new(), String::new(), false);
    let mut letters = line.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '"' if quoted && letters.next_if_eq(&'"').is_some() => cell.push('"'),
            '"' => quoted = !quoted,
            ',' if !quoted => cells.push(std::mem::take(&mut cell)),
            letter => cell.push(letter),
        }
    }
    cells.push(cell);
    let text = |cell: String| cell.strip_prefix('\'').map(String::from).unwrap_or(cell);
    cells.into_iter().map(text).collect()
}

/// A cell that holds a name, from which [`named`] reads the very same name.
pub fn name(text: &str) -> String {
    // Where a name has a backslash of its own, that is no escape.
    cell(&text.replace('\\', r"\\"))
}

/// The name in a text of a row: the other way round than [`name`].
pub fn named(text: &str) -> String {
    let mut name = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        name.push_str(before);
        let (letter, behind) = escape(after).unwrap_or(('\\', after));
        name.push(letter);
        rest = behind;
    }
    name + rest
}

/// The character that an escape stands for, by what is behind its backslash, and what follows.
fn escape(text: &str) -> Option<(char, &str)> {
    let simple = [('\\', '\\'), ('n', '\n'), ('r', '\r'), ('t', '\t')];
    if let Some((_, letter)) = simple.iter().find(|(sign, _)| text.starts_with(*sign)) {
        return Some((*letter, &text[1..]));
    }
    let (digits, behind) = text.strip_prefix("u{")?.split_once('}')?;
    let letter = char::from_u32(u32::from_str_radix(digits, 16).ok()?)?;
    Some((letter, behind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_as_they_were() {
        let names = [
            "cat",
            "a\nb",
            "a\\nb",
            "a\\\\nb",
            "\\",
            "\\u{41}",
            "\u{1b}\u{202e},\"x\"",
            "'=\\",
            "a\\u{zz}b\\",
        ];
        let mut cells = std::collections::BTreeSet::new();
        for text in names {
            let cell = name(text);
            assert!(!cell.contains('\n') && cells.insert(cell.clone()), "{cell}");
            let row = row(&format!("{cell},train"));
            assert_eq!([named(&row[0]).as_str(), &row[1]], [text, "train"], "{cell}");
        }
    }

    #[test]
    fn cells_are_one_line_and_no_formulas() {
        for (text, expected) in [
            ("cat", "cat"),
            ("a \"b\", c", "\"a \"\"b\"\", c\""),
            ("=1+1", "'=1+1"),
            ("=HYPERLINK(\"x\")", "\"'=HYPERLINK(\"\"x\"\")\""),
            ("+1", "'+1"),
            ("-2+3", "'-2+3"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("'s", "''s"),
            ("\t=1", r"\t=1"),
            ("a\nb\r\u{1b}[2J", r"a\nb\r\u{1b}[2J"),
            ("1e5", "1e5"),
        ] {
            assert_eq!(cell(text), expected);
        }
    }
}
