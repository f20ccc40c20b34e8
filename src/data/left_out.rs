//! Files that were found beside the images that are used, and why it is left out: nothing is left
//! out in silence.

use std::collections::BTreeMap;

/// Why something is left out; the first reasons are the ones that matter most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// An image that cannot be read, where that was asked for.
    Unreadable,
    /// A folder without permission to read it, where that was asked for.
    Closed,
    /// A link whose target is not there.
    DanglingLink,
    /// An image of a format that cannot be read here.
    Format,
    /// A test image whose class nobody has told.
    NoLabel,
    /// A row of a table whose image is not there, where that was asked for.
    NoFile,
    /// A row of a table for an image that has one.
    Twice,
    /// An image beside the folders of classes.
    NoClass,
    /// A folder beside those of the parts, `train` and others.
    BesideParts,
    /// A file that was in a run's list and is gone.
    Gone,
    /// A folder that was visited before: links lead to it, perhaps in a circle.
    VisitedBefore,
    /// A folder without an image where those of classes are.
    EmptyFolder,
    /// A hidden file or folder.
    Hidden,
    /// A folder of a run, or of runs.
    Run,
    /// A file of another type, by its name.
    OtherType,
    /// Files that file managers and archivers keep beside others: nobody misses it.
    System,
}

impl Reason {
    /// Words for what is left out, one and many.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Reason::Unreadable => ("image that cannot be read", "images that cannot be read"),
            Reason::Closed => ("folder without permission", "folders without permission"),
            Reason::DanglingLink => ("link to nothing", "links to nothing"),
            Reason::Format => ("image of an unsupported format", "images of unsupported formats"),
            Reason::NoLabel => ("test image without a class", "test images without a class"),
            Reason::NoFile => ("row without its image", "rows without their images"),
            Reason::Twice => ("row said before", "rows said before"),
            Reason::NoClass => ("image outside of the class folders", "images outside of the class folders"),
            Reason::BesideParts => {
                ("folder beside those of train and test", "folders beside those of train and test")
            }
            Reason::Gone => ("image of the run that is gone", "images of the run that are gone"),
            Reason::VisitedBefore => {
                ("link to a folder above or read before", "links to folders above or read before")
            }
            Reason::EmptyFolder => ("folder without images", "folders without images"),
            Reason::Hidden => ("hidden file", "hidden files"),
            Reason::Run => ("folder of runs", "folders of runs"),
            Reason::OtherType => ("file of another type", "files of other types"),
            Reason::System => ("file of the system", "files of the system"),
        }
    }
}

/// Files that are left out, by reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    found: BTreeMap<Reason, Vec<String>>,
}

impl LeftOut {
    /// Notes something, by its path and perhaps what is wrong with it.
    pub fn add(&mut self, reason: Reason, what: impl Into<String>) {
        self.found.entry(reason).or_default().push(what.into());
    }

    /// How many things are left out for a reason.
    pub fn count(&self, reason: Reason) -> usize {
        self.found.get(&reason).map_or(0, Vec::len)
    }

    /// The first thing that is left out for a reason.
    pub fn first(&self, reason: Reason) -> Option<&str> {
        self.found.get(&reason)?.first().map(String::as_str)
    }

    /// Whether something is left out that its owner may well have wanted.
    pub fn matters(&self) -> bool {
        self.found.keys().any(|reason| *reason <= Reason::Gone)
    }

    /// One line that says how many of what are left out, with an example of each; none where nobody
    /// misses anything.
    pub fn summary(&self) -> Option<String> {
        self.summary_of(|reason| reason != Reason::System)
    }

    /// As [`LeftOut::summary`], of some reasons.
    pub fn summary_of(&self, is_told: impl Fn(Reason) -> bool) -> Option<String> {
        let told = self.found.iter().filter(|(reason, _)| is_told(**reason));
        let part = |(reason, found): (&Reason, &Vec<String>)| match (reason.names(), found.as_slice()) {
            ((one, _), [only]) => format!("1 {one} ({only})"),
            ((_, many), all) => {
                format!("{} {many} (such as {})", all.len(), all.first().map_or("", |x| x.as_str()))
            }
        };
        let parts: Vec<String> = told.map(part).collect();
        (!parts.is_empty()).then(|| format!("left out: {}", parts.join(", ")))
    }

    /// A line for everything.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        self.found.iter().flat_map(|(reason, found)| {
            found.iter().map(|what| format!("left out: {what}: {}", reason.names().0))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_counts_and_gives_an_example_of_each() {
        let mut left_out = LeftOut::default();
        left_out.add(Reason::System, "a/.DS_Store");
        assert_eq!(left_out.summary(), None);
        left_out.add(Reason::OtherType, "a/notes.txt");
        left_out.add(Reason::DanglingLink, "a/x1.png");
        left_out.add(Reason::DanglingLink, "a/x2.png");
        let line = "left out: 2 links to nothing (such as a/x1.png), 1 file of another type (a/notes.txt)";
        assert_eq!(left_out.summary().unwrap(), line);
        assert_eq!(left_out.lines().count(), 4);
    }
}
