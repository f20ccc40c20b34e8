//! What people say about a run: its name, tags and a note, in `about.toml` of its folder.
//!
//! They are no settings: what is trained does not depend on them, a run that takes over another
//! one's `settings.toml` does not take its name, and they may be changed when a run goes on.
//! Weights do not hold them, so that the same training writes the same file, whatever it is called.

use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::files::{is_file_or_nothing, read_toml, write_atomic};

/// The name of the file.
pub const FILE: &str = "about.toml";
/// Every character may take six bytes as an escape.
const MOST: u64 = 1 << 20;

/// Characters that a name, a tag or a note has at most, and tags of a run.
const MOST_IN_NAME: usize = 200;
const MOST_IN_NOTE: usize = 10_000;
const MOST_TAGS: usize = 100;

/// Name, tags and note of a run, each of which may be missing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct About {
    /// In one line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// In the order in which they were given, each once.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Any text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl About {
    /// What is given for a run: a blank text is none.
    ///
    /// # Errors
    /// If a name or a tag has several lines, or something is too long.
    pub fn given(name: Option<String>, tags: Vec<String>, note: Option<String>) -> Result<About> {
        let mut given = About { name: name.map(trimmed), tags: Vec::new(), note: note.map(trimmed) };
        for tag in tags.into_iter().map(trimmed) {
            if !given.tags.contains(&tag) {
                given.tags.push(tag);
            }
        }
        given.name.iter().try_for_each(|name| check("`name`", name, MOST_IN_NAME, false))?;
        given.tags.iter().try_for_each(|tag| check("`tag`", tag, MOST_IN_NAME, false))?;
        given.note.iter().try_for_each(|note| check("`note`", note, MOST_IN_NOTE, true))?;
        match given.tags.len() {
            ..=MOST_TAGS => Ok(given),
            tags => Err(Error::Usage(format!("{tags} times `tag`: a run has at most {MOST_TAGS}"))),
        }
    }

    /// These, in the place of what was said before; what is blank now is taken away, and what is
    /// not given stays.
    #[must_use]
    pub fn over(self, before: About) -> About {
        let tags = if self.tags.is_empty() { before.tags } else { self.tags };
        let filled = |text: Option<String>| text.filter(|text| !text.is_empty());
        About {
            name: filled(self.name.or(before.name)),
            tags: tags.into_iter().filter(|tag| !tag.is_empty()).collect(),
            note: filled(self.note.or(before.note)),
        }
    }

    /// What is said about the run in a folder; nothing where it has no such file.
    ///
    /// # Errors
    /// If the file cannot be read, or says something else.
    pub fn read(run: &Path) -> Result<About> {
        let file = run.join(FILE);
        if !is_file_or_nothing(&file)? {
            return Ok(About::default());
        }
        let read = read_toml(&file, MOST);
        read.map_err(|error: Error| error.with_advice("mend it, or delete it to have the run without"))
    }

    /// Writes it into the folder of a run, if anything is given.
    ///
    /// # Errors
    /// If the file of before cannot be read, or the new one not be written.
    pub fn write(self, run: &Path) -> Result<()> {
        if self == About::default() {
            return Ok(());
        }
        let text = toml::to_string(&self.over(About::read(run)?));
        let text = text.unwrap_or_else(|error| unreachable!("texts are a plain table: {error}"));
        write_atomic(run.join(FILE), |file| file.write_all(text.as_bytes()))
    }

    /// What there is, as lines of a table: names and values.
    pub fn facts(&self) -> Vec<(String, String)> {
        let tags = Some(self.tags.join(", ")).filter(|tags| !tags.is_empty());
        let facts = [("name", self.name.clone()), ("tags", tags), ("note", self.note.clone())];
        facts.into_iter().filter_map(|(name, value)| Some((name.to_string(), value?))).collect()
    }

    /// The same for a result in JSON.
    pub fn entries(&self) -> [(&'static str, Value); 3] {
        [("name", json!(self.name)), ("tags", json!(self.tags)), ("note", json!(self.note))]
    }
}

fn trimmed(text: String) -> String {
    text.trim().to_string()
}

/// Refuses a text that is too long or, unless it may have lines, has a control character.
fn check(option: &str, text: &str, most: usize, lines: bool) -> Result<()> {
    let length = text.chars().count();
    if length > most {
        let instead = if lines { "" } else { "; a longer text is for `note`" };
        return Err(Error::Usage(format!("{option} has {length} characters, and may have {most}{instead}")));
    }
    match text.chars().find(|c| c.is_control() && !lines) {
        None => Ok(()),
        Some(c) => {
            let c = c.escape_default();
            Err(Error::Usage(format!("{option} has the character {c}: it is one line; `note` may have more")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str) -> Option<String> {
        Some(name.to_string())
    }

    #[test]
    fn odd_texts_are_read_back_as_they_were() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(About::read(folder.path()).unwrap(), About::default());
        let long = "x\u{1f431}".repeat(MOST_IN_NOTE / 2);
        let odd =
            ["plain", "\"q\" 'u' \\n # = [x]", "\u{1f431}\u{202e} \u{e9}", "'''", "a,b;c", "</dl><script>"];
        for note in odd.iter().copied().chain(["one\ntwo\r\n\tthree\u{0}\u{1b}[2J", "\"\"\"\n\"\"\"", &long])
        {
            for word in odd {
                let given = About::given(name(word), odd.map(String::from).to_vec(), name(note)).unwrap();
                given.clone().write(folder.path()).unwrap();
                assert_eq!(About::read(folder.path()).unwrap(), given, "{word} {note}");
            }
        }
    }

    #[test]
    fn what_is_blank_is_taken_away_and_what_is_not_given_stays() {
        let before = About::given(name(" a "), vec!["x".into(), "y".into(), "x".into()], name("b")).unwrap();
        assert_eq!(before.facts().len(), 3);
        assert_eq!(before.tags, ["x", "y"], "each once");
        assert_eq!(About::default().over(before.clone()), before);
        let blank = |text: &str| About::given(name(text), vec![text.into()], name(text)).unwrap();
        assert_eq!(blank(" \n ").over(before.clone()), About::default());
        let renamed = About { name: name("c"), ..before.clone() };
        assert_eq!(About::given(name("c"), Vec::new(), None).unwrap().over(before), renamed);
        assert_eq!(blank("").over(About::default()).facts(), []);
    }

    #[test]
    fn what_no_table_has_room_for_is_refused() {
        let long = "x".repeat(MOST_IN_NAME + 1);
        let tags = |n: usize| (0..n).map(|i| i.to_string()).collect::<Vec<_>>();
        for (given, part) in [
            (About::given(name(&long), Vec::new(), None), "`name` has 201 characters, and may have 200"),
            (About::given(None, vec![long], None), "a longer text is for `note`"),
            (About::given(None, Vec::new(), name(&"x".repeat(10_001))), "`note` has 10001 characters"),
            (About::given(name("a\nb"), Vec::new(), None), "`name` has the character \\n: it is one line"),
            (About::given(None, vec!["a\u{1b}".into()], None), "`tag` has the character"),
            (About::given(None, tags(101), None), "101 times `tag`"),
        ] {
            assert!(given.unwrap_err().to_string().contains(part), "{part}");
        }
        assert_eq!(About::given(None, tags(100), None).unwrap().tags.len(), 100);
    }
}
