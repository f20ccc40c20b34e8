//! Environment variables, read in one way.
//!
//! One that is empty or blank counts as unset, whoever reads it: compose files and CI set variables
//! to nothing when they mean that nothing is chosen.

use std::ffi::{OsStr, OsString};

/// The value of a variable; none where it is unset or blank.
pub fn value(name: impl AsRef<OsStr>) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !is_blank(value))
}

/// [`value`] as text; in what is not text, each wrong byte is a sign of its own, so that nobody
/// takes the variable for unset.
pub fn text(name: &str) -> Option<String> {
    Some(value(name)?.to_string_lossy().into_owned())
}

/// Whether a variable switches something on: it is set, and not to `0`, `false`, `no` or `off`.
pub fn is_on(name: &str) -> bool {
    switch(name) == Some(true)
}

/// Whether a variable switches something on or off; none where it is unset.
pub fn switch(name: &str) -> Option<bool> {
    text(name).map(|value| switches_on(&value))
}

fn is_blank(value: &OsStr) -> bool {
    value.to_str().is_some_and(|text| text.trim().is_empty())
}

fn switches_on(value: &str) -> bool {
    !["0", "false", "no", "off"].contains(&value.trim().to_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blank_is_unset_and_no_is_no() {
        for blank in ["", " ", "\t\n"] {
            assert!(is_blank(OsStr::new(blank)), "{blank:?}");
        }
        assert!(!is_blank(OsStr::new(" 0 ")));
        for (value, on) in
            [("1", true), ("true", true), (" 0 ", false), ("False", false), ("no", false), ("off", false)]
        {
            assert_eq!(switches_on(value), on, "{value}");
        }
    }
}
