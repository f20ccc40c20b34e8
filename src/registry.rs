//! Lists of what the program knows by name: models, optimizers, schedules, recipes.
//!
//! Options and files hold a name, the program a reference into the list. A program that uses this
//! library adds its own to them, and files find those then, too.

use std::sync::{Mutex, PoisonError};

use crate::error::{Error, Result};

/// The message about a name that is not in a list.
pub fn unknown<'a>(kind: &str, name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let known = known.collect::<Vec<_>>().join(", ");
    format!("there is no {kind} '{name}'; the {kind}s are: {known}")
}

/// What was added to a list while the program runs.
pub struct Added<T: 'static>(Mutex<Vec<&'static T>>);

impl<T> Added<T> {
    /// Nothing yet.
    pub const fn none() -> Added<T> {
        Added(Mutex::new(Vec::new()))
    }

    /// All of a list, and what was added to it.
    pub fn with(&self, list: &[&'static T]) -> Vec<&'static T> {
        let added = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        list.iter().chain(added.iter()).copied().collect()
    }

    /// Adds one, unless it is there.
    ///
    /// # Errors
    /// If another one is called the same.
    pub fn add(&self, list: &[&'static T], one: &'static T, kind: &str, name: fn(&T) -> &str) -> Result<()> {
        let mut added = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match list.iter().chain(added.iter()).find(|other| name(other) == name(one)) {
            Some(same) if std::ptr::eq(*same, one) => Ok(()),
            Some(_) => {
                let problem = format!("there is another {kind} '{}'; give this one another name", name(one));
                Err(Error::Usage(problem))
            }
            None => {
                added.push(one);
                Ok(())
            }
        }
    }
}

/// Makes a type of values with a `name`, and the list of all of them, one that is read, written,
/// compared and shown by its name.
macro_rules! registry {
    ($type:ident, $kind:literal, $list:expr) => {
        impl $type {
            fn added() -> &'static $crate::registry::Added<$type> {
                static ADDED: $crate::registry::Added<$type> = $crate::registry::Added::none();
                &ADDED
            }

            /// All in the list, and those that were added.
            pub fn all() -> Vec<&'static $type> {
                Self::added().with($list)
            }

            /// The names of all.
            pub fn names() -> impl ExactSizeIterator<Item = &'static str> {
                Self::all().into_iter().map(|one| one.name)
            }

            /// Makes one of a program's own known by its name, so that files which hold the name
            /// can be read.
            ///
            /// # Errors
            /// If another one is called the same.
            pub fn register(&'static self) -> $crate::error::Result<()> {
                Self::added().add($list, self, $kind, |one| one.name)
            }
        }

        /// Two of one name are one.
        impl PartialEq for $type {
            fn eq(&self, other: &$type) -> bool {
                self.name == other.name
            }
        }

        impl Eq for $type {}

        impl std::hash::Hash for $type {
            fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
                self.name.hash(state);
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.name)
            }
        }

        impl std::str::FromStr for &'static $type {
            type Err = $crate::error::Error;

            fn from_str(name: &str) -> $crate::error::Result<Self> {
                let found = $type::all().into_iter().find(|one| one.name == name);
                found.ok_or_else(|| {
                    $crate::error::Error::Usage($crate::registry::unknown($kind, name, $type::names()))
                })
            }
        }

        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
                to.serialize_str(self.name)
            }
        }

        impl<'de> serde::Deserialize<'de> for &'static $type {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
                <String as serde::Deserialize>::deserialize(from)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

pub(crate) use registry;
