//! Checks of the values of settings, and what they say.

use super::{Settings, Usual};
use crate::error::{Error, Result};

/// Usage error with this problem, unless all is well.
pub fn usage(ok: bool, problem: String) -> Result<()> {
    if ok { Ok(()) } else { Err(Error::Usage(problem)) }
}

/// Number as it is told where it is wrong; one that is too large for its type has become infinite.
fn told(value: f32) -> String {
    match value.is_infinite() {
        true => format!("{value} (numbers end at {:.1e})", f32::MAX),
        false => value.to_string(),
    }
}

/// Check of a number over 0.
pub fn positive(option: &str, value: f32) -> Result<()> {
    let problem = format!("{option} must be a positive number, not {}", told(value));
    usage(value.is_finite() && value > 0.0, problem)
}

/// Check of a number that may be 0.
pub fn positive_or_zero(option: &str, value: f32) -> Result<()> {
    let problem = format!("{option} must be 0 or a positive number, not {}", told(value));
    usage(value.is_finite() && value >= 0.0, problem)
}

/// Check of the rate of a group of parameters; 0 for that of the rest.
pub fn rate_of_group(settings: &Settings, option: &str, rate: f32) -> Result<()> {
    positive_or_zero(option, rate)?;
    let problem = "is for train; finetune has `head_rate`, `rate` and `backbone`";
    usage(settings.finetune.is_none() || rate == 0.0, format!("{option} {rate} {problem}"))
}

/// Help of `finetune` about these rates.
pub const NO_GROUPS: Option<(&str, Usual)> = Some(("For train only", Usual::Untold));

/// Check of a share: what it leaves of the whole must not be zero, as it is divided by.
pub fn share(option: &str, value: f32) -> Result<()> {
    usage((0.0..1.0).contains(&value), format!("{option} must lie in [0, 1), not {value}"))
}
