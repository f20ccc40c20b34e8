//! Facts about a setting in addition to its type.
//!
//! They are plain data, from which the command line makes options, help and variables, and
//! [`super::Settings::check`] its checks.

use super::Settings;
use crate::error::Result;
use crate::train::optimizers::Optimizer;

/// A row of the table of settings.
#[derive(Debug)]
pub struct Setting {
    /// In files; the field that holds it.
    pub name: &'static str,
    /// The long option, where that is not the name with hyphens.
    pub option: Option<&'static str>,
    /// Kind of its values.
    pub kind: ValueKind,
    /// Placeholder for a value in help.
    pub value_name: &'static str,
    /// Description in help.
    pub help: &'static str,
    /// Default where nothing is chosen, as help says it.
    pub usual: Usual,
    /// The same two in `finetune`, where it means something else there.
    pub in_finetune: Option<(&'static str, Usual)>,
    /// The heading of help that it stands under.
    pub heading: &'static str,
    /// Refuses what makes no sense, whatever the data; a usage error that names the option.
    pub check: fn(&Settings) -> Result<()>,
}

/// Kind of the values of a setting.
#[derive(Clone, Copy, Debug)]
pub enum ValueKind {
    /// Any text, such as a path.
    Path,
    /// A whole number.
    Count,
    /// How many of something lie between two; 1 where the option has no value.
    Every,
    /// A whole number below 2^32.
    Seed,
    /// Any number.
    Number,
    /// True or false; true where the option has no value.
    Switch,
    /// The side of an image in pixels.
    Size,
    /// [`super::finetune::Blocks`].
    Blocks,
    /// [`crate::ops::augment::Augmentations`].
    Augmentations,
    /// [`super::class_weights::ClassWeights`].
    ClassWeights,
    /// One of these names, each with a line about it, which may be empty.
    Name(fn() -> Vec<(&'static str, &'static str)>),
    /// Given in a file only: there is no option.
    InFile,
}

/// Default of a setting where nothing is chosen, as help says it.
#[derive(Clone, Copy, Debug)]
pub enum Usual {
    /// The values of the recipes, and these words.
    OfRecipe(&'static str),
    /// The value of the optimizer.
    OfOptimizer(fn(&Optimizer) -> f32),
    /// These words.
    Told(&'static str),
    /// Help says nothing.
    Untold,
}

impl Setting {
    /// A setting that nothing is known about.
    pub const NONE: Setting = Setting {
        name: "",
        option: None,
        kind: ValueKind::InFile,
        value_name: "",
        help: "",
        usual: Usual::OfRecipe(""),
        in_finetune: None,
        heading: "Training",
        check: |_| Ok(()),
    };

    /// Whether it can be given by an option, not in a file only.
    pub fn is_option(&self) -> bool {
        !matches!(self.kind, ValueKind::InFile)
    }

    /// The long option without its hyphens; none for what only a file can say.
    pub fn option(&self) -> Option<String> {
        let own = || self.name.replace('_', "-");
        self.is_option().then(|| self.option.map_or_else(own, String::from))
    }

    /// The variable that stands in for the option.
    pub fn variable(&self) -> Option<String> {
        self.option().map(|option| format!("CIFAR_ENGINE_{}", option.replace('-', "_").to_uppercase()))
    }
}

/// Makes rows of settings to what is needed of them: a struct of all settings; one of choices, each
/// of which may be missing; the default of each; and the table of [`Setting`]s. A row has the
/// setting's help as its comment, its name, its type, its default, and what else [`Setting`] has;
/// under `once`, the function that says what it was in runs of versions which did not have it.
/// The two structs may have other fields, which are no settings of their own.
macro_rules! settings {
    (
        $(#[$all_about:meta])* struct $All:ident {
            $($(#[$other_about:meta])* $other:ident: $Other:ty = $other_default:expr,)*
        }
        $(#[$some_about:meta])* struct $Some:ident { $($some_field:tt)* }
        $(#[$table_about:meta])* static $TABLE:ident;
        $(
            $(#[doc = $help:literal])+ $(#[once = $once:literal])? $(#[serde($($serde:tt)+)])?
            $name:ident: $Type:ty = $default:expr, { $($about:tt)* }
        )+
    ) => {
        $(#[$all_about])*
        #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct $All {
            $(
                $(#[doc = $help])+ $(#[serde(default = $once)])? $(#[serde($($serde)+)])?
                pub $name: $Type,
            )+
            $($(#[$other_about])* pub $other: $Other,)*
        }

        $(#[$some_about])*
        #[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct $Some {
            $($(#[doc = $help])+ $(#[serde($($serde)+)])? pub $name: Option<$Type>,)+
            $($some_field)*
        }

        impl $Some {
            $(
                #[doc = concat!("The same with a choice of `", stringify!($name), "`:")]
                $(#[doc = $help])+
                #[must_use]
                pub fn $name(self, $name: $Type) -> $Some {
                    $Some { $name: Some($name), ..self }
                }
            )+

            /// The settings, with every choice in place.
            pub(crate) fn over(&self, settings: &$All) -> $All {
                let mut settings = settings.clone();
                $(self.$name.iter().for_each(|choice| settings.$name = choice.clone());)+
                settings
            }

            /// These choices, and others where there are none here.
            pub(crate) fn or(&self, others: &$Some) -> $Some {
                let mut choices = self.clone();
                $(choices.$name = choices.$name.or_else(|| others.$name.clone());)+
                choices
            }
        }

        impl Default for $All {
            fn default() -> Self {
                $All { $($name: $default,)+ $($other: $other_default,)* }
            }
        }

        $(#[$table_about])*
        pub static $TABLE: &[Setting] = &[
            $(Setting { name: stringify!($name), help: concat!($($help),+), $($about)* ..Setting::NONE },)+
        ];
    };
}

pub(super) use settings;
