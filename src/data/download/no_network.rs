//! What stands for the network in a build without the feature `download`.

use std::path::Path;

use super::{Attempt, Remote, Trouble};
use crate::data::watch::Watch;
use crate::error::{Error, Result};

const WITHOUT: &str = "this build has not the feature `download`";

/// Fails.
///
/// # Errors
/// Always.
pub fn length(_url: &str, _timeouts: &Remote) -> Result<u64> {
    Err(Error::Failed(WITHOUT.into()))
}

/// Fails.
///
/// # Errors
/// Always.
pub fn from_mirror(_: &Remote, _url: &str, _part: &Path, _: &dyn Watch) -> Attempt<()> {
    Err(Trouble::Mirror(WITHOUT.into()))
}
