//! Verdicts on a device, kept on disk so that each is found once.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Trial, Verdict};
use crate::files::{VERSION, keep, kept_path, read_kept};
use crate::text::hex;

/// What the verdicts are on: another driver is another device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Name of the device.
    pub device: String,
    /// Its driver, with the version.
    pub driver: String,
    /// The CPU that it is held against, with threads and instruction set.
    pub cpu: String,
}

/// The verdicts on a device.
pub struct Verdicts {
    /// The device.
    pub identity: Identity,
    /// Where they are kept; none where they are not.
    pub folder: Option<PathBuf>,
}

/// The largest file of a verdict.
const MOST_BYTES: u64 = 1 << 16;

/// A verdict as a file has it, with all that it is of.
#[derive(Serialize, Deserialize)]
struct Kept {
    program: String,
    identity: Identity,
    graph_sha256: String,
    verdict: Verdict,
}

impl Verdicts {
    /// The verdict of an earlier contact of this device, driver and version of the program. A file
    /// that is damaged, or another user's, holds none.
    pub fn known(&self, trial: &Trial) -> Option<Verdict> {
        let graph = digest(trial);
        let path = self.path(&graph)?;
        let kept: Kept = read_kept(&path, MOST_BYTES)?;
        let is_of_this =
            kept.program == VERSION && kept.identity == self.identity && kept.graph_sha256 == graph;
        let seconds = [kept.verdict.device_seconds, kept.verdict.cpu_seconds];
        (is_of_this && seconds.iter().all(|seconds| *seconds > 0.0)).then_some(kept.verdict)
    }

    /// Keeps a verdict. Where that cannot be, the next contact is a first one again.
    pub(super) fn keep(&self, trial: &Trial, verdict: Verdict) {
        let graph_sha256 = digest(trial);
        let Some(path) = self.path(&graph_sha256) else { return };
        let identity = self.identity.clone();
        keep(&path, &Kept { program: VERSION.into(), identity, graph_sha256, verdict });
    }

    /// The file of a verdict, named by all that it depends on.
    fn path(&self, graph: &str) -> Option<PathBuf> {
        let Identity { device, driver, cpu } = &self.identity;
        Some(kept_path(self.folder.as_ref()?, &[device, driver, cpu, graph]))
    }
}

/// A digest of the program, its constants included.
fn digest(trial: &Trial) -> String {
    hex(Sha256::new_with_prefix(trial.graph.to_string()))
}
