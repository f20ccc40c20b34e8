//! Run folders of a team: the first process has the run's own, each of the others one apart, which
//! nobody looks into and which goes with the process.

use std::fs;

use super::{BEST, Begun, CHECKPOINT, LAST, LOCK, NORMS, RunFolder, SETTINGS, lock, numbered_folder};
use crate::error::{Error, Result};
use crate::files::{advice, unreadable};
use crate::team::Team;
use crate::train::split_table;

/// The files of a run that a process of a team needs to begin or to go on with it.
const CARRIED: [&str; 6] = [SETTINGS, split_table::FILE, NORMS, BEST, LAST, CHECKPOINT];

/// How the names begin of folders that go with a process: its number follows, and another.
const APART: &str = "cifar-engine-run-";

impl RunFolder {
    /// The folder of a run that a team makes: in the first process its own, which `own` gives; in
    /// each of the others one that goes with the process, with the same files in it.
    ///
    /// # Errors
    /// Those of `own`, in the first process; in the others, if they cannot write the files.
    pub fn of_team(team: &Team, own: impl FnOnce() -> Result<RunFolder>) -> Result<RunFolder> {
        let mut first = None;
        let files = team.from_first(|| first.insert(own()?).packed())?;
        let mut run = match first {
            Some(run) => run,
            None => RunFolder::apart(&files).map_err(|error| {
                let whose = "a process of a team keeps files in the folder that the variable TMPDIR names";
                Error::Failed(format!("{error} ({whose})"))
            })?,
        };
        run.team = team.clone();
        Ok(run)
    }

    /// The files that a run begins or goes on from, packed.
    fn packed(&self) -> Result<Vec<u8>> {
        let mut archive = tar::Builder::new(Vec::new());
        for name in CARRIED {
            let path = self.path.join(name);
            if path.exists() {
                let added = archive.append_path_with_name(&path, name);
                added.map_err(|error| Error::file(&path, unreadable(&error)))?;
            }
        }
        archive.into_inner().map_err(|error| Error::file(&self.path, unreadable(&error)))
    }

    /// A folder that goes with this process, with such files.
    fn apart(files: &[u8]) -> Result<RunFolder> {
        remove_left_apart();
        let path = numbered_folder(&std::env::temp_dir(), &format!("{}{}", stem(), std::process::id()))?;
        let failed = |e: std::io::Error| Error::file(&path, format!("cannot be written: {}", advice(&e)));
        let (begun, team) = (Begun::Apart, Team::default());
        let run = RunFolder { _lock: Some(lock(&path)?), path: path.clone(), begun, team };
        tar::Archive::new(files).unpack(&path).map_err(failed)?;
        Ok(run)
    }
}

/// The beginning of the names of what processes of this host keep apart: hosts may share the
/// folder.
fn stem() -> String {
    format!("{APART}{}-", host())
}

/// Removes what processes of this host have left apart that were killed.
fn remove_left_apart() {
    let entries = fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten();
    let stem = stem();
    for path in entries.map(|entry| entry.path()) {
        let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_prefix(&stem));
        let process = name.and_then(|rest| rest.split('-').next()?.parse().ok());
        // A process in another container may have the host's name. Its lock is looked at as well;
        // it has none when it has only just begun.
        let is_left = process.is_some_and(|process| !is_running(process)) && path.join(LOCK).exists();
        if is_left && lock(&path).is_ok() {
            let _ = fs::remove_dir_all(path); // of another user, it is for the system to clear
        }
    }
}

/// The name of this host, as far as it may stand in a file's.
#[cfg(unix)]
fn host() -> String {
    let name = rustix::system::uname();
    name.nodename().to_string_lossy().replace(|c: char| !c.is_alphanumeric(), "_")
}

#[cfg(not(unix))]
fn host() -> String {
    "host".into()
}

/// Whether there is a process of this number; where the system does not tell, there may be.
#[cfg(unix)]
fn is_running(process: i32) -> bool {
    use rustix::process::{Pid, test_kill_process};
    let gone = |error: rustix::io::Errno| error == rustix::io::Errno::SRCH;
    Pid::from_raw(process).is_some_and(|process| !test_kill_process(process).is_err_and(gone))
}

#[cfg(not(unix))]
fn is_running(_process: i32) -> bool {
    true
}
