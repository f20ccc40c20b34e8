//! Lists of what the program knows by name: models, optimizers, schedules, recipes. Options and
//! files hold a name, the program a reference into the list.

/// The message about a name that is not in a list.
pub fn unknown<'a>(kind: &str, name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let known = known.collect::<Vec<_>>().join(", ");
    format!("there is no {kind} '{name}'; the {kind}s are: {known}")
}

/// Makes a type of values with a `name`, and the list of all of them, one that is read, written,
/// compared and shown by its name.
macro_rules! registry {
    ($type:ident, $kind:literal, $list:expr) => {
        impl $type {
            /// The names of all in the list.
            pub fn names() -> impl ExactSizeIterator<Item = &'static str> {
                $list.iter().map(|one| one.name)
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
                let found = $list.iter().find(|one| one.name == name).copied();
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
